/** The answer's masks as a layer of a GeoPackage (OGC 12-128r18) in the scene's CRS, which QGIS colours by
 * itself. */
#pragma once

#include "kernels/base/status.h"
#include "loaders/geo/georeference.h"
#include "tools/geopixel/answer.h"

/**
 * Writes to the file at `target` (empty or absent): layer "masks" of MULTIPOLYGON in the scene's CRS, with an
 * R-tree index and columns phrase, mask, span_begin, span_end, score, area_px, area_m2 (NULL where the scene
 * or a corner of the mask has no place on Earth); and a default style in layer_styles with the palette's
 * colour for each phrase. Without a CRS the layer's system is -1 (undefined Cartesian), coordinates are the
 * transform's where there is one, else pixels with y upward negative (−row), so that north is up, and the
 * layer's description says so. `path` stands in messages.
 */
bool gp_geopackage_write(const char *target, const gp_answer *answer, const gp_georeference *georeference,
                         double tolerance, const char *path, gp_status *status);
