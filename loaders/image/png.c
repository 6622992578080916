/** PNG by libpng: palettes and grey expanded, 16 bits cut to 8, alpha dropped, colours as they stand. */
#include "kernels/base/memory.h"
#include "loaders/image/image_parts.h"

#include <png.h>
#include <setjmp.h>
#include <string.h>

/** Where libpng reads and where its errors go. */
typedef struct source {
    const unsigned char *data;
    size_t size, at;
    const char *path;
    gp_status *status;
    jmp_buf escape;
} source;

static void read_bytes(png_structp png, png_bytep target, size_t count) {
    source *in = png_get_io_ptr(png);
    if (count > in->size - in->at) png_error(png, "it is cut off");
    memcpy(target, in->data + in->at, count);
    in->at += count;
}

static void on_error(png_structp png, png_const_charp message) {
    source *in = png_get_error_ptr(png);
    gp_fail(in->status, "%s: PNG, byte %zu of %zu: %s", in->path, in->at, in->size, message);
    longjmp(in->escape, 1);
}

static void on_warning(png_structp png, png_const_charp message) {
    (void)png;
    (void)message;
}

/** The part that may jump out: rows is owned by the caller. */
static bool decode(png_structp png, png_infop info, source *in, gp_rgb_image *image, png_bytep **rows) {
    png_read_info(png, info);
    if (!gp_image_allocate(png_get_image_width(png, info), png_get_image_height(png, info), in->path, image,
                           in->status))
        return false;
    png_set_expand(png);
    png_set_strip_16(png);
    png_set_strip_alpha(png);
    png_set_gray_to_rgb(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
    if (png_get_rowbytes(png, info) != 3 * (size_t)image->width)
        return gp_fail(in->status, "%s: PNG rows of %zu bytes; %d pixels were expected", in->path,
                       png_get_rowbytes(png, info), image->width);
    *rows = gp_allocate((size_t)image->height * sizeof **rows);
    if (*rows == NULL) return gp_fail(in->status, "%s: no memory for %d rows", in->path, image->height);
    for (int y = 0; y < image->height; y++) (*rows)[y] = image->pixels + (size_t)y * 3 * (size_t)image->width;
    png_read_image(png, *rows);
    png_read_end(png, NULL);
    return true;
}

bool gp_png_read(const unsigned char *data, size_t size, const char *path, gp_rgb_image *image,
                 gp_status *status) {
    source in = {.data = data, .size = size, .path = path, .status = status};
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &in, on_error, on_warning);
    png_infop info = png != NULL ? png_create_info_struct(png) : NULL;
    png_bytep *volatile rows = NULL;
    volatile bool done = false;
    if (info == NULL) {
        png_destroy_read_struct(&png, NULL, NULL);
        return gp_fail(status, "%s: no memory for libpng", path);
    }
    png_set_read_fn(png, &in, read_bytes);
    png_set_user_limits(png, 0x7FFFFFFF, 0x7FFFFFFF); /* gp_image_allocate sets the limit, with the numbers */
    if (setjmp(in.escape) == 0) done = decode(png, info, &in, image, (png_bytep **)&rows);
    png_destroy_read_struct(&png, &info, NULL);
    gp_free(rows);
    return done;
}
