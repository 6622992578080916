/** Threads: one alone, and a pool that runs one job at a time (the CPU backend's, and the one that brings
 * weights to a GPU). */
#pragma once

#include "kernels/base/status.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct gp_threads;

/** pthread_create for a thread that leaves the program's signals to the program's own threads. */
int gp_thread_create(pthread_t *thread, void *(*function)(void *), void *argument);

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
