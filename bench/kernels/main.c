/**
 * The kernels' benchmark: one line a kernel and size. Each case is checked against f64 first, then timed in
 * turns with the library that does the same (cuBLASLt, cuDNN), both on buffers that rotate beyond L2;
 * afterwards its first and last buffers have to give the same bits. A wrong result is no result: the case
 * says FAILED, and the program ends with 1.
 */
#include "bench/kernels/library.h"
#include "bench/kernels/list.h"
#include "bench/kernels/measure.h"
#include "bench/kernels/reference.h"
#include "bench/kernels/report.h"
#include "bench/kernels/stream.h"
#include "bench/kernels/trial.h"
#include "kernels/base/memory.h"
#include "tools/geopixel/arguments.h"

#include <stdio.h>
#include <string.h>

enum { CEILING_SIDE = 8192, LIBRARIES = 2 };

typedef struct bench {
    gp_backend *backend;
    cudaStream_t stream;
    size_t cold_bytes; /* buffers of this size together leave nothing of each other in L2 */
    gp_library *libraries[LIBRARIES];
    uint64_t seed;
} bench;

static void run_case(bench *b, const gp_report *report, const gp_case *chosen, gp_outcome *outcome);
static void measure_ceilings(bench *b, gp_report *report);

static int run(const char *only, const char *output) {
    bool (*const open[LIBRARIES])(cudaStream_t, gp_library **, gp_status *) = {gp_open_cublaslt,
                                                                               gp_open_cudnn};
    bench b = {.seed = 0};
    gp_report report = {.path = output};
    gp_status status = {0};
    struct cudaDeviceProp properties;
    bool reported = true;
    if (!gp_backend_open_cuda(0, &b.backend, &status)) {
        printf("skipped: %s\n", status.message);
        gp_status_clear(&status);
        return 77; /* there is nothing to measure on */
    }
    b.seed = gp_fresh_seed();
    b.stream = gp_stream_of(b.backend);
    cudaGetDeviceProperties(&properties, 0);
    b.cold_bytes = 3 * (size_t)properties.l2CacheSize;
    snprintf(report.device, sizeof report.device, "%s, %d MB of L2", b.backend->name,
             properties.l2CacheSize >> 20);
    for (int i = 0; i < LIBRARIES; i++) {
        bool opened = open[i](b.stream, &b.libraries[i], &status);
        snprintf(report.libraries[i], sizeof report.libraries[i], "%s%s",
                 opened ? "" : "none: ", opened ? b.libraries[i]->name : status.message);
        gp_status_clear(&status);
    }
    measure_ceilings(&b, &report);
    gp_report_begin(&report);
    for (int i = 0; reported && i < gp_family_count; i++)
        for (int index = 0; reported && index < gp_families[i]->count; index++) {
            gp_case chosen = {gp_families[i], index, false};
            gp_outcome outcome = {.sets = 0};
            chosen.family->cost(&chosen, &outcome.cost);
            if (only != NULL && strstr(outcome.cost.name, only) == NULL) continue;
            run_case(&b, &report, &chosen, &outcome);
            reported = gp_report_add(&report, &outcome, &status);
        }
    int failures = gp_report_failures(&report);
    if (!reported) fprintf(stderr, "kernels: %s\n", status.message);
    if (report.count == 0) fprintf(stderr, "kernels: no case has \"%s\" in its name\n", only);
    printf("\n%d kernels measured, %d failed\n", report.count - failures, failures);
    bool good = reported && failures == 0 && report.count > 0;
    gp_status_clear(&status);
    gp_report_free(&report);
    for (int i = 0; i < LIBRARIES; i++)
        if (b.libraries[i] != NULL) b.libraries[i]->close(b.libraries[i]);
    gp_backend_close(b.backend);
    return good ? 0 : 1;
}

/* ---- a case ---- */

typedef struct planned {
    const gp_trial *trial;
    gp_library *library;
    gp_plan *plan;
} planned;

static bool launch_ours(void *user, int set) {
    gp_trial_launch(((const planned *)user)->trial, set);
    return true;
}

static bool launch_library(void *user, int set) {
    const planned *p = user;
    return p->library->run(p->plan, p->trial->at[set]);
}

/** Moves a message into an outcome's text. */
static void tell(char target[320], gp_status *status) {
    snprintf(target, 320, "%s", status->message != NULL ? status->message : "no reason was given");
    gp_status_clear(status);
}

/** The library's plan for the case, once its own result is right; else why there is none in
 * outcome->library_problem. */
static void plan_library(bench *b, const gp_report *report, const gp_trial *trial, planned *p,
                         gp_outcome *outcome) {
    const gp_yardstick *yardstick = &trial->work.yardstick;
    gp_status status = {0};
    gp_findings findings;
    if (yardstick->kind == GP_YARDSTICK_NONE) return;
    int index = yardstick->kind == GP_YARDSTICK_PRODUCT ? 0 : 1;
    p->library = b->libraries[index];
    if (p->library == NULL) {
        snprintf(outcome->library_problem, sizeof outcome->library_problem, "%s", report->libraries[index]);
        return;
    }
    bool usable = p->library->plan(p->library, yardstick, trial->at[0], &p->plan, &status) &&
                  gp_trial_reset(trial, 0, &status) &&
                  (launch_library(p, 0) || gp_fail(&status, "%s refused to run", p->library->name)) &&
                  gp_trial_check(trial, 0, true, &b->seed, &findings, &status) &&
                  (gp_findings_right(&findings) ||
                   gp_fail(&status, "%s gives another result: %s", p->library->name, findings.first));
    if (usable) return;
    tell(outcome->library_problem, &status);
    if (p->plan != NULL) p->library->free_plan(p->plan);
    p->plan = NULL;
}

static bool check_case(bench *b, const gp_trial *trial, gp_outcome *outcome, gp_status *status) {
    if (!gp_trial_reset(trial, 0, status)) return false;
    gp_trial_launch(trial, 0);
    if (!gp_trial_check(trial, 0, false, &b->seed, &outcome->findings, status)) return false;
    outcome->right = gp_findings_right(&outcome->findings);
    return outcome->right || gp_fail(status, "%s", outcome->findings.first);
}

static void run_case(bench *b, const gp_report *report, const gp_case *chosen, gp_outcome *outcome) {
    static gp_trial trial;
    planned p = {.trial = &trial};
    gp_status status = {0};
    gp_timing timings[GP_CONTENDERS_MAX];
    bool same = false;
    bool ready = gp_trial_open(&trial, chosen, b->backend, b->cold_bytes, &b->seed, &status) &&
                 check_case(b, &trial, outcome, &status);
    if (ready) {
        plan_library(b, report, &trial, &p, outcome);
        gp_contender contenders[GP_CONTENDERS_MAX] = {{launch_ours, &p}, {launch_library, &p}};
        outcome->sets = trial.sets;
        outcome->timed = p.plan != NULL && gp_measure(b->stream, trial.sets, contenders, 2, timings, &status);
        if (p.plan != NULL && !outcome->timed) tell(outcome->library_problem, &status);
        if (outcome->timed) {
            outcome->library = p.library->name;
            outcome->library_timing = timings[1];
        } else {
            outcome->timed = gp_measure(b->stream, trial.sets, contenders, 1, timings, &status);
        }
        outcome->timing = timings[0];
        ready = outcome->timed && b->backend->ops->finish(b->backend, &status) &&
                gp_trial_same_bits(&trial, &same, &status) &&
                (same || gp_fail(&status, "two launches on the same inputs differ"));
        if (!ready) outcome->right = false;
    }
    if (!ready) tell(outcome->problem, &status);
    if (p.plan != NULL) p.library->free_plan(p.plan);
    gp_trial_close(&trial);
}

/* ---- ceilings ---- */

typedef struct squares {
    gp_library *library;
    gp_plan *plan;
    void *at[2][3];
} squares;

static bool launch_square(void *user, int set) {
    const squares *s = user;
    return s->library->run(s->plan, s->at[set]);
}

/** cuBLASLt's product of two random matrices of 8192², operations a second. */
static bool measure_products(bench *b, double *rate, gp_status *status) {
    const size_t bytes = (size_t)CEILING_SIDE * CEILING_SIDE * sizeof(uint16_t);
    const gp_ops *ops = b->backend->ops;
    squares s = {.library = b->libraries[0]};
    gp_yardstick what = {.kind = GP_YARDSTICK_PRODUCT,
                         .product = {.rows = CEILING_SIDE,
                                     .columns = CEILING_SIDE,
                                     .depth = CEILING_SIDE,
                                     .x_stride = CEILING_SIDE,
                                     .w_stride = CEILING_SIDE,
                                     .y_stride = CEILING_SIDE,
                                     .x = 0,
                                     .w = 1,
                                     .y = 2,
                                     .residual = -1}};
    gp_timing timing;
    uint16_t *host = gp_allocate(bytes);
    bool ready = host != NULL;
    for (int i = 0; ready && i < 6; i++) {
        ready = (s.at[i / 3][i % 3] = ops->allocate(b->backend, bytes)) != NULL;
        if (ready) gp_random_bf16(&b->seed, host, (int64_t)CEILING_SIDE * CEILING_SIDE, 1);
        if (ready) ops->upload(b->backend, s.at[i / 3][i % 3], host, bytes);
    }
    if (!ready) gp_fail(status, "no room for %d matrices of %d x %d", 6, CEILING_SIDE, CEILING_SIDE);
    gp_contender contender = {launch_square, &s};
    bool measured = ready && s.library->plan(s.library, &what, s.at[0], &s.plan, status) &&
                    gp_measure(b->stream, 2, &contender, 1, &timing, status);
    if (measured) *rate = 2.0 * CEILING_SIDE * CEILING_SIDE * CEILING_SIDE / timing.median;
    if (s.plan != NULL) s.library->free_plan(s.plan);
    for (int i = 0; i < 6; i++) ops->release(b->backend, s.at[i / 3][i % 3]);
    gp_free(host);
    return measured;
}

static void measure_ceilings(bench *b, gp_report *report) {
    gp_status status = {0};
    if (!gp_measure_copy(b->stream, &report->ceiling.bytes, &status))
        fprintf(stderr, "kernels: the copy was not measured: %s\n", status.message);
    gp_status_clear(&status);
    if (b->libraries[0] == NULL)
        fprintf(stderr, "kernels: products were not measured: %s\n", report->libraries[0]);
    else if (!measure_products(b, &report->ceiling.operations, &status))
        fprintf(stderr, "kernels: products were not measured: %s\n", status.message);
    gp_status_clear(&status);
}

int main(int count, char **arguments) {
    const char *only = NULL, *output = NULL, *operand;
    bool list = false, help;
    int gpu = 0;
    const gp_option options[] = {
        {"only", 0, GP_OPTION_TEXT, "TEXT", "the cases whose name holds it, not all", &only, 0, 0},
        {"output", 'o', GP_OPTION_TEXT, "FILE", "writes all numbers there as JSON", &output, 0, 0},
        {"list", 0, GP_OPTION_FLAG, NULL,
         "prints what each case costs and takes at least by arithmetic; needs no GPU", &list, 0, 0},
        {"gpu", 0, GP_OPTION_CHOICE, gp_list_gpus, "the GPU of --list", &gpu, 0, 0}};
    static const char *const examples[] = {"all kernels", "kernels --output kernels.json",
                                           "what they take at least on an H200", "kernels --list --gpu h200",
                                           NULL};
    const gp_command command = {"kernels", "Checks and times every CUDA kernel at GeoPixel-7B's sizes.",
                                NULL,      examples,
                                options,   sizeof options / sizeof *options};
    gp_status status = {0};
    if (!gp_arguments_parse(&command, count - 1, arguments + 1, &operand, &help, &status)) {
        fprintf(stderr, "kernels: %s\n", status.message);
        gp_status_clear(&status);
        return 2;
    }
    if (help) {
        gp_arguments_help(&command);
        return 0;
    }
    if (list) return gp_list(gpu, only) ? 0 : 1;
    return run(only, output);
}
