/**
 * The product of many rows on Hopper: y = finish(x Wᵀ + s Bᵀ) by tensor copies and wgmma.
 *
 * Persistent blocks of three warpgroups, one a processor. One thread of the first copies boxes [128 rows of x
 * | kTileN rows of W] × 64 along k into a ring of stages, each with a mbarrier that counts its bytes; the two
 * others multiply 64 rows each, 64 × kTileN sums in registers, one stage of four wgmma m64nNk16 in flight
 * while the one before it is given back. While they finish a tile, the ring already fills for the next. The
 * addition of rank R is R/64 more stages of [s | B]; tiles without image rows leave them out (partial LoRA in
 * one pass, arXiv 2401.16420).
 *
 * Results that are operands alone have kernels of their own (kOctets): with both ends in one it spills.
 *
 * SwiGLU: kTileN/2 rows of W1 and of W3 a stage, two products of half the width; then the two additions one
 * after the other.
 *
 * Packed QKV ends as qkv_end.cuh says where heads have 64 or 128 numbers: a thread has both halves of a head
 * in its sums. Its tables are on their way while the tile's products run, and each next part of them while a
 * part is stored.
 *
 * Tiles 128 × 256, 48 KB a stage, four stages: 4.2 MFLOP against 48 KB from L2, 87 operations a byte, which
 * at 790 TFLOP/s asks 9 TB/s of L2 in all; 128, 144 or 64 columns, six stages, for narrower results. Tiles go
 * through x in groups of eight row tiles, so that what is read together stays in L2. Operations
 * 2·rows·columns·(depth + rank).
 */
#include "kernels/cuda/epilogue.cuh"
#include "kernels/cuda/qkv_end.cuh"

#include <ptx/overlap.cuh>
#include <ptx/registers.cuh>
#include <ptx/tensor_copy.cuh>
#include <ptx/wgmma.cuh>

namespace gp_cuda {

constexpr int kTileM = 128, kDepth = 64, kGroup = 8, kThreads = 384;
constexpr int kXBytes = kTileM * kDepth * 2;
constexpr int kConsumerWarps = 8;
[[maybe_unused]] constexpr int kProducerRegisters = 40, kConsumerRegisters = 232; // 128·40 + 256·232 ≤ 65,536

/** The maps of x and of the weights and additions. */
struct Maps {
    tensor_map x, w[2], s[2], b[2];
};

template <int kTileN> constexpr int kStagesFor = kTileN == 256 ? 4 : 6;

/** Columns of a patch, of which a tile of kWidth has a whole number. */
template <int kWidth> constexpr int kPatchColumns = kWidth % 64 == 0 ? 64 : 48;

/** Shared memory of one warp: its patch and its copy of the tile's bias. */
template <bool kSwiglu, int kWidth>
constexpr int kWarpBytes = kPatchBytes<kPatchColumns<kWidth>> + (kSwiglu ? 0 : 4 * kWidth);

/** The tile's place: groups of kGroup row tiles, in them column by column. */
__device__ __forceinline__ void place_of(int tile, int tiles_m, int tiles_n, int &m, int &n) {
    int group = tile / (kGroup * tiles_n), in_group = tile % (kGroup * tiles_n);
    int height = min(kGroup, tiles_m - group * kGroup);
    m = group * kGroup + in_group % height;
    n = in_group / height;
}

/** Whether rows first … of the tile are the image's; all lanes of a warp ask together. */
__device__ __forceinline__ bool has_image_rows(const Gemm &product, int64_t first, int lane) {
    if (product.image_row == nullptr) return false;
    const uint8_t *own = product.image_row + first + lane;
    const int left = static_cast<int>(min(product.rows - first, static_cast<int64_t>(kTileM))) - lane;
    int image = 0;
#pragma unroll
    for (int row = 0; row < kTileM; row += 32) // |: no load waits for the one before it
        image |= row < left ? own[row] : 0;
    return __any_sync(0xFFFFFFFFu, image) != 0;
}

/** Stages of x·W and of the two additions in a tile. */
struct Parts {
    int main, added[2];
    __device__ int all() const { return main + added[0] + added[1]; }
};

__device__ __forceinline__ Parts parts_of(const Gemm &product, bool swiglu, bool image) {
    Parts parts = {(product.depth + kDepth - 1) / kDepth, {0, 0}};
    if (!image) return parts;
    for (int half = 0; half < (swiglu ? 2 : 1); half++)
        if (product.weight[half].s != nullptr)
            parts.added[half] = (product.weight[half].rank + kDepth - 1) / kDepth;
    return parts;
}

template <int n, int count>
__device__ __forceinline__ void product_step(float (&d)[count], uint64_t a, uint64_t b) {
    if constexpr (n == 64)
        product_n64<false>(d, a, b, true);
    else if constexpr (n == 128)
        product_n128<false>(d, a, b, true);
    else if constexpr (n == 144)
        product_n144<false>(d, a, b, true);
    else
        product_n256<false>(d, a, b, true);
}

/** Fills the warp's patch with the `which`-th of `patches` parts of its sums: halves of its rows in turn,
 * some columns at a time. */
template <int columns, int patches, int count>
__device__ __forceinline__ void put_patch(float *patch, const float (&sums)[count], int which) {
    with_constant<0, patches>(which, [&](auto part) {
#pragma unroll
        for (int j = 0; j < columns / 8; j++) {
            const int at = 4 * (part.value / 2 * (columns / 8) + j) + 2 * (part.value % 2);
            put_pair<columns>(patch, j, sums[at], sums[at + 1]);
        }
    });
}

/** A warp's 16 rows of packed QKV, in pieces of 32 columns: units are a piece of a head's first half and that
 * which it turns with. A lane knows the place of row lane mod 16. */
struct QkvRows {
    int first;
    RowPlace own;
    int positions[2]; // of rows lane/4 and lane/4 + 8, whose sums a lane has

    __device__ __forceinline__ void find(const QkvEnd &end, int first_row) {
        const int lane = static_cast<int>(threadIdx.x) % 32;
        first = first_row;
        own = find_row(end, first + lane % 16);
#pragma unroll
        for (int half = 0; half < 2; half++)
            positions[half] = __shfl_sync(0xFFFFFFFFu, own.position, lane / 4 + 8 * half);
    }
};

/** The piece of a unit's first half, in heads of 64 or 128. */
__device__ __forceinline__ int low_piece(int head_dim, int unit) {
    return head_dim == 128 ? unit / 2 * 4 + unit % 2 : 2 * unit;
}

/** Issues the loads of a unit's angles, where it is turned. */
__device__ __forceinline__ void load_unit_angles(const QkvEnd &end, const QkvRows &rows,
                                                 const HeadColumn &unit, Angles<4> &angles) {
    if (is_turned(end, unit))
        load_angles(end, rows.positions, unit.at + static_cast<int>(threadIdx.x) % 4 * 2, angles);
}

/** Stores a unit: its first half's sums, then its second's. */
__device__ __forceinline__ void store_unit(const QkvEnd &end, const QkvRows &rows, void *patch,
                                           const HeadColumn &unit, const float (&y)[32]) {
    uint4 octets[4];
    exchange_sums<64>(patch, y, octets);
    const HeadTarget target(end, unit);
    const int across = octet_column<64>();
    const int at = unit.at + across % 32 + across / 32 * (end.cache.head_dim / 2);
#pragma unroll
    for (int turn = 0; turn < 4; turn++) {
        const int row = octet_row<64>() + 4 * turn;
        const RowPlace own = {__shfl_sync(0xFFFFFFFFu, rows.own.position, row),
                              __shfl_sync(0xFFFFFFFFu, rows.own.page, row)};
        if (own.position >= 0) store_16(target.of_row(rows.first + row, own) + at, octets[turn]);
    }
}

template <bool kSwiglu, int kTileN, bool kOctets, class End>
static __global__ void __launch_bounds__(kThreads, 1)
    multiply_boxes(const __grid_constant__ Gemm product, const __grid_constant__ Maps maps,
                   const __grid_constant__ End end) {
#if GP_HOPPER
    constexpr bool kQkv = kIsQkv<End>;
    constexpr int kStages = kStagesFor<kTileN>, kFactors = kSwiglu ? 2 : 1;
    constexpr int kWidth = kTileN / kFactors; // columns of y
    constexpr int kAcross = kPatchColumns<kWidth>, kGroups = kWidth / kAcross;
    static_assert(kOctets || !kSwiglu, "SwiGLU gives operands alone");
    constexpr int kWBytes = kWidth * kDepth * 2, kStageBytes = kXBytes + kFactors * kWBytes;
    unsigned char *shared = shared_memory<unsigned char>();
    mbarrier *full = reinterpret_cast<mbarrier *>(shared + kStages * kStageBytes +
                                                  kConsumerWarps * kWarpBytes<kSwiglu, kWidth>),
             *empty = full + kStages;
    const int thread = threadIdx.x, lane = thread % 32, warpgroup = thread / 128;
    const int tiles_m = static_cast<int>((product.rows + kTileM - 1) / kTileM);
    const int tiles_n = (product.columns + kWidth - 1) / kWidth, tiles = tiles_m * tiles_n;
    if (thread == 0) {
        for (int stage = 0; stage < kStages; stage++) {
            mbarrier_init(full + stage, 1);
            mbarrier_init(empty + stage, kConsumerWarps);
        }
        fence_mbarrier_init();
    }
    __syncthreads();
    follow_earlier();

    if (warpgroup == 0) {
        give_registers<kProducerRegisters>();
        if (thread >= 32) return;
        int slot = 0;
        unsigned phase = 1; // the first pass finds every stage empty
        for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
            int m, n;
            place_of(tile, tiles_m, tiles_n, m, n);
            bool image = has_image_rows(product, static_cast<int64_t>(m) * kTileM, lane);
            if (product.image_rows_alone && !image) continue;
            Parts parts = parts_of(product, kSwiglu, image);
            if (lane == 0)
#pragma unroll 1 // four times as much code would not copy faster
                for (int stage = 0; stage < parts.all(); stage++) {
                    bool main = stage < parts.main;
                    int half = !main && stage >= parts.main + parts.added[0] ? 1 : 0;
                    int k = (main ? stage : stage - parts.main - (half == 1 ? parts.added[0] : 0)) * kDepth;
                    unsigned char *x_box = shared + slot * kStageBytes;
                    mbarrier_wait(empty + slot, phase);
                    mbarrier_arrive_expect(full + slot, kXBytes + (main ? kFactors : 1) * kWBytes);
                    tensor_load(main ? &maps.x : &maps.s[half], x_box, k, m * kTileM, full + slot);
                    for (int factor = 0; factor < kFactors; factor++)
                        if (main || factor == half)
                            tensor_load(main ? &maps.w[factor] : &maps.b[half],
                                        x_box + kXBytes + factor * kWBytes, k, n * kWidth, full + slot);
                    if (++slot == kStages) {
                        slot = 0;
                        phase ^= 1;
                    }
                }
        }
    } else {
        take_registers<kConsumerRegisters>();
        const int consumer = warpgroup - 1, warp = thread / 32 % 4;
        float *patches = reinterpret_cast<float *>(shared + kStages * kStageBytes +
                                                   (consumer * 4 + warp) * kWarpBytes<kSwiglu, kWidth>);
        [[maybe_unused]] float *warp_bias = patches + kPatchBytes<kAcross> / sizeof(float);
        float sums[kFactors][kWidth / 2];
        int slot = 0;
        unsigned phase = 0;
        for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
            int m, n;
            place_of(tile, tiles_m, tiles_n, m, n);
            const int64_t first_row = static_cast<int64_t>(m) * kTileM;
            bool image = has_image_rows(product, first_row, lane);
            if (product.image_rows_alone && !image) continue;
            Parts parts = parts_of(product, kSwiglu, image);
            int before = -1; // the slot whose products are under way
            const int64_t warp_row = first_row + consumer * 64 + warp * 16;
            const int rows_left = static_cast<int>(min(product.rows - warp_row, static_cast<int64_t>(16)));
            [[maybe_unused]] auto place_patch = [&](int patch) {
                return place_quads<kAcross>(product, warp_row + patch % 2 * kPatchRows,
                                            n * kWidth + patch / 2 * kAcross,
                                            rows_left - patch % 2 * kPatchRows);
            };
            /* On their way while the products run; SwiGLU has neither. */
            [[maybe_unused]] float4 bias[(kWidth + 127) / 128], next[kTurns] = {};
            [[maybe_unused]] QkvRows rows;
            [[maybe_unused]] HeadColumn unit;
            [[maybe_unused]] Angles<4> angles;
            if constexpr (kQkv) {
                rows.find(end, static_cast<int>(warp_row));
                unit = head_column(end, n * kWidth);
                load_unit_angles(end, rows, unit, angles);
            } else if constexpr (!kSwiglu)
                if (product.quads) {
                    load_bias<kWidth>(product, n * kWidth, bias);
                    if constexpr (!kOctets)
                        if (product.residual != nullptr) load_residual(product, place_patch(0), next);
                }
#pragma unroll
            for (int factor = 0; factor < kFactors; factor++)
#pragma unroll
                for (int i = 0; i < kWidth / 2; i++) sums[factor][i] = 0;
            /* `count` stages, of which factors first … last − 1 take part. */
            auto run_stages = [&](int count, auto first, auto last) {
                for (int stage = 0; stage < count; stage++) {
                    const unsigned char *x_box = shared + slot * kStageBytes + consumer * (kXBytes / 2);
                    const unsigned char *w_box = shared + slot * kStageBytes + kXBytes;
                    mbarrier_wait(full + slot, phase);
                    products_fence();
#pragma unroll
                    for (int k = 0; k < kDepth / 16; k++)
#pragma unroll
                        for (int factor = first.value; factor < last.value; factor++)
                            product_step<kWidth>(
                                sums[factor], operand_descriptor(x_box + 32 * k, 0, 1024),
                                operand_descriptor(w_box + factor * kWBytes + 32 * k, 0, 1024));
                    products_commit();
                    products_wait<1>();
                    if (before >= 0 && lane == 0) mbarrier_arrive(empty + before);
                    before = slot;
                    if (++slot == kStages) {
                        slot = 0;
                        phase ^= 1;
                    }
                }
            };
            if constexpr (kSwiglu) {
                run_stages(parts.main, Constant<0>(), Constant<2>());
                run_stages(parts.added[0], Constant<0>(), Constant<1>());
                run_stages(parts.added[1], Constant<1>(), Constant<2>());
            } else {
                run_stages(parts.all(), Constant<0>(), Constant<1>());
            }
            products_wait<0>();
#pragma unroll
            for (int factor = 0; factor < kFactors; factor++) products_hold(sums[factor]);
            if (lane == 0) mbarrier_arrive(empty + before);
            if constexpr (kSwiglu) {
#pragma unroll
                for (int i = 0; i < kWidth / 2; i++) sums[0][i] = silu(sums[0][i]) * sums[kFactors - 1][i];
            } else if constexpr (!kQkv) {
                if (product.quads) keep_bias<kWidth>(warp_bias, bias);
            }
            if constexpr (kQkv) {
                const int dim = end.cache.head_dim;
                const int units = min(kWidth, product.columns - n * kWidth) / 64;
#pragma unroll 1
                for (int i = 0; i < units; i++) {
                    const int piece = low_piece(dim, i);
                    const HeadColumn now = unit;
                    float y[32];
                    take_columns<kWidth / 32>(y, sums[0], piece);
                    take_columns<kWidth / 32>(y + 16, sums[0], piece + dim / 64);
                    if (is_turned(end, now)) turn_sums(angles, y, y + 16);
                    if (i + 1 < units) { // on their way while this one is stored
                        unit = head_column(end, n * kWidth + 32 * low_piece(dim, i + 1));
                        load_unit_angles(end, rows, unit, angles);
                    }
                    store_unit(end, rows, patches, now, y);
                }
            } else if constexpr (kOctets) {
#pragma unroll 1
                for (int group = 0; group < kGroups; group++) {
                    float y[kAcross / 2];
                    take_columns<kGroups>(y, sums[0], group);
                    if constexpr (!kSwiglu) finish_sums(product, warp_bias + group * kAcross, y);
                    store_sums<kAcross>(product, patches, warp_row, n * kWidth + group * kAcross, rows_left,
                                        y);
                }
            } else if (product.quads) {
                /* Patches: halves of the warp's rows in turn, some columns at a time. */
#pragma unroll 1
                for (int patch = 0; patch < 2 * kGroups; patch++) {
                    const QuadPlace place = place_patch(patch);
                    float y[4 * kTurns];
                    put_patch<kAcross, 2 * kGroups>(patches, sums[0], patch);
                    /* Here, since the choice above waits for all loads: each has the rest of a patch's time.
                     */
                    float4 residual[kTurns] = {};
                    if (product.residual != nullptr) {
#pragma unroll
                        for (int turn = 0; turn < kTurns; turn++) residual[turn] = next[turn];
                        if (patch + 1 < 2 * kGroups) load_residual(product, place_patch(patch + 1), next);
                    }
                    const float4 patch_bias =
                        load_quad(warp_bias + patch / 2 * kAcross + quad_column<kAcross>());
                    take_quads<kAcross>(patches, y);
                    finish_quads(product, place, patch_bias, residual, y);
                    store_quads(product, place, y);
                }
            } else {
#pragma unroll 1
                for (int patch = 0; patch < 2 * kGroups; patch++) {
                    put_patch<kAcross, 2 * kGroups>(patches, sums[0], patch);
                    finish_patch_by_pairs<kAcross>(product, patches, warp_row + patch % 2 * kPatchRows,
                                                   n * kWidth + patch / 2 * kAcross);
                }
            }
        }
    }
#endif
}

template <bool kSwiglu, int kTileN, bool kOctets, class End>
static bool run_boxes(gp_backend *backend, const Gemm &product, const End &end) {
    constexpr int kStages = kStagesFor<kTileN>, kWidth = kSwiglu ? kTileN / 2 : kTileN;
    constexpr size_t kShared =
        static_cast<size_t>(kStages) * (kXBytes + kTileN * kDepth * 2 + 2 * sizeof(mbarrier)) +
        kConsumerWarps * kWarpBytes<kSwiglu, kWidth>;
    static_assert(kShared <= 227 * 1024, "the ring and the patches");
    Maps maps = {};
    uint64_t rows = static_cast<uint64_t>(product.rows), columns = static_cast<uint64_t>(product.columns);
    uint64_t depth = static_cast<uint64_t>(product.depth);
    bool fits = encode_map(&maps.x, product.x, rows, depth, static_cast<uint64_t>(product.x_stride), kTileM);
    for (int half = 0; half < (kSwiglu ? 2 : 1) && fits; half++) {
        const Weight &weight = product.weight[half];
        fits = encode_map(&maps.w[half], weight.w, columns, depth, static_cast<uint64_t>(weight.w_stride),
                          kWidth);
        if (weight.s == nullptr) continue;
        uint64_t rank = static_cast<uint64_t>(weight.rank);
        fits =
            fits &&
            encode_map(&maps.s[half], weight.s, rows, rank, static_cast<uint64_t>(weight.s_stride), kTileM) &&
            encode_map(&maps.b[half], weight.b, columns, rank, static_cast<uint64_t>(weight.b_stride),
                       kWidth);
    }
    if (!fits) return false;
    unsigned tiles = blocks_for(product.rows, kTileM) * blocks_for(product.columns, kWidth);
    unsigned processors = static_cast<unsigned>(of(backend).processors);
    GP_RUN_EARLY(backend, (multiply_boxes<kSwiglu, kTileN, kOctets, End>),
                 tiles < processors ? tiles : processors, kThreads, kShared, product, maps, end);
    return true;
}

template <int kTileN> static bool run(gp_backend *backend, const Gemm &product) {
    return product.octets ? run_boxes<false, kTileN, true>(backend, product, StoreEnd())
                          : run_boxes<false, kTileN, false>(backend, product, StoreEnd());
}

/*
 * The width of a tile depends on the result's columns and the depth alone: that which wastes least, narrow
 * where the result is narrow, since a tile has 128 rows and 132 processors want work.
 *
 * Hiera's widths are multiples of 144: tiles of 64 would leave up to a quarter unused, of 128 44 %. 2304 and
 * 4608 are 3.9 of four waves and 1.9 of two by 144, but 2.2 of three and 1.1 of two by 256, for the rows of
 * one picture. 1152 is nine times 128, and where it is one wave either way the narrower is done first.
 *
 * 1024 columns and depth enough to be worth it are four wide tiles: the ViT's 16010 rows are then 504 of
 * them, 3.82 of four waves, and read a quarter less from L2 than by 128.
 */
bool gemm_hopper(gp_backend *backend, const Gemm &product, bool swiglu) {
    const int columns = product.columns;
    if (swiglu && !product.octets) return false;
    if (swiglu && columns <= 1024) return run_boxes<true, 128, true>(backend, product, StoreEnd());
    if (swiglu) return run_boxes<true, 256, true>(backend, product, StoreEnd());
    if (columns % 144 == 0 && columns != 1152) return run<144>(backend, product);
    if (columns <= 768) return run<64>(backend, product);
    if (columns == 1024 && product.depth >= 1024) return run<256>(backend, product);
    if (columns <= 1536 || columns % 256 == 128) return run<128>(backend, product);
    return run<256>(backend, product);
}

/** Tiles have whole heads, and the width that the same columns have else where that is not less. */
bool gemm_hopper_qkv(gp_backend *backend, const Gemm &product, const QkvEnd &end) {
    const int columns = product.columns, dim = end.cache.head_dim;
    if (dim != 64 && dim != 128) return false;
    if (columns <= 1536 || columns % 256 == 128) return run_boxes<false, 128, true>(backend, product, end);
    return run_boxes<false, 256, true>(backend, product, end);
}

} // namespace gp_cuda
