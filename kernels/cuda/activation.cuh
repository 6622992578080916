/** Activations on the device, as ops.h defines them. */
#pragma once

#include "kernels/cuda/device.h"

#include <ptx/convert.cuh>

namespace gp_cuda {

/** σ(x), off by (2 + |x|)·2^-22 of it at most: the exponential and the reciprocal of the special-function
 * unit, where a true division is a call. */
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

__device__ __forceinline__ float activate(gp_activation activation, float x) {
    switch (activation) {
    case GP_ACTIVATION_RELU:
        return fmaxf(x, 0.0f);
    case GP_ACTIVATION_GELU:
        return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
    case GP_ACTIVATION_QUICK_GELU:
        return gated(x, 1.702f);
    case GP_ACTIVATION_SIGMOID:
        return sigmoid(x);
    default:
        return x;
    }
}

} // namespace gp_cuda
