/** Activations on the device, as ops.h defines them. */
#pragma once

#include "kernels/cuda/device.h"

namespace gp_cuda {

__device__ __forceinline__ float silu(float x) {
    return x / (1.0f + expf(-x));
}

__device__ __forceinline__ float activate(gp_activation activation, float x) {
    switch (activation) {
    case GP_ACTIVATION_RELU:
        return fmaxf(x, 0.0f);
    case GP_ACTIVATION_GELU:
        return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
    case GP_ACTIVATION_QUICK_GELU:
        return x / (1.0f + expf(-1.702f * x));
    case GP_ACTIVATION_SIGMOID:
        return 1.0f / (1.0f + expf(-x));
    default:
        return x;
    }
}

} // namespace gp_cuda
