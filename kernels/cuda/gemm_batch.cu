/**
 * The product of decoding steps of several sequences, 9 to 64 rows at a time: y = finish(x Wᵀ).
 *
 * gemm_decode has a block for 16 columns and 8 rows: at 64 rows it would read W eight times, and x for each
 * of the blocks. Here a block of eight warps has 128 columns (SwiGLU: 64 of each factor), a warp 16 of them
 * for all rows, and a quarter of k. Pieces of 64 along k come through a ring of four stages (cp.async), read
 * by 16-byte loads as gemm_decode's lanes do, so that sums are the same to the bit: eight chains over every
 * eighth piece, added two by two, a block's share; the four shares go through memory, and add_parts adds them
 * in order and finishes. Rows of 64 values are 128 bytes in shared memory; of odd rows the two halves are
 * swapped, so that a quarter of a warp, which reads 64 bytes of two rows, meets no bank twice.
 *
 * Bytes, all through L2: W once, 2·columns·depth; x for each 128 columns (64 of SwiGLU's), 2·rows·depth each;
 * the shares written and read, 32·rows·columns for each factor. At 64 rows of the language model that is 1.6
 * to 1.8 times W. In flight: three stages of 24 KB a block.
 */
#include "kernels/cuda/epilogue.cuh"

#include <ptx/matrix.cuh>
#include <ptx/memory.cuh>
#include <ptx/overlap.cuh>

namespace gp_cuda {

constexpr int kWarps = 8, kThreads = kWarps * 32, kPiece = 64, kChains = 2 * kDecodeParts, kStages = 4;
constexpr int kWeightRows = kWarps * 16; // of W in a stage
constexpr int kRowsMost = 64;

/** Byte offset of 16-byte chunk `chunk` of row `row` in a stage's tile. */
__device__ __forceinline__ int chunk_at(int row, int chunk) {
    return row * 2 * kPiece + ((chunk ^ (row & 1) << 2) << 4);
}

/** Where shares lie: [parts, factors, 8·tiles rows, width], of the columns from `first_column` on. */
struct Shares {
    float *memory;
    int64_t first_row;
    int first_column, columns, width; // width: whole blocks'
};

template <bool kSwiglu, int kTiles>
static __global__ void __launch_bounds__(kThreads, 2)
    multiply_batch(const __grid_constant__ Gemm product, Shares shares) {
    constexpr int kFactors = kSwiglu ? 2 : 1, kWidth = kWeightRows / kFactors, kRows = 8 * kTiles;
    constexpr int kStageBytes = (kWeightRows + kRows) * 2 * kPiece;
    unsigned char *shared = shared_memory<unsigned char>();
    const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
    const int block_column = blockIdx.x * kWidth, part = blockIdx.y;
    const int pieces = (product.depth + kPiece - 1) / kPiece;
    auto pieces_of = [&](int chain) { return chain < pieces ? (pieces - chain + kChains - 1) / kChains : 0; };
    const int first_stages = pieces_of(2 * part), stages = first_stages + pieces_of(2 * part + 1);

    auto k_of = [&](int stage) {
        const int second = stage >= first_stages ? 1 : 0;
        return (2 * part + second + kChains * (stage - second * first_stages)) * kPiece;
    };
    let_next_begin();
    for (int i = thread; i < kStages * kWeightRows; i += kThreads) { // while x is still computed
        const int stage = i / kWeightRows, row = i % kWeightRows;
        const Weight &weight = product.weight[kSwiglu ? row / kWidth % 2 : 0];
        const int64_t column = shares.first_column + block_column + row % kWidth;
        if (stage < stages && column < product.columns)
            prefetch_l2(weight.w + column * weight.w_stride + k_of(stage));
    }
    await_earlier();

    auto load = [&](int stage) {
        const int k = k_of(stage);
        unsigned char *w_tile = shared + stage % kStages * kStageBytes,
                      *x_tile = w_tile + kWeightRows * 2 * kPiece;
        for (int i = thread; i < (kWeightRows + kRows) * 8; i += kThreads) {
            const bool of_x = i >= kWeightRows * 8;
            const int row = i / 8 - (of_x ? kWeightRows : 0), chunk = i % 8, at = k + chunk * 8;
            const Weight &weight = product.weight[kSwiglu ? row / kWidth % 2 : 0];
            const int64_t from =
                of_x ? shares.first_row + row : shares.first_column + block_column + row % kWidth;
            const bool inside = from < (of_x ? product.rows : product.columns) && at < product.depth;
            const uint16_t *source =
                of_x ? product.x + from * product.x_stride : weight.w + from * weight.w_stride;
            copy_async((of_x ? x_tile : w_tile) + chunk_at(row, chunk), inside ? source + at : product.x,
                       inside ? min(2 * (product.depth - at), 16) : 0);
        }
    };

    float sums[kTiles][4] = {}, both[kTiles][4] = {}; // a chain's; the two chains'
    through_ring<kStages>(stages, load, [&](int stage) {
        const unsigned char *w_tile = shared + stage % kStages * kStageBytes,
                            *x_tile = w_tile + kWeightRows * 2 * kPiece;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int chunk = half * 4 + lane % 4, row = warp * 16 + lane / 4;
            const uint4 low = load_16(w_tile + chunk_at(row, chunk)),
                        high = load_16(w_tile + chunk_at(row + 8, chunk));
#pragma unroll
            for (int tile = 0; tile < kTiles; tile++) {
                const uint4 right = load_16(x_tile + chunk_at(tile * 8 + lane / 4, chunk));
                multiply(sums[tile], {low.x, high.x, low.y, high.y}, right.x, right.y);
                multiply(sums[tile], {low.z, high.z, low.w, high.w}, right.z, right.w);
            }
        }
        if (stage + 1 == first_stages)
#pragma unroll
            for (int tile = 0; tile < kTiles; tile++)
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    both[tile][e] = sums[tile][e];
                    sums[tile][e] = 0;
                }
    });

    /* A lane holds columns lane/4 and + 8, rows 2·(lane mod 4) and + 1 of each tile. */
    const int factor = kSwiglu ? warp / (kWarps / 2) : 0;
    float *share = shares.memory + static_cast<int64_t>(part * kFactors + factor) * kRows * shares.width +
                   block_column + warp % (kWarps / kFactors) * 16 + lane / 4;
#pragma unroll
    for (int tile = 0; tile < kTiles; tile++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            int row = tile * 8 + lane % 4 * 2 + e % 2;
            if (shares.first_row + row < product.rows)
                share[static_cast<int64_t>(row) * shares.width + e / 2 * 8] = both[tile][e] + sums[tile][e];
        }
}

/** A thread has two neighbouring columns of a row. */
template <bool kSwiglu>
static __global__ void __launch_bounds__(kThreads)
    add_parts(const __grid_constant__ Gemm product, Shares shares, int rows) {
    constexpr int kFactors = kSwiglu ? 2 : 1;
    const int pairs = shares.width / 2, i = blockIdx.x * kThreads + threadIdx.x;
    const int row = i / pairs, column = i % pairs * 2;
    follow_earlier();
    if (shares.first_row + row >= product.rows || row >= rows || column >= shares.columns) return;
    float2 total[kFactors];
#pragma unroll
    for (int factor = 0; factor < kFactors; factor++)
#pragma unroll
        for (int part = 0; part < kDecodeParts; part++) {
            float2 share = *reinterpret_cast<const float2 *>(
                shares.memory + (static_cast<int64_t>(part * kFactors + factor) * rows + row) * shares.width +
                column);
            total[factor].x = part == 0 ? share.x : total[factor].x + share.x;
            total[factor].y = part == 0 ? share.y : total[factor].y + share.y;
        }
    float a = total[0].x, b = total[0].y;
    if (kSwiglu) {
        a = silu(a) * total[kFactors - 1].x;
        b = silu(b) * total[kFactors - 1].y;
    }
    finish_pair(product, shares.first_row + row, shares.first_column + column, a, b);
}

/** As many columns at a time as there is room for their shares. */
template <bool kSwiglu, int kTiles>
static void run(gp_backend *backend, const Gemm &product, int64_t first_row) {
    constexpr int kFactors = kSwiglu ? 2 : 1, kWidth = kWeightRows / kFactors, kRows = 8 * kTiles;
    constexpr size_t kShared = static_cast<size_t>(kStages) * (kWeightRows + kRows) * 2 * kPiece;
    static_assert(kShared <= kSharedBaseline, "the ring");
    constexpr int kColumnBytes = kDecodeParts * kFactors * kRows * static_cast<int>(sizeof(float));
    constexpr int kMost = static_cast<int>(kWorkspaceBytes / kColumnBytes / kWidth) * kWidth;
    for (int first = 0; first < product.columns; first += kMost) {
        Shares shares = {static_cast<float *>(of(backend).workspace), first_row, first, 0, 0};
        shares.columns = product.columns - first < kMost ? product.columns - first : kMost;
        const unsigned blocks = blocks_for(shares.columns, kWidth);
        shares.width = static_cast<int>(blocks) * kWidth;
        GP_RUN_EARLY(backend, (multiply_batch<kSwiglu, kTiles>), dim3(blocks, kDecodeParts), kThreads,
                     kShared, product, shares);
        GP_RUN_EARLY(backend, (add_parts<kSwiglu>),
                     blocks_for(static_cast<int64_t>(kRows) * shares.width / 2, kThreads), kThreads, 0,
                     product, shares, kRows);
    }
}

template <bool kSwiglu>
static void choose(gp_backend *backend, const Gemm &product, int64_t first_row, int64_t rows) {
    if (rows <= 16)
        run<kSwiglu, 2>(backend, product, first_row);
    else if (rows <= 32)
        run<kSwiglu, 4>(backend, product, first_row);
    else
        run<kSwiglu, 8>(backend, product, first_row);
}

void gemm_batch(gp_backend *backend, const Gemm &product, bool swiglu) {
    for (int64_t first = 0; first < product.rows; first += kRowsMost) {
        int64_t rows = product.rows - first < kRowsMost ? product.rows - first : kRowsMost;
        swiglu ? choose<true>(backend, product, first, rows) : choose<false>(backend, product, first, rows);
    }
}

} // namespace gp_cuda
