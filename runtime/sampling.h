/** Random numbers for sampling: number `index` of the sequence of `seed`, in [0, 1). */
#pragma once

#include "kernels/base/random.h"

static inline double gp_uniform(uint64_t seed, uint64_t index) {
    return (double)(gp_random_at(seed, index) >> 11) * 0x1p-53;
}
