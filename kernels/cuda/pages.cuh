/**
 * The KV cache's pages, and sequences of prompts as kernels get them: by value, up to kSequences a launch.
 *
 * Inside a page each kv head has its keys [GP_PAGE_TOKENS, head_dim], then its values [GP_PAGE_TOKENS,
 * head_dim], bf16: rows start at multiples of 16 bytes, and a head's half of a page is one block of keys.
 */
#pragma once

#include "kernels/cuda/device.h"

namespace gp_cuda {

constexpr int kSequences = 64; // 1.5 KB of the 4 KB that parameters may have

struct SequenceList {
    gp_sequence at[kSequences];
};

/** Calls run(list, count, first) for the sequences, kSequences at a time. */
template <class Run> void for_sequences(const gp_sequence *sequences, int count, Run run) {
    for (int first = 0; first < count; first += kSequences) {
        SequenceList list = {};
        int here = count - first < kSequences ? count - first : kSequences;
        for (int i = 0; i < here; i++) list.at[i] = sequences[first + i];
        run(list, here);
    }
}

/** Elements of one kv head in a page: keys, then values. */
__host__ __device__ constexpr int64_t page_head_size(int head_dim) {
    return GP_CUDA_PAGE_HEAD_SIZE(head_dim);
}

/** Where a page keeps the keys of a kv head; its values are GP_PAGE_TOKENS·head_dim further. */
__device__ __forceinline__ uint16_t *page_head(const gp_kv_layer &cache, int32_t page, int head) {
    return static_cast<uint16_t *>(cache.pages) +
           (static_cast<int64_t>(page) * cache.kv_heads + head) * page_head_size(cache.head_dim);
}

/** Where a position has its key (`which` 0) or value (1) of a kv head. */
__device__ __forceinline__ uint16_t *page_row(const gp_kv_layer &cache, const int32_t *pages, int position,
                                              int head, int which) {
    return page_head(cache, pages[position / GP_PAGE_TOKENS], head) +
           (which * GP_PAGE_TOKENS + position % GP_PAGE_TOKENS) * cache.head_dim;
}

} // namespace gp_cuda
