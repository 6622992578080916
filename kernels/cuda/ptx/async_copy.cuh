/** cp.async: copies from global to shared memory that a thread issues, commits in groups and waits for. */
#pragma once

#include <ptx/language.cuh>

/** 16 bytes, past L1; of them the first `filled` from `source`, the rest 0. PTX: cp.async.cg. */
__device__ __forceinline__ void copy_async(void *target, const void *source, unsigned filled = 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(target)), "l"(source),
                 "r"(filled)
                 : "memory");
}

/** Closes the group of the copies issued since the last commit. PTX: cp.async.commit_group. */
__device__ __forceinline__ void copy_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/** Waits until at most `left` of this thread's groups are under way. Others see the bytes after a barrier. */
template <int left> __device__ __forceinline__ void copy_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(left) : "memory");
}
