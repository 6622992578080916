/**
 * The product of few rows, where reading the weights is the work: y = finish(x Wᵀ) for decoding steps.
 *
 * A block of eight warps computes 16 columns (SwiGLU: 16 of each factor) for up to 64 rows. Weights are the
 * left operand of mma.m16n8k16 (16 rows of W), rows of x the right one (8 at a time). They go from memory to
 * registers by 16-byte loads, 64 bytes a row of W: a lane's eight values of k serve two products, their order
 * along k permuted alike in both operands. Warp w takes every eighth piece of 64 along k, beginning with the
 * w-th, so that a block reads rows of W from end to end; the eight sums are added in order through shared
 * memory. Which row, and how many others, changes nothing.
 *
 * Bytes: W once for every 64 rows, 2·columns·depth; operations 2·rows·columns·depth are hidden behind them up
 * to ~200 rows. In flight: 4 loads of 16 bytes a thread and factor, 256 threads, two blocks a processor: 32
 * KB or more, which covers the ~25 KB that 4.3 TB/s over 132 processors at 750 ns need.
 */
#include "kernels/cuda/epilogue.cuh"

#include <ptx/matrix.cuh>
#include <ptx/memory.cuh>

namespace gp_cuda {

constexpr int kWarps = 8, kPiece = 64, kColumns = 16, kRowsMost = 64;

/** The eight values of k at `k` of a row, 0 beyond its `depth`. Rows are padded to 16 bytes, whose rest is
 * not read: a depth that is no multiple of eight has kernels of its own (`ragged`), the others none of this
 * code. */
template <bool ragged>
__device__ __forceinline__ uint4 load_eight(const uint16_t *row, int k, int depth, bool inside, bool once) {
    uint4 zero = make_uint4(0, 0, 0, 0);
    if (!inside || k >= depth) return zero;
    if constexpr (ragged)
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

/** sums += the warp's pieces of W [16 columns] against x [8·kTiles rows]. */
template <bool ragged, int kFactors, int kTiles>
__device__ __forceinline__ void
add_pieces(float (&sums)[kFactors][kTiles][4], const uint16_t *const (&w)[kFactors], int64_t w_stride,
           const uint16_t *x, int64_t x_stride, int rows, int columns, int depth, int warp, int lane) {
    const int group = lane / 4, part = lane % 4 * 8;
    for (int k = warp * kPiece; k < depth; k += kWarps * kPiece) {
        uint4 left[kFactors][2][2]; // [factor][k half][row group or + 8]
#pragma unroll
        for (int f = 0; f < kFactors; f++)
#pragma unroll
            for (int half = 0; half < 2; half++)
#pragma unroll
                for (int upper = 0; upper < 2; upper++) {
                    int column = group + 8 * upper;
                    left[f][half][upper] = load_eight<ragged>(w[f] + column * w_stride, k + half * 32 + part,
                                                              depth, column < columns, true);
                }
#pragma unroll
        for (int tile = 0; tile < kTiles; tile++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                int row = tile * 8 + group;
                uint4 right =
                    load_eight<ragged>(x + row * x_stride, k + half * 32 + part, depth, row < rows, false);
#pragma unroll
                for (int f = 0; f < kFactors; f++) {
                    const uint4 &low = left[f][half][0], &high = left[f][half][1];
                    multiply(sums[f][tile], {low.x, high.x, low.y, high.y}, right.x, right.y);
                    multiply(sums[f][tile], {low.z, high.z, low.w, high.w}, right.z, right.w);
                }
            }
    }
}

template <bool kSwiglu, int kTiles, bool kRagged>
static __global__ void __launch_bounds__(kWarps * 32)
    multiply_few(const __grid_constant__ Gemm product, int64_t first_row) {
    constexpr int kFactors = kSwiglu ? 2 : 1;
    float *shared = shared_memory<float>(); // [warps][factors][16 columns][8·tiles rows]
    const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
    const int first = blockIdx.x * kColumns, columns = product.columns - first;
    const int64_t left = product.rows - first_row;
    const int rows = static_cast<int>(left < 8 * kTiles ? left : 8 * kTiles);

    /* Rows of the image among these: the low-rank addition is theirs alone, and rare in decoding. */
    bool image = false;
    if (product.image_row != nullptr) {
        for (int row = lane; row < rows; row += 32) image = image || product.image_row[first_row + row] != 0;
        image = __any_sync(0xFFFFFFFFu, image) != 0;
        if (product.image_rows_alone && !image) return;
    }

    float sums[kFactors][kTiles][4] = {};
    const uint16_t *w[kFactors];
#pragma unroll
    for (int f = 0; f < kFactors; f++) w[f] = product.weight[f].w + first * product.weight[f].w_stride;
    add_pieces<kRagged, kFactors, kTiles>(sums, w, product.weight[0].w_stride,
                                          product.x + first_row * product.x_stride, product.x_stride, rows,
                                          columns, product.depth, warp, lane);
    if (image && !product.image_rows_alone)
#pragma unroll
        for (int f = 0; f < kFactors; f++) {
            const Weight &own = product.weight[f];
            const uint16_t *b[1] = {own.b + first * own.b_stride};
            float added[1][kTiles][4] = {};
            add_pieces<kRagged, 1, kTiles>(added, b, own.b_stride, own.s + first_row * own.s_stride,
                                           own.s_stride, rows, columns, own.rank, warp, lane);
#pragma unroll
            for (int tile = 0; tile < kTiles; tile++)
#pragma unroll
                for (int e = 0; e < 4; e++) sums[f][tile][e] += added[0][tile][e];
        }

        /* A lane holds columns lane/4 and + 8, rows 2·(lane mod 4) and + 1 of each tile. */
#pragma unroll
    for (int f = 0; f < kFactors; f++)
#pragma unroll
        for (int tile = 0; tile < kTiles; tile++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                int column = lane / 4 + e / 2 * 8, row = tile * 8 + lane % 4 * 2 + e % 2;
                shared[((warp * kFactors + f) * 8 * kTiles + row) * kColumns + column] = sums[f][tile][e];
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
                float sum = 0;
#pragma unroll
                for (int from = 0; from < kWarps; from++)
                    sum += shared[((from * kFactors + f) * 8 * kTiles + row) * kColumns + column + e];
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

template <bool kSwiglu, int kTiles, bool kRagged = false>
static void run(gp_backend *backend, const Gemm &product, int64_t first_row) {
    constexpr size_t kShared =
        static_cast<size_t>(kWarps) * (kSwiglu ? 2 : 1) * kColumns * 8 * kTiles * sizeof(float);
    static_assert(kShared <= kSharedBaseline, "sums of eight warps");
    GP_RUN(backend, (multiply_few<kSwiglu, kTiles, kRagged>), blocks_for(product.columns, kColumns),
           kWarps * 32, kShared, product, first_row);
}

template <bool kSwiglu>
static void choose(gp_backend *backend, const Gemm &product, int64_t first_row, int64_t rows) {
    bool ragged = product.depth % 8 != 0;
    for (const Weight &weight : product.weight) ragged = ragged || weight.rank % 8 != 0;
    if (ragged) // seldom, so that one size does
        run<kSwiglu, 8, true>(backend, product, first_row);
    else if (rows <= 8)
        run<kSwiglu, 1>(backend, product, first_row);
    else if (rows <= 16)
        run<kSwiglu, 2>(backend, product, first_row);
    else if (rows <= 32)
        run<kSwiglu, 4>(backend, product, first_row);
    else
        run<kSwiglu, 8>(backend, product, first_row);
}

void gemm_decode(gp_backend *backend, const Gemm &product, bool swiglu) {
    for (int64_t first = 0; first < product.rows; first += kRowsMost) {
        int64_t rows = product.rows - first < kRowsMost ? product.rows - first : kRowsMost;
        swiglu ? choose<true>(backend, product, first, rows) : choose<false>(backend, product, first, rows);
    }
}

} // namespace gp_cuda
