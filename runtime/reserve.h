/**
 * What an engine with limits allocates before its first request: enough for any that keeps them, by the
 * layout functions of plan.h at the largest sizes. None of those needs less for more, so the largest serves
 * all.
 */
#pragma once

#include "runtime/plan.h"
#include "runtime/prompt.h"

/** Zeros: nothing is planned. */
typedef struct gp_reserve {
    gp_limits limits;     /* every default filled in but max_crops; width 0: none are set */
    int requests;         /* at the same time */
    int crops;            /* the most that a picture may be divided into */
    int64_t image_tokens; /* the most */
    int32_t pages;        /* of keys and values; 0: as many as are asked for */
    int32_t table_pages;  /* that a sequence's table has room for; 0: as many as it needs */
    size_t seen;          /* bytes of a keep's arena */
    size_t kept;          /* of a place's */
    size_t canvas;        /* of each of gp_reserve_canvases' */
    size_t stage;         /* of the one that stages share */
    size_t ground_stage;  /* of the grounding encoder's; 0: it shares that */
} gp_reserve;

/** Whether the options' numbers are possible, whatever the model. */
bool gp_reserve_check(const gp_engine_options *options, gp_status *status);

/** For options that are checked. Fails where the limits leave no room for a request, or the cache none for
 * the largest. */
bool gp_reserve_measure(const gp_model *model, const gp_backend *backend, const gp_engine_options *options,
                        gp_reserve *reserve, gp_status *status);

/** Pictures that may be in vision at the same time, planned or not. */
int gp_reserve_canvases(const gp_reserve *reserve);

/** What a reserve comes to, beside the KV cache's pages. */
uint64_t gp_reserve_table_bytes(const gp_reserve *reserve);
uint64_t gp_reserve_request_bytes(const gp_reserve *reserve);
uint64_t gp_reserve_session_bytes(const gp_reserve *reserve);

/** Whether the request keeps the limits, so far as its options and its prompt's text tell; fails with the
 * numbers. */
bool gp_reserve_admits(const gp_reserve *reserve, const gp_request_options *request, int max_new_tokens,
                       const gp_prompt *prompt, gp_status *status);

/** Whether what its picture is divided into does, with `tokens` of image, text and answer. */
bool gp_reserve_holds(const gp_reserve *reserve, const gp_division *division, int64_t tokens,
                      gp_status *status);
