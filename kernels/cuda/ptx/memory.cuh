/** Loads and stores with more to say than the language has: sixteen bytes at once, past the caches, across
 * blocks. */
#pragma once

#include <ptx/language.cuh>

/** 16 bytes that nobody reads twice (weights of a decoding step): past L1, first to leave L2. PTX:
 * ld.global.nc. */
__device__ __forceinline__ uint4 load_once(const void *source) {
    uint4 value;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                 : "l"(source));
    return value;
}

/** 16 aligned bytes. */
__device__ __forceinline__ uint4 load_16(const void *source) {
    return *static_cast<const uint4 *>(source);
}
__device__ __forceinline__ void store_16(void *target, uint4 value) {
    *static_cast<uint4 *>(target) = value;
}
