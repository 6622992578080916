/**
 * SAM2's mask decoder over a batch of prompt embeddings, one for each [SEG] of one or more answers: a two-way
 * transformer between seven tokens and the image, up-scaling, hypernetwork product, predicted IoU, choice by
 * stability (spec: model.md, section 5).
 */
#pragma once

#include "kernels/base/memory.h"
#include "loaders/config/config.h"
#include "runtime/grounding.h"

enum {
    GP_MASK_TOKENS = 4,                     /* logits that the decoder gives for each prompt */
    GP_DECODER_TOKENS = 3 + GP_MASK_TOKENS, /* object score, IoU, masks, prompt */
    GP_DECODER_LAYERS = 2,
    GP_MASK_BATCH = 8 /* prompts at once: memory, not results, depends on it */
};

typedef struct gp_decoder_attention {
    gp_affine q, k, v, out;
} gp_decoder_attention;

typedef struct gp_decoder_layer {
    gp_decoder_attention self, token_to_image, image_to_token;
    gp_norm_weights norm1, norm2, norm3, norm4;
    gp_affine fc1, fc2;
} gp_decoder_layer;

typedef struct gp_mask_decoder {
    int grid, width; /* of the image map */
    int language_width;
    gp_affine text1, text2;     /* text_hidden_fcs: hidden state → prompt embedding */
    const float *own_tokens;    /* [6, width]: object score, IoU, masks */
    const float *no_mask_embed; /* [width] */
    const float *positions;     /* dense, [grid², width] */
    gp_decoder_layer layers[GP_DECODER_LAYERS];
    gp_decoder_attention final_attention;
    gp_norm_weights final_norm;
    gp_matrix upscale1, upscale2; /* [4·out, in]: see gp_mask_upsample */
    const float *upscale_bias1, *upscale_bias2;
    gp_norm_weights upscale_norm;
    gp_affine hyper[GP_MASK_TOKENS][3], iou[3];
} gp_mask_decoder;

/** Buffers for a batch of `masks`, backend memory. */
typedef struct gp_mask_buffers {
    int masks;
    gp_operand *hidden, *text;             /* [masks, language width] */
    float *prompts;                        /* [masks, width] */
    float *point, *tokens, *token_out;     /* [masks·7, width] */
    gp_operand *token_value, *token_query; /* tokens, and tokens + point, for products */
    float *image, *image_out;              /* [masks·grid², width] */
    gp_operand *image_value, *image_query; /* image, and image + positions, for products */
    gp_operand *q, *k, *v, *attended;      /* projections */
    gp_operand *mlp;                       /* [masks·7, its width] */
    gp_operand *hyper_rows[2];             /* [masks, width] */
    float *hyper;                          /* [masks, 4, width/8] */
    void *upscale_scratch;
    float *logits;          /* [masks, 4, (4·grid)²] */
    float *iou, *stability; /* [masks, 4], [masks] */
    int32_t *chosen;        /* [masks] */
} gp_mask_buffers;

bool gp_mask_decoder_bind(gp_mask_decoder *decoder, const gp_config *config, gp_binder *binder);

void gp_mask_layout(const gp_mask_decoder *decoder, const gp_backend *backend, int masks, gp_arena *arena,
                    gp_mask_buffers *buffers);

/** Some [SEG]s of one answer, decoded in a batch with others'. */
typedef struct gp_mask_part {
    const float *hidden; /* [masks, language width], backend memory */
    int masks;
    int first;                     /* number of the first one in its answer, for the observer */
    const gp_grounding_maps *maps; /* of its picture */
} gp_mask_part;

/**
 * The parts' hidden states, one after the other, to buffers->logits, iou, stability and chosen; at most
 * buffers->masks in all. Only the up-scaling, whose skips are a picture's, goes part by part.
 */
void gp_mask_decode(const gp_mask_decoder *decoder, gp_backend *backend, const gp_mask_part *parts, int count,
                    const gp_mask_buffers *buffers, const gp_observer *observer);
