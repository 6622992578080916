/** JPEG by libjpeg: baseline and progressive; grey, YCbCr, RGB and CMYK to RGB. */
#include "kernels/base/memory.h"
#include "loaders/image/image_parts.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

/** libjpeg's error manager with ours behind it. */
typedef struct errors {
    struct jpeg_error_mgr base;
    const char *path;
    gp_status *status;
    jmp_buf escape;
} errors;

static void fail_out(j_common_ptr jpeg) {
    errors *own = (errors *)jpeg->err;
    char message[JMSG_LENGTH_MAX];
    own->base.format_message(jpeg, message);
    gp_fail(own->status, "%s: JPEG: %s", own->path, message);
    longjmp(own->escape, 1);
}

/** A file that ends early is only a warning to libjpeg, which then makes up the rest. */
static void on_message(j_common_ptr jpeg, int level) {
    if (level < 0 && (jpeg->err->msg_code == JWRN_JPEG_EOF || jpeg->err->msg_code == JWRN_HIT_MARKER))
        fail_out(jpeg);
}

/** CMYK with the rounding of Pillow's conversion; `inverted` as Adobe writes it. */
static void convert_cmyk(const JSAMPLE *row, int width, bool inverted, uint8_t *target) {
    for (int x = 0; x < width; x++, row += 4, target += 3) {
        int key = inverted ? row[3] : 255 - row[3];
        for (int c = 0; c < 3; c++) {
            int ink = inverted ? 255 - row[c] : row[c], product = ink * key + 128;
            int value = key - ((product + (product >> 8)) >> 8);
            target[c] = (uint8_t)(value < 0 ? 0 : value);
        }
    }
}

/** The part that may jump out; `line` is owned by the caller. */
static bool decode(struct jpeg_decompress_struct *jpeg, const char *path, gp_rgb_image *image, JSAMPLE **line,
                   gp_status *status) {
    jpeg_read_header(jpeg, TRUE);
    if (!gp_image_allocate(jpeg->image_width, jpeg->image_height, path, image, status)) return false;
    bool cmyk = jpeg->num_components == 4;
    jpeg->out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    jpeg->dct_method = JDCT_ISLOW;
    jpeg_start_decompress(jpeg);
    if (cmyk) {
        *line = gp_allocate(4 * (size_t)image->width);
        if (*line == NULL) return gp_fail(status, "%s: no memory for a row of %d pixels", path, image->width);
    }
    while (jpeg->output_scanline < jpeg->output_height) {
        uint8_t *target = image->pixels + (size_t)jpeg->output_scanline * 3 * (size_t)image->width;
        JSAMPROW row = cmyk ? *line : target;
        jpeg_read_scanlines(jpeg, &row, 1);
        if (cmyk) convert_cmyk(row, image->width, jpeg->saw_Adobe_marker, target);
    }
    jpeg_finish_decompress(jpeg);
    return true;
}

bool gp_jpeg_read(const unsigned char *data, size_t size, const char *path, gp_rgb_image *image,
                  gp_status *status) {
    struct jpeg_decompress_struct jpeg;
    errors own = {.path = path, .status = status};
    JSAMPLE *volatile line = NULL;
    volatile bool done = false;
    memset(&jpeg, 0, sizeof jpeg);
    jpeg.err = jpeg_std_error(&own.base);
    own.base.error_exit = fail_out;
    own.base.emit_message = on_message;
    if (setjmp(own.escape) == 0) {
        jpeg_create_decompress(&jpeg);
        jpeg_mem_src(&jpeg, data, (unsigned long)size);
        done = decode(&jpeg, path, image, (JSAMPLE **)&line, status);
    }
    jpeg_destroy_decompress(&jpeg);
    gp_free(line);
    return done;
}
