/**
 * What Hopper's attention kernels share: a ring of key blocks that tensor copies fill, and a warpgroup's way
 * over it by wgmma.
 *
 * A block of three warpgroups, one a processor. One thread of the first copies the keys and values of a block
 * (128 keys of width 64, 64 of width 128: 32 KB a stage, four stages; 128 of width 72: 52 KB); the two others
 * have 64 query rows each, queries in registers. A warpgroup issues the scores of the next block and the
 * values of this one together, and weighs the next block's keys while this one's values are still being added
 * (FlashAttention-3, arXiv 2407.08608, without its turns between warpgroups), so that exponentials hide
 * behind products of this warpgroup and of the other.
 *
 * The arithmetic, its order and what a row may meet are attention_tile.cuh's. The first product of a block of
 * scores does not add; the order inside a product is the tensor core's, the same for every row.
 *
 * Costs of a warpgroup and block of keys, by arithmetic, at 4096 operations a cycle and processor:
 * 4·64·kKeys·kWidth operations = 512 cycles for either width; 64·kKeys exponentials at 16 a cycle = 512
 * cycles at width 64, 256 at width 128. Shared memory: each product of 16 of depth reads its 16 · (keys or
 * width) · 2 bytes once, 64 bytes a cycle of 128. Registers of a thread: scores kKeys/2, sums kWidth/2,
 * weights kKeys/4, queries kWidth/4: 144 of 232 at either width. Width 72 is window_attention_hopper.cu's:
 * 152 registers, and costs of its own.
 */
#pragma once

#include "kernels/cuda/attention_tile.cuh"

#include <ptx/registers.cuh>
#include <ptx/tensor_copy.cuh>
#include <ptx/warp.cuh>
#include <ptx/wgmma.cuh>

namespace gp_cuda {

constexpr int kBoxRows = 128;                         // query rows of a block
constexpr int kBoxThreads = 384, kBoxConsumers = 256; // all, and those that multiply
constexpr int kRingStages = 4;
constexpr int kCopyingRegisters = 40, kAttendingRegisters = 232; // 128·40 + 256·232 ≤ 65,536

/**
 * Stages of keys and values in shared memory, then the barriers. A box is [kKeys, 64], 128 bytes a row,
 * swizzled; a stage has the keys' boxes, then the values'. Where the width is no multiple of 64, zeros follow
 * what the last boxes have: the keys' is narrow, [kKeys, 16], 32 bytes a row, all that products take of it;
 * the values' is a whole one, since one product goes over both.
 */
template <int kWidth> struct KeyRing {
    static constexpr int kKeys = kWidth <= 72 ? 128 : 64;
    static constexpr int kBoxes = (kWidth + 63) / 64, kBoxBytes = kKeys * 128; // kBoxes: of values
    static constexpr int kWideBoxes = kWidth / 64, kNarrowBytes = kWidth % 64 > 0 ? kKeys * 32 : 0; // keys
    static_assert(kWidth % 64 <= 16, "a narrow box");
    static constexpr int kKeyBytes = kWideBoxes * kBoxBytes + kNarrowBytes;
    static constexpr int kStageBytes = kKeyBytes + kBoxes * kBoxBytes;
    static constexpr int kBytes = kRingStages * (kStageBytes + 2 * static_cast<int>(sizeof(mbarrier)));
    unsigned char *room;

    __device__ __forceinline__ unsigned char *keys(int slot) const { return room + slot * kStageBytes; }
    __device__ __forceinline__ unsigned char *values(int slot) const { return keys(slot) + kKeyBytes; }
    __device__ __forceinline__ mbarrier *full(int slot) const {
        return reinterpret_cast<mbarrier *>(room + kRingStages * kStageBytes) + slot;
    }
    __device__ __forceinline__ mbarrier *empty(int slot) const { return full(slot) + kRingStages; }

    /** By all threads of the block. */
    __device__ __forceinline__ void start() const {
        if (threadIdx.x == 0) {
            for (int slot = 0; slot < kRingStages; slot++) {
                mbarrier_init(full(slot), 1);
                mbarrier_init(empty(slot), kBoxConsumers / 32);
            }
            fence_mbarrier_init();
        }
        __syncthreads();
    }
};

/** A place in the ring, and the parity of its phase. */
struct RingPlace {
    int slot;
    unsigned phase;

    __device__ __forceinline__ void advance() {
        if (++slot == kRingStages) {
            slot = 0;
            phase ^= 1;
        }
    }
};

/** The copying thread, from `place` on, {0, 1} at first, when it finds every stage empty: load(block, keys,
 * values, barrier) issues copies of a whole stage. */
template <int kWidth, class Load>
__device__ __forceinline__ void fill_ring(const KeyRing<kWidth> &ring, RingPlace &place, int blocks,
                                          Load load) {
    for (int block = 0; block < blocks; block++, place.advance()) {
        mbarrier_wait(ring.empty(place.slot), place.phase);
        mbarrier_arrive_expect(ring.full(place.slot), KeyRing<kWidth>::kStageBytes);
        load(block, ring.keys(place.slot), ring.values(place.slot), ring.full(place.slot));
    }
}

/** The registers [1, n, 4] of a warpgroup's rows as a product has them. */
template <int n> __device__ __forceinline__ float (&flat(float (&parts)[1][n][4]))[4 * n] {
    return reinterpret_cast<float(&)[4 * n]>(parts);
}

/** Query rows, with zeros up to a multiple of a product's depth. */
template <int kWidth> using RingQueries = Queries<(kWidth + 15) / 16 * 16, 1>;

/** Issues scores = q · keysᵀ. */
template <int kWidth>
__device__ __forceinline__ void issue_scores(const RingQueries<kWidth> &q, const unsigned char *keys,
                                             Weights<KeyRing<kWidth>::kKeys, 1> &scores) {
#pragma unroll
    for (int step = 0; step < (kWidth + 15) / 16; step++) {
        const unsigned char *box = keys + step / 4 * KeyRing<kWidth>::kBoxBytes;
        const bool narrow = step / 4 >= KeyRing<kWidth>::kWideBoxes;
        uint64_t b = narrow ? narrow_descriptor(box, 256) : operand_descriptor(box + step % 4 * 32, 0, 1024);
        if constexpr (KeyRing<kWidth>::kKeys == 64)
            product_n64<false>(flat(scores.parts), q.parts[0][step], b, step > 0);
        else
            product_n128<false>(flat(scores.parts), q.parts[0][step], b, step > 0);
    }
}

/** Issues sums += weights · values. */
template <int kWidth>
__device__ __forceinline__ void issue_values(const uint32_t (&weights)[KeyRing<kWidth>::kKeys / 16][4],
                                             const unsigned char *values, Rows<kWidth, 1> &rows) {
#pragma unroll
    for (int step = 0; step < KeyRing<kWidth>::kKeys / 16; step++) {
        uint64_t b = operand_descriptor(values + step * 16 * 128, KeyRing<kWidth>::kBoxBytes, 1024);
        if constexpr (kWidth == 64)
            product_n64<true>(flat(rows.sums), weights[step], b, true);
        else if constexpr (kWidth == 72)
            product_n72<true>(flat(rows.sums), weights[step], b, true);
        else
            product_n128<true>(flat(rows.sums), weights[step], b, true);
    }
}

/**
 * A warpgroup's way over all blocks, from `here` on, {0, 0} at first, which it leaves behind them.
 * settle(block, values) is called when a block has come; masked(block) asks whether it has keys that some row
 * does not see, limit(block, half) how many of it a row of the lane sees. rows are closed at the end.
 */
template <int kWidth, class Settle, class Masked, class Limit>
__device__ __forceinline__ void attend_ring(const KeyRing<kWidth> &ring, RingPlace &here, int blocks,
                                            const RingQueries<kWidth> &q, float factor, Settle settle,
                                            Masked masked, Limit limit, Rows<kWidth, 1> &rows) {
    constexpr int kKeys = KeyRing<kWidth>::kKeys;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    Weights<kKeys, 1> scores;
    uint32_t weights[kKeys / 16][4];
    float change[1][2];
    auto weigh = [&](int block) {
        products_hold(flat(scores.parts));
        if (masked(block)) mask_keys(scores, [&](int, int half) { return limit(block, half); });
        weigh_keys(scores, factor, rows, change);
    };
    auto pack = [&] {
#pragma unroll
        for (int step = 0; step < kKeys / 16; step++) pack_weights(scores, 0, step, weights[step]);
    };
    mbarrier_wait(ring.full(here.slot), here.phase);
    settle(0, ring.values(here.slot));
    products_fence();
    issue_scores<kWidth>(q, ring.keys(here.slot), scores);
    products_commit();
    products_wait<0>();
    weigh(0);
    pack();
    for (int block = 1; block < blocks; block++) {
        RingPlace next = here;
        next.advance();
        mbarrier_wait(ring.full(next.slot), next.phase);
        settle(block, ring.values(next.slot));
        products_fence();
        issue_scores<kWidth>(q, ring.keys(next.slot), scores);
        products_commit();
        issue_values(weights, ring.values(here.slot), rows);
        products_commit();
        products_wait<1>();
        weigh(block);
        products_wait_behind(rows.total[0][0] + rows.total[0][1]);
        products_wait<0>();
        products_hold(flat(rows.sums));
        if (lane == 0) mbarrier_arrive(ring.empty(here.slot));
        rescale_rows(rows, change);
        pack();
        here = next;
    }
    products_fence();
    issue_values(weights, ring.values(here.slot), rows);
    products_commit();
    products_wait<0>();
    products_hold(flat(rows.sums));
    if (lane == 0) mbarrier_arrive(ring.empty(here.slot));
    here.advance();
    close_rows(rows);
}

/** The first of the query rows of a thread's warp among the block's: warpgroups 1 and 2 have 64 each. */
__device__ __forceinline__ int attending_row() {
    return (static_cast<int>(threadIdx.x) - 128) / 32 * 16;
}

} // namespace gp_cuda
