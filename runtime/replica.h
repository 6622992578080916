/**
 * One copy of the model, ready to answer: its backend, its tensors, and the scheduler that runs requests on
 * them. An engine has one, or several that take requests from one queue.
 */
#pragma once

#include "runtime/scheduler.h"

typedef struct gp_replica {
    gp_backend *backend;
    bool owns_backend;
    gp_model model;
    gp_ranks *ranks; /* the other devices that the model is on; NULL: none */
    gp_scheduler scheduler;
} gp_replica;

/**
 * Opens the `index`-th of the engine's replicas, on `backend`, which stays the caller's, or where that is
 * NULL on one of its own. Everything that is done with it, its closing too, is done on the thread that opens
 * it. On failure nothing is left open.
 */
bool gp_replica_open(gp_replica *replica, const gp_engine_options *options, int index, gp_backend *backend,
                     gp_status *status);

/** Nothing may run. */
void gp_replica_close(gp_replica *replica);

/** The backend of the `index`-th of `count` devices that an engine uses together: a GPU of that number, or a
 * share of the CPU's threads. gp_backend_close frees it. */
bool gp_replica_open_backend(gp_device device, int threads, int index, int count, gp_backend **backend,
                             gp_status *status);
