/**
 * LayerNorm and RMSNorm: y = activation((x − mean)/√(variance + ε) · weight + bias), a row at a time.
 *
 * A row has 4 to 32 threads of a warp up to kNarrow columns, the fewest that leave a thread nine groups of
 * four values (32 have up to twelve), and a block of 256 threads beyond. Thread t of T has groups t, t + T, …
 * . It adds its values in order, then lanes by halves, then warps in order: by the columns' number alone. The
 * mean comes first, then the squares of what differs from it; RMSNorm has the second sum alone.
 *
 * The model's widths have instances of their own: Hiera's 144·2ⁿ are nine groups for 4·2ⁿ threads, the vision
 * encoder's 1024 and the mask decoder's 256 eight for 32 and 8, the language model's 4096 four for 256. There
 * a row is whole groups, read once and held in registers through both sums, with weight and bias read beside
 * it: nothing is asked before a load, and what follows the second sum waits for no memory. Other widths,
 * activations (the model's norms have none), and what does not lie at 16 bytes take the same sums from rows
 * that are read again from the caches.
 *
 * Bytes: 4·rows·columns read, 2 or 4 (or both) times as many written; nothing else counts. By arithmetic: 4.3
 * TB/s with 750 ns of latency are 25 KB under way a processor, six warps' 4.6 KB; registers (128 at most, as
 * weights and biases are held) leave room for 16. A warp runs some 350 instructions for 8 rows of 144, 2 of
 * 576, one of 1152: 65,536 rows of 144 are 5,400 of a scheduler's cycles, 3 µs beside 13 of bytes. The 4,096
 * rows of 576 of Hiera's third stage are all in flight at once. A decoding step's row is one load, one sum,
 * one store.
 */
#include "kernels/cuda/activation.cuh"

#include <ptx/convert.cuh>
#include <ptx/memory.cuh>
#include <ptx/overlap.cuh>

namespace gp_cuda {

constexpr int kNarrow = 1536, kWideThreads = 256, kNarrowThreads = 128; // the latter: of a block
constexpr int kMostGroups = 9;

/** The sum over all threads of the row; everyone gets it. `shared` is [warps of the row], of this sum. */
__device__ __forceinline__ float sum_of_row(float value, unsigned threads, float *shared) {
    for (unsigned lanes = min(threads, 32u) / 2; lanes > 0; lanes /= 2)
        value += __shfl_xor_sync(0xFFFFFFFFu, value, static_cast<int>(lanes));
    if (threads <= 32) return value;
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
    __syncthreads();
    float total = 0;
    for (int warp = 0; warp < kWideThreads / 32; warp++) total += shared[warp];
    return total;
}

__device__ __forceinline__ float4 load_four(const float *source) {
    return *reinterpret_cast<const float4 *>(source);
}

/** kGroups groups of four values a thread are held, of rows that are just as long; 0: rows of any width by
 * `any_threads` are read at every pass. */
template <int kThreads, int kGroups>
static __global__ void __launch_bounds__(kThreads == 0 || kThreads > 32 ? kWideThreads : kNarrowThreads,
                                         kThreads == 0   ? 2
                                         : kThreads > 32 ? 3
                                                         : 4)
    normalise(const __grid_constant__ gp_norm norm, unsigned any_threads) {
    constexpr bool kHeld = kGroups > 0;
    constexpr int kHere = kHeld ? kGroups : 1;
    const unsigned threads = kHeld ? kThreads : any_threads;
    const unsigned columns = kHeld ? kThreads * kGroups * 4 : static_cast<unsigned>(norm.columns);
    const unsigned groups = kHeld ? kGroups : (columns + 4 * threads - 1) / (4 * threads);
    const unsigned step = 4 * threads, thread = threadIdx.x % threads;
    float *shared = shared_memory<float>();
    int64_t row = static_cast<int64_t>(blockIdx.x) * (blockDim.x / threads) + threadIdx.x / threads;
    const bool real = row < norm.rows;
    if (!real) row = norm.rows - 1; // beside it in its warp, whose lanes go together
    const int64_t first = row * columns;
    const float *x = norm.x + first;
    float4 held[kHere], weights[kHere], biases[kHere];
    let_next_begin();
    if (kHeld) {
#pragma unroll
        for (int v = 0; v < kHere; v++) {
            weights[v] = load_four(norm.weight + 4 * thread + v * step);
            biases[v] =
                norm.bias == nullptr ? make_float4(0, 0, 0, 0) : load_four(norm.bias + 4 * thread + v * step);
        }
    }
    await_earlier();
    if (!__any_sync(0xFFFFFFFFu, real)) return;
    if (kHeld)
#pragma unroll
        for (int v = 0; v < kHere; v++) held[v] = load_four(x + 4 * thread + v * step);
    auto value_at = [&](unsigned i) { return i < columns ? x[i] : 0.0f; };
    auto group_at = [&](unsigned v) {
        unsigned at = 4 * thread + v * step;
        return kHeld ? held[kHeld ? v : 0]
                     : make_float4(value_at(at), value_at(at + 1), value_at(at + 2), value_at(at + 3));
    };

    const float share = 1.0f / static_cast<float>(columns);
    float mean = 0;
    if (!norm.rms) {
        float sum = 0;
#pragma unroll
        for (unsigned v = 0; v < groups; v++) {
            float4 group = group_at(v);
            sum += (group.x + group.y) + (group.z + group.w);
        }
        mean = sum_of_row(sum, threads, shared) * share;
    }
    float squares = 0;
#pragma unroll
    for (unsigned v = 0; v < groups; v++) {
        const float4 group = group_at(v);
        auto part = [&](float value, unsigned i) {
            return kHeld || 4 * thread + v * step + i < columns ? value - mean : 0.0f;
        };
        const float a = part(group.x, 0), b = part(group.y, 1), c = part(group.z, 2), d = part(group.w, 3);
        squares += fmaf(a, a, b * b) + fmaf(c, c, d * d);
    }
    const float variance = sum_of_row(squares, threads, shared + kWideThreads / 32) * share;
    const float scale = 1.0f / sqrtf(variance + norm.epsilon);
    if (!real) return;

    auto finished = [&](float value, float weight, float bias) {
        return fmaf((value - mean) * scale, weight, bias);
    };
    auto *operands = reinterpret_cast<uint16_t *>(norm.y_operand);
    if (kHeld) {
#pragma unroll
        for (int v = 0; v < kHere; v++) {
            held[v].x = finished(held[v].x, weights[v].x, biases[v].x);
            held[v].y = finished(held[v].y, weights[v].y, biases[v].y);
            held[v].z = finished(held[v].z, weights[v].z, biases[v].z);
            held[v].w = finished(held[v].w, weights[v].w, biases[v].w);
        }
        if (norm.y != nullptr) {
            float *y = norm.y + first + 4 * thread;
#pragma unroll
            for (int v = 0; v < kHere; v++) *reinterpret_cast<float4 *>(y + v * step) = held[v];
        }
        if (operands != nullptr) {
            operands += first + 4 * thread;
#pragma unroll
            for (int v = 0; v < kHere; v++)
                *reinterpret_cast<uint2 *>(operands + v * step) =
                    make_uint2(pack_bf16(held[v].x, held[v].y), pack_bf16(held[v].z, held[v].w));
        }
    } else {
        for (unsigned i = thread; i < columns; i += threads) {
            float y = finished(x[i], norm.weight[i], norm.bias == nullptr ? 0.0f : norm.bias[i]);
            y = activate(norm.activation, y);
            if (norm.y != nullptr) norm.y[first + i] = y;
            if (operands != nullptr) operands[first + i] = static_cast<uint16_t>(pack_bf16(y, 0));
        }
    }
}

/** Threads of a row, by its columns alone. */
static unsigned threads_for(int64_t columns) {
    unsigned threads = 4;
    if (columns > kNarrow) return kWideThreads;
    while (threads < 32 && threads * kMostGroups * 4 < columns) threads *= 2;
    return threads;
}

template <int kThreads, int kGroups>
static void run(gp_backend *backend, const gp_norm *norm, unsigned threads) {
    constexpr int kShared = 2 * kWideThreads / 32 * sizeof(float); // of both sums
    const unsigned block = threads > 32 ? kWideThreads : kNarrowThreads;
    GP_RUN_EARLY(backend, (normalise<kThreads, kGroups>), blocks_for(norm->rows, block / threads), block,
                 threads > 32 ? kShared : 0, *norm, threads);
}

static bool lies_at_16(const void *pointer) {
    return reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
}

void norm(gp_backend *backend, const gp_norm *norm) {
    if (norm->rows <= 0) return;
    const unsigned threads = threads_for(norm->columns);
    const bool held = norm->activation == GP_ACTIVATION_NONE && lies_at_16(norm->x) &&
                      lies_at_16(norm->weight) && lies_at_16(norm->bias) && lies_at_16(norm->y) &&
                      lies_at_16(norm->y_operand);
    switch (held ? norm->columns : 0) {
    case 144:
        return run<4, 9>(backend, norm, threads);
    case 256:
        return run<8, 8>(backend, norm, threads);
    case 288:
        return run<8, 9>(backend, norm, threads);
    case 576:
        return run<16, 9>(backend, norm, threads);
    case 1024:
        return run<32, 8>(backend, norm, threads);
    case 1152:
        return run<32, 9>(backend, norm, threads);
    case 4096:
        return run<256, 4>(backend, norm, threads);
    default:
        return run<0, 0>(backend, norm, threads);
    }
}

} // namespace gp_cuda
