/**
 * The vision encoder and projector: crops of the divided picture to image tokens. A CLIP vision transformer
 * whose last layer's output is taken without post_layernorm, the 2×2 merge with separators, and a two-layer
 * projector (spec: model.md, section 2; official code: InternLM-XComposer2's build_mlp.py).
 */
#pragma once

#include "kernels/base/memory.h"
#include "loaders/config/config.h"
#include "runtime/layers.h"
#include "runtime/observe.h"

typedef struct gp_vision_layer {
    gp_norm_weights norm1, norm2;
    gp_affine q, k, v, out, fc1, fc2;
} gp_vision_layer;

typedef struct gp_vision {
    gp_vision_config config;
    int grid;                 /* patches along a crop's side; even */
    gp_matrix patch;          /* [hidden, 3·patch²] */
    const float *class_row;   /* class embedding + its position, [hidden] */
    const float *positions;   /* of the patches, [grid², hidden] */
    gp_norm_weights pre_norm; /* `pre_layrnorm` in the checkpoint */
    gp_vision_layer *layers;
    gp_affine project1, project2;      /* 4·hidden → width → width */
    const float *row_end, *global_end; /* plora_sub_GN, plora_glb_GN, [4·hidden] */
    int width;                         /* of an image token: the language model's */
} gp_vision;

/** Where the pictures of one request stand between divider and language model. */
typedef struct gp_vision_input {
    const uint8_t *canvas; /* the divided picture, [rows·side, columns·side, 3], backend memory */
    int rows, columns;
} gp_vision_input;

/** Buffers of the stage, all backend memory; laid out by gp_vision_layout. */
typedef struct gp_vision_buffers {
    float *features;     /* [views, 1 + grid², hidden]: the residual stream */
    float *pixels;       /* [batch, 3, side, side] */
    gp_operand *patches; /* [grid², 3·patch²], rows at the kernel's width as operands */
    gp_operand *normed, *qkv, *attended, *hidden;
    gp_operand *merged, *projected; /* [tokens, 4·hidden], [tokens, width] */
} gp_vision_buffers;

/** Binds all tensors of the two towers' first; layers are owned by the caller until gp_vision_free. */
bool gp_vision_bind(gp_vision *vision, const gp_config *config, gp_binder *binder, gp_status *status);
void gp_vision_free(gp_vision *vision);

/** Tokens that a grid of crops becomes: (rows·columns + 1)·n² + 1 + (rows + 1)·n, n = grid/2. */
int64_t gp_vision_tokens(const gp_vision *vision, int rows, int columns);

void gp_vision_layout(const gp_vision *vision, const gp_backend *backend, int rows, int columns,
                      gp_arena *arena, gp_vision_buffers *buffers);

/**
 * Encodes the picture: tokens [gp_vision_tokens, width]. `step` is called after each batch with the views
 * done; when it returns false the work ends early and so does this, with false.
 */
bool gp_vision_encode(const gp_vision *vision, gp_backend *backend, const gp_vision_input *input,
                      const gp_vision_buffers *buffers, const gp_observer *observer,
                      bool (*step)(void *user, int done, int total), void *user, float *tokens);
