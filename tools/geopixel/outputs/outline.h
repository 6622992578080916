/**
 * Masks as polygons that follow pixel edges: corners of pixels, x to the right and y downward, whole numbers
 * until they are simplified. Pixels that touch by an edge are one polygon; those that touch by a corner alone
 * are two. Rings are simple: no corner comes twice in one, though two rings of a polygon may meet in one. So
 * filling the polygons again gives the mask, and GIS software calls them valid.
 */
#pragma once

#include "kernels/base/status.h"
#include "tools/geopixel/outputs/rle.h"

#include <stddef.h>

/** [count][2] x, y; the last joins the first and is not repeated. */
typedef struct gp_ring {
    double *points;
    size_t count;
} gp_ring;

/** The outer ring first, then its holes. As seen on the picture (y downward) outer rings run clockwise, holes
 * counter-clockwise; so outer rings run counter-clockwise where y is turned upward. */
typedef struct gp_polygon {
    gp_ring *rings;
    size_t ring_count;
} gp_polygon;

typedef struct gp_polygons {
    gp_polygon *polygons;
    size_t count;
} gp_polygons;

/**
 * The polygons of a mask, in the order of their topmost, leftmost pixel. `tolerance` > 0 simplifies by that
 * many pixels and keeps topology: no polygon vanishes, no ring crosses another or itself (GEOS). Fails when
 * memory is out. Free with gp_polygons_clear.
 */
bool gp_outline(const gp_rle *mask, double tolerance, gp_polygons *out, gp_status *status);

void gp_polygons_clear(gp_polygons *polygons);
