/**
 * Requests that run at the same time, on the engine's thread, a round at a time: requests are started, one
 * picture at most is looked at, prompts and answers go through the language model together, one answer's
 * masks are drawn. So none keeps the others waiting for longer than one picture takes; who came first is
 * first in everything.
 */
#pragma once

#include "runtime/request.h"

/** A request that runs. */
typedef struct gp_running {
    gp_request_state *state;
    gp_place *place;
    void *owner; /* the caller's */
} gp_running;

typedef struct gp_scheduler {
    gp_run run;
    gp_kv_cache cache;
    gp_arena stage;
    gp_place *places;    /* [limit], used from the first on as requests need them */
    bool *taken;         /* [limit] */
    gp_running *running; /* [limit], in the order of their coming */
    int limit, count;
} gp_scheduler;

/** At most `limit` requests run (1 … GP_REQUESTS_MAX); they have `pages` pages of keys and values together,
 * all allocated now, or as many as they need where it is 0. On failure nothing is left open. */
bool gp_scheduler_open(gp_scheduler *scheduler, const gp_model *model, int limit, int32_t pages,
                       gp_status *status);

/** Nothing may run. */
void gp_scheduler_close(gp_scheduler *scheduler);

/** Takes a request on; there must be room. `keep` is its session's, or NULL. False when memory is out. */
bool gp_scheduler_add(gp_scheduler *scheduler, gp_question *question, gp_keep *keep, void *owner);

/** One round. `ended` is called for each request that had its final event in it. */
void gp_scheduler_round(gp_scheduler *scheduler, void (*ended)(void *user, void *owner, gp_event_type final),
                        void *user);
