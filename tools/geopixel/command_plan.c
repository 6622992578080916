#include "tools/geopixel/command_plan.h"

#include "kernels/base/number.h"
#include "runtime/geopixel.h"
#include "tools/geopixel/arguments.h"
#include "tools/geopixel/exit_codes.h"
#include "tools/geopixel/inspect_text.h"

#include <stdio.h>
#include <string.h>

/** A plan under way. */
typedef struct planning {
    const char *model, *gpu;
    long long gpus, tile, crops, max_crops, text_tokens, max_new_tokens, requests, context;
    bool json;
    uint64_t bytes;               /* of the GPU; 0: none was named */
    gp_engine_plan plan, largest; /* for the requests asked, and for the most that fit */
} planning;

static const struct {
    const char *name;
    double gibibytes; /* that CUDA names as the whole, rounded down */
} gpus[] = {{"h200", 139.7},   {"h100", 79.1}, {"a100-80", 79.1},
            {"a100-40", 39.3}, {"l40s", 44.3}, {"rtx4090", 23.5}};

static const struct {
    const char *name, *key;
    size_t offset;
} lines[] = {{"weights", "weights", offsetof(gp_engine_plan, weights)},
             {"converted weights", "converted", offsetof(gp_engine_plan, converted)},
             {"KV cache", "kv_cache", offsetof(gp_engine_plan, kv_cache)},
             {"activations of requests", "requests", offsetof(gp_engine_plan, requests_bytes)},
             {"shared stage", "stage", offsetof(gp_engine_plan, stage)},
             {"workspace", "workspace", offsetof(gp_engine_plan, workspace)},
             {"sums over GPUs", "sums", offsetof(gp_engine_plan, sums)},
             {"others (estimated)", "others", offsetof(gp_engine_plan, others)},
             {"total", "total", offsetof(gp_engine_plan, total)}};
enum { LINES = sizeof lines / sizeof *lines };

static bool parse(planning *p, int count, char **arguments, bool *help, gp_status *status);
static bool make(planning *p, gp_status *status);
static bool report(const planning *p, gp_status *status);

static const char *const examples[] = {
    "How many requests about tiles of 1024 x 1024 an H200 holds at the same time",
    "geopixel plan --model 7b --gpu h200 --tile 1024",
    "Whether 16 requests fit into 44 GiB, for another program",
    "geopixel plan --model GeoPixel-7B --gpu 44 --tile 2048 --crops 4 --requests 16 --json",
    "How many an RTX 4090 holds where two of them share the model",
    "geopixel plan --model 7b --gpu rtx4090 --gpus 2",
    NULL,
};

int gp_command_plan(int count, char **arguments) {
    planning p = {.model = "7b", .gpus = 1, .tile = 1024, .requests = 1};
    gp_status status = {0};
    bool help = false;
    int code = GP_EXIT_DONE;
    if (!parse(&p, count, arguments, &help, &status)) {
        fprintf(stderr, "geopixel plan: %s\nTry geopixel plan --help.\n", status.message);
        code = GP_EXIT_USAGE;
    } else if (!help && (!make(&p, &status) || !report(&p, &status))) {
        fprintf(stderr, "geopixel: %s\n", gp_failed(&status) ? status.message : "failed");
        code = GP_EXIT_ERROR;
    }
    gp_status_clear(&status);
    return code;
}

static bool find_gpu(planning *p, gp_status *status) {
    const char *rest = p->gpu;
    double gibibytes = 0;
    if (p->gpu == NULL) return true;
    for (size_t i = 0; i < sizeof gpus / sizeof *gpus; i++)
        if (strcmp(gpus[i].name, p->gpu) == 0) gibibytes = gpus[i].gibibytes;
    if (gibibytes == 0 &&
        (!gp_parse_number(&rest, &gibibytes) || *rest != '\0' || !(gibibytes >= 1 && gibibytes <= 65536))) {
        gp_fail(status, "--gpu \"%s\": a number of GiB from 1 to 65536 is expected, or one of", p->gpu);
        for (size_t i = 0; i < sizeof gpus / sizeof *gpus; i++) gp_fail_more(status, " %s", gpus[i].name);
        return false;
    }
    p->bytes = (uint64_t)(gibibytes * 0x1p30);
    return true;
}

static bool parse(planning *p, int count, char **arguments, bool *help, gp_status *status) {
    const char *operand = NULL;
    const gp_option options[] = {
        {"model", 'm', GP_OPTION_TEXT, "DIR|7b",
         "a checkpoint, whose weights may be missing; GeoPixel-7B (7b)", &p->model, 0, 0},
        {"gpu", 0, GP_OPTION_TEXT, "GPU|GIB",
         "h200, h100, a100-80, a100-40, l40s, rtx4090, or its memory in GiB", &p->gpu, 0, 0},
        {"gpus", 0, GP_OPTION_WHOLE, "N", "GPUs that the model is spread over (1)", &p->gpus, 1,
         GP_RANKS_MOST},
        {"tile", 0, GP_OPTION_WHOLE, "SIDE", "pictures of up to SIDE x SIDE pixels (1024)", &p->tile, 1,
         16384},
        {"crops", 0, GP_OPTION_WHOLE, "P", "crops that the divider plans for (9)", &p->crops, 1, 10000},
        {"max-crops", 0, GP_OPTION_WHOLE, "N", "never more crops than this", &p->max_crops, 1, 10000},
        {"text-tokens", 0, GP_OPTION_WHOLE, "N", "a prompt's longest, the image aside (64)", &p->text_tokens,
         1, 1 << 20},
        {"max-new-tokens", 0, GP_OPTION_WHOLE, "N", "an answer's longest (300)", &p->max_new_tokens, 1,
         1 << 20},
        {"context", 0, GP_OPTION_WHOLE, "TOKENS",
         "the most of image, text and answer together (what those come to)", &p->context, 3, 1 << 30},
        {"requests", 'n', GP_OPTION_WHOLE, "N", "at the same time (1)", &p->requests, 1, GP_REQUESTS_MOST},
        {"json", 0, GP_OPTION_FLAG, NULL, "one JSON document instead of text", &p->json, 0, 0},
    };
    const gp_command command = {
        "plan",  "the memory that requests need on a GPU; exit code 1 where they do not fit",
        NULL,    examples,
        options, sizeof options / sizeof *options};
    if (!gp_arguments_parse(&command, count, arguments, &operand, help, status)) return false;
    if (*help) {
        gp_arguments_help(&command);
        return true;
    }
    return find_gpu(p, status);
}

static bool make(planning *p, gp_status *status) {
    gp_engine_options options = {.model = strcmp(p->model, "7b") == 0 ? NULL : p->model,
                                 .device = GP_DEVICE_CUDA,
                                 .ranks = (int)p->gpus,
                                 .requests = (int)p->requests,
                                 .limits = {.width = (int)p->tile,
                                            .height = (int)p->tile,
                                            .crops = (int)p->crops,
                                            .max_crops = (int)p->max_crops,
                                            .text_tokens = (int)p->text_tokens,
                                            .max_new_tokens = (int)p->max_new_tokens,
                                            .context = (int)p->context}};
    if (!gp_plan_engine(&options, p->bytes, &p->plan, status)) return false;
    options.requests = p->plan.requests_most;
    return options.requests == 0 || gp_plan_engine(&options, p->bytes, &p->largest, status);
}

static uint64_t line_of(const gp_engine_plan *plan, int line) {
    return *(const uint64_t *)((const char *)plan + lines[line].offset);
}

static gp_short_text requests_text(int requests) {
    gp_short_text text;
    snprintf(text.text, sizeof text.text, "%d request%s", requests, requests == 1 ? "" : "s");
    return text;
}

static void print_report(const planning *p) {
    const gp_engine_plan *plan = &p->plan;
    const gp_limits *limits = &plan->limits;
    const bool two = plan->requests_most > 0 && plan->requests_most != plan->requests;
    gp_print_text(strcmp(p->model, "7b") == 0 ? "GeoPixel-7B" : p->model);
    if (plan->ranks > 1)
        printf(" on each of %d GPUs", plan->ranks);
    else
        printf(" on a GPU");
    printf(": pictures of up to %d x %d pixels, %d crops, %s image tokens;\n%s tokens of text, %s of "
           "an answer, a context of %s\n\n%-24s %14s",
           limits->width, limits->height, plan->crops, gp_short_whole((uint64_t)plan->image_tokens).text,
           gp_short_whole((uint64_t)limits->text_tokens).text,
           gp_short_whole((uint64_t)limits->max_new_tokens).text,
           gp_short_whole((uint64_t)limits->context).text, "", requests_text(plan->requests).text);
    if (two) printf(" %14s", requests_text(plan->requests_most).text);
    putchar('\n');
    for (int i = 0; i < LINES; i++) {
        printf("%-24s %14s", lines[i].name, gp_short_bytes(line_of(plan, i)).text);
        if (two) printf(" %14s", gp_short_bytes(line_of(&p->largest, i)).text);
        putchar('\n');
    }
    if (p->bytes == 0) return;
    putchar('\n');
    gp_print_text(p->gpu);
    printf(", %s: the largest batch that fits is %d%s\n", gp_short_bytes(p->bytes).text, plan->requests_most,
           plan->requests_most == GP_REQUESTS_MOST ? ", the most that an engine takes" : "");
}

static json_t *lines_json(const gp_engine_plan *plan) {
    json_t *object = json_object();
    for (int i = 0; i < LINES; i++)
        json_object_set_new(object, lines[i].key, json_integer((json_int_t)line_of(plan, i)));
    return object;
}

static json_t *report_json(const planning *p) {
    const gp_engine_plan *plan = &p->plan;
    const gp_limits *limits = &plan->limits;
    json_t *gpu = p->bytes > 0
                      ? json_pack("{s:o,s:I}", "name", gp_json_text(p->gpu), "bytes", (json_int_t)p->bytes)
                      : json_null();
    json_t *largest = p->bytes > 0
                          ? json_pack("{s:i,s:o}", "requests", plan->requests_most, "memory",
                                      plan->requests_most > 0 ? lines_json(&p->largest) : json_null())
                          : json_null();
    return json_pack("{s:o,s:s,s:o,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:I,s:o,s:[s],s:o}", "model",
                     gp_json_text(strcmp(p->model, "7b") == 0 ? "GeoPixel-7B" : p->model), "device",
                     plan->device, "gpu", gpu, "gpus", plan->ranks, "width", limits->width, "height",
                     limits->height, "crops", plan->crops, "image_tokens", plan->image_tokens, "text_tokens",
                     limits->text_tokens, "max_new_tokens", limits->max_new_tokens, "context",
                     limits->context, "requests", plan->requests, "cache_tokens",
                     (json_int_t)plan->cache_tokens, "memory", lines_json(plan), "estimated", "others",
                     "largest", largest);
}

static bool report(const planning *p, gp_status *status) {
    if (p->json ? !gp_json_print(report_json(p)) : (print_report(p), fflush(stdout) != 0))
        return gp_fail(status, "standard output cannot be written");
    if (p->bytes == 0 || p->plan.total <= p->bytes) return true;
    return gp_fail(status, "%s at the same time take %s; the GPU has %s",
                   requests_text(p->plan.requests).text, gp_short_bytes(p->plan.total).text,
                   gp_short_bytes(p->bytes).text);
}
