/**
 * The product of many rows on any GPU from sm_80 on: y = finish(x Wᵀ + s Bᵀ).
 *
 * A block of (kWarpsM × kWarpsN) warps computes a tile of rows × columns, a warp kRows × 32 of it in
 * registers, by mma.m16n8k16. x and W come through a ring of three stages of 64 along k (cp.async); rows of
 * 64 values are 128 bytes in shared memory, their eight 16-byte chunks permuted by ^ (row mod 8), so that
 * ldmatrix meets no bank twice. The addition of rank R is R/64 more stages, of [s | B] instead of [x | W]:
 * partial LoRA in one pass over W (arXiv 2401.16420); tiles without image rows leave them out.
 *
 * SwiGLU: the tile's rows of W are 16 of W1 and 16 of W3 in turn, so that a warp holds both factors of 16
 * columns. Their additions differ in s too: one after the other, each for its half.
 *
 * Packed QKV (qkv_end.cuh): the tile's rows of W are 16 of a head's first half and the 16 of its second that
 * turn with them in turn, so that a thread holds both.
 *
 * A tile ends 16 rows of a warp at a time, in a loop whose code stands once: 45 KB in all, where the same for
 * every pair of sums were 166.
 *
 * Large tile 128×128: 2·128·128·64 operations a stage against 32 KB read: 64 operations a byte of L2, and 96
 * KB of shared memory. Small tile 64×64, 48 KB, where the large would leave processors idle. Operations
 * 2·rows·columns·(depth + rank), bytes at least 2·(rows·depth + columns·depth) + the result.
 */
#include "kernels/cuda/epilogue.cuh"
#include "kernels/cuda/qkv_end.cuh"

#include <ptx/matrix.cuh>
#include <ptx/overlap.cuh>

namespace gp_cuda {

constexpr int kDepth = 64, kStages = 3, kWarpColumns = 32;

/** Byte offset of 16-byte chunk `chunk` of row `row` in a stage's tile. */
__device__ __forceinline__ int chunk_at(int row, int chunk) {
    return row * 2 * kDepth + ((chunk ^ (row & 7)) << 4);
}

/** Where the stages of a tile come from: W alone, or W and the additions. */
struct Plan {
    int main, added[2]; // stages
};

template <int kThreads, int kTileRows>
__device__ __forceinline__ void load_rows(unsigned char *tile, const uint16_t *source, int64_t stride,
                                          int64_t first, int64_t count, int k, int depth) {
    for (int i = threadIdx.x; i < kTileRows * 8; i += kThreads) {
        int row = i / 8, chunk = i % 8, left = depth - (k + chunk * 8);
        bool inside = first + row < count && left > 0;
        const uint16_t *from = inside ? source + (first + row) * stride + k + chunk * 8 : source;
        copy_async(tile + chunk_at(row, chunk), from, inside ? min(left * 2, 16) : 0);
    }
}

/** The column that a row of a packed QKV product's tile of W is for, `row` counted from the first tile's: 32
 * rows have 16 columns of either half of a head. */
__device__ __forceinline__ int qkv_column(int head_dim, int row) {
    const int parts = head_dim / 32, head = row / 32 / parts, part = row / 32 % parts;
    return head * head_dim + part * 16 + row % 16 + row / 16 % 2 * (head_dim / 2);
}

/** Ends 16 rows of a warp: sums of a thread's rows `row` and row + 8, of columns from the `column`-th of the
 * head's first half on, and of the second half. */
__device__ __forceinline__ void end_qkv_rows(const QkvEnd &end, int row, HeadColumn column, float (&low)[8],
                                             float (&high)[8]) {
    const RowPlace places[2] = {find_row(end, row), find_row(end, row + 8)};
    if (is_turned(end, column)) {
        Angles<2> angles;
        load_angles(end, {places[0].position, places[1].position}, column.at, angles);
        turn_sums(angles, low, high);
    }
    const HeadTarget targets(end, column);
#pragma unroll
    for (int half = 0; half < 2; half++) {
        if (places[half].position < 0) continue;
        uint16_t *target = targets.of_row(row + half * 8, places[half]) + column.at;
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const int at = 4 * j + 2 * half;
            uint32_t *words = reinterpret_cast<uint32_t *>(target + 8 * j);
            words[0] = pack_bf16(low[at], low[at + 1]);
            words[end.cache.head_dim / 4] = pack_bf16(high[at], high[at + 1]);
        }
    }
}

template <bool kSwiglu, int kWarpsM, int kWarpsN, int kRows, class End>
static __global__ void __launch_bounds__(kWarpsM *kWarpsN * 32, 1)
    multiply_tiles(const __grid_constant__ Gemm product, const __grid_constant__ End end) {
    constexpr bool kQkv = kIsQkv<End>, kHalves = kSwiglu || kQkv;
    follow_earlier();
    constexpr int kThreads = kWarpsM * kWarpsN * 32;
    constexpr int kTileM = kWarpsM * kRows, kTileN = kWarpsN * kWarpColumns; // rows of the W tile
    constexpr int kColumns = kSwiglu ? kTileN / 2 : kTileN;                  // of y
    constexpr int kStageBytes = (kTileM + kTileN) * 2 * kDepth;
    constexpr int kTilesM = kRows / 16, kTilesN = kWarpColumns / 8;
    unsigned char *shared = shared_memory<unsigned char>();
    const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
    const int warp_m = warp % kWarpsM, warp_n = warp / kWarpsM;
    const int64_t first_row = static_cast<int64_t>(blockIdx.x) * kTileM;
    const int first_column = blockIdx.y * kColumns;

    /* Does the tile have rows of the image? Every warp looks at all of them. */
    bool image = false;
    if (product.image_row != nullptr) {
#pragma unroll
        for (int row = lane; row < kTileM; row += 32) // |: no load waits for the one before it
            image |= first_row + row < product.rows && product.image_row[first_row + row] != 0;
        image = __any_sync(0xFFFFFFFFu, image) != 0;
        if (product.image_rows_alone && !image) { // the product that reads s may have larger tiles
            for (int i = thread; i < kTileM * kColumns / 2; i += kThreads) {
                int64_t row = first_row + i / (kColumns / 2);
                int column = first_column + i % (kColumns / 2) * 2;
                if (row < product.rows && column < product.columns) finish_pair(product, row, column, 0, 0);
            }
            return;
        }
    }
    Plan plan = {(product.depth + kDepth - 1) / kDepth, {0, 0}};
    for (int half = 0; half < (kSwiglu ? 2 : 1); half++)
        if (product.weight[half].s != nullptr && image)
            plan.added[half] = (product.weight[half].rank + kDepth - 1) / kDepth;
    const int stages = plan.main + plan.added[0] + plan.added[1];

    auto load = [&](int stage) {
        unsigned char *x_tile = shared + stage % kStages * kStageBytes,
                      *w_tile = x_tile + kTileM * 2 * kDepth;
        bool main = stage < plan.main;
        int half = !main && stage >= plan.main + plan.added[0] ? 1 : 0; // whose addition
        int k = (main ? stage : stage - plan.main - (half == 1 ? plan.added[0] : 0)) * kDepth;
        const Weight &own = product.weight[half];
        int depth = main ? product.depth : own.rank;
        load_rows<kThreads, kTileM>(x_tile, main ? product.x : own.s, main ? product.x_stride : own.s_stride,
                                    first_row, product.rows, k, depth);
        if constexpr (!kHalves)
            load_rows<kThreads, kTileN>(w_tile, main ? own.w : own.b, main ? own.w_stride : own.b_stride,
                                        first_column, product.columns, k, depth);
        for (int i = thread; kHalves && i < kTileN * 8;
             i += kThreads) { // rows 32·j … + 15 of W1, + 16 … + 31 of W3
            int row = i / 8, chunk = i % 8, factor = kSwiglu ? row / 16 % 2 : 0;
            const Weight &weight = product.weight[factor];
            int column = first_column + row / 32 * 16 + row % 16, left = depth - (k + chunk * 8);
            if constexpr (kQkv) column = qkv_column(end.cache.head_dim, first_column + row);
            bool inside = column < product.columns && left > 0 && (main || factor == half);
            const uint16_t *base = main ? weight.w : weight.b;
            int64_t stride = main ? weight.w_stride : weight.b_stride;
            copy_async(w_tile + chunk_at(row, chunk),
                       inside ? base + column * stride + k + chunk * 8 : product.x,
                       inside ? min(left * 2, 16) : 0);
        }
    };

    float sums[kTilesM][kTilesN][4];
#pragma unroll
    for (int i = 0; i < kTilesM; i++)
#pragma unroll
        for (int j = 0; j < kTilesN; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) sums[i][j][e] = 0;

    through_ring<kStages>(stages, load, [&](int stage) {
        const unsigned char *x_tile = shared + stage % kStages * kStageBytes,
                            *w_tile = x_tile + kTileM * 2 * kDepth;
#pragma unroll
        for (int k = 0; k < kDepth / 16; k++) {
            uint32_t a[kTilesM][4], b[kTilesN / 2][4];
#pragma unroll
            for (int i = 0; i < kTilesM; i++)
                load_tiles(a[i], x_tile + chunk_at(warp_m * kRows + i * 16 + lane % 16, 2 * k + lane / 16));
#pragma unroll
            for (int j = 0; j < kTilesN / 2;
                 j++) // lanes 0–7 and 8–15: two chunks of columns 0–7; 16–31: of 8–15
                load_tiles(b[j], w_tile + chunk_at(warp_n * kWarpColumns + j * 16 + lane / 16 * 8 + lane % 8,
                                                   2 * k + lane / 8 % 2));
#pragma unroll
            for (int i = 0; i < kTilesM; i++)
#pragma unroll
                for (int j = 0; j < kTilesN; j++)
                    multiply(sums[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
        }
    });

    if constexpr (kQkv) {
        const int first = qkv_column(end.cache.head_dim, first_column + warp_n * kWarpColumns);
        if (first >= product.columns) return;
        HeadColumn own = head_column(end, first);
        own.at += lane % 4 * 2;
#pragma unroll 1
        for (int i = 0; i < kTilesM; i++) {
            float low[8], high[8];
            with_constant<0, kTilesM>(i, [&](auto which) {
#pragma unroll
                for (int e = 0; e < 8; e++) {
                    low[e] = sums[which.value][e / 4][e % 4];
                    high[e] = sums[which.value][e / 4 + kTilesN / 2][e % 4];
                }
            });
            end_qkv_rows(end, static_cast<int>(first_row) + warp_m * kRows + i * 16 + lane / 4, own, low,
                         high);
        }
        return;
    }
    /* 16 rows at a time, so that activations stand here once; pair j of half h is columns 8·j …, row 8·h ….
     */
    constexpr int kPairs = kSwiglu ? kTilesN / 2 : kTilesN;
    const int column = first_column + warp_n * kPairs * 8 + lane % 4 * 2;
    float2 bias[kPairs] = {};
#pragma unroll
    for (int j = 0; j < kPairs; j++)
        if (product.bias != nullptr && column + 8 * j < product.columns) {
            bias[j].x = product.bias[column + 8 * j];
            if (column + 8 * j + 1 < product.columns) bias[j].y = product.bias[column + 8 * j + 1];
        }
#pragma unroll 1
    for (int i = 0; i < kTilesM; i++) {
        const int64_t row = first_row + warp_m * kRows + i * 16 + lane / 4;
        float y[4 * kPairs];
        with_constant<0, kTilesM>(i, [&](auto which) {
#pragma unroll
            for (int e = 0; e < 4 * kPairs; e++) {
                y[e] = sums[which.value][e / 4][e % 4];
                if constexpr (kSwiglu) y[e] = silu(y[e]) * sums[which.value][e / 4 + kTilesN / 2][e % 4];
            }
        });
        float2 residual[2 * kPairs] = {};
#pragma unroll
        for (int pair = 0; pair < 2 * kPairs; pair++) { // all are on their way before one is waited for
            int64_t at_row = row + pair % 2 * 8;
            int at_column = column + pair / 2 * 8;
            if (product.residual != nullptr && at_row < product.rows && at_column < product.columns)
                residual[pair] = load_pair(
                    product, product.residual + at_row * product.residual_stride + at_column, at_column);
        }
        if (product.bias != nullptr) {
#pragma unroll
            for (int e = 0; e < 4 * kPairs; e++) y[e] += e % 2 == 0 ? bias[e / 4].x : bias[e / 4].y;
        }
        activate_all(product.activation, y);
#pragma unroll
        for (int pair = 0; pair < 2 * kPairs; pair++) {
            int64_t at_row = row + pair % 2 * 8;
            int at_column = column + pair / 2 * 8;
            if (at_row >= product.rows || at_column >= product.columns) continue;
            float first = y[2 * pair], second = y[2 * pair + 1];
            if (product.image_rows_alone && product.image_row[at_row] == 0) first = second = 0;
            if (product.residual != nullptr) {
                first += residual[pair].x;
                second += residual[pair].y;
            }
            store_pair(product, at_row, at_column, first, second);
        }
    }
}

template <bool kSwiglu, int kWarpsM, int kWarpsN, int kRows, class End>
static void run(gp_backend *backend, const Gemm &product, const End &end) {
    constexpr int kTileM = kWarpsM * kRows, kTileN = kWarpsN * kWarpColumns,
                  kColumns = kSwiglu ? kTileN / 2 : kTileN;
    constexpr size_t kShared = static_cast<size_t>(kStages) * (kTileM + kTileN) * 2 * kDepth;
    static_assert(kShared <= kSharedBaseline, "the tile's stages");
    dim3 grid(blocks_for(product.rows, kTileM), blocks_for(product.columns, kColumns));
    GP_RUN_EARLY(backend, (multiply_tiles<kSwiglu, kWarpsM, kWarpsN, kRows, End>), grid,
                 kWarpsM * kWarpsN * 32, kShared, product, end);
}

template <bool kSwiglu, class End>
static void run_tiles(gp_backend *backend, const Gemm &product, const End &end) {
    int64_t large =
        static_cast<int64_t>(blocks_for(product.rows, 128)) * blocks_for(product.columns, kSwiglu ? 64 : 128);
    if (large < of(backend).processors)
        run<kSwiglu, 2, 2, 32>(backend, product, end);
    else
        run<kSwiglu, 2, 4, 64>(backend, product, end);
}

void gemm(gp_backend *backend, const Gemm &product, bool swiglu) {
    swiglu ? run_tiles<true>(backend, product, StoreEnd()) : run_tiles<false>(backend, product, StoreEnd());
}

bool gemm_qkv(gp_backend *backend, const Gemm &product, const QkvEnd &end) {
    if (end.cache.head_dim % kWarpColumns != 0) return false;
    run_tiles<false>(backend, product, end);
    return true;
}

} // namespace gp_cuda
