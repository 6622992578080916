/**
 * f64 references of a few rows, computed on the host from the very bits that the device has, and how far a
 * result may be off.
 *
 * u = 2^-24 (f32), unit = 2^-8 (bf16, half of the last place). Tensor cores add products of bf16, which are
 * exact in f32, in an order of their own and may cut instead of rounding: a sum of K products is off by at
 * most (K + 2)·2u·Σ|x·w|. On random inputs partial sums stay below the result's own size, and a step adds at
 * least four products: relative L2 (K/4 + 16)·2u. A result that is an operand is rounded once more.
 */
#pragma once

#include "bench/kernels/findings.h"
#include "kernels/ops.h"

#define GP_UNIT_F32  0x1p-24
#define GP_UNIT_BF16 0x1p-8

enum { GP_HEAD_DIM_MAX = 128, GP_SAMPLES = 24 };

/** Σ a·b in f64; adds Σ|a·b| to *magnitude. */
double gp_dot_bf16(const uint16_t *a, const uint16_t *b, int64_t count, double *magnitude);

/** The bound of a sum of `depth` products by tensor cores. */
static inline double gp_sum_bound(int64_t depth, double magnitude) {
    return (double)(depth + 2) * 2 * GP_UNIT_F32 * magnitude;
}

/** The relative L2 that such sums keep. */
static inline double gp_sum_l2(int64_t depth) {
    return ((double)depth / 4 + 16) * 2 * GP_UNIT_F32;
}

double gp_activate(gp_activation activation, double x);

/** Of one head and query: y, and what each of its values may be off by (bf16 already allowed for). */
typedef struct gp_attended {
    double y[GP_HEAD_DIM_MAX], bound[GP_HEAD_DIM_MAX];
} gp_attended;

/**
 * softmax(q·k scale)·v over `keys` keys; k[i] and v[i] are key i's head. A score is off by (d + 8)·2u·S, S =
 * Σ|q·k|·scale, a weight by that and the 2 units of 2^x; the weights are rounded to bf16 before their product
 * with v, and so is the result.
 */
void gp_attend(const float *q, const uint16_t *const *k, const uint16_t *const *v, int64_t keys, int dim,
               double scale, gp_attended *out);

void gp_compare_attended(gp_findings *findings, const uint16_t *have, const gp_attended *want, int dim,
                         int64_t row, int64_t column);

/** Room for `count` pointers to keys or values. */
const uint16_t **gp_pointers(int64_t count);
void gp_pointers_free(const uint16_t **list);

/** Relative L2 of such a result: the weights' rounding and the result's. */
#define GP_ATTENDED_L2 (2 * GP_UNIT_BF16)

/**
 * `count` of the indices 0 … size − 1, rising, to look at: both ends, both sides of tiles' edges near them,
 * the rest by chance. Gives all where there are no more; returns how many. `out` has room for GP_SAMPLES.
 */
int gp_sample_indices(uint64_t *seed, int64_t size, int64_t *out);

/* ---- random numbers (fresh at every run; the seed is printed) ---- */

uint64_t gp_fresh_seed(void);
int64_t gp_random_below(uint64_t *seed, int64_t limit);
/**
 * Uniform in [-scale, scale). Long buffers repeat a block whose length is a prime, so that no row or page
 * equals another, and making them costs little.
 */
void gp_random_bf16(uint64_t *seed, uint16_t *values, int64_t count, float scale);
void gp_random_f32(uint64_t *seed, float *values, int64_t count, float scale);
void gp_random_bytes(uint64_t *seed, uint8_t *values, int64_t count);
