/**
 * Hiera's attention on a map, a window at a time, with queries pooled where a stage ends.
 *
 * A block has up to 128 queries of one head and window and goes over the window's keys as attention.cu does
 * (attention_tile.cuh); windows of up to 16 queries are one warp's, with all of up to 64 keys under way at
 * once. Rows of queries, keys and values are gathered from the map by cp.async, 2·head_dim bytes each,
 * queries into what is the second stage's room later. Pooled queries are 16 bytes of four positions, of which
 * the largest go there, while keys are on their way. Positions beyond the map take `padding`, rounded to
 * bf16, by ordinary stores.
 *
 * Costs at head width 72, of the encoder's 1024² input: 4·queries·keys·72 operations a window and head (80/72
 * of that for mma); qkv read once where a window has at most 128 queries. Windows of 8² on 256² (2 heads): 57
 * MB and 19 MB out, 2.4 Gflop: 37 µs of an A100's memory, 18 of an H200's. 4² on 128² (4 heads): 38 MB, 18 µs
 * and 9. Both have 32 and 8 operations a byte, where an H200's products want 184: bytes are what they cost,
 * and mma.sync is fast enough. 16² on 64² (8 heads): 19 MB, 9 µs of an A100; 2.4 Gflop. All 4096 keys (8
 * heads): 39 Gflop, 124 µs of an A100's 312 Tflop/s, and 134 M of 2^x, 55 µs at 16 a cycle and SM. On Hopper
 * these two are window_attention_hopper.cu's. Pooled windows of 8² on 256² (4 heads, 16 queries): 123 MB, 29
 * µs of an H200's memory; a block has 18 KB of keys and values and 9 of queries under way, and eight blocks
 * have room in a processor's shared memory (25 KB each), where 4.3 TB/s with 750 ns of latency want 25 KB in
 * all.
 */
#include "kernels/cuda/attention_tile.cuh"
#include "kernels/cuda/device.h"

#include <ptx/overlap.cuh>

namespace gp_cuda {

namespace {

/** Blocks of a processor that registers have to leave room for; of one warp and more than 16 keys shared
 * memory has no room for more than eight. */
__host__ __device__ constexpr int least_blocks(int width, int tiles, int warps, int keys) {
    if (warps == 1) return width <= 80 && keys <= 16 ? 16 : 8;
    return warps == 4 && tiles == 1 && width <= 80 ? 3 : warps == 4 ? 2 : 1;
}

constexpr int kAtOnce = 4; // copies of a thread whose places are worked out together: registers
constexpr int kSmallWindow = 16, kOneWarp = 16; // positions, queries: one warp's

struct Windows {
    const uint16_t *qkv; // [height·width, 3, heads, head_dim]
    const float *padding;
    int height, width;
    int side_y, side_x, across;            // of a window; windows in a row of windows
    int step;                              // 2 where queries are pooled, else 1
    uint32_t reciprocal, query_reciprocal; // of side_x and query_width: quotient
    int heads, head_dim, chunks, queries, query_width;
    float factor; // scale · log2 e
    uint16_t *y;
};

/** ⌊x/divisor⌋ by reciprocal = ⌊(2³² − 1)/divisor⌋: exact while (x + 1)·divisor <= 2³². */
__device__ __forceinline__ int quotient(int x, uint32_t reciprocal) {
    return static_cast<int>((static_cast<uint64_t>(x) + 1) * reciprocal >> 32);
}

/** The larger of eight bf16 each. */
__device__ __forceinline__ uint4 larger_chunk(uint4 a, uint4 b) {
    return make_uint4(larger_bf16(a.x, b.x), larger_bf16(a.y, b.y), larger_bf16(a.z, b.z),
                      larger_bf16(a.w, b.w));
}

/** Eight values of the padding as bf16. */
__device__ __forceinline__ uint4 padding_chunk(const float *padding) {
    return make_uint4(pack_bf16(padding[0], padding[1]), pack_bf16(padding[2], padding[3]),
                      pack_bf16(padding[4], padding[5]), pack_bf16(padding[6], padding[7]));
}

/** The warp's query rows from where they lie in shared memory. */
template <int kWidth, int kTiles>
__device__ __forceinline__ void load_query_tile(Queries<kWidth, kTiles> &q, const uint16_t *tile) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const uint16_t *row = tile + lane % 16 * tile_stride(kWidth) + lane / 16 * 8;
#pragma unroll
    for (int part = 0; part < kTiles; part++)
#pragma unroll
        for (int step = 0; step < kWidth / 16; step++)
            load_tiles(q.parts[part][step], row + 16 * part * tile_stride(kWidth) + 16 * step);
}

template <int kWidth, int kTiles, int kWarps, int kKeys>
__global__ __launch_bounds__(32 * kWarps,
                             least_blocks(kWidth, kTiles, kWarps,
                                          kKeys)) void attend_windows(const __grid_constant__ Windows a) {
    constexpr int kThreads = 32 * kWarps, kChunks = kWidth / 8, kCopies = kKeys * kChunks;
    follow_earlier();
    const int thread = static_cast<int>(threadIdx.x), block = static_cast<int>(blockIdx.x);
    const int chunk = block % a.chunks, head = block / a.chunks % a.heads,
              window = block / a.chunks / a.heads;
    const int top = window / a.across * a.side_y, left = window % a.across * a.side_x;
    const int first = (chunk * kWarps + thread / 32) * 16 * kTiles; // of the warp's queries
    const int keys_all = a.side_y * a.side_x, out_width = a.width / a.step, out_height = a.height / a.step;
    const int64_t part = static_cast<int64_t>(a.heads) * a.head_dim; // from q to k to v of a position
    const uint16_t *qkv = a.qkv + head * a.head_dim;
    auto *tiles = shared_memory<uint16_t>(), *query_tile = tiles + 2 * tile_size(kWidth, kKeys);

    /* Where a query is among the results, and, times step, on the map; row −1 where it is dropped. */
    struct Place {
        int row, column;
    };
    auto place = [&](int query) {
        int down = quotient(query, a.query_reciprocal);
        Place at = {top / a.step + down, left / a.step + query - down * a.query_width};
        if (query >= a.queries || at.row >= out_height || at.column >= out_width) at.row = -1;
        return at;
    };
    /* Calls take(target, source) for this thread's chunks of the block's queries; source null: zeros. */
    auto for_queries = [&](auto take) {
        constexpr int kAll = 16 * kTiles * kWarps * kChunks;
#pragma unroll kAtOnce
        for (int i = 0; i < (kAll + kThreads - 1) / kThreads; i++) {
            int index = thread + i * kThreads, row = index / kChunks, column = index % kChunks * 8;
            if (kAll % kThreads != 0 && index >= kAll) break;
            Place at = place(chunk * 16 * kTiles * kWarps + row);
            bool real = at.row >= 0 && column < a.head_dim;
            int64_t position = static_cast<int64_t>(at.row) * a.step * a.width + at.column * a.step;
            take(query_tile + row * tile_stride(kWidth) + column,
                 real ? qkv + 3 * part * position + column : nullptr);
        }
    };
    auto load = [&](int at, uint16_t *keys, uint16_t *values) {
#pragma unroll kAtOnce
        for (int i = 0; i < (kCopies + kThreads - 1) / kThreads; i++) {
            int index = thread + i * kThreads, column = index % kChunks * 8;
            if (kCopies % kThreads != 0 && index >= kCopies) break;
            int key = at * kKeys + index / kChunks, target = index / kChunks * tile_stride(kWidth) + column;
            int down = quotient(key, a.reciprocal), row = top + down, place_x = left + key - down * a.side_x;
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
    };

    if (a.step == 1)
        for_queries([&](uint16_t *target, const uint16_t *source) {
            copy_async(target, source != nullptr ? source : qkv, source != nullptr ? 16 : 0);
        });
    copy_commit();
    start_blocks<kWidth, kKeys>(tiles, load);
    if (a.step == 2)
        for_queries([&](uint16_t *target, const uint16_t *source) {
            uint4 pooled = make_uint4(0, 0, 0, 0);
            if (source != nullptr) {
                const uint16_t *below = source + 3 * part * a.width;
                pooled = larger_chunk(larger_chunk(load_16(source), load_16(source + 3 * part)),
                                      larger_chunk(load_16(below), load_16(below + 3 * part)));
            }
            store_16(target, pooled);
        });
    copy_wait<1>();
    __syncthreads();
    Queries<kWidth, kTiles> queries;
    load_query_tile(queries, query_tile + (first - chunk * 16 * kTiles * kWarps) * tile_stride(kWidth));
    Rows<kWidth, kTiles> rows;
    rows.start();
    finish_blocks<kWidth, kKeys>((keys_all + kKeys - 1) / kKeys, tiles, load,
                                 [&](int at, const uint16_t *keys, const uint16_t *values) {
                                     int count = keys_all - at * kKeys;
                                     attend_keys<kWidth, kTiles, kKeys>(
                                         queries, keys, values, a.factor, count < kKeys,
                                         [&](int, int) { return count; }, rows);
                                 });
    close_rows(rows);
    store_rows(rows, a.head_dim, [&](int tile, int half) -> uint16_t * {
        Place at = place(first + row_of(tile, half));
        int64_t row = static_cast<int64_t>(at.row) * out_width + at.column;
        return at.row < 0 ? nullptr : a.y + row * part + head * a.head_dim;
    });
}

template <int kWidth, int kTiles, int kWarps, int kKeys>
void run(gp_backend *backend, Windows a, int windows) {
    a.chunks = static_cast<int>(blocks_for(a.queries, 16 * kTiles * kWarps));
    unsigned grid = static_cast<unsigned>(windows) * static_cast<unsigned>(a.heads * a.chunks);
    /* Queries lie where a second stage will be. */
    unsigned stages = stage_bytes(kWidth, kKeys, static_cast<int64_t>(a.side_y) * a.side_x),
             with_queries = stage_bytes(kWidth, kKeys, 1) + tile_size(kWidth, 16 * kTiles * kWarps) * 2u;
    unsigned bytes = stages > with_queries ? stages : with_queries;
    GP_RUN_EARLY(backend, (attend_windows<kWidth, kTiles, kWarps, kKeys>), grid, 32 * kWarps, bytes, a);
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
    a.query_reciprocal = a.query_width > 0 ? 0xFFFFFFFFu / static_cast<uint32_t>(a.query_width) : 0;
    a.factor = attention->scale * kLog2e;
    a.y = bits_of(attention->y);
    int windows = a.across * ((a.height + a.side_y - 1) / a.side_y), keys = a.side_y * a.side_x;
    if (a.queries == 0) return;
    with_width(a.head_dim, [&](auto width) {
        constexpr int kWidth = decltype(width)::value;
        if (keys <= kSmallWindow)
            run<kWidth, 1, 1, kSmallWindow>(backend, a, windows);
        else if (a.queries <= kOneWarp)
            run<kWidth, 1, 1, 4 * kSmallWindow>(backend, a, windows);
        else if (a.queries <= kFewRows)
            run<kWidth, 1, kFewWarps, 64>(backend, a, windows);
        else
            run<kWidth, many_tiles(kWidth), many_warps(kWidth), key_block(kWidth)>(backend, a, windows);
    });
}

} // namespace gp_cuda
