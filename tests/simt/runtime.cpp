#include "tests/simt/runtime.h"

#include "tests/simt/emulator.h"
#include "tests/simt/streams.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <vector>

struct Buffer {
    size_t bytes;
    int device;
};
static std::map<const unsigned char *, Buffer> allocations;
static std::map<const unsigned char *, size_t> pinned;
static __thread int device;
static int capability() {
    const char *given = getenv("GEOPIXEL_SIMT_CAPABILITY");
    return given != nullptr ? atoi(given) : 80;
}

cudaError_t cudaGetDeviceCount(int *count) {
    const char *given = getenv("GEOPIXEL_SIMT_DEVICES");
    *count = given != nullptr ? atoi(given) : 1;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int number) {
    int count;
    cudaGetDeviceCount(&count);
    if (number < 0 || number >= count || number >= simt::kDevicesMax) return cudaErrorInvalidDevice;
    device = number;
    return cudaSuccess;
}

int simt::current_device() {
    return device;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int) {
    *properties = {};
    snprintf(properties->name, sizeof properties->name, "emulated");
    properties->major = capability() / 10;
    properties->minor = capability() % 10;
    properties->multiProcessorCount = 4;
    simt::lock();
    simt::set_shared_limit(capability() >= 90 ? 227 * 1024 : 99 * 1024);
    simt::unlock();
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **memory, size_t bytes) {
    if (!simt::may_wait()) return cudaErrorStreamCaptureUnsupported;
    *memory = aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (*memory == nullptr) return cudaErrorMemoryAllocation;
    memset(*memory, 0xFF, bytes); // NaN: what nobody writes shows
    simt::lock();
    allocations[(const unsigned char *)*memory] = {bytes, device};
    simt::allow(*memory, bytes, true, device);
    simt::unlock();
    return cudaSuccess;
}

cudaError_t cudaFree(void *memory) {
    if (memory == nullptr) return cudaSuccess;
    if (!simt::may_wait()) return cudaErrorStreamCaptureUnsupported;
    simt::finish_device();
    simt::lock();
    if (allocations.erase((const unsigned char *)memory) == 0) {
        fprintf(stderr, "simt: cudaFree of %p, which cudaMalloc did not give\n", memory);
        exit(1);
    }
    simt::disallow(memory);
    simt::unlock();
    free(memory);
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **memory, size_t bytes) {
    *memory = malloc(bytes);
    if (*memory == nullptr) return cudaErrorMemoryAllocation;
    pinned[(const unsigned char *)*memory] = bytes;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *memory) {
    if (pinned.erase((const unsigned char *)memory) == 0) {
        fprintf(stderr, "simt: cudaFreeHost of %p, which cudaMallocHost did not give\n", memory);
        exit(1);
    }
    free(memory); // a copy that is under way reads what is no more
    return cudaSuccess;
}

static bool is_pinned(const void *memory) {
    auto *byte = (const unsigned char *)memory;
    auto at = pinned.upper_bound(byte);
    return at != pinned.begin() && byte < (--at)->first + at->second;
}

static void check_device(const void *memory, size_t bytes, const char *what) {
    auto *byte = (const unsigned char *)memory;
    simt::lock();
    auto at = allocations.upper_bound(byte);
    bool inside =
        at != allocations.begin() && byte + bytes <= std::prev(at)->first + std::prev(at)->second.bytes;
    simt::unlock();
    if (inside) return;
    fprintf(stderr, "simt: %s of %zu bytes at %p leaves the device's buffers\n", what, bytes, memory);
    exit(1);
}

/** A copy from host memory: pageable bytes are read before the call returns, pinned ones when they land. */
static void copy_in(void *target, const void *source, size_t bytes, cudaStream_t stream) {
    if (is_pinned(source)) {
        simt::copy_late(target, source, bytes, stream);
        return;
    }
    auto *first = (const unsigned char *)source;
    std::vector<unsigned char> staged(first, first + bytes);
    auto copy = [=] {
        memmove(target, staged.data(), bytes);
        simt::end_chain(stream);
    };
    if (simt::keep_late(stream, copy)) return;
    simt::finish_copies();
    copy();
}

cudaError_t cudaMemcpyAsync(void *target, const void *source, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
    if (kind != cudaMemcpyDeviceToDevice && simt::spoil(stream)) return cudaErrorStreamCaptureUnsupported;
    if (kind != cudaMemcpyDeviceToHost) check_device(target, bytes, "a copy");
    if (kind != cudaMemcpyHostToDevice) check_device(source, bytes, "a copy");
    if (kind == cudaMemcpyHostToDevice) {
        copy_in(target, source, bytes, stream);
        return cudaSuccess;
    }
    if (kind == cudaMemcpyDeviceToHost)
        simt::finish_stream(stream);
    else if (simt::keep(stream, [=] { cudaMemcpyAsync(target, source, bytes, kind, stream); }))
        return cudaSuccess;
    simt::finish_copies();
    memmove(target, source, bytes);
    simt::end_chain(stream);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *target, int value, size_t bytes, cudaStream_t stream) {
    if (simt::keep(stream, [=] { cudaMemsetAsync(target, value, bytes, stream); })) return cudaSuccess;
    check_device(target, bytes, "a memset");
    simt::finish_copies();
    memset(target, value, bytes);
    simt::end_chain(stream);
    return cudaSuccess;
}

const char *cudaGetErrorString(cudaError_t error) {
    switch (error) {
    case cudaSuccess:
        return "no error";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorInvalidDevice:
        return "invalid device ordinal";
    case cudaErrorIllegalState:
        return "the operation cannot be performed in the present state";
    case cudaErrorStreamCaptureUnsupported:
        return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
        return "operation failed due to a previous error during capture";
    }
    return "unrecognized error code";
}
