#include "kernels/base/file.h"
#include "kernels/base/memory.h"
#include "loaders/image/image_parts.h"

#include <string.h>

bool gp_image_read(const char *path, gp_rgb_image *image, gp_status *status) {
    static const struct {
        const char *magic;
        size_t length;
        bool (*read)(const unsigned char *, size_t, const char *, gp_rgb_image *, gp_status *);
    } formats[] = {
        {"\x89PNG\r\n\x1A\n", 8, gp_png_read},
        {"\xFF\xD8\xFF", 3, gp_jpeg_read},
    };
    gp_mapping file;
    *image = (gp_rgb_image){0};
    if (!gp_file_map(path, &file, status)) return false;
    bool known = false, done = false;
    for (size_t i = 0; i < sizeof formats / sizeof *formats && !known; i++) {
        known = file.size >= formats[i].length && memcmp(file.data, formats[i].magic, formats[i].length) == 0;
        if (known) done = formats[i].read(file.data, file.size, path, image, status);
    }
    if (!known) gp_fail(status, "%s: not a PNG or JPEG file (%zu bytes)", path, file.size);
    gp_file_unmap(&file);
    if (!done) gp_image_free(image);
    return done;
}

void gp_image_free(gp_rgb_image *image) {
    gp_free(image->pixels);
    *image = (gp_rgb_image){0};
}

bool gp_image_allocate(int64_t width, int64_t height, const char *path, gp_rgb_image *image,
                       gp_status *status) {
    if (width <= 0 || height <= 0)
        return gp_fail(status, "%s: %lld x %lld: it has no pixels", path, (long long)width,
                       (long long)height);
    if (width > GP_IMAGE_PIXELS_MAX / height)
        return gp_fail(status, "%s: %lld x %lld pixels; %lld are the most", path, (long long)width,
                       (long long)height, GP_IMAGE_PIXELS_MAX);
    image->pixels = gp_allocate((size_t)(width * height) * 3);
    if (image->pixels == NULL)
        return gp_fail(status, "%s: no memory for %lld x %lld pixels", path, (long long)width,
                       (long long)height);
    image->width = (int)width;
    image->height = (int)height;
    return true;
}
