/**
 * One request from picture to masks, on the engine's thread: the stages that are its own, their memory, and
 * the events that come of them.
 */
#pragma once

#include "runtime/keep.h"
#include "runtime/observe.h"
#include "runtime/ranks.h"
#include "runtime/reserve.h"

#include <stdatomic.h>

/** What a request was asked, copied; and whether it still is. */
typedef struct gp_question {
    gp_request_options options; /* strings and history are owned copies */
    atomic_bool cancelled;
} gp_question;

/** Memory of one request at a time, used again by the next; grows to the largest. */
typedef struct gp_place {
    gp_arena kept;             /* what lives from one stage to the next */
    gp_keep keep;              /* of a request without a session */
    gp_kept_sequence sequence; /* the request's */
} gp_place;

/** Allocates what the place's requests will need. */
bool gp_place_reserve(gp_place *place, gp_kv_cache *cache, const gp_reserve *reserve, gp_status *status);

void gp_place_close(gp_place *place, gp_backend *backend);

/** Everything that running requests look at beside their questions. */
typedef struct gp_run {
    const gp_model *model;
    gp_kv_cache *cache;          /* everybody's keys and values */
    gp_arena *stage;             /* what one stage needs, whosever it is */
    const gp_reserve *reserve;   /* what the memory is planned for */
    gp_ranks *ranks;             /* NULL: the model is whole, on one device */
    const gp_kv_mirror *mirror;  /* of the ranks; NULL likewise */
    const gp_observer *observer; /* NULL but in parity tests, which ask one thing at a time */
    void (*on_warning)(void *user, const char *line);
    void *warning_user;
} gp_run;

typedef struct gp_request_state gp_request_state;

/** How a stage ended. */
typedef enum gp_outcome {
    GP_OUTCOME_DONE,
    GP_OUTCOME_FAILED,
    GP_OUTCOME_CANCELLED,
    GP_OUTCOME_WAITS,           /* for pages, which any request may give back */
    GP_OUTCOME_WAITS_FOR_MATES, /* for other requests of its session */
} gp_outcome;

/** A request that nothing has been done for. `keep` is its session's, NULL without one. NULL when memory is
 * out. */
gp_request_state *gp_request_open(const gp_run *run, gp_question *question, gp_place *place, gp_keep *keep);

/** What else runs, for a request that is to start. */
typedef struct gp_company {
    bool alone;      /* nobody else holds pages that will come free */
    bool prefilling; /* the prompt of another request of the session is on its way, and may have what this one
                        begins with */
} gp_company;

/**
 * Phase START: preparation and vision. Where it has to wait for others (GP_OUTCOME_WAITS: for pages;
 * GP_OUTCOME_WAITS_FOR_MATES: for another division of the picture to be done with, or for the beginning that
 * a prompt of the session will have computed), its phase stays, and it is to be called again in a later
 * round; buffers may be there already.
 */
gp_outcome gp_request_start(gp_request_state *s, gp_place *place, gp_company company);

/** Phase MASKS: grounding and masks. */
void gp_request_draw(gp_request_state *s);

/** Phase OVER, after the device was waited for: sends the final event and frees. Returns that event's type.
 */
gp_event_type gp_request_close(gp_request_state *s);

/** Empties the stage arena, which then holds at least `bytes`. */
bool gp_run_use_stage(const gp_run *run, size_t bytes, gp_status *status);
