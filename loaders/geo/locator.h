/**
 * From pixels to places, by PROJ: the CRS of a georeference, and WGS 84 longitude and latitude. Control
 * points become a polynomial by least squares, of order 1, or 2 from six points on, as GDAL takes them. A
 * locator belongs to one thread at a time.
 */
#pragma once

#include "loaders/geo/georeference.h"

typedef struct gp_locator gp_locator;

/**
 * Opens for a georeference that gp_georeference_is_placed (fails on one that is not); it must outlive the
 * locator. Fails naming the CRS where PROJ cannot relate it to WGS 84.
 */
bool gp_locator_open(const gp_georeference *georeference, gp_locator **locator, gp_status *status);
void gp_locator_close(gp_locator *locator);

/** `count` points [count][2] (column, row) to [count][2] x, y in the CRS, x eastward first whatever the
 * authority's order of axes. May be in place. */
void gp_locator_to_crs(const gp_locator *locator, const double *pixels, size_t count, double *out);

/** The same to longitude, latitude in degrees, −180 … 180; fails where a point has no place on Earth. May be
 * in place. */
bool gp_locator_to_wgs84(const gp_locator *locator, const double *pixels, size_t count, double *out,
                         gp_status *status);

/** Geodesic area in m² on WGS 84's ellipsoid of a closed ring [count][2] of longitude, latitude (the last
 * point joins the first): always positive. Around a pole: the smaller side. */
double gp_geodesic_area(const double *ring, size_t count);

/** The CRS as WKT for a GeoPackage (WKT 1 as GDAL writes it), a new block for gp_free. NULL with `status` set
 * where PROJ cannot. */
char *gp_crs_wkt(const gp_georeference *georeference, gp_status *status);
