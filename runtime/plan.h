/**
 * What a request needs before it runs: its division into crops, and the buffers of every stage. The request
 * lays out its arenas by these functions, and gp_plan_request measures them, so the two cannot differ.
 */
#pragma once

#include "runtime/divider.h"
#include "runtime/mask_picture.h"
#include "runtime/model.h"

enum {
    GP_PREFILL_ROWS = 1024, /* of prompts that go through the layers together: memory, not results, depends
                               on it */
    GP_VISION_PICTURES = 2, /* in the vision encoder at the same time: with two, the next one's views fill the
                               batches that the first one leaves room in; none has fewer than two */
    GP_CROPS_DEFAULT = 9,
    GP_NEW_TOKENS_DEFAULT = 300,
    GP_TEXT_TOKENS_DEFAULT = 64,
};

/** Tokens that image, text and answer may have together. */
int64_t gp_plan_context(const gp_config *config);

/**
 * Divides the options' picture for a prompt of `text` tokens beside the image and an answer of
 * `max_new_tokens`; `crops` and `max_crops` as in gp_request_options. Fails with the numbers where they do
 * not fit the context.
 */
bool gp_plan_division(const gp_config *config, const gp_plan_options *picture, int64_t text,
                      int max_new_tokens, gp_division *division, gp_status *status);

/**
 * A model bound to shapes alone, for sizes: the folder's, whose weights may be missing, or GeoPixel-7B's
 * where it is NULL; with `dummy_weights` (as in gp_engine_options) that model's; of the language model the
 * part that `split` says. Close with gp_model_close, after failure too.
 */
bool gp_plan_open_model(const char *folder, const char *dummy_weights, gp_backend *backend, gp_split split,
                        gp_model *model, gp_status *status);

/** What is known of a picture, whatever is asked of it; backend memory. */
typedef struct gp_seen_buffers {
    gp_grounding_maps maps;
    uint8_t *source;     /* [height, width, 3] */
    float *image_tokens; /* [image tokens, hidden]; before they are known, the features of vision */
} gp_seen_buffers;

/** For a picture of so many crops. The image tokens, whose number may change between questions, come last:
 * the others stay in their places. */
void gp_plan_seen(const gp_model *model, int width, int height, int crops, int64_t image_tokens,
                  gp_arena *arena, gp_seen_buffers *buffers);

/** The other buffers that live from stage to stage, backend memory. */
typedef struct gp_kept_buffers {
    float *seg_hidden; /* [max_new_tokens, hidden] */
    gp_drawing_buffers drawing;
} gp_kept_buffers;

void gp_plan_kept(const gp_model *model, const gp_backend *backend, int width, int height, int max_new_tokens,
                  gp_arena *arena, gp_kept_buffers *buffers);

/** The divided picture, which lives as long as vision looks at it: [canvas_height, canvas_width, 3]. */
uint8_t *gp_plan_canvas(const gp_division *division, gp_arena *arena);

/** Scratch of making it from a picture of width × height. */
uint8_t *gp_plan_resize(int width, int height, const gp_division *division, gp_arena *arena);

/** What changes from one decoding step to the next, uploaded as it is. */
typedef struct gp_step {
    gp_sequence sequences[GP_REQUESTS_MOST];
    gp_token_choice choices[GP_REQUESTS_MOST];
    int32_t ids[GP_REQUESTS_MOST]; /* the last tokens */
} gp_step;

/** The buffers of one pass through the language model. */
typedef struct gp_batch_buffers {
    gp_language_buffers language;
    gp_step *step;   /* of a prompt's pass the choices alone */
    float *logits;   /* [sequences, gp_language_logit_stride] */
    int32_t *order;  /* [sequences, vocabulary], scratch of the sampler */
    int32_t *tokens; /* [sequences], the chosen ones */
} gp_batch_buffers;

/** For a pass of so many rows, of so many sequences whose next token is chosen. */
void gp_plan_batch(const gp_model *model, const gp_backend *backend, int64_t rows, int sequences,
                   gp_arena *arena, gp_batch_buffers *buffers);

/** Whether pictures are encoded for masks on GP_LANE_GROUND while their answers go on: where the backend's
 * lanes run beside each other, and without ranks, whose communicator is of one lane. Else it is done when the
 * text is whole, which then comes sooner. */
bool gp_plan_grounds_beside(const gp_model *model, const gp_backend *backend);

/** Bytes of the arena that the grounding encoder has of its own; 0 where there are ranks, and it shares. */
size_t gp_plan_ground_stage(const gp_model *model, const gp_backend *backend, int width, int height);

/**
 * Bytes of the arena that stages share: the largest of preparation and vision for such pictures, of as many
 * requests, a pass of so many rows and as many sequences, so many masks and, where there are ranks,
 * grounding.
 */
size_t gp_plan_stage(const gp_model *model, const gp_backend *backend, int width, int height,
                     const gp_division *division, int64_t rows, int requests, int64_t masks);
