/** Kernels with one planted bug each, and the same without it: what the emulator must report, and what it
 * must not. */
#include "tests/simt/bugs.h"

#include <ptx/async_copy.cuh>
#include <ptx/convert.cuh>
#include <ptx/matrix.cuh>
#include <ptx/memory.cuh>
#include <ptx/overlap.cuh>
#include <ptx/registers.cuh>
#include <ptx/tensor_copy.cuh>
#include <ptx/warp.cuh>
#include <ptx/wgmma.cuh>

/* Neighbours' values through shared memory. */
static __global__ void neighbours(float *data, bool planted) {
    float *shared = shared_memory<float>();
    unsigned i = threadIdx.x;
    shared[i] = 0;
    __syncthreads();
    shared[i] = data[i];
    if (!planted) __syncthreads();
    data[i] = shared[(i + 1) % blockDim.x];
}

static __global__ void overwrite(float *data, bool planted) {
    float *shared = shared_memory<float>();
    unsigned i = threadIdx.x;
    shared[i] = data[i];
    __syncthreads();
    float next = shared[(i + 1) % blockDim.x];
    if (!planted) __syncthreads();
    shared[i] = next;
}

static __global__ void unwritten(float *data, bool planted) {
    float *shared = shared_memory<float>();
    if (!planted || threadIdx.x > 0) shared[threadIdx.x] = 1;
    __syncthreads();
    data[threadIdx.x] = shared[threadIdx.x ^ 1];
}

static __global__ void beyond_global(float *data, bool planted) {
    data[threadIdx.x + (planted ? 1 : 0)] = 1;
}

static __global__ void beyond_shared(float *data, bool planted) {
    float *shared = shared_memory<float>();
    shared[threadIdx.x + (planted ? 1 : 0)] = data[threadIdx.x];
}

static __global__ void misaligned(float *data, bool planted) {
    auto *bytes = reinterpret_cast<unsigned char *>(data);
    if (threadIdx.x == 0) store_16(data, load_16(bytes + 16 + (planted ? 4 : 0)));
}

static __global__ void divergent_shuffle(float *data, bool planted) {
    float x = data[threadIdx.x];
    if (planted && threadIdx.x % 32 < 16)
        x += __shfl_xor_sync(0xFFFFFFFFu, x, 1);
    else
        x += __shfl_xor_sync(0xFFFFFFFFu, x, 1);
    data[threadIdx.x] = x;
}

static __global__ void ended_lane(float *data, bool planted) {
    if (planted && threadIdx.x == 5) return;
    data[threadIdx.x] += __shfl_xor_sync(0xFFFFFFFFu, data[threadIdx.x], 1);
}

static __global__ void missed_barrier(float *data, bool planted) {
    if (!planted || threadIdx.x < 32) __syncthreads();
    data[threadIdx.x] = 1;
}

static __global__ void named_barrier(float *data, bool planted) {
    if (threadIdx.x < 32)
        sync_named(1, planted ? 96 : 64);
    else
        arrive_named(1, planted ? 96 : 64);
    data[threadIdx.x] = 1;
}

static __global__ void early_copy(float *data, bool planted) {
    float *shared = shared_memory<float>();
    copy_async(shared + 4 * threadIdx.x, data + 4 * threadIdx.x);
    copy_commit();
    if (!planted) copy_wait<0>();
    data[4 * threadIdx.x] = shared[4 * threadIdx.x];
    copy_wait<0>();
}

static __global__ void unsynchronised_copy(float *data, bool planted) {
    float *shared = shared_memory<float>();
    shared[4 * threadIdx.x] = 0;
    __syncthreads();
    copy_async(shared + 4 * threadIdx.x, data + 4 * threadIdx.x);
    copy_commit();
    copy_wait<0>();
    if (!planted) __syncthreads();
    data[4 * threadIdx.x] = shared[4 * (threadIdx.x ^ 1)];
}

static __global__ void unwaited_copy(float *data, bool planted) {
    copy_async(shared_memory<float>() + 4 * threadIdx.x, data + 4 * threadIdx.x);
    copy_commit();
    if (!planted) copy_wait<0>();
}

/* One box [8, 64] by a tensor copy. */
static __global__ void early_box(const __grid_constant__ tensor_map map, uint16_t *data, bool planted) {
    auto *shared = shared_memory<unsigned char>();
    auto *barrier = reinterpret_cast<mbarrier *>(shared + 1024);
    if (threadIdx.x == 0) {
        mbarrier_init(barrier, 1);
        fence_mbarrier_init();
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        mbarrier_arrive_expect(barrier, 1024);
        tensor_load(&map, shared, 0, 0, barrier);
    }
    __syncthreads();
    if (!planted) mbarrier_wait(barrier, 0);
    unsigned row = threadIdx.x / 8, chunk = threadIdx.x % 8;
    if (threadIdx.x < 64)
        store_16(data + 8 * threadIdx.x, load_16(shared + row * 128 + ((chunk ^ row) * 16)));
    if (planted) mbarrier_wait(barrier, 0);
}

/* A box [8, 64] from rows that the map has and memory has not. */
static __global__ void far_box(const __grid_constant__ tensor_map map, uint16_t *data, bool planted) {
    auto *shared = shared_memory<unsigned char>();
    auto *barrier = reinterpret_cast<mbarrier *>(shared + 1024);
    if (threadIdx.x == 0) {
        mbarrier_init(barrier, 1);
        fence_mbarrier_init();
        mbarrier_arrive_expect(barrier, 1024);
        tensor_load(&map, shared, 0, planted ? 124 : 120, barrier);
        mbarrier_wait(barrier, 0);
        data[0] = 1;
    }
}

/* A box [8, 64] from a column whose address is no multiple of 16 bytes. */
static __global__ void odd_box(const __grid_constant__ tensor_map map, uint16_t *data, bool planted) {
    auto *shared = shared_memory<unsigned char>();
    auto *barrier = reinterpret_cast<mbarrier *>(shared + 1024);
    if (threadIdx.x == 0) {
        mbarrier_init(barrier, 1);
        fence_mbarrier_init();
        mbarrier_arrive_expect(barrier, 1024);
        tensor_load(&map, shared, planted ? 17 : 16, 5, barrier);
        mbarrier_wait(barrier, 0);
        data[0] = 1;
    }
}

/* Bytes that no copy brings. */
static __global__ void wrong_bytes(const __grid_constant__ tensor_map map, uint16_t *data, bool planted) {
    auto *shared = shared_memory<unsigned char>();
    auto *barrier = reinterpret_cast<mbarrier *>(shared + 1024);
    if (threadIdx.x == 0) {
        mbarrier_init(barrier, 1);
        fence_mbarrier_init();
        mbarrier_arrive_expect(barrier, planted ? 2048 : 1024);
        tensor_load(&map, shared, 0, 0, barrier);
        mbarrier_wait(barrier, 0);
        data[0] = 1;
    }
}

enum Wgmma { kNoFence, kNoProxyFence, kOperandChanged, kReadBeforeWait };

/* d [64, 64] = A [64, 64] · B [64, 64]ᵀ of ones, written by ordinary stores. */
template <int bug> static __global__ void warpgroup(float *data, bool planted) {
    auto *shared = shared_memory<unsigned char>();
    float d[32];
    for (unsigned i = threadIdx.x; i < 2 * 8192 / 16; i += 128)
        store_16(shared + 16 * i, make_uint4(0x3F803F80u, 0x3F803F80u, 0x3F803F80u, 0x3F803F80u));
    if (bug != kNoProxyFence || !planted) fence_proxy_async();
    __syncthreads();
    if (bug != kNoFence || !planted) products_fence();
    for (int k = 0; k < 4; k++)
        product_n64<false>(d, operand_descriptor(shared + 32 * k, 0, 1024),
                           operand_descriptor(shared + 8192 + 32 * k, 0, 1024), k > 0);
    products_commit();
    if (bug == kOperandChanged && planted) store_16(shared + 8192 + 16 * threadIdx.x, make_uint4(0, 0, 0, 0));
    if (bug != kReadBeforeWait || !planted) products_wait<0>();
    for (int i = 0; i < 32; i++) data[threadIdx.x * 32 + i] = d[i];
}

static __global__ void tensor_wgmma(const __grid_constant__ tensor_map a,
                                    const __grid_constant__ tensor_map b, float *data, bool planted) {
    auto *shared = shared_memory<unsigned char>();
    auto *barrier = reinterpret_cast<mbarrier *>(shared + 16384);
    if (threadIdx.x == 0) {
        mbarrier_init(barrier, 1);
        fence_mbarrier_init();
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        mbarrier_arrive_expect(barrier, 16384);
        tensor_load(&a, shared, 0, 0, barrier);
        tensor_load(&b, shared + 8192, 0, 0, barrier);
    }
    mbarrier_wait(barrier, 0);
    float d[32];
    products_fence();
    for (int k = 0; k < 4; k++)
        product_n64<true>(d, operand_descriptor(shared + 32 * k, 0, 1024),
                          operand_descriptor(shared + 8192 + 2048 * k, 0, 1024), k > 0);
    products_commit();
    products_wait<0>();
    for (int i = 0; i < 32; i++) data[threadIdx.x * 32 + i] = d[i];
}

/** On device 1, where the bug is planted; buffers and streams are device 0's. */
static void launch_elsewhere(float *data, bool planted, cudaStream_t stream) {
    cudaSetDevice(planted ? 1 : 0);
    GP_LAUNCH(neighbours, 1, 64, 256, stream)(data, false);
    cudaSetDevice(0);
}

/* A kernel after another, launched before that has ended. */
enum Haste { kReadsEarly, kWritesEarly, kNeverWaits };
template <Haste haste> static __global__ void hasty(float *data, const float *weights, bool planted) {
    unsigned i = threadIdx.x;
    float weight = weights[i], x = 0;
    if (!planted || haste == kWritesEarly) let_next_begin();
    if (planted && haste == kReadsEarly) x = data[i];
    if (planted && haste == kWritesEarly) data[i] = 1;
    if (!planted || haste != kNeverWaits) await_earlier();
    if (!planted || haste != kNeverWaits) data[i] = x + data[i] * weight;
}

template <Haste haste> static void run_hasty(float *data, const void *weights, bool planted) {
    cudaStream_t stream;
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    GP_LAUNCH(neighbours, 1, 64, 256, stream)(data, false);
    for (int step = 0; step < 2; step++) // the second sees what two before it wrote
        GP_LAUNCH_EARLY((hasty<haste>), 1, 64, 0, stream, true)
    (data, static_cast<const float *>(weights), planted && step == 1);
    cudaStreamDestroy(stream);
}

extern "C" void run_bug(int bug, float *data, const void *maps, int planted) {
    bool on = planted != 0;
    auto *map = static_cast<const tensor_map *>(maps);
    auto *halves = reinterpret_cast<uint16_t *>(data);
    cudaStream_t stream;
    switch (bug) {
    case 0:
        return GP_LAUNCH(neighbours, 1, 64, 256, nullptr)(data, on);
    case 1:
        return GP_LAUNCH(overwrite, 1, 64, 256, nullptr)(data, on);
    case 2:
        return GP_LAUNCH(unwritten, 1, 64, 256, nullptr)(data, on);
    case 3:
        return GP_LAUNCH(beyond_global, 4, 1024, 0, nullptr)(data + 3072, on);
    case 4:
        return GP_LAUNCH(beyond_shared, 1, 64, 256, nullptr)(data, on);
    case 5:
        return GP_LAUNCH(misaligned, 1, 64, 256, nullptr)(data, on);
    case 6:
        return GP_LAUNCH(divergent_shuffle, 1, 64, 0, nullptr)(data, on);
    case 7:
        return GP_LAUNCH(ended_lane, 1, 64, 0, nullptr)(data, on);
    case 8:
        return GP_LAUNCH(missed_barrier, 1, 64, 0, nullptr)(data, on);
    case 9:
        return GP_LAUNCH(named_barrier, 1, 64, 0, nullptr)(data, on);
    case 10:
        return GP_LAUNCH(early_copy, 1, 64, 1024, nullptr)(data, on);
    case 11:
        return GP_LAUNCH(unsynchronised_copy, 1, 64, 1024, nullptr)(data, on);
    case 12:
        return GP_LAUNCH(unwaited_copy, 1, 64, 1024, nullptr)(data, on);
    case 13:
        return GP_LAUNCH(early_box, 1, 64, 1040, nullptr)(map[0], halves, on);
    case 14:
        return GP_LAUNCH(wrong_bytes, 1, 64, 1040, nullptr)(map[0], halves, on);
    case 15:
        return GP_LAUNCH(warpgroup<kNoFence>, 1, 128, 16384, nullptr)(data, on);
    case 16:
        return GP_LAUNCH(warpgroup<kNoProxyFence>, 1, 128, 16384, nullptr)(data, on);
    case 17:
        return GP_LAUNCH(warpgroup<kOperandChanged>, 1, 128, 16384, nullptr)(data, on);
    case 18:
        return GP_LAUNCH(warpgroup<kReadBeforeWait>, 1, 128, 16384, nullptr)(data, on);
    case 19:
        return GP_LAUNCH(far_box, 1, 64, 1040, nullptr)(map[3], halves, on);
    case 20:
        return GP_LAUNCH(odd_box, 1, 64, 1040, nullptr)(map[0], halves, on);
    case 21:
        return launch_elsewhere(data, on, nullptr);
    case 22:
        cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
        return launch_elsewhere(data, on, stream);
    case 23:
        return run_hasty<kReadsEarly>(data, map[1].base, on);
    case 24:
        return run_hasty<kWritesEarly>(data, map[1].base, on);
    case 25:
        return run_hasty<kNeverWaits>(data, map[1].base, on);
    case 26:
        return GP_LAUNCH(tensor_wgmma, 1, 128, 16400, nullptr)(map[1], map[2], data, on);
    }
}
