/** A request under way, as its stages share it: request.c runs them, request_answer.c is the language
 * model's. */
#pragma once

#include "runtime/request.h"

/** How a stage ended. */
typedef enum gp_outcome { GP_OUTCOME_DONE, GP_OUTCOME_FAILED, GP_OUTCOME_CANCELLED } gp_outcome;

/** A request under way. */
typedef struct gp_request_state {
    const gp_run *run;
    const gp_model *model;
    gp_backend *backend;
    gp_question *question;
    const gp_request_options *options;
    gp_status status;
    gp_stage current;
    double stage_start, seconds[GP_STAGE_COUNT];

    gp_prompt prompt;
    gp_division division;
    int prompt_tokens, max_new_tokens;
    gp_text_stream *stream;
    int32_t *ids; /* [max_new_tokens] generated */
    int id_count, seg_count;
    gp_phrase *phrases; /* [phrase_count], texts owned */
    size_t phrase_count;

    gp_keep *keep;        /* the session's, or the one of all that have none */
    gp_kept_buffers kept; /* in the workplace's kept arena; seg_count rows of seg_hidden are filled */
    bool prepared;

    gp_mask_picture picture; /* one mask for the caller */
} gp_request_state;

/** Ends the current stage's clock and starts the next one's. */
void gp_request_begin(gp_request_state *s, gp_stage stage);

/** Tells the caller of progress in the current stage; false when the request was cancelled. `user` is a
 * gp_request_state. */
bool gp_request_step(void *user, int done, int total);

/** Empties the stage arena, which then holds at least `bytes`. */
bool gp_request_use_stage(gp_request_state *s, size_t bytes);

/** Prompt and answer: ids, text stream and the hidden states of [SEG]. */
gp_outcome gp_request_answer(gp_request_state *s);
