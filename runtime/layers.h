/** What the stages are made of: layers bound from a checkpoint, and how they are applied. */
#pragma once

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

/** y = activation(x Wᵀ + bias) + residual; contiguous rows; residual may be NULL or y. */
static inline void gp_apply_affine(gp_backend *backend, const gp_affine *layer, const float *x, int64_t rows,
                                   gp_activation activation, const float *residual, float *y) {
    backend->ops->linear(backend, &(gp_linear){.x = x,
                                               .rows = rows,
                                               .weight = layer->weight,
                                               .bias = layer->bias,
                                               .activation = activation,
                                               .residual = residual,
                                               .y = y});
}

/** LayerNorm (RMSNorm where the weights have no bias) of rows [rows, width]; y may be x. */
static inline void gp_apply_norm(gp_backend *backend, const gp_norm_weights *norm, const float *x,
                                 int64_t rows, int64_t width, float epsilon, float *y) {
    backend->ops->norm(backend, &(gp_norm){.x = x,
                                           .rows = rows,
                                           .columns = width,
                                           .weight = norm->weight,
                                           .bias = norm->bias,
                                           .epsilon = epsilon,
                                           .rms = norm->bias == NULL,
                                           .y = y});
}

/** y[r] = x[r] + addend[r mod period]; y may be x. */
static inline void gp_apply_sum(gp_backend *backend, const float *x, const float *addend, int64_t rows,
                                int64_t columns, int64_t period, float *y) {
    backend->ops->add_rows(backend, &(gp_add_rows){x, addend, rows, columns, period, y});
}
