/**
 * Causal attention of prompts against the pages (pages.cuh); decoding steps are decode_attention.cu's.
 *
 * A block has 128 rows (64 where no sequence has more) of one kv head and sequence: the group's queries of
 * one position after another, which share the keys. It goes over the pages from the first to the one of its
 * last row, a page being a block of keys, double-buffered by cp.async (attention_tile.cuh). A row's sums are
 * those of pages 0, 1, 2, … up to its own, and pages that it does not see leave its bits as they are, so it
 * makes no difference where a prompt was cut. Positions after the chunk's last are zero-filled: nobody wrote
 * them.
 *
 * Costs, of one sequence from its start: 2·positions²·head_dim·heads operations; q and y once, keys and
 * values once from memory and group·positions/256 times from the second-level cache. 3000 positions, 32
 * heads, width 128: 74 Gflop a layer, 0.24 ms of an A100's 312 Tflop/s,
 * 61 MB, 30 µs. The longest blocks start first.
 */
#include "kernels/cuda/attention_tile.cuh"
#include "kernels/cuda/pages.cuh"

#include <ptx/overlap.cuh>

namespace gp_cuda {

namespace {

struct Paged {
    const uint16_t *q; // [rows, kv_heads·group, head_dim]
    gp_kv_layer cache;
    int group;
    float factor; // scale · log2 e
    uint16_t *y;
};

/** Two tiles a warp only where registers hold them beside a page's scores. */
constexpr int page_tiles(int width) {
    return width <= 64 ? 2 : 1;
}
constexpr int page_warps(int width) {
    return kManyRows / 16 / page_tiles(width);
}

/** kv heads in x, tiles of rows in y, the last first, sequences in z. */
template <int kWidth, int kTiles, int kWarps>
__global__ __launch_bounds__(32 * kWarps) void attend_pages(const __grid_constant__ Paged a,
                                                            const __grid_constant__ SequenceList sequences) {
    constexpr int kRows = 16 * kTiles * kWarps;
    follow_earlier();
    const gp_sequence &sequence = sequences.at[blockIdx.z];
    const int thread = static_cast<int>(threadIdx.x), head = static_cast<int>(blockIdx.x);
    const int count = sequence.rows * a.group; // of the head's query rows, position by position
    const int tiles_all = (count + kRows - 1) / kRows,
              tile_index = tiles_all - 1 - static_cast<int>(blockIdx.y);
    if (tile_index < 0) return;
    const int dim = a.cache.head_dim, block_first = tile_index * kRows;
    const int first = block_first + thread / 32 * 16 * kTiles; // of the warp's rows
    const int block_last = min(block_first + kRows, count) - 1;
    const int seen_all = sequence.first_position + sequence.rows; // positions that hold keys
    const int seen = sequence.first_position + block_last / a.group + 1;
    const int seen_first = sequence.first_position + block_first / a.group + 1; // by the block's first row

    /* Elements from the start of q and y to a row of the head. */
    auto offset = [&](int row) {
        int64_t position = sequence.first_row + row / a.group;
        return ((position * a.cache.kv_heads + head) * a.group + row % a.group) * dim;
    };
    int own[kTiles][2]; // keys that a row sees
#pragma unroll
    for (int tile = 0; tile < kTiles; tile++)
#pragma unroll
        for (int half = 0; half < 2; half++)
            own[tile][half] =
                sequence.first_position + min(first + row_of(tile, half), count - 1) / a.group + 1;
    Queries<kWidth, kTiles> queries;
    load_queries(queries, [&](int tile, int half, int column) {
        int row = first + row_of(tile, half);
        return row < count && column < dim ? load_pair(a.q + offset(row) + column) : 0u;
    });
    Rows<kWidth, kTiles> rows;
    rows.start();
    const int pages = (seen + GP_PAGE_TOKENS - 1) / GP_PAGE_TOKENS;
    int32_t page = sequence.pages[0]; // of the block that is copied next
    over_blocks<kWidth, GP_PAGE_TOKENS>(
        pages, shared_memory<uint16_t>(),
        [&](int at, uint16_t *keys, uint16_t *values) {
            const uint16_t *source = page_head(a.cache, page, head);
            int written = seen_all - at * GP_PAGE_TOKENS;
            copy_rows<kWidth, GP_PAGE_TOKENS, 32 * kWarps>(keys, thread, written, dim,
                                                           [&](int row) { return source + row * dim; });
            source += GP_PAGE_TOKENS * dim;
            copy_rows<kWidth, GP_PAGE_TOKENS, 32 * kWarps>(values, thread, written, dim,
                                                           [&](int row) { return source + row * dim; });
            if (at + 1 < pages) page = sequence.pages[at + 1]; // comes while this block is attended to
        },
        [&](int at, const uint16_t *keys, const uint16_t *values) {
            int key = at * GP_PAGE_TOKENS;
            attend_keys<kWidth, kTiles, GP_PAGE_TOKENS>(
                queries, keys, values, a.factor, key + GP_PAGE_TOKENS > seen_first,
                [&](int tile, int half) { return own[tile][half] - key; }, rows);
        });
    close_rows(rows);
    store_rows(rows, dim, [&](int tile, int half) -> uint16_t * {
        int row = first + row_of(tile, half);
        return row < count ? a.y + offset(row) : nullptr;
    });
}

template <int kWidth, int kTiles, int kWarps>
void run(gp_backend *backend, const Paged &a, const SequenceList &list, int sequences, int rows,
         int positions) {
    dim3 grid(static_cast<unsigned>(a.cache.kv_heads), blocks_for(rows, 16 * kTiles * kWarps),
              static_cast<unsigned>(sequences));
    unsigned bytes = stage_bytes(kWidth, GP_PAGE_TOKENS, positions);
    GP_RUN_EARLY(backend, (attend_pages<kWidth, kTiles, kWarps>), grid, 32 * kWarps, bytes, a, list);
}

} // namespace

void paged_attention(gp_backend *backend, const gp_paged_attention *attention) {
    if (of(backend).hopper && paged_attention_hopper(backend, attention)) return;
    Paged a = {bits_of(attention->q), attention->cache, attention->group, attention->scale * kLog2e,
               bits_of(attention->y)};
    for_sequences(attention->sequences, attention->sequence_count, [&](const SequenceList &list, int count) {
        int rows = 0, positions = 0; // the most of a sequence
        for (int i = 0; i < count; i++) {
            const gp_sequence &sequence = list.at[i];
            int here = sequence.rows * a.group, end = sequence.first_position + sequence.rows;
            rows = here > rows ? here : rows;
            positions = end > positions ? end : positions;
        }
        if (rows == 0) return;
        with_width(a.cache.head_dim, [&](auto width) {
            constexpr int kWidth = decltype(width)::value;
            if (rows <= kFewRows)
                run<kWidth, 1, kFewWarps>(backend, a, list, count, rows, positions);
            else
                run<kWidth, page_tiles(kWidth), page_warps(kWidth)>(backend, a, list, count, rows, positions);
        });
    });
}

} // namespace gp_cuda
