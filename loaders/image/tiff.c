/**
 * TIFF of 8 bits by libtiff, whole: strips or tiles, samples together or in planes; RGB, grey, palette, and
 * JPEG's YCbCr. Samples beyond the colours (alpha) are dropped.
 */
#include "kernels/base/memory.h"
#include "loaders/image/image_parts.h"

#include <stdio.h>
#include <string.h>
#include <tiffio.h>

/** A file in memory, as libtiff reads it. */
typedef struct tiff_file {
    const unsigned char *data;
    size_t size, at;
    const char *path;
    gp_status *status;
} tiff_file;

/** What the directory says. */
typedef struct tiff_layout {
    uint32_t width, height;
    uint32_t block_width, block_height; /* a tile's, or a strip's */
    uint16_t samples, photometric;
    bool tiled, planar; /* planar: each sample in blocks of its own */
    uint16_t *palette[3];
} tiff_layout;

static bool read_layout(TIFF *tiff, const tiff_file *in, tiff_layout *out);
static bool check_blocks(TIFF *tiff, const tiff_file *in);
static bool read_blocks(TIFF *tiff, const tiff_file *in, const tiff_layout *layout, gp_rgb_image *image);
static void place_block(const tiff_layout *layout, const uint8_t *block, uint32_t left, uint32_t top,
                        int sample, gp_rgb_image *image);

/* ---- a file in memory ---- */

static tmsize_t read_bytes(thandle_t handle, void *target, tmsize_t count) {
    tiff_file *in = handle;
    size_t left = in->at < in->size ? in->size - in->at : 0,
           taken = (size_t)count < left ? (size_t)count : left;
    memcpy(target, in->data + in->at, taken);
    in->at += taken;
    return (tmsize_t)taken;
}

static tmsize_t write_bytes(thandle_t handle, void *bytes, tmsize_t count) {
    (void)handle;
    (void)bytes;
    (void)count;
    return 0;
}

static toff_t seek(thandle_t handle, toff_t offset, int whence) {
    tiff_file *in = handle;
    in->at = (size_t)offset + (whence == SEEK_CUR ? in->at : whence == SEEK_END ? in->size : 0);
    return in->at;
}

static int close_file(thandle_t handle) {
    (void)handle;
    return 0;
}

static toff_t file_size(thandle_t handle) {
    return ((tiff_file *)handle)->size;
}

static int map_file(thandle_t handle, void **base, toff_t *size) {
    tiff_file *in = handle;
    *base = (void *)in->data;
    *size = in->size;
    return 1;
}

static void unmap_file(thandle_t handle, void *base, toff_t size) {
    (void)handle;
    (void)base;
    (void)size;
}

/** The first error is the one that tells. */
static int on_error(TIFF *tiff, void *user, const char *module, const char *format, va_list arguments) {
    (void)tiff;
    (void)module;
    tiff_file *in = user;
    char message[512];
    vsnprintf(message, sizeof message, format, arguments);
    if (!gp_failed(in->status)) gp_fail(in->status, "%s: TIFF: %s", in->path, message);
    return 1;
}

static int on_warning(TIFF *tiff, void *user, const char *module, const char *format, va_list arguments) {
    (void)tiff;
    (void)user;
    (void)module;
    (void)format;
    (void)arguments;
    return 1;
}

bool gp_tiff_read(const unsigned char *data, size_t size, const char *path, gp_rgb_image *image,
                  gp_status *status) {
    gp_status unheard = {0}; /* libtiff's message needs a place even where the caller wants none */
    tiff_file in = {.data = data, .size = size, .path = path, .status = status != NULL ? status : &unheard};
    TIFFOpenOptions *options = TIFFOpenOptionsAlloc();
    if (options == NULL) return gp_fail(status, "%s: no memory for libtiff", path);
    TIFFOpenOptionsSetErrorHandlerExtR(options, on_error, &in);
    TIFFOpenOptionsSetWarningHandlerExtR(options, on_warning, &in);
    TIFF *tiff = TIFFClientOpenExt(path, "r", &in, read_bytes, write_bytes, seek, close_file, file_size,
                                   map_file, unmap_file, options);
    TIFFOpenOptionsFree(options);
    tiff_layout layout = {0};
    bool done = tiff != NULL && read_layout(tiff, &in, &layout) && check_blocks(tiff, &in) &&
                gp_image_allocate(layout.width, layout.height, path, image, in.status);
    if (done) {
        gp_status_clear(in.status); /* what libtiff says of tags that nobody needs is no error */
        /* What it complains of while it decodes may come out all the same, with pixels made up: no picture
         * then either. */
        done = read_blocks(tiff, &in, &layout, image) && !gp_failed(in.status);
    }
    if (!done && !gp_failed(in.status)) gp_fail(in.status, "%s: not a TIFF that can be read", path);
    if (tiff != NULL) TIFFClose(tiff);
    gp_status_clear(&unheard);
    return done;
}

/* ---- directory ---- */

static bool read_layout(TIFF *tiff, const tiff_file *in, tiff_layout *out) {
    uint16_t bits = 0, planar = 0, compression = 0, format = 0;
    TIFFGetFieldDefaulted(tiff, TIFFTAG_IMAGEWIDTH, &out->width);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_IMAGELENGTH, &out->height);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_BITSPERSAMPLE, &bits);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_SAMPLESPERPIXEL, &out->samples);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_SAMPLEFORMAT, &format);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_PLANARCONFIG, &planar);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_COMPRESSION, &compression);
    if (!TIFFGetField(tiff, TIFFTAG_PHOTOMETRIC, &out->photometric))
        return gp_fail(in->status, "%s: TIFF without a photometric interpretation", in->path);
    if (out->width == 0 || out->height == 0 || out->width > GP_IMAGE_PIXELS_MAX / out->height)
        return gp_fail(in->status, "%s: %u x %u pixels; 1 to %lld are possible", in->path, out->width,
                       out->height, GP_IMAGE_PIXELS_MAX);
    if (bits != 8 || format != SAMPLEFORMAT_UINT)
        return gp_fail(in->status, "%s: TIFF of %d-bit samples, format %d; 8-bit unsigned ones are read",
                       in->path, bits, format);
    if (!TIFFIsCODECConfigured(compression))
        return gp_fail(in->status, "%s: TIFF compressed by codec %d, which this libtiff lacks", in->path,
                       compression);
    if (compression == COMPRESSION_JPEG && out->photometric == PHOTOMETRIC_YCBCR) {
        TIFFSetField(tiff, TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
        out->photometric = PHOTOMETRIC_RGB;
    }
    int colours = out->photometric == PHOTOMETRIC_RGB ? 3 : 1;
    if (out->photometric != PHOTOMETRIC_RGB && out->photometric != PHOTOMETRIC_MINISBLACK &&
        out->photometric != PHOTOMETRIC_MINISWHITE && out->photometric != PHOTOMETRIC_PALETTE)
        return gp_fail(
            in->status,
            "%s: TIFF with photometric interpretation %d; RGB, grey, palette and JPEG's YCbCr are read",
            in->path, out->photometric);
    if (out->samples < colours)
        return gp_fail(in->status, "%s: TIFF with %d samples a pixel; %d are needed", in->path, out->samples,
                       colours);
    if (out->photometric == PHOTOMETRIC_PALETTE &&
        !TIFFGetField(tiff, TIFFTAG_COLORMAP, &out->palette[0], &out->palette[1], &out->palette[2]))
        return gp_fail(in->status, "%s: palette TIFF without a palette", in->path);
    out->planar = planar == PLANARCONFIG_SEPARATE;
    out->tiled = TIFFIsTiled(tiff);
    out->block_width = out->width;
    if (out->tiled) {
        TIFFGetField(tiff, TIFFTAG_TILEWIDTH, &out->block_width);
        TIFFGetField(tiff, TIFFTAG_TILELENGTH, &out->block_height);
    } else {
        TIFFGetFieldDefaulted(tiff, TIFFTAG_ROWSPERSTRIP, &out->block_height);
        if (out->block_height > out->height) out->block_height = out->height;
    }
    return (out->block_width > 0 && out->block_height > 0) ||
           gp_fail(in->status, "%s: TIFF with blocks of %u x %u", in->path, out->block_width,
                   out->block_height);
}

/** Every strip or tile must be in the file, before memory is asked for. */
static bool check_blocks(TIFF *tiff, const tiff_file *in) {
    uint32_t count = TIFFIsTiled(tiff) ? TIFFNumberOfTiles(tiff) : TIFFNumberOfStrips(tiff);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t offset = TIFFGetStrileOffset(tiff, i), bytes = TIFFGetStrileByteCount(tiff, i);
        if (offset == 0 || bytes == 0 || offset > in->size || bytes > in->size - offset)
            return gp_fail(
                in->status, "%s: TIFF block %u of %u, %llu bytes at %llu, is not in the file of %zu bytes",
                in->path, i, count, (unsigned long long)bytes, (unsigned long long)offset, in->size);
    }
    return true;
}

/* ---- pixels ---- */

static bool read_blocks(TIFF *tiff, const tiff_file *in, const tiff_layout *layout, gp_rgb_image *image) {
    tmsize_t bytes = layout->tiled ? TIFFTileSize(tiff) : TIFFStripSize(tiff);
    uint64_t least =
        (uint64_t)layout->block_width * layout->block_height * (layout->planar ? 1 : layout->samples);
    if (bytes <= 0 || (uint64_t)bytes < least || (uint64_t)bytes > 4ull * GP_IMAGE_PIXELS_MAX)
        return gp_fail(in->status, "%s: TIFF blocks of %lld bytes; %llu are needed", in->path,
                       (long long)bytes, (unsigned long long)least);
    uint8_t *block = gp_allocate_zeroed((size_t)bytes, 1);
    if (block == NULL)
        return gp_fail(in->status, "%s: no memory for a block of %lld bytes", in->path, (long long)bytes);
    int colours = layout->photometric == PHOTOMETRIC_RGB ? 3 : 1, planes = layout->planar ? colours : 1;
    bool done = true;
    for (int plane = 0; plane < planes && done; plane++) {
        for (uint32_t top = 0; top < layout->height && done; top += layout->block_height) {
            for (uint32_t left = 0; left < layout->width && done; left += layout->block_width) {
                tmsize_t got =
                    layout->tiled
                        ? TIFFReadEncodedTile(tiff, TIFFComputeTile(tiff, left, top, 0, (uint16_t)plane),
                                              block, bytes)
                        : TIFFReadEncodedStrip(tiff, TIFFComputeStrip(tiff, top, (uint16_t)plane), block,
                                               bytes);
                done = got >= 0;
                if (done) place_block(layout, block, left, top, layout->planar ? plane : -1, image);
            }
            if (top > UINT32_MAX - layout->block_height) break;
        }
    }
    gp_free(block);
    if (!done && !gp_failed(in->status)) gp_fail(in->status, "%s: TIFF: a block cannot be decoded", in->path);
    return done;
}

/** A block's pixels to the picture; `sample` is the plane, or −1 where samples stand together. */
static void place_block(const tiff_layout *layout, const uint8_t *block, uint32_t left, uint32_t top,
                        int sample, gp_rgb_image *image) {
    uint32_t columns =
        layout->width - left < layout->block_width ? layout->width - left : layout->block_width;
    uint32_t rows = layout->height - top < layout->block_height ? layout->height - top : layout->block_height;
    size_t step = sample >= 0 ? 1 : layout->samples;
    for (uint32_t y = 0; y < rows; y++) {
        const uint8_t *source = block + (size_t)y * layout->block_width * step;
        uint8_t *target = image->pixels + ((size_t)(top + y) * layout->width + left) * 3;
        for (uint32_t x = 0; x < columns; x++, source += step, target += 3) {
            for (int c = 0; c < 3; c++) {
                switch (layout->photometric) {
                case PHOTOMETRIC_RGB:
                    if (sample < 0)
                        target[c] = source[c];
                    else if (sample == c)
                        target[c] = source[0];
                    break;
                case PHOTOMETRIC_PALETTE:
                    target[c] = (uint8_t)(layout->palette[c][source[0]] >> 8);
                    break;
                case PHOTOMETRIC_MINISWHITE:
                    target[c] = (uint8_t)(255 - source[0]);
                    break;
                default:
                    target[c] = source[0];
                }
            }
        }
    }
}
