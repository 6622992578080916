/** A request under way, as its stages share it. request.c begins and ends it, batch.c, batch_vision.c and
 * batch_masks.c have the stages that requests go through together; scheduler.c says whose turn it is. */
#pragma once

#include "runtime/request.h"

/** What comes next for a request. */
typedef enum gp_phase {
    GP_PHASE_START,   /* pages for its sequence, preparation */
    GP_PHASE_VISION,  /* views of its picture from picture.encoded on */
    GP_PHASE_PREFILL, /* prompt rows from sequence->id_count on */
    GP_PHASE_DECODE,  /* the last id is to be put through the model */
    GP_PHASE_MASKS,   /* the text is whole: grounding, masks from `drawn` on */
    GP_PHASE_OVER,    /* ended as `outcome` says; the final event is to come */
} gp_phase;

/** A request under way. */
struct gp_request_state {
    const gp_run *run;
    const gp_model *model;
    gp_backend *backend;
    gp_question *question;
    const gp_request_options *options;
    gp_status status;
    gp_phase phase;
    gp_outcome outcome;
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

    gp_keep *keep;              /* the session's, or its place's */
    gp_kept_sequence *sequence; /* its place's */
    gp_kept_buffers kept;       /* in its place's arena; seg_count rows of seg_hidden are filled */
    size_t kept_bytes;          /* of that arena */
    bool asked;                 /* the prompt is built and the picture divided */
    bool began;                 /* so is the sequence: keep->running counts it */
    bool prepared;              /* all memory is there */
    uint64_t forgotten;         /* keep->forgotten when the sequence began */

    gp_arena *canvas;          /* of the divided picture, while it is in vision */
    gp_vision_picture picture; /* likewise */
    bool segs;                 /* the answer has a [SEG]: its picture's maps are needed */
    bool grounded;             /* they were made for it while its text went on */
    bool ended;                /* the text is whole, its phrases are found */
    int drawn;                 /* masks that the caller has */
    gp_mask_picture mask;      /* one mask for the caller */
};

/** Ends the current stage's clock and starts the next one's. */
void gp_request_begin(gp_request_state *s, gp_stage stage);

/** Tells the caller of progress in the current stage; false when the request was cancelled. `user` is a
 * gp_request_state. */
bool gp_request_step(void *user, int done, int total);

/** The request is over with that outcome. */
void gp_request_stop(gp_request_state *s, gp_outcome outcome);

/** All these requests have failed, as the status says. */
void gp_requests_fail(gp_request_state *const *requests, int count, const gp_status *status);
