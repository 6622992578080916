/** A small kernel for every PTX wrapper; see wrappers.h. Each reads `in` and writes `out`, both plain bytes.
 */
#include "tests/simt/wrappers.h"

#include <cstring>

#include <ptx/async_copy.cuh>
#include <ptx/convert.cuh>
#include <ptx/matrix.cuh>
#include <ptx/memory.cuh>
#include <ptx/overlap.cuh>
#include <ptx/registers.cuh>
#include <ptx/tensor_copy.cuh>
#include <ptx/warp.cuh>
#include <ptx/wgmma.cuh>

#ifdef GP_SIMT
namespace wrappers_twin {
#else
namespace wrappers_native {
#endif

/* ---- sm_80 ---- */

/* in: 32 rows of 16 bytes. Lane l names row 5·l + 3, so that rows are not where the lanes are. */
template <bool transposed> static __global__ void tiles(const unsigned char *in, uint32_t *out) {
    auto *shared = shared_memory<unsigned char>();
    unsigned lane = threadIdx.x;
    store_16(shared + 16 * lane, load_16(in + 16 * lane));
    __syncwarp();
    uint32_t got[4];
    const unsigned char *row = shared + (5 * lane + 3) % 32 * 16;
    if (transposed)
        load_tiles_transposed(got, row);
    else
        load_tiles(got, row);
    for (int i = 0; i < 4; i++) out[4 * lane + i] = got[i];
}

/* in: of each lane a [4], b [2], d [4] as f32. */
static __global__ void one_product(const uint32_t *in, float *out) {
    const uint32_t *mine = in + 10 * threadIdx.x;
    uint32_t a[4];
    float d[4];
    for (int i = 0; i < 4; i++) a[i] = own_copy(mine[i]);
    for (int i = 0; i < 4; i++) d[i] = __uint_as_float(mine[6 + i]);
    multiply(d, a, mine[4], mine[5]);
    for (int i = 0; i < 4; i++) out[4 * threadIdx.x + i] = d[i];
}

static __global__ void pack(const float *in, uint32_t *out) {
    for (unsigned i = threadIdx.x; i < kValues / 2; i += blockDim.x)
        out[i] = pack_bf16(in[2 * i], in[2 * i + 1]);
}

static __global__ void larger(const uint32_t *in, uint32_t *out) {
    for (unsigned i = threadIdx.x; i < kValues / 2; i += blockDim.x)
        out[i] = larger_bf16(in[2 * i], in[2 * i + 1]);
}

static __global__ void exponentials(const float *in, float *out) {
    for (unsigned i = threadIdx.x; i < kValues; i += blockDim.x) out[i] = exp2_fast(in[i]);
}

static __global__ void reciprocals(const float *in, float *out) {
    for (unsigned i = threadIdx.x; i < kValues; i += blockDim.x) out[i] = reciprocal_fast(in[i]);
}

/* 34 copies: two of each count of bytes 0…16, over bytes that were something else; two groups. */
static __global__ void copies(const unsigned char *in, unsigned char *out) {
    auto *shared = shared_memory<unsigned char>();
    unsigned i = threadIdx.x;
    store_16(shared + 16 * i, make_uint4(~0u, ~0u, ~0u, ~0u));
    __syncthreads();
    if (i < 17) copy_async(shared + 16 * i, in + 16 * i, i);
    copy_commit();
    if (i >= 17 && i < 33) copy_async(shared + 16 * i, in + 16 * i, i - 17);
    if (i == 33) copy_async(shared + 16 * i, in + 16 * i);
    copy_commit();
    copy_wait<1>();
    copy_wait<0>();
    __syncthreads();
    if (i < 34) store_16(out + 16 * i, load_16(shared + 16 * i));
}

/* Two warps give what two others take, 64 rounds long, by two barriers; the warps of a pair do not meet the
 * rest. */
static __global__ void barriers(const uint32_t *in, uint32_t *out) {
    unsigned pair = threadIdx.x / 64, lane = threadIdx.x % 32, full = 1 + 2 * pair, empty = full + 1;
    uint32_t *shared = shared_memory<uint32_t>() + 32 * pair;
    for (unsigned round = 0; round < 64; round++) {
        unsigned at = (round * 2 + pair) * 32;
        if (threadIdx.x % 64 < 32) {
            if (round > 0) sync_named(empty, 64);
            shared[lane] = in[at + lane];
            arrive_named(full, 64);
        } else {
            sync_named(full, 64);
            out[at + lane] = shared[lane ^ 31];
            if (round + 1 < 64) arrive_named(empty, 64);
        }
    }
}

static __global__ void once(const unsigned char *in, unsigned char *out) {
    for (unsigned i = threadIdx.x; i < kValues / 16; i += blockDim.x)
        store_16(out + 16 * i, load_once(in + 16 * i));
}

static __global__ void shuffles(const uint32_t *in, uint32_t *out) {
    unsigned lane = threadIdx.x;
    uint32_t x = in[lane], got[8];
    got[0] = __shfl_sync(0xFFFFFFFFu, x, static_cast<int>(in[32 + lane] % 32));
    got[1] = __shfl_xor_sync(0xFFFFFFFFu, x, 11);
    got[2] = __shfl_down_sync(0xFFFFFFFFu, x, 5);
    got[3] = __shfl_up_sync(0xFFFFFFFFu, x, 3);
    got[4] = __ballot_sync(0xFFFFFFFFu, x & 1);
    got[5] = static_cast<uint32_t>(__any_sync(0xFFFFFFFFu, x == in[7]) != 0);
    got[6] = static_cast<uint32_t>(__all_sync(0xFFFFFFFFu, x == in[7]) != 0);
    got[7] = static_cast<uint32_t>(__popc(x) + __clz(static_cast<int>(x)) + __ffs(static_cast<int>(x)));
    for (int i = 0; i < 8; i++) out[8 * lane + i] = got[i];
}

/* ---- sm_90a ---- */

static __global__ void overlapped(const uint32_t *in, uint32_t *out, unsigned source, unsigned slowness) {
    let_next_begin();
    await_earlier();
    prefetch_l2(in + source);
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    uint32_t x = in[(i * 5 + source) % kValues];
    for (unsigned step = 0; step < slowness; step++) x = x * 1664525 + 1013904223;
    out[i] = x;
}

struct Corners { // device code cannot read the host's constants
    int at[kBoxCount][3];
};

/* Box after box on one mbarrier, whose second arrival carries no bytes. */
template <bool planes, bool narrow>
static __global__ void boxes(const __grid_constant__ tensor_map map, const Corners corners,
                             unsigned char *out) {
#if GP_HOPPER
    constexpr unsigned kBytes = narrow ? kNarrowBoxBytes : kBoxBytes;
    auto *shared = shared_memory<unsigned char>();
    auto *barrier = reinterpret_cast<mbarrier *>(shared + kBytes);
    if (threadIdx.x == 0) {
        prefetch_map(&map);
        mbarrier_init(barrier, 2);
        fence_mbarrier_init();
    }
    __syncthreads();
    for (int box = 0; box < kBoxCount; box++) {
        if (threadIdx.x == 0) {
            mbarrier_arrive_expect(barrier, kBytes);
            const int(&corner)[3] = corners.at[box];
            if (planes)
                tensor_load(&map, shared, corner[0], corner[1], corner[2], barrier);
            else
                tensor_load(&map, shared, corner[0], corner[1], barrier);
        }
        if (threadIdx.x == 32) mbarrier_arrive(barrier);
        mbarrier_wait(barrier, static_cast<unsigned>(box) & 1);
        for (unsigned i = threadIdx.x; i < kBytes / 16; i += blockDim.x)
            store_16(out + static_cast<unsigned>(box) * kBytes + 16 * i, load_16(shared + 16 * i));
        __syncthreads(); // read by all before the next box lands on it
    }
#endif
}

/**
 * in: A [64, 64], then B as n rows along K, or 64 rows along N. Written to shared memory in 128-byte swizzle,
 * B along N in blocks of 64 columns; narrow, B is in 32-byte swizzle, in blocks of 16 along K. Accumulators
 * start as what must not count: the first product does not add.
 */
template <int n, bool along_n, bool registers, bool narrow>
static __global__ void products(const uint16_t *in, float *out) {
#if GP_HOPPER
    constexpr unsigned kBlock = 64 * 128; // bytes of 64 rows
    auto *shared = shared_memory<unsigned char>();
    auto *b = shared + kBlock;
    for (unsigned i = threadIdx.x; i < 64 * 8; i += 128)
        store_16(shared + i / 8 * 128 + ((i % 8 ^ i / 8 % 8) * 16), load_16(in + 8 * i));
    for (unsigned i = threadIdx.x; i < n * 8; i += 128) {
        unsigned row = along_n ? i / (n / 8) : i / 8, chunk = along_n ? i % (n / 8) : i % 8;
        unsigned block = along_n ? chunk / 8 : 0;
        if (narrow)
            store_16(b + chunk / 2 * n * 32 + row * 32 + (chunk % 2 ^ row / 4 % 2) * 16,
                     load_16(in + 64 * 64 + 8 * i));
        else
            store_16(b + block * kBlock + row * 128 + ((chunk % 8 ^ row % 8) * 16),
                     load_16(in + 64 * 64 + 8 * i));
    }
    fence_proxy_async();
    __syncthreads();
    uint32_t a[4][4];
    const uint16_t *mine = in + (threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4) * kDepth + threadIdx.x % 4 * 2;
    for (int k = 0; k < 4; k++)
        for (int i = 0; i < 4; i++)
            a[k][i] = *reinterpret_cast<const uint32_t *>(mine + i % 2 * 8 * kDepth + i / 2 * 8 + 16 * k);
    float d[n / 2];
    for (int i = 0; i < n / 2; i++) d[i] = 1e30f;
    products_fence();
#pragma unroll
    for (int k = 0; k < 4; k++) {
        uint64_t a_at = operand_descriptor(shared + 32 * k, 0, 1024);
        uint64_t b_at = narrow    ? narrow_descriptor(b + n * 32 * k, 256)
                        : along_n ? operand_descriptor(b + 2048 * k, kBlock, 1024)
                                  : operand_descriptor(b + 32 * k, 0, 1024);
        if constexpr (registers && n == 64)
            product_n64<along_n>(d, a[k], b_at, k > 0);
        else if constexpr (registers && n == 72)
            product_n72<along_n>(d, a[k], b_at, k > 0);
        else if constexpr (registers)
            product_n128<along_n>(d, a[k], b_at, k > 0);
        else if constexpr (n == 64)
            product_n64<along_n>(d, a_at, b_at, k > 0);
        else if constexpr (n == 128)
            product_n128<along_n>(d, a_at, b_at, k > 0);
        else if constexpr (n == 144)
            product_n144<along_n>(d, a_at, b_at, k > 0);
        else
            product_n256<along_n>(d, a_at, b_at, k > 0);
    }
    products_commit();
    products_wait<0>();
    for (int i = 0; i < n / 2; i++) out[threadIdx.x * (n / 2) + i] = d[i];
#endif
}

/* ---- host ---- */

template <int n, bool along_n, bool registers, bool narrow = false>
static void run_products(const unsigned char *in, unsigned char *out) {
    constexpr int kBRows = along_n ? (n + 63) / 64 * 64 : n; // of 128 bytes
    GP_LAUNCH((products<n, along_n, registers, narrow>), 1, 128, 64 * 128 + kBRows * 128, nullptr)
    (reinterpret_cast<const uint16_t *>(in), reinterpret_cast<float *>(out));
}

/** in → first half of out → second half → first …, all on a stream of their own. */
static bool run_overlapped(const uint32_t *in, uint32_t *out) {
    cudaStream_t stream;
    if (cudaStreamSynchronize(nullptr) != cudaSuccess ||
        cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) != cudaSuccess)
        return false;
    for (unsigned i = 0; i < kOverlapped; i++) {
        const uint32_t *source = i == 0 ? in : out + (i + 1) % 2 * kValues;
        GP_LAUNCH_EARLY(overlapped, kValues / 256, 256, 0, stream, i > 0)
        (source, out + i % 2 * kValues, overlap_source(0), kOverlapSlowness);
    }
    bool done = cudaStreamSynchronize(stream) == cudaSuccess;
    cudaStreamDestroy(stream);
    return done;
}

static bool launch(Wrapper which, const unsigned char *in, unsigned char *out) {
    auto *words = reinterpret_cast<const uint32_t *>(in);
    auto *floats = reinterpret_cast<const float *>(in);
    auto *out_words = reinterpret_cast<uint32_t *>(out);
    auto *out_floats = reinterpret_cast<float *>(out);
    tensor_map map = {};
    Corners corners;
    for (int box = 0; box < kBoxCount; box++) {
        memcpy(corners.at[box], kBoxAt[box], sizeof kBoxAt[box]);
        corners.at[box][2] = plane_of(box);
    }
    switch (which) {
    case kTiles:
        return GP_LAUNCH((tiles<false>), 1, 32, 512, nullptr)(in, out_words), true;
    case kTilesTransposed:
        return GP_LAUNCH((tiles<true>), 1, 32, 512, nullptr)(in, out_words), true;
    case kMultiply:
        return GP_LAUNCH(one_product, 1, 32, 0, nullptr)(words, out_floats), true;
    case kPack:
        return GP_LAUNCH(pack, 1, 256, 0, nullptr)(floats, out_words), true;
    case kLarger:
        return GP_LAUNCH(larger, 1, 256, 0, nullptr)(words, out_words), true;
    case kExp2:
        return GP_LAUNCH(exponentials, 1, 256, 0, nullptr)(floats, out_floats), true;
    case kReciprocal:
        return GP_LAUNCH(reciprocals, 1, 256, 0, nullptr)(floats, out_floats), true;
    case kCopyAsync:
        return GP_LAUNCH(copies, 1, 64, 1024, nullptr)(in, out), true;
    case kNamedBarriers:
        return GP_LAUNCH(barriers, 1, 128, 256, nullptr)(words, out_words), true;
    case kLoadOnce:
        return GP_LAUNCH(once, 1, 256, 0, nullptr)(in, out), true;
    case kShuffles:
        return GP_LAUNCH(shuffles, 1, 32, 0, nullptr)(words, out_words), true;
    case kOverlap:
        return run_overlapped(words, out_words);
    case kBoxes:
        if (!encode_map(&map, in, kMatrixRows, kMatrixColumns, kMatrixStride, kBoxRows)) return false;
        return GP_LAUNCH((boxes<false, false>), 1, 64, kBoxBytes + 16, nullptr)(map, corners, out), true;
    case kPlanes:
        if (!encode_planes(&map, in, kPlaneCount, kPlaneRows, kMatrixColumns, kPlaneStride, kMatrixStride,
                           kBoxRows))
            return false;
        return GP_LAUNCH((boxes<true, false>), 1, 64, kBoxBytes + 16, nullptr)(map, corners, out), true;
    case kNarrowPlanes:
        if (!encode_planes(&map, in, kPlaneCount, kPlaneRows, kMatrixColumns, kPlaneStride, kMatrixStride,
                           kBoxRows, true))
            return false;
        return GP_LAUNCH((boxes<true, true>), 1, 64, kNarrowBoxBytes + 16, nullptr)(map, corners, out), true;
    case kN64:
        return run_products<64, false, false>(in, out), true;
    case kN64AlongN:
        return run_products<64, true, false>(in, out), true;
    case kN128:
        return run_products<128, false, false>(in, out), true;
    case kN128AlongN:
        return run_products<128, true, false>(in, out), true;
    case kN144:
        return run_products<144, false, false>(in, out), true;
    case kN144AlongN:
        return run_products<144, true, false>(in, out), true;
    case kN256:
        return run_products<256, false, false>(in, out), true;
    case kN256AlongN:
        return run_products<256, true, false>(in, out), true;
    case kN64Registers:
        return run_products<64, false, true>(in, out), true;
    case kN64RegistersAlongN:
        return run_products<64, true, true>(in, out), true;
    case kN72Registers:
        return run_products<72, false, true>(in, out), true;
    case kN72RegistersAlongN:
        return run_products<72, true, true>(in, out), true;
    case kN128Registers:
        return run_products<128, false, true>(in, out), true;
    case kN128RegistersAlongN:
        return run_products<128, true, true>(in, out), true;
    case kN128Narrow:
        return run_products<128, false, true, true>(in, out), true;
    default:
        return false;
    }
}

int capability() {
    int count = 0;
    cudaDeviceProp properties;
    if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) return 0;
    if (cudaGetDeviceProperties(&properties, 0) != cudaSuccess) return 0;
    return 10 * properties.major + properties.minor;
}

const char *run(Wrapper which, const void *input, size_t input_bytes, void *output, size_t output_bytes) {
    void *in = nullptr, *out = nullptr;
    cudaError_t error = cudaMalloc(&in, input_bytes);
    if (error == cudaSuccess) error = cudaMalloc(&out, output_bytes);
    if (error == cudaSuccess)
        error = cudaMemcpyAsync(in, input, input_bytes, cudaMemcpyHostToDevice, nullptr);
    if (error == cudaSuccess) error = cudaMemsetAsync(out, 0xFF, output_bytes, nullptr);
    bool launched = error == cudaSuccess &&
                    launch(which, static_cast<const unsigned char *>(in), static_cast<unsigned char *>(out));
    if (launched) error = cudaGetLastError();
    if (error == cudaSuccess && launched)
        error = cudaMemcpyAsync(output, out, output_bytes, cudaMemcpyDeviceToHost, nullptr);
    if (error == cudaSuccess) error = cudaStreamSynchronize(nullptr);
    cudaFree(out);
    cudaFree(in);
    if (error != cudaSuccess) return cudaGetErrorString(error);
    return launched ? nullptr : "not launched";
}

} // namespace
