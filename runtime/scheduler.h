/**
 * Requests that run at the same time, on the engine's thread, a round at a time: requests are started, a
 * batch of their pictures' views, of their prompts' rows, of their answers' tokens and of their answers'
 * masks goes through the model (batch.h). A round is bounded, so none keeps the others waiting; who came
 * first is first in everything.
 */
#pragma once

#include "runtime/decode.h"

/** A request that runs. */
typedef struct gp_running {
    gp_request_state *state;
    gp_place *place;
    void *owner; /* the caller's */
} gp_running;

typedef struct gp_scheduler {
    gp_reserve reserve;
    gp_kv_mirror mirror;
    gp_run run;
    gp_kv_cache cache;
    gp_arena stage, ground_stage, canvases[GP_VISION_PICTURES];
    gp_recorded_steps steps; /* all of them from the start where memory is planned */
    gp_place *places;        /* [limit], used from the first on as requests need them */
    bool *taken;             /* [limit] */
    gp_running *running;     /* [limit], in the order of their coming */
    int limit, count;
    gp_keep *spare; /* [spare_count] for sessions, where memory is planned */
    int spare_count;
    uint64_t uses; /* of sessions, counted */
} gp_scheduler;

/** At most reserve->requests requests run (1 … GP_REQUESTS_MOST), on the other ranks too where there are any.
 * All that is reserved is allocated now:
 * nothing, pages alone, or everything. On failure nothing is left open. */
bool gp_scheduler_open(gp_scheduler *scheduler, const gp_model *model, gp_ranks *ranks,
                       const gp_reserve *reserve, gp_status *status);

/** What a session keeps, empty; false with the number where memory is planned for no more sessions. */
bool gp_scheduler_lend(gp_scheduler *scheduler, gp_keep *keep, gp_status *status);

/** Takes it back, and frees it where nothing is planned. No request may have it. */
void gp_scheduler_take_back(gp_scheduler *scheduler, gp_keep *keep);

/** Nothing may run. */
void gp_scheduler_close(gp_scheduler *scheduler);

/** Takes a request on; there must be room. `keep` is its session's, or NULL. False when memory is out. */
bool gp_scheduler_add(gp_scheduler *scheduler, gp_question *question, gp_keep *keep, void *owner);

/** One round. `ended` is called for each request that had its final event in it. */
void gp_scheduler_round(gp_scheduler *scheduler, void (*ended)(void *user, void *owner, gp_event_type final),
                        void *user);
