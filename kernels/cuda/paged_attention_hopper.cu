/**
 * Causal attention of prompts against the pages on Hopper, head dims 64 and 128. Everything else is
 * paged_attention.cu's.
 *
 * A block has 128 rows of one kv head and sequence, the group's queries of one position after another
 * (attention_boxes.cuh), and goes over the pages from the first to that of its last row: a stage is a page of
 * width 128, two of width 64. The copying thread reads the page table. Positions that nobody has written hold
 * anything: their scores are masked, and the threads that multiply write zeros over their values in shared
 * memory before any product reads them.
 *
 * Every prompt row goes this way, however many come together, so that its bits do not depend on where a
 * prompt was cut. The longest blocks start first.
 *
 * Costs as in paged_attention.cu. 4081 positions, 32 heads, width 128: 137 Gflop a layer, to which the rows'
 * own pages, half of them masked, add 3 %: 0.18 ms at 790 Tflop/s; keys and values 16.7 MB once from memory
 * and 510 pages' worth a kv head from the second-level cache.
 */
#include "kernels/cuda/attention_boxes.cuh"
#include "kernels/cuda/pages.cuh"

#include <ptx/overlap.cuh>

namespace gp_cuda {

namespace {

struct BoxedPages {
    const uint16_t *q; // [rows, kv_heads·group, kWidth]
    int kv_heads, group;
    float factor; // scale · log2 e
    uint16_t *y;
};

[[maybe_unused]] constexpr unsigned kSettleBarrier = 1;

/** Zeros over the rows of a stage's values from `written` on; by all threads that multiply. */
template <int kWidth> __device__ __forceinline__ void clear_values(unsigned char *values, int written) {
    using Ring = KeyRing<kWidth>;
    const int thread = static_cast<int>(threadIdx.x) - 128, chunks = (Ring::kKeys - written) * 8;
    for (int box = 0; box < Ring::kBoxes; box++)
        for (int chunk = thread; chunk < chunks; chunk += kBoxConsumers)
            store_16(values + box * Ring::kBoxBytes + written * 128 + chunk * 16, make_uint4(0, 0, 0, 0));
    fence_proxy_async(); // products read them
    sync_named(kSettleBarrier, kBoxConsumers);
}

/** kv heads in x, tiles of rows in y, the last first, sequences in z. */
template <int kWidth>
__global__ __launch_bounds__(kBoxThreads,
                             1) void attend_page_boxes(const __grid_constant__ BoxedPages a,
                                                       const __grid_constant__ SequenceList sequences,
                                                       const __grid_constant__ tensor_map pages) {
#if GP_HOPPER
    using Ring = KeyRing<kWidth>;
    constexpr int kPages = Ring::kKeys / GP_PAGE_TOKENS; // of a stage
    const Ring ring = {shared_memory<unsigned char>()};
    const gp_sequence &sequence = sequences.at[blockIdx.z];
    const int thread = static_cast<int>(threadIdx.x), head = static_cast<int>(blockIdx.x);
    const int count = sequence.rows * a.group; // of the head's query rows, position by position
    const int tiles = (count + kBoxRows - 1) / kBoxRows,
              tile_index = tiles - 1 - static_cast<int>(blockIdx.y);
    let_next_begin();
    if (tile_index < 0) return await_earlier();
    const int block_first = tile_index * kBoxRows, block_last = min(block_first + kBoxRows, count) - 1;
    const int written = sequence.first_position + sequence.rows; // positions that hold keys
    const int seen = sequence.first_position + block_last / a.group + 1;
    const int seen_first = sequence.first_position + block_first / a.group + 1; // by the block's first row
    const int blocks = (seen + Ring::kKeys - 1) / Ring::kKeys;
    ring.start();
    await_earlier();
    if (thread < 128) {
        give_registers<kCopyingRegisters>();
        if (thread > 0) return;
        const int last = (written - 1) / GP_PAGE_TOKENS;
        RingPlace place = {0, 1};
        fill_ring(ring, place, blocks,
                  [&](int at, unsigned char *keys, unsigned char *values, mbarrier *full) {
                      for (int i = 0; i < kPages; i++) {
                          /* A stage is filled whole: where the sequence has no page any more, its last one
                           * comes again.
                           */
                          int plane = sequence.pages[min(at * kPages + i, last)] * a.kv_heads + head;
                          int offset = i * GP_PAGE_TOKENS * 128;
                          for (int box = 0; box < Ring::kBoxes; box++, offset += Ring::kBoxBytes) {
                              tensor_load(&pages, keys + offset, 64 * box, 0, plane, full);
                              tensor_load(&pages, values + offset, 64 * box, GP_PAGE_TOKENS, plane, full);
                          }
                      }
                  });
    } else {
        take_registers<kAttendingRegisters>();
        const int first = block_first + attending_row(); // of the warp's rows
        auto offset = [&](int row) {                     // from the start of q and y to a row of the head
            int64_t position = sequence.first_row + row / a.group;
            return ((position * a.kv_heads + head) * a.group + row % a.group) * kWidth;
        };
        int own[2]; // keys that a row sees
#pragma unroll
        for (int half = 0; half < 2; half++)
            own[half] = sequence.first_position + min(first + row_of(0, half), count - 1) / a.group + 1;
        Queries<kWidth, 1> queries;
        load_queries(queries, [&](int tile, int half, int column) {
            int row = first + row_of(tile, half);
            return row < count ? load_pair(a.q + offset(row) + column) : 0u;
        });
        Rows<kWidth, 1> rows;
        rows.start();
        RingPlace place = {0, 0};
        attend_ring(
            ring, place, blocks, queries, a.factor,
            [&](int at, unsigned char *values) {
                int here = written - at * Ring::kKeys;
                if (here < Ring::kKeys) clear_values<kWidth>(values, here);
            },
            [&](int at) { return (at + 1) * Ring::kKeys > seen_first; },
            [&](int at, int half) { return own[half] - at * Ring::kKeys; }, rows);
        store_rows(rows, kWidth, [&](int tile, int half) -> uint16_t * {
            int row = first + row_of(tile, half);
            return row < count ? a.y + offset(row) : nullptr;
        });
    }
#endif
}

template <int kWidth> bool run(gp_backend *backend, const gp_paged_attention *attention) {
    const gp_kv_layer &cache = attention->cache;
    /* A kv head's part of a page is a plane of keys, then values. How many pages there are is the cache's
     * owner's business; the map has as many planes as a map may have. */
    tensor_map map = {};
    if (!encode_planes(&map, cache.pages, INT32_MAX, 2 * GP_PAGE_TOKENS, kWidth,
                       static_cast<uint64_t>(page_head_size(kWidth)), kWidth, GP_PAGE_TOKENS))
        return false;
    BoxedPages a = {bits_of(attention->q), cache.kv_heads, attention->group, attention->scale * kLog2e,
                    bits_of(attention->y)};
    for_sequences(attention->sequences, attention->sequence_count, [&](const SequenceList &list, int count) {
        int rows = 0; // the most of a sequence
        for (int i = 0; i < count; i++)
            rows = list.at[i].rows * a.group > rows ? list.at[i].rows * a.group : rows;
        if (rows == 0) return;
        dim3 grid(static_cast<unsigned>(a.kv_heads), blocks_for(rows, kBoxRows),
                  static_cast<unsigned>(count));
        GP_RUN_EARLY(backend, (attend_page_boxes<kWidth>), grid, kBoxThreads, KeyRing<kWidth>::kBytes, a,
                     list, map);
    });
    return true;
}

} // namespace

bool paged_attention_hopper(gp_backend *backend, const gp_paged_attention *attention) {
    if (attention->cache.head_dim == 64) return run<64>(backend, attention);
    return attention->cache.head_dim == 128 && run<128>(backend, attention);
}

} // namespace gp_cuda
