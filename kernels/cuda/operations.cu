/** The CUDA backend's table of operations, and what memory means on a GPU. */
#include "kernels/cuda/operations.h"

#include "kernels/cuda/device.h"

namespace gp_cuda {

void note(Backend &backend, cudaError_t error, const char *what) {
    if (error == cudaSuccess || backend.failure != cudaSuccess) return;
    backend.failure = error;
    backend.failed_in = what;
}

static void enter(gp_backend *backend) {
    note(of(backend), cudaSetDevice(of(backend).device), "enter");
}

static void use_lane(gp_backend *backend, int lane) {
    Backend &cuda = of(backend);
    cuda.stream = cuda.lanes[lane].stream;
    cuda.workspace = cuda.lanes[lane].workspace;
}

static void wait_for_lane(gp_backend *backend, int lane) {
    Backend &cuda = of(backend);
    const Lane &other = cuda.lanes[lane];
    note(cuda, cudaEventRecord(other.given, other.stream), "an operation that a lane waits for");
    note(cuda, cudaStreamWaitEvent(cuda.stream, other.given, 0), "a wait for a lane");
}

void *allocate(gp_backend *backend, size_t bytes) {
    void *memory = nullptr;
    if (cudaMalloc(&memory, bytes > 0 ? bytes : 1) == cudaSuccess) return memory;
    cudaGetLastError(); // no room: the caller says so; it is no fault of a later launch
    (void)backend;
    return nullptr;
}

static void wait_for_lanes(Backend &cuda, const char *what) {
    for (const Lane &lane : cuda.lanes) note(cuda, cudaStreamSynchronize(lane.stream), what);
}

static void release(gp_backend *backend, void *memory) {
    Backend &cuda = of(backend);
    if (memory == nullptr) return;
    wait_for_lanes(cuda, "an operation before a release");
    note(cuda, cudaFree(memory), "release");
}

/* Pageable host memory is staged before these return; none of their callers has pinned memory. */
static void upload(gp_backend *backend, void *target, const void *host, size_t bytes) {
    if (bytes > 0)
        note(of(backend), cudaMemcpyAsync(target, host, bytes, cudaMemcpyHostToDevice, of(backend).stream),
             "upload");
}

static void download(gp_backend *backend, void *host, const void *source, size_t bytes) {
    Backend &cuda = of(backend);
    if (bytes == 0) return;
    /* First what it waits for: a copy to pageable memory may hold a lock of the driver's meanwhile, which
     * another rank's thread needs before this one's operations can end. */
    note(cuda, cudaStreamSynchronize(cuda.stream), "an operation before a download");
    note(cuda, cudaMemcpyAsync(host, source, bytes, cudaMemcpyDeviceToHost, cuda.stream), "download");
    note(cuda, cudaStreamSynchronize(cuda.stream), "download");
}

static void copy(gp_backend *backend, void *target, const void *source, size_t bytes) {
    if (bytes > 0)
        note(of(backend),
             cudaMemcpyAsync(target, source, bytes, cudaMemcpyDeviceToDevice, of(backend).stream), "copy");
}

static bool finish(gp_backend *backend, gp_status *status) {
    Backend &cuda = of(backend);
    wait_for_lanes(cuda, "an operation before finish");
    cudaError_t failure = cuda.failure;
    cuda.failure = cudaSuccess;
    if (failure != cudaSuccess) cudaGetLastError(); // told now: no fault of a later launch
    return failure == cudaSuccess ||
           gp_fail(status, "%s: %s failed: %s", cuda.base.name, cuda.failed_in, cudaGetErrorString(failure));
}

/* ---- recording: a stream's capture becomes a graph ---- */

static void record(gp_backend *backend) {
    Backend &cuda = of(backend);
    cuda.failure_before = cuda.failure;
    cuda.failed_in_before = cuda.failed_in;
    cuda.failure = cudaSuccess;
    cuda.recording = true;
    note(cuda, cudaStreamBeginCapture(cuda.stream, cudaStreamCaptureModeThreadLocal),
         "the recording's beginning");
}

static gp_recording *recorded(gp_backend *backend, gp_status *status) {
    Backend &cuda = of(backend);
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t ready = nullptr;
    cuda.recording = false;
    note(cuda, cudaStreamEndCapture(cuda.stream, &graph), "the recording's end");
    if (cuda.failure == cudaSuccess) note(cuda, cudaGraphInstantiate(&ready, graph, 0), "the recording");
    if (cuda.failure == cudaSuccess) // what it needs of the device's memory, now
        note(cuda, cudaGraphUpload(ready, cuda.stream), "the recording's upload");
    if (graph != nullptr) cudaGraphDestroy(graph);
    if (cuda.failure != cudaSuccess) {
        if (ready != nullptr) cudaGraphExecDestroy(ready);
        ready = nullptr;
        gp_fail(status, "%s: operations cannot be recorded: %s failed: %s", cuda.base.name, cuda.failed_in,
                cudaGetErrorString(cuda.failure));
        cudaGetLastError(); // told now: no fault of a later launch
    }
    cuda.failure = cuda.failure_before;
    cuda.failed_in = cuda.failed_in_before;
    return reinterpret_cast<gp_recording *>(ready);
}

static void replay(gp_backend *backend, gp_recording *recording) {
    note(of(backend), cudaGraphLaunch(reinterpret_cast<cudaGraphExec_t>(recording), of(backend).stream),
         "recorded operations");
}

static void forget(gp_backend *backend, gp_recording *recording) {
    if (recording != nullptr)
        note(of(backend), cudaGraphExecDestroy(reinterpret_cast<cudaGraphExec_t>(recording)), "forget");
}

const gp_ops *operations() {
    static const gp_ops table = [] {
        gp_ops ops = {};
        ops.enter = enter;
        ops.use_lane = use_lane;
        ops.wait_for_lane = wait_for_lane;
        ops.allocate = allocate;
        ops.release = release;
        ops.upload = upload;
        ops.download = download;
        ops.copy = copy;
        ops.place = place;
        ops.place_random = place_random;
        ops.end_placing = end_placing;
        ops.finish = finish;
        ops.record = record;
        ops.recorded = recorded;
        ops.replay = replay;
        ops.forget = forget;
        ops.placed_bytes = gp_cuda_placed_bytes;
        ops.kv_page_bytes = gp_cuda_kv_page_bytes;
        ops.mask_upsample_scratch = gp_cuda_mask_upsample_scratch;
        ops.draw_mask_scratch = gp_cuda_draw_mask_scratch;
        ops.communicator_bytes = gp_cuda_communicator_bytes;
        ops.communicator_id = communicator_id;
        ops.join = join;
        ops.linear = linear;
        ops.linear_swiglu = linear_swiglu;
        ops.norm = norm;
        ops.attention = attention;
        ops.window_attention = window_attention;
        ops.paged_attention = paged_attention;
        ops.decode_attention = decode_attention;
        ops.embed = embed;
        ops.add_rows = add_rows;
        ops.to_operand = to_operand;
        ops.patches = patches;
        ops.merge_tokens = merge_tokens;
        ops.max_pool = max_pool;
        ops.add_upsampled = add_upsampled;
        ops.mask_upsample = mask_upsample;
        ops.choose_masks = choose_masks;
        ops.draw_mask = draw_mask;
        ops.resize_rgb = resize_rgb;
        ops.crop_views = crop_views;
        ops.whole_view = whole_view;
        ops.sample = sample;
        return ops;
    }();
    return &table;
}

} // namespace gp_cuda
