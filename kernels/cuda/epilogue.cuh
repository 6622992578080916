/**
 * The end of every product: bias, activation, residual, and the stores. finish_pair takes two neighbouring
 * columns. Fragments of products have 8 bytes of each of 8 rows a warp, which memory is slow at; so warps of
 * Hopper's products exchange what they have in shared memory and take 16 bytes a lane: Quads, of f32, for all
 * that may be wanted; Octets, of operands, where those alone are.
 *
 * On an H200 an epilogue of pairs alone took 60 to 100 µs a tile of 128 × 256, the products 11. Most likely
 * it waited for its own instructions: every activation stood there for each of 128 numbers, 178 to 329 KB of
 * code, and a product with neither bias nor activation was as slow. So an activation stands once in a kernel,
 * for 16 or 32 numbers of a lane that do not wait for one another.
 *
 * By arithmetic from SASS, not measured, cycles that a warp takes for 16 × 64 sums, where one row after the
 * other took 3290, with quick GELU 4130, with GELU 4920, with a residual of 900 cycles' latency 7160:
 *   Quads   650 to 870, 1630 to 1850, 1490 to 1780, 2200 to 2320
 *   Octets  370 to 510, 1390 to 1530, 1100 to 1240, none
 */
#pragma once

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/unrolled.cuh"

#include <ptx/convert.cuh>
#include <ptx/memory.cuh>

namespace gp_cuda {

/** What `source` has for y[row, column] and y[row, column + 1], the second 0 where it is outside. */
__device__ __forceinline__ float2 load_pair(const Gemm &product, const float *source, int column) {
    const bool both = column + 1 < product.columns;
    if (product.pairs && both) return *reinterpret_cast<const float2 *>(source);
    return make_float2(source[0], both ? source[1] : 0.0f);
}

/** Stores y[row, column] and y[row, column + 1]; row and column are inside, column + 1 may not be. */
__device__ __forceinline__ void store_pair(const Gemm &product, int64_t row, int column, float first,
                                           float second) {
    const bool both = column + 1 < product.columns;
    const int64_t at = row * product.y_stride + column;
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

/** Finishes the sums of y[row, column] and y[row, column + 1], as store_pair has them. */
__device__ __forceinline__ void finish_pair(const Gemm &product, int64_t row, int column, float first,
                                            float second) {
    if (product.bias != nullptr) {
        first += product.bias[column];
        if (column + 1 < product.columns) second += product.bias[column + 1];
    }
    float y[2] = {first, second};
    activate_all(product.activation, y);
    if (product.image_rows_alone && product.image_row[row] == 0) y[0] = y[1] = 0;
    if (product.residual != nullptr) {
        float2 residual =
            load_pair(product, product.residual + row * product.residual_stride + column, column);
        y[0] += residual.x;
        y[1] += residual.y;
    }
    store_pair(product, row, column, y[0], y[1]);
}

/* A warp's patch: 8 rows of 64 columns, or of 48 where a tile has not so many times 64; two rows a turn, of
 * 48 columns by 24 lanes. */
constexpr int kPatchRows = 8, kTurns = 4;
template <int columns>
constexpr int kPatchStride = columns + 8; // so that eight rows of pairs meet no bank twice
template <int columns> constexpr int kPatchBytes = kPatchRows *kPatchStride<columns> * 4;

/** The row of the first turn and the columns that a lane has of a patch; row 2 where it has nothing to do. */
template <int columns> __device__ __forceinline__ int quad_row() {
    return static_cast<int>(threadIdx.x) % 32 / (columns / 4);
}
template <int columns> __device__ __forceinline__ int quad_column() {
    return static_cast<int>(threadIdx.x) % 32 % (columns / 4) * 4;
}

/** Where a lane's quads of a patch stand: four columns of every second row. Rows 2·turn < left of them are
 * the product's, none where the columns are not. */
struct QuadPlace {
    int64_t row;
    int column, left;
};

/** Of the patch at (row, column), of which `rows_left` rows are the product's, or more. */
template <int columns>
__device__ __forceinline__ QuadPlace place_quads(const Gemm &product, int64_t first_row, int first_column,
                                                 int rows_left) {
    const int row = quad_row<columns>(), column = first_column + quad_column<columns>();
    return {first_row + row, column, column < product.columns && row < 2 ? rows_left - row : 0};
}

__device__ __forceinline__ float4 load_quad(const float *source) {
    return *reinterpret_cast<const float4 *>(source);
}

/** A lane's share of the bias of `columns` columns: every 32nd quad, 0 outside. Issues the loads. */
template <int columns>
__device__ __forceinline__ void load_bias(const Gemm &product, int first_column,
                                          float4 (&bias)[(columns + 127) / 128]) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int i = 0; i < (columns + 127) / 128; i++) {
        const int column = (i * 32 + lane) * 4;
        bias[i] = product.bias != nullptr && column < columns && first_column + column < product.columns
                      ? load_quad(product.bias + first_column + column)
                      : make_float4(0, 0, 0, 0);
    }
}

/** Lays it into the warp's own shared memory, from which each patch takes its part: what is waited for there
 * is no load that was issued since. */
template <int columns>
__device__ __forceinline__ void keep_bias(float *kept, const float4 (&bias)[(columns + 127) / 128]) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int i = 0; i < (columns + 127) / 128; i++)
        if ((i * 32 + lane) * 4 < columns) reinterpret_cast<float4 *>(kept)[i * 32 + lane] = bias[i];
    __syncwarp();
}

/** A lane's quads of the residual, as they are in y, 0 outside. Issues the loads; there is a residual. */
__device__ __forceinline__ void load_residual(const Gemm &product, const QuadPlace &place,
                                              float4 (&residual)[kTurns]) {
    const float *source = product.residual + place.row * product.residual_stride + place.column;
    const int64_t step = 2 * product.residual_stride;
#pragma unroll
    for (int turn = 0; turn < kTurns; turn++, source += step)
        residual[turn] = 2 * turn < place.left ? load_quad(source) : make_float4(0, 0, 0, 0);
}

/** A lane's pair of row lane/4 and columns 8·group + 2·(lane mod 4) into the warp's patch. */
template <int columns>
__device__ __forceinline__ void put_pair(float *patch, int group, float first, float second) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    *reinterpret_cast<float2 *>(patch + lane / 4 * kPatchStride<columns> + group * 8 + lane % 4 * 2) =
        make_float2(first, second);
}

/** Takes a lane's quads from the patch, which all lanes have filled, and leaves it free again. */
template <int columns>
__device__ __forceinline__ void take_quads(const float *patch, float (&y)[4 * kTurns]) {
    const float *source = patch + quad_row<columns>() % 2 * kPatchStride<columns> + quad_column<columns>();
    __syncwarp();
#pragma unroll
    for (int turn = 0; turn < kTurns; turn++) {
        const float4 quad = load_quad(source + 2 * turn * kPatchStride<columns>);
        y[4 * turn] = quad.x;
        y[4 * turn + 1] = quad.y;
        y[4 * turn + 2] = quad.z;
        y[4 * turn + 3] = quad.w;
    }
    __syncwarp();
}

__device__ __forceinline__ void add_quad(float *y, const float4 &quad) {
    y[0] += quad.x;
    y[1] += quad.y;
    y[2] += quad.z;
    y[3] += quad.w;
}

/** Bias, activation, residual: all turns together, so that none waits for the one before it. */
__device__ __forceinline__ void finish_quads(const Gemm &product, const QuadPlace &place, const float4 &bias,
                                             const float4 (&residual)[kTurns], float (&y)[4 * kTurns]) {
    if (product.bias != nullptr) {
#pragma unroll
        for (int turn = 0; turn < kTurns; turn++) add_quad(y + 4 * turn, bias);
    }
    activate_all(product.activation, y);
    if (product.image_rows_alone) {
        bool image[kTurns];
#pragma unroll
        for (int turn = 0; turn < kTurns; turn++)
            image[turn] = 2 * turn < place.left && product.image_row[place.row + 2 * turn] != 0;
#pragma unroll
        for (int i = 0; i < 4 * kTurns; i++) y[i] = image[i / 4] ? y[i] : 0;
    }
    if (product.residual != nullptr) {
#pragma unroll
        for (int turn = 0; turn < kTurns; turn++) add_quad(y + 4 * turn, residual[turn]);
    }
}

__device__ __forceinline__ void store_quads(const Gemm &product, const QuadPlace &place,
                                            const float (&y)[4 * kTurns]) {
    const int64_t at = place.row * product.y_stride + place.column, step = 2 * product.y_stride;
    if (product.y != nullptr) {
        float *target = product.y + at;
#pragma unroll
        for (int turn = 0; turn < kTurns; turn++, target += step)
            if (2 * turn < place.left)
                *reinterpret_cast<float4 *>(target) =
                    make_float4(y[4 * turn], y[4 * turn + 1], y[4 * turn + 2], y[4 * turn + 3]);
    }
    if (product.y_operand != nullptr) {
        uint16_t *target = product.y_operand + at;
#pragma unroll
        for (int turn = 0; turn < kTurns; turn++, target += step)
            if (2 * turn < place.left)
                *reinterpret_cast<uint2 *>(target) = make_uint2(pack_bf16(y[4 * turn], y[4 * turn + 1]),
                                                                pack_bf16(y[4 * turn + 2], y[4 * turn + 3]));
    }
}

/** Finishes the patch at (row, column) where product.quads does not hold: a pair after the other. */
template <int columns>
__device__ __forceinline__ void finish_patch_by_pairs(const Gemm &product, const float *patch,
                                                      int64_t first_row, int first_column) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    __syncwarp();
#pragma unroll 1
    for (int pair = lane; pair < kPatchRows * columns / 2; pair += 32) {
        const int place = pair / (columns / 2), column = pair % (columns / 2) * 2;
        const float *sums = patch + place * kPatchStride<columns> + column;
        if (first_row + place < product.rows && first_column + column < product.columns)
            finish_pair(product, first_row + place, first_column + column, sums[0], sums[1]);
    }
    __syncwarp();
}

/* Where operands alone are wanted (product.octets), they become such before they are staged: a warp's 16 rows
 * of 64 or 48 columns, two in a word, fit where 8 rows of f32 do, and go to memory by 16 bytes a lane, four
 * rows a turn. */
template <int columns> constexpr int kWordStride = columns / 2 + 4; // so that eight rows meet no bank twice
static_assert(16 * kWordStride<64> * 4 <= kPatchBytes<64> && 16 * kWordStride<48> * 4 <= kPatchBytes<48>);

/** The `which`-th columns of a warp's sums, of `groups` times as many. */
template <int groups, int count>
__device__ __forceinline__ void take_columns(float *y, const float (&sums)[count], int which) {
    with_constant<0, groups>(which, [&](auto group) {
#pragma unroll
        for (int i = 0; i < count / groups; i++) y[i] = sums[group.value * (count / groups) + i];
    });
}

/** Bias (of these columns, in shared memory) and activation of sums as products leave them. */
template <int count>
__device__ __forceinline__ void finish_sums(const Gemm &product, const float *bias, float (&y)[count]) {
    if (product.bias != nullptr) {
        bias += threadIdx.x % 4 * 2;
#pragma unroll
        for (int j = 0; j < count / 4; j++) {
            const float2 pair = *reinterpret_cast<const float2 *>(bias + 8 * j);
            y[4 * j] += pair.x;
            y[4 * j + 1] += pair.y;
            y[4 * j + 2] += pair.x;
            y[4 * j + 3] += pair.y;
        }
    }
    activate_all(product.activation, y);
}

/** The row of the first turn and the column of the octets that a lane has after exchange_sums; row 4 where it
 * has nothing to do. */
template <int columns> __device__ __forceinline__ int octet_row() {
    return static_cast<int>(threadIdx.x) % 32 / (columns / 8);
}
template <int columns> __device__ __forceinline__ int octet_column() {
    return static_cast<int>(threadIdx.x) % 32 % (columns / 8) * 8;
}

/** Sums of a warp's 16 rows as products leave them, to a lane's octets of every fourth row. */
template <int columns>
__device__ __forceinline__ void exchange_sums(void *patch, const float (&y)[columns / 2],
                                              uint4 (&octets)[4]) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    constexpr int kStride = kWordStride<columns>;
    uint32_t *words = static_cast<uint32_t *>(patch) + lane / 4 * kStride + lane % 4;
#pragma unroll
    for (int j = 0; j < columns / 8; j++) {
        words[4 * j] = pack_bf16(y[4 * j], y[4 * j + 1]);
        words[4 * j + 8 * kStride] = pack_bf16(y[4 * j + 2], y[4 * j + 3]);
    }
    const uint32_t *source =
        static_cast<uint32_t *>(patch) + octet_row<columns>() % 4 * kStride + octet_column<columns>() / 2;
    __syncwarp();
#pragma unroll
    for (int turn = 0; turn < 4; turn++) octets[turn] = load_16(source + 4 * turn * kStride);
    __syncwarp();
}

/** Stores them at (row, column) of y_operand, of which `rows_left` rows are the product's, or more. */
template <int columns>
__device__ __forceinline__ void store_sums(const Gemm &product, void *patch, int64_t first_row,
                                           int first_column, int rows_left, const float (&y)[columns / 2]) {
    uint4 octets[4];
    exchange_sums<columns>(patch, y, octets);
    const int row = octet_row<columns>(), column = first_column + octet_column<columns>();
    const int left = row < 4 && column < product.columns ? rows_left - row : 0;
    uint16_t *target = product.y_operand + (first_row + row) * product.y_stride + column;
    const int64_t step = 4 * product.y_stride;
#pragma unroll
    for (int turn = 0; turn < 4; turn++, target += step)
        if (4 * turn < left) store_16(target, octets[turn]);
}

} // namespace gp_cuda
