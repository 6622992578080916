/**
 * Pillow's bilinear resize of RGB bytes, bit for bit as kernels/cpu/resize_rgb.c: a triangle filter as wide
 * as the reduction, weights made in f64 and rounded to 22 fractional bits (`make_weights`, a thread a target
 * position), one pass across (a thread a pixel) and one down (a thread four neighbouring bytes where rows lie
 * at words, or one) with rounding to bytes between. A pass that would change nothing is left out. Bytes: the
 * source once and the result once, and the picture between twice; taps come from the caches.
 */
#include "kernels/cuda/device.h"

#include "kernels/base/resize.h"

namespace gp_cuda {

constexpr int kFractionBits = 22, kResizeThreads = 256;

struct Pass {
    gp_taps *taps;    // [target]
    int32_t *weights; // [target, most]
    int most;
};

__device__ __forceinline__ double triangle(double x) {
    if (x < 0) x = -x;
    return x < 1 ? 1 - x : 0;
}

static __global__ void __launch_bounds__(kResizeThreads) make_weights(Pass pass, int source, int target) {
    int i = blockIdx.x * kResizeThreads + threadIdx.x;
    if (i >= target) return;
    double scale = static_cast<double>(source) / target, reach = scale < 1 ? 1 : scale;
    double centre = (i + 0.5) * scale, total = 0;
    int first = static_cast<int>(centre - reach + 0.5), end = static_cast<int>(centre + reach + 0.5);
    if (first < 0) first = 0;
    if (end > source) end = source;
    pass.taps[i].first = first;
    pass.taps[i].count = end - first;
    for (int k = first; k < end; k++) total += triangle((k - centre + 0.5) * (1.0 / reach));
    for (int k = first; k < end; k++) {
        double weight = triangle((k - centre + 0.5) * (1.0 / reach));
        if (total != 0) weight /= total;
        pass.weights[static_cast<int64_t>(i) * pass.most + k - first] =
            static_cast<int32_t>(0.5 + weight * (1 << kFractionBits));
    }
}

/** A picture of bytes [rows, bytes a row] at a stride. */
struct Picture {
    uint8_t *bytes;
    int64_t stride;
};

constexpr int32_t kHalf = 1 << (kFractionBits - 1);

__device__ __forceinline__ uint8_t byte_of(int32_t sum) {
    sum >>= kFractionBits;
    return static_cast<uint8_t>(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

/** Rows go by in y, since a grid has fewer than pictures may. */
static __global__ void __launch_bounds__(kResizeThreads)
    resize_across(Picture source, Picture target, Pass pass, int width, int rows) {
    const int x = blockIdx.x * kResizeThreads + threadIdx.x;
    if (x >= width) return;
    const gp_taps taps = {pass.taps[x].first, pass.taps[x].count};
    const int32_t *weights = pass.weights + static_cast<int64_t>(x) * pass.most;
    for (int row = blockIdx.y; row < rows; row += gridDim.y) {
        const uint8_t *from = source.bytes + row * source.stride + 3 * static_cast<int64_t>(taps.first);
        int32_t sums[3] = {kHalf, kHalf, kHalf};
        for (int k = 0; k < taps.count; k++) {
            const int32_t weight = weights[k];
#pragma unroll
            for (int channel = 0; channel < 3; channel++) sums[channel] += weight * from[3 * k + channel];
        }
        uint8_t *to = target.bytes + row * target.stride + 3 * static_cast<int64_t>(x);
#pragma unroll
        for (int channel = 0; channel < 3; channel++) to[channel] = byte_of(sums[channel]);
    }
}

/** Rows of `groups` times kBytes bytes; kBytes 4: they lie at words. */
template <int kBytes>
static __global__ void __launch_bounds__(kResizeThreads)
    resize_down(Picture source, Picture target, Pass pass, int groups, int rows) {
    const int group = blockIdx.x * kResizeThreads + threadIdx.x;
    if (group >= groups) return;
    const int64_t at = static_cast<int64_t>(group) * kBytes;
    for (int row = blockIdx.y; row < rows; row += gridDim.y) {
        const gp_taps taps = {pass.taps[row].first, pass.taps[row].count};
        const int32_t *weights = pass.weights + static_cast<int64_t>(row) * pass.most;
        const uint8_t *from = source.bytes + taps.first * source.stride + at;
        int32_t sums[kBytes];
#pragma unroll
        for (int i = 0; i < kBytes; i++) sums[i] = kHalf;
        for (int k = 0; k < taps.count; k++, from += source.stride) {
            uint32_t bytes = kBytes == 4 ? *reinterpret_cast<const uint32_t *>(from) : *from;
#pragma unroll
            for (int i = 0; i < kBytes; i++, bytes >>= 8)
                sums[i] += weights[k] * static_cast<int32_t>(bytes & 0xFF);
        }
        uint8_t *to = target.bytes + row * target.stride + at;
        uint32_t bytes = 0;
#pragma unroll
        for (int i = 0; i < kBytes; i++) bytes |= static_cast<uint32_t>(byte_of(sums[i])) << (8 * i);
        if constexpr (kBytes == 4)
            *reinterpret_cast<uint32_t *>(to) = bytes;
        else
            *to = static_cast<uint8_t>(bytes);
    }
}

static bool lies_at_words(const Picture &picture) {
    return reinterpret_cast<uintptr_t>(picture.bytes) % 4 == 0 && picture.stride % 4 == 0;
}

static dim3 grid_for(int across, int rows) {
    constexpr int kRowsMost = 65535;
    return dim3(blocks_for(across, kResizeThreads),
                static_cast<unsigned>(rows < kRowsMost ? rows : kRowsMost));
}

static __global__ void __launch_bounds__(kResizeThreads)
    copy_picture(Picture source, Picture target, int width, int64_t count) {
    int64_t i = static_cast<int64_t>(blockIdx.x) * kResizeThreads + threadIdx.x;
    if (i >= count) return;
    int64_t row = i / (3 * width), at = i % (3 * width);
    target.bytes[row * target.stride + at] = source.bytes[row * source.stride + at];
}

static Pass prepare(gp_backend *backend, int source, int target, unsigned char *memory) {
    auto *taps = reinterpret_cast<gp_taps *>(memory);
    Pass pass = {taps, reinterpret_cast<int32_t *>(taps + target), gp_resize_taps_max(source, target)};
    GP_RUN(backend, make_weights, blocks_for(target, kResizeThreads), kResizeThreads, 0, pass, source,
           target);
    return pass;
}

void resize_rgb(gp_backend *backend, const gp_resize_rgb *resize) {
    const int width = resize->width, height = resize->height;
    unsigned char *memory = resize->scratch;
    Picture source = {const_cast<uint8_t *>(resize->source), static_cast<int64_t>(resize->source_stride)};
    Picture canvas = {resize->canvas, 3 * static_cast<int64_t>(resize->canvas_width)};
    note(of(backend),
         cudaMemsetAsync(canvas.bytes, 255,
                         static_cast<size_t>(canvas.stride) * static_cast<size_t>(resize->canvas_height),
                         of(backend).stream),
         "the white canvas");
    const bool change_width = width != resize->source_width, change_height = height != resize->source_height;
    if (!change_width && !change_height) {
        int64_t count = 3 * static_cast<int64_t>(width) * height;
        GP_RUN(backend, copy_picture, blocks_for(count, kResizeThreads), kResizeThreads, 0, source, canvas,
               width, count);
        return;
    }
    Pass across = prepare(backend, resize->source_width, width, memory);
    memory += gp_resize_taps_bytes(resize->source_width, width, sizeof(int32_t));
    Pass down = prepare(backend, resize->source_height, height, memory);
    memory += gp_resize_taps_bytes(resize->source_height, height, sizeof(int32_t));
    /* The first pass that changes something goes to `between` when the other one does, too. */
    const bool both = change_width && change_height, vertical_first = resize->vertical_first;
    const int between_width = vertical_first ? resize->source_width : width;
    const int between_height = vertical_first ? height : resize->source_height;
    Picture between = {memory, 3 * static_cast<int64_t>(between_width)};
    for (int turn = 0; turn < 2; turn++) {
        bool vertical = (turn == 0) == vertical_first, last = !both || turn == 1;
        if (vertical ? !change_height : !change_width) continue;
        const int pixels = last ? width : between_width, rows = last ? height : between_height;
        const int words = 3 * pixels / 4;
        Picture target = last ? canvas : between;
        if (!vertical)
            GP_RUN(backend, resize_across, grid_for(pixels, rows), kResizeThreads, 0, source, target, across,
                   pixels, rows);
        else if (3 * pixels % 4 == 0 && lies_at_words(source) && lies_at_words(target))
            GP_RUN(backend, resize_down<4>, grid_for(words, rows), kResizeThreads, 0, source, target, down,
                   words, rows);
        else
            GP_RUN(backend, resize_down<1>, grid_for(3 * pixels, rows), kResizeThreads, 0, source, target,
                   down, 3 * pixels, rows);
        source = between;
    }
}

} // namespace gp_cuda
