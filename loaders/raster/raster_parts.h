/** What each kind of raster gives to loaders/raster/raster.c, and the rooms that open them. */
#pragma once

#include "loaders/raster/raster.h"

/** How a kind of raster is read. Levels, windows and bands are checked before they come here. */
typedef struct gp_raster_methods {
    /** samples [height, width, count] in the raster's type. */
    bool (*read)(void *source, int level, gp_window window, const int *bands, int count, void *samples,
                 gp_status *status);
    /** mask [height, width], 0 where the pixel does not count; called only where info.has_mask. */
    bool (*read_mask)(void *source, int level, gp_window window, uint8_t *mask, gp_status *status);
    void (*close)(void *source);
} gp_raster_methods;

struct gp_raster {
    gp_raster_info info;
    const gp_raster_methods *methods; /* NULL until opened */
    void *source;
};

/** Each fills a zeroed raster; what it set before it failed is freed by gp_raster_close. */
bool gp_tiff_raster_open(const char *path, gp_raster *raster, gp_status *note, gp_status *status);
bool gp_picture_raster_open(const char *path, const char *format, const char *codec, gp_raster *raster,
                            gp_status *status);

/** By GDAL; fails saying that this build has none, where so. `reason` (may be NULL) is why the file is no
 * matter for the readers of our own, and stands in the message when GDAL cannot read it either. */
bool gp_gdal_raster_open(const char *path, const char *reason, gp_raster *raster, gp_status *note,
                         gp_status *status);

/** Makes room for bands and levels; fails when memory is out. */
bool gp_raster_allocate_bands(gp_raster *raster, int count, gp_status *status);
bool gp_raster_allocate_levels(gp_raster *raster, int count, gp_status *status);

/** The line that says so where RPCs alone place the raster. */
void gp_raster_note_place(const gp_raster *raster, gp_status *note);

/** A line for `note`, where there is one. */
void gp_raster_note(gp_status *note, const char *format, ...) GP_PRINTF(2, 3);
