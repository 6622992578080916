/** The CUDA language for the emulator: what nvcc and cuda_runtime.h give a kernel, and what kernels/cuda/ptx
 * adds. */
#pragma once

#include "tests/simt/emulator.h"
#include "tests/simt/numbers.h"
#include "tests/simt/streams.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <tuple>

#define GP_HOPPER 1
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__    __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(bytes) alignas(bytes)
#define __restrict__

/** Where a wrapper is called, as its last, defaulted parameter. */
#define SIMT_HERE ::simt::Place here = {__builtin_FILE(), __builtin_LINE()}

/* ---- built-in types and variables ---- */

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) {
    return {x, y};
}
inline float4 make_float4(float x, float y, float z, float w) {
    return {x, y, z, w};
}
inline uint2 make_uint2(unsigned x, unsigned y) {
    return {x, y};
}
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
    return {x, y, z, w};
}

namespace simt {
/** Not instrumented: the emulator's own variables are no memory of the kernel's. */
dim3 thread_index();
dim3 block_number();
dim3 block_size();
dim3 grid_size();
} // namespace simt
#define threadIdx (::simt::thread_index())
#define blockIdx  (::simt::block_number())
#define blockDim  (::simt::block_size())
#define gridDim   (::simt::grid_size())

/* ---- launches ---- */

namespace simt {
template <typename Kernel> struct Launcher;
/** A launch's arguments are copied when it is made, as on a device; streams keep it (streams.h). */
template <typename... Parameters> struct Launcher<void(Parameters...)> {
    const char *name;
    dim3 grid, block;
    size_t shared_bytes;
    cudaStream_t stream;
    bool early; // launched before the one before it has ended
    void (*kernel)(Parameters...);
    struct Call {
        void (*kernel)(Parameters...);
        std::tuple<Parameters...> arguments;
    };
    void operator()(Parameters... arguments) const {
        Call call{kernel, std::tuple<Parameters...>(arguments...)};
        if (!keep(stream, [launcher = *this, call] { launcher.run(call); })) run(call);
    }
    void run(Call copy) const {
        lock();
        allow(&copy, sizeof copy, false, current_device()); // parameters may be read by address
        launch(
            {name,
             {grid.x, grid.y, grid.z},
             {block.x, block.y, block.z},
             shared_bytes,
             device_of(stream),
             early,
             chain_of(stream, early)},
            [](void *call) {
                std::apply(static_cast<Call *>(call)->kernel, static_cast<Call *>(call)->arguments);
            },
            &copy);
        disallow(&copy);
        unlock();
    }
};
template <typename... Parameters>
Launcher<void(Parameters...)> make_launcher(const char *name, void (*kernel)(Parameters...), dim3 grid,
                                            dim3 block, size_t shared_bytes, cudaStream_t stream,
                                            bool early) {
    return {name, grid, block, shared_bytes, stream, early, kernel};
}
} // namespace simt
#define GP_LAUNCH(kernel, grid, block, shared_bytes, stream)                                                 \
    GP_LAUNCH_EARLY(kernel, grid, block, shared_bytes, stream, false)
#define GP_LAUNCH_EARLY(kernel, grid, block, shared_bytes, stream, early)                                    \
    ::simt::make_launcher(#kernel, kernel, grid, block, shared_bytes, stream, early)

/* ---- shared memory ---- */

template <typename T> inline T *shared_memory() {
    return static_cast<T *>(::simt::shared_memory());
}
inline uint32_t shared_address(const void *pointer, SIMT_HERE) {
    return ::simt::shared_address(pointer, 0, here);
}

/* ---- synchronisation ---- */

inline void __syncthreads(SIMT_HERE) {
    ::simt::barrier(0, ::simt::thread_count(), true, here);
}
inline void __syncwarp(uint32_t mask = 0xFFFFFFFFu, SIMT_HERE) {
    ::simt::sync_warp(mask, here);
}
inline void __threadfence() {}

/* ---- warp ---- */

namespace simt {
/** Gives each lane what it asks of the others; `from` says which lane. */
uint32_t exchange(const char *kind, uint32_t mask, uint32_t value, unsigned from, Place here);
uint32_t ballot(uint32_t mask, bool predicate, Place here);
template <typename T> T exchange_as(const char *kind, uint32_t mask, T value, unsigned from, Place here) {
    static_assert(sizeof(T) == 4, "shuffles are of 4 bytes here");
    uint32_t bits;
    memcpy(&bits, &value, 4);
    bits = exchange(kind, mask, bits, from, here);
    memcpy(&value, &bits, 4);
    return value;
}
unsigned lane();
} // namespace simt
template <typename T> inline T __shfl_sync(uint32_t mask, T value, int from, SIMT_HERE) {
    return ::simt::exchange_as("__shfl_sync", mask, value, (unsigned)from & 31u, here);
}
template <typename T> inline T __shfl_xor_sync(uint32_t mask, T value, int lanes, SIMT_HERE) {
    return ::simt::exchange_as("__shfl_xor_sync", mask, value, ::simt::lane() ^ (unsigned)lanes, here);
}
template <typename T> inline T __shfl_down_sync(uint32_t mask, T value, unsigned lanes, SIMT_HERE) {
    unsigned from = ::simt::lane() + lanes;
    return ::simt::exchange_as("__shfl_down_sync", mask, value, from < 32 ? from : ::simt::lane(), here);
}
template <typename T> inline T __shfl_up_sync(uint32_t mask, T value, unsigned lanes, SIMT_HERE) {
    unsigned at = ::simt::lane();
    return ::simt::exchange_as("__shfl_up_sync", mask, value, at >= lanes ? at - lanes : at, here);
}
inline uint32_t __ballot_sync(uint32_t mask, int predicate, SIMT_HERE) {
    return ::simt::ballot(mask, predicate != 0, here);
}
inline int __any_sync(uint32_t mask, int predicate, SIMT_HERE) {
    return ::simt::ballot(mask, predicate != 0, here) != 0;
}
inline int __all_sync(uint32_t mask, int predicate, SIMT_HERE) {
    return ::simt::ballot(mask, predicate == 0, here) == 0;
}

/* ---- atomics: blocks and fibres take turns, so plain code is atomic ---- */

template <typename T, typename V> inline T atomicAdd(T *target, V value, SIMT_HERE) {
    ::simt::check_atomic(target, sizeof(T), here);
    return ::simt::atomic_add(target, (T)value);
}
template <typename T, typename V> inline T atomicMax(T *target, V value, SIMT_HERE) {
    ::simt::check_atomic(target, sizeof(T), here);
    return ::simt::atomic_max(target, (T)value);
}

/* ---- arithmetic ---- */

inline float __uint_as_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
inline uint32_t __float_as_uint(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}
inline float __int_as_float(int bits) {
    return __uint_as_float((uint32_t)bits);
}
inline int __float_as_int(float value) {
    return (int)__float_as_uint(value);
}
inline long long __double_as_longlong(double value) {
    long long bits;
    memcpy(&bits, &value, 8);
    return bits;
}
inline double __longlong_as_double(long long bits) {
    double value;
    memcpy(&value, &bits, 8);
    return value;
}
inline int __popc(uint32_t value) {
    return __builtin_popcount(value);
}
inline int __clz(int value) {
    return value == 0 ? 32 : __builtin_clz((unsigned)value);
}
inline int __ffs(int value) {
    return __builtin_ffs(value);
}
inline float rsqrtf(float x) {
    return 1.0f / sqrtf(x);
}
inline float __fmul_rn(float a, float b) {
    return a * b;
}
inline float __fadd_rn(float a, float b) {
    return a + b;
}
inline int min(int a, int b) {
    return a < b ? a : b;
}
inline int max(int a, int b) {
    return a > b ? a : b;
}
inline unsigned min(unsigned a, unsigned b) {
    return a < b ? a : b;
}
inline unsigned max(unsigned a, unsigned b) {
    return a > b ? a : b;
}
inline long long min(long long a, long long b) {
    return a < b ? a : b;
}
inline long long max(long long a, long long b) {
    return a > b ? a : b;
}
inline long min(long a, long b) {
    return a < b ? a : b;
}
inline long max(long a, long b) {
    return a > b ? a : b;
}
