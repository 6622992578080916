/**
 * Hiera's attention on a map, a window at a time, with queries pooled where a stage ends.
 *
 * A block has up to 128 queries of one head and window and goes over the window's keys as attention.cu does
 * (attention_tile.cuh); windows of up to 16 positions are one warp's and one block of keys. Rows of keys and
 * values are gathered from the map by cp.async, 2·head_dim bytes each; positions beyond the map take
 * `padding`, rounded to bf16, by ordinary stores. Pooled queries are made as they are read.
 *
 * Costs at head width 72, of the encoder's 1024² input: 4·queries·keys·72 operations a window and head (80/72
 * of that for mma); qkv read once where a window has at most 128 queries. Windows of 8² on 256² (2 heads): 57
 * MB and 19 MB out, 2.4 Gflop: 37 µs of an A100's memory, 18 of an H200's. 4² on 128² (4 heads): 38 MB, 18 µs
 * and 9. Both have 32 and 8 operations a byte, where an H200's products want 184: bytes are what they cost,
 * and mma.sync is fast enough. 16² on 64² (8 heads): 19 MB, 9 µs of an A100; 2.4 Gflop. All 4096 keys (8
 * heads): 39 Gflop, 124 µs of an A100's 312 Tflop/s, and 134 M of 2^x, 55 µs at 16 a cycle and SM. On Hopper
 * these two are window_attention_hopper.cu's.
 */
#include "kernels/cuda/attention_tile.cuh"
#include "kernels/cuda/device.h"

namespace gp_cuda {

namespace {

constexpr int kSmallWindow = 16; // positions: one warp's

struct Windows {
    const uint16_t *qkv; // [height·width, 3, heads, head_dim]
    const float *padding;
    int height, width;
    int side_y, side_x, across; // of a window; windows in a row of windows
    int step;                   // 2 where queries are pooled, else 1
    uint32_t reciprocal;        // of side_x: quotient
    int heads, head_dim, chunks, queries, query_width;
    float factor; // scale · log2 e
    uint16_t *y;
};

/** ⌊x/divisor⌋ by reciprocal = ⌊(2³² − 1)/divisor⌋: exact while (x + 1)·divisor <= 2³². */
__device__ __forceinline__ int quotient(int x, uint32_t reciprocal) {
    return static_cast<int>((static_cast<uint64_t>(x) + 1) * reciprocal >> 32);
}

/** The larger of two bf16, in both halves of a word. */
__device__ __forceinline__ uint32_t larger_pair(uint32_t a, uint32_t b) {
    float low = fmaxf(__uint_as_float(a << 16), __uint_as_float(b << 16));
    float high = fmaxf(__uint_as_float(a & 0xFFFF0000u), __uint_as_float(b & 0xFFFF0000u));
    return pack_bf16(low, high); // exact: both are bf16
}

/** Eight values of the padding as bf16. */
__device__ __forceinline__ uint4 padding_chunk(const float *padding) {
    return make_uint4(pack_bf16(padding[0], padding[1]), pack_bf16(padding[2], padding[3]),
                      pack_bf16(padding[4], padding[5]), pack_bf16(padding[6], padding[7]));
}

template <int kWidth, int kTiles, int kWarps, int kKeys>
__global__ __launch_bounds__(32 * kWarps,
                             kWarps >= 8 ? 1 : 2) void attend_windows(const __grid_constant__ Windows a) {
    constexpr int kThreads = 32 * kWarps, kChunks = kWidth / 8, kCopies = kKeys * kChunks;
    const int thread = static_cast<int>(threadIdx.x), block = static_cast<int>(blockIdx.x);
    const int chunk = block % a.chunks, head = block / a.chunks % a.heads,
              window = block / a.chunks / a.heads;
    const int top = window / a.across * a.side_y, left = window % a.across * a.side_x;
    const int first = (chunk * kWarps + thread / 32) * 16 * kTiles; // of the warp's queries
    const int keys_all = a.side_y * a.side_x, out_width = a.width / a.step, out_height = a.height / a.step;
    const int64_t part = static_cast<int64_t>(a.heads) * a.head_dim; // from q to k to v of a position
    const uint16_t *qkv = a.qkv + head * a.head_dim;

    /* Where a query's result goes, and with it (times step) where it comes from; −1 where it is dropped. */
    auto place = [&](int tile, int half) {
        int query = first + row_of(tile, half);
        int row = top / a.step + query / a.query_width, column = left / a.step + query % a.query_width;
        return query < a.queries && row < out_height && column < out_width ? row * out_width + column : -1;
    };
    Queries<kWidth, kTiles> queries;
    load_queries(queries, [&](int tile, int half, int column) {
        int at = place(tile, half);
        if (at < 0 || column >= a.head_dim) return 0u;
        if (a.step == 1) return load_pair(qkv + 3 * part * at + column);
        const uint16_t *corner =
            qkv + column +
            3 * part * (static_cast<int64_t>(at / out_width) * 2 * a.width + at % out_width * 2);
        uint32_t above = larger_pair(load_pair(corner), load_pair(corner + 3 * part));
        corner += 3 * part * a.width;
        return larger_pair(above, larger_pair(load_pair(corner), load_pair(corner + 3 * part)));
    });
    Rows<kWidth, kTiles> rows;
    rows.start();
    over_blocks<kWidth, kKeys>(
        (keys_all + kKeys - 1) / kKeys, shared_memory<uint16_t>(),
        [&](int at, uint16_t *keys, uint16_t *values) {
#pragma unroll
            for (int i = 0; i < (kCopies + kThreads - 1) / kThreads; i++) {
                int index = thread + i * kThreads, column = index % kChunks * 8;
                if (kCopies % kThreads != 0 && index >= kCopies) break;
                int key = at * kKeys + index / kChunks,
                    target = index / kChunks * tile_stride(kWidth) + column;
                int down = quotient(key, a.reciprocal), row = top + down,
                    place_x = left + key - down * a.side_x;
                bool real = key < keys_all && column < a.head_dim;
                if (real && (row >= a.height || place_x >= a.width)) {
                    const float *padding = a.padding + part + head * a.head_dim + column;
                    store_16(keys + target, padding_chunk(padding));
                    store_16(values + target, padding_chunk(padding + part));
                } else {
                    const uint16_t *source = qkv;
                    if (real) source += 3 * part * (static_cast<int64_t>(row) * a.width + place_x) + column;
                    copy_async(keys + target, source + (real ? part : 0), real ? 16 : 0);
                    copy_async(values + target, source + (real ? 2 * part : 0), real ? 16 : 0);
                }
            }
        },
        [&](int at, const uint16_t *keys, const uint16_t *values) {
            int count = keys_all - at * kKeys;
            attend_keys<kWidth, kTiles, kKeys>(
                queries, keys, values, a.factor, count < kKeys, [&](int, int) { return count; }, rows);
        });
    close_rows(rows);
    store_rows(rows, a.head_dim, [&](int tile, int half) -> uint16_t * {
        int at = place(tile, half);
        return at < 0 ? nullptr : a.y + at * part + head * a.head_dim;
    });
}

template <int kWidth, int kTiles, int kWarps, int kKeys>
void run(gp_backend *backend, Windows a, int windows) {
    a.chunks = static_cast<int>(blocks_for(a.queries, 16 * kTiles * kWarps));
    unsigned grid = static_cast<unsigned>(windows) * static_cast<unsigned>(a.heads * a.chunks);
    unsigned bytes = stage_bytes(kWidth, kKeys, static_cast<int64_t>(a.side_y) * a.side_x);
    GP_RUN(backend, (attend_windows<kWidth, kTiles, kWarps, kKeys>), grid, 32 * kWarps, bytes, a);
}

} // namespace

void window_attention(gp_backend *backend, const gp_window_attention *attention) {
    if (of(backend).hopper && window_attention_hopper(backend, attention)) return;
    Windows a = {};
    a.qkv = bits_of(attention->qkv);
    a.padding = attention->padding;
    a.height = attention->height;
    a.width = attention->width;
    a.side_y = attention->window > 0 ? attention->window : a.height;
    a.side_x = attention->window > 0 ? attention->window : a.width;
    a.reciprocal = 0xFFFFFFFFu / static_cast<uint32_t>(a.side_x);
    a.across = (a.width + a.side_x - 1) / a.side_x;
    a.step = attention->pool ? 2 : 1;
    a.heads = attention->heads;
    a.head_dim = attention->head_dim;
    a.query_width = a.side_x / a.step;
    a.queries = a.side_y / a.step * a.query_width;
    a.factor = attention->scale * kLog2e;
    a.y = bits_of(attention->y);
    int windows = a.across * ((a.height + a.side_y - 1) / a.side_y), keys = a.side_y * a.side_x;
    if (a.queries == 0) return;
    with_width(a.head_dim, [&](auto width) {
        constexpr int kWidth = decltype(width)::value;
        if (keys <= kSmallWindow)
            run<kWidth, 1, 1, kSmallWindow>(backend, a, windows);
        else if (a.queries <= kFewRows)
            run<kWidth, 1, kFewWarps, key_block(kWidth)>(backend, a, windows);
        else
            run<kWidth, many_tiles(kWidth), many_warps(kWidth), key_block(kWidth)>(backend, a, windows);
    });
}

} // namespace gp_cuda
