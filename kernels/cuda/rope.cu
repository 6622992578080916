/**
 * Rotary positions, with the write of keys and values to their pages (pages.cuh).
 *
 * A thread has kVector numbers of the first half of a head and those they turn with in the second half: q and
 * k are turned in f32 and rounded, v is copied. kVector is 8, so that accesses have 16 bytes, where the half
 * is a multiple of 8, else 4.
 *
 * Costs: every row is read and written once, 4·kv_heads·(group + 2)·head_dim bytes (24 KB at 8 kv heads, 4
 * queries each, width 128), and the tables' 4·head_dim bytes from the second-level cache; 3 operations a
 * number. A prompt of 3000 rows: 74 MB, 36 µs of an A100's memory, 15 of an H200's. A decoding step: its
 * launch.
 */
#include "kernels/cuda/pages.cuh"

#include <ptx/convert.cuh>
#include <ptx/memory.cuh>

namespace gp_cuda {

namespace {

constexpr int kThreads = 128;

struct Append {
    const uint16_t *qkv; // [rows, kv_heads, group + 2, head_dim]
    const float *cosine, *sine;
    gp_kv_layer cache;
    int group;
    uint16_t *q; // [rows, kv_heads·group, head_dim]
};

/** kVector bf16, two a word. */
template <int kVector> struct Vector { uint32_t words[kVector / 2]; };

__device__ __forceinline__ Vector<8> load_vector(const uint16_t *source, Vector<8>) {
    uint4 value = load_16(source);
    return {{value.x, value.y, value.z, value.w}};
}
__device__ __forceinline__ Vector<4> load_vector(const uint16_t *source, Vector<4>) {
    uint2 value = *reinterpret_cast<const uint2 *>(source);
    return {{value.x, value.y}};
}
__device__ __forceinline__ void store_vector(uint16_t *target, Vector<8> value) {
    store_16(target, make_uint4(value.words[0], value.words[1], value.words[2], value.words[3]));
}
__device__ __forceinline__ void store_vector(uint16_t *target, Vector<4> value) {
    *reinterpret_cast<uint2 *>(target) = make_uint2(value.words[0], value.words[1]);
}

/** kVector f32 of a table, at a multiple of 16 bytes. */
template <int kVector>
__device__ __forceinline__ void load_table(float (&target)[kVector], const float *source) {
#pragma unroll
    for (int i = 0; i < kVector; i += 4) {
        uint4 value = load_16(source + i);
        target[i] = __uint_as_float(value.x);
        target[i + 1] = __uint_as_float(value.y);
        target[i + 2] = __uint_as_float(value.z);
        target[i + 3] = __uint_as_float(value.w);
    }
}

/** One thread's part of one row: blocks in x over a sequence's rows, sequences in y. */
template <int kVector>
__global__ __launch_bounds__(kThreads) void append_rows(const __grid_constant__ Append a,
                                                        const __grid_constant__ SequenceList sequences) {
    const gp_sequence &sequence = sequences.at[blockIdx.y];
    const unsigned half = static_cast<unsigned>(a.cache.head_dim) / 2, vectors = half / kVector;
    const unsigned slots = static_cast<unsigned>(a.group) + 2,
                   heads = static_cast<unsigned>(a.cache.kv_heads);
    unsigned index = blockIdx.x * kThreads + threadIdx.x;
    const unsigned column = index % vectors * kVector;
    index /= vectors;
    const int slot = static_cast<int>(index % slots);
    index /= slots;
    const int head = static_cast<int>(index % heads), at = static_cast<int>(index / heads);
    if (at >= sequence.rows) return;
    const int64_t row = sequence.first_row + at;
    const int position = sequence.first_position + at, dim = a.cache.head_dim;

    const int64_t kv_row = row * a.cache.kv_heads + head;
    const uint16_t *x = a.qkv + (kv_row * slots + slot) * dim + column;
    Vector<kVector> low = load_vector(x, Vector<kVector>{}), high = load_vector(x + half, Vector<kVector>{});
    if (slot <= a.group) {
        float cosine[kVector], sine[kVector];
        load_table(cosine, a.cosine + static_cast<int64_t>(position) * half + column);
        load_table(sine, a.sine + static_cast<int64_t>(position) * half + column);
#pragma unroll
        for (int i = 0; i < kVector / 2; i++) {
            float a0 = __uint_as_float(low.words[i] << 16), a1 = __uint_as_float(low.words[i] & 0xFFFF0000u);
            float b0 = __uint_as_float(high.words[i] << 16),
                  b1 = __uint_as_float(high.words[i] & 0xFFFF0000u);
            float c0 = cosine[2 * i], c1 = cosine[2 * i + 1], s0 = sine[2 * i], s1 = sine[2 * i + 1];
            low.words[i] = pack_bf16(a0 * c0 - b0 * s0, a1 * c1 - b1 * s1);
            high.words[i] = pack_bf16(b0 * c0 + a0 * s0, b1 * c1 + a1 * s1);
        }
    }
    uint16_t *target;
    if (slot < a.group) {
        target = a.q + (kv_row * a.group + slot) * dim;
    } else {
        target = page_head(a.cache, sequence.pages[position / GP_PAGE_TOKENS], head) +
                 ((slot - a.group) * GP_PAGE_TOKENS + position % GP_PAGE_TOKENS) * static_cast<int64_t>(dim);
    }
    store_vector(target + column, low);
    store_vector(target + column + half, high);
}

} // namespace

size_t kv_page_bytes(int kv_heads, int head_dim) {
    return static_cast<size_t>(kv_heads * page_head_size(head_dim)) * sizeof(uint16_t);
}

void rope_append(gp_backend *backend, const gp_rope_append *append) {
    Append a = {bits_of(append->qkv), append->cosine, append->sine,
                append->cache,        append->group,  bits_of(append->q)};
    int half = append->cache.head_dim / 2, vector = half % 8 == 0 ? 8 : 4;
    int64_t threads_a_row =
        static_cast<int64_t>(append->cache.kv_heads) * (append->group + 2) * (half / vector);
    for_sequences(append->sequences, append->sequence_count, [&](const SequenceList &list, int count) {
        int64_t rows = 0;
        for (int i = 0; i < count; i++) rows = list.at[i].rows > rows ? list.at[i].rows : rows;
        dim3 grid(blocks_for(rows * threads_a_row, kThreads), static_cast<unsigned>(count));
        if (grid.x == 0) return;
        if (vector == 8)
            GP_RUN(backend, append_rows<8>, grid, kThreads, 0, a, list);
        else
            GP_RUN(backend, append_rows<4>, grid, kThreads, 0, a, list);
    });
}

} // namespace gp_cuda
