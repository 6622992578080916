/** The segmentation of a COCO annotation in the two forms that gp_target has. */
#pragma once

#include "kernels/base/status.h"

#include <jansson.h>

/**
 * Run lengths {size, counts} (counts a text or a list of numbers), or a list of rings [[x, y], …] made of
 * COCO's flat polygons [x0, y0, x1, y1, …]; run lengths alone in a list are taken out of it. Owned by the
 * caller; NULL with the status set, which names `path` and `place`.
 */
json_t *gp_coco_mask(const json_t *segmentation, const char *path, const char *place, gp_status *status);
