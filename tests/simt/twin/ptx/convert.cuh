/** bf16 and the fast exponential for the emulator. */
#pragma once

#include <ptx/language.cuh>

inline uint32_t pack_bf16(float low, float high) {
    return (uint32_t)::simt::to_bf16(low) | (uint32_t)::simt::to_bf16(high) << 16;
}
/** Exact to the last bit, subnormals flushed: nearer than the device's, whose two units tests allow for. */
inline float exp2_fast(float x) {
    float y = exp2f(x);
    return y < 0x1p-126f ? 0.0f : y;
}
/** Rounded to nearest, subnormals flushed: nearer than the device's, whose one unit tests allow for. */
inline float reciprocal_fast(float x) {
    float y = 1.0f / x;
    return fabsf(y) < 0x1p-126f ? copysignf(0.0f, y) : y;
}
