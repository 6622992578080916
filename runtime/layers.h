/** What the stages are made of: layers bound from a checkpoint, and how they are applied. */
#pragma once

#include "kernels/base/memory.h"
#include "runtime/binder.h"

/** A linear layer with a bias. */
typedef struct gp_affine {
    gp_matrix weight;  /* [out, in] */
    const float *bias; /* [out] */
} gp_affine;

typedef struct gp_norm_weights {
    const float *weight, *bias; /* bias NULL: RMSNorm */
} gp_norm_weights;

/** Binds NAME.weight [out, in] and NAME.bias [out]; sizes may be GP_ANY(…). */
static inline gp_affine gp_bind_affine(gp_binder *binder, int64_t out, int64_t in, const char *name) {
    gp_matrix weight = gp_bind_matrix(binder, out, in, "%s.weight", name);
    return (gp_affine){weight,
                       gp_bind_vector(binder, weight.data != NULL ? weight.rows : out, "%s.bias", name)};
}

/** The same where the file holds a convolution [out, in, side, side]. */
static inline gp_affine gp_bind_affine_convolution(gp_binder *binder, int64_t out, int64_t in, int64_t side,
                                                   const char *name) {
    gp_matrix weight = gp_bind_convolution(binder, out, in, side, "%s.weight", name);
    return (gp_affine){weight,
                       gp_bind_vector(binder, weight.data != NULL ? weight.rows : out, "%s.bias", name)};
}

static inline gp_norm_weights gp_bind_norm(gp_binder *binder, int64_t width, const char *name) {
    const float *weight = gp_bind_vector(binder, width, "%s.weight", name);
    return (gp_norm_weights){weight, gp_bind_vector(binder, width, "%s.bias", name)};
}

/** `count` operands from the arena. */
static inline gp_operand *gp_take_operands(gp_arena *arena, const gp_backend *backend, size_t count) {
    return gp_arena_take(arena, count, gp_dtype_size(backend->operand));
}

/** `count` operands for what the f32 buffer `rows` holds too: that buffer itself where operands are f32. */
static inline gp_operand *gp_take_twin(gp_arena *arena, const gp_backend *backend, float *rows,
                                       size_t count) {
    return backend->operand == GP_DTYPE_F32 ? (gp_operand *)(void *)rows
                                            : gp_take_operands(arena, backend, count);
}

/** y = activation(x Wᵀ + bias) + residual, as f32, as operand or both; contiguous rows; residual may be NULL
 * or y. */
static inline void gp_apply_affine(gp_backend *backend, const gp_affine *layer, const gp_operand *x,
                                   int64_t rows, gp_activation activation, const float *residual, float *y,
                                   gp_operand *y_operand) {
    backend->ops->linear(backend, &(gp_linear){.x = x,
                                               .rows = rows,
                                               .weight = layer->weight,
                                               .bias = layer->bias,
                                               .activation = activation,
                                               .residual = residual,
                                               .y = y,
                                               .y_operand = y_operand});
}

/** LayerNorm (RMSNorm where the weights have no bias) of rows [rows, width], as f32, as operand or both; y
 * may be x. */
static inline void gp_apply_norm(gp_backend *backend, const gp_norm_weights *norm, const float *x,
                                 int64_t rows, int64_t width, float epsilon, float *y,
                                 gp_operand *y_operand) {
    backend->ops->norm(backend, &(gp_norm){.x = x,
                                           .rows = rows,
                                           .columns = width,
                                           .weight = norm->weight,
                                           .bias = norm->bias,
                                           .epsilon = epsilon,
                                           .rms = norm->bias == NULL,
                                           .y = y,
                                           .y_operand = y_operand});
}

/** y[r] = x[r] + addend[r mod period], as f32, as operand or both; y may be x. */
static inline void gp_apply_sum(gp_backend *backend, const float *x, const float *addend, int64_t rows,
                                int64_t columns, int64_t period, float *y, gp_operand *y_operand) {
    backend->ops->add_rows(backend, &(gp_add_rows){x, addend, rows, columns, period, y, y_operand});
}
