/** The answer's masks as a GeoTIFF in the layout of a cloud-optimised one, exactly where the scene lies. */
#pragma once

#include "kernels/base/status.h"
#include "loaders/geo/georeference.h"
#include "tools/geopixel/answer.h"

#include <stdio.h>

/**
 * Writes to `stream` (a regular file, empty, open for reading and writing) a raster of width x height pixels.
 * With `bands` false labels: 0 nothing (and nodata), k for mask k−1, later masks over earlier ones, u8, or
 * u16 from 256 masks on, with the palette's colours as colour table; with `bands` true one band of one bit a
 * mask (one band of zeros where there is none). Tiled, Deflate, overviews of the nearest pixel down to one
 * tile, the georeference's tags copied, the phrases in GDAL's metadata. `path` stands in messages.
 */
bool gp_mask_raster_write(FILE *stream, const gp_answer *answer, int width, int height,
                          const gp_georeference *georeference, bool bands, const char *path,
                          gp_status *status);
