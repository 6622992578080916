#include "tools/geopixel/command_run.h"

#include "kernels/base/memory.h"
#include "tools/geopixel/arguments.h"
#include "tools/geopixel/asking.h"
#include "tools/geopixel/exit_codes.h"
#include "tools/geopixel/interrupt.h"
#include "tools/geopixel/outputs/outputs.h"
#include "tools/geopixel/terminal.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/** What the command line says. */
typedef struct run_options {
    gp_asking_options asking;
    gp_output_options outputs;
    const char *prompt, *history;
} run_options;

/** A run under way. */
typedef struct run {
    run_options options;
    gp_status status;
    gp_asking asking;
    gp_outputs outputs;
    gp_scene scene;
    json_t *history_json;
    gp_turn *history;
    size_t history_count;
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
    run r = {.options = {.asking = GP_ASKING_DEFAULTS}};
    r.asking.options = &r.options.asking;
    bool help = false;
    int code = GP_EXIT_ERROR;
    if (!parse(&r, count, arguments, &help) || (!help && !check_usage(&r))) {
        fprintf(stderr, "geopixel run: %s\nTry geopixel run --help.\n", r.status.message);
        code = GP_EXIT_USAGE;
    } else if (help) {
        code = GP_EXIT_DONE;
    } else if (!gp_asking_served(&r.options.asking, &code)) {
        gp_interrupt_watch();
        gp_terminal_open(&r.asking.terminal, r.options.asking.quiet);
        if (read_inputs(&r) && ask(&r) == GP_EVENT_DONE && write_outputs(&r)) code = GP_EXIT_DONE;
        gp_asking_end_text(&r.asking, NULL);
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
        GP_ASKING_MODEL(&o->asking),
        {"prompt", 'p', GP_OPTION_TEXT, "TEXT", "the question; <ImageHere> in it places the image",
         &o->prompt, 0, 0},
        GP_SCENE_OPTIONS(&o->asking.scene),
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
        GP_ASKING_OPTIONS(&o->asking),
    };
    const gp_command command = {"run",   "ask about a picture; text to standard output, masks to files",
                                "SCENE", examples,
                                options, sizeof options / sizeof *options};
    if (!gp_arguments_parse(&command, count, arguments, &o->asking.scene.path, help, &r->status))
        return false;
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
    const char *const inputs[] = {o->asking.scene.path, o->history};
    if (o->asking.scene.path == NULL) return gp_fail(&r->status, "no picture was named");
    if (o->prompt == NULL || o->prompt[0] == '\0') return gp_fail(&r->status, "--prompt is missing or empty");
    if (!is_utf8(o->prompt)) return gp_fail(&r->status, "--prompt is not UTF-8");
    return gp_asking_check(&o->asking, &r->status) && gp_outputs_check(&o->outputs, inputs, 2, &r->status);
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
    return gp_outputs_open(&r->outputs, &r->options.outputs, &r->status) && read_history(r) &&
           gp_asking_read_scene(&r->asking, &r->options.asking.scene, &r->scene, &r->status);
}

/* ---- the question ---- */

static gp_event_type ask(run *r) {
    const char *path = r->options.asking.scene.path;
    const gp_rgb_image *image = &r->scene.image;
    if (r->scene.empty) {
        gp_asking_tell_empty(path);
        return GP_EVENT_DONE;
    }
    if (!gp_asking_open(&r->asking, &r->status)) return GP_EVENT_ERROR;
    gp_request_options request = {.image = {image->width, image->height, 0, image->pixels},
                                  .prompt = r->options.prompt,
                                  .history = r->history,
                                  .history_count = r->history_count};
    gp_status failure = {0};
    gp_event_type end = gp_asking_ask(&r->asking, request, &failure);
    if (end == GP_EVENT_ERROR) gp_fail(&r->status, "%s: %s", path, failure.message);
    gp_status_clear(&failure);
    return end;
}

/* ---- outputs ---- */

/** All files are complete before the first takes its place. */
static bool write_outputs(run *r) {
    const gp_rgb_image *image = &r->scene.image;
    const gp_engine *engine = r->asking.engine;
    gp_report_context context = {.image = r->options.asking.scene.path,
                                 .model = r->options.asking.model,
                                 .device = engine != NULL ? gp_engine_device(engine) : NULL,
                                 .prompt = r->options.prompt,
                                 .width = image->width,
                                 .height = image->height};
    gp_output_source source = {&r->asking.question.answer, &context, &r->scene.georeference, image};
    if (!gp_asking_end_text(&r->asking, &r->status)) return false;
    if (!gp_outputs_write(&r->outputs, &source, &r->status) || gp_interrupted() ||
        !gp_outputs_commit(&r->outputs, &r->status))
        return false;
    if (engine == NULL) return true;
    gp_terminal_summary(&r->asking.terminal);
    if (r->options.asking.verbose) gp_report_numbers(&r->asking.question.answer, &context);
    return true;
}

static void clean_up(run *r) {
    gp_asking_close(&r->asking);
    gp_outputs_discard(&r->outputs);
    gp_scene_clear(&r->scene);
    gp_free(r->history);
    json_decref(r->history_json);
    gp_status_clear(&r->status);
}
