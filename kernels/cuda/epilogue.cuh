/** The end of every product: bias, activation, residual, and the stores of two neighbouring columns. */
#pragma once

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/gemm.h"

#include <ptx/convert.cuh>

namespace gp_cuda {

/** Stores y[row, column] and y[row, column + 1] of sums; row and column are inside, column + 1 may not be. */
__device__ __forceinline__ void finish_pair(const Gemm &product, int64_t row, int column, float first,
                                            float second) {
    bool both = column + 1 < product.columns;
    if (product.bias != nullptr) {
        first += product.bias[column];
        if (both) second += product.bias[column + 1];
    }
    first = activate(product.activation, first);
    second = activate(product.activation, second);
    if (product.image_rows_alone && product.image_row[row] == 0) first = second = 0;
    if (product.residual != nullptr) {
        const float *residual = product.residual + row * product.residual_stride + column;
        if (product.pairs && both) {
            float2 pair = *reinterpret_cast<const float2 *>(residual);
            first += pair.x;
            second += pair.y;
        } else {
            first += residual[0];
            if (both) second += residual[1];
        }
    }
    int64_t at = row * product.y_stride + column;
    if (product.y != nullptr) {
        if (product.pairs && both) {
            *reinterpret_cast<float2 *>(product.y + at) = make_float2(first, second);
        } else {
            product.y[at] = first;
            if (both) product.y[at + 1] = second;
        }
    }
    if (product.y_operand != nullptr) {
        uint32_t packed = pack_bf16(first, second);
        if (product.pairs && both) {
            *reinterpret_cast<uint32_t *>(product.y_operand + at) = packed;
        } else {
            product.y_operand[at] = static_cast<uint16_t>(packed);
            if (both) product.y_operand[at + 1] = static_cast<uint16_t>(packed >> 16);
        }
    }
}

} // namespace gp_cuda
