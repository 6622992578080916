/** Polygons to masks, pixel for pixel as COCO's annotations are read (pycocotools' frPyObjects and merge). */
#pragma once

#include "tools/geopixel/outputs/rle.h"

#include <jansson.h>

/** The union of rings [[x, y], …], in pixels of the picture with (0, 0) at its corner; a ring of less than
 * three points encloses nothing. Fails where something else stands there. Free the mask with gp_rle_free. */
bool gp_polygon_mask(const json_t *rings, int width, int height, gp_rle *mask, gp_status *status);
