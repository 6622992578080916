/** What the resizes share: the taps of a target position, and the weights of the cubic kernel. */
#pragma once

#include "kernels/base/both_sides.h"

#include <math.h>
#include <stddef.h>
#include <stdint.h>

/** The source positions first … first + count − 1 that a target position is made of; weights stand elsewhere.
 */
typedef struct gp_taps {
    int32_t first, count;
} gp_taps;

/** The most taps of a position when `source` pixels become `target`. */
static inline int gp_resize_taps_max(int source, int target) {
    double scale = (double)source / target;
    return (int)ceil(scale < 1 ? 1 : scale) * 2 + 1;
}

/**
 * Bytes that hold the taps and weights of all target positions, a multiple of 8. gp_resize_taps_max a
 * position would do; this is a little more, so that larger sizes never need less: what serves the largest
 * picture serves all.
 */
static inline size_t gp_resize_taps_bytes(int source, int target, size_t weight_bytes) {
    size_t weights = 2 * (size_t)source + 3 * (size_t)target; /* 2·⌈source/target⌉ + 1 for each, at most */
    size_t bytes = (size_t)target * sizeof(gp_taps) + weights * weight_bytes;
    return (bytes + 7) / 8 * 8;
}

GP_BOTH_SIDES static inline int gp_clamp(int index, int size) {
    return index < 0 ? 0 : index >= size ? size - 1 : index;
}

/**
 * The four weights of cubic convolution (A = −0.75, align_corners false) for target position `index`, and the
 * first of their source positions, which may lie outside: the caller clamps. In f32, as torch computes them.
 */
GP_BOTH_SIDES static inline int gp_cubic_taps(float scale, int index, float weight[4]) {
    const float a = -0.75f;
    float source = scale * ((float)index + 0.5f) - 0.5f, below = floorf(source), t = source - below;
    for (int i = 0; i < 4; i++) {
        float x = i == 0 ? t + 1 : i == 1 ? t : i == 2 ? 1 - t : 2 - t;
        weight[i] = i == 1 || i == 2 ? ((a + 2) * x - (a + 3)) * x * x + 1
                                     : ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
    }
    return (int)below - 1;
}
