/** What a TIFF directory says beside its pixels: where it lies, nodata, and the colours that GDAL noted. */
#pragma once

#include "loaders/raster/raster.h"
#include "loaders/raster/tiff_file.h"

/** The tags that place the picture, as they stand; `rational` says whether RPCs are among them. Fails naming
 * a tag of another type or length than it must have. Free with gp_geo_tags_clear, whatever happens. */
bool gp_tiff_read_geo_tags(gp_tiff_file *file, gp_geo_tags *tags, bool *rational, gp_status *status);

/** Nodata and roles that GDAL's own tags give the bands [count]; what they do not say stays as it is. */
bool gp_tiff_read_gdal_tags(gp_tiff_file *file, gp_band *bands, int count, gp_status *status);
