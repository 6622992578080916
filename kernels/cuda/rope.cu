/**
 * Rotary positions of prompts (rope.cuh), with the write of keys and values to their pages (pages.cuh): q and
 * k are turned, v is copied. For heads that products do not end with themselves (qkv_end.cuh); decoding steps
 * are decode_attention.cu's.
 *
 * Costs: every row is read and written once, 4·kv_heads·(group + 2)·head_dim bytes (24 KB at 8 kv heads, 4
 * queries each, width 128), and the tables' 4·head_dim bytes from the second-level cache; 3 operations a
 * number. A prompt of 3000 rows: 74 MB, 36 µs of an A100's memory, 15 of an H200's.
 */
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/rope.cuh"

#include <ptx/overlap.cuh>

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

/** One thread's part of one row: blocks in x over a sequence's rows, sequences in y. */
template <int kVector>
__global__ __launch_bounds__(kThreads) void append_rows(const __grid_constant__ Append a,
                                                        const __grid_constant__ SequenceList sequences) {
    follow_earlier();
    const gp_sequence &sequence = sequences.at[blockIdx.y];
    const int half = a.cache.head_dim / 2;
    const unsigned vectors = static_cast<unsigned>(half) / kVector;
    const unsigned slots = static_cast<unsigned>(a.group) + 2,
                   heads = static_cast<unsigned>(a.cache.kv_heads);
    unsigned index = blockIdx.x * kThreads + threadIdx.x;
    const int column = static_cast<int>(index % vectors) * kVector;
    index /= vectors;
    const int slot = static_cast<int>(index % slots);
    index /= slots;
    const int head = static_cast<int>(index % heads), at = static_cast<int>(index / heads);
    if (at >= sequence.rows) return;
    const int64_t row = sequence.first_row + at;
    const int position = sequence.first_position + at, dim = a.cache.head_dim;

    const int64_t kv_row = row * a.cache.kv_heads + head;
    const uint16_t *x = a.qkv + (kv_row * slots + slot) * dim + column;
    const int64_t turned = static_cast<int64_t>(position) * half + column;
    Halves<kVector> part;
    part.load(x, half);
    if (slot <= a.group) part.turn(a.cosine + turned, a.sine + turned);
    uint16_t *target = slot < a.group ? a.q + (kv_row * a.group + slot) * dim
                                      : page_row(a.cache, sequence.pages, position, head, slot - a.group);
    part.store(target + column, half);
}

} // namespace

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
            GP_RUN_EARLY(backend, append_rows<8>, grid, kThreads, 0, a, list);
        else
            GP_RUN_EARLY(backend, append_rows<4>, grid, kThreads, 0, a, list);
    });
}

} // namespace gp_cuda
