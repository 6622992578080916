#include "tests/simt/streams.h"

#include "tests/simt/emulator.h"

#include <cstring>
#include <deque>
#include <map>

struct simt_stream {
    int device;
    bool late;
    uint32_t chain;
};

/** What was asked for until it was recorded. */
struct simt_event {
    size_t copies;
    cudaStream_t stream;
    size_t given; // to the stream
};

struct Copy {
    void *target;
    const void *source;
    size_t bytes;
};

/** Work of a stream that runs late: numbers done … of what this thread gave it. */
struct Late {
    std::deque<std::function<void()>> work;
    size_t done = 0;
};

static int alive[simt::kDevicesMax]; // streams
/* Copies from pinned memory that are not done: numbers copies_done … of those that this thread, whose the
 * streams are that it drives, has asked for. */
static thread_local std::deque<Copy> copies;
static thread_local size_t copies_done;
static thread_local std::map<cudaStream_t, Late> late;
static thread_local bool runs_late; // what was kept is being done
static thread_local uint32_t null_chain;
static uint32_t chains;

static void finish_copies_before(size_t number) {
    for (; copies_done < number; copies_done++) {
        memmove(copies.front().target, copies.front().source, copies.front().bytes);
        copies.pop_front();
    }
}

static void finish_late_before(cudaStream_t stream, size_t number) {
    auto at = late.find(stream);
    if (at == late.end()) return;
    const bool outer = runs_late;
    runs_late = true;
    while (at->second.done < number) {
        std::function<void()> work = std::move(at->second.work.front());
        at->second.work.pop_front();
        at->second.done++;
        work();
    }
    runs_late = outer;
}

static size_t given_to(cudaStream_t stream) {
    auto at = late.find(stream);
    return at == late.end() ? 0 : at->second.done + at->second.work.size();
}

namespace simt {

uint32_t chain_of(cudaStream_t stream, bool early) {
    if (!early) end_chain(stream);
    return stream != nullptr ? stream->chain : null_chain;
}

void end_chain(cudaStream_t stream) {
    (stream != nullptr ? stream->chain : null_chain) = __atomic_add_fetch(&chains, 1, __ATOMIC_RELAXED);
}

void finish_copies() {
    finish_copies_before(copies_done + copies.size());
}

bool keep_late(cudaStream_t stream, std::function<void()> work) {
    /* A launch from another device is wrong, which is told when it is made. */
    if (runs_late || stream == nullptr || !stream->late || stream->device != current_device()) return false;
    late[stream].work.push_back(std::move(work));
    return true;
}

bool keep(cudaStream_t stream, std::function<void()> work) {
    return capture(stream, work) || keep_late(stream, work);
}

void copy_late(void *target, const void *source, size_t bytes, cudaStream_t stream) {
    auto copy = [=] {
        memmove(target, source, bytes);
        end_chain(stream);
    };
    if (keep_late(stream, copy)) return;
    copies.push_back({target, source, bytes});
    end_chain(stream);
}

void finish_stream(cudaStream_t stream) {
    finish_late_before(stream, given_to(stream));
    end_chain(stream);
}

void finish_device() {
    finish_copies();
    for (auto &one : late)
        if (one.first->device == current_device()) finish_stream(one.first);
}

int device_of(cudaStream_t stream) {
    return stream == nullptr ? current_device() : stream->device;
}

} // namespace simt

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) {
    const int device = simt::current_device();
    simt::lock();
    *stream = new simt_stream{device, alive[device]++ > 0, 0};
    simt::end_chain(*stream);
    simt::unlock();
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    simt::finish_stream(stream);
    late.erase(stream);
    simt::lock();
    alive[stream->device]--;
    simt::unlock();
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    if (simt::spoil(stream)) return cudaErrorStreamCaptureUnsupported;
    simt::finish_stream(stream);
    simt::finish_copies();
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    if (simt::spoil(stream)) return cudaErrorStreamCaptureUnsupported;
    const simt_event recorded = *event; // it may be recorded again meanwhile
    auto wait = [recorded] {
        finish_copies_before(recorded.copies);
        finish_late_before(recorded.stream, recorded.given);
    };
    if (!simt::keep_late(stream, wait)) wait();
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
    *event = new simt_event{};
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    *event = {copies_done + copies.size(), stream, given_to(stream)};
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    finish_copies_before(event->copies);
    finish_late_before(event->stream, event->given);
    return cudaSuccess;
}
