/**
 * Operations that move rows: embeddings, sums with a repeated row, roundings, patches, the 2×2 merge,
 * pooling, up-sampling. Each value is read and written once; a thread has four neighbouring values where
 * widths allow, one where not. Bytes: what goes in and what comes out.
 */
#include "kernels/cuda/device.h"

#include <ptx/convert.cuh>
#include <ptx/overlap.cuh>

namespace gp_cuda {

constexpr int kRowThreads = 256;

template <int kWidth> struct Values { float at[kWidth]; };

template <int kWidth> __device__ __forceinline__ Values<kWidth> load_values(const float *x) {
    Values<kWidth> values;
    if constexpr (kWidth == 4) {
        float4 four = *reinterpret_cast<const float4 *>(x);
        values.at[0] = four.x;
        values.at[1] = four.y;
        values.at[2] = four.z;
        values.at[3] = four.w;
    } else {
        values.at[0] = x[0];
    }
    return values;
}

template <int kWidth> __device__ __forceinline__ void store_values(float *y, const Values<kWidth> &values) {
    if constexpr (kWidth == 4)
        *reinterpret_cast<float4 *>(y) = make_float4(values.at[0], values.at[1], values.at[2], values.at[3]);
    else
        y[0] = values.at[0];
}

template <int kWidth>
__device__ __forceinline__ void store_rounded(uint16_t *y, const Values<kWidth> &values) {
    if constexpr (kWidth == 4)
        *reinterpret_cast<uint2 *>(y) =
            make_uint2(pack_bf16(values.at[0], values.at[1]), pack_bf16(values.at[2], values.at[3]));
    else
        y[0] = static_cast<uint16_t>(pack_bf16(values.at[0], 0));
}

/** The thread's number among all; kernels end beyond their count. */
__device__ __forceinline__ int64_t thread_number() {
    return static_cast<int64_t>(blockIdx.x) * kRowThreads + threadIdx.x;
}

/** `run`, which is GP_RUN or GP_RUN_EARLY, of kernel<4> or kernel<1> over `count` values in rows of
 * `columns`. */
#define RUN_ROWS(run, backend, kernel, count, columns, ...)                                                  \
    do {                                                                                                     \
        if ((count) <= 0) break;                                                                             \
        if ((columns) % 4 == 0)                                                                              \
            run(backend, kernel<4>, blocks_for((count) / 4, kRowThreads), kRowThreads, 0, __VA_ARGS__);      \
        else                                                                                                 \
            run(backend, kernel<1>, blocks_for(count, kRowThreads), kRowThreads, 0, __VA_ARGS__);            \
    } while (0)

/* ---- embeddings, sums, roundings ---- */

template <int kWidth>
static __global__ void __launch_bounds__(kRowThreads) embed_rows(const __grid_constant__ gp_embed embed) {
    int64_t i = thread_number() * kWidth, columns = embed.table.columns, row = i / columns,
            column = i % columns;
    if (row >= embed.rows) return;
    const uint16_t *source =
        static_cast<const uint16_t *>(embed.table.data) + embed.ids[row] * embed.table.stride + column;
    Values<kWidth> values;
#pragma unroll
    for (int k = 0; k < kWidth; k++) values.at[k] = __uint_as_float(static_cast<uint32_t>(source[k]) << 16);
    store_values(embed.y + i, values);
}

void embed(gp_backend *backend, const gp_embed *embed) {
    /* A recorded step begins with this, and nothing is before it. */
    RUN_ROWS(GP_RUN, backend, embed_rows, embed->rows * embed->table.columns, embed->table.columns, *embed);
}

template <int kWidth>
static __global__ void __launch_bounds__(kRowThreads) sum_rows(const __grid_constant__ gp_add_rows add) {
    follow_earlier();
    int64_t i = thread_number() * kWidth, row = i / add.columns, column = i % add.columns;
    if (row >= add.rows) return;
    Values<kWidth> values = load_values<kWidth>(add.x + i),
                   addend = load_values<kWidth>(add.addend + row % add.period * add.columns + column);
#pragma unroll
    for (int k = 0; k < kWidth; k++) values.at[k] += addend.at[k];
    if (add.y != nullptr) store_values(add.y + i, values);
    if (add.y_operand != nullptr) store_rounded(reinterpret_cast<uint16_t *>(add.y_operand) + i, values);
}

void add_rows(gp_backend *backend, const gp_add_rows *add) {
    RUN_ROWS(GP_RUN_EARLY, backend, sum_rows, add->rows * add->columns, add->columns, *add);
}

template <int kWidth>
static __global__ void __launch_bounds__(kRowThreads)
    round_values(const __grid_constant__ gp_to_operand round) {
    follow_earlier();
    int64_t i = thread_number() * kWidth;
    if (i < round.count)
        store_rounded(reinterpret_cast<uint16_t *>(round.y) + i, load_values<kWidth>(round.x + i));
}

void to_operand(gp_backend *backend, const gp_to_operand *round) {
    RUN_ROWS(GP_RUN_EARLY, backend, round_values, round->count, round->count, *round);
}

/* ---- patches ---- */

/** A thread: two neighbouring values of a patch's row. */
static __global__ void __launch_bounds__(kRowThreads)
    cut_patches(const __grid_constant__ gp_patches cut, int across, int64_t count) {
    follow_earlier();
    int64_t i = thread_number();
    if (i >= count) return;
    int64_t pairs = cut.y_stride / 2, row = i / pairs;
    int first = static_cast<int>(i % pairs) * 2, square = cut.patch * cut.patch,
        width = cut.channels * square;
    int top = static_cast<int>(row / across) * cut.stride - cut.padding;
    int left = static_cast<int>(row % across) * cut.stride - cut.padding;
    float values[2];
#pragma unroll
    for (int k = 0; k < 2; k++) {
        int at = first + k, channel = at / square, y = top + at % square / cut.patch,
            x = left + at % cut.patch;
        bool inside = at < width && y >= 0 && y < cut.height && x >= 0 && x < cut.width;
        values[k] = inside ? cut.x[(static_cast<int64_t>(channel) * cut.height + y) * cut.width + x] : 0;
    }
    reinterpret_cast<uint32_t *>(cut.y)[i] = pack_bf16(values[0], values[1]);
}

void patches(gp_backend *backend, const gp_patches *cut) {
    int across = (cut->width + 2 * cut->padding - cut->patch) / cut->stride + 1;
    int down = (cut->height + 2 * cut->padding - cut->patch) / cut->stride + 1;
    int64_t count = static_cast<int64_t>(across) * down * (cut->y_stride / 2);
    GP_RUN_EARLY(backend, cut_patches, blocks_for(count, kRowThreads), kRowThreads, 0, *cut, across, count);
}

/* ---- merge ---- */

template <int kWidth>
static __global__ void __launch_bounds__(kRowThreads)
    merge_patches(const __grid_constant__ gp_merge_tokens merge, int64_t tokens) {
    follow_earlier();
    const int side = merge.grid / 2, width = 4 * merge.channels;
    int64_t i = thread_number() * kWidth, token = i / width;
    if (token >= tokens) return;
    int at = static_cast<int>(i % width), part = at / merge.channels, channel = at % merge.channels;
    int64_t global = static_cast<int64_t>(side) * (side + 1), place = token;
    const float *source = nullptr;
    int columns = 1;
    int64_t first_crop = 0;
    if (token == global) {
        source = merge.global_end + at;
    } else if (token > global) {
        place = token - global - 1;
        columns = merge.columns;
        first_crop = 1;
    }
    int64_t line = place / (columns * side + 1),
            column = place % (columns * side + 1); // of merged tokens in the map
    if (source == nullptr && column == columns * side) source = merge.row_end + at;
    if (source == nullptr) {
        int64_t crop = first_crop + line / side * columns * first_crop + column / side;
        int64_t y = 2 * (line % side) + part / 2, x = 2 * (column % side) + part % 2;
        int64_t row = crop * (1 + static_cast<int64_t>(merge.grid) * merge.grid) + 1 + y * merge.grid + x;
        source = merge.features + row * merge.channels + channel;
    }
    store_rounded(reinterpret_cast<uint16_t *>(merge.y) + i, load_values<kWidth>(source));
}

void merge_tokens(gp_backend *backend, const gp_merge_tokens *merge) {
    int64_t side = merge->grid / 2;
    int64_t tokens =
        (static_cast<int64_t>(merge->rows) * merge->columns + 1) * side * side + 1 + (merge->rows + 1) * side;
    RUN_ROWS(GP_RUN_EARLY, backend, merge_patches, tokens * 4 * merge->channels, merge->channels, *merge,
             tokens);
}

/* ---- maps ---- */

template <int kWidth>
static __global__ void __launch_bounds__(kRowThreads) pool_map(const __grid_constant__ gp_max_pool pool) {
    follow_earlier();
    int64_t i = thread_number() * kWidth, channels = pool.channels, across = pool.width / 2;
    int64_t cell = i / channels, channel = i % channels, row = cell / across, column = cell % across;
    if (row >= pool.height / 2) return;
    const float *x = pool.x + (2 * row * pool.width + 2 * column) * channels + channel;
    Values<kWidth> best = load_values<kWidth>(x);
#pragma unroll
    for (int part = 1; part < 4; part++) {
        Values<kWidth> other = load_values<kWidth>(x + (part / 2 * pool.width + part % 2) * channels);
#pragma unroll
        for (int k = 0; k < kWidth; k++) best.at[k] = fmaxf(best.at[k], other.at[k]);
    }
    store_values(pool.y + i, best);
}

void max_pool(gp_backend *backend, const gp_max_pool *pool) {
    int64_t count = static_cast<int64_t>(pool->height / 2) * (pool->width / 2) * pool->channels;
    RUN_ROWS(GP_RUN_EARLY, backend, pool_map, count, pool->channels, *pool);
}

template <int kWidth>
static __global__ void __launch_bounds__(kRowThreads)
    add_wider(const __grid_constant__ gp_add_upsampled add) {
    follow_earlier();
    int64_t i = thread_number() * kWidth, channels = add.channels,
            across = 2 * static_cast<int64_t>(add.width);
    int64_t cell = i / channels, channel = i % channels, row = cell / across, column = cell % across;
    if (row >= 2 * static_cast<int64_t>(add.height)) return;
    Values<kWidth> sum = load_values<kWidth>(add.y + i),
                   x = load_values<kWidth>(add.x + (row / 2 * add.width + column / 2) * channels + channel);
#pragma unroll
    for (int k = 0; k < kWidth; k++) sum.at[k] += x.at[k];
    store_values(add.y + i, sum);
}

void add_upsampled(gp_backend *backend, const gp_add_upsampled *add) {
    int64_t count = 4 * static_cast<int64_t>(add->height) * add->width * add->channels;
    RUN_ROWS(GP_RUN_EARLY, backend, add_wider, count, add->channels, *add);
}

} // namespace gp_cuda
