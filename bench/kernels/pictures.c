/**
 * A scene of 3840 × 2160 as the encoders see it: the divider's resize to 3360 × 1890 on a canvas of 6 × 4
 * crops, the 25 views of it, and the grounding encoder's whole view of 1024². Bytes: the picture once, the
 * result once; what lies between two passes is not counted.
 */
#include "bench/kernels/case.h"
#include "bench/kernels/reference.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { SOURCE, SCRATCH, TARGET };

typedef struct picture {
    int source_width, source_height, width, height, rows, columns, side, whole_side;
} picture;

static picture picture_of(const gp_case *c) {
    return c->small ? (picture){96, 54, 84, 47, 2, 3, 28, 40}
                    : (picture){3840, 2160, 3360, 1890, 4, 6, 560, 1024};
}

static const float mean[3] = {0.48145466f, 0.4578275f, 0.40821073f},
                   deviation[3] = {0.26862954f, 0.26130258f, 0.27577711f};

static double normalised(double value, int channel) {
    return (value / 255 - (double)mean[channel]) / (double)deviation[channel];
}

static void *random_picture(gp_work *work, int64_t bytes, uint64_t *seed) {
    uint8_t *source = gp_work_input(work, SOURCE, (size_t)bytes);
    if (source != NULL) gp_random_bytes(seed, source, bytes);
    return source;
}

/** The taps of an antialiased bilinear resize in f64: the weight of source position k for target i, not yet
 * normalised. */
static double tap(int i, int k, int source, int target) {
    double scale = (double)source / target, reach = scale > 1 ? scale : 1;
    double distance = fabs((k + 0.5 - (i + 0.5) * scale) / reach);
    return distance < 1 ? 1 - distance : 0;
}

static int first_tap(int i, int source, int target) {
    double scale = (double)source / target, reach = scale > 1 ? scale : 1,
           first = floor((i + 0.5) * scale - reach - 1);
    return first > 0 ? (int)first : 0;
}

static int end_tap(int i, int source, int target) {
    double scale = (double)source / target, reach = scale > 1 ? scale : 1,
           end = ceil((i + 0.5) * scale + reach + 1);
    return end < source ? (int)end : source;
}

/** A channel of row y of the picture, resized to `target` positions across, at i. */
static double across_at(const uint8_t *row, int channel, int i, int source, int target) {
    double sum = 0, total = 0;
    for (int k = first_tap(i, source, target); k < end_tap(i, source, target); k++) {
        double weight = tap(i, k, source, target);
        sum += weight * row[3 * k + channel];
        total += weight;
    }
    return sum / total;
}

/* ---- resize_rgb ---- */

static void resize_cost(const gp_case *c, gp_cost *cost) {
    picture p = picture_of(c);
    double canvas = 3.0 * p.rows * p.columns * p.side * p.side,
           taps = 4; /* a bilinear pass at this reduction: 2 taps and more */
    snprintf(cost->name, sizeof cost->name, "resize_rgb/divider");
    snprintf(cost->size, sizeof cost->size, "%d x %d to %d x %d", p.source_width, p.source_height, p.width,
             p.height);
    cost->operations = 3.0 * p.width * ((double)p.source_height + p.height) * taps;
    cost->bytes = 3.0 * p.source_width * p.source_height + canvas;
}

static void resize_fill(const gp_case *c, const gp_backend *backend, uint64_t *seed, gp_work *work) {
    picture p = picture_of(c);
    (void)backend;
    random_picture(work, 3ll * p.source_width * p.source_height, seed);
    gp_work_scratch(work, SCRATCH, gp_resize_rgb_scratch(p.source_width, p.source_height, p.width, p.height));
    gp_work_output(work, TARGET, 3 * (size_t)(p.rows * p.columns) * (size_t)(p.side * p.side));
}

static void resize_launch(const gp_case *c, gp_backend *backend, void *const *at) {
    picture p = picture_of(c);
    backend->ops->resize_rgb(backend, &(gp_resize_rgb){.source = at[SOURCE],
                                                       .source_width = p.source_width,
                                                       .source_height = p.source_height,
                                                       .source_stride = 3 * (size_t)p.source_width,
                                                       .width = p.width,
                                                       .height = p.height,
                                                       .canvas_width = p.columns * p.side,
                                                       .canvas_height = p.rows * p.side,
                                                       .scratch = at[SCRATCH],
                                                       .canvas = at[TARGET]});
}

/** The first pass is rounded to bytes; a value within 2^-10 of half a step may fall either way there and at
 * the end, so a byte may be off by one (the tests compare every byte with Pillow's). White beyond the
 * picture. */
static void resize_check(const gp_case *c, const gp_work *work, void *const *results, bool of_yardstick,
                         uint64_t *seed, gp_findings *findings) {
    picture p = picture_of(c);
    const int canvas_width = p.columns * p.side, canvas_height = p.rows * p.side;
    const uint8_t *source = work->buffers[SOURCE].host, *canvas = results[TARGET];
    int64_t rows[GP_SAMPLES], columns[GP_SAMPLES];
    (void)of_yardstick;
    findings->l2_bound =
        1.0 / 128; /* of random bytes, which are 147 in the root mean square, all off by one */
    int row_count = gp_sample_indices(seed, canvas_height, rows);
    for (int r = 0; r < row_count; r++) {
        int count = gp_sample_indices(seed, canvas_width, columns), y = (int)rows[r];
        for (int j = 0; j < count; j++)
            for (int channel = 0; channel < 3; channel++) {
                int x = (int)columns[j];
                double want = 255, sum = 0, total = 0;
                for (int k = first_tap(y, p.source_height, p.height);
                     y < p.height && x < p.width && k < end_tap(y, p.source_height, p.height); k++) {
                    double weight = tap(y, k, p.source_height, p.height);
                    sum += weight * floor(0.5 + across_at(source + 3ll * k * p.source_width, channel, x,
                                                          p.source_width, p.width));
                    total += weight;
                }
                if (total > 0) want = floor(0.5 + sum / total);
                gp_compare(findings, canvas[((int64_t)y * canvas_width + x) * 3 + channel], want,
                           total > 0 ? 1 : 0, y, x);
            }
    }
}

const gp_family gp_family_resize = {1, resize_cost, resize_fill, resize_launch, resize_check};

/* ---- crop_views ---- */

static void crops_cost(const gp_case *c, gp_cost *cost) {
    picture p = picture_of(c);
    double plane = (double)p.side * p.side, crops = (double)p.rows * p.columns;
    snprintf(cost->name, sizeof cost->name, "crop_views/vit");
    snprintf(cost->size, sizeof cost->size, "%d views of %d x %d", 1 + p.rows * p.columns, p.side, p.side);
    cost->operations = 3 * plane * (3 * crops + 2 * 16);
    cost->bytes = 3 * plane * crops + 4 * 3 * plane * (crops + 1);
}

static void crops_fill(const gp_case *c, const gp_backend *backend, uint64_t *seed, gp_work *work) {
    picture p = picture_of(c);
    int64_t plane = (int64_t)p.side * p.side;
    (void)backend;
    random_picture(work, 3 * plane * p.rows * p.columns, seed);
    gp_work_output(work, TARGET, (size_t)(3 * plane * (1 + p.rows * p.columns)) * sizeof(float));
}

static void crops_launch(const gp_case *c, gp_backend *backend, void *const *at) {
    picture p = picture_of(c);
    gp_crop_views views = {at[SOURCE], p.rows, p.columns, p.side, 0, 1 + p.rows * p.columns,
                           {0},        {0},    at[TARGET]};
    memcpy(views.mean, mean, sizeof mean);
    memcpy(views.deviation, deviation, sizeof deviation);
    backend->ops->crop_views(backend, &views);
}

static double cubic(double x) {
    const double a = -0.75;
    x = fabs(x);
    if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
}

static int inside(int index, int size) {
    return index < 0 ? 0 : index >= size ? size - 1 : index;
}

/** Crops in f32: four roundings of values up to 3. The global view: sixteen products, whose weights' f32
 * positions are off by up to 2^-24 of the canvas. */
static void crops_check(const gp_case *c, const gp_work *work, void *const *results, bool of_yardstick,
                        uint64_t *seed, gp_findings *findings) {
    picture p = picture_of(c);
    const int width = p.columns * p.side, height = p.rows * p.side;
    const int64_t plane = (int64_t)p.side * p.side;
    const uint8_t *canvas = work->buffers[SOURCE].host;
    const float *y = results[TARGET];
    int64_t places[GP_SAMPLES];
    (void)of_yardstick;
    findings->l2_bound = 1e-6 + 2 * (width + height) * GP_UNIT_F32;
    gp_compare_written_f32(findings, y, 3 * plane * (1 + p.rows * p.columns));
    for (int view = 0; view <= p.rows * p.columns; view++) {
        int count = gp_sample_indices(seed, plane, places);
        for (int i = 0; i < count; i++)
            for (int channel = 0; channel < 3; channel++) {
                int py = (int)(places[i] / p.side), px = (int)(places[i] % p.side);
                double want = 0, bound = 16 * 3 * GP_UNIT_F32;
                if (view > 0) {
                    py += (view - 1) / p.columns * p.side;
                    px += (view - 1) % p.columns * p.side;
                    want = normalised(canvas[((int64_t)py * width + px) * 3 + channel], channel);
                } else {
                    double sy = p.rows * (py + 0.5) - 0.5, sx = p.columns * (px + 0.5) - 0.5;
                    for (int k = -1; k < 3; k++)
                        for (int l = -1; l < 3; l++) {
                            int ky = (int)floor(sy) + k, kx = (int)floor(sx) + l;
                            int64_t at =
                                ((int64_t)inside(ky, height) * width + inside(kx, width)) * 3 + channel;
                            want += cubic(sy - ky) * cubic(sx - kx) * normalised(canvas[at], channel);
                        }
                    bound = (16 * 8 + 40.0 * (width + height)) *
                            GP_UNIT_F32; /* slopes of 16 weights, values up to 3 */
                }
                gp_compare(findings, (double)y[(view * 3 + channel) * plane + places[i]], want, bound,
                           view * 3 + channel, places[i]);
            }
    }
}

const gp_family gp_family_crops = {1, crops_cost, crops_fill, crops_launch, crops_check};

/* ---- whole_view ---- */

static void whole_cost(const gp_case *c, gp_cost *cost) {
    picture p = picture_of(c);
    double taps = 2.0 * p.source_width / p.whole_side;
    snprintf(cost->name, sizeof cost->name, "whole_view/grounding");
    snprintf(cost->size, sizeof cost->size, "%d x %d to %d x %d", p.source_width, p.source_height,
             p.whole_side, p.whole_side);
    cost->operations = 2 * 3.0 * p.whole_side * taps * ((double)p.source_height + p.whole_side);
    cost->bytes = 3.0 * p.source_width * p.source_height + 4 * 3.0 * p.whole_side * p.whole_side;
}

static void whole_fill(const gp_case *c, const gp_backend *backend, uint64_t *seed, gp_work *work) {
    picture p = picture_of(c);
    (void)backend;
    random_picture(work, 3ll * p.source_width * p.source_height, seed);
    gp_work_scratch(work, SCRATCH, gp_whole_view_scratch(p.source_width, p.source_height, p.whole_side));
    gp_work_output(work, TARGET, 3 * (size_t)(p.whole_side * p.whole_side) * sizeof(float));
}

static void whole_launch(const gp_case *c, gp_backend *backend, void *const *at) {
    picture p = picture_of(c);
    gp_whole_view view = {.source = at[SOURCE],
                          .source_width = p.source_width,
                          .source_height = p.source_height,
                          .source_stride = 3 * (size_t)p.source_width,
                          .side = p.whole_side,
                          .scratch = at[SCRATCH],
                          .y = at[TARGET]};
    memcpy(view.mean, mean, sizeof mean);
    memcpy(view.deviation, deviation, sizeof deviation);
    backend->ops->whole_view(backend, &view);
}

/** A tap's centre is f32: a pass over W pixels moves values of size 1 by up to W·2^-24
 * (tests/unit/kernels/test_pictures.c), normalising by up to four times that. */
static void whole_check(const gp_case *c, const gp_work *work, void *const *results, bool of_yardstick,
                        uint64_t *seed, gp_findings *findings) {
    picture p = picture_of(c);
    const int64_t plane = (int64_t)p.whole_side * p.whole_side;
    const uint8_t *source = work->buffers[SOURCE].host;
    const float *y = results[TARGET];
    int64_t rows[GP_SAMPLES], columns[GP_SAMPLES];
    (void)of_yardstick;
    findings->l2_bound = 1e-6 + 2 * (p.source_width + p.source_height) * GP_UNIT_F32;
    gp_compare_written_f32(findings, y, 3 * plane);
    int row_count = gp_sample_indices(seed, p.whole_side, rows);
    for (int r = 0; r < row_count; r++) {
        int count = gp_sample_indices(seed, p.whole_side, columns), py = (int)rows[r];
        for (int j = 0; j < count; j++)
            for (int channel = 0; channel < 3; channel++) {
                double sum = 0, total = 0;
                for (int k = first_tap(py, p.source_height, p.whole_side);
                     k < end_tap(py, p.source_height, p.whole_side); k++) {
                    double weight = tap(py, k, p.source_height, p.whole_side);
                    sum += weight * across_at(source + 3ll * k * p.source_width, channel, (int)columns[j],
                                              p.source_width, p.whole_side);
                    total += weight;
                }
                double bound = (64 + 4.0 * (p.source_width + p.source_height)) * GP_UNIT_F32;
                gp_compare(findings, (double)y[channel * plane + py * p.whole_side + columns[j]],
                           normalised(sum / total, channel), bound, channel, py * p.whole_side + columns[j]);
            }
    }
}

const gp_family gp_family_whole = {1, whole_cost, whole_fill, whole_launch, whole_check};
