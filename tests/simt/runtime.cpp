#include "tests/simt/runtime.h"

#include "tests/simt/emulator.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>

struct Buffer {
    size_t bytes;
    int device;
};
static std::map<const unsigned char *, Buffer> allocations;
static __thread int device;
static char streams[64]; // a stream is its device's place here

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
    if (number < 0 || number >= count || number >= (int)sizeof streams) return cudaErrorInvalidDevice;
    device = number;
    return cudaSuccess;
}

int simt::current_device() {
    return device;
}

cudaError_t cudaStreamCreate(cudaStream_t *stream) {
    *stream = streams + device;
    return cudaSuccess;
}

int simt::device_of(cudaStream_t stream) {
    return stream == nullptr ? device : (int)((char *)stream - streams);
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

cudaError_t cudaMemcpyAsync(void *target, const void *source, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
    if (kind != cudaMemcpyDeviceToDevice && simt::spoil(stream)) return cudaErrorStreamCaptureUnsupported;
    if (simt::capture(stream, [=] { cudaMemcpyAsync(target, source, bytes, kind, stream); }))
        return cudaSuccess;
    if (kind != cudaMemcpyDeviceToHost) check_device(target, bytes, "a copy");
    if (kind != cudaMemcpyHostToDevice) check_device(source, bytes, "a copy");
    memmove(target, source, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *target, int value, size_t bytes, cudaStream_t stream) {
    if (simt::capture(stream, [=] { cudaMemsetAsync(target, value, bytes, stream); })) return cudaSuccess;
    check_device(target, bytes, "a memset");
    memset(target, value, bytes);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    return simt::spoil(stream) ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
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
