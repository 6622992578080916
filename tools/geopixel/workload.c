#include "tools/geopixel/workload.h"

#include "kernels/base/clock.h"
#include "kernels/base/memory.h"
#include "runtime/sampling.h"
#include "tools/geopixel/interrupt.h"
#include "tools/geopixel/terminal.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/** One request under way. */
typedef struct asked {
    gp_request *request;
    double submitted;
    double first_token, last_token, end; /* the engine's thread writes them, before the final event is over */
    int tokens;
    size_t masks;
    int prompt_tokens;
    char *error;
} asked;

static void on_event(void *user, const gp_event *event) {
    asked *one = user;
    if (event->type == GP_EVENT_PROGRESS && event->progress.stage == GP_STAGE_DECODE) {
        one->last_token = gp_clock_seconds();
        if (one->first_token == 0) one->first_token = one->last_token;
    }
    if (event->type == GP_EVENT_ERROR) one->error = gp_copy_text(event->error);
    if (event->type == GP_EVENT_DONE) {
        one->end = gp_clock_seconds();
        one->tokens = (int)event->result.token_count;
        one->masks = event->result.mask_count;
        one->prompt_tokens = event->result.prompt_tokens;
        if (one->first_token == 0)
            one->first_token = one->last_token = one->end; /* it ends with its first token */
    }
}

static void wait_until(double time) {
    double left = time - gp_clock_seconds();
    if (left <= 0) return;
    struct timespec rest = {(time_t)left, (long)(1e9 * (left - floor(left)))};
    while (!gp_interrupted() && nanosleep(&rest, &rest) != 0 && errno == EINTR) continue;
}

static bool submit_all(gp_engine *engine, const gp_workload *w, gp_session *session, asked *all,
                       gp_status *status) {
    double next = gp_clock_seconds();
    for (int i = 0; i < w->requests; i++) {
        if (w->rate > 0 && i > 0) {
            next -= log(1 - gp_uniform(w->seed, (uint64_t)i)) / w->rate;
            wait_until(next);
        }
        if (gp_interrupted()) return gp_fail(status, "interrupted");
        gp_request_options options = {.session = session,
                                      .image = w->image,
                                      .prompt = w->prompt,
                                      .crops = w->crops,
                                      .max_new_tokens = w->max_new_tokens,
                                      .on_event = on_event,
                                      .user = &all[i]};
        all[i].submitted = gp_clock_seconds();
        all[i].request = gp_submit(engine, &options, status);
        if (all[i].request == NULL) return false;
    }
    return true;
}

/** Waits for all, those that came before a failure too. */
static bool collect(const gp_workload *w, asked *all, bool submitted, gp_workload_result *result,
                    gp_status *status) {
    bool done = submitted;
    for (int i = 0; i < w->requests; i++) {
        asked *one = &all[i];
        if (one->request == NULL) continue;
        if (!done || gp_interrupted()) gp_request_cancel(one->request);
        gp_interrupt_cancels(one->request);
        gp_event_type final = gp_request_wait(one->request);
        gp_interrupt_cancels(NULL);
        gp_request_release(one->request);
        if (done && final != GP_EVENT_DONE)
            done = gp_fail(status, "request %d: %s", i + 1, one->error != NULL ? one->error : "cancelled");
        result->times[i] =
            (gp_request_times){one->first_token - one->submitted, one->last_token - one->submitted,
                               one->end - one->submitted, one->tokens};
        result->tokens += one->tokens;
        result->masks += (long long)one->masks;
        result->prompt_tokens += one->prompt_tokens;
        if (one->end - all[0].submitted > result->seconds) result->seconds = one->end - all[0].submitted;
        gp_free(one->error);
    }
    return done;
}

static void on_loading(void *user, uint64_t done, uint64_t total) {
    gp_terminal_loading(user, done, total);
}

bool gp_workload_run(const gp_workload *w, gp_workload_result *result, gp_status *status) {
    *result = (gp_workload_result){.times = gp_allocate_zeroed((size_t)w->requests, sizeof *result->times)};
    asked *all = gp_allocate_zeroed((size_t)w->requests, sizeof *all);
    gp_engine *engine = NULL;
    gp_session *session = NULL;
    gp_terminal terminal;
    bool done = all != NULL && result->times != NULL;
    if (!done) gp_fail(status, "no memory for %d requests", w->requests);
    gp_terminal_open(&terminal, false);
    if (done)
        engine = gp_engine_open(&(gp_engine_options){.model = w->model,
                                                     .dummy_weights = w->dummy_weights,
                                                     .device = w->device,
                                                     .threads = w->threads,
                                                     .ranks = w->ranks,
                                                     .replicas = w->replicas,
                                                     .requests = w->together,
                                                     .on_loading = on_loading,
                                                     .user = &terminal},
                                status);
    gp_terminal_clear(&terminal);
    done = engine != NULL;
    if (done && w->session) {
        session = gp_session_open(engine, &w->image, status);
        done = session != NULL;
    }
    if (done) {
        bool submitted = submit_all(engine, w, session, all, status);
        done = collect(w, all, submitted, result, status);
    }
    gp_session_close(session);
    gp_engine_close(engine);
    gp_free(all);
    return done;
}

static int ascending(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return left < right ? -1 : left > right;
}

double gp_percentile(double *values, size_t count, double share) {
    qsort(values, count, sizeof *values, ascending);
    double at = share * (double)(count - 1);
    size_t low = (size_t)at, high = low + 1 < count ? low + 1 : low;
    return values[low] + (at - (double)low) * (values[high] - values[low]);
}
