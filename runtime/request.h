/**
 * One request from picture to masks, on the engine's thread: what is its own of that, its preparation, its
 * memory and the events that come of it.
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

typedef struct gp_recorded_steps gp_recorded_steps;

/** Lanes of the backend: all are on the first but the grounding encoder, where there are no ranks. */
enum { GP_LANE_MAIN, GP_LANE_GROUND };

/** Everything that running requests look at beside their questions. */
typedef struct gp_run {
    const gp_model *model;
    gp_kv_cache *cache;          /* everybody's keys and values */
    gp_arena *stage;             /* what one stage needs, whosever it is; with ranks, grounding's too */
    gp_arena *ground_stage;      /* grounding's where it runs beside the others (gp_plan_grounds_beside) */
    gp_arena *canvases;          /* [GP_VISION_PICTURES], the divided pictures that are in vision */
    gp_keep *sessions;           /* keeps of those that were asked something, in any order */
    int groundings;              /* pictures that are encoded for masks in a round, at most */
    gp_recorded_steps *steps;    /* of decoding, over the stage arena and the cache */
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
    GP_OUTCOME_WAITS,            /* for pages, which any request may give back */
    GP_OUTCOME_WAITS_FOR_VISION, /* for a picture in vision to be through */
    GP_OUTCOME_WAITS_FOR_MATES,  /* for other requests of its session */
} gp_outcome;

/** A request that nothing has been done for. `keep` is its session's, NULL without one. NULL when memory is
 * out. */
gp_request_state *gp_request_open(const gp_run *run, gp_question *question, gp_place *place, gp_keep *keep);

/** What else runs, for a request that is to start. */
typedef struct gp_company {
    bool alone;       /* nobody else holds pages that will come free */
    bool prefilling;  /* the picture or the prompt of another request of the session is on its way, and may
                         have  what this one begins with */
    gp_arena *canvas; /* for its divided picture; NULL: as many are in vision as may be */
} gp_company;

/**
 * Phase START: preparation. Where it has to wait for others (GP_OUTCOME_WAITS: for pages;
 * GP_OUTCOME_WAITS_FOR_VISION: for a canvas; GP_OUTCOME_WAITS_FOR_MATES: for another division of the picture
 * to be done with, or for the beginning that a prompt of the session will have computed), its phase stays,
 * and it is to be called again in a later round; buffers may be there already.
 */
gp_outcome gp_request_start(gp_request_state *s, gp_place *place, gp_company company);

/** Phase OVER, after the device was waited for: sends the final event and frees. Returns that event's type.
 */
gp_event_type gp_request_close(gp_request_state *s);

/** Empties the stage arena, which then holds at least `bytes`, for a pass of these requests; they fail where
 * there is no memory for it. */
bool gp_run_use_stage(const gp_run *run, size_t bytes, gp_request_state *const *requests, int count);

/** Where a rank is gone, what a pass gave is not known: then false, and all these that took part in it fail.
 */
bool gp_run_ranks_there(const gp_run *run, gp_request_state *const *requests, int count);

/** The same for nobody's requests; on all ranks. */
bool gp_run_reserve_stage(const gp_run *run, size_t bytes, gp_status *status);

/** Empties it and lays out in it what gp_plan_batch does. */
bool gp_run_use_batch(const gp_run *run, int64_t rows, int sequences, gp_batch_buffers *buffers,
                      gp_status *status);
