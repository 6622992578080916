/**
 * Pillow's bilinear resize of RGB bytes, bit for bit: a triangle filter as wide as the reduction, weights
 * made in f64 and rounded to 22 fractional bits, one pass across and one down with rounding to bytes between
 * them. A pass that would change nothing is skipped.
 */
#include "kernels/base/resize.h"
#include "kernels/cpu/cpu.h"

#include <string.h>

enum { FRACTION_BITS = 22, BAND = 512 /* bytes of a row that the vertical pass sums together */ };

/** Taps of one direction. */
typedef struct pass {
    const gp_taps *taps;    /* [target] */
    const int32_t *weights; /* [target, most] */
    int most;
} pass;

typedef struct job {
    pass taps;
    const uint8_t *source;
    size_t source_stride;
    uint8_t *target;
    size_t target_stride;
    int width; /* of the target, in pixels */
} job;

static pass make_taps(int source, int target, void *memory);
static void run_across(void *argument, int64_t row, int thread);
static void run_down(void *argument, int64_t row, int thread);
static void copy_rows(const uint8_t *source, size_t source_stride, uint8_t *target, size_t target_stride,
                      int width, int height);

void GP_CPU(resize_rgb)(gp_backend *backend, const gp_resize_rgb *resize) {
    int width = resize->width, height = resize->height;
    unsigned char *memory = resize->scratch;
    pass across = make_taps(resize->source_width, width, memory);
    memory += gp_resize_taps_bytes(resize->source_width, width, sizeof(int32_t));
    pass down = make_taps(resize->source_height, height, memory);
    memory += gp_resize_taps_bytes(resize->source_height, height, sizeof(int32_t));
    size_t canvas_stride = 3 * (size_t)resize->canvas_width;
    memset(resize->canvas, 255, canvas_stride * (size_t)resize->canvas_height);
    bool change_width = width != resize->source_width, change_height = height != resize->source_height;
    if (!change_width && !change_height) {
        copy_rows(resize->source, resize->source_stride, resize->canvas, canvas_stride, width, height);
        return;
    }
    /* The first pass that changes something goes to `between` when the other one does, too. */
    bool both = change_width && change_height;
    int between_width = resize->vertical_first ? resize->source_width : width;
    int between_height = resize->vertical_first ? height : resize->source_height;
    uint8_t *between = both ? memory : resize->canvas;
    size_t between_stride = both ? 3 * (size_t)between_width : canvas_stride;
    const uint8_t *source = resize->source;
    size_t stride = resize->source_stride;
    for (int turn = 0; turn < 2; turn++) {
        bool vertical = (turn == 0) == resize->vertical_first;
        if (vertical ? !change_height : !change_width) continue;
        bool last = !both || turn == 1;
        job work = {.taps = vertical ? down : across,
                    .source = source,
                    .source_stride = stride,
                    .target = last ? resize->canvas : between,
                    .target_stride = last ? canvas_stride : between_stride,
                    .width = last ? width : between_width};
        gp_parallel_for(backend, last ? height : between_height, vertical ? run_down : run_across, &work);
        source = between;
        stride = between_stride;
    }
}

static double triangle(double x) {
    if (x < 0) x = -x;
    return x < 1 ? 1 - x : 0;
}

static pass make_taps(int source, int target, void *memory) {
    int most = gp_resize_taps_max(source, target);
    gp_taps *taps = memory;
    int32_t *weights = (int32_t *)(taps + target);
    double scale = (double)source / target, reach = scale < 1 ? 1 : scale;
    for (int i = 0; i < target; i++) {
        double centre = (i + 0.5) * scale, total = 0;
        int first = (int)(centre - reach + 0.5), end = (int)(centre + reach + 0.5);
        if (first < 0) first = 0;
        if (end > source) end = source;
        taps[i] = (gp_taps){first, end - first};
        for (int k = first; k < end; k++) total += triangle((k - centre + 0.5) * (1.0 / reach));
        for (int k = first; k < end; k++) {
            double weight = triangle((k - centre + 0.5) * (1.0 / reach));
            if (total != 0) weight /= total;
            weights[(int64_t)i * most + k - first] = (int32_t)(0.5 + weight * (1 << FRACTION_BITS));
        }
    }
    return (pass){taps, weights, most};
}

static uint8_t to_byte(int32_t sum) {
    sum >>= FRACTION_BITS;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

static void run_across(void *argument, int64_t row, int thread) {
    (void)thread;
    const job *work = argument;
    const uint8_t *source = work->source + (size_t)row * work->source_stride;
    uint8_t *target = work->target + (size_t)row * work->target_stride;
    for (int x = 0; x < work->width; x++) {
        gp_taps taps = work->taps.taps[x];
        const int32_t *weights = work->taps.weights + (int64_t)x * work->taps.most;
        const uint8_t *from = source + 3 * (size_t)taps.first;
        int32_t red = 1 << (FRACTION_BITS - 1), green = red, blue = red;
        for (int k = 0; k < taps.count; k++, from += 3) {
            red += weights[k] * from[0];
            green += weights[k] * from[1];
            blue += weights[k] * from[2];
        }
        target[3 * x] = to_byte(red);
        target[3 * x + 1] = to_byte(green);
        target[3 * x + 2] = to_byte(blue);
    }
}

static void run_down(void *argument, int64_t row, int thread) {
    (void)thread;
    const job *work = argument;
    gp_taps taps = work->taps.taps[row];
    const int32_t *weights = work->taps.weights + row * work->taps.most;
    uint8_t *target = work->target + (size_t)row * work->target_stride;
    for (int first = 0; first < 3 * work->width; first += BAND) {
        int count = 3 * work->width - first < BAND ? 3 * work->width - first : BAND;
        int32_t sums[BAND];
        for (int i = 0; i < count; i++) sums[i] = 1 << (FRACTION_BITS - 1);
        for (int k = 0; k < taps.count; k++) {
            const uint8_t *source = work->source + (size_t)(taps.first + k) * work->source_stride + first;
            for (int i = 0; i < count; i++) sums[i] += weights[k] * source[i];
        }
        for (int i = 0; i < count; i++) target[first + i] = to_byte(sums[i]);
    }
}

static void copy_rows(const uint8_t *source, size_t source_stride, uint8_t *target, size_t target_stride,
                      int width, int height) {
    for (int y = 0; y < height; y++)
        memcpy(target + (size_t)y * target_stride, source + (size_t)y * source_stride, 3 * (size_t)width);
}
