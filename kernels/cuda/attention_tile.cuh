/**
 * What the attention kernels share: FlashAttention's step of one warp over a block of keys, on mma.sync.
 *
 * A warp has kTiles·16 query rows of one head, their fragments in registers, and goes over blocks of kKeys
 * keys that lie in shared memory: scores (tensor cores) → online softmax in base 2 (registers; a row's 4
 * lanes exchange the largest) → weights, rounded to bf16, times values (tensor cores), summed in f32. There
 * is no matrix of scores in memory.
 *
 * kWidth is head_dim rounded up to a width that is instantiated (with_width); tiles hold zeros beyond
 * head_dim.
 *
 * Bits. A row's numbers are added key by key of a block, then block by block, and meet nothing of other rows:
 * rows of an mma are independent. A block in which a row sees no key leaves the row as it was, to the bit:
 * the largest stays, the factor is 2^0 = 1, weights are 0, and values (finite there: what nobody wrote is
 * zero-filled) add 0. So it makes no difference which rows share a tile. A zero's sign is the one thing that
 * adding 0 changes; results are made +0.
 *
 * Costs of a warp and block of keys, in mma of 2048 products each: kTiles·(kKeys/8)·(kWidth/16) for the
 * scores and as many for the values; a load_tiles (512 bytes of shared memory, 4 cycles of its bandwidth)
 * feeds 2·kTiles of them (2 cycles each of an SM's tensor cores on an A100), hence two tiles a warp where
 * registers suffice.
 */
#pragma once

#include "kernels/cuda/device.h"

#include <ptx/async_copy.cuh>
#include <ptx/convert.cuh>
#include <ptx/matrix.cuh>
#include <ptx/memory.cuh>

namespace gp_cuda {

constexpr float kLog2e = 1.44269504f;

/** Keys of a block: as many as leave registers for two tiles a warp. */
__host__ __device__ constexpr int key_block(int width) {
    return width == 80 ? 32 : 64;
}

/** Elements from row to row of a tile in shared memory: an odd number of 16 bytes, so that 8 rows of
 * load_tiles lie in different banks. */
__host__ __device__ constexpr int tile_stride(int width) {
    return width + 8;
}

/** Elements of a tile [keys, width]. */
__host__ __device__ constexpr int tile_size(int width, int keys) {
    return keys * tile_stride(width);
}

/** Two bf16 at an address that is a multiple of 4 bytes. */
__device__ __forceinline__ uint32_t load_pair(const uint16_t *source) {
    return *reinterpret_cast<const uint32_t *>(source);
}

/** Query rows of a warp: fragments [tile, 16 columns, mma's four]. */
template <int kWidth, int kTiles> struct Queries { uint32_t parts[kTiles][kWidth / 16][4]; };

/** Scores, then weights, of a warp's rows: [tile, 8 keys, mma's four]. */
template <int kKeys, int kTiles> struct Weights { float parts[kTiles][kKeys / 8][4]; };

/** What a warp has of its rows: halves 0 and 1 of a tile are the lane's rows lane/4 and lane/4 + 8. */
template <int kWidth, int kTiles> struct Rows {
    float sums[kTiles][kWidth / 8][4]; // Σ 2^(score − largest) · value
    float largest[kTiles][2];          // score, times scale · log2 e
    float total[kTiles][2];            // Σ 2^(score − largest): of this lane's columns until close_rows

    __device__ __forceinline__ void start() {
#pragma unroll
        for (int tile = 0; tile < kTiles; tile++) {
#pragma unroll
            for (int n = 0; n < kWidth / 8; n++)
#pragma unroll
                for (int i = 0; i < 4; i++) sums[tile][n][i] = 0;
#pragma unroll
            for (int half = 0; half < 2; half++) {
                largest[tile][half] = -INFINITY;
                total[tile][half] = 0;
            }
        }
    }
};

/** A lane's row among its warp's, of a tile and half. */
__device__ __forceinline__ int row_of(int tile, int half) {
    return 16 * tile + 8 * half + static_cast<int>(threadIdx.x) % 32 / 4;
}

/** pair(tile, half, column): the two bf16 at `column` of row_of(tile, half), 0 where there is none. */
template <int kWidth, int kTiles, class Pair>
__device__ __forceinline__ void load_queries(Queries<kWidth, kTiles> &q, Pair pair) {
    const int column = 2 * (static_cast<int>(threadIdx.x) % 4);
#pragma unroll
    for (int tile = 0; tile < kTiles; tile++)
#pragma unroll
        for (int step = 0; step < kWidth / 16; step++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                q.parts[tile][step][i] = pair(tile, i % 2, 16 * step + 8 * (i / 2) + column);
}

/**
 * Copies of a tile [kKeys, kWidth] by kThreads threads: row r < rows from source(r), the rest and columns
 * beyond head_dim 0. source(0) has to be an address even where there are no rows.
 */
template <int kWidth, int kKeys, int kThreads, class Source>
__device__ __forceinline__ void copy_rows(uint16_t *tile, int thread, int rows, int head_dim, Source source) {
    constexpr int kChunks = kWidth / 8; // of 16 bytes
    constexpr int kCopies = kKeys * kChunks;
#pragma unroll
    for (int i = 0; i < (kCopies + kThreads - 1) / kThreads; i++) {
        int index = thread + i * kThreads, row = index / kChunks, column = index % kChunks * 8;
        if (kCopies % kThreads != 0 && index >= kCopies) break;
        bool real = row < rows && column < head_dim;
        copy_async(tile + row * tile_stride(kWidth) + column, source(real ? row : 0) + (real ? column : 0),
                   real ? 16 : 0);
    }
}

/** scores = q · keysᵀ. */
template <int kWidth, int kTiles, int kKeys>
__device__ __forceinline__ void score_keys(const Queries<kWidth, kTiles> &q, const uint16_t *keys,
                                           Weights<kKeys, kTiles> &scores) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int tile = 0; tile < kTiles; tile++)
#pragma unroll
        for (int n = 0; n < kKeys / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) scores.parts[tile][n][i] = 0;
    /* 8×8: keys 0–7 columns 0–7, keys 0–7 columns 8–15, keys 8–15 columns 0–7, keys 8–15 columns 8–15 */
    const uint16_t *row = keys + (lane / 16 * 8 + lane % 8) * tile_stride(kWidth) + lane / 8 % 2 * 8;
#pragma unroll
    for (int step = 0; step < kWidth / 16; step++) {
#pragma unroll
        for (int n = 0; n < kKeys / 16; n++) {
            uint32_t part[4];
            load_tiles(part, row + 16 * n * tile_stride(kWidth) + 16 * step);
#pragma unroll
            for (int tile = 0; tile < kTiles; tile++) {
                multiply(scores.parts[tile][2 * n], q.parts[tile][step], part[0], part[1]);
                multiply(scores.parts[tile][2 * n + 1], q.parts[tile][step], part[2], part[3]);
            }
        }
    }
}

/** −∞ for keys from limit(tile, half) on, of row_of(tile, half). */
template <int kTiles, int kKeys, class Limit>
__device__ __forceinline__ void mask_keys(Weights<kKeys, kTiles> &scores, Limit limit) {
    const int column = 2 * (static_cast<int>(threadIdx.x) % 4);
#pragma unroll
    for (int tile = 0; tile < kTiles; tile++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int seen = limit(tile, half);
#pragma unroll
            for (int n = 0; n < kKeys / 8; n++)
#pragma unroll
                for (int i = 0; i < 2; i++)
                    if (8 * n + column + i >= seen) scores.parts[tile][n][2 * half + i] = -INFINITY;
        }
}

/** A softmax step: scores become weights, and `change` what the rows' sums have to be rescaled by. factor is
 * scale · log2 e, > 0. A row's first block has to have a key that the row sees. */
template <int kWidth, int kTiles, int kKeys>
__device__ __forceinline__ void weigh_keys(Weights<kKeys, kTiles> &scores, float factor,
                                           Rows<kWidth, kTiles> &rows, float (&change)[kTiles][2]) {
#pragma unroll
    for (int tile = 0; tile < kTiles; tile++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float largest = -INFINITY, total = 0;
#pragma unroll
            for (int n = 0; n < kKeys / 8; n++)
#pragma unroll
                for (int i = 0; i < 2; i++) largest = fmaxf(largest, scores.parts[tile][n][2 * half + i]);
            largest = fmaxf(largest, __shfl_xor_sync(0xFFFFFFFFu, largest, 1));
            largest = fmaxf(largest, __shfl_xor_sync(0xFFFFFFFFu, largest, 2));
            float now = fmaxf(rows.largest[tile][half], largest * factor);
            change[tile][half] = exp2_fast(rows.largest[tile][half] - now); // 0 at first: −∞ − now
            rows.largest[tile][half] = now;
#pragma unroll
            for (int n = 0; n < kKeys / 8; n++)
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    float &score = scores.parts[tile][n][2 * half + i];
                    score = exp2_fast(fmaf(score, factor, -now));
                    total += score;
                }
            rows.total[tile][half] = fmaf(rows.total[tile][half], change[tile][half], total);
        }
}

/** sums · change. */
template <int kWidth, int kTiles>
__device__ __forceinline__ void rescale_rows(Rows<kWidth, kTiles> &rows, const float (&change)[kTiles][2]) {
#pragma unroll
    for (int tile = 0; tile < kTiles; tile++)
#pragma unroll
        for (int n = 0; n < kWidth / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) rows.sums[tile][n][i] *= change[tile][i / 2];
}

/** Weights of keys 16·step … as an operand's fragment. */
template <int kKeys, int kTiles>
__device__ __forceinline__ void pack_weights(const Weights<kKeys, kTiles> &weights, int tile, int step,
                                             uint32_t (&packed)[4]) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float(&part)[4] = weights.parts[tile][2 * step + i / 2];
        packed[i] = pack_bf16(part[i % 2 * 2], part[i % 2 * 2 + 1]);
    }
}

/** sums += weights · values. */
template <int kWidth, int kTiles, int kKeys>
__device__ __forceinline__ void add_values(const Weights<kKeys, kTiles> &weights, const uint16_t *values,
                                           Rows<kWidth, kTiles> &rows) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    /* 8×8, transposed as they are read: keys 0–7 columns 0–7, keys 8–15 columns 0–7, then columns 8–15 */
    const uint16_t *row = values + lane % 16 * tile_stride(kWidth) + lane / 16 * 8;
#pragma unroll
    for (int step = 0; step < kKeys / 16; step++) {
        uint32_t weight[kTiles][4];
#pragma unroll
        for (int tile = 0; tile < kTiles; tile++) pack_weights(weights, tile, step, weight[tile]);
#pragma unroll
        for (int n = 0; n < kWidth / 16; n++) {
            uint32_t part[4];
            load_tiles_transposed(part, row + 16 * step * tile_stride(kWidth) + 16 * n);
#pragma unroll
            for (int tile = 0; tile < kTiles; tile++) {
                multiply(rows.sums[tile][2 * n], weight[tile], part[0], part[1]);
                multiply(rows.sums[tile][2 * n + 1], weight[tile], part[2], part[3]);
            }
        }
    }
}

/** The whole step over one block; limit as in mask_keys, asked where `masked` (the same for all lanes). */
template <int kWidth, int kTiles, int kKeys, class Limit>
__device__ __forceinline__ void attend_keys(const Queries<kWidth, kTiles> &q, const uint16_t *keys,
                                            const uint16_t *values, float factor, bool masked, Limit limit,
                                            Rows<kWidth, kTiles> &rows) {
    Weights<kKeys, kTiles> weights;
    float change[kTiles][2];
    score_keys(q, keys, weights);
    if (masked) mask_keys(weights, limit);
    weigh_keys(weights, factor, rows, change);
    rescale_rows(rows, change);
    add_values(weights, values, rows);
}

/** Issues this thread's copies of the first block. */
template <int kWidth, int kKeys, class Load>
__device__ __forceinline__ void start_blocks(uint16_t *tiles, Load load) {
    load(0, tiles, tiles + tile_size(kWidth, kKeys));
    copy_commit();
}

/**
 * All blocks, one after the other, the next one's copies under way meanwhile: load(block, keys, values)
 * issues this thread's copies to the tiles there, attend(block, keys, values) takes the block that has come.
 * `tiles` has two stages of two tiles (one stage where there is one block). The first block has been started.
 */
template <int kWidth, int kKeys, class Load, class Attend>
__device__ __forceinline__ void finish_blocks(int blocks, uint16_t *tiles, Load load, Attend attend) {
    constexpr int kTile = tile_size(kWidth, kKeys);
    for (int block = 0; block < blocks; block++) {
        uint16_t *here = tiles + block % 2 * 2 * kTile, *there = tiles + (block + 1) % 2 * 2 * kTile;
        copy_wait<0>();
        __syncthreads(); // this block has come for all, and nobody reads the block before any more
        if (block + 1 < blocks) load(block + 1, there, there + kTile);
        copy_commit();
        attend(block, here, here + kTile);
    }
    copy_wait<0>();
}

/** Both. */
template <int kWidth, int kKeys, class Load, class Attend>
__device__ __forceinline__ void over_blocks(int blocks, uint16_t *tiles, Load load, Attend attend) {
    start_blocks<kWidth, kKeys>(tiles, load);
    finish_blocks<kWidth, kKeys>(blocks, tiles, load, attend);
}

/** Bytes of those stages. */
inline unsigned stage_bytes(int width, int keys_of_block, int64_t keys) {
    int stages = keys > keys_of_block ? 2 : 1;
    return static_cast<unsigned>(stages * 2 * tile_size(width, keys_of_block)) * sizeof(uint16_t);
}

/** Totals of the whole rows, in all of a row's lanes. */
template <int kWidth, int kTiles> __device__ __forceinline__ void close_rows(Rows<kWidth, kTiles> &rows) {
#pragma unroll
    for (int tile = 0; tile < kTiles; tile++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float total = rows.total[tile][half];
            total += __shfl_xor_sync(0xFFFFFFFFu, total, 1);
            total += __shfl_xor_sync(0xFFFFFFFFu, total, 2);
            rows.total[tile][half] = total;
        }
}

/** x · share as it is stored: fmaf(…, 0) makes −0 the +0 that one more block would have made of it. */
__device__ __forceinline__ uint32_t shared_out(float first, float second, float share) {
    return pack_bf16(fmaf(first, share, 0.0f), fmaf(second, share, 0.0f));
}

/** Results of closed rows to target(tile, half), the row's start or null. */
template <int kWidth, int kTiles, class Target>
__device__ __forceinline__ void store_rows(const Rows<kWidth, kTiles> &rows, int head_dim, Target target) {
    const int column = 2 * (static_cast<int>(threadIdx.x) % 4);
#pragma unroll
    for (int tile = 0; tile < kTiles; tile++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            uint16_t *row = target(tile, half);
            if (row == nullptr) continue;
            float share = 1.0f / rows.total[tile][half];
#pragma unroll
            for (int n = 0; n < kWidth / 8; n++)
                if (8 * n < head_dim)
                    *reinterpret_cast<uint32_t *>(row + 8 * n + column) =
                        shared_out(rows.sums[tile][n][2 * half], rows.sums[tile][n][2 * half + 1], share);
        }
}

/* ---- warps of one block that share a tile's rows and split the keys ---- */

/**
 * Where each of kWarps warps leaves its 16 rows for the others, in shared memory: sums [kWarps, 16, kWidth],
 * then largest [kWarps, 16], then total [kWarps, 16]. Warps are merged in their order.
 */
template <int kWidth, int kWarps> struct Partials {
    static constexpr int kFloats = kWarps * 16 * (kWidth + 2);
    float *room;

    __device__ __forceinline__ float *sums(int warp, int row) const {
        return room + (warp * 16 + row) * kWidth;
    }
    __device__ __forceinline__ float *largest(int warp) const {
        return room + kWarps * 16 * kWidth + 16 * warp;
    }
    __device__ __forceinline__ float *total(int warp) const {
        return room + kWarps * 16 * (kWidth + 1) + 16 * warp;
    }

    /** A warp's closed rows. A warp that met no key leaves −∞, 0 and zeros. */
    __device__ __forceinline__ void leave(int warp, const Rows<kWidth, 1> &rows) const {
        const int lane = static_cast<int>(threadIdx.x) % 32, column = 2 * (lane % 4);
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int row = row_of(0, half);
#pragma unroll
            for (int n = 0; n < kWidth / 8; n++)
#pragma unroll
                for (int i = 0; i < 2; i++)
                    sums(warp, row)[8 * n + column + i] = rows.sums[0][n][2 * half + i];
            if (lane % 4 == 0) {
                largest(warp)[row] = rows.largest[0][half];
                total(warp)[row] = rows.total[0][half];
            }
        }
    }

    /** The largest of a row among all warps. */
    __device__ __forceinline__ float largest_of(int row) const {
        float all = largest(0)[row];
#pragma unroll
        for (int warp = 1; warp < kWarps; warp++) all = fmaxf(all, largest(warp)[row]);
        return all;
    }

    /** A row's total and two columns of its sums, relative to `all`. */
    __device__ __forceinline__ void merge(int row, int column, float all, float &whole, float &first,
                                          float &second) const {
        whole = first = second = 0;
#pragma unroll
        for (int warp = 0; warp < kWarps; warp++) {
            float change = exp2_fast(largest(warp)[row] - all);
            whole = fmaf(total(warp)[row], change, whole);
            first = fmaf(sums(warp, row)[column], change, first);
            second = fmaf(sums(warp, row)[column + 1], change, second);
        }
    }
};

/* ---- launchers ---- */

template <int width> struct Width { static constexpr int value = width; };

/** Calls run(Width<…>) with the narrowest width that holds head_dim. */
template <class Run> void with_width(int head_dim, Run run) {
    if (head_dim <= 16)
        run(Width<16>{});
    else if (head_dim <= 32)
        run(Width<32>{});
    else if (head_dim <= 64)
        run(Width<64>{});
    else if (head_dim <= 80)
        run(Width<80>{});
    else if (head_dim <= 96)
        run(Width<96>{});
    else
        run(Width<128>{});
}

/**
 * How many tiles a warp and warps a block has where there are more than 64 rows: 128 rows a block, so that a
 * key block is read from the second-level cache for as many as registers allow. Up to 64 rows: 4 warps of one
 * tile.
 */
constexpr int kManyRows = 128, kFewRows = 64, kFewWarps = 4;
__host__ __device__ constexpr int many_tiles(int width) {
    return width <= 80 ? 2 : 1;
}
__host__ __device__ constexpr int many_warps(int width) {
    return kManyRows / 16 / many_tiles(width);
}

/* On Hopper, for what head dims its products serve: false where they do not, or where no tensor map can be
 * made. Which kernel serves a row is a matter of its own shape. */
bool attention_hopper(gp_backend *backend, const gp_attention *attention);
bool paged_attention_hopper(gp_backend *backend, const gp_paged_attention *attention);
bool window_attention_hopper(gp_backend *backend, const gp_window_attention *attention);

} // namespace gp_cuda
