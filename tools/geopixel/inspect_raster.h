/** `geopixel inspect` of a raster: what it is, where it lies, and how the model would see it and at what
 * cost. */
#pragma once

#include "kernels/base/status.h"

/** What the plan is made for. */
typedef struct gp_inspect_raster_options {
    const char *model; /* a checkpoint folder; NULL: GeoPixel-7B */
    int crops, max_crops;
} gp_inspect_raster_options;

/**
 * The report on standard output. Fails where the raster cannot be read, and, with the report printed all the
 * same, where the model could not be asked about it: then `status` has the reason.
 */
bool gp_inspect_raster(const char *path, const gp_inspect_raster_options *options, bool json,
                       gp_status *status);
