/** A rank above 0: does with its part of the model what the leader says, until that ends. */
#pragma once

#include "kernels/base/status.h"
#include "runtime/channel.h"
#include "runtime/geopixel.h"

#include <stdatomic.h>

typedef struct gp_worker_options {
    const gp_engine_options *engine;
    int rank, size;
    int device, device_count; /* as for gp_replica_open_backend */
    gp_channel channel;       /* to the leader, not owned */
    atomic_int *failed;       /* NULL, or 0 until a rank gives up, whose status says why then: its rank */
} gp_worker_options;

/** Returns true after the leader's orderly end; false where something failed or the leader is gone. */
bool gp_worker_serve(const gp_worker_options *options, gp_status *status);
