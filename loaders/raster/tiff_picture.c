/**
 * Tiles are decoded one by one, those alone that the window meets. Strips are decoded row by row from their
 * first on, because their codecs know no other way, and the rows above the window are passed over; so a
 * window costs memory for itself and one row, or one tile. A strip that is not compressed is read in place.
 */
#include "loaders/raster/tiff_picture.h"

#include "kernels/base/dtype.h"
#include "kernels/base/memory.h"

#include <math.h>
#include <string.h>

enum { NO_STRIP = UINT32_MAX };
static const uint64_t BLOCK_BYTES_MAX = 2ull << 30; /* a decoded tile */

/** One call of gp_tiff_picture_read. */
typedef struct reading {
    gp_tiff_picture *picture;
    gp_window window;
    const int *bands;
    int count;
    const gp_band *about;
    uint8_t *samples;
    gp_status *status;
} reading;

/* What block_state found. */
typedef enum block_presence { BLOCK_THERE, BLOCK_SPARSE, BLOCK_LOST } block_presence;

static bool sample_kind(gp_tiff_picture *picture, uint16_t format, const char *path, gp_status *status);
static bool open_picture(gp_tiff_picture *picture, const gp_tiff_file *origin, gp_status *status);
static bool read_tiles(const reading *r, int first, int count);
static bool read_strips(const reading *r, int first, int count);

/* ---- directory ---- */

const char *gp_tiff_codec_name(uint16_t compression) {
    static const struct {
        uint16_t compression;
        const char *name;
    } names[] = {
        {COMPRESSION_NONE, "none"},
        {COMPRESSION_CCITTRLE, "CCITT RLE"},
        {COMPRESSION_CCITTFAX3, "CCITT Group 3"},
        {COMPRESSION_CCITTFAX4, "CCITT Group 4"},
        {COMPRESSION_LZW, "LZW"},
        {COMPRESSION_OJPEG, "old-style JPEG"},
        {COMPRESSION_JPEG, "JPEG"},
        {COMPRESSION_ADOBE_DEFLATE, "Deflate"},
        {COMPRESSION_DEFLATE, "Deflate"},
        {COMPRESSION_PACKBITS, "PackBits"},
        {COMPRESSION_JBIG, "JBIG"},
        {COMPRESSION_LERC, "LERC"},
        {COMPRESSION_LZMA, "LZMA"},
        {COMPRESSION_ZSTD, "ZSTD"},
        {COMPRESSION_WEBP, "WebP"},
        {33003, "JPEG 2000 (Aperio)"},
        {33005, "JPEG 2000 (Aperio)"},
        {34712, "JPEG 2000"},
        {COMPRESSION_JXL, "JPEG XL"},
        {52546, "JPEG XL (DNG)"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].compression == compression) return names[i].name;
    return NULL;
}

/** Bytes of a row of a block as it is decoded; samples that are no whole bytes are packed. */
static uint64_t row_bytes(const gp_tiff_picture *picture) {
    uint64_t samples = (uint64_t)picture->block_width * (picture->planar ? 1 : picture->samples);
    return (samples * picture->bits + 7) / 8;
}

bool gp_tiff_picture_describe(gp_tiff_file *file, gp_tiff_picture *picture, gp_status *status) {
    TIFF *tiff = file->tiff;
    uint16_t planar = 0, format = SAMPLEFORMAT_UINT;
    *picture = (gp_tiff_picture){.offset = TIFFCurrentDirOffset(tiff), .strip = NO_STRIP};
    TIFFGetFieldDefaulted(tiff, TIFFTAG_IMAGEWIDTH, &picture->width);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_IMAGELENGTH, &picture->height);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_BITSPERSAMPLE, &picture->bits);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_SAMPLESPERPIXEL, &picture->samples);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_SAMPLEFORMAT, &format);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_PLANARCONFIG, &planar);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_COMPRESSION, &picture->compression);
    if (!TIFFGetField(tiff, TIFFTAG_PHOTOMETRIC, &picture->photometric))
        picture->photometric = PHOTOMETRIC_MINISBLACK; /* as GDAL takes it */
    if (picture->width == 0 || picture->height == 0 || picture->width > INT32_MAX ||
        picture->height > INT32_MAX || picture->samples == 0)
        return gp_fail(status, "%s: TIFF of %u x %u pixels and %d bands", file->path, picture->width,
                       picture->height, picture->samples);
    if (!TIFFIsCODECConfigured(picture->compression)) {
        const char *name = gp_tiff_codec_name(picture->compression);
        return gp_fail(status,
                       "%s: compressed by %s (codec %d), which this libtiff lacks; a GDAL that has it helps: "
                       "gdal_translate -co COMPRESS=DEFLATE -co TILED=YES \"%s\" out.tif",
                       file->path, name != NULL ? name : "an unknown codec", picture->compression,
                       file->path);
    }
    picture->planar = planar == PLANARCONFIG_SEPARATE && picture->samples > 1;
    uint16_t colours = picture->photometric;
    bool is_jpeg = picture->compression == COMPRESSION_JPEG && !picture->planar;
    picture->as_rgba = (colours == PHOTOMETRIC_YCBCR && !is_jpeg) ||
                       picture->compression == COMPRESSION_OJPEG || colours == PHOTOMETRIC_CIELAB ||
                       colours == PHOTOMETRIC_LOGL || colours == PHOTOMETRIC_LOGLUV;
    if (picture->as_rgba) {
        char reason[1024] = "";
        if (!TIFFRGBAImageOK(tiff, reason))
            return gp_fail(status, "%s: TIFF whose colours libtiff cannot turn into RGB: %s", file->path,
                           reason);
        picture->samples = 4;
        picture->bits = 8;
        picture->planar = false;
        picture->photometric = PHOTOMETRIC_RGB;
        format = SAMPLEFORMAT_UINT;
    } else if (colours == PHOTOMETRIC_YCBCR) {
        picture->photometric = PHOTOMETRIC_RGB; /* open_picture asks the JPEG decoder for RGB */
    }
    if (!sample_kind(picture, format, file->path, status)) return false;
    picture->tiled = TIFFIsTiled(tiff);
    picture->block_width = picture->width;
    if (picture->tiled) {
        TIFFGetField(tiff, TIFFTAG_TILEWIDTH, &picture->block_width);
        TIFFGetField(tiff, TIFFTAG_TILELENGTH, &picture->block_height);
    } else {
        TIFFGetFieldDefaulted(tiff, TIFFTAG_ROWSPERSTRIP, &picture->block_height);
        if (picture->block_height > picture->height) picture->block_height = picture->height;
    }
    if (picture->block_width == 0 || picture->block_height == 0 || picture->block_width > INT32_MAX ||
        picture->block_height > INT32_MAX)
        return gp_fail(status, "%s: TIFF with blocks of %u x %u pixels", file->path, picture->block_width,
                       picture->block_height);
    uint64_t rows = picture->tiled || picture->as_rgba ? picture->block_height : 1;
    return row_bytes(picture) <= BLOCK_BYTES_MAX / rows ||
           gp_fail(status,
                   "%s: TIFF whose blocks of %u x %u pixels have rows of %llu bytes; %llu bytes are "
                   "the most for a block",
                   file->path, picture->block_width, picture->block_height,
                   (unsigned long long)row_bytes(picture), (unsigned long long)BLOCK_BYTES_MAX);
}

static bool sample_kind(gp_tiff_picture *picture, uint16_t format, const char *path, gp_status *status) {
    int bits = picture->bits;
    const char *kind = "integers";
    picture->is_fine = bits % 8 != 0;
    if (format == SAMPLEFORMAT_INT) {
        kind = "signed integers";
        if (bits == 8 || bits == 16 || bits == 32) {
            picture->type = bits == 8 ? GP_SAMPLE_I8 : bits == 16 ? GP_SAMPLE_I16 : GP_SAMPLE_I32;
            return true;
        }
    } else if (format == SAMPLEFORMAT_IEEEFP) {
        kind = "floats";
        if (bits == 16 || bits == 32 || bits == 64) {
            picture->type = bits == 64 ? GP_SAMPLE_F64 : GP_SAMPLE_F32;
            picture->is_half = bits == 16;
            return true;
        }
    } else if (format == SAMPLEFORMAT_COMPLEXINT || format == SAMPLEFORMAT_COMPLEXIEEEFP) {
        kind = "complex numbers";
    } else if ((bits >= 1 && bits <= 16) || bits == 32) {
        picture->type = bits <= 8 ? GP_SAMPLE_U8 : bits <= 16 ? GP_SAMPLE_U16 : GP_SAMPLE_U32;
        return true;
    }
    return gp_fail(status,
                   "%s: TIFF whose samples are %s of %d bits, which are not read; as floats they are: "
                   "gdal_translate -ot Float64 \"%s\" out.tif",
                   path, kind, bits, path);
}

/* ---- reading ---- */

bool gp_tiff_picture_read(gp_tiff_picture *picture, const gp_tiff_file *origin, gp_window window,
                          const int *bands, int count, const gp_band *about, void *samples,
                          gp_status *status) {
    if (picture->file.tiff == NULL && !open_picture(picture, origin, status)) return false;
    reading r = {picture, window, bands, count, about, samples, status};
    bool by_block = picture->tiled || picture->as_rgba, done = true;
    if (!picture->planar) return by_block ? read_tiles(&r, 0, count) : read_strips(&r, 0, count);
    for (int i = 0; i < count && done; i++) done = by_block ? read_tiles(&r, i, 1) : read_strips(&r, i, 1);
    return done;
}

void gp_tiff_picture_close(gp_tiff_picture *picture) {
    gp_tiff_file_close(&picture->file);
    gp_free(picture->block);
    picture->block = NULL;
    picture->strip = NO_STRIP;
}

static bool open_picture(gp_tiff_picture *picture, const gp_tiff_file *origin, gp_status *status) {
    gp_tiff_file *file = &picture->file;
    if (!gp_tiff_file_open(file, origin->descriptor, origin->size, origin->path, picture->offset, status))
        return false;
    uint16_t photometric = 0;
    TIFFGetField(file->tiff, TIFFTAG_PHOTOMETRIC, &photometric);
    if (!picture->as_rgba && photometric == PHOTOMETRIC_YCBCR)
        TIFFSetField(file->tiff, TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
    gp_tiff_file_forget(file);
    picture->row_bytes = (size_t)row_bytes(picture);
    /* libtiff writes as much as it reckons itself, whatever is reckoned here. */
    uint64_t own = picture->row_bytes, theirs;
    if (picture->as_rgba) {
        theirs = own *= picture->block_height;
    } else if (picture->tiled) {
        own *= picture->block_height;
        theirs = TIFFTileSize64(file->tiff);
    } else {
        theirs = (uint64_t)TIFFScanlineSize64(file->tiff);
    }
    if (theirs < own || theirs > BLOCK_BYTES_MAX) {
        gp_tiff_file_fail(file, "TIFF whose blocks contradict its directory", status);
        gp_tiff_picture_close(picture);
        return false;
    }
    picture->block_bytes = (size_t)theirs;
    picture->block = gp_allocate_zeroed(picture->block_bytes, 1);
    if (picture->block != NULL) return true;
    gp_tiff_picture_close(picture);
    return gp_fail(status, "%s: no memory for a block of %llu bytes", origin->path,
                   (unsigned long long)theirs);
}

/** Whether the block's bytes are in the file. */
static block_presence block_state(const reading *r, uint32_t block) {
    gp_tiff_file *file = &r->picture->file;
    int failed = 0;
    uint64_t bytes = TIFFGetStrileByteCountWithErr(file->tiff, block, &failed), offset = 0;
    if (!failed) offset = TIFFGetStrileOffsetWithErr(file->tiff, block, &failed);
    if (failed) {
        gp_tiff_file_fail(file, "TIFF whose list of blocks cannot be read", r->status);
        return BLOCK_LOST;
    }
    if (bytes == 0 || offset == 0) return BLOCK_SPARSE;
    if (offset <= file->size && bytes <= file->size - offset) return BLOCK_THERE;
    gp_fail(r->status, "%s: TIFF block %u, %llu bytes at %llu, is not in the file of %llu bytes", file->path,
            block, (unsigned long long)bytes, (unsigned long long)offset, (unsigned long long)file->size);
    return BLOCK_LOST;
}

/* ---- samples ---- */

/** `bits` bits from bit `at` on, the highest first. */
static unsigned bits_at(const uint8_t *row, size_t at, int bits) {
    unsigned value = 0;
    for (int i = 0; i < bits; i++, at++) value = value << 1 | (row[at / 8] >> (7 - at % 8) & 1u);
    return value;
}

static void copy_samples(const uint8_t *source, size_t source_step, uint8_t *target, size_t target_step,
                         size_t count, int bytes) {
    switch (bytes) {
    case 1:
        for (size_t i = 0; i < count; i++) target[i * target_step] = source[i * source_step];
        break;
    case 2:
        for (size_t i = 0; i < count; i++) memcpy(target + i * target_step, source + i * source_step, 2);
        break;
    case 4:
        for (size_t i = 0; i < count; i++) memcpy(target + i * target_step, source + i * source_step, 4);
        break;
    default:
        for (size_t i = 0; i < count; i++) memcpy(target + i * target_step, source + i * source_step, 8);
    }
}

/**
 * `pixels` pixels of a block's row, from its pixel `from` on, to the window's pixel (x, y): the bands `first`
 * to `first` + `count` of those that are read.
 */
static void place_row(const reading *r, const uint8_t *row, size_t from, size_t pixels, int first, int count,
                      size_t x, size_t y) {
    const gp_tiff_picture *picture = r->picture;
    int bytes = gp_sample_type_bytes(picture->type);
    size_t together = picture->planar ? 1 : picture->samples, pixel_bytes = (size_t)r->count * (size_t)bytes;
    uint8_t *target = r->samples + (y * (size_t)r->window.width + x) * pixel_bytes;
    for (int i = first; i < first + count; i++) {
        size_t sample = picture->planar ? 0 : (size_t)r->bands[i] - 1, at = from * together + sample;
        uint8_t *out = target + (size_t)(i * bytes);
        if (picture->is_fine) {
            for (size_t p = 0; p < pixels; p++, at += together, out += pixel_bytes) {
                unsigned value = bits_at(row, at * picture->bits, picture->bits);
                if (bytes == 1)
                    *out = (uint8_t)value;
                else
                    memcpy(out, &(uint16_t){(uint16_t)value}, 2);
            }
        } else if (picture->is_half) {
            for (size_t p = 0; p < pixels; p++, at += together, out += pixel_bytes) {
                uint16_t half;
                memcpy(&half, row + at * 2, 2);
                memcpy(out, &(float){gp_f16_to_f32(half)}, 4);
            }
        } else {
            copy_samples(row + at * (size_t)bytes, together * (size_t)bytes, out, pixel_bytes, pixels, bytes);
        }
    }
}

/** A value as the type holds it, cut to its range. */
static void store(gp_sample_type type, double value, uint8_t *target) {
    static const double least[] = {0, INT8_MIN, 0, INT16_MIN, 0, INT32_MIN},
                        most[] = {UINT8_MAX, INT8_MAX, UINT16_MAX, INT16_MAX, UINT32_MAX, INT32_MAX};
    if (type == GP_SAMPLE_F32) {
        memcpy(target, &(float){(float)value}, 4);
    } else if (type == GP_SAMPLE_F64) {
        memcpy(target, &value, 8);
    } else {
        double cut = isnan(value)          ? 0
                     : value < least[type] ? least[type]
                     : value > most[type]  ? most[type]
                                           : value;
        int64_t whole = (int64_t)cut;
        int bytes = gp_sample_type_bytes(type);
        if (bytes == 1) memcpy(target, &(uint8_t){(uint8_t)whole}, 1);
        if (bytes == 2) memcpy(target, &(uint16_t){(uint16_t)whole}, 2);
        if (bytes == 4) memcpy(target, &(uint32_t){(uint32_t)whole}, 4);
    }
}

/** What a block that the file leaves out holds: nodata, or 0. */
static void fill(const reading *r, size_t x, size_t y, size_t columns, size_t rows, int first, int count) {
    int bytes = gp_sample_type_bytes(r->picture->type);
    for (int i = first; i < first + count; i++) {
        const gp_band *band = r->about != NULL ? &r->about[r->bands[i] - 1] : NULL;
        uint8_t value[8];
        store(r->picture->type, band != NULL && band->has_nodata ? band->nodata : 0, value);
        for (size_t row = y; row < y + rows; row++) {
            uint8_t *target =
                r->samples +
                ((row * (size_t)r->window.width + x) * (size_t)r->count + (size_t)i) * (size_t)bytes;
            copy_samples(value, 0, target, (size_t)(r->count * bytes), columns, bytes);
        }
    }
}

/* ---- tiles ---- */

/** Decodes the block whose first pixel is (x, y): a tile, or colours that libtiff turns into RGBA. */
static bool decode_block(const reading *r, uint32_t block, uint32_t x, uint32_t y) {
    gp_tiff_picture *picture = r->picture;
    gp_tiff_file *file = &picture->file;
    bool done;
    if (!picture->as_rgba) {
        done = TIFFReadEncodedTile(file->tiff, block, picture->block, (tmsize_t)picture->block_bytes) >= 0;
    } else {
        /* Rows come from the bottom; an R, G, B, A a pixel, R in the lowest bits. */
        uint32_t rows = picture->block_height;
        if (!picture->tiled && rows > picture->height - y) rows = picture->height - y;
        uint32_t *pixels = gp_allocate_zeroed((size_t)picture->block_width * rows, sizeof *pixels);
        if (pixels == NULL) return gp_fail(r->status, "%s: no memory for block %u", file->path, block);
        done = picture->tiled ? TIFFReadRGBATileExt(file->tiff, x, y, pixels, 1)
                              : TIFFReadRGBAStripExt(file->tiff, y, pixels, 1);
        for (uint32_t row = 0; row < rows; row++) {
            const uint32_t *source = pixels + (size_t)(rows - 1 - row) * picture->block_width;
            uint8_t *target = picture->block + row * picture->row_bytes;
            for (uint32_t i = 0; i < picture->block_width; i++, target += 4) {
                target[0] = (uint8_t)TIFFGetR(source[i]);
                target[1] = (uint8_t)TIFFGetG(source[i]);
                target[2] = (uint8_t)TIFFGetB(source[i]);
                target[3] = (uint8_t)TIFFGetA(source[i]);
            }
        }
        gp_free(pixels);
    }
    /* What libtiff complains of while it decodes may come out all the same, with pixels made up. */
    if (done && !gp_failed(&file->trouble)) return true;
    gp_tiff_file_fail(file, "TIFF with a block that cannot be decoded", r->status);
    gp_tiff_file_forget(file);
    return false;
}

static bool read_tiles(const reading *r, int first, int count) {
    gp_tiff_picture *picture = r->picture;
    TIFF *tiff = picture->file.tiff;
    int64_t wide = picture->block_width, high = picture->block_height;
    int64_t right = (int64_t)r->window.x + r->window.width, bottom = (int64_t)r->window.y + r->window.height;
    uint16_t plane = picture->planar ? (uint16_t)(r->bands[first] - 1) : 0;
    for (int64_t top = r->window.y / high * high; top < bottom; top += high) {
        for (int64_t left = r->window.x / wide * wide; left < right; left += wide) {
            int64_t x0 = left > r->window.x ? left : r->window.x, y0 = top > r->window.y ? top : r->window.y;
            int64_t x1 = left + wide < right ? left + wide : right,
                    y1 = top + high < bottom ? top + high : bottom;
            uint32_t block = picture->tiled ? TIFFComputeTile(tiff, (uint32_t)left, (uint32_t)top, 0, plane)
                                            : TIFFComputeStrip(tiff, (uint32_t)top, plane);
            size_t x = (size_t)(x0 - r->window.x), y = (size_t)(y0 - r->window.y);
            block_presence presence = block_state(r, block);
            if (presence == BLOCK_LOST) return false;
            if (presence == BLOCK_SPARSE) {
                fill(r, x, y, (size_t)(x1 - x0), (size_t)(y1 - y0), first, count);
                continue;
            }
            if (!decode_block(r, block, (uint32_t)left, (uint32_t)top)) return false;
            for (int64_t row = y0; row < y1; row++)
                place_row(r, picture->block + (size_t)(row - top) * picture->row_bytes, (size_t)(x0 - left),
                          (size_t)(x1 - x0), first, count, x, y + (size_t)(row - y0));
        }
    }
    return true;
}

/* ---- strips ---- */

static void swap_samples(uint8_t *samples, size_t count, int bytes) {
    if (bytes == 2) TIFFSwabArrayOfShort((uint16_t *)(void *)samples, (tmsize_t)count);
    if (bytes == 4) TIFFSwabArrayOfLong((uint32_t *)(void *)samples, (tmsize_t)count);
    if (bytes == 8) TIFFSwabArrayOfLong8((uint64_t *)(void *)samples, (tmsize_t)count);
}

/** The window's part of a row of a strip that is not compressed, to the block's start. */
static bool read_in_place(const reading *r, uint32_t strip, uint32_t row_in_strip) {
    gp_tiff_picture *picture = r->picture;
    gp_tiff_file *file = &picture->file;
    int bytes = picture->bits / 8;
    size_t pixel_bytes = (size_t)bytes * (picture->planar ? 1 : picture->samples);
    uint64_t row = (uint64_t)row_in_strip * picture->row_bytes;
    size_t part = (size_t)r->window.width * pixel_bytes;
    if (row + picture->row_bytes > TIFFGetStrileByteCount(file->tiff, strip))
        return gp_fail(r->status, "%s: TIFF strip %u of %llu bytes ends before its row %u", file->path, strip,
                       (unsigned long long)TIFFGetStrileByteCount(file->tiff, strip), row_in_strip);
    uint64_t offset = TIFFGetStrileOffset(file->tiff, strip) + row + (uint64_t)r->window.x * pixel_bytes;
    if (!gp_tiff_file_read(file, picture->block, offset, part))
        return gp_fail(r->status, "%s: TIFF strip %u cannot be read", file->path, strip);
    if (TIFFIsByteSwapped(file->tiff)) swap_samples(picture->block, part / (size_t)bytes, bytes);
    return true;
}

/** Decodes a row to the block, from the one after the last on where that is before it. */
static bool decode_row(const reading *r, uint32_t strip, uint32_t row, uint16_t plane) {
    gp_tiff_picture *picture = r->picture;
    gp_tiff_file *file = &picture->file;
    if (picture->strip != strip || picture->next_row > row) {
        picture->strip = strip;
        picture->next_row = row / picture->block_height * picture->block_height;
    }
    bool done = true;
    while (done && picture->next_row <= row)
        done = TIFFReadScanline(file->tiff, picture->block, picture->next_row++, plane) == 1 &&
               !gp_failed(&file->trouble);
    if (done) return true;
    picture->strip = NO_STRIP;
    gp_tiff_file_fail(file, "TIFF with a strip that cannot be decoded", r->status);
    gp_tiff_file_forget(file);
    return false;
}

static bool read_strips(const reading *r, int first, int count) {
    gp_tiff_picture *picture = r->picture;
    uint16_t plane = picture->planar ? (uint16_t)(r->bands[first] - 1) : 0;
    uint16_t bit_order = FILLORDER_MSB2LSB;
    TIFFGetFieldDefaulted(picture->file.tiff, TIFFTAG_FILLORDER, &bit_order);
    bool in_place =
        picture->compression == COMPRESSION_NONE && !picture->is_fine && bit_order == FILLORDER_MSB2LSB;
    uint32_t known = NO_STRIP;
    block_presence presence = BLOCK_LOST;
    for (int y = 0; y < r->window.height; y++) {
        uint32_t row = (uint32_t)(r->window.y + y);
        uint32_t strip = TIFFComputeStrip(picture->file.tiff, row, plane);
        if (strip != known) presence = block_state(r, strip);
        known = strip;
        if (presence == BLOCK_LOST) return false;
        if (presence == BLOCK_SPARSE) {
            fill(r, 0, (size_t)y, (size_t)r->window.width, 1, first, count);
            continue;
        }
        bool done = in_place ? read_in_place(r, strip, row % picture->block_height)
                             : decode_row(r, strip, row, plane);
        if (!done) return false;
        place_row(r, picture->block, in_place ? 0 : (size_t)r->window.x, (size_t)r->window.width, first,
                  count, 0, (size_t)y);
    }
    return true;
}
