/** Polygons to GEOS and back. Contexts come from GEOS_init_r and have no message handlers: nothing is
 * printed.
 */
#pragma once

#include "tools/geopixel/outputs/outline.h"

#include <geos_c.h>

/** All as one multipolygon, for GEOSGeom_destroy_r; NULL when memory is out. */
GEOSGeometry *gp_geos_multipolygon(GEOSContextHandle_t geos, const gp_polygons *polygons);

/** Appends the polygons of a geometry; lines and points in it are passed over. Rings are oriented as
 * gp_ring_orient has them. False when memory is out. */
bool gp_geos_take_polygons(GEOSContextHandle_t geos, const GEOSGeometry *from, gp_polygons *out);

/** One more polygon, of `rings` rings that are zero; NULL when memory is out. */
gp_polygon *gp_polygons_add(gp_polygons *polygons, size_t rings);

/** Turns a ring so that its area (the sum of x·y' − x'·y) is positive for an outer one, negative for a hole:
 * counter-clockwise where y runs upward, clockwise where it runs downward. */
void gp_ring_orient(gp_ring *ring, bool is_outer);
