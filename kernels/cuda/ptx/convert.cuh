/** bf16 in registers, and the fast exponential. bf16 is stored as uint16_t, two in a uint32_t, the first
 * below. */
#pragma once

#include <ptx/language.cuh>

/** Two f32 rounded to nearest even as bf16: low in bits 0–15. PTX: cvt.rn.bf16x2.f32. */
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
    uint32_t packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

/** The larger of two bf16 each: +0 above −0, a number above NaN. PTX: max.bf16x2. */
__device__ __forceinline__ uint32_t larger_bf16(uint32_t a, uint32_t b) {
    uint32_t larger;
    asm("max.bf16x2 %0, %1, %2;" : "=r"(larger) : "r"(a), "r"(b));
    return larger;
}

/** 2ˣ to within 2 units in the last place, 0 for −∞. PTX: ex2.approx.ftz.f32. */
__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/** 1/x to within 1 unit in the last place. PTX: rcp.approx.ftz.f32. */
__device__ __forceinline__ float reciprocal_fast(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
