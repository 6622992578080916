#include "tests/simt/runtime.h"

#include "tests/simt/emulator.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

static std::map<const unsigned char *, size_t> allocations;

static int capability() {
    const char *given = getenv("GEOPIXEL_SIMT_CAPABILITY");
    return given != nullptr ? atoi(given) : 80;
}

cudaError_t cudaGetDeviceCount(int *count) {
    *count = 1;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int) {
    *properties = {};
    snprintf(properties->name, sizeof properties->name, "emulated");
    properties->major = capability() / 10;
    properties->minor = capability() % 10;
    properties->multiProcessorCount = 4;
    simt::set_shared_limit(capability() >= 90 ? 227 * 1024 : 99 * 1024);
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **memory, size_t bytes) {
    if (!simt::may_wait()) return cudaErrorStreamCaptureUnsupported;
    *memory = aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (*memory == nullptr) return cudaErrorMemoryAllocation;
    memset(*memory, 0xFF, bytes); // NaN: what nobody writes shows
    allocations[(const unsigned char *)*memory] = bytes;
    simt::allow(*memory, bytes, true);
    return cudaSuccess;
}

cudaError_t cudaFree(void *memory) {
    if (memory == nullptr) return cudaSuccess;
    if (!simt::may_wait()) return cudaErrorStreamCaptureUnsupported;
    if (allocations.erase((const unsigned char *)memory) == 0) {
        fprintf(stderr, "simt: cudaFree of %p, which cudaMalloc did not give\n", memory);
        exit(1);
    }
    simt::disallow(memory);
    free(memory);
    return cudaSuccess;
}

static void check_device(const void *memory, size_t bytes, const char *what) {
    auto *byte = (const unsigned char *)memory;
    auto at = allocations.upper_bound(byte);
    if (at != allocations.begin()) {
        --at;
        if (byte + bytes <= at->first + at->second) return;
    }
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
    case cudaErrorIllegalState:
        return "the operation cannot be performed in the present state";
    case cudaErrorStreamCaptureUnsupported:
        return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
        return "operation failed due to a previous error during capture";
    }
    return "unrecognized error code";
}
