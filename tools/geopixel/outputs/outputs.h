/** All files that an answer becomes, written together: every one is complete before the first takes its
 * place. */
#pragma once

#include "kernels/base/status.h"
#include "loaders/geo/georeference.h"
#include "loaders/image/image.h"
#include "tools/geopixel/answer.h"
#include "tools/geopixel/outputs/output_file.h"
#include "tools/geopixel/outputs/report.h"

/** Where to write; NULL: not wanted. */
typedef struct gp_output_options {
    const char *overlay, *json, *masks, *geojson, *gpkg;
    bool mask_bands; /* masks: a band a mask, not labels */
    double simplify; /* polygons may stray this many pixels from the masks' edges */
} gp_output_options;

enum { GP_OUTPUT_COUNT = 5 };

typedef struct gp_outputs {
    gp_output_options options;
    gp_output_file files[GP_OUTPUT_COUNT];
} gp_outputs;

/** What the outputs are made of. */
typedef struct gp_output_source {
    const gp_answer *answer;
    const gp_report_context *context;
    const gp_georeference *georeference;
    const gp_rgb_image *image; /* the overlay draws over a copy */
} gp_output_source;

/** Whether two outputs, or an output and one of the inputs ([count], NULLs are passed over), are the same
 * file: then fails with a text for the user. */
bool gp_outputs_check(const gp_output_options *options, const char *const *inputs, size_t count,
                      gp_status *status);

/** Opens the files under temporary names; fails where one cannot be written. The paths are borrowed. */
bool gp_outputs_open(gp_outputs *outputs, const gp_output_options *options, gp_status *status);

bool gp_outputs_write(gp_outputs *outputs, const gp_output_source *source, gp_status *status);

/** Puts all in their places. */
bool gp_outputs_commit(gp_outputs *outputs, gp_status *status);

/** Removes what was not committed; safe on zeros. */
void gp_outputs_discard(gp_outputs *outputs);
