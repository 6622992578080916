/** The CUDA backend's table of operations, and what memory means on a GPU. */
#include "kernels/cuda/operations.h"

#include "kernels/cuda/device.h"

extern "C" {
#include "kernels/base/memory.h"
}

#include <string.h>

namespace gp_cuda {

void note(Backend &backend, cudaError_t error, const char *what) {
    if (error == cudaSuccess || backend.failure != cudaSuccess) return;
    backend.failure = error;
    backend.failed_in = what;
}

static void *allocate(gp_backend *backend, size_t bytes) {
    void *memory = nullptr;
    if (cudaMalloc(&memory, bytes > 0 ? bytes : 1) == cudaSuccess) return memory;
    cudaGetLastError(); // no room: the caller says so; it is no fault of a later launch
    (void)backend;
    return nullptr;
}

static void release(gp_backend *backend, void *memory) {
    if (memory != nullptr) note(of(backend), cudaFree(memory), "release"); // waits for what uses it
}

/* Pageable host memory is staged before these return; pinned memory is not used with them. */
static void upload(gp_backend *backend, void *target, const void *host, size_t bytes) {
    if (bytes > 0)
        note(of(backend), cudaMemcpyAsync(target, host, bytes, cudaMemcpyHostToDevice, of(backend).stream),
             "upload");
}

static void download(gp_backend *backend, void *host, const void *source, size_t bytes) {
    Backend &cuda = of(backend);
    if (bytes == 0) return;
    note(cuda, cudaMemcpyAsync(host, source, bytes, cudaMemcpyDeviceToHost, cuda.stream), "download");
    note(cuda, cudaStreamSynchronize(cuda.stream), "an operation before a download");
}

static void copy(gp_backend *backend, void *target, const void *source, size_t bytes) {
    if (bytes > 0)
        note(of(backend),
             cudaMemcpyAsync(target, source, bytes, cudaMemcpyDeviceToDevice, of(backend).stream), "copy");
}

static bool finish(gp_backend *backend, gp_status *status) {
    Backend &cuda = of(backend);
    note(cuda, cudaStreamSynchronize(cuda.stream), "an operation before finish");
    cudaError_t failure = cuda.failure;
    cuda.failure = cudaSuccess;
    return failure == cudaSuccess ||
           gp_fail(status, "%s: %s failed: %s", cuda.base.name, cuda.failed_in, cudaGetErrorString(failure));
}

/** bf16 at a stride that starts every row at 16 bytes. */
static bool place(gp_backend *backend, gp_matrix *matrix) {
    Backend &cuda = of(backend);
    int64_t stride = gp_operand_width(matrix->columns);
    size_t bytes = gp_cuda_placed_bytes(matrix);
    auto *weight = static_cast<Allocation *>(gp_allocate(sizeof(Allocation)));
    void *memory = allocate(backend, bytes);
    bool as_is = matrix->dtype == GP_DTYPE_BF16 && stride == matrix->columns && matrix->stride == stride;
    uint16_t *host = as_is ? nullptr : static_cast<uint16_t *>(gp_allocate(bytes));
    auto *row = static_cast<float *>(
        as_is ? nullptr : gp_allocate(static_cast<size_t>(matrix->columns) * sizeof(float)));
    bool done = weight != nullptr && memory != nullptr && (as_is || (host != nullptr && row != nullptr));
    for (int64_t r = 0; done && !as_is && r < matrix->rows; r++) {
        auto *source = static_cast<const unsigned char *>(matrix->data) +
                       static_cast<size_t>(r * matrix->stride) * gp_dtype_size(matrix->dtype);
        gp_convert_to_f32(source, matrix->dtype, static_cast<size_t>(matrix->columns), row);
        for (int64_t c = 0; c < stride; c++)
            host[r * stride + c] = c < matrix->columns ? gp_f32_to_bf16(row[c]) : 0;
    }
    if (done) {
        upload(backend, memory, as_is ? matrix->data : host, bytes);
        *weight = {memory, cuda.weights};
        cuda.weights = weight;
        matrix->data = memory;
        matrix->dtype = GP_DTYPE_BF16;
        matrix->stride = stride;
    } else {
        if (memory != nullptr) cudaFree(memory);
        gp_free(weight);
    }
    gp_free(row);
    gp_free(host);
    return done;
}

const gp_ops *operations() {
    static const gp_ops table = [] {
        gp_ops ops = {};
        ops.allocate = allocate;
        ops.release = release;
        ops.upload = upload;
        ops.download = download;
        ops.copy = copy;
        ops.place = place;
        ops.place_random = place_random;
        ops.finish = finish;
        ops.placed_bytes = gp_cuda_placed_bytes;
        ops.kv_page_bytes = gp_cuda_kv_page_bytes;
        ops.mask_upsample_scratch = gp_cuda_mask_upsample_scratch;
        ops.draw_mask_scratch = gp_cuda_draw_mask_scratch;
        ops.linear = linear;
        ops.linear_swiglu = linear_swiglu;
        ops.norm = norm;
        ops.attention = attention;
        ops.window_attention = window_attention;
        ops.rope_append = rope_append;
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
