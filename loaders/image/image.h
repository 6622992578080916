/** Pictures in files: PNG and JPEG to RGB of 8 bits. */
#pragma once

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stdint.h>

/** Rows from the top, pixels from the left, R G B a pixel, no gaps: [height, width, 3]. Free with
 * gp_image_free. */
typedef struct gp_rgb_image {
    int width, height;
    uint8_t *pixels;
} gp_rgb_image;

/**
 * Reads a picture, its format told by its first bytes. PNG of any kind (16 bits cut to 8, alpha dropped, grey
 * and palette expanded, as Pillow's convert("RGB") gives them), and baseline and progressive JPEG (grey,
 * YCbCr, RGB, CMYK). Fails naming the file and the numbers: neither of these, truncated, no pixels, more than
 * GP_IMAGE_PIXELS_MAX (checked before memory is asked for).
 */
bool gp_image_read(const char *path, gp_rgb_image *image, gp_status *status);

/** Checks the size against GP_IMAGE_PIXELS_MAX and gives the picture its pixels, uninitialised. */
bool gp_image_allocate(int64_t width, int64_t height, const char *path, gp_rgb_image *image,
                       gp_status *status);

void gp_image_free(gp_rgb_image *image);

/** The most pixels that a picture may have: 16384², four times the largest tile and a bound on memory. */
#define GP_IMAGE_PIXELS_MAX (16384ll * 16384ll)
