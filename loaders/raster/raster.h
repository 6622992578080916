/**
 * Rasters: GeoTIFF (classic and BigTIFF), PNG, JPEG, and what GDAL opens where the build has it. A window of
 * any band is read without decoding the rest; memory follows the window, not the scene.
 */
#pragma once

#include "kernels/base/status.h"
#include "loaders/geo/georeference.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum gp_sample_type {
    GP_SAMPLE_U8,
    GP_SAMPLE_I8,
    GP_SAMPLE_U16,
    GP_SAMPLE_I16,
    GP_SAMPLE_U32,
    GP_SAMPLE_I32,
    GP_SAMPLE_F32,
    GP_SAMPLE_F64,
} gp_sample_type;

/** "u8" … "f64". */
const char *gp_sample_type_name(gp_sample_type type);
int gp_sample_type_bytes(gp_sample_type type);

typedef enum gp_band_role {
    GP_BAND_UNDEFINED,
    GP_BAND_GREY,
    GP_BAND_RED,
    GP_BAND_GREEN,
    GP_BAND_BLUE,
    GP_BAND_ALPHA,
    GP_BAND_PALETTE, /* an index into the raster's palette */
} gp_band_role;

/** "grey", "red", …. */
const char *gp_band_role_name(gp_band_role role);

typedef struct gp_band {
    gp_band_role role;
    bool has_nodata;
    double nodata; /* the value that says "nothing here" */
} gp_band;

/** The scene at one resolution: level 0 is the scene itself, the others its overviews, the largest first. */
typedef struct gp_raster_level {
    int width, height;
    int block_width, block_height; /* what is decoded together: a tile, or a strip */
} gp_raster_level;

typedef struct gp_raster_info {
    char *path;
    const char *format;  /* "GeoTIFF", "BigTIFF", "PNG", …; a TIFF without a place is "TIFF" */
    const char *codec;   /* "none", "Deflate", "JPEG", … */
    int width, height;   /* of level 0 */
    gp_sample_type type; /* of every band */
    int bits;            /* a sample's in the file: 12 where 12-bit samples are read as u16 */
    int band_count;
    gp_band *bands;     /* [band_count] */
    bool tiled, planar; /* planar: each band in blocks of its own */
    int level_count;
    gp_raster_level *levels;
    bool has_mask;         /* a mask beside the bands says which pixels count */
    int alpha;             /* the alpha band, counted from 1; 0: none */
    bool zero_is_white;    /* grey that runs from white to black */
    bool inks;             /* the first four bands are cyan, magenta, yellow and black ink */
    uint8_t (*palette)[3]; /* [palette_size] colours; NULL: none */
    int palette_size;
    int further_pictures; /* in the same file, beside overviews and masks: not read */
    gp_georeference georeference;
} gp_raster_info;

/** A rectangle of pixels of a level. */
typedef struct gp_window {
    int x, y, width, height;
} gp_window;

typedef struct gp_raster gp_raster;

/**
 * Opens a raster. Fails naming the file and what it is: not a raster, damaged, a codec or a kind of sample
 * that is not read (then with the gdal_translate line that helps). What is worth a word but no failure (RPCs
 * alone, a CRS that is not made out, further pictures) comes in `note` (may be NULL; free with
 * gp_status_clear), one line a matter.
 */
bool gp_raster_open(const char *path, gp_raster **raster, gp_status *note, gp_status *status);
void gp_raster_close(gp_raster *raster);

/** Valid until the raster is closed. */
const gp_raster_info *gp_raster_about(const gp_raster *raster);

/**
 * Reads bands (counted from 1) of a window of a level. `samples` [height, width, count] in the raster's type;
 * `valid` [height, width, count], 1 where the sample counts and 0 where mask, alpha, nodata or NaN say that
 * it does not, may be NULL. Blocks that a sparse file leaves out are nodata, or 0. Fails naming the file, and
 * the block or the window that it has not.
 */
bool gp_raster_read(gp_raster *raster, int level, gp_window window, const int *bands, int count,
                    void *samples, uint8_t *valid, gp_status *status);
