/** Requests to measure with: asked all at once or one after the other at random times, and what the clock
 * said. */
#pragma once

#include "runtime/geopixel.h"

/** What is asked, and of whom. */
typedef struct gp_workload {
    const char *model, *prompt;
    const char *dummy_weights; /* as in gp_engine_options */
    gp_device device;
    int threads;
    int ranks, replicas; /* as in gp_engine_options */
    int together;        /* requests that a replica runs at the same time */
    int requests;
    int crops, max_new_tokens;
    double rate;   /* requests a second, at exponentially distributed distances; 0: all at once */
    uint64_t seed; /* of those distances */
    bool session;  /* all about one picture, in one session; else each brings its own */
    gp_image image;
} gp_workload;

/** Of one request, in seconds since it was asked. */
typedef struct gp_request_times {
    double first_token, last_token, end;
    int tokens;
} gp_request_times;

/** What came of it. Free `times` with gp_free. */
typedef struct gp_workload_result {
    double seconds; /* from the first request to the last answer; the model is open before */
    long long tokens, masks, prompt_tokens;
    gp_request_times *times; /* [requests] */
} gp_workload_result;

/** Opens the model, asks and waits. Fails where a request does, or after Ctrl-C. */
bool gp_workload_run(const gp_workload *workload, gp_workload_result *result, gp_status *status);

/** The value below which that share of `count` values lies, between its two neighbours by their distance
 * (numpy's default); sorts the values. */
double gp_percentile(double *values, size_t count, double share);
