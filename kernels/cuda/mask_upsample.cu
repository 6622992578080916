/**
 * The mask decoder's up-scaling and hypernetwork product: deconvolution 2×2 + bias + skip1 → LayerNorm → GELU
 * → deconvolution 2×2 + bias + skip0 → GELU → four logits a pixel.
 *
 * A deconvolution of stride 2 is a product to four times its channels, whose parts land on the four pixels
 * below a cell: both are products of linear's (tensor cores, f32 results in scratch). Around them:
 * `spread_normalised`, a warp a pixel, adds bias and skip, normalises and writes bf16; `spread_logits`, a
 * warp eight pixels of a row, adds bias and skip and multiplies with the mask's four hypernetwork rows, so
 * that the up-scaled map itself is never written.
 *
 * At grid 64 and 256 channels a mask is 0.8 GFLOP; bytes: 2 MB in, 4 + 4 MB of the first product's results, 2
 * + 2 of bf16, 8 + 8 of the second's, 6 MB of skips (shared by all masks), 1 MB of logits: 8 µs at 4.3 TB/s,
 * less from L2.
 */
#include "kernels/cuda/activation.cuh"

#include <ptx/convert.cuh>

namespace gp_cuda {

constexpr int kSpreadThreads = 256, kSpreadPixels = 8, kHyperRows = 4;

/** Where pixel (y, x) of a map of 2·side finds its part of a cell's `4·channels` values. */
__device__ __forceinline__ int64_t part_of(int64_t mask, int side, int y, int x, int channels) {
    int64_t cell = (mask * side + y / 2) * side + x / 2;
    return (cell * 4 + 2 * (y % 2) + x % 2) * channels;
}

__device__ __forceinline__ float sum_of_warp(float value) {
    for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(0xFFFFFFFFu, value, lanes);
    return value;
}

/** cells [masks, grid², 4·channels] → y [masks, (2·grid)², channels] at `stride`, bf16. */
static __global__ void __launch_bounds__(kSpreadThreads)
    spread_normalised(const __grid_constant__ gp_mask_upsample up, const float *cells, uint16_t *target,
                      int64_t stride, int64_t pixels) {
    const int64_t pixel = static_cast<int64_t>(blockIdx.x) * (kSpreadThreads / 32) + threadIdx.x / 32;
    if (pixel >= pixels) return; // whole warps
    const int lane = threadIdx.x % 32, channels = up.channels / 4, side = 2 * up.grid;
    const int64_t in_map = pixel % (static_cast<int64_t>(side) * side),
                  mask = pixel / (static_cast<int64_t>(side) * side);
    const int y = static_cast<int>(in_map / side), x = static_cast<int>(in_map % side);
    const float *part = cells + part_of(mask, up.grid, y, x, channels), *skip = up.skip1 + in_map * channels;
    float sum = 0;
    for (int i = lane; i < channels; i += 32) sum += part[i] + up.bias1[i] + skip[i];
    const float mean = sum_of_warp(sum) / static_cast<float>(channels);
    sum = 0;
    for (int i = lane; i < channels; i += 32) {
        float value = part[i] + up.bias1[i] + skip[i] - mean;
        sum += value * value;
    }
    const float scale = 1.0f / sqrtf(sum_of_warp(sum) / static_cast<float>(channels) + up.epsilon);
    for (int i = lane; i < channels; i += 32) {
        float value = (part[i] + up.bias1[i] + skip[i] - mean) * scale * up.norm_weight[i] + up.norm_bias[i];
        target[pixel * stride + i] = static_cast<uint16_t>(pack_bf16(activate(GP_ACTIVATION_GELU, value), 0));
    }
}

/** cells [masks, (2·grid)², 4·channels] → logits [masks, 4, (4·grid)²]. */
static __global__ void __launch_bounds__(kSpreadThreads)
    spread_logits(const __grid_constant__ gp_mask_upsample up, const float *cells, int64_t groups) {
    const int64_t group = static_cast<int64_t>(blockIdx.x) * (kSpreadThreads / 32) + threadIdx.x / 32;
    if (group >= groups) return;
    const int lane = threadIdx.x % 32, channels = up.channels / 8, side = 4 * up.grid;
    const int across = (side + kSpreadPixels - 1) / kSpreadPixels;
    const int64_t area = static_cast<int64_t>(side) * side, line = group / across, mask = line / side;
    const int y = static_cast<int>(line % side), first = static_cast<int>(group % across) * kSpreadPixels;
    const float *hyper = up.hyper + mask * kHyperRows * channels;
    float mine = 0; // lane 8·k + p: logit k of pixel p
#pragma unroll
    for (int p = 0; p < kSpreadPixels; p++) {
        const int x = min(first + p, side - 1);
        const float *part = cells + part_of(mask, up.grid * 2, y, x, channels);
        const float *skip = up.skip0 + (static_cast<int64_t>(y) * side + x) * channels;
        float logits[kHyperRows] = {0, 0, 0, 0};
        for (int i = lane; i < channels; i += 32) {
            float value = activate(GP_ACTIVATION_GELU, part[i] + up.bias2[i] + skip[i]);
#pragma unroll
            for (int k = 0; k < kHyperRows; k++) logits[k] += value * hyper[k * channels + i];
        }
#pragma unroll
        for (int k = 0; k < kHyperRows; k++) {
            float logit = sum_of_warp(logits[k]);
            if (lane == k * kSpreadPixels + p) mine = logit;
        }
    }
    const int x = first + lane % kSpreadPixels;
    if (x < side)
        up.logits[(mask * kHyperRows + lane / kSpreadPixels) * area + static_cast<int64_t>(y) * side + x] =
            mine;
}

/** f32 results of the second product, the larger one, then the bf16 map between. */
void mask_upsample(gp_backend *backend, const gp_mask_upsample *up) {
    if (up->masks <= 0) return;
    const int64_t cells = static_cast<int64_t>(up->masks) * up->grid * up->grid;
    auto *products = static_cast<float *>(up->scratch);
    auto *between =
        reinterpret_cast<uint16_t *>(static_cast<unsigned char *>(up->scratch) +
                                     gp_cuda_mask_product_bytes(up->masks, up->grid, up->channels));
    gp_linear first = {};
    first.x = up->x;
    first.rows = cells;
    first.weight = up->weight1;
    first.y = products;
    linear(backend, &first);
    GP_RUN(backend, spread_normalised, blocks_for(4 * cells, kSpreadThreads / 32), kSpreadThreads, 0, *up,
           products, between, gp_operand_width(up->channels / 4), 4 * cells);
    gp_linear second = {};
    second.x = reinterpret_cast<const gp_operand *>(between);
    second.rows = 4 * cells;
    second.x_stride = gp_operand_width(up->channels / 4);
    second.weight = up->weight2;
    second.y = products;
    linear(backend, &second);
    const int64_t side = 4 * static_cast<int64_t>(up->grid);
    const int64_t groups = up->masks * side * ((side + kSpreadPixels - 1) / kSpreadPixels);
    GP_RUN(backend, spread_logits, blocks_for(groups, kSpreadThreads / 32), kSpreadThreads, 0, *up, products,
           groups);
}

} // namespace gp_cuda
