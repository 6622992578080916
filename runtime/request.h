/**
 * One request from picture to masks, on the engine's thread: the stages in their order, their memory, and the
 * events that come of them.
 */
#pragma once

#include "runtime/keep.h"
#include "runtime/observe.h"

#include <stdatomic.h>

/** What a request was asked, copied; and whether it still is. */
typedef struct gp_question {
    gp_request_options options; /* strings and history are owned copies */
    atomic_bool cancelled;
} gp_question;

/** Memory that requests use one after another; grows to the largest. */
typedef struct gp_workplace {
    gp_backend *backend;
    gp_arena kept;  /* what lives from one stage to the next */
    gp_arena stage; /* what one stage needs */
    gp_keep keep;   /* of requests without a session */
} gp_workplace;

void gp_workplace_close(gp_workplace *workplace);

/** Everything that a running request looks at beside its question. */
typedef struct gp_run {
    const gp_model *model;
    gp_workplace *workplace;
    gp_keep *keep;               /* the session's; NULL without one */
    const gp_observer *observer; /* NULL but in parity tests */
    void (*on_warning)(void *user, const char *line);
    void *warning_user;
} gp_run;

/** Runs the request; its events go to the question's on_event, the final one included, whose type is
 * returned. */
gp_event_type gp_run_request(const gp_run *run, gp_question *question);
