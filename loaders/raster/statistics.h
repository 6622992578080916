/** Percentiles and extremes of a scene's bands, from an overview or a coarse grid of blocks. */
#pragma once

#include "loaders/raster/rgb_view.h"

/**
 * low[i] and high[i] of bands[i]: its percentiles `low_percent` and `high_percent` (0 … 100). Where no sample
 * counts both are 0. Fails as gp_raster_read does.
 */
bool gp_raster_percentiles(gp_raster *raster, const int *bands, int count, double low_percent,
                           double high_percent, double *low, double *high, gp_status *status);
