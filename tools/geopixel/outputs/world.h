/** Polygons of a picture as RFC 7946 wants them in WGS 84: cut at the antimeridian, right-handed, true to a
 * hundredth of a pixel between their corners. */
#pragma once

#include "loaders/geo/locator.h"
#include "tools/geopixel/outputs/outline.h"

/**
 * `pixels` (gp_outline's) to longitude and latitude. An edge that is straight on the picture and bent in
 * degrees gets points between its ends; what crosses the antimeridian is cut there; what holds a pole reaches
 * ±90°. Outer rings run counter-clockwise, holes clockwise. `area` receives the geodesic area of all in m².
 * Fails where a corner has no place on Earth, or when memory is out. Free with gp_polygons_clear.
 */
bool gp_polygons_to_wgs84(const gp_polygons *pixels, const gp_locator *locator, gp_polygons *out,
                          double *area, gp_status *status);
