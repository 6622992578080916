/**
 * From mask logits to pixels: the choice by stability, and the enlargement to the scene, decided pixel by
 * pixel: the logits at full size are never written, nor a byte a pixel. What leaves the device is a bit a
 * pixel and where runs end.
 *
 * choose_by_stability: one block a mask, its first map read once (256 KB at 256²: 16 loads of 16 bytes a
 * thread).
 *
 * draw_words: a block draws 256 columns × 64 rows, a thread a column, so that where a column's four logits
 * stay the same (16 rows at 4096²) they are read once; a warp votes a word a row, words leave by way of
 * shared memory, 32 bytes of a row at a time. It counts each column's changes on its way. At 4096² with 256²
 * logits: 16 M pixels of ~15 operations, 2 MB of words and 1 MB of counts written; by arithmetic ~9 µs on
 * 132 processors, where the bytes alone would take 1.
 * sum_changes: counts to places, a thread a column, 256 columns a block (1 MB read and written).
 * write_ends: a warp reads a tile of 32 columns × 64 rows as words, a row a lane, and looks only at rows that
 * differ from the one above (2 MB read twice, 4 bytes a run written).
 */
#include "kernels/cuda/device.h"

#include <ptx/memory.cuh>

namespace gp_cuda {

constexpr int kChoiceThreads = 1024;

__device__ __forceinline__ void count(float logit, float delta, int *over, int *under) {
    *over += logit > delta;
    *under += logit > -delta;
}

static __global__ void __launch_bounds__(kChoiceThreads)
    choose_by_stability(const __grid_constant__ gp_choose_masks masks) {
    int *shared = shared_memory<int>(); // [warps, 2]
    const int mask = blockIdx.x, thread = threadIdx.x;
    const float *logits = masks.logits + static_cast<int64_t>(mask) * 4 * masks.area,
                *iou = masks.iou + mask * 4;
    int over = 0, under = 0;
    const int64_t quads = masks.area % 4 == 0 ? masks.area / 4 : 0; // else maps start between 16 bytes
#pragma unroll 4
    for (int64_t i = thread; i < quads; i += kChoiceThreads) {
        uint4 four = load_16(logits + 4 * i);
        count(__uint_as_float(four.x), masks.delta, &over, &under);
        count(__uint_as_float(four.y), masks.delta, &over, &under);
        count(__uint_as_float(four.z), masks.delta, &over, &under);
        count(__uint_as_float(four.w), masks.delta, &over, &under);
    }
    for (int64_t i = 4 * quads + thread; i < masks.area; i += kChoiceThreads)
        count(logits[i], masks.delta, &over, &under);
    for (int lanes = 16; lanes > 0; lanes /= 2) {
        over += __shfl_xor_sync(0xFFFFFFFFu, over, lanes);
        under += __shfl_xor_sync(0xFFFFFFFFu, under, lanes);
    }
    if (thread % 32 == 0) {
        shared[thread / 32 * 2] = over;
        shared[thread / 32 * 2 + 1] = under;
    }
    __syncthreads();
    if (thread != 0) return;
    over = under = 0;
    for (int warp = 0; warp < kChoiceThreads / 32; warp++) {
        over += shared[warp * 2];
        under += shared[warp * 2 + 1];
    }
    float stability = under > 0 ? static_cast<float>(over) / static_cast<float>(under) : 1;
    int best = 1;
    for (int i = 2; i < 4; i++)
        if (iou[i] > iou[best]) best = i;
    masks.stability[mask] = stability;
    masks.chosen[mask] = stability >= masks.threshold ? 0 : best;
}

void choose_masks(gp_backend *backend, const gp_choose_masks *masks) {
    if (masks->masks > 0)
        GP_RUN(backend, choose_by_stability, static_cast<unsigned>(masks->masks), kChoiceThreads,
               kChoiceThreads / 32 * 2 * sizeof(int), *masks);
}

/* ---- drawing ---- */

constexpr int kMaskThreads = GP_CUDA_MASK_THREADS, kMaskWarps = kMaskThreads / 32,
              kBandRows = GP_CUDA_MASK_BAND;
constexpr unsigned kAllLanes = 0xFFFFFFFFu;

/** How often pixels change down the columns, each column's first pixel compared with the last of the column
 * before; counts in draw_words, afterwards how many changes come before. */
struct Changes {
    uint32_t *bands;   // [bands of kBandRows, width] in the column before this band
    uint32_t *columns; // [width] in the block's columns before this one
    uint32_t *blocks;  // [blocks of kMaskThreads columns] in the whole block
};

/** A target position's source: the index below, the next, and the next one's share. */
struct Source {
    int below, next;
    float share;
};

/** In f32, as torch. */
__device__ __forceinline__ Source source_of(float scale, int index, int size) {
    float source = scale * (static_cast<float>(index) + 0.5f) - 0.5f;
    if (source < 0) source = 0;
    int below = static_cast<int>(source);
    if (below > size - 1) below = size - 1;
    return {below, below + (below < size - 1), source - static_cast<float>(below)};
}

__device__ __forceinline__ Source source_column(const gp_draw_mask &draw, int x) {
    return source_of(static_cast<float>(draw.grid) / static_cast<float>(draw.width), x, draw.grid);
}

__device__ __forceinline__ Source source_row(const gp_draw_mask &draw, int y) {
    return source_of(static_cast<float>(draw.grid) / static_cast<float>(draw.height), y, draw.grid);
}

/** A row of logits at a column. */
__device__ __forceinline__ float widen(const gp_draw_mask &draw, int row, Source column) {
    const float *logits = draw.logits + static_cast<int64_t>(row) * draw.grid;
    return (1 - column.share) * logits[column.below] + column.share * logits[column.next];
}

__device__ __forceinline__ bool is_drawn(float share, float top, float bottom) {
    return (1 - share) * top + share * bottom > 0;
}

/** One pixel by itself; columns beyond the width are inside the grid still. */
__device__ __forceinline__ bool pixel_at(const gp_draw_mask &draw, int x, int y) {
    const Source column = source_column(draw, x), row = source_row(draw, y);
    return is_drawn(row.share, widen(draw, row.below, column), widen(draw, row.next, column));
}

/** Words, and changes.bands as counts. */
static __global__ void __launch_bounds__(kMaskThreads)
    draw_words(const __grid_constant__ gp_draw_mask draw, Changes changes, unsigned across, int64_t words) {
    uint32_t *shared = shared_memory<uint32_t>(); // [kBandRows, kMaskWarps]
    const int thread = threadIdx.x, block = blockIdx.x % across, band = blockIdx.x / across;
    const int x = block * kMaskThreads + thread, first = band * kBandRows,
              rows = min(kBandRows, draw.height - first);
    const bool inside = x < draw.width;
    const Source column = source_column(draw, x);
    bool before = false;
    if (first > 0)
        before = pixel_at(draw, x, first - 1);
    else if (x > 0)
        before = pixel_at(draw, x - 1, draw.height - 1);
    uint32_t count = 0;
    float top = 0, bottom = 0;
    int held = -1; // the source row that top and bottom begin at
    for (int y = 0; y < rows; y++) {
        const Source row = source_row(draw, first + y);
        if (row.below != held) {
            top = widen(draw, row.below, column);
            bottom = widen(draw, row.next, column);
            held = row.below;
        }
        const bool pixel = inside && is_drawn(row.share, top, bottom);
        count += pixel != before;
        before = pixel;
        const uint32_t word = __ballot_sync(kAllLanes, pixel);
        if (thread % 32 == 0) shared[y * kMaskWarps + thread / 32] = word;
    }
    if (inside) changes.bands[static_cast<int64_t>(band) * draw.width + x] = count;
    __syncthreads();
    for (int i = thread; i < rows * kMaskWarps; i += kMaskThreads) {
        const int64_t word = static_cast<int64_t>(block) * kMaskWarps + i % kMaskWarps;
        if (word < words) draw.words[(first + i / kMaskWarps) * words + word] = shared[i];
    }
}

/** Changes from counts to places. */
static __global__ void __launch_bounds__(kMaskThreads)
    sum_changes(const __grid_constant__ gp_draw_mask draw, Changes changes, int bands) {
    constexpr int kTogether = 8;                  // loads in flight
    uint32_t *shared = shared_memory<uint32_t>(); // [kMaskWarps]
    const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
    const int64_t x = static_cast<int64_t>(blockIdx.x) * kMaskThreads + thread;
    uint32_t *column = changes.bands + x;
    uint32_t sum = 0;
    for (int first = 0; first < bands && x < draw.width; first += kTogether) {
        uint32_t counts[kTogether];
#pragma unroll
        for (int i = 0; i < kTogether; i++)
            counts[i] = first + i < bands ? column[static_cast<int64_t>(first + i) * draw.width] : 0;
#pragma unroll
        for (int i = 0; i < kTogether; i++) {
            if (first + i < bands) column[static_cast<int64_t>(first + i) * draw.width] = sum;
            sum += counts[i];
        }
    }
    uint32_t through = sum; // the warp's columns up to this one
    for (unsigned lanes = 1; lanes < 32; lanes *= 2) {
        const uint32_t others = __shfl_up_sync(kAllLanes, through, lanes);
        if (lane >= static_cast<int>(lanes)) through += others;
    }
    if (lane == 31) shared[warp] = through;
    __syncthreads();
    uint32_t earlier = 0;
    for (int i = 0; i < warp; i++) earlier += shared[i];
    if (x < draw.width) changes.columns[x] = earlier + through - sum;
    if (thread == kMaskThreads - 1) changes.blocks[blockIdx.x] = earlier + through;
}

/** Where each change is, at the places of sum_changes; the first thread ends the last run. */
static __global__ void __launch_bounds__(kMaskThreads)
    write_ends(const __grid_constant__ gp_draw_mask draw, Changes changes, unsigned across, int64_t words) {
    const int thread = threadIdx.x, lane = thread % 32;
    const unsigned block = blockIdx.x % across;
    const int band = blockIdx.x / across, x = static_cast<int>(block) * kMaskThreads + thread;
    const uint32_t height = static_cast<uint32_t>(draw.height);
    if (blockIdx.x == 0 && thread == 0) {
        uint32_t all = 0;
        for (unsigned i = 0; i < across; i++) all += changes.blocks[i];
        draw.ends[all] = static_cast<uint32_t>(draw.width) * height;
        *draw.runs = all + 1;
    }
    const int64_t word = x / 32;
    if (word >= words) return; // all lanes of the warp
    const bool inside = x < draw.width;
    size_t at = 0;
    if (inside) {
        for (unsigned i = 0; i < block; i++) at += changes.blocks[i];
        at += changes.columns[x] + changes.bands[static_cast<int64_t>(band) * draw.width + x];
    }
    for (int first = band * kBandRows; first < min((band + 1) * kBandRows, draw.height); first += 32) {
        const int row = first + lane;
        uint32_t changed = 0; // row `row` against the one above, the first against the last one column before
        if (row < draw.height) {
            const uint32_t *here = draw.words + row * words + word;
            if (row > 0) {
                changed = *here ^ here[-words];
            } else {
                const uint32_t *last = draw.words + (draw.height - 1) * words + word;
                changed = *here ^ (*last << 1 | (word > 0 ? last[-1] >> 31 : 0));
            }
        }
        for (uint32_t rows = __ballot_sync(kAllLanes, changed != 0); rows != 0; rows &= rows - 1) {
            const int y = __ffs(static_cast<int>(rows)) - 1;
            const uint32_t columns = __shfl_sync(kAllLanes, changed, y);
            if (inside && (columns >> lane & 1) != 0)
                draw.ends[at++] = static_cast<uint32_t>(x) * height + static_cast<uint32_t>(first + y);
        }
    }
}

void draw_mask(gp_backend *backend, const gp_draw_mask *draw) {
    const unsigned across = blocks_for(draw->width, kMaskThreads);
    const int64_t bands = blocks_for(draw->height, kBandRows), words = gp_mask_words(draw->width);
    const unsigned tiles = static_cast<unsigned>(across * bands);
    Changes changes;
    changes.bands = static_cast<uint32_t *>(draw->scratch);
    changes.columns = changes.bands + bands * draw->width;
    changes.blocks = changes.columns + draw->width;
    GP_RUN(backend, draw_words, tiles, kMaskThreads, kBandRows * kMaskWarps * sizeof(uint32_t), *draw,
           changes, across, words);
    GP_RUN(backend, sum_changes, across, kMaskThreads, kMaskWarps * sizeof(uint32_t), *draw, changes,
           static_cast<int>(bands));
    GP_RUN(backend, write_ends, tiles, kMaskThreads, 0, *draw, changes, across, words);
}

} // namespace gp_cuda
