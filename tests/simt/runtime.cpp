#include "tests/simt/runtime.h"

#include "tests/simt/emulator.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>

static std::map<const unsigned char *, size_t> allocations, pinned;

/** Copies from pinned memory that are not done: numbers copies_done … of the stream's. */
struct Copy {
    void *target;
    const void *source;
    size_t bytes;
};
static std::deque<Copy> copies;
static size_t copies_done;

static void finish_copies_before(size_t number) {
    for (; copies_done < number; copies_done++) {
        memmove(copies.front().target, copies.front().source, copies.front().bytes);
        copies.pop_front();
    }
}

void simt::finish_copies() {
    finish_copies_before(copies_done + copies.size());
}

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
    *memory = aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (*memory == nullptr) return cudaErrorMemoryAllocation;
    memset(*memory, 0xFF, bytes); // NaN: what nobody writes shows
    allocations[(const unsigned char *)*memory] = bytes;
    simt::allow(*memory, bytes, true);
    return cudaSuccess;
}

cudaError_t cudaFree(void *memory) {
    simt::finish_copies();
    if (memory == nullptr) return cudaSuccess;
    if (allocations.erase((const unsigned char *)memory) == 0) {
        fprintf(stderr, "simt: cudaFree of %p, which cudaMalloc did not give\n", memory);
        exit(1);
    }
    simt::disallow(memory);
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
    auto at = allocations.upper_bound(byte);
    if (at != allocations.begin()) {
        --at;
        if (byte + bytes <= at->first + at->second) return;
    }
    fprintf(stderr, "simt: %s of %zu bytes at %p leaves the device's buffers\n", what, bytes, memory);
    exit(1);
}

cudaError_t cudaMemcpyAsync(void *target, const void *source, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t) {
    if (kind != cudaMemcpyDeviceToHost) check_device(target, bytes, "a copy");
    if (kind != cudaMemcpyHostToDevice) check_device(source, bytes, "a copy");
    if (kind == cudaMemcpyHostToDevice && is_pinned(source)) {
        copies.push_back({target, source, bytes});
        return cudaSuccess;
    }
    simt::finish_copies();
    memmove(target, source, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *target, int value, size_t bytes, cudaStream_t) {
    check_device(target, bytes, "a memset");
    simt::finish_copies();
    memset(target, value, bytes);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t) {
    simt::finish_copies();
    return cudaSuccess;
}

/* An event is the number of copies that were asked for when it was recorded. */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
    *event = new size_t(0);
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
    *event = copies_done + copies.size();
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    finish_copies_before(*event);
    return cudaSuccess;
}

const char *cudaGetErrorString(cudaError_t error) {
    return error == cudaErrorMemoryAllocation ? "out of memory" : "no error";
}
