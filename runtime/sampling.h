/** Random numbers for sampling: number `index` of the sequence of `seed`, in [0, 1). */
#pragma once

#include <stdint.h>

/** splitmix64's finaliser over a counter: any number of any sequence, without state. */
static inline double gp_uniform(uint64_t seed, uint64_t index) {
    uint64_t x = seed * 0xD1342543DE82EF95ull + (index + 1) * 0x9E3779B97F4A7C15ull;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ x >> 27) * 0x94D049BB133111EBull;
    x ^= x >> 31;
    return (double)(x >> 11) * 0x1p-53;
}
