#include "tools/geopixel/command_inspect.h"

#include "kernels/base/file.h"
#include "loaders/weights/checkpoint.h"
#include "tools/geopixel/arguments.h"
#include "tools/geopixel/exit_codes.h"
#include "tools/geopixel/inspect_checkpoint.h"
#include "tools/geopixel/inspect_raster.h"
#include "tools/geopixel/inspect_weights.h"

#include <stdio.h>
#include <sys/stat.h>

/** What the command line says. */
typedef struct inspect_options {
    const char *path, *model;
    long long crops, max_crops;
    bool json;
} inspect_options;

/** What can be inspected. */
typedef enum kind { CHECKPOINT, WEIGHTS, RASTER } kind;

static bool parse(inspect_options *options, int count, char **arguments, bool *help, gp_status *status);
static bool find_kind(const char *path, kind *found, gp_status *status);
static bool check_usage(const inspect_options *options, kind what, gp_status *status);
static bool report(const inspect_options *options, kind what, gp_status *status);

static const char *const examples[] = {
    "What a checkpoint holds, and whether it would run",
    "geopixel inspect GeoPixel-7B",
    "The tensors of one file",
    "geopixel inspect GeoPixel-7B/pytorch_model-00001-of-00003.bin",
    "What a scene is, its crops and tokens, and the memory that asking about it needs",
    "geopixel inspect scene.tif --crops 4",
    "The same for a checkpoint at hand, for another program",
    "geopixel inspect scene.tif --model GeoPixel-7B --json",
    NULL,
};

int gp_command_inspect(int count, char **arguments) {
    inspect_options options = {0};
    gp_status status = {0};
    bool help = false;
    kind what = RASTER;
    int code = GP_EXIT_DONE;
    if (!parse(&options, count, arguments, &help, &status)) {
        code = GP_EXIT_USAGE;
    } else if (!help) {
        if (!find_kind(options.path, &what, &status))
            code = GP_EXIT_ERROR;
        else if (!check_usage(&options, what, &status))
            code = GP_EXIT_USAGE;
        else if (!report(&options, what, &status))
            code = GP_EXIT_ERROR;
    }
    if (fflush(stdout) != 0 && code == GP_EXIT_DONE) {
        gp_fail(&status, "standard output cannot be written");
        code = GP_EXIT_ERROR;
    }
    if (code == GP_EXIT_USAGE)
        fprintf(stderr, "geopixel inspect: %s\nTry geopixel inspect --help.\n", status.message);
    else if (code != GP_EXIT_DONE)
        fprintf(stderr, "geopixel: %s\n", gp_failed(&status) ? status.message : "failed");
    gp_status_clear(&status);
    return code;
}

static bool parse(inspect_options *o, int count, char **arguments, bool *help, gp_status *status) {
    const gp_option options[] = {
        {"json", 0, GP_OPTION_FLAG, NULL, "one JSON document instead of text", &o->json, 0, 0},
        {"model", 'm', GP_OPTION_TEXT, "DIR", "of a raster: plan for this checkpoint (GeoPixel-7B)",
         &o->model, 0, 0},
        {"crops", 0, GP_OPTION_WHOLE, "P", "of a raster: crops that the divider plans for (9)", &o->crops, 1,
         10000},
        {"max-crops", 0, GP_OPTION_WHOLE, "N", "of a raster: never more crops than this", &o->max_crops, 1,
         10000},
    };
    const gp_command command = {
        "inspect",
        "what a checkpoint, a weight file or a raster holds; exit code 1 where it could "
        "not be used",
        "FILE|DIR",
        examples,
        options,
        sizeof options / sizeof *options};
    if (!gp_arguments_parse(&command, count, arguments, &o->path, help, status)) return false;
    if (*help)
        gp_arguments_help(&command);
    else if (o->path == NULL)
        return gp_fail(status, "no file and no folder was named");
    return true;
}

static bool find_kind(const char *path, kind *found, gp_status *status) {
    struct stat info;
    bool weights = false;
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) {
        *found = CHECKPOINT;
        return true;
    }
    if (!gp_weight_file_recognise(path, &weights, status)) return false;
    *found = weights ? WEIGHTS : RASTER;
    return true;
}

static bool check_usage(const inspect_options *options, kind what, gp_status *status) {
    if (what == RASTER) return true;
    const char *option = options->model != NULL   ? "--model"
                         : options->crops > 0     ? "--crops"
                         : options->max_crops > 0 ? "--max-crops"
                                                  : NULL;
    return option == NULL || gp_fail(status, "%s is for rasters; %s is a %s", option, options->path,
                                     what == CHECKPOINT ? "folder" : "weight file");
}

static bool report(const inspect_options *options, kind what, gp_status *status) {
    switch (what) {
    case CHECKPOINT:
        return gp_inspect_checkpoint(options->path, options->json, status);
    case WEIGHTS:
        return gp_inspect_weights(options->path, options->json, status);
    case RASTER:
        return gp_inspect_raster(
            options->path,
            &(gp_inspect_raster_options){options->model, (int)options->crops, (int)options->max_crops},
            options->json, status);
    }
    return false;
}
