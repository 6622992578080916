/**
 * From mask logits to pixels: the choice by stability, and the enlargement to the scene, which is decided
 * pixel by pixel: the logits at full size are never written.
 *
 * choose: one block a mask, its first map read once (4·area bytes). draw: four pixels a thread, each of four
 * logits that the caches hold (256² is 256 KB); height·width bytes written, 16 M pixels of a 4K scene in ~4
 * µs at 4.3 TB/s, ~20 operations a pixel.
 */
#include "kernels/cuda/device.h"

namespace gp_cuda {

constexpr int kMaskThreads = 256, kPixels = 4;

static __global__ void __launch_bounds__(kMaskThreads)
    choose_by_stability(const __grid_constant__ gp_choose_masks masks) {
    int *shared = shared_memory<int>(); // [warps, 2]
    const int mask = blockIdx.x, thread = threadIdx.x;
    const float *logits = masks.logits + static_cast<int64_t>(mask) * 4 * masks.area,
                *iou = masks.iou + mask * 4;
    int over = 0, under = 0;
    for (int64_t i = thread; i < masks.area; i += kMaskThreads) {
        float logit = logits[i];
        over += logit > masks.delta;
        under += logit > -masks.delta;
    }
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
    for (int warp = 0; warp < kMaskThreads / 32; warp++) {
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
        GP_RUN(backend, choose_by_stability, static_cast<unsigned>(masks->masks), kMaskThreads,
               kMaskThreads / 32 * 2 * sizeof(int), *masks);
}

/** The source position of a target one: the index below, the next, and the next one's share. In f32, as
 * torch. */
__device__ __forceinline__ int source_of(float scale, int index, int size, int *next, float *share) {
    float source = scale * (static_cast<float>(index) + 0.5f) - 0.5f;
    if (source < 0) source = 0;
    int below = static_cast<int>(source);
    if (below > size - 1) below = size - 1;
    *next = below + (below < size - 1);
    *share = source - static_cast<float>(below);
    return below;
}

static __global__ void __launch_bounds__(kMaskThreads)
    draw_pixels(const __grid_constant__ gp_draw_mask draw, int64_t count, bool together) {
    int64_t i = static_cast<int64_t>(blockIdx.x) * kMaskThreads + threadIdx.x;
    if (i >= count) return;
    int64_t across = (draw.width + kPixels - 1) / kPixels;
    int row = static_cast<int>(i / across), first = static_cast<int>(i % across) * kPixels, next_row;
    float share_y, scale_x = static_cast<float>(draw.grid) / static_cast<float>(draw.width);
    int above = source_of(static_cast<float>(draw.grid) / static_cast<float>(draw.height), row, draw.grid,
                          &next_row, &share_y);
    const float *top = draw.logits + static_cast<int64_t>(above) * draw.grid,
                *bottom = draw.logits + static_cast<int64_t>(next_row) * draw.grid;
    uint32_t pixels = 0;
#pragma unroll
    for (int k = 0; k < kPixels; k++) {
        int right;
        float share;
        int left =
            source_of(scale_x, first + k, draw.grid, &right, &share); // beyond the row: inside the grid still
        float over = (1 - share) * top[left] + share * top[right],
              under = (1 - share) * bottom[left] + share * bottom[right];
        if ((1 - share_y) * over + share_y * under > 0) pixels |= 1u << 8 * k;
    }
    uint8_t *target = draw.pixels + static_cast<int64_t>(row) * draw.width + first;
    if (together) {
        *reinterpret_cast<uint32_t *>(target) = pixels;
        return;
    }
    for (int k = 0; k < kPixels && first + k < draw.width; k++)
        target[k] = static_cast<uint8_t>(pixels >> 8 * k);
}

void draw_mask(gp_backend *backend, const gp_draw_mask *draw) {
    int64_t count = static_cast<int64_t>(draw->height) * ((draw->width + kPixels - 1) / kPixels);
    bool together = draw->width % kPixels == 0 && reinterpret_cast<uintptr_t>(draw->pixels) % kPixels == 0;
    if (count > 0)
        GP_RUN(backend, draw_pixels, blocks_for(count, kMaskThreads), kMaskThreads, 0, *draw, count,
               together);
}

} // namespace gp_cuda
