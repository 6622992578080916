/** A pool of threads that run one job at a time: the CPU backend's, and those that bring weights to a GPU. */
#pragma once

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stdint.h>

struct gp_threads;

/** One piece of a job: `index` of its tasks, on thread `thread`. */
typedef void (*gp_task)(void *argument, int64_t index, int thread);

/** Starts count − 1 threads beside the caller's. */
bool gp_threads_start(int count, struct gp_threads **pool, gp_status *status);

/** Ends and frees them; NULL is allowed. */
void gp_threads_stop(struct gp_threads *pool);

int gp_threads_count(const struct gp_threads *pool);

/**
 * Runs task(argument, 0 … tasks − 1, thread) over the threads, the caller's among them, and returns when all
 * are done. Tasks are taken in order as threads come free, so results must not depend on the thread. One
 * caller at a time.
 */
void gp_threads_run(struct gp_threads *pool, int64_t tasks, gp_task task, void *argument);
