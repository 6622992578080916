/**
 * The product of few rows, where reading the weights is the work: y = finish(x Wᵀ) for decoding steps.
 *
 * A block of eight warps computes 16 columns (SwiGLU: 16 of each factor) for up to 8 rows. Weights are the
 * left operand of mma.m16n8k16 (16 rows of W), rows of x the right one. They go from memory to
 * registers by 16-byte loads, 64 bytes a row of W: a lane's eight values of k serve two products, their order
 * along k permuted alike in both operands. Warp w takes every eighth piece of 64 along k, beginning with the
 * w-th, so that a block reads rows of W from end to end; the eight sums are added through shared memory, two
 * by two and then in order. Which row, and how many others, changes nothing.
 *
 * Bytes: W once for every 8 rows, 2·columns·depth, and through L2 x for each block, 2·rows·depth: at 8 rows
 * half as much as W. In flight, all the time: 4 loads of 16 bytes a thread and factor, 256 threads, two
 * blocks a processor: 32 KB or more, which covers the ~25 KB that 4.3 TB/s over 132 processors at 750 ns
 * need. Launched early, a block asks for its warps' first pieces and kAhead more, in L2, before it waits for
 * x: 16 KB and 32 KB, three blocks a processor.
 */
#include "kernels/cuda/epilogue.cuh"

#include <ptx/matrix.cuh>
#include <ptx/memory.cuh>
#include <ptx/overlap.cuh>

namespace gp_cuda {

constexpr int kWarps = 8, kPiece = 64, kColumns = 16;
constexpr int kAhead = 2; // pieces of a warp that are asked for in L2 while x is still computed

/** The eight values of k at `k` of a row, 0 beyond its `depth`. Rows are padded to 16 bytes, whose rest is
 * not read: a depth that is no multiple of eight has kernels of its own (kRagged), the others none of this
 * code. */
template <bool kRagged>
__device__ __forceinline__ uint4 load_eight(const uint16_t *row, int k, int depth, bool inside, bool once) {
    if (!inside || k >= depth) return make_uint4(0, 0, 0, 0);
    if constexpr (kRagged)
        if (k + 8 > depth) {
            uint32_t words[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                uint32_t low = k + 2 * i < depth ? row[k + 2 * i] : 0,
                         high = k + 2 * i + 1 < depth ? row[k + 2 * i + 1] : 0;
                words[i] = low | high << 16;
            }
            return make_uint4(words[0], words[1], words[2], words[3]);
        }
    return once ? load_once(row + k) : load_16(row + k);
}

/** A warp's part of a piece of W, 16 rows of 64 values. */
struct Piece {
    uint4 half[2][2]; // [k half][row group or + 8]
};

template <bool kRagged>
__device__ __forceinline__ Piece load_piece(const uint16_t *w, int64_t stride, int columns, int k,
                                            int depth) {
    const int lane = static_cast<int>(threadIdx.x) % 32, group = lane / 4, part = lane % 4 * 8;
    Piece piece;
#pragma unroll
    for (int half = 0; half < 2; half++)
#pragma unroll
        for (int upper = 0; upper < 2; upper++) {
            int column = group + 8 * upper;
            piece.half[half][upper] =
                load_eight<kRagged>(w + column * stride, k + half * 32 + part, depth, column < columns, true);
        }
    return piece;
}

/** Asks for kAhead pieces of each of the block's warps behind `k`: a lane for a row of W. */
__device__ __forceinline__ void ask_ahead(const uint16_t *w, int64_t stride, int columns, int k, int depth) {
    const int column = static_cast<int>(threadIdx.x) % 32;
    if (column >= min(columns, kColumns)) return;
#pragma unroll
    for (int ahead = 1; ahead <= kAhead; ahead++)
        if (k + ahead * kWarps * kPiece < depth)
            prefetch_l2(w + column * stride + k + ahead * kWarps * kPiece);
}

/** sums += the warp's pieces of W [16 columns] against x [8 rows]. The next piece is on its way while one is
 * multiplied. kFirst: x may not have been computed yet; W is. */
template <bool kRagged, bool kFirst, int kFactors>
__device__ __forceinline__ void add_pieces(float (&sums)[kFactors][4], const uint16_t *const (&w)[kFactors],
                                           int64_t w_stride, const uint16_t *x, int64_t x_stride, int rows,
                                           int columns, int depth) {
    const int lane = static_cast<int>(threadIdx.x) % 32, row = lane / 4, part = lane % 4 * 8;
    int k = static_cast<int>(threadIdx.x) / 32 * kPiece;
    Piece present[kFactors], next[kFactors];
#pragma unroll
    for (int f = 0; f < kFactors; f++) present[f] = load_piece<kRagged>(w[f], w_stride, columns, k, depth);
    if constexpr (kFirst) {
#pragma unroll
        for (int f = 0; f < kFactors; f++) ask_ahead(w[f], w_stride, columns, k, depth);
        await_earlier();
    }
#pragma unroll 1
    for (; k < depth; k += kWarps * kPiece) {
        uint4 right[2];
#pragma unroll
        for (int half = 0; half < 2; half++)
            right[half] =
                load_eight<kRagged>(x + row * x_stride, k + half * 32 + part, depth, row < rows, false);
#pragma unroll
        for (int f = 0; f < kFactors; f++)
            next[f] = load_piece<kRagged>(w[f], w_stride, columns, k + kWarps * kPiece, depth);
#pragma unroll
        for (int half = 0; half < 2; half++)
#pragma unroll
            for (int f = 0; f < kFactors; f++) {
                const uint4 &low = present[f].half[half][0], &high = present[f].half[half][1];
                multiply(sums[f], {low.x, high.x, low.y, high.y}, right[half].x, right[half].y);
                multiply(sums[f], {low.z, high.z, low.w, high.w}, right[half].z, right[half].w);
            }
#pragma unroll
        for (int f = 0; f < kFactors; f++) present[f] = next[f];
    }
}

template <bool kSwiglu, bool kRagged>
static __global__ void __launch_bounds__(kWarps * 32, kSwiglu ? 2 : 3)
    multiply_few(const __grid_constant__ Gemm product, int64_t first_row) {
    constexpr int kFactors = kSwiglu ? 2 : 1;
    float *shared = shared_memory<float>(); // [warps][factors][rows][16 columns]
    const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
    const int first = blockIdx.x * kColumns, columns = product.columns - first;
    const int64_t left = product.rows - first_row;
    const int rows = static_cast<int>(left < kFewRows ? left : kFewRows);

    let_next_begin();
    /* Rows of the image among these: the low-rank addition is theirs alone, and rare in decoding. */
    bool image = false;
    if (product.image_row != nullptr) {
        await_earlier();
        image = lane < rows && product.image_row[first_row + lane] != 0;
        image = __any_sync(0xFFFFFFFFu, image) != 0;
        if (product.image_rows_alone && !image) return;
    }

    float sums[kFactors][4] = {};
    const uint16_t *w[kFactors];
#pragma unroll
    for (int f = 0; f < kFactors; f++) w[f] = product.weight[f].w + first * product.weight[f].w_stride;
    add_pieces<kRagged, true, kFactors>(sums, w, product.weight[0].w_stride,
                                        product.x + first_row * product.x_stride, product.x_stride, rows,
                                        columns, product.depth);
    if (image && !product.image_rows_alone)
#pragma unroll
        for (int f = 0; f < kFactors; f++) {
            const Weight &own = product.weight[f];
            const uint16_t *b[1] = {own.b + first * own.b_stride};
            float added[1][4] = {};
            add_pieces<kRagged, false, 1>(added, b, own.b_stride, own.s + first_row * own.s_stride,
                                          own.s_stride, rows, columns, own.rank);
#pragma unroll
            for (int e = 0; e < 4; e++) sums[f][e] += added[0][e];
        }

        /* A lane holds columns lane/4 and + 8, rows 2·(lane mod 4) and + 1. */
#pragma unroll
    for (int f = 0; f < kFactors; f++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            int column = lane / 4 + e / 2 * 8, row = lane % 4 * 2 + e % 2;
            shared[((warp * kFactors + f) * kFewRows + row) * kColumns + column] = sums[f][e];
        }
    __syncthreads();
    for (int i = thread; i < rows * (kColumns / 2); i += kWarps * 32) {
        int row = i / (kColumns / 2), column = i % (kColumns / 2) * 2;
        if (column >= columns) continue;
        float total[kFactors][2];
#pragma unroll
        for (int f = 0; f < kFactors; f++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                auto of_warp = [&](int from) {
                    return shared[((from * kFactors + f) * kFewRows + row) * kColumns + column + e];
                };
                float sum = of_warp(0) + of_warp(1);
#pragma unroll
                for (int part = 1; part < kDecodeParts; part++)
                    sum += of_warp(2 * part) + of_warp(2 * part + 1);
                total[f][e] = sum;
            }
        float a = total[0][0], b = total[0][1];
        if (kSwiglu) {
            a = silu(a) * total[kFactors - 1][0];
            b = silu(b) * total[kFactors - 1][1];
        }
        finish_pair(product, first_row + row, first + column, a, b);
    }
}

template <bool kSwiglu, bool kRagged>
static void run(gp_backend *backend, const Gemm &product, int64_t first_row) {
    constexpr size_t kShared =
        static_cast<size_t>(kWarps) * (kSwiglu ? 2 : 1) * kColumns * kFewRows * sizeof(float);
    static_assert(kShared <= kSharedBaseline, "sums of eight warps");
    GP_RUN_EARLY(backend, (multiply_few<kSwiglu, kRagged>), blocks_for(product.columns, kColumns),
                 kWarps * 32, kShared, product, first_row);
}

template <bool kSwiglu> static void choose(gp_backend *backend, const Gemm &product, int64_t first_row) {
    bool ragged = product.depth % 8 != 0;
    for (const Weight &weight : product.weight) ragged = ragged || weight.rank % 8 != 0;
    ragged ? run<kSwiglu, true>(backend, product, first_row)
           : run<kSwiglu, false>(backend, product, first_row);
}

void gemm_decode(gp_backend *backend, const Gemm &product, bool swiglu) {
    for (int64_t first = 0; first < product.rows; first += kFewRows)
        swiglu ? choose<true>(backend, product, first) : choose<false>(backend, product, first);
}

} // namespace gp_cuda
