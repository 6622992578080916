/**
 * How weights come to the GPU. Threads write them, as bf16 with rows at 16 bytes, into two pinned buffers
 * that take turns: while one goes to the device, the next is filled. So a checkpoint is read, or taken from
 * the page cache, by several threads at once, and copied at the bus's speed.
 */
#include "kernels/cuda/device.h"

extern "C" {
#include "kernels/base/memory.h"
#include "kernels/base/threads.h"
}

#include <string.h>

namespace gp_cuda {

/* Elements. The emulator, which has no bus, shows more of the turns with small buffers. */
#ifdef GP_SIMT
constexpr int64_t kBufferElements = 4096, kPieceElements = 512;
#else
constexpr int64_t kBufferElements = 16 << 20, kPieceElements = 256 << 10;
#endif
constexpr int kThreads = 8, kBlock = 256;

struct Staging {
    gp_threads *threads;
    uint16_t *buffers[2];
    cudaEvent_t copied[2];
    bool under_way[2]; // `copied` was recorded
    int turn;
};

static void close_staging(Staging *staging) {
    gp_threads_stop(staging->threads);
    for (int i = 0; i < 2; i++) {
        if (staging->copied[i] != nullptr) cudaEventDestroy(staging->copied[i]);
        if (staging->buffers[i] != nullptr) cudaFreeHost(staging->buffers[i]);
    }
    gp_free(staging);
}

static Staging *open_staging() {
    auto *staging = static_cast<Staging *>(gp_allocate_zeroed(1, sizeof(Staging)));
    if (staging == nullptr) return nullptr;
    int processors = gp_cpu_processors();
    bool done = gp_threads_start(processors < kThreads ? processors : kThreads, &staging->threads, nullptr);
    for (int i = 0; i < 2 && done; i++)
        done = cudaMallocHost(reinterpret_cast<void **>(&staging->buffers[i]),
                              kBufferElements * sizeof(uint16_t)) == cudaSuccess &&
               cudaEventCreateWithFlags(&staging->copied[i], cudaEventDisableTiming) == cudaSuccess;
    if (done) return staging;
    cudaGetLastError(); // the caller says that there is no room
    close_staging(staging);
    return nullptr;
}

void end_placing(gp_backend *backend) {
    Backend &cuda = of(backend);
    /* Random weights are a kernel's: products that begin early read weights before they wait for any. */
    note(cuda, cudaStreamSynchronize(cuda.stream), "an upload of weights");
    if (cuda.staging == nullptr) return;
    close_staging(cuda.staging);
    cuda.staging = nullptr;
}

/** Elements first … first + count − 1 of a matrix as it is placed. */
struct Part {
    const gp_matrix *matrix;
    int64_t stride, first, count;
    uint16_t *target;
};

/** `count` elements of a placed row from `column` on: what is beyond the matrix's columns is 0. */
static void fill_row(const gp_matrix *matrix, int64_t row, int64_t column, int64_t count, uint16_t *target) {
    const size_t size = gp_dtype_size(matrix->dtype);
    int64_t present = matrix->columns - column < count ? matrix->columns - column : count;
    if (present < 0) present = 0;
    auto *source = static_cast<const unsigned char *>(matrix->data) +
                   static_cast<size_t>(row * matrix->stride + column) * size;
    if (matrix->dtype == GP_DTYPE_BF16) {
        memcpy(target, source, static_cast<size_t>(present) * size);
    } else {
        float wide[kBlock];
        for (int64_t at = 0; at < present; at += kBlock) {
            int64_t width = present - at < kBlock ? present - at : kBlock;
            gp_convert_to_f32(source + static_cast<size_t>(at) * size, matrix->dtype,
                              static_cast<size_t>(width), wide);
            for (int64_t i = 0; i < width; i++) target[at + i] = gp_f32_to_bf16(wide[i]);
        }
    }
    memset(target + present, 0, static_cast<size_t>(count - present) * sizeof *target);
}

static void fill_piece(void *argument, int64_t index, int) {
    const Part &part = *static_cast<const Part *>(argument);
    int64_t at = index * kPieceElements;
    const int64_t end = part.count - at < kPieceElements ? part.count : at + kPieceElements;
    while (at < end) {
        int64_t row = (part.first + at) / part.stride, column = (part.first + at) % part.stride;
        int64_t count = part.stride - column < end - at ? part.stride - column : end - at;
        fill_row(part.matrix, row, column, count, part.target + at);
        at += count;
    }
}

/** Brings the matrix to `memory`, where rows start at multiples of `stride` elements. */
static void bring(Backend &cuda, const gp_matrix *matrix, int64_t stride, uint16_t *memory) {
    Staging &staging = *cuda.staging;
    const int64_t all = matrix->rows * stride;
    for (int64_t first = 0; first < all; first += kBufferElements) {
        const int turn = staging.turn;
        if (staging.under_way[turn])
            note(cuda, cudaEventSynchronize(staging.copied[turn]), "an upload of weights");
        Part part = {matrix, stride, first, all - first < kBufferElements ? all - first : kBufferElements,
                     staging.buffers[turn]};
        gp_threads_run(staging.threads, (part.count + kPieceElements - 1) / kPieceElements, fill_piece,
                       &part);
        note(cuda,
             cudaMemcpyAsync(memory + first, part.target, static_cast<size_t>(part.count) * sizeof *memory,
                             cudaMemcpyHostToDevice, cuda.stream),
             "an upload of weights");
        note(cuda, cudaEventRecord(staging.copied[turn], cuda.stream), "an upload of weights");
        staging.under_way[turn] = true;
        staging.turn = 1 - turn;
    }
}

bool place(gp_backend *backend, gp_matrix *matrix) {
    Backend &cuda = of(backend);
    if (cuda.staging == nullptr) cuda.staging = open_staging();
    if (cuda.staging == nullptr) return false;
    auto *weight = static_cast<Allocation *>(gp_allocate(sizeof(Allocation)));
    void *memory = weight != nullptr ? allocate(backend, gp_cuda_placed_bytes(matrix)) : nullptr;
    if (memory == nullptr) {
        gp_free(weight);
        return false;
    }
    const int64_t stride = gp_operand_width(matrix->columns);
    bring(cuda, matrix, stride, static_cast<uint16_t *>(memory));
    *weight = {memory, cuda.weights};
    cuda.weights = weight;
    matrix->data = memory;
    matrix->dtype = GP_DTYPE_BF16;
    matrix->stride = stride;
    return true;
}

} // namespace gp_cuda
