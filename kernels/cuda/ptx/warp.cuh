/** What threads of a warp and of a block do together, beyond the language's own __shfl_*_sync and __syncwarp.
 */
#pragma once

#include <ptx/language.cuh>

/** Waits at barrier `id` (1 to 15; 0 is __syncthreads) for `threads` threads, a multiple of 32. PTX:
 * bar.sync. */
__device__ __forceinline__ void sync_named(unsigned id, unsigned threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/** Arrives there without waiting. PTX: bar.arrive. */
__device__ __forceinline__ void arrive_named(unsigned id, unsigned threads) {
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
