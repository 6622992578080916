/** A scene as every command takes it: the raster opened, bands and stretch settled, the window in memory as
 * RGB. */
#pragma once

#include "loaders/image/image.h"
#include "loaders/raster/rgb_view.h"
#include "tools/geopixel/arguments.h"

/** What the command line says of the scene. */
typedef struct gp_scene_options {
    const char *path;
    const char *bands, *stretch,
        *window; /* --bands 4,3,2, --stretch p2,p98, --window X,Y,WIDTH,HEIGHT; NULL: default */
} gp_scene_options;

/** Owned; free with gp_scene_clear. */
typedef struct gp_scene {
    gp_rgb_image image;
    gp_georeference georeference; /* of the window */
    bool empty;                   /* all of its pixels are nodata */
} gp_scene;

/** The scene's three entries for a command's table of options. */
#define GP_SCENE_OPTIONS(scene)                                                                              \
    {"bands",                                                                                                \
     0,                                                                                                      \
     GP_OPTION_TEXT,                                                                                         \
     "B,B,B",                                                                                                \
     "bands to see as red, green, blue, counted from 1; one is grey",                                        \
     &(scene)->bands,                                                                                        \
     0,                                                                                                      \
     0},                                                                                                     \
        {"stretch",                                                                                          \
         0,                                                                                                  \
         GP_OPTION_TEXT,                                                                                     \
         "HOW",                                                                                              \
         "more than 8 bits to 8: p2,p98 (percentiles), min,max, LOW,HIGH or none",                           \
         &(scene)->stretch,                                                                                  \
         0,                                                                                                  \
         0},                                                                                                 \
    {                                                                                                        \
        "window", 0, GP_OPTION_TEXT, "X,Y,W,H", "look at these pixels of the scene alone", &(scene)->window, \
            0, 0                                                                                             \
    }

/** Whether the options can be read; fails with a text for the user. */
bool gp_scene_check(const gp_scene_options *options, gp_status *status);

/** Opens and reads. `note` receives what is worth a word, one line a matter (free with gp_status_clear). */
bool gp_scene_read(const gp_scene_options *options, gp_scene *scene, gp_status *note, gp_status *status);

void gp_scene_clear(gp_scene *scene);
