/** The activations of ops.h on sixteen values. */
#pragma once

#include "kernels/cpu/simd.h"
#include "kernels/ops.h"

GP_INLINE gp_f16 gp_activate(gp_activation activation, gp_f16 x) {
    switch (activation) {
    case GP_ACTIVATION_RELU:
        return gp_max(x, gp_splat(0.0f));
    case GP_ACTIVATION_GELU:
        return x * gp_splat(0.5f) * (gp_splat(1.0f) + gp_erf(x * gp_splat(0.70710678f)));
    case GP_ACTIVATION_QUICK_GELU:
        return x * gp_sigmoid(gp_splat(1.702f) * x);
    case GP_ACTIVATION_SIGMOID:
        return gp_sigmoid(x);
    case GP_ACTIVATION_NONE:
        break;
    }
    return x;
}
