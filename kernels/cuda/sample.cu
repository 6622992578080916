/**
 * The next tokens on the device: the largest logit, or a draw from the most likely ones, by a block a row.
 *
 * No sort: with weights exp((logit − largest)/temperature) in f32 (in `order`'s memory) and their sums in f64
 * by a fixed order, the logit that ends the set (and then the one that is drawn) is found by three bits at a
 * time: the largest key k of f32 in integer order with Σ weights of keys ≥ k at least what is asked. Equal
 * logits count in the order of their index.
 *
 * Bytes: greedy 4·count, sixteen loads of a thread on their way; else some 28 passes over logits and weights
 * from L2, 8·count each: 21 MB at 92,544 logits, which one processor takes ~190 µs for at 64 bytes a clock;
 * seven f64 sums a pass are 10 thousand clocks of its adders beside 12 thousand for the bytes. Four loads of
 * each are on their way at a time.
 */
#include "kernels/cuda/device.h"

#include <ptx/overlap.cuh>

namespace gp_cuda {

constexpr int kSampleThreads = 1024, kSampleWarps = kSampleThreads / 32;
constexpr int kBits = 3, kCandidates = (1 << kBits) - 1; // of a key, at a pass
constexpr int kLoads = 4, kLoadsOfLargest = 16;

/** Larger for larger logits; −0 is 0. */
__device__ __forceinline__ uint32_t key_of(float logit) {
    uint32_t bits = __float_as_uint(logit + 0.0f);
    return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

/** Two words at a time: shuffles are of four bytes. */
__device__ __forceinline__ double shuffle_double(double value, int lanes) {
    unsigned long long bits = __double_as_longlong(value);
    uint32_t low = __shfl_xor_sync(0xFFFFFFFFu, static_cast<uint32_t>(bits), lanes);
    uint32_t high = __shfl_xor_sync(0xFFFFFFFFu, static_cast<uint32_t>(bits >> 32), lanes);
    return __longlong_as_double(static_cast<long long>(static_cast<unsigned long long>(high) << 32 | low));
}

/** The sum over the block, in one order; everyone gets it. */
__device__ __forceinline__ double sum_of_block(double value, double *shared) {
    for (int lanes = 16; lanes > 0; lanes /= 2) value += shuffle_double(value, lanes);
    __syncthreads();
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
    __syncthreads();
    double total = 0;
    for (int warp = 0; warp < kSampleWarps; warp++) total += shared[warp];
    return total;
}

/** A row of logits and what becomes of it. */
struct Row {
    const float *logits;
    int count;
    float *weights;
    int32_t *token;
};

/** take(logit, weight) for all of the row that are this thread's, in order. */
template <class Take> __device__ __forceinline__ void visit(const Row &row, Take take) {
    for (int first = threadIdx.x; first < row.count; first += kLoads * kSampleThreads) {
        float logits[kLoads], weights[kLoads];
#pragma unroll
        for (int i = 0; i < kLoads; i++) {
            const int at = min(first + i * kSampleThreads, row.count - 1);
            logits[i] = row.logits[at];
            weights[i] = row.weights[at];
        }
#pragma unroll
        for (int i = 0; i < kLoads; i++)
            if (first + i * kSampleThreads < row.count) take(logits[i], weights[i]);
    }
}

/** Σ weights of keys ≥ least. */
__device__ __forceinline__ double mass_from(const Row &row, uint32_t least, double *shared) {
    double sum = 0;
    visit(row, [&](float logit, float weight) {
        if (key_of(logit) >= least) sum += static_cast<double>(weight);
    });
    return sum_of_block(sum, shared);
}

/** The largest key with mass_from(key) ≥ wanted, or > wanted where `beyond`; wanted > 0, or 0 beyond. Masses
 * fall with the key, also as they are rounded. */
__device__ __forceinline__ uint32_t find_key(const Row &row, double wanted, bool beyond, double *shared) {
    uint64_t key = 0;
    for (int shift = 30; shift >= 0;
         shift -= kBits) { // of 33 bits: the first is 0, its candidates have no mass
        double sums[kCandidates] = {};
        visit(row, [&](float logit, float weight) {
            const uint64_t own = key_of(logit);
            const double added = static_cast<double>(weight);
#pragma unroll
            for (int i = 0; i < kCandidates; i++)
                if (own >= key + (static_cast<uint64_t>(i + 1) << shift)) sums[i] += added;
        });
        int reached = 0;
#pragma unroll
        for (int i = 0; i < kCandidates; i++) {
            const double mass = sum_of_block(sums[i], shared);
            if (beyond ? mass > wanted : mass >= wanted) reached = i + 1;
        }
        key += static_cast<uint64_t>(reached) << shift;
    }
    return static_cast<uint32_t>(key);
}

static __global__ void __launch_bounds__(kSampleThreads)
    choose_token(const __grid_constant__ gp_sample sample) {
    follow_earlier();
    const gp_token_choice choice = sample.choices[blockIdx.x];
    const int64_t number = blockIdx.x, stride = sample.stride > 0 ? sample.stride : sample.count;
    const Row row = {sample.logits + number * stride, sample.count,
                     reinterpret_cast<float *>(sample.order + number * sample.count), sample.tokens + number};
    double *shared = shared_memory<double>();                       // [warps]
    auto *numbers = reinterpret_cast<int *>(shared + kSampleWarps); // [threads]
    const int thread = threadIdx.x;

    /* The largest, and the first of equals. */
    uint32_t best = 0;
    int at = row.count;
    for (int first = thread; first < row.count; first += kLoadsOfLargest * kSampleThreads) {
        float logits[kLoadsOfLargest];
#pragma unroll
        for (int i = 0; i < kLoadsOfLargest; i++)
            logits[i] = row.logits[min(first + i * kSampleThreads, row.count - 1)]; // the last again: no harm
#pragma unroll
        for (int i = 0; i < kLoadsOfLargest; i++) {
            const uint32_t key = key_of(logits[i]);
            if (key > best || at == row.count) {
                best = key;
                at = min(first + i * kSampleThreads, row.count - 1);
            }
        }
    }
    for (int lanes = 16; lanes > 0; lanes /= 2) {
        uint32_t other = __shfl_xor_sync(0xFFFFFFFFu, best, lanes);
        int other_at = __shfl_xor_sync(0xFFFFFFFFu, at, lanes);
        if (other > best || (other == best && other_at < at)) {
            best = other;
            at = other_at;
        }
    }
    if (thread % 32 == 0) {
        numbers[thread / 32] = static_cast<int>(best);
        numbers[kSampleWarps + thread / 32] = at;
    }
    __syncthreads();
    for (int warp = 0; warp < kSampleWarps; warp++) {
        uint32_t other = static_cast<uint32_t>(numbers[warp]);
        int other_at = numbers[kSampleWarps + warp];
        if (other > best || (other == best && other_at < at)) {
            best = other;
            at = other_at;
        }
    }
    if (choice.temperature <= 0) {
        if (thread == 0) *row.token = at;
        return;
    }

    const double scale = 1.0 / static_cast<double>(choice.temperature),
                 largest = static_cast<double>(row.logits[at]);
    double own = 0;
    for (int i = thread; i < row.count; i += kSampleThreads) {
        row.weights[i] = static_cast<float>(exp((static_cast<double>(row.logits[i]) - largest) * scale));
        own += static_cast<double>(row.weights[i]);
    }
    const double total = sum_of_block(own, shared);
    /* The set: all keys above `last`, and as many of its own as are needed. */
    const double wanted = static_cast<double>(choice.top_p) * total;
    const uint32_t last = find_key(row, wanted, false, shared);
    const double above_last = last == 0xFFFFFFFFu ? 0 : mass_from(row, last + 1, shared);
    /* The drawn: the same search with its share of what is kept. */
    int ties = 0;
    for (int i = thread; i < row.count; i += kSampleThreads) ties += key_of(row.logits[i]) == last;
    const double tied = mass_from(row, last, shared) - above_last;
    const double count = sum_of_block(static_cast<double>(ties), shared);
    const double each = count > 0 ? tied / count : 0; // equal logits have equal weights
    double taken = each > 0 ? ceil((wanted - above_last) / each) : 1;
    taken = fmin(fmax(taken, 1.0), fmax(count, 1.0));
    const double kept = above_last + taken * each, target = choice.uniform * kept;
    uint32_t drawn = find_key(row, target, true, shared);
    if (drawn < last) drawn = last;
    /* Mostly there is one of it. */
    int equals = 0, one = 0;
    for (int i = thread; i < row.count; i += kSampleThreads)
        if (key_of(row.logits[i]) == drawn) {
            equals++;
            one = i;
        }
    if (sum_of_block(static_cast<double>(equals), shared) == 1) {
        if (equals == 1) *row.token = one;
        return;
    }
    const double before = drawn == 0xFFFFFFFFu ? 0 : mass_from(row, drawn + 1, shared);
    int same = 0; // of this thread's run of neighbours
    const int run = (row.count + kSampleThreads - 1) / kSampleThreads, first = thread * run;
    for (int i = first; i < min(first + run, row.count); i++) same += key_of(row.logits[i]) == drawn;
    __syncthreads();
    numbers[thread] = same;
    __syncthreads();
    int earlier = 0, all = 0;
    for (int i = 0; i < kSampleThreads; i++) {
        if (i < thread) earlier += numbers[i];
        all += numbers[i];
    }
    const double mass = mass_from(row, drawn, shared) - before, weight = all > 0 ? mass / all : 0;
    double place = weight > 0 ? floor((target - before) / weight) : 0;
    place = fmin(fmax(place, 0.0), (drawn == last ? taken : static_cast<double>(all)) - 1);
    int left = static_cast<int>(place) - earlier; // equals to pass over in this thread's run
    if (left < 0 || left >= same) return;
    for (int i = first; i < min(first + run, row.count); i++)
        if (key_of(row.logits[i]) == drawn && left-- == 0) *row.token = i;
}

void sample(gp_backend *backend, const gp_sample *sample) {
    constexpr size_t kShared = kSampleWarps * sizeof(double) + kSampleThreads * sizeof(int);
    if (sample->rows > 0)
        GP_RUN_EARLY(backend, choose_token, static_cast<unsigned>(sample->rows), kSampleThreads, kShared,
                     *sample);
}

} // namespace gp_cuda
