/**
 * LayerNorm and RMSNorm: y = activation((x − mean)/√(variance + ε) · weight + bias), a row at a time.
 *
 * A warp a row up to kNarrow columns (the encoders' maps), a block of 256 threads beyond (the language
 * model's, one row in decoding). The row is read once, 16 bytes a thread at a time, and stays in registers
 * through both sums where it fits (1,536 and 4,096 columns), else it is read again from the caches. A thread
 * adds its values in order, then lanes by halves, then warps in order: by the columns' number alone.
 *
 * Bytes: 4·rows·columns read, 2 or 4 (or both) times as many written; nothing else counts.
 */
#include "kernels/cuda/activation.cuh"

#include <ptx/convert.cuh>
#include <ptx/memory.cuh>
#include <ptx/overlap.cuh>

namespace gp_cuda {

constexpr int kNarrow = 1536, kNormThreads = 256;

/** The sum over all threads of the row; everyone gets it. `shared` is [warps of the row]. */
template <int kThreads> __device__ __forceinline__ float sum_of_row(float value, float *shared) {
    for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(0xFFFFFFFFu, value, lanes);
    if (kThreads == 32) return value;
    __syncthreads(); // the sums of the pass before have been read
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
    __syncthreads();
    float total = 0;
    for (int warp = 0; warp < kThreads / 32; warp++) total += shared[warp];
    return total;
}

/** kVectors groups of four values a thread are held; 0: rows are read at every pass. */
template <int kThreads, int kVectors>
static __global__ void __launch_bounds__(kNormThreads) normalise(const __grid_constant__ gp_norm norm) {
    constexpr int kHeld = kVectors > 0 ? kVectors : 1;
    float *shared = shared_memory<float>();
    const int thread = threadIdx.x % kThreads;
    const int64_t row = static_cast<int64_t>(blockIdx.x) * (blockDim.x / kThreads) + threadIdx.x / kThreads;
    let_next_begin();
    await_earlier();
    if (row >= norm.rows) return; // whole warps
    const int columns = static_cast<int>(norm.columns);
    const float *x = norm.x + row * norm.columns;
    float4 held[kHeld];
    auto value_at = [&](int i) { return i < columns ? x[i] : 0.0f; };

    float sum = 0;
    if (kVectors > 0) {
#pragma unroll
        for (int v = 0; v < kHeld; v++) {
            int at = (v * kThreads + thread) * 4;
            held[v] = at < columns ? *reinterpret_cast<const float4 *>(x + at) : make_float4(0, 0, 0, 0);
            sum += (held[v].x + held[v].y) + (held[v].z + held[v].w);
        }
    } else {
        for (int i = thread; i < columns; i += kThreads) sum += value_at(i);
    }
    const float mean = norm.rms ? 0 : sum_of_row<kThreads>(sum, shared) / static_cast<float>(columns);
    sum = 0;
    if (kVectors > 0) {
#pragma unroll
        for (int v = 0; v < kHeld; v++) {
            float a = held[v].x - mean, b = held[v].y - mean, c = held[v].z - mean, d = held[v].w - mean;
            if ((v * kThreads + thread) * 4 < columns) sum += (a * a + b * b) + (c * c + d * d);
        }
    } else {
        for (int i = thread; i < columns; i += kThreads) sum += (value_at(i) - mean) * (value_at(i) - mean);
    }
    const float variance = sum_of_row<kThreads>(sum, shared) / static_cast<float>(columns);
    const float scale = 1.0f / sqrtf(variance + norm.epsilon);

    auto finished = [&](float value, int column) {
        float y = (value - mean) * scale * norm.weight[column];
        if (norm.bias != nullptr) y += norm.bias[column];
        return activate(norm.activation, y);
    };
    const int64_t first = row * norm.columns;
    if (kVectors > 0) {
#pragma unroll
        for (int v = 0; v < kHeld; v++) {
            int at = (v * kThreads + thread) * 4;
            if (at >= columns) continue;
            float4 y = make_float4(finished(held[v].x, at), finished(held[v].y, at + 1),
                                   finished(held[v].z, at + 2), finished(held[v].w, at + 3));
            if (norm.y != nullptr) *reinterpret_cast<float4 *>(norm.y + first + at) = y;
            if (norm.y_operand != nullptr)
                *reinterpret_cast<uint2 *>(reinterpret_cast<uint16_t *>(norm.y_operand) + first + at) =
                    make_uint2(pack_bf16(y.x, y.y), pack_bf16(y.z, y.w));
        }
    } else {
        for (int i = thread; i < columns; i += kThreads) {
            float y = finished(value_at(i), i);
            if (norm.y != nullptr) norm.y[first + i] = y;
            if (norm.y_operand != nullptr)
                reinterpret_cast<uint16_t *>(norm.y_operand)[first + i] =
                    static_cast<uint16_t>(pack_bf16(y, 0));
        }
    }
}

void norm(gp_backend *backend, const gp_norm *norm) {
    if (norm->rows <= 0) return;
    constexpr int kWarpRows = kNormThreads / 32;
    bool vectors = norm->columns % 4 == 0;
    if (norm->columns <= kNarrow) {
        unsigned blocks = blocks_for(norm->rows, kWarpRows);
        if (vectors && norm->columns <= 512)
            GP_RUN_EARLY(backend, (normalise<32, 4>), blocks, kNormThreads, 0, *norm);
        else if (vectors)
            GP_RUN_EARLY(backend, (normalise<32, 12>), blocks, kNormThreads, 0, *norm);
        else
            GP_RUN_EARLY(backend, (normalise<32, 0>), blocks, kNormThreads, 0, *norm);
        return;
    }
    unsigned rows = static_cast<unsigned>(norm->rows);
    constexpr size_t kShared = kWarpRows * sizeof(float);
    if (vectors && norm->columns <= 4096)
        GP_RUN_EARLY(backend, (normalise<kNormThreads, 4>), rows, kNormThreads, kShared, *norm);
    else
        GP_RUN_EARLY(backend, (normalise<kNormThreads, 0>), rows, kNormThreads, kShared, *norm);
}

} // namespace gp_cuda
