/** Kernels that begin while the one before them in their stream still runs (programmatic dependent launch).
 * sm_90; on older GPUs launches follow one another, and these are nothing. */
#pragma once

#include <ptx/language.cuh>

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define GP_OVERLAP 1
#else
#define GP_OVERLAP 0
#endif

/**
 * Waits until all kernels before this one in its stream have ended and what they wrote can be read. Until
 * then a kernel launched early reads nothing that they write, and writes nothing. PTX: griddepcontrol.wait.
 */
__device__ __forceinline__ void await_earlier() {
#if GP_OVERLAP
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/** The next kernel may begin, if it was launched early, once all blocks of this one have said so or ended.
 * PTX: griddepcontrol.launch_dependents. */
__device__ __forceinline__ void let_next_begin() {
#if GP_OVERLAP
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/** The beginning of a kernel that has nothing to do before its turn. */
__device__ __forceinline__ void follow_earlier() {
    let_next_begin();
    await_earlier();
}

/** Asks for the 128 bytes around `source` in the second-level cache. PTX: prefetch.global.L2. */
__device__ __forceinline__ void prefetch_l2(const void *source) {
#if GP_OVERLAP
    asm volatile("prefetch.global.L2 [%0];" ::"l"(source));
#endif
}
