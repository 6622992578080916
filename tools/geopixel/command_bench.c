#include "tools/geopixel/command_bench.h"

#include "kernels/base/memory.h"
#include "tools/geopixel/arguments.h"
#include "tools/geopixel/asking.h"
#include "tools/geopixel/exit_codes.h"
#include "tools/geopixel/interrupt.h"
#include "tools/geopixel/outputs/output_file.h"
#include "tools/geopixel/serving.h"
#include "tools/geopixel/workload.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

static const char PROMPT[] =
    "Can you provide a thorough description of the this image? "
    "Please output with interleaved segmentation masks for the corresponding phrases.";

/** A measurement under way. */
typedef struct bench {
    const char *mode, *image, *prompt, *json;
    long long tile, requests, batch, crops, max_new_tokens, threads, ranks, replicas, seed;
    const char *model, *dummy_weights;
    double rate;
    int device;
    gp_status status;
    gp_scene scene;
    gp_image picture;
    uint8_t *drawn; /* the picture, where none is named */
    gp_output_file report;
    json_t *rows;
} bench;

static bool parse(bench *b, int count, char **arguments, bool *help);
static bool read_picture(bench *b);
static bool measure_offline(bench *b);
static bool measure_latency(bench *b);
static bool write_report(bench *b);

static const char *const examples[] = {
    "Answers a second against how many are worked on together, and what a session saves",
    "geopixel bench offline --model GeoPixel-7B --image scene.tif --requests 32 --batch 16",
    "How long answers take when two a second are asked for",
    "geopixel bench latency --model GeoPixel-7B --image scene.tif --requests 200 --rate 2 --batch 16 --json "
    "latency.json",
    NULL,
};

int gp_command_bench(int count, char **arguments) {
    bench b = {.prompt = PROMPT,
               .tile = 512,
               .requests = 16,
               .batch = 8,
               .crops = 9,
               .ranks = 1,
               .replicas = 1,
               .max_new_tokens = 100,
               .rate = 1};
    bool help = false;
    int code = GP_EXIT_ERROR;
    if (!parse(&b, count, arguments, &help)) {
        fprintf(stderr, "geopixel bench: %s\nTry geopixel bench --help.\n", b.status.message);
        code = GP_EXIT_USAGE;
    } else if (help) {
        code = GP_EXIT_DONE;
    } else if (!gp_served_rank(&(gp_engine_options){.model = b.model,
                                                    .dummy_weights = b.dummy_weights,
                                                    .device = (gp_device)b.device,
                                                    .threads = (int)b.threads,
                                                    .replicas = (int)b.replicas,
                                                    .ranks = (int)b.ranks},
                               &code)) {
        gp_interrupt_watch();
        b.rows = json_array();
        bool done = gp_output_open(&b.report, b.json, &b.status) && read_picture(&b) &&
                    (strcmp(b.mode, "offline") == 0 ? measure_offline(&b) : measure_latency(&b)) &&
                    write_report(&b);
        if (done) {
            code = GP_EXIT_DONE;
        } else if (gp_interrupted()) {
            fprintf(stderr, "geopixel: interrupted\n");
            code = GP_EXIT_INTERRUPTED;
        } else {
            fprintf(stderr, "geopixel: %s\n", b.status.message);
        }
    }
    gp_output_discard(&b.report);
    gp_scene_clear(&b.scene);
    gp_free(b.drawn);
    json_decref(b.rows);
    gp_status_clear(&b.status);
    return code;
}

static bool parse(bench *b, int count, char **arguments, bool *help) {
    const gp_option options[] = {
        {"model", 'm', GP_OPTION_TEXT, "DIR", "the checkpoint: a folder in the Hugging Face layout",
         &b->model, 0, 0},
        {"dummy-weights", 0, GP_OPTION_TEXT, "7b|DIR",
         "random weights, as large as GeoPixel-7B's or as DIR's config.json says; of --model the tokenizer "
         "alone",
         &b->dummy_weights, 0, 0},
        {"image", 0, GP_OPTION_TEXT, "SCENE", "the picture that is asked about (a drawn one)", &b->image, 0,
         0},
        {"tile", 0, GP_OPTION_WHOLE, "SIDE", "of the drawn picture, pixels (512)", &b->tile, 1, 16384},
        {"prompt", 'p', GP_OPTION_TEXT, "TEXT", "the question (the paper's, for a description)", &b->prompt,
         0, 0},
        {"requests", 'n', GP_OPTION_WHOLE, "N", "to ask (16)", &b->requests, 1, 1000000},
        {"batch", 'b', GP_OPTION_WHOLE, "N", "requests that run at the same time, at most (8)", &b->batch, 1,
         GP_REQUESTS_MOST},
        {"rate", 0, GP_OPTION_NUMBER, "R", "latency: requests a second, at random distances (1)", &b->rate,
         1e-6, 1e6},
        {"seed", 0, GP_OPTION_WHOLE, "S", "of those distances (0)", &b->seed, 0, 9e15},
        {"crops", 0, GP_OPTION_WHOLE, "P", "crops that the divider plans for (9)", &b->crops, 1, 10000},
        {"max-new-tokens", 0, GP_OPTION_WHOLE, "N", "an answer's longest (100)", &b->max_new_tokens, 1,
         1 << 20},
        {"threads", 0, GP_OPTION_WHOLE, "N", "CPU threads (all that this process may use)", &b->threads, 1,
         1024},
        {"device", 0, GP_OPTION_CHOICE, "auto|cpu|cuda", "where to compute (auto)", &b->device, 0, 0},
        {"tp", 0, GP_OPTION_WHOLE, "N", "devices that the model is spread over (1)", &b->ranks, 1,
         GP_RANKS_MOST},
        {"dp", 0, GP_OPTION_WHOLE, "N", "copies of the model, on devices of their own (1)", &b->replicas, 1,
         GP_RANKS_MOST},
        {"json", 0, GP_OPTION_TEXT, "FILE.json", "write the figures", &b->json, 0, 0},
    };
    const gp_command command = {"bench",           "how many answers a machine gives, and how long one takes",
                                "offline|latency", examples,
                                options,           sizeof options / sizeof *options};
    if (!gp_arguments_parse(&command, count, arguments, &b->mode, help, &b->status)) return false;
    if (*help) {
        gp_arguments_help(&command);
        return true;
    }
    if (b->mode == NULL || (strcmp(b->mode, "offline") != 0 && strcmp(b->mode, "latency") != 0))
        return gp_fail(&b->status, "%s is no measurement: offline or latency",
                       b->mode != NULL ? b->mode : "nothing");
    return b->model != NULL || gp_fail(&b->status, "--model is missing: the checkpoint's folder");
}

/** The scene, or slopes with noise: what stands in a picture changes nothing but where answers end. */
static bool read_picture(bench *b) {
    const gp_scene_options where = {.path = b->image};
    gp_status note = {0};
    if (b->image != NULL) {
        bool done = gp_scene_read(&where, &b->scene, &note, &b->status);
        gp_status_clear(&note);
        b->picture = (gp_image){b->scene.image.width, b->scene.image.height, 0, b->scene.image.pixels};
        return done;
    }
    const size_t side = (size_t)b->tile;
    uint32_t state = 1;
    b->drawn = gp_allocate(3 * side * side);
    if (b->drawn == NULL)
        return gp_fail(&b->status, "no memory for a picture of %lld x %lld", b->tile, b->tile);
    for (size_t i = 0; i < 3 * side * side; i++) {
        state = state * 1664525u + 1013904223u;
        b->drawn[i] = (uint8_t)(i / 3 % side * 200 / side + (state >> 24) % 50);
    }
    b->picture = (gp_image){(int)b->tile, (int)b->tile, 0, b->drawn};
    return true;
}

static gp_workload workload_of(const bench *b, int together) {
    return (gp_workload){.model = b->model,
                         .dummy_weights = b->dummy_weights,
                         .prompt = b->prompt,
                         .ranks = (int)b->ranks,
                         .replicas = (int)b->replicas,
                         .device = (gp_device)b->device,
                         .threads = (int)b->threads,
                         .together = together,
                         .requests = (int)b->requests,
                         .crops = (int)b->crops,
                         .max_new_tokens = (int)b->max_new_tokens,
                         .seed = (uint64_t)b->seed,
                         .image = b->picture};
}

/* ---- offline ---- */

static bool measure_batch(bench *b, int together, double *first) {
    gp_workload workload = workload_of(b, together);
    gp_workload_result result;
    bool done = gp_workload_run(&workload, &result, &b->status);
    gp_free(result.times);
    if (!done) return false;
    double rate = (double)b->requests / result.seconds;
    if (*first == 0) *first = rate;
    printf("%8d  %10.3f  %10.2f  %10.2f  %8.2f\n", together, rate, (double)result.tokens / result.seconds,
           (double)result.prompt_tokens / result.seconds, rate / *first);
    fflush(stdout);
    json_array_append_new(b->rows,
                          json_pack("{s:i,s:f,s:f,s:f,s:f}", "batch", together, "requests a second", rate,
                                    "tokens a second", (double)result.tokens / result.seconds,
                                    "prompt tokens a second", (double)result.prompt_tokens / result.seconds,
                                    "beside batch 1", rate / *first));
    return true;
}

/** The same questions about one picture, each with its own request and in one session. */
static bool measure_session(bench *b) {
    double seconds[2];
    for (int session = 0; session < 2; session++) {
        gp_workload workload = workload_of(b, 1);
        gp_workload_result result;
        workload.session = session == 1;
        bool done = gp_workload_run(&workload, &result, &b->status);
        gp_free(result.times);
        if (!done) return false;
        seconds[session] = result.seconds;
    }
    printf("\n%lld questions about one picture, one after the other: %.2f s apart, %.2f s in a session, %.2f "
           "times as fast\n",
           b->requests, seconds[0], seconds[1], seconds[0] / seconds[1]);
    json_array_append_new(
        b->rows, json_pack("{s:f,s:f}", "seconds apart", seconds[0], "seconds in a session", seconds[1]));
    return true;
}

static bool measure_offline(bench *b) {
    double first = 0;
    printf("%lld requests, %d x %d pixels\n%8s  %10s  %10s  %10s  %8s\n", b->requests, b->picture.width,
           b->picture.height, "batch", "requests/s", "tokens/s", "prompt/s", "x batch 1");
    for (long long together = 1; together < 2 * b->batch; together *= 2)
        if (!measure_batch(b, (int)(together < b->batch ? together : b->batch), &first)) return false;
    return measure_session(b);
}

/* ---- latency ---- */

static void tell_percentiles(bench *b, const char *name, double *values, size_t count) {
    double p50 = gp_percentile(values, count, 0.5), p90 = gp_percentile(values, count, 0.9),
           p99 = gp_percentile(values, count, 0.99);
    printf("%-22s  %9.3f  %9.3f  %9.3f\n", name, p50, p90, p99);
    json_array_append_new(
        b->rows, json_pack("{s:s,s:f,s:f,s:f}", "seconds", name, "p50", p50, "p90", p90, "p99", p99));
}

static bool measure_latency(bench *b) {
    gp_workload workload = workload_of(b, (int)b->batch);
    gp_workload_result result;
    workload.rate = b->rate;
    bool done = gp_workload_run(&workload, &result, &b->status);
    size_t count = (size_t)b->requests, several = 0;
    double *values = done ? gp_allocate(3 * count * sizeof *values) : NULL;
    if (done && values == NULL) done = gp_fail(&b->status, "no memory for %zu times", count);
    for (size_t i = 0; done && i < count; i++) {
        const gp_request_times *t = &result.times[i];
        values[i] = t->first_token;
        values[count + i] = t->end;
        if (t->tokens > 2) /* the last one ends the answer and shows nothing */
            values[2 * count + several++] = (t->last_token - t->first_token) / (t->tokens - 2);
    }
    if (done) {
        printf("%lld requests, %g a second asked, %.3f a second answered, %lld at the same time at most\n",
               b->requests, b->rate, (double)b->requests / result.seconds, b->batch);
        printf("%-22s  %9s  %9s  %9s\n", "seconds", "p50", "p90", "p99");
        tell_percentiles(b, "to the first token", values, count);
        if (several > 0) tell_percentiles(b, "a token after it", values + 2 * count, several);
        tell_percentiles(b, "to the end", values + count, count);
    }
    gp_free(values);
    gp_free(result.times);
    return done;
}

static bool write_report(bench *b) {
    if (fflush(stdout) != 0) return gp_fail(&b->status, "standard output cannot be written");
    if (b->json == NULL) return true;
    json_t *root =
        json_pack("{s:s,s:s,s:s?,s:I,s:I,s:I,s:i,s:i,s:I,s:O}", "measurement", b->mode, "model", b->model,
                  "dummy weights", b->dummy_weights, "requests", (json_int_t)b->requests, "ranks",
                  (json_int_t)b->ranks, "replicas", (json_int_t)b->replicas, "width", b->picture.width,
                  "height", b->picture.height, "crops", (json_int_t)b->crops, "rows", b->rows);
    bool written = root != NULL && json_dumpf(root, b->report.stream, JSON_INDENT(1)) == 0 &&
                   fputc('\n', b->report.stream) != EOF;
    json_decref(root);
    if (!written) return gp_fail(&b->status, "%s: the figures cannot be written", b->json);
    return gp_output_commit(&b->report, &b->status);
}
