/**
 * The end of every product: bias, activation, residual, and the stores. finish_pair takes two neighbouring
 * columns; Quads a warp's rows of 64 columns at a time, by 16 bytes a lane: fragments of products have 8
 * bytes of each of 8 rows a warp, which memory is slow at, and a load for each pair, one after the other, is
 * latency a hundred times over (on an H200 the epilogue took 60 to 100 µs a tile of 128 × 256 that way, the
 * products 11).
 */
#pragma once

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/gemm.h"

#include <ptx/convert.cuh>
#include <ptx/memory.cuh>

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

constexpr int kQuadColumns = 64, kQuadRows = 8, kQuadTurns = 4; // a warp's patch; rows two at a turn
constexpr int kPatchStride = kQuadColumns + 8; // so that eight rows of pairs meet no bank twice
constexpr int kPatchBytes = kQuadRows * kPatchStride * 4;

/** What a lane needs of memory for a patch [8 rows, 64 columns] at (row, column): its four columns of the
 * bias, and of the residual for the two rows of each turn. */
struct QuadInputs {
    float4 bias, residual[kQuadTurns];
};

__device__ __forceinline__ float4 load_quad(const float *source) {
    return *reinterpret_cast<const float4 *>(source);
}

/** Issues the loads. product.quads holds. */
__device__ __forceinline__ void load_inputs(const Gemm &product, int64_t first_row, int first_column,
                                            QuadInputs &inputs) {
    const int lane = static_cast<int>(threadIdx.x) % 32, column = first_column + lane % 16 * 4;
    const bool inside = column < product.columns;
    inputs.bias =
        inside && product.bias != nullptr ? load_quad(product.bias + column) : make_float4(0, 0, 0, 0);
#pragma unroll
    for (int turn = 0; turn < kQuadTurns; turn++) {
        int64_t row = first_row + 2 * turn + lane / 16;
        inputs.residual[turn] = inside && product.residual != nullptr && row < product.rows
                                    ? load_quad(product.residual + row * product.residual_stride + column)
                                    : make_float4(0, 0, 0, 0);
    }
}

/** A lane's pair of row lane/4 and columns 8·group + 2·(lane mod 4) into the warp's patch. */
__device__ __forceinline__ void put_pair(float *patch, int group, float first, float second) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    *reinterpret_cast<float2 *>(patch + lane / 4 * kPatchStride + group * 8 + lane % 4 * 2) =
        make_float2(first, second);
}

/** activate of `count` values; the choice is made once for all. */
template <int count>
__device__ __forceinline__ void activate_all(gp_activation activation, float (&y)[count]) {
    switch (activation) {
    case GP_ACTIVATION_RELU:
#pragma unroll
        for (int i = 0; i < count; i++) y[i] = activate(GP_ACTIVATION_RELU, y[i]);
        break;
    case GP_ACTIVATION_GELU:
#pragma unroll
        for (int i = 0; i < count; i++) y[i] = activate(GP_ACTIVATION_GELU, y[i]);
        break;
    case GP_ACTIVATION_QUICK_GELU:
#pragma unroll
        for (int i = 0; i < count; i++) y[i] = activate(GP_ACTIVATION_QUICK_GELU, y[i]);
        break;
    case GP_ACTIVATION_SIGMOID:
#pragma unroll
        for (int i = 0; i < count; i++) y[i] = activate(GP_ACTIVATION_SIGMOID, y[i]);
        break;
    default:
        break;
    }
}

/** Finishes the patch, which all lanes have filled. Ends with the patch free again. */
__device__ __forceinline__ void finish_patch(const Gemm &product, const float *patch, int64_t first_row,
                                             int first_column, const QuadInputs &inputs) {
    const int lane = static_cast<int>(threadIdx.x) % 32, column = first_column + lane % 16 * 4;
    __syncwarp();
#pragma unroll
    for (int turn = 0; turn < kQuadTurns; turn++) {
        const int place = 2 * turn + lane / 16;
        const int64_t row = first_row + place;
        float4 sums = load_quad(patch + place * kPatchStride + lane % 16 * 4);
        if (row >= product.rows || column >= product.columns) continue;
        float y[4] = {sums.x + inputs.bias.x, sums.y + inputs.bias.y, sums.z + inputs.bias.z,
                      sums.w + inputs.bias.w};
        activate_all(product.activation, y);
        const bool none = product.image_rows_alone && product.image_row[row] == 0;
        const float4 &residual = inputs.residual[turn];
        const float4 done = make_float4((none ? 0.0f : y[0]) + residual.x, (none ? 0.0f : y[1]) + residual.y,
                                        (none ? 0.0f : y[2]) + residual.z, (none ? 0.0f : y[3]) + residual.w);
        const int64_t at = row * product.y_stride + column;
        if (product.y != nullptr) *reinterpret_cast<float4 *>(product.y + at) = done;
        if (product.y_operand != nullptr)
            *reinterpret_cast<uint2 *>(product.y_operand + at) =
                make_uint2(pack_bf16(done.x, done.y), pack_bf16(done.z, done.w));
    }
    __syncwarp();
}

/** The same where product.quads does not hold: a pair after the other. */
__device__ __forceinline__ void finish_patch_by_pairs(const Gemm &product, const float *patch,
                                                      int64_t first_row, int first_column) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    __syncwarp();
#pragma unroll 1
    for (int pair = lane; pair < kQuadRows * kQuadColumns / 2; pair += 32) {
        const int place = pair / (kQuadColumns / 2), column = pair % (kQuadColumns / 2) * 2;
        if (first_row + place < product.rows && first_column + column < product.columns)
            finish_pair(product, first_row + place, first_column + column,
                        patch[place * kPatchStride + column], patch[place * kPatchStride + column + 1]);
    }
    __syncwarp();
}

} // namespace gp_cuda
