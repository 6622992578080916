/**
 * What the encoders see, with the CPU's arithmetic in the CPU's order, so that both give the same bits: crops
 * normalised, the global view by bicubic, the grounding encoder's by bilinear with antialias. A thread has
 * four neighbouring values of one channel where the side allows it, so that finding its place costs little
 * (or one, of the grounding encoder's); each source byte is read from the caches by its neighbours. Bytes:
 * the picture once, the views once, and 12·source_height·side between the two passes of the whole view.
 */
#include "kernels/cuda/device.h"

#include "kernels/base/resize.h"

namespace gp_cuda {

constexpr int kViewThreads = 256;

/* ---- crops and the global view ---- */

__device__ __forceinline__ float normalised(const gp_crop_views &views, int channel, uint8_t byte) {
    return (static_cast<float>(byte) / 255.0f - views.mean[channel]) / views.deviation[channel];
}

/** A value of the global view. */
__device__ __forceinline__ float reduced(const gp_crop_views &views, int channel, int y, int x) {
    const int side = views.side, width = views.columns * side, height = views.rows * side;
    float weight_x[4], weight_y[4], sum = 0;
    int first_y = gp_cubic_taps(static_cast<float>(height) / static_cast<float>(side), y, weight_y);
    int first_x = gp_cubic_taps(static_cast<float>(width) / static_cast<float>(side), x, weight_x);
#pragma unroll
    for (int k = 0; k < 4; k++) {
        const uint8_t *line =
            views.canvas + static_cast<int64_t>(gp_clamp(first_y + k, height)) * width * 3 + channel;
        float part = weight_x[0] * normalised(views, channel, line[3 * gp_clamp(first_x, width)]);
#pragma unroll
        for (int j = 1; j < 4; j++)
            part += weight_x[j] * normalised(views, channel, line[3 * gp_clamp(first_x + j, width)]);
        sum += weight_y[k] * part;
    }
    return sum;
}

/** A row of `side` values has groups of kValues; there are `groups` of them in all views. */
template <int kValues>
static __global__ void __launch_bounds__(kViewThreads)
    cut_views(const __grid_constant__ gp_crop_views views, unsigned groups) {
    const unsigned i = blockIdx.x * kViewThreads + threadIdx.x;
    if (i >= groups) return;
    const unsigned across = static_cast<unsigned>(views.side) / kValues, line = i / across,
                   plane = line / static_cast<unsigned>(views.side), which = plane / 3;
    const int x = static_cast<int>((i - line * across) * kValues),
              channel = static_cast<int>(plane - 3 * which);
    const int y = static_cast<int>(line - plane * static_cast<unsigned>(views.side));
    const int view = views.first_view + static_cast<int>(which);
    float values[kValues];
    if (view > 0) {
        const int crop_row = (view - 1) / views.columns, crop_column = view - 1 - crop_row * views.columns;
        const int64_t row = static_cast<int64_t>(crop_row) * views.side + y;
        const int64_t pixel = (row * views.columns + crop_column) * views.side + x;
        const uint8_t *source = views.canvas + pixel * 3 + channel;
#pragma unroll
        for (int k = 0; k < kValues; k++) values[k] = normalised(views, channel, source[3 * k]);
    } else {
#pragma unroll 1
        for (int k = 0; k < kValues; k++) {
            const float value = reduced(views, channel, y, x + k);
#pragma unroll
            for (int j = 0; j < kValues; j++) values[j] = j == k ? value : values[j];
        }
    }
    float *target = views.y + static_cast<int64_t>(i) * kValues;
    if constexpr (kValues == 4)
        *reinterpret_cast<float4 *>(target) = make_float4(values[0], values[1], values[2], values[3]);
    else
        target[0] = values[0];
}

void crop_views(gp_backend *backend, const gp_crop_views *views) {
    const int64_t count = static_cast<int64_t>(views->views) * 3 * views->side * views->side;
    if (count <= 0) return;
    if (views->side % 4 == 0)
        GP_RUN(backend, cut_views<4>, blocks_for(count / 4, kViewThreads), kViewThreads, 0, *views,
               static_cast<unsigned>(count / 4));
    else
        GP_RUN(backend, cut_views<1>, blocks_for(count, kViewThreads), kViewThreads, 0, *views,
               static_cast<unsigned>(count));
}

/* ---- the grounding encoder's view ---- */

struct FloatPass {
    gp_taps *taps;  // [side]
    float *weights; // [side, most]
    int most;
};

/** torch's weights for antialias in f32: the centre is rounded to f32, the distance to it is not. */
static __global__ void __launch_bounds__(kViewThreads)
    make_float_weights(FloatPass pass, int source, int target) {
    int i = blockIdx.x * kViewThreads + threadIdx.x;
    if (i >= target) return;
    float scale = static_cast<float>(source) / static_cast<float>(target), reach = scale >= 1 ? scale : 1,
          inverse = scale >= 1 ? 1 / scale : 1;
    float centre = static_cast<float>(scale * (i + 0.5)), total = 0;
    float *weights = pass.weights + static_cast<int64_t>(i) * pass.most;
    int64_t first = static_cast<int64_t>(centre - reach + 0.5),
            end = static_cast<int64_t>(centre + reach + 0.5);
    if (first < 0) first = 0;
    if (end > source) end = source;
    if (end - first > pass.most) end = first + pass.most;
    for (int64_t k = first; k < end; k++) {
        float distance = static_cast<float>((static_cast<float>(k) - centre + 0.5) * inverse);
        if (distance < 0) distance = -distance;
        weights[k - first] = distance < 1 ? 1 - distance : 0;
        total += weights[k - first];
    }
    for (int64_t k = first; k < end && total != 0; k++) weights[k - first] /= total;
    pass.taps[i].first = static_cast<int32_t>(first);
    pass.taps[i].count = static_cast<int32_t>(end - first);
}

/** between [3, source_height, side]. */
static __global__ void __launch_bounds__(kViewThreads)
    whole_across(const __grid_constant__ gp_whole_view view, FloatPass pass, float *between, int64_t count) {
    int64_t i = static_cast<int64_t>(blockIdx.x) * kViewThreads + threadIdx.x;
    if (i >= count) return;
    int x = static_cast<int>(i % view.side);
    int64_t row = i / view.side;
    const float *weights = pass.weights + static_cast<int64_t>(x) * pass.most;
    const uint8_t *from = view.source + row * static_cast<int64_t>(view.source_stride) +
                          3 * static_cast<int64_t>(pass.taps[x].first);
    float red = 0, green = 0, blue = 0;
    for (int k = 0; k < pass.taps[x].count; k++, from += 3) {
        red += weights[k] * (static_cast<float>(from[0]) / 255.0f);
        green += weights[k] * (static_cast<float>(from[1]) / 255.0f);
        blue += weights[k] * (static_cast<float>(from[2]) / 255.0f);
    }
    between[i] = red;
    between[count + i] = green;
    between[2 * count + i] = blue;
}

static __global__ void __launch_bounds__(kViewThreads)
    whole_down(const __grid_constant__ gp_whole_view view, FloatPass pass, const float *between,
               int64_t count) {
    int64_t i = static_cast<int64_t>(blockIdx.x) * kViewThreads + threadIdx.x;
    if (i >= count) return;
    const int side = view.side;
    int x = static_cast<int>(i % side), row = static_cast<int>(i / side % side),
        channel = static_cast<int>(i / side / side);
    const float *weights = pass.weights + static_cast<int64_t>(row) * pass.most;
    const float *source =
        between + (static_cast<int64_t>(channel) * view.source_height + pass.taps[row].first) * side + x;
    float sum = 0;
    for (int k = 0; k < pass.taps[row].count; k++) sum += weights[k] * source[static_cast<int64_t>(k) * side];
    view.y[i] = (sum - view.mean[channel]) / view.deviation[channel];
}

static FloatPass prepare_floats(gp_backend *backend, int source, int target, unsigned char *memory) {
    auto *taps = reinterpret_cast<gp_taps *>(memory);
    FloatPass pass = {taps, reinterpret_cast<float *>(taps + target), gp_resize_taps_max(source, target)};
    GP_RUN(backend, make_float_weights, blocks_for(target, kViewThreads), kViewThreads, 0, pass, source,
           target);
    return pass;
}

void whole_view(gp_backend *backend, const gp_whole_view *view) {
    auto *memory = reinterpret_cast<unsigned char *>(view->scratch);
    FloatPass across = prepare_floats(backend, view->source_width, view->side, memory);
    memory += gp_resize_taps_bytes(view->source_width, view->side, sizeof(float));
    FloatPass down = prepare_floats(backend, view->source_height, view->side, memory);
    memory += gp_resize_taps_bytes(view->source_height, view->side, sizeof(float));
    auto *between = reinterpret_cast<float *>(memory);
    int64_t first = static_cast<int64_t>(view->source_height) * view->side;
    int64_t second = 3 * static_cast<int64_t>(view->side) * view->side;
    GP_RUN(backend, whole_across, blocks_for(first, kViewThreads), kViewThreads, 0, *view, across, between,
           first);
    GP_RUN(backend, whole_down, blocks_for(second, kViewThreads), kViewThreads, 0, *view, down, between,
           second);
}

} // namespace gp_cuda
