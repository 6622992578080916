/** Weights without a checkpoint: a thread makes two neighbours of a row. Bytes: what is written, once. */
#include "kernels/cuda/device.h"

#include <ptx/convert.cuh>

extern "C" {
#include "kernels/base/random.h"
}

namespace gp_cuda {

constexpr int kRandomThreads = 256;

static __global__ void __launch_bounds__(kRandomThreads)
    fill_random(uint32_t *pairs, int64_t count, int64_t row_pairs, int64_t columns, float scale,
                uint64_t seed) {
    int64_t i = static_cast<int64_t>(blockIdx.x) * kRandomThreads + threadIdx.x;
    if (i >= count) return;
    int64_t row = i / row_pairs, column = i % row_pairs * 2;
    uint64_t index = static_cast<uint64_t>(row * columns + column);
    float low = column < columns ? gp_random_signed(seed, index) * scale : 0;
    float high = column + 1 < columns ? gp_random_signed(seed, index + 1) * scale : 0;
    pairs[i] = pack_bf16(low, high);
}

bool place_random(gp_backend *backend, gp_matrix *matrix, float scale, uint64_t seed) {
    void *memory = allocate(backend, gp_cuda_placed_bytes(matrix));
    if (memory == nullptr) return false;
    int64_t stride = gp_operand_width(matrix->columns), count = matrix->rows * (stride / 2);
    GP_RUN(backend, fill_random, blocks_for(count, kRandomThreads), kRandomThreads, 0,
           static_cast<uint32_t *>(memory), count, stride / 2, matrix->columns, scale, seed);
    matrix->data = memory;
    matrix->dtype = GP_DTYPE_BF16;
    matrix->stride = stride;
    return true;
}

} // namespace gp_cuda
