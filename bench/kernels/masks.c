/**
 * From the mask decoder's map to pixels: up-scaling with the hypernetworks' product, the choice by stability,
 * and drawing at a scene of 4096².
 *
 * mask_upsample, of one mask: operations of its two deconvolutions, 2·grid²·channels² and
 * 2·(2·grid)²·(channels/4)·(channels/2), and of the four logits a pixel; bytes: x, both skips, weights,
 * logits. What lies between stays on the chip. choose: the first map of each mask and the predictions. draw:
 * the logits and a byte a pixel.
 */
#include "bench/kernels/case.h"
#include "bench/kernels/reference.h"

#include <math.h>
#include <stdio.h>

/* ---- mask_upsample ---- */

enum { X, WEIGHT1, WEIGHT2, BIAS1, BIAS2, SKIP1, SKIP0, NORM_WEIGHT, NORM_BIAS, HYPER, SCRATCH, LOGITS };
enum { HALF_CHANNELS_MAX = 64 };

typedef struct upsample_shape {
    int masks, grid, channels;
} upsample_shape;

static upsample_shape upsample_of(const gp_case *c) {
    upsample_shape s = {c->index == 0 ? 1 : 8, 64, 256};
    if (c->small) s = (upsample_shape){c->index == 0 ? 1 : 2, 5, 64};
    return s;
}

static const float epsilon = 1e-6f;

static void upsample_cost(const gp_case *c, gp_cost *cost) {
    upsample_shape s = upsample_of(c);
    double cells = (double)s.grid * s.grid, channels = s.channels,
           weights = channels * channels + channels / 4 * channels / 2;
    snprintf(cost->name, sizeof cost->name, "mask_upsample/decoder");
    snprintf(cost->size, sizeof cost->size, "%d masks, %d x %d x %d", s.masks, s.grid, s.grid, s.channels);
    cost->operations = s.masks * (2 * cells * channels * channels + 8 * cells * channels / 4 * channels / 2 +
                                  2 * 16 * cells * 4 * channels / 8);
    cost->matrix = true;
    cost->bytes = 2 * s.masks * cells * channels + 2 * weights +
                  4 * (4 * cells * channels / 4 + 16 * cells * channels / 8) +
                  4.0 * s.masks * 4 * (16 * cells + channels / 8);
}

static void upsample_fill(const gp_case *c, const gp_backend *backend, uint64_t *seed, gp_work *work) {
    upsample_shape s = upsample_of(c);
    int64_t c1 = s.channels / 4, c0 = s.channels / 8, cells = (int64_t)s.grid * s.grid;
    gp_work_bf16(work, X, s.masks * cells * s.channels, 1, seed);
    gp_work_bf16(work, WEIGHT1, 4 * c1 * s.channels, 3 / sqrtf((float)s.channels), seed);
    gp_work_bf16(work, WEIGHT2, 4 * c0 * c1, 3 / sqrtf((float)c1), seed);
    gp_work_f32(work, BIAS1, c1, 1, seed);
    gp_work_f32(work, BIAS2, c0, 1, seed);
    gp_work_f32(work, SKIP1, 4 * cells * c1, 1, seed);
    gp_work_f32(work, SKIP0, 16 * cells * c0, 1, seed);
    gp_work_f32(work, NORM_WEIGHT, c1, 1, seed);
    gp_work_f32(work, NORM_BIAS, c1, 1, seed);
    gp_work_f32(work, HYPER, s.masks * 4 * c0, 1, seed);
    gp_work_scratch(work, SCRATCH, backend->ops->mask_upsample_scratch(s.masks, s.grid, s.channels));
    gp_work_output(work, LOGITS, (size_t)(s.masks * 4 * 16 * cells) * sizeof(float));
}

static void upsample_launch(const gp_case *c, gp_backend *backend, void *const *at) {
    upsample_shape s = upsample_of(c);
    backend->ops->mask_upsample(
        backend, &(gp_mask_upsample){.x = at[X],
                                     .masks = s.masks,
                                     .grid = s.grid,
                                     .channels = s.channels,
                                     .weight1 = gp_placed(at[WEIGHT1], s.channels, s.channels),
                                     .weight2 = gp_placed(at[WEIGHT2], s.channels / 2, s.channels / 4),
                                     .bias1 = at[BIAS1],
                                     .bias2 = at[BIAS2],
                                     .skip1 = at[SKIP1],
                                     .skip0 = at[SKIP0],
                                     .norm_weight = at[NORM_WEIGHT],
                                     .norm_bias = at[NORM_BIAS],
                                     .epsilon = epsilon,
                                     .hyper = at[HYPER],
                                     .scratch = at[SCRATCH],
                                     .logits = at[LOGITS]});
}

/** One pixel of one mask in f64: the up-scaled channels before the hypernetworks, and what each may be off
 * by. */
static void upscale_pixel(const upsample_shape *s, const gp_work *work, int mask, int y, int x, double *pixel,
                          double *off) {
    const int c1 = s->channels / 4, c0 = s->channels / 8, side = 4 * s->grid;
    const uint16_t *cell = (const uint16_t *)work->buffers[X].host +
                           ((int64_t)(mask * s->grid + y / 4) * s->grid + x / 4) * s->channels;
    const float *skip1 =
                    (const float *)work->buffers[SKIP1].host + ((int64_t)(y / 2) * side / 2 + x / 2) * c1,
                *skip0 = (const float *)work->buffers[SKIP0].host + ((int64_t)y * side + x) * c0;
    double half[HALF_CHANNELS_MAX], mean = 0, variance = 0, sums = 0;
    for (int c = 0; c < c1; c++) {
        double magnitude = 0;
        int64_t row = (2 * (y / 2 % 2) + x / 2 % 2) * c1 + c;
        half[c] = gp_dot_bf16(cell, (const uint16_t *)work->buffers[WEIGHT1].host + row * s->channels,
                              s->channels, &magnitude) +
                  (double)((const float *)work->buffers[BIAS1].host)[c] + (double)skip1[c];
        sums = fmax(sums, gp_sum_bound(s->channels, magnitude) + 4 * GP_UNIT_F32 * fabs(half[c]));
        mean += half[c] / c1;
    }
    for (int c = 0; c < c1; c++) variance += (half[c] - mean) * (half[c] - mean) / c1;
    for (int c = 0; c < c1; c++) {
        double normed = (half[c] - mean) / sqrt(variance + (double)epsilon) *
                            (double)((const float *)work->buffers[NORM_WEIGHT].host)[c] +
                        (double)((const float *)work->buffers[NORM_BIAS].host)[c];
        half[c] = gp_activate(GP_ACTIVATION_GELU, normed);
    }
    /* A norm hands on what its inputs are off by, twice over, times 1/√variance and a weight below 1; its own
     * sums: c1/16 + 12. */
    double normed_off = 1.13 * (2 * sums / sqrt(variance) + (c1 / 16.0 + 12) * 4 * GP_UNIT_F32);
    for (int c = 0; c < c0; c++) {
        double sum = (double)((const float *)work->buffers[BIAS2].host)[c] + (double)skip0[c], magnitude = 0,
               bound = 0;
        for (int k = 0; k < c1; k++) {
            int64_t row = (2 * (y % 2) + x % 2) * c0 + c;
            double w = (double)gp_bf16_to_f32(((const uint16_t *)work->buffers[WEIGHT2].host)[row * c1 + k]);
            sum += w * half[k];
            magnitude += fabs(w * half[k]);
            bound += fabs(w) * (normed_off + GP_UNIT_BF16 * (fabs(half[k]) + normed_off)); /* read as bf16 */
        }
        bound += gp_sum_bound(c1, magnitude + bound) + 4 * GP_UNIT_F32 * fabs(sum);
        pixel[c] = gp_activate(GP_ACTIVATION_GELU, sum);
        off[c] = 1.13 * bound + 8 * GP_UNIT_F32 * (fabs(pixel[c]) + 1);
    }
}

static void upsample_check(const gp_case *c, const gp_work *work, void *const *results, bool of_yardstick,
                           uint64_t *seed, gp_findings *findings) {
    upsample_shape s = upsample_of(c);
    const int c0 = s.channels / 8, side = 4 * s.grid;
    const int64_t area = (int64_t)side * side;
    const float *hyper = work->buffers[HYPER].host, *logits = results[LOGITS];
    int64_t places[GP_SAMPLES];
    (void)of_yardstick;
    /* bf16 on the way: the normed map, and where a product reads them pixels and hypernetworks' rows. */
    findings->l2_bound = 3 * GP_UNIT_BF16;
    gp_compare_written_f32(findings, logits, s.masks * 4 * area);
    for (int mask = 0; mask < s.masks; mask++) {
        int count = gp_sample_indices(seed, area, places);
        for (int i = 0; i < count; i++) {
            double pixel[HALF_CHANNELS_MAX], off[HALF_CHANNELS_MAX];
            upscale_pixel(&s, work, mask, (int)(places[i] / side), (int)(places[i] % side), pixel, off);
            for (int k = 0; k < 4; k++) {
                double want = 0, bound = 0;
                for (int channel = 0; channel < c0; channel++) {
                    double factor = (double)hyper[(mask * 4 + k) * c0 + channel],
                           size = fabs(pixel[channel]) + off[channel];
                    want += factor * pixel[channel];
                    bound += fabs(factor) * (off[channel] + 2 * GP_UNIT_BF16 * size + gp_sum_bound(c0, size));
                }
                gp_compare(findings, (double)logits[(mask * 4 + k) * area + places[i]], want, bound,
                           mask * 4 + k, places[i]);
            }
        }
    }
}

const gp_family gp_family_mask_upsample = {2, upsample_cost, upsample_fill, upsample_launch, upsample_check};

/* ---- choose_masks ---- */

enum { CHOOSE_LOGITS, CHOOSE_IOU, CHOOSE_STABILITY, CHOOSE_CHOSEN };
typedef struct choose_shape {
    int masks;
    int64_t area;
} choose_shape;

static choose_shape choose_of(const gp_case *c) {
    choose_shape s = {c->index == 0 ? 1 : 8, 256 * 256};
    if (c->small) s.area = 300;
    return s;
}

static const float delta = 0.05f, threshold = 0.98f;

static void choose_cost(const gp_case *c, gp_cost *cost) {
    choose_shape s = choose_of(c);
    snprintf(cost->name, sizeof cost->name, "choose_masks/decoder");
    snprintf(cost->size, sizeof cost->size, "%d masks of %lld", s.masks, (long long)s.area);
    cost->operations = 2.0 * s.masks * (double)s.area; /* comparisons */
    cost->bytes = s.masks * (4.0 * (double)s.area + 16 + 8);
}

/** Some masks hardly change between the thresholds, others do: values near them are rare or common. */
static void choose_fill(const gp_case *c, const gp_backend *backend, uint64_t *seed, gp_work *work) {
    choose_shape s = choose_of(c);
    (void)backend;
    float *logits = gp_work_f32(work, CHOOSE_LOGITS, s.masks * 4 * s.area, 1, seed);
    for (int64_t i = 0; logits != NULL && i < s.masks * 4 * s.area; i++)
        if (i / (4 * s.area) % 2 == 0) logits[i] *= 40;
    gp_work_f32(work, CHOOSE_IOU, s.masks * 4, 1, seed);
    gp_work_output(work, CHOOSE_STABILITY, (size_t)s.masks * sizeof(float));
    gp_work_output(work, CHOOSE_CHOSEN, (size_t)s.masks * sizeof(int32_t));
}

static void choose_launch(const gp_case *c, gp_backend *backend, void *const *at) {
    choose_shape s = choose_of(c);
    backend->ops->choose_masks(backend,
                               &(gp_choose_masks){at[CHOOSE_LOGITS], at[CHOOSE_IOU], s.masks, s.area, delta,
                                                  threshold, at[CHOOSE_STABILITY], at[CHOOSE_CHOSEN]});
}

static void choose_check(const gp_case *c, const gp_work *work, void *const *results, bool of_yardstick,
                         uint64_t *seed, gp_findings *findings) {
    choose_shape s = choose_of(c);
    const float *iou = work->buffers[CHOOSE_IOU].host, *stability = results[CHOOSE_STABILITY];
    const int32_t *chosen = results[CHOOSE_CHOSEN];
    (void)of_yardstick, (void)seed;
    findings->l2_bound = 4 * GP_UNIT_F32;
    for (int mask = 0; mask < s.masks; mask++) {
        const float *logits = (const float *)work->buffers[CHOOSE_LOGITS].host + mask * 4 * s.area;
        int64_t inner = 0, outer = 0;
        for (int64_t i = 0; i < s.area; i++) {
            inner += logits[i] > delta;
            outer += logits[i] > -delta;
        }
        double want = outer > 0 ? (double)inner / (double)outer : 1;
        int best = 0;
        if (want < (double)threshold) {
            best = 1;
            for (int k = 2; k < 4; k++)
                if (iou[mask * 4 + k] > iou[mask * 4 + best]) best = k;
        }
        gp_compare(findings, (double)stability[mask], want, 2 * GP_UNIT_F32, mask, 0);
        if (fabs(want - (double)threshold) > 1e-6 && chosen[mask] != best)
            gp_wrong(findings, "mask %d: %d is chosen, not %d", mask, chosen[mask], best);
    }
}

const gp_family gp_family_choose = {2, choose_cost, choose_fill, choose_launch, choose_check};

/* ---- draw_mask ---- */

enum { DRAW_LOGITS, DRAW_SCRATCH, DRAW_WORDS, DRAW_ENDS, DRAW_RUNS };
typedef struct draw_shape {
    int grid, side;
} draw_shape;

static draw_shape draw_of(const gp_case *c) {
    return c->small ? (draw_shape){16, 70} : (draw_shape){256, 4096};
}

static void draw_cost(const gp_case *c, gp_cost *cost) {
    draw_shape s = draw_of(c);
    snprintf(cost->name, sizeof cost->name, "draw_mask/scene");
    snprintf(cost->size, sizeof cost->size, "%d x %d to %d x %d", s.grid, s.grid, s.side, s.side);
    cost->operations = 8.0 * s.side * s.side;
    cost->bytes = 4.0 * s.grid * s.grid + (double)s.side * s.side / 8;
}

static void draw_fill(const gp_case *c, const gp_backend *backend, uint64_t *seed, gp_work *work) {
    draw_shape s = draw_of(c);
    gp_work_f32(work, DRAW_LOGITS, (int64_t)s.grid * s.grid, 3, seed);
    gp_work_scratch(work, DRAW_SCRATCH, backend->ops->draw_mask_scratch(s.side, s.side));
    gp_work_output(work, DRAW_WORDS, (size_t)s.side * (size_t)gp_mask_words(s.side) * sizeof(uint32_t));
    gp_work_output(work, DRAW_ENDS, gp_mask_runs_max(s.grid, s.side, s.side) * sizeof(uint32_t));
    gp_work_output(work, DRAW_RUNS, sizeof(uint32_t));
}

static void draw_launch(const gp_case *c, gp_backend *backend, void *const *at) {
    draw_shape s = draw_of(c);
    backend->ops->draw_mask(backend, &(gp_draw_mask){.logits = at[DRAW_LOGITS],
                                                     .grid = s.grid,
                                                     .height = s.side,
                                                     .width = s.side,
                                                     .scratch = at[DRAW_SCRATCH],
                                                     .words = at[DRAW_WORDS],
                                                     .ends = at[DRAW_ENDS],
                                                     .runs = at[DRAW_RUNS]});
}

/** Every run ends where the bits change. Of some rows every bit is the sign in f64, unless the value is
 * within rounding of 0: a source position is off by up to 2^-24·grid, which moves it by that times the slope,
 * at most 6. */
static void draw_check(const gp_case *c, const gp_work *work, void *const *results, bool of_yardstick,
                       uint64_t *seed, gp_findings *findings) {
    draw_shape s = draw_of(c);
    const float *logits = work->buffers[DRAW_LOGITS].host;
    const uint32_t *words = results[DRAW_WORDS], *ends = results[DRAW_ENDS];
    const uint32_t runs = *(const uint32_t *)results[DRAW_RUNS];
    const size_t stride = (size_t)gp_mask_words(s.side), most = gp_mask_runs_max(s.grid, s.side, s.side);
    const double ratio = (double)s.grid / s.side, doubt = (16 * 3 + 6.0 * s.grid) * GP_UNIT_F32;
    int64_t rows[GP_SAMPLES];
    (void)of_yardstick;
    uint32_t run = 0, last = 0;
    for (int x = 0; x < s.side; x++) /* column by column, as runs go */
        for (int y = 0; y < s.side; y++) {
            uint32_t bit = words[(size_t)y * stride + (size_t)x / 32] >> x % 32 & 1;
            uint32_t here = (uint32_t)x * (uint32_t)s.side + (uint32_t)y;
            if (bit != last && (run >= runs || run >= most || ends[run] != here))
                gp_wrong(findings, "no run ends at pixel %u", here);
            run += bit != last;
            last = bit;
        }
    if (runs != run + 1) gp_wrong(findings, "%u runs, not %u", runs, run + 1);
    int count = gp_sample_indices(seed, s.side, rows);
    for (int i = 0; i < count; i++)
        for (int x = 0; x < s.side; x++) {
            double sy = fmax(ratio * ((double)rows[i] + 0.5) - 0.5, 0), sx = fmax(ratio * (x + 0.5) - 0.5, 0);
            int y0 = (int)sy, x0 = (int)sx, y1 = y0 + (y0 < s.grid - 1), x1 = x0 + (x0 < s.grid - 1);
            double fy = sy - y0, fx = sx - x0;
            double value =
                (1 - fy) *
                    ((1 - fx) * (double)logits[y0 * s.grid + x0] + fx * (double)logits[y0 * s.grid + x1]) +
                fy * ((1 - fx) * (double)logits[y1 * s.grid + x0] + fx * (double)logits[y1 * s.grid + x1]);
            uint32_t have = words[(size_t)rows[i] * stride + (size_t)x / 32] >> x % 32 & 1;
            gp_compare(findings, fabs(value) < doubt ? 0 : have, fabs(value) < doubt ? 0 : value > 0, 0,
                       rows[i], x);
        }
}

const gp_family gp_family_draw = {1, draw_cost, draw_fill, draw_launch, draw_check};
