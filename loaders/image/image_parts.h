/** One reader a format, over a file in memory; `path` stands in messages. */
#pragma once

#include "loaders/image/image.h"

#include <stddef.h>

bool gp_png_read(const unsigned char *data, size_t size, const char *path, gp_rgb_image *image,
                 gp_status *status);
bool gp_jpeg_read(const unsigned char *data, size_t size, const char *path, gp_rgb_image *image,
                  gp_status *status);
