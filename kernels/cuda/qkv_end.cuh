/**
 * The end of a packed QKV product, from its f32 sums: q and k are turned by their positions (rope.cuh), q
 * goes to its buffer, k and v to their pages (pages.cuh).
 *
 * A thread holds numbers of a head's first half and those that they turn with: gemm_hopper's tiles have whole
 * heads, gemm's warps 16 columns of either half. Sequences come with the launch's arguments, up to
 * kSequences; rows look for theirs among them. Each number is turned alone, so that its bits depend on the
 * sum and the position, not on the tile.
 *
 * Costs: from the second-level cache the tables' 4·head_dim bytes a row for each head that is turned, and the
 * stores of any end. By arithmetic from SASS, not measured, a warp's 16 rows of 64 columns are 390
 * instructions on Hopper, where storing them alone takes 150: some 1 µs a tile of 128 × 256. What it saves is
 * a pass over the product, 4 bytes a number, and a launch: 27 µs of an H200 for 4096 rows of 6144, measured,
 * where the tile is one of six in turn.
 */
#pragma once

#include "kernels/cuda/gemm.h"
#include "kernels/cuda/rope.cuh"

namespace gp_cuda {

/** The end of products that have y. */
struct StoreEnd {};

template <class End> constexpr bool kIsQkv = false;
template <> constexpr bool kIsQkv<QkvEnd> = true;

/** A row's position in its sequence, and the page that holds it. */
struct RowPlace {
    int position, page; // position < 0: the row is none of the sequences'
};

__device__ __forceinline__ RowPlace find_row(const QkvEnd &end, int row) {
    RowPlace place = {-1, 0};
    const int32_t *pages = nullptr;
#pragma unroll 1
    for (int i = 0; i < end.count; i++) {
        const gp_sequence &sequence = end.sequences.at[i];
        const int at = row - sequence.first_row;
        if (at < 0 || at >= sequence.rows) continue;
        place.position = sequence.first_position + at;
        pages = sequence.pages;
    }
    if (pages != nullptr) place.page = pages[place.position / GP_PAGE_TOKENS];
    return place;
}

/** What a column of the product is: of a kv head's query `slot` < group, its key or its value. */
struct HeadColumn {
    int kv_head, slot, at; // column `at` of the head
};

__device__ __forceinline__ HeadColumn head_column(const QkvEnd &end, int column) {
    const unsigned dim = static_cast<unsigned>(end.cache.head_dim),
                   slots = static_cast<unsigned>(end.group) + 2;
    const unsigned head = static_cast<unsigned>(column) / dim, kv_head = head / slots;
    return {static_cast<int>(kv_head), static_cast<int>(head - kv_head * slots),
            static_cast<int>(static_cast<unsigned>(column) - head * dim)};
}

__device__ __forceinline__ bool is_turned(const QkvEnd &end, const HeadColumn &column) {
    return column.slot <= end.group;
}

/** Where rows have a head: q's in its buffer, keys and values in their pages. */
struct HeadTarget {
    uint16_t *base;
    int step, token; // elements from row to row, or from page to page and from position to position in it

    __device__ __forceinline__ HeadTarget(const QkvEnd &end, const HeadColumn &column) {
        const int dim = end.cache.head_dim, which = column.slot - end.group;
        const bool paged = which >= 0;
        base = paged ? page_head(end.cache, 0, column.kv_head) + which * GP_PAGE_TOKENS * dim
                     : end.q + (column.kv_head * end.group + column.slot) * dim;
        step = end.cache.kv_heads * (paged ? static_cast<int>(page_head_size(dim)) : end.group * dim);
        token = paged ? dim : 0;
    }

    /** Of a row that has a place. */
    __device__ __forceinline__ uint16_t *of_row(int row, const RowPlace &place) const {
        return base + static_cast<int64_t>(token != 0 ? place.page : row) * step +
               static_cast<unsigned>(place.position) % GP_PAGE_TOKENS * token;
    }
};

/** cos and sin of `count` pairs of columns 8 apart in two rows, as a thread has them of an mma's sums: pair j
 * of row r is 2·j + r. */
template <int count> struct Angles { float2 cosine[2 * count], sine[2 * count]; };

/** Issues the loads: column is the first pair's in a head's first half, positions < 0 have any angle. */
template <int count>
__device__ __forceinline__ void load_angles(const QkvEnd &end, const int (&positions)[2], int column,
                                            Angles<count> &angles) {
#pragma unroll
    for (int row = 0; row < 2; row++) {
        const int64_t at = static_cast<int64_t>(max(positions[row], 0)) * (end.cache.head_dim / 2) + column;
#pragma unroll
        for (int j = 0; j < count; j++) {
            angles.cosine[2 * j + row] = *reinterpret_cast<const float2 *>(end.cosine + at + 8 * j);
            angles.sine[2 * j + row] = *reinterpret_cast<const float2 *>(end.sine + at + 8 * j);
        }
    }
}

/** Turns sums of the first half with those of the second. */
template <int count>
__device__ __forceinline__ void turn_sums(const Angles<count> &angles, float *low, float *high) {
#pragma unroll
    for (int pair = 0; pair < 2 * count; pair++) {
        turn_pair(low[2 * pair], high[2 * pair], angles.cosine[pair].x, angles.sine[pair].x);
        turn_pair(low[2 * pair + 1], high[2 * pair + 1], angles.cosine[pair].y, angles.sine[pair].y);
    }
}

} // namespace gp_cuda
