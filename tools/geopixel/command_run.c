#include "tools/geopixel/command_run.h"

#include "kernels/base/memory.h"
#include "tools/geopixel/answer.h"
#include "tools/geopixel/arguments.h"
#include "tools/geopixel/exit_codes.h"
#include "tools/geopixel/interrupt.h"
#include "tools/geopixel/outputs/outputs.h"
#include "tools/geopixel/scene.h"
#include "tools/geopixel/terminal.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/** What the command line says. */
typedef struct run_options {
    gp_scene_options scene;
    gp_output_options outputs;
    const char *model, *prompt, *history;
    long long crops, max_crops, max_new_tokens, seed, threads;
    double temperature, top_p;
    int device; /* gp_device */
    bool quiet, verbose;
} run_options;

/** A run under way. */
typedef struct run {
    run_options options;
    gp_status status;
    gp_terminal terminal;
    gp_outputs outputs;
    gp_scene scene;
    json_t *history_json;
    gp_turn *history;
    size_t history_count;
    gp_engine *engine;
    gp_answer answer;
    char *failure; /* of the request */
} run;

static bool parse(run *r, int count, char **arguments, bool *help);
static bool check_usage(run *r);
static bool read_inputs(run *r);
static gp_event_type ask(run *r);
static bool write_outputs(run *r);
static void clean_up(run *r);

static const char *const examples[] = {
    "Describe a scene, phrases in colour",
    "geopixel run scene.tif --model GeoPixel-7B --prompt \"Describe this image in detail.\"",
    "A picture of the answer and everything as JSON",
    "geopixel run scene.png --model GeoPixel-7B --prompt \"Segment the ships.\" --overlay ships.png --json "
    "ships.json",
    "Masks for a GIS, of a part of a 16-bit scene in natural colours",
    "geopixel run scene.tif --model GeoPixel-7B --bands 4,3,2 --window 1024,0,2048,2048 --masks masks.tif "
    "--gpkg "
    "masks.gpkg --geojson masks.geojson --prompt \"Segment the lakes.\"",
    "Go on with a conversation ([[question, answer], ...])",
    "geopixel run scene.tif --model GeoPixel-7B --history turns.json --prompt \"And the road beside it?\"",
    "A quicker look with one crop, or a varied answer that repeats",
    "geopixel run scene.tif --model GeoPixel-7B --crops 1 --temperature 0.7 --top-p 0.9 --seed 1 --prompt "
    "\"What is here?\"",
    NULL,
};

int gp_command_run(int count, char **arguments) {
    run r = {.options = {.crops = 9, .max_new_tokens = 300, .top_p = 1, .device = GP_DEVICE_AUTO}};
    bool help = false;
    int code = GP_EXIT_ERROR;
    if (!parse(&r, count, arguments, &help) || (!help && !check_usage(&r))) {
        fprintf(stderr, "geopixel run: %s\nTry geopixel run --help.\n", r.status.message);
        code = GP_EXIT_USAGE;
    } else if (help) {
        code = GP_EXIT_DONE;
    } else {
        gp_interrupt_watch();
        gp_terminal_open(&r.terminal, r.options.quiet);
        if (read_inputs(&r) && ask(&r) == GP_EVENT_DONE && write_outputs(&r)) code = GP_EXIT_DONE;
        gp_terminal_end_text(&r.terminal);
        gp_terminal_clear(&r.terminal);
        if (code != GP_EXIT_DONE && gp_interrupted()) {
            fprintf(stderr, "geopixel: interrupted\n");
            code = GP_EXIT_INTERRUPTED;
        } else if (code != GP_EXIT_DONE) {
            fprintf(stderr, "geopixel: %s\n", gp_failed(&r.status) ? r.status.message : "failed");
        }
    }
    clean_up(&r);
    return code;
}

/* ---- command line ---- */

static bool parse(run *r, int count, char **arguments, bool *help) {
    run_options *o = &r->options;
    const gp_option options[] = {
        {"model", 'm', GP_OPTION_TEXT, "DIR", "the checkpoint: a folder in the Hugging Face layout",
         &o->model, 0, 0},
        {"prompt", 'p', GP_OPTION_TEXT, "TEXT", "the question; <ImageHere> in it places the image",
         &o->prompt, 0, 0},
        GP_SCENE_OPTIONS(&o->scene),
        {"overlay", 0, GP_OPTION_TEXT, "FILE.png", "write the scene with its masks and a legend",
         &o->outputs.overlay, 0, 0},
        {"masks", 0, GP_OPTION_TEXT, "FILE.tif",
         "write the masks as a raster of labels, where the scene lies", &o->outputs.masks, 0, 0},
        {"mask-bands", 0, GP_OPTION_FLAG, NULL, "--masks has a band of one bit a mask instead",
         &o->outputs.mask_bands, 0, 0},
        {"geojson", 0, GP_OPTION_TEXT, "FILE.geojson", "write the masks' outlines in WGS 84",
         &o->outputs.geojson, 0, 0},
        {"gpkg", 0, GP_OPTION_TEXT, "FILE.gpkg", "write the masks' outlines in the scene's CRS, with a style",
         &o->outputs.gpkg, 0, 0},
        {"simplify", 0, GP_OPTION_NUMBER, "PIXELS", "outlines may stray so far from the masks' edges (0)",
         &o->outputs.simplify, 0, 1000},
        {"json", 0, GP_OPTION_TEXT, "FILE.json", "write text, phrases, masks (COCO run lengths) and timings",
         &o->outputs.json, 0, 0},
        {"history", 0, GP_OPTION_TEXT, "FILE.json", "earlier turns: [[question, answer], ...]", &o->history,
         0, 0},
        {"crops", 0, GP_OPTION_WHOLE, "P", "crops that the divider plans for (9); 1 is quickest", &o->crops,
         1, 10000},
        {"max-crops", 0, GP_OPTION_WHOLE, "N", "never more crops than this, whatever the picture's size",
         &o->max_crops, 1, 10000},
        {"max-new-tokens", 0, GP_OPTION_WHOLE, "N", "the answer's longest (300)", &o->max_new_tokens, 1,
         1 << 20},
        {"temperature", 0, GP_OPTION_NUMBER, "T", "0: always the likeliest token (0)", &o->temperature, 0,
         100},
        {"top-p", 0, GP_OPTION_NUMBER, "P", "draw from the likeliest tokens of this share (1)", &o->top_p,
         0.0001, 1},
        {"seed", 0, GP_OPTION_WHOLE, "S", "the same seed, the same answer (0)", &o->seed, 0, 9e15},
        {"threads", 0, GP_OPTION_WHOLE, "N", "CPU threads (all that this process may use)", &o->threads, 1,
         1024},
        {"device", 0, GP_OPTION_CHOICE, "auto|cpu|cuda", "where to compute (auto)", &o->device, 0, 0},
        {"quiet", 'q', GP_OPTION_FLAG, NULL, "no progress and no warnings", &o->quiet, 0, 0},
        {"verbose", 'v', GP_OPTION_FLAG, NULL, "memory by plan and time a stage, on standard error",
         &o->verbose, 0, 0},
    };
    const gp_command command = {"run",   "ask about a picture; text to standard output, masks to files",
                                "SCENE", examples,
                                options, sizeof options / sizeof *options};
    if (!gp_arguments_parse(&command, count, arguments, &o->scene.path, help, &r->status)) return false;
    if (*help) gp_arguments_help(&command);
    return true;
}

/** Whether the bytes are UTF-8, so far as a terminal's mistake shows: no byte without its place. */
static bool is_utf8(const char *text) {
    json_t *string = json_string(text); /* jansson takes UTF-8 alone */
    json_decref(string);
    return string != NULL;
}

static bool check_usage(run *r) {
    const run_options *o = &r->options;
    if (o->scene.path == NULL) return gp_fail(&r->status, "no picture was named");
    if (o->model == NULL) return gp_fail(&r->status, "--model is missing: the checkpoint's folder");
    if (o->prompt == NULL || o->prompt[0] == '\0') return gp_fail(&r->status, "--prompt is missing or empty");
    if (!is_utf8(o->prompt)) return gp_fail(&r->status, "--prompt is not UTF-8");
    if (o->quiet && o->verbose) return gp_fail(&r->status, "--quiet and --verbose exclude each other");
    return gp_scene_check(&o->scene, &r->status) &&
           gp_outputs_check(&o->outputs, (const char *const[]){o->scene.path, o->history}, 2, &r->status);
}

/* ---- inputs ---- */

/** Turns of [[question, answer], …]; the texts stay in history_json. */
static bool read_history(run *r) {
    const char *path = r->options.history;
    json_error_t error;
    if (path == NULL) return true;
    r->history_json = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    if (r->history_json == NULL) {
        if (error.line > 0) return gp_fail(&r->status, "%s: line %d: %s", path, error.line, error.text);
        return gp_fail(&r->status, "%s: %s", path, error.text);
    }
    if (!json_is_array(r->history_json))
        return gp_fail(&r->status, "%s: not a list of [question, answer]", path);
    r->history_count = json_array_size(r->history_json);
    r->history = gp_allocate_zeroed(r->history_count + 1, sizeof *r->history);
    if (r->history == NULL) return gp_fail(&r->status, "%s: no memory for %zu turns", path, r->history_count);
    for (size_t i = 0; i < r->history_count; i++) {
        const json_t *turn = json_array_get(r->history_json, i);
        const char *question = json_string_value(json_array_get(turn, 0)),
                   *answer = json_string_value(json_array_get(turn, 1));
        if (json_array_size(turn) != 2 || question == NULL || answer == NULL) {
            char *text = json_dumps(turn, JSON_ENCODE_ANY | JSON_COMPACT);
            gp_fail(&r->status, "%s: turn %zu is %.60s; [question, answer], two texts, is expected", path, i,
                    text != NULL ? text : "something else");
            free(text);
            return false;
        }
        r->history[i] = (gp_turn){question, answer};
    }
    return true;
}

/** What can be found wrong before the model is opened, is. */
static bool read_inputs(run *r) {
    gp_status note = {0};
    bool done = gp_outputs_open(&r->outputs, &r->options.outputs, &r->status) && read_history(r) &&
                gp_scene_read(&r->options.scene, &r->scene, &note, &r->status);
    for (const char *line = note.message; done && line != NULL;) {
        const char *end = strchr(line, '\n');
        if (!r->options.quiet)
            fprintf(stderr, "geopixel: note: %.*s\n", (int)(end != NULL ? end - line : (long)strlen(line)),
                    line);
        line = end != NULL ? end + 1 : NULL;
    }
    gp_status_clear(&note);
    return done;
}

/* ---- the question ---- */

static void on_warning(void *user, const char *line) {
    run *r = user;
    if (r->options.quiet) return;
    gp_terminal_clear(&r->terminal);
    fprintf(stderr, "geopixel: warning: %s\n", line);
}

static void on_event(void *user, const gp_event *event) {
    run *r = user;
    if (event->type == GP_EVENT_TEXT)
        gp_terminal_text(&r->terminal, event->text.text, event->text.length);
    else if (event->type == GP_EVENT_PROGRESS)
        gp_terminal_progress(&r->terminal, event->progress.stage, event->progress.done,
                             event->progress.total);
    else if (event->type == GP_EVENT_ERROR)
        r->failure = gp_copy_text(event->error);
    else
        gp_answer_take(&r->answer, event);
}

static gp_event_type ask(run *r) {
    const run_options *o = &r->options;
    if (r->scene.empty) {
        /* Nothing is there to be seen, and what a model says of nothing would be made up. */
        fprintf(stderr, "geopixel: %s: all of its pixels are nodata: no answer, no masks\n", o->scene.path);
        return GP_EVENT_DONE;
    }
    gp_terminal_note(&r->terminal, "loading the model");
    r->engine = gp_engine_open(&(gp_engine_options){.model = o->model,
                                                    .device = (gp_device)o->device,
                                                    .threads = (int)o->threads,
                                                    .on_warning = on_warning,
                                                    .user = r},
                               &r->status);
    if (r->engine == NULL) return GP_EVENT_ERROR;
    gp_request_options request = {
        .image = {r->scene.image.width, r->scene.image.height, 0, r->scene.image.pixels},
        .prompt = o->prompt,
        .history = r->history,
        .history_count = r->history_count,
        .crops = (int)o->crops,
        .max_crops = (int)o->max_crops,
        .max_new_tokens = (int)o->max_new_tokens,
        .sampling = {(float)o->temperature, (float)o->top_p, (uint64_t)o->seed},
        .on_event = on_event,
        .user = r};
    gp_request *running = gp_submit(r->engine, &request, &r->status);
    if (running == NULL) return GP_EVENT_ERROR;
    gp_interrupt_cancels(running);
    gp_event_type end = gp_request_wait(running);
    gp_interrupt_cancels(NULL);
    gp_request_release(running);
    if (end == GP_EVENT_ERROR)
        gp_fail(&r->status, "%s: %s", o->scene.path, r->failure != NULL ? r->failure : "failed");
    if (end == GP_EVENT_DONE && r->answer.out_of_memory) {
        gp_fail(&r->status, "no memory for the answer");
        return GP_EVENT_ERROR;
    }
    return end;
}

/* ---- outputs ---- */

/** All files are complete before the first takes its place. */
static bool write_outputs(run *r) {
    const gp_rgb_image *image = &r->scene.image;
    gp_report_context context = {.image = r->options.scene.path,
                                 .model = r->options.model,
                                 .device = r->engine != NULL ? gp_engine_device(r->engine) : NULL,
                                 .prompt = r->options.prompt,
                                 .width = image->width,
                                 .height = image->height};
    gp_output_source source = {&r->answer, &context, &r->scene.georeference, image};
    gp_terminal_end_text(&r->terminal);
    gp_terminal_clear(&r->terminal);
    if (ferror(stdout) != 0 || fflush(stdout) != 0)
        return gp_fail(&r->status, "standard output cannot be written");
    if (!gp_outputs_write(&r->outputs, &source, &r->status) || gp_interrupted() ||
        !gp_outputs_commit(&r->outputs, &r->status))
        return false;
    if (r->engine == NULL) return true;
    gp_terminal_summary(&r->terminal);
    if (r->options.verbose) gp_report_numbers(&r->answer, &context);
    return true;
}

static void clean_up(run *r) {
    gp_engine_close(r->engine);
    gp_outputs_discard(&r->outputs);
    gp_answer_clear(&r->answer);
    gp_scene_clear(&r->scene);
    gp_free(r->history);
    json_decref(r->history_json);
    gp_free(r->failure);
    gp_status_clear(&r->status);
}
