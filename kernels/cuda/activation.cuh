/** Activations on the device, as ops.h defines them. */
#pragma once

#include "kernels/cuda/device.h"

#include <ptx/convert.cuh>

namespace gp_cuda {

/** σ(x), off by (2 + |x|)·2^-22 of it or 2^-126 at most: the exponential and the reciprocal of the
 * special-function unit, where a true division is a call. */
__device__ __forceinline__ float sigmoid(float x) {
    return reciprocal_fast(1.0f + exp2_fast(-1.44269504f * x));
}

/** x·σ(slope·x), off by as much. */
__device__ __forceinline__ float gated(float x, float slope) {
    return x * reciprocal_fast(1.0f + exp2_fast(-slope * 1.44269504f * x));
}

__device__ __forceinline__ float silu(float x) {
    return gated(x, 1.0f);
}

/**
 * x·Φ(x) = max(x, 0) − |x|·Φ(−|x|), where log2 Φ(−u) is a polynomial of u: one exponential, no erff, and no
 * cancellation where x is far below 0. Its coefficients make the largest error of u·Φ(−u) on [0, 8] small,
 * 1.3e-8 in exact arithmetic; in f32 it is 4.6e-8, the exponential's two units another 4e-8 at most, since
 * u·Φ(−u) is below 0.17: 1.4·2^-24 in all, then the last rounding. Beyond 8 nothing is left to subtract
 * (8·2^-53). NaN stays NaN, ∞ is ∞.
 */
__device__ __forceinline__ float gelu(float x) {
    const float u = fminf(fabsf(x), 8.0f);
    float power = -1.9020640e-6f;
    power = fmaf(power, u, 2.8056918e-5f);
    power = fmaf(power, u, -1.3147311e-4f);
    power = fmaf(power, u, -2.7207602e-4f);
    power = fmaf(power, u, 7.2454219e-3f);
    power = fmaf(power, u, -5.2627612e-2f);
    power = fmaf(power, u, -4.5916215e-1f);
    power = fmaf(power, u, -1.1511110f);
    power = fmaf(power, u, -1.0f);
    return fmaf(-u, exp2_fast(power), x < 0 ? 0.0f : x);
}

__device__ __forceinline__ float activate(gp_activation activation, float x) {
    switch (activation) {
    case GP_ACTIVATION_RELU:
        return fmaxf(x, 0.0f);
    case GP_ACTIVATION_GELU:
        return gelu(x);
    case GP_ACTIVATION_QUICK_GELU:
        return gated(x, 1.702f);
    case GP_ACTIVATION_SIGMOID:
        return sigmoid(x);
    default:
        return x;
    }
}

} // namespace gp_cuda
