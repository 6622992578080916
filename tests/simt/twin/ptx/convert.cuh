/** bf16 and the fast exponential for the emulator. */
#pragma once

#include <ptx/language.cuh>

inline uint32_t pack_bf16(float low, float high) {
    return (uint32_t)::simt::to_bf16(low) | (uint32_t)::simt::to_bf16(high) << 16;
}
inline uint32_t larger_bf16(uint32_t a, uint32_t b) {
    auto larger = [](uint16_t x, uint16_t y) {
        float first = ::simt::from_bf16(x), second = ::simt::from_bf16(y);
        if (std::isnan(first) && std::isnan(second)) return (uint16_t)0x7FFF;
        if (std::isnan(first) || std::isnan(second)) return std::isnan(first) ? y : x;
        if (first == second) return (uint16_t)(x & y); // of zeros the positive one
        return first > second ? x : y;
    };
    return (uint32_t)larger((uint16_t)a, (uint16_t)b) |
           (uint32_t)larger((uint16_t)(a >> 16), (uint16_t)(b >> 16)) << 16;
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
