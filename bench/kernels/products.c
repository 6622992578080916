/**
 * linear and linear_swiglu at the sizes of GeoPixel-7B: ten views of 1601 rows through the vision tower, a
 * prompt of 4,096 rows (4,081 of them the image's, which have the partial LoRA of rank 256), the grounding
 * encoder's four stages, decoding steps.
 *
 * Operations 2·rows·columns·depth, with an addition 2·(image rows)·rank·(depth + columns) more. Bytes: x, W,
 * A, B, bias and residual once, y once. The yardstick is cuBLASLt's product into the same format, with the
 * residual as its C; it does neither bias, activation nor addition, and SwiGLU's is one product of both
 * factors' columns.
 */
#include "bench/kernels/case.h"
#include "bench/kernels/reference.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { RANK = 256, PROMPT_ROWS = 4096, TEXT_BEHIND = 14, VIEW_ROWS = 10 * 1601 };

typedef enum give { GIVE_OPERAND, GIVE_F32 } give;

typedef struct shape {
    const char *what;
    int64_t rows, columns, depth;
    give give;
    bool bias;
    gp_activation activation;
    bool residual, lora, decode;
    int64_t y_stride; /* 0: columns */
} shape;

#define AS_F32     .give = GIVE_F32
#define PLUS       .give = GIVE_F32, .residual = true /* the residual stream */
#define THEN(name) .activation = GP_ACTIVATION_##name
#define DECODE(n)                                                                                            \
    {"decode-wqkv", n, 6144, 4096, .decode = true}, {"decode-wo", n, 4096, 4096, PLUS, .decode = true},      \
        {"decode-w2", n, 4096, 14336, PLUS, .decode = true}, {                                               \
        "decode-output", n, 92547, 4096, AS_F32, .decode = true                                              \
    }
#define HIERA(stage, cells, width)                                                                           \
    {"hiera" stage "-qkv", cells, 3 * (width), width, .bias = true},                                         \
        {"hiera" stage "-proj", cells, width, width, PLUS, .bias = true},                                    \
        {"hiera" stage "-fc1", cells, 4 * (width), width, .bias = true, THEN(GELU)}, {                       \
        "hiera" stage "-fc2", cells, width, 4 * (width), PLUS, .bias = true                                  \
    }

static const shape linears[] = {
    {"vit-patches", 1600, 1024, 588, PLUS},
    {"vit-qkv", VIEW_ROWS, 3072, 1024, .bias = true},
    {"vit-q", VIEW_ROWS, 1024, 1024, .bias = true, .y_stride = 3072}, /* as the tower calls it, three times */
    {"vit-proj", VIEW_ROWS, 1024, 1024, PLUS, .bias = true},
    {"vit-fc1", VIEW_ROWS, 4096, 1024, .bias = true, THEN(QUICK_GELU)},
    {"vit-fc2", VIEW_ROWS, 1024, 4096, PLUS, .bias = true},
    {"projector", 4081, 4096, 4096, .bias = true, THEN(GELU)},
    {"llm-wqkv", PROMPT_ROWS, 6144, 4096, .lora = false},
    {"llm-wqkv-lora", PROMPT_ROWS, 6144, 4096, .lora = true},
    {"llm-wo", PROMPT_ROWS, 4096, 4096, PLUS},
    {"llm-wo-lora", PROMPT_ROWS, 4096, 4096, PLUS, .lora = true},
    {"llm-w2", PROMPT_ROWS, 4096, 14336, PLUS},
    {"llm-w2-lora", PROMPT_ROWS, 4096, 14336, PLUS, .lora = true},
    {"hiera-patches", 65536, 144, 147, PLUS, .bias = true},
    HIERA("1", 65536, 144),
    HIERA("2", 16384, 288),
    HIERA("3", 4096, 576),
    HIERA("4", 1024, 1152),
    {"decoder-image-k", 8 * 4096, 128, 256, .bias = true}, /* the mask decoder's, of eight masks */
    {"decoder-tokens-fc1", 8 * 7, 2048, 256, .bias = true, THEN(RELU)},
    DECODE(1),
    DECODE(2),
    DECODE(4),
    DECODE(8),
    DECODE(16),
    DECODE(64),
};

static const shape swiglus[] = {
    {"llm", PROMPT_ROWS, 14336, 4096, .lora = false}, {"llm-lora", PROMPT_ROWS, 14336, 4096, .lora = true},
    {"decode", 1, 14336, 4096, .decode = true},       {"decode", 2, 14336, 4096, .decode = true},
    {"decode", 4, 14336, 4096, .decode = true},       {"decode", 8, 14336, 4096, .decode = true},
    {"decode", 16, 14336, 4096, .decode = true},      {"decode", 64, 14336, 4096, .decode = true},
};

enum { X, W, Y, BIAS, RESIDUAL, IMAGE_ROW, A, B, S, A3, B3, S3, LIBRARY_Y };

static shape shape_of(const gp_case *c, bool swiglu) {
    shape s = swiglu ? swiglus[c->index] : linears[c->index];
    if (c->small) {
        s.rows = gp_smaller(s.rows, 70);
        s.columns = gp_smaller(s.columns, 136);
        s.depth = gp_smaller(s.depth, 200);
        if (s.y_stride > 0) s.y_stride = 3 * s.columns;
    }
    if (s.y_stride == 0) s.y_stride = s.columns;
    return s;
}

static shape linear_shape(const gp_case *c) {
    return shape_of(c, false);
}
static shape swiglu_shape(const gp_case *c) {
    return shape_of(c, true);
}

/** The image stands behind the first token; a few of text follow it. */
static bool is_image_row(const shape *s, int64_t row) {
    return row > 0 && row < s->rows - TEXT_BEHIND;
}

static double product_operations(const shape *s) {
    double image_rows = s->lora ? (double)(s->rows - TEXT_BEHIND - 1) : 0;
    return 2.0 * (double)s->rows * (double)s->columns * (double)s->depth +
           2.0 * image_rows * RANK * (double)(s->depth + s->columns);
}

static double weight_bytes(const shape *s) {
    return 2.0 * (double)s->columns * (double)s->depth +
           (s->lora ? 2.0 * RANK * (double)(s->depth + s->columns) : 0);
}

static void size_text(const shape *s, gp_cost *cost) {
    snprintf(cost->size, sizeof cost->size, "%lld x %lld of %lld%s", (long long)s->rows,
             (long long)s->columns, (long long)s->depth, s->lora ? " + 256" : "");
}

/* ---- linear ---- */

static void linear_cost(const gp_case *c, gp_cost *cost) {
    shape s = linear_shape(c);
    double values = (double)s.rows * (double)s.columns;
    snprintf(cost->name, sizeof cost->name, "linear/%s", s.what);
    size_text(&s, cost);
    cost->operations = product_operations(&s);
    cost->matrix = true;
    cost->bytes = 2.0 * (double)s.rows * (double)s.depth + weight_bytes(&s) +
                  (s.give == GIVE_F32 ? 4 : 2) * values + (s.residual ? 4 * values : 0) +
                  (s.bias ? 4.0 * (double)s.columns : 0) + (s.lora ? (double)s.rows : 0);
}

/** x, and what an addition needs: everything but the weights and the result. */
static void fill_rows(const shape *s, uint64_t *seed, gp_work *work) {
    int64_t x_stride = gp_operand_width(s->depth);
    uint16_t *x = gp_work_bf16(work, X, s->rows * x_stride, 1, seed);
    for (int64_t row = 0; x != NULL && x_stride > s->depth && row < s->rows; row++) /* as patches leaves it */
        memset(x + row * x_stride + s->depth, 0, (size_t)(x_stride - s->depth) * sizeof *x);
    if (!s->lora) return;
    uint8_t *image_row = gp_work_input(work, IMAGE_ROW, (size_t)s->rows);
    for (int64_t row = 0; image_row != NULL && row < s->rows; row++) image_row[row] = is_image_row(s, row);
}

/** Weights of a size that keeps results near 1. */
static uint16_t *fill_matrix(gp_work *work, int slot, int64_t rows, int64_t depth, uint64_t *seed) {
    int64_t stride = gp_operand_width(depth);
    uint16_t *w = gp_work_bf16(work, slot, rows * stride, 3 / sqrtf((float)depth), seed);
    for (int64_t row = 0; w != NULL && stride > depth && row < rows; row++) /* as place leaves it */
        memset(w + row * stride + depth, 0, (size_t)(stride - depth) * sizeof *w);
    return w;
}

static void fill_lora(const shape *s, int a, int b, int scratch, uint64_t *seed, gp_work *work) {
    if (!s->lora) return;
    fill_matrix(work, a, RANK, s->depth, seed);
    fill_matrix(work, b, s->columns, RANK, seed);
    gp_work_scratch(work, scratch, (size_t)s->rows * RANK * sizeof(uint16_t));
}

static void linear_fill(const gp_case *c, const gp_backend *backend, uint64_t *seed, gp_work *work) {
    shape s = linear_shape(c);
    (void)backend;
    fill_rows(&s, seed, work);
    fill_matrix(work, W, s.columns, s.depth, seed);
    gp_work_output(work, Y,
                   (size_t)(s.rows * s.y_stride) * (s.give == GIVE_F32 ? sizeof(float) : sizeof(uint16_t)));
    if (s.bias) gp_work_f32(work, BIAS, s.columns, 1, seed);
    if (s.residual) gp_work_f32(work, RESIDUAL, s.rows * s.columns, 1, seed);
    fill_lora(&s, A, B, S, seed, work);
    work->yardstick.kind = GP_YARDSTICK_PRODUCT;
    work->yardstick.product.rows = s.rows;
    work->yardstick.product.columns = s.columns;
    work->yardstick.product.depth = s.depth;
    work->yardstick.product.x_stride = work->yardstick.product.w_stride = gp_operand_width(s.depth);
    work->yardstick.product.y_stride = s.y_stride;
    work->yardstick.product.x = X;
    work->yardstick.product.w = W;
    work->yardstick.product.y = Y;
    work->yardstick.product.residual = s.residual ? RESIDUAL : -1;
    work->yardstick.product.y_is_f32 = s.give == GIVE_F32;
}

static gp_partial_lora lora_at(const shape *s, void *const *at, int a, int b, int scratch) {
    return (gp_partial_lora){gp_placed(at[a], RANK, s->depth), gp_placed(at[b], s->columns, RANK),
                             at[IMAGE_ROW], at[scratch]};
}

static void linear_launch(const gp_case *c, gp_backend *backend, void *const *at) {
    shape s = linear_shape(c);
    gp_partial_lora lora = lora_at(&s, at, A, B, S);
    backend->ops->linear(backend, &(gp_linear){.x = at[X],
                                               .rows = s.rows,
                                               .x_stride = gp_operand_width(s.depth),
                                               .weight = gp_placed(at[W], s.columns, s.depth),
                                               .bias = at[BIAS],
                                               .lora = s.lora ? &lora : NULL,
                                               .activation = s.activation,
                                               .residual = at[RESIDUAL],
                                               .decode = s.decode,
                                               .y = s.give == GIVE_F32 ? at[Y] : NULL,
                                               .y_operand = s.give == GIVE_F32 ? NULL : at[Y],
                                               .y_stride = s.y_stride});
}

/* ---- the reference: a row of x at a time ---- */

/** s = x Aᵀ of one row in f64, and what each may be off by, its rounding to bf16 among it. */
typedef struct low_rank {
    double s[RANK], off[RANK];
} low_rank;

static void make_low_rank(const shape *s, const gp_work *work, int a, int64_t row, low_rank *out) {
    int64_t stride = gp_operand_width(s->depth);
    const uint16_t *x = (const uint16_t *)work->buffers[X].host + row * stride;
    for (int r = 0; r < RANK; r++) {
        double magnitude = 0;
        out->s[r] =
            gp_dot_bf16(x, (const uint16_t *)work->buffers[a].host + r * stride, s->depth, &magnitude);
        out->off[r] = gp_sum_bound(s->depth, magnitude);
        out->off[r] += GP_UNIT_BF16 * (fabs(out->s[r]) + out->off[r]);
    }
}

/** (x Wᵀ + addition) of one element; low: NULL without one. */
static double element(const shape *s, const gp_work *work, const uint16_t *w, const low_rank *low, int b,
                      int64_t row, int64_t column, double *bound) {
    int64_t stride = gp_operand_width(s->depth);
    double magnitude = 0, sum = gp_dot_bf16((const uint16_t *)work->buffers[X].host + row * stride,
                                            w + column * stride, s->depth, &magnitude);
    *bound = gp_sum_bound(s->depth, magnitude);
    if (low == NULL) return sum;
    double size = 0;
    for (int r = 0; r < RANK; r++) {
        double factor = (double)gp_bf16_to_f32(((const uint16_t *)work->buffers[b].host)[column * RANK + r]);
        sum += low->s[r] * factor;
        *bound += low->off[r] * fabs(factor);
        size += (fabs(low->s[r]) + low->off[r]) * fabs(factor);
    }
    *bound += gp_sum_bound(RANK, size + magnitude);
    return sum;
}

/** The sums' part, with the low rank's rounding where there is one, and the result's where it is an operand.
 */
static double l2_bound(const shape *s, bool operand) {
    return gp_sum_l2(s->depth + (s->lora ? RANK : 0)) + (s->lora ? GP_UNIT_BF16 : 0) +
           (operand ? GP_UNIT_BF16 : 0);
}

static void linear_check(const gp_case *c, const gp_work *work, void *const *results, bool of_yardstick,
                         uint64_t *seed, gp_findings *findings) {
    shape s = linear_shape(c);
    int64_t rows[GP_SAMPLES], columns[GP_SAMPLES];
    int row_count = gp_sample_indices(seed, s.rows, rows);
    const float *bias = work->buffers[BIAS].host, *residual = work->buffers[RESIDUAL].host;
    findings->l2_bound = l2_bound(&s, s.give == GIVE_OPERAND);
    for (int64_t row = 0; row < s.rows; row++)
        if (s.give == GIVE_F32)
            gp_compare_written_f32(findings, (const float *)results[Y] + row * s.y_stride, s.columns);
        else
            gp_compare_written_bf16(findings, (const uint16_t *)results[Y] + row * s.y_stride, s.columns);
    for (int i = 0; i < row_count; i++) {
        int64_t row = rows[i];
        bool with_lora = s.lora && !of_yardstick && is_image_row(&s, row);
        low_rank low;
        if (with_lora) make_low_rank(&s, work, A, row, &low);
        int column_count = gp_sample_indices(seed, s.columns, columns);
        for (int j = 0; j < column_count; j++) {
            int64_t column = columns[j], at = row * s.y_stride + column;
            double bound, want = element(&s, work, work->buffers[W].host, with_lora ? &low : NULL, B, row,
                                         column, &bound);
            if (s.bias && !of_yardstick) want += (double)bias[column];
            bound += 2 * GP_UNIT_F32 * fabs(want);
            if (!of_yardstick) want = gp_activate(s.activation, want);
            bound = 1.13 * bound +
                    8 * GP_UNIT_F32 * (fabs(want) + 1); /* slopes up to 1.13; functions within 4 units */
            if (s.residual) want += (double)residual[row * s.columns + column];
            bound += GP_UNIT_F32 * fabs(want);
            if (s.give == GIVE_F32)
                gp_compare(findings, (double)((const float *)results[Y])[at], want, bound, row, column);
            else
                gp_compare(findings, (double)gp_bf16_to_f32(((const uint16_t *)results[Y])[at]), want,
                           bound + GP_UNIT_BF16 * (fabs(want) + bound), row, column);
        }
    }
}

const gp_family gp_family_linear = {sizeof linears / sizeof *linears, linear_cost, linear_fill, linear_launch,
                                    linear_check};

/* ---- SwiGLU: W holds W1 and, behind it, W3 ---- */

static void swiglu_cost(const gp_case *c, gp_cost *cost) {
    shape s = swiglu_shape(c);
    snprintf(cost->name, sizeof cost->name, "swiglu/%s", s.what);
    size_text(&s, cost);
    cost->operations = 2 * product_operations(&s);
    cost->matrix = true;
    cost->bytes = 2.0 * (double)s.rows * (double)s.depth + 2 * weight_bytes(&s) +
                  2.0 * (double)s.rows * (double)s.columns + (s.lora ? (double)s.rows : 0);
}

static void swiglu_fill(const gp_case *c, const gp_backend *backend, uint64_t *seed, gp_work *work) {
    shape s = swiglu_shape(c);
    (void)backend;
    fill_rows(&s, seed, work);
    fill_matrix(work, W, 2 * s.columns, s.depth, seed);
    gp_work_output(work, Y, (size_t)(s.rows * s.columns) * sizeof(uint16_t));
    fill_lora(&s, A, B, S, seed, work);
    fill_lora(&s, A3, B3, S3, seed, work);
    gp_work_library_output(work, LIBRARY_Y, (size_t)(s.rows * 2 * s.columns) * sizeof(uint16_t));
    work->yardstick.kind = GP_YARDSTICK_PRODUCT;
    work->yardstick.product.rows = s.rows;
    work->yardstick.product.columns = 2 * s.columns;
    work->yardstick.product.depth = s.depth;
    work->yardstick.product.x_stride = work->yardstick.product.w_stride = gp_operand_width(s.depth);
    work->yardstick.product.y_stride = 2 * s.columns;
    work->yardstick.product.x = X;
    work->yardstick.product.w = W;
    work->yardstick.product.y = LIBRARY_Y;
    work->yardstick.product.residual = -1;
}

static void swiglu_launch(const gp_case *c, gp_backend *backend, void *const *at) {
    shape s = swiglu_shape(c);
    gp_partial_lora lora1 = lora_at(&s, at, A, B, S), lora3 = lora_at(&s, at, A3, B3, S3);
    gp_matrix w1 = gp_placed(at[W], s.columns, s.depth), w3 = w1;
    w3.data = (const uint16_t *)at[W] + s.columns * w1.stride;
    backend->ops->linear_swiglu(backend, &(gp_linear_swiglu){.x = at[X],
                                                             .rows = s.rows,
                                                             .w1 = w1,
                                                             .w3 = w3,
                                                             .lora1 = s.lora ? &lora1 : NULL,
                                                             .lora3 = s.lora ? &lora3 : NULL,
                                                             .decode = s.decode,
                                                             .y = at[Y]});
}

static void swiglu_check(const gp_case *c, const gp_work *work, void *const *results, bool of_yardstick,
                         uint64_t *seed, gp_findings *findings) {
    shape s = swiglu_shape(c);
    int64_t rows[GP_SAMPLES], columns[GP_SAMPLES], stride = gp_operand_width(s.depth);
    int row_count = gp_sample_indices(seed, s.rows, rows);
    const uint16_t *w1 = work->buffers[W].host, *w3 = w1 + s.columns * stride;
    const uint16_t *y = results[Y], *both = results[LIBRARY_Y];
    /* Errors of both factors, of which silu's slope is at most 1.1. */
    findings->l2_bound = 3 * l2_bound(&s, false) + GP_UNIT_BF16;
    if (!of_yardstick) gp_compare_written_bf16(findings, y, s.rows * s.columns);
    for (int i = 0; i < row_count; i++) {
        int64_t row = rows[i];
        bool with_lora = s.lora && !of_yardstick && is_image_row(&s, row);
        low_rank low1, low3;
        if (with_lora) make_low_rank(&s, work, A, row, &low1);
        if (with_lora) make_low_rank(&s, work, A3, row, &low3);
        int column_count = gp_sample_indices(seed, s.columns, columns);
        for (int j = 0; j < column_count; j++) {
            int64_t column = columns[j];
            double bound1, bound3,
                a = element(&s, work, w1, with_lora ? &low1 : NULL, B, row, column, &bound1);
            double b = element(&s, work, w3, with_lora ? &low3 : NULL, B3, row, column, &bound3);
            if (of_yardstick) {
                const uint16_t *have = both + row * 2 * s.columns + column;
                gp_compare(findings, (double)gp_bf16_to_f32(have[0]), a,
                           bound1 + GP_UNIT_BF16 * (fabs(a) + bound1), row, column);
                gp_compare(findings, (double)gp_bf16_to_f32(have[s.columns]), b,
                           bound3 + GP_UNIT_BF16 * (fabs(b) + bound3), row, s.columns + column);
                continue;
            }
            double silu = a / (1 + exp(-a)), want = silu * b;
            double bound =
                1.1 * bound1 * (fabs(b) + bound3) + fabs(silu) * bound3 + 12 * GP_UNIT_F32 * (fabs(want) + 1);
            gp_compare(findings, (double)gp_bf16_to_f32(y[row * s.columns + column]), want,
                       bound + GP_UNIT_BF16 * (fabs(want) + bound), row, column);
        }
    }
}

const gp_family gp_family_swiglu = {sizeof swiglus / sizeof *swiglus, swiglu_cost, swiglu_fill, swiglu_launch,
                                    swiglu_check};
