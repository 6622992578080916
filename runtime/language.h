/**
 * The language model: InternLM2 with partial LoRA on image rows, grouped-query attention over a paged KV
 * cache (spec: model.md, section 4; InternLM2 arXiv 2403.17297, partial LoRA arXiv 2401.16420). One function
 * carries rows of any number of sequences, whether a prompt, a piece of one, or one decoded token each.
 */
#pragma once

#include "kernels/base/memory.h"
#include "loaders/config/config.h"
#include "runtime/kv_cache.h"
#include "runtime/layers.h"

/** W with the LoRA that image rows add. */
typedef struct gp_lora_linear {
    gp_matrix weight, a, b;
} gp_lora_linear;

typedef struct gp_language_layer {
    gp_norm_weights attention_norm, ffn_norm;
    gp_lora_linear wqkv, wo, w1, w2, w3;
} gp_language_layer;

typedef struct gp_language {
    gp_language_config config;
    gp_split split; /* whose part of the matrices this is; size 1: all of them */
    int head_dim;
    int kv_heads, group;  /* of this rank; group: query heads a kv head */
    int64_t intermediate; /* of this rank */
    int64_t logit_rows; /* of the vocabulary that this rank has, from split.rank·logit_rows on; those beyond
                           its end are zeros */
    int64_t rank;       /* the largest of all LoRAs */
    int positions;      /* that the rope tables hold: max_length */
    gp_matrix embeddings; /* without data on ranks above 0 */
    gp_matrix output;     /* [logit_rows, hidden] */
    gp_language_layer *layers;
    gp_norm_weights norm;
    const float *cosine, *sine;    /* [positions, head_dim/2] */
    gp_communicator *communicator; /* of the ranks, not owned; NULL where the model is whole */
} gp_language;

/** Elements from row to row of logits: the vocabulary and, of several ranks, what pads it. */
static inline int64_t gp_language_logit_stride(const gp_language *language) {
    return language->split.size * language->logit_rows;
}

/** Buffers for up to `rows` rows, backend memory; laid out by gp_language_layout. */
typedef struct gp_language_buffers {
    int64_t rows;
    float *x;           /* [rows, hidden]: the residual stream, filled by the caller */
    uint8_t *image_row; /* [rows] */
    int32_t *ids;       /* [rows] */
    gp_operand *normed, *qkv, *q, *attended, *hidden;
    gp_operand *lora1, *lora2; /* [rows, rank rounded up to GP_OPERAND_ALIGNMENT] */
    float *final;              /* [rows, hidden]: after the final norm */
    gp_operand *final_operand; /* the same, for the logits */
} gp_language_buffers;

/** Binds what binder->split says of the model (runtime/split.h). */
bool gp_language_bind(gp_language *language, const gp_config *config, gp_binder *binder, gp_status *status);
void gp_language_free(gp_language *language);

void gp_language_layout(const gp_language *language, const gp_backend *backend, int64_t rows, gp_arena *arena,
                        gp_language_buffers *buffers);

/**
 * Rows buffers->x [rows, hidden] of `sequences` through all layers; keys and values are appended to their
 * pages, which must be there. All ranks do so with the same rows, and get the same. x then holds the last
 * layer's output, before the final norm. `decode`: the rows are decoding steps, one of each sequence.
 */
void gp_language_forward(const gp_language *language, gp_backend *backend, const gp_language_buffers *buffers,
                         int64_t rows, const gp_sequence *sequences, int sequence_count,
                         const gp_kv_cache *cache, bool decode);

/** Rank 0's first `rows` rows of x and of image_row to all ranks; before gp_language_forward, where there are
 * several. */
void gp_language_share_rows(const gp_language *language, const gp_language_buffers *buffers, int64_t rows);

/** The final norm of `rows` rows of x from first_row on, into the first rows of buffers->final and
 * final_operand. */
void gp_language_final(const gp_language *language, gp_backend *backend, const gp_language_buffers *buffers,
                       int64_t first_row, int64_t rows);

/** logits [rows, gp_language_logit_stride] of the first `rows` rows of buffers->final, all of the vocabulary
 * on every rank; `decode` as above. */
void gp_language_logits(const gp_language *language, gp_backend *backend, const gp_language_buffers *buffers,
                        int64_t rows, bool decode, float *logits);
