/**
 * Attention over packed sequences of one length, not causal: the vision encoder and the mask decoder.
 *
 * attend_sequences: a block has 128 queries of one head and sequence (64 where there are no more), each warp
 * 16 or 32 of them (attention_tile.cuh), and goes over the keys in blocks of 64 (key_block), double-buffered
 * by cp.async. Blocks of one head follow one another, so that its keys and values come from the second-level
 * cache. attend_few: up to 16 queries over many keys: the 8 warps of a block split the keys (tiles of 32,
 * warp w has w, w + 8, …, copied by itself) and are merged in their order. Which of the two is the row's own
 * shape: queries and keys of a sequence.
 *
 * Costs, of one sequence and head: 4·queries·keys·head_dim operations; q, k, v and y once from memory, k and
 * v queries/128 times from the second-level cache. Vision encoder (1601², width 64, 16 heads): 10.5 Gflop and
 * 13 MB a view: 34 µs of an A100's 312 Tflop/s, to which 41 M of 2^x, 17 µs at 16 a cycle and SM, come where
 * they do not overlap; 7 µs of its memory. Mask decoder, tokens to image (7 × 4096, width 16, 8 heads): 2.1
 * MB of keys and values, 1 µs, and 15 Mflop; but 8 blocks a mask, of which every warp has 16 tiles to go
 * through, so that latency counts. Image to tokens (4096 × 7): 2.1 MB of q and y; its launch costs more.
 */
#include "kernels/cuda/attention_tile.cuh"
#include "kernels/cuda/device.h"

#include <ptx/overlap.cuh>

namespace gp_cuda {

namespace {

constexpr int kSplitQueries = 16, kSplitKeys = 256; // attend_few: at most, at least
constexpr int kSplitWarps = 8, kSplitTile = 32, kSplitWidth = 32;

struct Sequences {
    const uint16_t *q, *k, *v;
    int64_t q_stride, kv_stride, y_stride;
    int queries, keys, heads, head_dim, chunks; // chunks of queries a head
    float factor;                               // scale · log2 e
    uint16_t *y;
};

template <int kWidth, int kTiles, int kWarps>
__global__ __launch_bounds__(32 * kWarps) void attend_sequences(const __grid_constant__ Sequences a) {
    constexpr int kKeys = key_block(kWidth);
    follow_earlier();
    auto *tiles = shared_memory<uint16_t>();
    const int thread = static_cast<int>(threadIdx.x), block = static_cast<int>(blockIdx.x);
    const int chunk = block % a.chunks, head = block / a.chunks % a.heads;
    const int64_t sequence = block / a.chunks / a.heads;
    const int first = (chunk * kWarps + thread / 32) * 16 * kTiles; // of the warp's queries
    const uint16_t *q = a.q + sequence * a.queries * a.q_stride + head * a.head_dim;
    const uint16_t *k = a.k + sequence * a.keys * a.kv_stride + head * a.head_dim;
    const uint16_t *v = a.v + sequence * a.keys * a.kv_stride + head * a.head_dim;
    uint16_t *y = a.y + sequence * a.queries * a.y_stride + head * a.head_dim;

    Queries<kWidth, kTiles> queries;
    load_queries(queries, [&](int tile, int half, int column) {
        int row = first + row_of(tile, half);
        return row < a.queries && column < a.head_dim ? load_pair(q + row * a.q_stride + column) : 0u;
    });
    Rows<kWidth, kTiles> rows;
    rows.start();
    over_blocks<kWidth, kKeys>(
        (a.keys + kKeys - 1) / kKeys, tiles,
        [&](int at, uint16_t *keys, uint16_t *values) {
            int key = at * kKeys, count = a.keys - key;
            copy_rows<kWidth, kKeys, 32 * kWarps>(keys, thread, count, a.head_dim,
                                                  [&](int row) { return k + (key + row) * a.kv_stride; });
            copy_rows<kWidth, kKeys, 32 * kWarps>(values, thread, count, a.head_dim,
                                                  [&](int row) { return v + (key + row) * a.kv_stride; });
        },
        [&](int at, const uint16_t *keys, const uint16_t *values) {
            int count = a.keys - at * kKeys;
            attend_keys<kWidth, kTiles, kKeys>(
                queries, keys, values, a.factor, count < kKeys, [&](int, int) { return count; }, rows);
        });
    close_rows(rows);
    store_rows(rows, a.head_dim, [&](int tile, int half) -> uint16_t * {
        int row = first + row_of(tile, half);
        return row < a.queries ? y + row * a.y_stride : nullptr;
    });
}

template <int kWidth>
__global__ __launch_bounds__(32 * kSplitWarps) void attend_few(const __grid_constant__ Sequences a) {
    constexpr int kTile = tile_size(kWidth, kSplitTile);
    follow_earlier();
    const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
    const int head = static_cast<int>(blockIdx.x) % a.heads;
    const int64_t sequence = static_cast<int>(blockIdx.x) / a.heads;
    auto *stages = shared_memory<uint16_t>() + warp * 4 * kTile; // the warp's own
    const uint16_t *q = a.q + sequence * a.queries * a.q_stride + head * a.head_dim;
    const uint16_t *k = a.k + sequence * a.keys * a.kv_stride + head * a.head_dim;
    const uint16_t *v = a.v + sequence * a.keys * a.kv_stride + head * a.head_dim;
    uint16_t *y = a.y + sequence * a.queries * a.y_stride + head * a.head_dim;

    auto load = [&](int key, uint16_t *target) {
        int count = a.keys - key;
        copy_rows<kWidth, kSplitTile, 32>(target, lane, count, a.head_dim,
                                          [&](int row) { return k + (key + row) * a.kv_stride; });
        copy_rows<kWidth, kSplitTile, 32>(target + kTile, lane, count, a.head_dim,
                                          [&](int row) { return v + (key + row) * a.kv_stride; });
    };
    constexpr int kStep = kSplitWarps * kSplitTile;
    int key = warp * kSplitTile;
    if (key < a.keys) load(key, stages);
    copy_commit();
    Queries<kWidth, 1> queries;
    load_queries(queries, [&](int tile, int half, int column) {
        int row = row_of(tile, half);
        return row < a.queries && column < a.head_dim ? load_pair(q + row * a.q_stride + column) : 0u;
    });
    Rows<kWidth, 1> rows;
    rows.start();
    for (int turn = 0; key < a.keys; turn++, key += kStep) {
        uint16_t *here = stages + turn % 2 * 2 * kTile;
        if (key + kStep < a.keys) load(key + kStep, stages + (turn + 1) % 2 * 2 * kTile);
        copy_commit();
        copy_wait<1>();
        __syncwarp();
        int count = a.keys - key;
        attend_keys<kWidth, 1, kSplitTile>(
            queries, here, here + kTile, a.factor, count < kSplitTile, [&](int, int) { return count; }, rows);
        __syncwarp(); // all lanes have read what the next turn copies over
    }
    copy_wait<0>();
    close_rows(rows);
    __syncthreads(); // the tiles give way to partial results
    Partials<kWidth, kSplitWarps> partials{shared_memory<float>()};
    partials.leave(warp, rows);
    __syncthreads();
    for (int index = thread; index < a.queries * (a.head_dim / 2); index += 32 * kSplitWarps) {
        int row = index / (a.head_dim / 2), column = index % (a.head_dim / 2) * 2;
        float total, sum0, sum1;
        partials.merge(row, column, partials.largest_of(row), total, sum0, sum1);
        *reinterpret_cast<uint32_t *>(y + row * a.y_stride + column) = shared_out(sum0, sum1, 1.0f / total);
    }
}

template <int kWidth> void run_few(gp_backend *backend, const Sequences &a, int64_t sequences) {
    unsigned bytes = kSplitWarps * 4 * tile_size(kWidth, kSplitTile) * sizeof(uint16_t);
    static_assert(Partials<kWidth, kSplitWarps>::kFloats * sizeof(float) <=
                      kSplitWarps * 4 * tile_size(kWidth, kSplitTile) * sizeof(uint16_t),
                  "partial results fit where the tiles were");
    GP_RUN_EARLY(backend, (attend_few<kWidth>), static_cast<unsigned>(sequences * a.heads), 32 * kSplitWarps,
                 bytes, a);
}

} // namespace

void attention(gp_backend *backend, const gp_attention *attention) {
    Sequences a = {bits_of(attention->q),
                   bits_of(attention->k),
                   bits_of(attention->v),
                   attention->q_stride,
                   attention->kv_stride,
                   attention->y_stride,
                   static_cast<int>(attention->queries),
                   static_cast<int>(attention->keys),
                   attention->heads,
                   attention->head_dim,
                   0,
                   attention->scale * kLog2e,
                   bits_of(attention->y)};
    int64_t heads = attention->sequences * attention->heads;
    if (heads * attention->queries == 0) return;
    if (of(backend).hopper && attention_hopper(backend, attention)) return;
    if (a.queries <= kSplitQueries && a.keys >= kSplitKeys && a.head_dim <= kSplitWidth) {
        if (a.head_dim <= 16)
            run_few<16>(backend, a, attention->sequences);
        else
            run_few<32>(backend, a, attention->sequences);
        return;
    }
    bool few = a.queries <= kFewRows;
    a.chunks = static_cast<int>(blocks_for(a.queries, few ? kFewRows : kManyRows));
    unsigned grid = static_cast<unsigned>(heads * a.chunks);
    with_width(a.head_dim, [&](auto width) {
        constexpr int kWidth = decltype(width)::value;
        unsigned bytes = stage_bytes(kWidth, key_block(kWidth), a.keys);
        if (few) {
            GP_RUN_EARLY(backend, (attend_sequences<kWidth, 1, kFewWarps>), grid, 32 * kFewWarps, bytes, a);
        } else {
            constexpr int kTiles = many_tiles(kWidth), kWarps = many_warps(kWidth);
            GP_RUN_EARLY(backend, (attend_sequences<kWidth, kTiles, kWarps>), grid, 32 * kWarps, bytes, a);
        }
    });
}

} // namespace gp_cuda
