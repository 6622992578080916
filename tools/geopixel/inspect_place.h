/** Where a raster lies, as inspections tell it: CRS, pixel size, extent, centre. */
#pragma once

#include "loaders/raster/raster.h"

#include <jansson.h>

/** Lines on standard output under a heading of their own. */
void gp_print_place(const gp_raster_info *about);

/** The same as an object; what is not known is null. */
json_t *gp_place_json(const gp_raster_info *about);
