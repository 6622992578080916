/** PNG and JPEG as rasters of three bands of 8 bits. They are decoded whole: their codecs know no windows,
 * and GP_IMAGE_PIXELS_MAX bounds them. */
#include "kernels/base/memory.h"
#include "loaders/image/image.h"
#include "loaders/raster/raster_parts.h"

static bool read_samples(void *source, int level, gp_window window, const int *bands, int count,
                         void *samples, gp_status *status) {
    (void)level, (void)status;
    const gp_rgb_image *image = source;
    uint8_t *target = samples;
    for (int y = 0; y < window.height; y++) {
        const uint8_t *row =
            image->pixels + ((size_t)(window.y + y) * (size_t)image->width + (size_t)window.x) * 3;
        for (int x = 0; x < window.width; x++, row += 3)
            for (int i = 0; i < count; i++) *target++ = row[bands[i] - 1];
    }
    return true;
}

static void close_source(void *source) {
    gp_image_free(source);
    gp_free(source);
}

static const gp_raster_methods picture_methods = {.read = read_samples, .close = close_source};

bool gp_picture_raster_open(const char *path, const char *format, const char *codec, gp_raster *raster,
                            gp_status *status) {
    gp_raster_info *info = &raster->info;
    gp_rgb_image *image = gp_allocate_zeroed(1, sizeof *image);
    if (image == NULL) return gp_fail(status, "%s: no memory", path);
    raster->source = image;
    raster->methods = &picture_methods;
    if (!gp_image_read(path, image, status) || !gp_raster_allocate_bands(raster, 3, status) ||
        !gp_raster_allocate_levels(raster, 1, status))
        return false;
    info->format = format;
    info->codec = codec;
    info->width = image->width;
    info->height = image->height;
    info->type = GP_SAMPLE_U8;
    info->bits = 8;
    info->levels[0] = (gp_raster_level){image->width, image->height, image->width, image->height};
    for (int i = 0; i < 3; i++) info->bands[i].role = (gp_band_role)(GP_BAND_RED + i);
    return true;
}
