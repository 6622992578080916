/**
 * norm: the towers' LayerNorms and the language model's RMSNorm, from f32 rows to the operands that products
 * read (the mask decoder's to both). Bytes: x once, the result once, weight and bias. No library is its
 * yardstick.
 */
#include "bench/kernels/case.h"
#include "bench/kernels/reference.h"

#include <math.h>
#include <stdio.h>

typedef struct shape {
    const char *what;
    int64_t rows, columns;
    bool rms, f32_too;
} shape;

static const shape shapes[] = {
    {"vit", 10 * 1601, 1024, false, false},        {"llm", 4096, 4096, true, false},
    {"llm-decode", 1, 4096, true, false},          {"llm-decode", 64, 4096, true, false},
    {"hiera1", 65536, 144, false, false},          {"hiera2", 16384, 288, false, false},
    {"hiera3", 4096, 576, false, false},           {"hiera4", 1024, 1152, false, false},
    {"decoder-image", 8 * 4096, 256, false, true},
};

enum { X, WEIGHT, BIAS, Y, Y_OPERAND };

static const float epsilon = 1e-5f;

static shape shape_of(const gp_case *c) {
    shape s = shapes[c->index];
    if (c->small) s.rows = gp_smaller(s.rows, 37);
    return s;
}

static void cost(const gp_case *c, gp_cost *cost) {
    shape s = shape_of(c);
    double values = (double)s.rows * (double)s.columns;
    snprintf(cost->name, sizeof cost->name, "norm/%s%s", s.rms ? "rms-" : "", s.what);
    snprintf(cost->size, sizeof cost->size, "%lld x %lld", (long long)s.rows, (long long)s.columns);
    cost->operations = 7 * values;
    cost->bytes = (s.f32_too ? 10 : 6) * values + (s.rms ? 4 : 8) * (double)s.columns;
}

static void fill(const gp_case *c, const gp_backend *backend, uint64_t *seed, gp_work *work) {
    shape s = shape_of(c);
    int64_t values = s.rows * s.columns;
    (void)backend;
    gp_work_f32(work, X, values, 1, seed);
    gp_work_f32(work, WEIGHT, s.columns, 1, seed);
    if (!s.rms) gp_work_f32(work, BIAS, s.columns, 1, seed);
    if (s.f32_too) gp_work_output(work, Y, (size_t)values * sizeof(float));
    gp_work_output(work, Y_OPERAND, (size_t)values * sizeof(uint16_t));
}

static void launch(const gp_case *c, gp_backend *backend, void *const *at) {
    shape s = shape_of(c);
    backend->ops->norm(backend, &(gp_norm){.x = at[X],
                                           .rows = s.rows,
                                           .columns = s.columns,
                                           .weight = at[WEIGHT],
                                           .bias = at[BIAS],
                                           .epsilon = epsilon,
                                           .rms = s.rms,
                                           .y = at[Y],
                                           .y_operand = at[Y_OPERAND]});
}

/** x is uniform in [-1, 1), so that its variance is near 1/3 and a norm multiplies by at most 2; its sums
 * have columns/16 + 12 roundings. */
static void check(const gp_case *c, const gp_work *work, void *const *results, bool of_yardstick,
                  uint64_t *seed, gp_findings *findings) {
    shape s = shape_of(c);
    int64_t rows[GP_SAMPLES];
    const float *weight = work->buffers[WEIGHT].host, *bias = work->buffers[BIAS].host;
    const uint16_t *operands = results[Y_OPERAND];
    (void)of_yardstick;
    findings->l2_bound = GP_UNIT_BF16;
    gp_compare_written_bf16(findings, operands, s.rows * s.columns);
    if (s.f32_too) gp_compare_written_f32(findings, results[Y], s.rows * s.columns);
    int count = gp_sample_indices(seed, s.rows, rows);
    for (int i = 0; i < count; i++) {
        const float *x = (const float *)work->buffers[X].host + rows[i] * s.columns;
        double mean = 0, variance = 0;
        for (int64_t j = 0; j < s.columns && !s.rms; j++) mean += (double)x[j] / (double)s.columns;
        for (int64_t j = 0; j < s.columns; j++)
            variance += ((double)x[j] - mean) * ((double)x[j] - mean) / (double)s.columns;
        for (int64_t j = 0; j < s.columns; j++) {
            double want = ((double)x[j] - mean) / sqrt(variance + (double)epsilon) * (double)weight[j];
            double bound = ((double)s.columns / 16 + 12) * GP_UNIT_F32 * (1 + fabs(want)) * 2.5;
            if (bias != NULL) want += (double)bias[j];
            int64_t at = rows[i] * s.columns + j;
            if (s.f32_too)
                gp_compare(findings, (double)((const float *)results[Y])[at], want, bound, rows[i], j);
            gp_compare(findings, (double)gp_bf16_to_f32(operands[at]), want,
                       bound + GP_UNIT_BF16 * (fabs(want) + bound), rows[i], j);
        }
    }
}

const gp_family gp_family_norm = {sizeof shapes / sizeof *shapes, cost, fill, launch, check};
