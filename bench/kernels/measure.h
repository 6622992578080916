/**
 * How long launches take on the GPU. Calls are captured into a graph, one set of buffers after the other, so
 * that neither the host's launches nor what an earlier call left in L2 are in the time; the graph is replayed
 * between events. Contenders take turns, replay by replay, so that both meet the same clocks and temperature.
 */
#pragma once

#include "bench/kernels/timing.h"
#include "kernels/base/status.h"

#include <cuda_runtime.h>

/** `launch` puts one call on set `set` into the stream; false when it could not. */
typedef struct gp_contender {
    bool (*launch)(void *user, int set);
    void *user;
} gp_contender;

enum { GP_CONTENDERS_MAX = 2 };

/** Times up to GP_CONTENDERS_MAX contenders; fails with what CUDA reports. Launches have to work at least
 * once before. */
bool gp_measure(cudaStream_t stream, int sets, const gp_contender *contenders, int count, gp_timing *timings,
                gp_status *status);

/** Bytes a second, read and written, of a large copy from device memory to device memory. */
bool gp_measure_copy(cudaStream_t stream, double *rate, gp_status *status);
