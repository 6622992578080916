/** The answer's masks as a GeoJSON FeatureCollection (RFC 7946). */
#pragma once

#include "kernels/base/status.h"
#include "loaders/geo/georeference.h"
#include "tools/geopixel/answer.h"

#include <stdio.h>

/**
 * Writes a feature a mask: MultiPolygon (geometry null where the mask is empty), properties "phrase" (null:
 * none), "mask" (its index), "span" ([begin, end] in characters of the answer; null), "score", "area_px",
 * "area_m2" (geodesic; null where the scene has no place). Where gp_georeference_is_placed is false,
 * coordinates are pixels, x to the right and y downward, and the collection's member "coordinates_are" is
 * "pixels", else "WGS 84". `path` stands in messages.
 */
bool gp_geojson_write(FILE *stream, const gp_answer *answer, const gp_georeference *georeference,
                      double tolerance, const char *path, gp_status *status);
