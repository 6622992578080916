/** A picture of the answer: the scene with its masks blended in and outlined, and a legend of the phrases. */
#pragma once

#include "kernels/base/status.h"
#include "tools/geopixel/outputs/rle.h"

#include <stdint.h>
#include <stdio.h>

/** One mask and what stands beside its colour in the legend. */
typedef struct gp_overlay_mask {
    const gp_rle *rle;
    const char *label; /* UTF-8; NULL: "mask N" */
} gp_overlay_mask;

/**
 * Draws over pixels [height, width, 3] in place, mask k in colour k of the palette: fills first, then
 * outlines, then the legend in the lower left corner. Fails when memory is out.
 */
bool gp_overlay_draw(uint8_t *pixels, int width, int height, const gp_overlay_mask *masks, size_t count,
                     gp_status *status);

/** Writes pixels [height, width, 3] as PNG. */
bool gp_overlay_write_png(FILE *stream, const uint8_t *pixels, int width, int height, const char *path,
                          gp_status *status);
