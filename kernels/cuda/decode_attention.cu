/**
 * Decoding steps: one row a sequence, its rotation, the write of its key and value, and its attention against
 * the pages, split along the keys.
 *
 * attend_split: a block has the queries of one kv head (16 of them: a group is one tile of an mma) and
 * kSplit = 128 keys of one sequence; each of 4 warps copies its own 32 keys and values by cp.async, all of
 * them under way at once, 64 KB a block at width 128 (73 KB of shared memory). Meanwhile the block turns its
 * queries (rope.cuh) into shared memory and, in the last split, the new key; that split's first block of the
 * group writes key and value to their page. Nobody reads them there in this launch: the last split's blocks
 * put them beside the keys that have come, and no other split has the position. Warps are merged in their
 * order. The block leaves its sums, not yet divided, with their largest and total in the workspace.
 *
 * merge_splits adds a row's splits, every fourth in order and then the four, and divides. What splits there
 * are depends on the sequence's length alone, which both read from memory: the grid is for the longest that
 * there may be, blocks beyond a sequence's length leave at once, and so a launch can be recorded and replayed
 * for other lengths. The workspace holds 4,032 splits of 32 heads of 128: 31 sequences a launch where 16,384
 * positions may be.
 *
 * Costs: keys and values once, 4·length·kv_heads·head_dim bytes a sequence, 3 % of that for the splits
 * (group 4), and from the second-level cache 2 % for queries and tables, which every split turns again;
 * 4·length·heads·head_dim operations, a few percent of what mma does in that time. 3000 positions, 8 kv
 * heads, width 128: 12.3 MB a layer, 192 blocks, 6 µs of an A100's memory, 2.6 of an H200's.
 */
#include "kernels/cuda/attention_tile.cuh"
#include "kernels/cuda/pages.cuh"
#include "kernels/cuda/rope.cuh"

#include <ptx/overlap.cuh>

namespace gp_cuda {

namespace {

constexpr int kWarps = 4, kWarpKeys = 32, kSplit = kWarps * kWarpKeys;
constexpr int kTileRows = 16;           // queries of a block
constexpr int kOwnRows = kTileRows + 2; // of the step itself: queries, then the new key and value
constexpr int kMergePairs = 64, kMergeGroups = 4, kMergeThreads = kMergePairs * kMergeGroups;
constexpr int kMergeHeld = 8; // splits that a thread asks for at once
constexpr int kVector = 4;    // of rope.cuh: 96 threads turn and copy 4 queries, key and value of width 128
static_assert(GP_PAGE_TOKENS % kWarpKeys == 0, "a warp's keys lie in one page");

/** A sequence of one row: it sees `length` keys, its own the last; 0: it is passed over. */
struct Step {
    int32_t row, length;
    const int32_t *pages;
};

struct Decode {
    const gp_sequence *sequences; // of this launch
    int splits;                   // slots that a sequence has in the workspace
    const uint16_t *qkv;          // [rows, kv_heads, group + 2, head_dim]
    const float *cosine, *sine;
    gp_kv_layer cache;
    int group, group_tiles;
    float factor; // scale · log2 e
    float *sums;  // [splits, kv_heads·group, head_dim]
    float *marks; // [splits, kv_heads·group, 2]: largest, total
    uint16_t *y;
};

/** Two columns of some splits, to be divided by `total`; powers are of 2. */
struct Merged {
    float largest, total, sum0, sum1;
    __device__ __forceinline__ void rescale(float newest) {
        const float change = exp2_fast(largest - newest);
        largest = newest;
        total *= change;
        sum0 *= change;
        sum1 *= change;
    }
    /** Others, of no larger `largest`. */
    __device__ __forceinline__ void add(const Merged &other) {
        const float change = exp2_fast(other.largest - largest);
        total = fmaf(other.total, change, total);
        sum0 = fmaf(other.sum0, change, sum0);
        sum1 = fmaf(other.sum1, change, sum1);
    }
};

/** By all threads from the same few bytes: one request a warp. */
__device__ __forceinline__ Step step_of(const Decode &a, unsigned index) {
    const gp_sequence &sequence = a.sequences[index];
    return {sequence.first_row, sequence.rows > 0 ? sequence.first_position + 1 : 0, sequence.pages};
}

/** The step's queries first … first + count − 1 of one kv head's group, turned, to `own` [count,
 * tile_stride]. In the newest split the key and value follow, which the group's first block also writes to
 * their page. */
template <int kWidth>
__device__ __forceinline__ void turn_own(const Decode &a, const Step &step, int head, int first, int count,
                                         bool newest, uint16_t *own) {
    const int dim = a.cache.head_dim, half = dim / 2, vectors = half / kVector, position = step.length - 1;
    const int64_t kv_row = static_cast<int64_t>(step.row) * a.cache.kv_heads + head;
    const int64_t angles = static_cast<int64_t>(position) * half;
    const int rows = newest ? count + 2 : count;
    for (int index = static_cast<int>(threadIdx.x); index < rows * vectors; index += 32 * kWarps) {
        const int row = index / vectors, column = index % vectors * kVector;
        const int slot = row < count ? first + row : a.group + row - count;
        Halves<kVector> part;
        part.load(a.qkv + (kv_row * (a.group + 2) + slot) * dim + column, half);
        if (slot <= a.group) part.turn(a.cosine + angles + column, a.sine + angles + column);
        part.store(own + row * tile_stride(kWidth) + column, half);
        if (row >= count && first == 0)
            part.store(page_row(a.cache, step.pages, position, head, row - count) + column, half);
    }
}

/** One row of a tile from another by a warp, whose lanes' copies to the tile have landed. */
__device__ __forceinline__ void place_row(uint16_t *target, const uint16_t *source, int dim) {
    const int column = static_cast<int>(threadIdx.x) % 32 * 8;
    __syncwarp(); // all lanes' copies: the row was zero-filled by them
    if (column < dim) store_16(target + column, load_16(source + column));
}

/** Splits in x, kv heads and tiles of their groups in y, sequences in z. */
template <int kWidth>
__global__ __launch_bounds__(32 * kWarps) void attend_split(const __grid_constant__ Decode a) {
    constexpr int kTile = tile_size(kWidth, kWarpKeys);
    const Step step = step_of(a, blockIdx.z);
    const int split = static_cast<int>(blockIdx.x);
    let_next_begin();
    if (split * kSplit >= step.length) return await_earlier();
    const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
    const int head = static_cast<int>(blockIdx.y) / a.group_tiles, dim = a.cache.head_dim;
    const int first = static_cast<int>(blockIdx.y) % a.group_tiles * kTileRows; // of the group
    const int count = min(a.group - first, kTileRows), heads = a.cache.kv_heads * a.group;
    const int key = split * kSplit + warp * kWarpKeys, seen = min(step.length - key, kWarpKeys);
    const int written = min(step.length - 1 - key, kWarpKeys); // before this step
    uint16_t *keys = shared_memory<uint16_t>() + warp * 2 * kTile, *values = keys + kTile;
    uint16_t *own = shared_memory<uint16_t>() + kWarps * 2 * kTile;
    const uint16_t *own_key = own + count * tile_stride(kWidth), *own_value = own_key + tile_stride(kWidth);

    if (seen > 0) {
        const uint16_t *source =
            page_head(a.cache, step.pages[key / GP_PAGE_TOKENS], head) + key % GP_PAGE_TOKENS * dim;
        copy_rows<kWidth, kWarpKeys, 32>(keys, lane, written, dim,
                                         [&](int row) { return source + row * dim; });
        copy_commit();
        source += GP_PAGE_TOKENS * dim;
        copy_rows<kWidth, kWarpKeys, 32>(values, lane, written, dim,
                                         [&](int row) { return source + row * dim; });
    }
    copy_commit();
    await_earlier(); // earlier steps' keys and values are there; the queries may not be
    turn_own<kWidth>(a, step, head, first, count, (split + 1) * kSplit >= step.length, own);
    __syncthreads();
    Rows<kWidth, 1> rows;
    rows.start();
    if (seen > 0) { // the same for all lanes
        Queries<kWidth, 1> queries;
        load_queries(queries, [&](int tile, int half, int column) {
            int at = row_of(tile, half);
            return at < count && column < dim ? load_pair(own + at * tile_stride(kWidth) + column) : 0u;
        });
        copy_wait<1>();
        if (written < seen) place_row(keys + written * tile_stride(kWidth), own_key, dim);
        __syncwarp();
        Weights<kWarpKeys, 1> weights;
        score_keys(queries, keys, weights);
        if (seen < kWarpKeys) mask_keys(weights, [&](int, int) { return seen; });
        float change[1][2]; // of sums that are still 0
        weigh_keys(weights, a.factor, rows, change);
        copy_wait<0>();
        if (written < seen) place_row(values + written * tile_stride(kWidth), own_value, dim);
        __syncwarp();
        add_values(weights, values, rows);
    }
    copy_wait<0>();
    close_rows(rows);
    __syncthreads(); // the tiles give way to partial results
    Partials<kWidth, kWarps> partials{shared_memory<float>()};
    partials.leave(warp, rows);
    __syncthreads();
    const int64_t slot =
        (static_cast<int64_t>(blockIdx.z) * a.splits + split) * heads + head * a.group + first;
    for (int index = thread; index < count * (dim / 2); index += 32 * kWarps) {
        int at = index / (dim / 2), column = index % (dim / 2) * 2;
        float largest = partials.largest_of(at), total, sum0, sum1;
        partials.merge(at, column, largest, total, sum0, sum1);
        *reinterpret_cast<float2 *>(a.sums + (slot + at) * dim + column) = make_float2(sum0, sum1);
        if (column == 0) *reinterpret_cast<float2 *>(a.marks + (slot + at) * 2) = make_float2(largest, total);
    }
}

/** Query heads in x, sequences in y. A thread has two columns of every fourth split, eight of them at a time:
 * all that 4,096 positions leave is asked for at once. Groups of threads are added in their order. */
__global__ __launch_bounds__(kMergeThreads) void merge_splits(const __grid_constant__ Decode a) {
    let_next_begin();
    const Step step = step_of(a, blockIdx.y);
    const int head = static_cast<int>(blockIdx.x), heads = a.cache.kv_heads * a.group, dim = a.cache.head_dim;
    const int group = static_cast<int>(threadIdx.x) / kMergePairs, pair = threadIdx.x % kMergePairs;
    const int splits = (step.length + kSplit - 1) / kSplit;
    await_earlier();
    if (splits == 0) return;
    const bool inside = 2 * pair < dim;
    const int64_t first = static_cast<int64_t>(blockIdx.y) * a.splits * heads + head;
    const float *marks = a.marks + first * 2, *sums = a.sums + first * dim + 2 * pair;
    Merged own = {-INFINITY, 0, 0, 0};
    for (int begin = group; begin < splits; begin += kMergeGroups * kMergeHeld) {
        float2 mark[kMergeHeld], sum[kMergeHeld];
#pragma unroll
        for (int i = 0; i < kMergeHeld; i++) {
            const int64_t split = begin + i * kMergeGroups;
            mark[i] = make_float2(-INFINITY, 0);
            sum[i] = make_float2(0, 0);
            if (split >= splits) continue;
            mark[i] = *reinterpret_cast<const float2 *>(marks + split * heads * 2);
            if (inside) sum[i] = *reinterpret_cast<const float2 *>(sums + split * heads * dim);
        }
        float largest = own.largest;
#pragma unroll
        for (int i = 0; i < kMergeHeld; i++) largest = fmaxf(largest, mark[i].x);
        own.rescale(largest);
#pragma unroll
        for (int i = 0; i < kMergeHeld; i++) own.add({mark[i].x, mark[i].y, sum[i].x, sum[i].y});
    }
    auto *parts = shared_memory<float4>(); // [groups, pairs]: largest, total, two sums
    parts[threadIdx.x] = make_float4(own.largest, own.total, own.sum0, own.sum1);
    __syncthreads();
    if (group > 0 || !inside) return;
    float largest = own.largest;
#pragma unroll
    for (int i = 1; i < kMergeGroups; i++) largest = fmaxf(largest, parts[i * kMergePairs + pair].x);
    own.rescale(largest);
#pragma unroll
    for (int i = 1; i < kMergeGroups; i++) {
        const float4 part = parts[i * kMergePairs + pair];
        own.add({part.x, part.y, part.z, part.w});
    }
    uint16_t *y = a.y + (static_cast<int64_t>(step.row) * heads + head) * dim + 2 * pair;
    *reinterpret_cast<uint32_t *>(y) = shared_out(own.sum0, own.sum1, 1.0f / own.total);
}

/** `count` sequences, whose splits the workspace holds. */
void run(gp_backend *backend, const Decode &a, int count) {
    dim3 grid(static_cast<unsigned>(a.splits), static_cast<unsigned>(a.cache.kv_heads * a.group_tiles),
              static_cast<unsigned>(count));
    with_width(a.cache.head_dim, [&](auto width) {
        constexpr int kWidth = decltype(width)::value;
        constexpr unsigned kElements =
            kWarps * 2 * tile_size(kWidth, kWarpKeys) + kOwnRows * tile_stride(kWidth);
        constexpr unsigned kBytes = kElements * sizeof(uint16_t);
        static_assert(Partials<kWidth, kWarps>::kFloats * sizeof(float) <= kBytes,
                      "partial results fit where the tiles were");
        GP_RUN_EARLY(backend, (attend_split<kWidth>), grid, 32 * kWarps, kBytes, a);
    });
    dim3 merge_grid(static_cast<unsigned>(a.cache.kv_heads * a.group), static_cast<unsigned>(count));
    GP_RUN_EARLY(backend, merge_splits, merge_grid, kMergeThreads, kMergeThreads * sizeof(float4), a);
}

} // namespace

void decode_attention(gp_backend *backend, const gp_decode_attention *attention) {
    const int heads = attention->cache.kv_heads * attention->group, dim = attention->cache.head_dim;
    const int splits = (attention->positions + kSplit - 1) / kSplit;
    const int64_t room =
        static_cast<int64_t>(kWorkspaceBytes / sizeof(float)) / (heads * (dim + 2)); // splits
    if (splits > room) return note(of(backend), cudaErrorMemoryAllocation, "a decoding step's workspace");
    auto *workspace = static_cast<float *>(of(backend).workspace);
    Decode a = {nullptr,
                splits,
                bits_of(attention->qkv),
                attention->cosine,
                attention->sine,
                attention->cache,
                attention->group,
                (attention->group + kTileRows - 1) / kTileRows,
                attention->scale * kLog2e,
                workspace,
                workspace + room * heads * dim,
                bits_of(attention->y)};
    const int together = splits > 0 ? static_cast<int>(room / splits) : 0;
    for (int first = 0; splits > 0 && first < attention->sequence_count; first += together) {
        a.sequences = attention->sequences + first;
        run(backend, a, min(attention->sequence_count - first, together));
    }
}

} // namespace gp_cuda
