/** A pool of threads that run one job at a time; see cpu.h for how operations use it. */
#pragma once

#include "kernels/base/status.h"
#include "kernels/cpu/cpu.h"

struct gp_threads;

/** Starts count − 1 threads beside the caller's. */
bool gp_threads_start(int count, struct gp_threads **pool, gp_status *status);

/** Ends and frees them; NULL is allowed. */
void gp_threads_stop(struct gp_threads *pool);

int gp_threads_count(const struct gp_threads *pool);

/** gp_parallel_for on this pool. One caller at a time. */
void gp_threads_run(struct gp_threads *pool, int64_t tasks, gp_task task, void *argument);
