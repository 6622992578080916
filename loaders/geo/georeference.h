/**
 * Where a raster's pixels lie on Earth, by the conventions of GeoTIFF (OGC 19-008r4) as GDAL reads them:
 * a pixel's upper left corner is (column, row), its centre half a pixel further; GeoKeys name the coordinate
 * reference system (CRS).
 */
#pragma once

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** The tags that place a GeoTIFF, as they stand in a file: what an output copies to lie where its scene does.
 */
typedef struct gp_geo_tags {
    uint16_t *keys; /* GeoKeyDirectory (34735): [key_count] shorts, the header's four included; NULL: none */
    size_t key_count;
    double *parameters; /* GeoDoubleParams (34736): [parameter_count] */
    size_t parameter_count;
    char *text;        /* GeoAsciiParams (34737), terminated */
    double *scale;     /* ModelPixelScale (33550): 3 numbers */
    double *tiepoints; /* ModelTiepoint (33922): [tiepoint_count][6], column, row, level, x, y, z */
    size_t tiepoint_count;
    double *matrix; /* ModelTransformation (34264): 16 numbers, row by row */
} gp_geo_tags;

/** A ground control point: this corner or place of the pixel grid lies at (x, y, z) in the CRS. */
typedef struct gp_control_point {
    double column, row, x, y, z;
} gp_control_point;

/** Everything owned; zero means: nothing known. Free with gp_georeference_clear. */
typedef struct gp_georeference {
    gp_geo_tags tags;
    bool has_transform;
    /* GDAL's order: x = t[0] + column·t[1] + row·t[2], y = t[3] + column·t[4] + row·t[5]; of pixel corners,
     * so the half pixel of "pixel is point" is taken off already. */
    double transform[6];
    gp_control_point *control_points; /* only where there is no transform */
    size_t control_point_count;
    char *crs;      /* a text that PROJ makes the CRS of: "EPSG:32618", WKT or a PROJ string; NULL: none */
    char *crs_name; /* "WGS 84 / UTM zone 18N"; NULL: none */
    int epsg;       /* its EPSG code, 0 where it has none */
    bool rational;  /* RPCs are in the file, which are not read */
} gp_georeference;

/**
 * Reads the tags; they move into `out`, whatever happens. As GDAL takes them: scale and first tiepoint, or
 * else the matrix, or else tiepoints as control points; numbers that cannot be used (a scale of 0, infinity)
 * are none. GeoKeys that contradict themselves, and a CRS that libgeotiff and PROJ do not make out, leave
 * `crs` NULL and say so in `note`, one line a matter (may be NULL; free with gp_status_clear). Fails when
 * memory is out.
 */
bool gp_georeference_read(gp_geo_tags *tags, const char *path, gp_georeference *out, gp_status *note,
                          gp_status *status);

/** The georeference of the window that begins at (column, row): transform, control points and tags moved. */
bool gp_georeference_window(const gp_georeference *whole, double column, double row, gp_georeference *out,
                            gp_status *status);

void gp_geo_tags_clear(gp_geo_tags *tags);
void gp_georeference_clear(gp_georeference *georeference);

/** Whether pixels have places in a CRS: a CRS is known, and a transform or at least three control points. */
bool gp_georeference_is_placed(const gp_georeference *georeference);
