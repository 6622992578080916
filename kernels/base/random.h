/** Random numbers by their index: any number of any sequence, without state, the same on every device. */
#pragma once

#include "kernels/base/both_sides.h"

#include <stdint.h>

/** splitmix64's finaliser over a counter. */
GP_BOTH_SIDES static inline uint64_t gp_random_at(uint64_t seed, uint64_t index) {
    uint64_t x = seed * 0xD1342543DE82EF95ull + (index + 1) * 0x9E3779B97F4A7C15ull;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ x >> 27) * 0x94D049BB133111EBull;
    return x ^ x >> 31;
}

/** Uniform in (−1, 1), one of 2^24 numbers around 0, exact in f32. */
GP_BOTH_SIDES static inline float gp_random_signed(uint64_t seed, uint64_t index) {
    int32_t odd = (int32_t)(gp_random_at(seed, index) >> 40) * 2 + 1 - (1 << 24);
    return (float)odd * (1.0f / (1 << 24));
}
