/** One picture of a TIFF file (a directory: the scene, an overview, a mask) and its pixels. */
#pragma once

#include "loaders/raster/raster.h"
#include "loaders/raster/tiff_file.h"

/** What a directory says, and the handle that reads it from its first use on. */
typedef struct gp_tiff_picture {
    uint64_t offset; /* of the directory in the file */
    uint32_t width, height;
    uint32_t block_width, block_height; /* a tile's, or a strip's */
    uint16_t samples, bits, photometric, compression;
    gp_sample_type type;
    bool tiled, planar;    /* planar: each sample in blocks of its own */
    bool as_rgba;          /* colours that libtiff turns into RGBA, four samples of 8 bits */
    bool is_half, is_fine; /* floats of 16 bits; samples that are no whole number of bytes */
    gp_tiff_file file;
    uint8_t *block; /* a decoded tile, or row of a strip */
    size_t block_bytes, row_bytes;
    uint32_t strip, next_row; /* the strip that is being decoded and its next row */
} gp_tiff_picture;

/** Fills all but the handle from `file`'s current directory. Fails naming a kind of sample, a codec or a size
 * that is not read, with the line of gdal_translate that helps. */
bool gp_tiff_picture_describe(gp_tiff_file *file, gp_tiff_picture *picture, gp_status *status);

/**
 * Reads samples [height, width, count] of a window, which must lie within. `bands` count from 1; `about`
 * [samples] gives the nodata of blocks that the file leaves out (NULL: 0). The picture must not move after
 * the first read.
 */
bool gp_tiff_picture_read(gp_tiff_picture *picture, const gp_tiff_file *origin, gp_window window,
                          const int *bands, int count, const gp_band *about, void *samples,
                          gp_status *status);

void gp_tiff_picture_close(gp_tiff_picture *picture);

/** "Deflate", "JPEG", …; NULL for a codec without a name here. */
const char *gp_tiff_codec_name(uint16_t compression);
