#include "tools/geopixel/outputs/outputs.h"

#include "kernels/base/memory.h"
#include "tools/geopixel/outputs/geojson.h"
#include "tools/geopixel/outputs/geopackage.h"
#include "tools/geopixel/outputs/mask_raster.h"
#include "tools/geopixel/outputs/overlay.h"

#include <string.h>

/* The order in which they are written and take their places. */
enum { OUTPUT_JSON, OUTPUT_GEOJSON, OUTPUT_GEOPACKAGE, OUTPUT_MASKS, OUTPUT_OVERLAY };

static bool write_overlay(const gp_output_source *source, gp_output_file *file, gp_status *status);

/** The paths in that order, and the options that ask for them. */
static void list_paths(const gp_output_options *options, const char *paths[GP_OUTPUT_COUNT],
                       const char *names[GP_OUTPUT_COUNT]) {
    const char *const path_list[GP_OUTPUT_COUNT] = {options->json, options->geojson, options->gpkg,
                                                    options->masks, options->overlay};
    static const char *const name_list[GP_OUTPUT_COUNT] = {"--json", "--geojson", "--gpkg", "--masks",
                                                           "--overlay"};
    memcpy(paths, path_list, sizeof path_list);
    memcpy(names, name_list, sizeof name_list);
}

bool gp_outputs_check(const gp_output_options *options, const char *const *inputs, size_t count,
                      gp_status *status) {
    const char *paths[GP_OUTPUT_COUNT], *names[GP_OUTPUT_COUNT];
    list_paths(options, paths, names);
    if (options->mask_bands && options->masks == NULL)
        return gp_fail(status, "--mask-bands is about --masks, which is missing");
    if (options->simplify > 0 && options->geojson == NULL && options->gpkg == NULL)
        return gp_fail(status, "--simplify is about --geojson and --gpkg, which are missing");
    for (int i = 0; i < GP_OUTPUT_COUNT; i++) {
        for (int k = i + 1; k < GP_OUTPUT_COUNT; k++)
            if (gp_output_same(paths[i], paths[k]))
                return gp_fail(status, "%s and %s are the same file, %s", names[i], names[k], paths[k]);
        for (size_t k = 0; k < count; k++)
            if (gp_output_same(paths[i], inputs[k]))
                return gp_fail(status, "%s is read, so it cannot be written", inputs[k]);
    }
    return true;
}

bool gp_outputs_open(gp_outputs *outputs, const gp_output_options *options, gp_status *status) {
    const char *paths[GP_OUTPUT_COUNT], *names[GP_OUTPUT_COUNT];
    *outputs = (gp_outputs){.options = *options};
    list_paths(options, paths, names);
    bool done = true;
    for (int i = 0; i < GP_OUTPUT_COUNT && done; i++)
        done = gp_output_open(&outputs->files[i], paths[i], status);
    if (!done) gp_outputs_discard(outputs);
    return done;
}

bool gp_outputs_write(gp_outputs *outputs, const gp_output_source *source, gp_status *status) {
    const gp_output_options *options = &outputs->options;
    const gp_answer *answer = source->answer;
    gp_output_file *files = outputs->files;
    return (options->json == NULL ||
            gp_report_json(files[OUTPUT_JSON].stream, answer, source->context, options->json, status)) &&
           (options->geojson == NULL ||
            gp_geojson_write(files[OUTPUT_GEOJSON].stream, answer, source->georeference, options->simplify,
                             options->geojson, status)) &&
           (options->gpkg == NULL ||
            gp_geopackage_write(files[OUTPUT_GEOPACKAGE].temporary, answer, source->georeference,
                                options->simplify, options->gpkg, status)) &&
           (options->masks == NULL ||
            gp_mask_raster_write(files[OUTPUT_MASKS].stream, answer, source->image->width,
                                 source->image->height, source->georeference, options->mask_bands,
                                 options->masks, status)) &&
           (options->overlay == NULL || write_overlay(source, &files[OUTPUT_OVERLAY], status));
}

bool gp_outputs_commit(gp_outputs *outputs, gp_status *status) {
    for (int i = 0; i < GP_OUTPUT_COUNT; i++)
        if (!gp_output_commit(&outputs->files[i], status)) return false;
    return true;
}

void gp_outputs_discard(gp_outputs *outputs) {
    for (int i = 0; i < GP_OUTPUT_COUNT; i++) gp_output_discard(&outputs->files[i]);
}

static bool write_overlay(const gp_output_source *source, gp_output_file *file, gp_status *status) {
    const gp_answer *answer = source->answer;
    const gp_rgb_image *image = source->image;
    size_t bytes = (size_t)image->width * (size_t)image->height * 3;
    uint8_t *pixels = gp_allocate(bytes);
    gp_overlay_mask *masks = gp_allocate_zeroed(answer->mask_count + 1, sizeof *masks);
    bool done = (pixels != NULL && masks != NULL) ||
                gp_fail(status, "%s: no memory for %d x %d pixels and %zu masks", file->path, image->width,
                        image->height, answer->mask_count);
    if (done) memcpy(pixels, image->pixels, bytes);
    for (size_t i = 0; i < answer->mask_count && done; i++) {
        const gp_phrase *phrase = gp_answer_phrase(answer, i);
        masks[i] = (gp_overlay_mask){&answer->masks[i].rle, phrase != NULL ? phrase->text : NULL};
    }
    done = done && gp_overlay_draw(pixels, image->width, image->height, masks, answer->mask_count, status) &&
           gp_overlay_write_png(file->stream, pixels, image->width, image->height, file->path, status);
    gp_free(masks);
    gp_free(pixels);
    return done;
}
