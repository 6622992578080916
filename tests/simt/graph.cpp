/** Captures and graphs: one list for the thread that captures is all there is. */
#include "tests/simt/streams.h"

#include <memory>
#include <vector>

struct simt_graph {
    std::vector<std::function<void()>> work;
};

struct simt_graph_exec {
    std::vector<std::function<void()>> work;
};

static thread_local void *capturing; // the stream
static thread_local bool worthless;
static thread_local simt_graph *captured;

namespace simt {

bool capture(void *stream, std::function<void()> work) {
    if (capturing == nullptr || stream != capturing) return false;
    if (!worthless) captured->work.push_back(std::move(work));
    return true;
}

bool may_wait() {
    if (capturing != nullptr) worthless = true;
    return capturing == nullptr;
}

bool spoil(void *stream) {
    return capturing != nullptr && stream == capturing && !may_wait();
}

} // namespace simt

/* For the stand-in for NCCL, a library that is loaded: its calls on a stream that captures. */
extern "C" __attribute__((visibility("default"))) bool simt_capture_call(void *stream,
                                                                         void (*run)(void *argument),
                                                                         void (*forget)(void *argument),
                                                                         const void *argument, size_t bytes) {
    if (capturing != nullptr && stream == capturing) {
        auto *first = static_cast<const unsigned char *>(argument);
        std::shared_ptr<std::vector<unsigned char>> copy(new std::vector<unsigned char>(first, first + bytes),
                                                         [forget](std::vector<unsigned char> *last) {
                                                             forget(last->data());
                                                             delete last;
                                                         });
        return simt::capture(stream, [run, copy] { run(copy->data()); });
    }
    simt::finish_stream(static_cast<cudaStream_t>(stream)); // the call comes after it
    return false;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    if (capturing != nullptr) return cudaErrorIllegalState;
    capturing = stream;
    captured = new simt_graph;
    worthless = false;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    *graph = nullptr;
    if (capturing == nullptr || stream != capturing) return cudaErrorIllegalState;
    capturing = nullptr;
    if (worthless) {
        delete captured;
        return cudaErrorStreamCaptureInvalidated;
    }
    *graph = captured;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long) {
    if (!simt::may_wait()) return cudaErrorStreamCaptureUnsupported;
    *exec = new simt_graph_exec{graph->work};
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t stream) {
    return simt::spoil(stream) ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    if (simt::spoil(stream)) return cudaErrorStreamCaptureUnsupported;
    auto run = [work = exec->work, stream] {
        simt::end_chain(stream);
        for (const std::function<void()> &one : work) one();
        simt::end_chain(stream);
    };
    if (!simt::keep_late(stream, run)) run();
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    delete exec;
    return cudaSuccess;
}
