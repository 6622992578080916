/**
 * What tests of products share: sums in float64, partial LoRAs, and how far results may be off.
 *
 * Tolerance, element by element, u = 2^-24. On the CPU a sum of K products in blocks of 256 has at most 256 +
 * K/256 roundings on any path, each of relative size u, so |error| <= (min(K, 256) + K/256 + 2)·u·Σ|x·w|.
 * Where operands are bf16 the order is the backend's own, and its adders may cut instead of rounding: K + 2
 * steps of 2·u each. The partial LoRA's s = xAᵀ is an operand, which moves the result by up to
 * operand_unit·|s·b| for each of its columns.
 */
#pragma once

#include "tests/unit/kernels/backends.h"

static inline double bound_of(const gp_backend *backend, int64_t depth, double magnitude) {
    if (backend->operand != GP_DTYPE_F32) return (double)(depth + 2) * 2 * UNIT * magnitude;
    return ((double)(depth < 256 ? depth : 256) + (double)depth / 256 + 2) * UNIT * magnitude;
}

/** Σ and Σ|·| of x [row] by w [column] in f64. */
static inline double dot(const float *x, const double *w, int64_t depth, double *magnitude) {
    double sum = 0;
    for (int64_t k = 0; k < depth; k++) {
        sum += (double)x[k] * w[k];
        *magnitude += fabs((double)x[k] * w[k]);
    }
    return sum;
}

typedef struct lora_case {
    gp_matrix a, b; /* in host memory */
    double *a_values, *b_values;
    int64_t rank;
} lora_case;

static inline lora_case make_lora(uint64_t *seed, gp_backend *backend, gp_dtype dtype, int64_t depth,
                                  int64_t columns) {
    lora_case made = {.rank = random_between(seed, 1, 300)};
    if (random_between(seed, 0, 1)) made.rank = gp_operand_width(made.rank); /* models have even ranks */
    made.a = random_matrix(seed, dtype, made.rank, depth);
    made.b = random_matrix(seed, dtype, columns, made.rank);
    gp_dtype placed = place_matrix(backend, made.a).dtype;
    made.a_values = matrix_values(made.a, placed);
    made.b_values = matrix_values(made.b, placed);
    return made;
}

/** The case on a backend. */
static inline gp_partial_lora place_lora(const lora_case *made, gp_backend *backend, int64_t rows,
                                         const uint8_t *image_row) {
    return (gp_partial_lora){.a = place_matrix(backend, made->a),
                             .b = place_matrix(backend, made->b),
                             .image_row = on_backend(backend, image_row, (size_t)rows),
                             .scratch = operands_on(backend, NULL, rows * gp_operand_width(made->rank))};
}

/** The LoRA's addition to one element in f64, and the bound of its error. */
static inline double lora_value(const gp_backend *backend, const lora_case *made, const float *x,
                                int64_t depth, int64_t column, double *bound) {
    double sum = 0;
    for (int64_t r = 0; r < made->rank; r++) {
        double magnitude = 0, s = dot(x, made->a_values + r * depth, depth, &magnitude);
        double b = made->b_values[column * made->rank + r], off = bound_of(backend, depth, magnitude);
        sum += s * b;
        off += operand_unit(backend) * (fabs(s) + off);
        *bound += off * fabs(b) + bound_of(backend, made->rank, (fabs(s) + off) * fabs(b));
    }
    return sum;
}

static inline uint8_t *random_rows(uint64_t *seed, int64_t rows) {
    uint8_t *image_row = host_memory((size_t)rows);
    int kind = random_between(seed, 0, 3); /* none, all, one run, any */
    int64_t first = random_between(seed, 0, (int)rows - 1), end = random_between(seed, (int)first, (int)rows);
    for (int64_t i = 0; i < rows; i++)
        image_row[i] = kind == 0   ? 0
                       : kind == 1 ? 1
                       : kind == 2 ? i >= first && i < end
                                   : random_bits(seed) >> 63;
    return image_row;
}

static inline bool flip(uint64_t *seed) {
    return random_between(seed, 0, 1) != 0;
}
