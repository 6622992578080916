/**
 * A raster as a model sees it: three bands of 8 bits. Which bands, and how more than 8 bits become 8, is
 * settled once for the scene, so that every window of it looks the same.
 */
#pragma once

#include "loaders/raster/raster.h"

typedef enum gp_stretch_kind {
    GP_STRETCH_DEFAULT,     /* u8 as it is, others by the 2nd and 98th percentile */
    GP_STRETCH_NONE,        /* values as they are, cut to 0 … 255 */
    GP_STRETCH_PERCENTILES, /* low and high: percentiles of each band */
    GP_STRETCH_EXTREMES,    /* each band's smallest and largest value */
    GP_STRETCH_VALUES,      /* low and high: the values that become 0 and 255 */
} gp_stretch_kind;

typedef struct gp_stretch {
    gp_stretch_kind kind;
    double low, high;
} gp_stretch;

typedef struct gp_rgb_options {
    int bands[3];   /* counted from 1; one alone is shown as grey */
    int band_count; /* 0: the raster's colours where it says which they are, else its first three bands or its
                     * first as grey; alpha is none of them. 1 or 3 */
    gp_stretch stretch;
} gp_rgb_options;

/** "4,3,2" or "1"; fails naming the text. */
bool gp_rgb_parse_bands(const char *text, gp_rgb_options *options, gp_status *status);

/** "none", "min,max", "p2,p98" (any two percentiles) or "100,3000" (two values); fails naming the text. */
bool gp_rgb_parse_stretch(const char *text, gp_stretch *stretch, gp_status *status);

typedef struct gp_rgb_view {
    gp_raster *raster;
    int bands[4], band_count; /* 1: grey or palette; 3: red, green, blue; 4: inks */
    bool stretched;
    double low[3], high[3]; /* the values of each band that become 0 and 255 */
} gp_rgb_view;

enum {
    GP_STATISTICS_LEVEL_PIXELS = 1024 * 1024, /* an overview of as many stands for the scene */
    GP_STATISTICS_PIXELS = 2048 * 2048,       /* of more a coarse grid does */
    GP_STATISTICS_BLOCKS = 256,               /* blocks of that grid */
};

/**
 * Settles bands and stretch; the raster must outlive the view. Percentiles and extremes are those of the
 * scene, of the pixels that count: of the smallest overview of at least GP_STATISTICS_LEVEL_PIXELS, or of the
 * scene itself; where that has more than GP_STATISTICS_PIXELS pixels, of every k-th column and row of at most
 * GP_STATISTICS_BLOCKS blocks spread evenly. A percentile between two values is theirs in proportion, as
 * numpy has it. Fails naming a band that the raster has not.
 */
bool gp_rgb_view_open(gp_raster *raster, const gp_rgb_options *options, gp_rgb_view *view, gp_status *status);

/**
 * The window of the scene as RGB: pixel (x, y) at rgb[y * stride + 3 * x]. `valid_pixels` receives how many
 * pixels count in at least one of the bands (may be NULL); the others are 0 where the view is stretched, and
 * as they are where not.
 */
bool gp_rgb_view_read(const gp_rgb_view *view, gp_window window, uint8_t *rgb, size_t stride,
                      int64_t *valid_pixels, gp_status *status);
