#include "tools/geopixel/inspect_place.h"

#include "loaders/geo/locator.h"
#include "tools/geopixel/inspect_text.h"

#include <math.h>
#include <stdio.h>

/** What follows from a georeference. */
typedef struct place {
    bool has_extent;  /* the corners have places in the CRS, or in what stands for one */
    double pixel[2];  /* width and height */
    double extent[4]; /* least x and y, most x and y of the four corners */
    bool has_centre;
    double centre[2]; /* longitude, latitude on WGS 84 */
} place;

static place find_place(const gp_raster_info *about);

void gp_print_place(const gp_raster_info *about) {
    const gp_georeference *geo = &about->georeference;
    const double *t = geo->transform;
    place p = find_place(about);
    printf("\nplace\n  %-18s ", "CRS");
    gp_print_text(geo->crs == NULL ? "none" : geo->crs_name != NULL ? geo->crs_name : "without a name");
    if (geo->epsg > 0) printf(", EPSG:%d", geo->epsg);
    putchar('\n');
    if (!geo->has_transform && geo->control_point_count == 0) puts("  not georeferenced");
    if (geo->control_point_count > 0) printf("  %-18s %zu\n", "control points", geo->control_point_count);
    if (geo->has_transform)
        printf("  %-18s %.10g, %.10g, %.10g, %.10g, %.10g, %.10g\n", "transform", t[0], t[1], t[2], t[3],
               t[4], t[5]);
    if (p.has_extent) {
        printf("  %-18s %.10g x %.10g in the CRS's units%s\n", "pixel size", p.pixel[0], p.pixel[1],
               t[2] != 0 || t[4] != 0 ? ", rotated" : "");
        printf("  %-18s x %.10g to %.10g, y %.10g to %.10g\n", "extent", p.extent[0], p.extent[2],
               p.extent[1], p.extent[3]);
    }
    if (p.has_centre) printf("  %-18s longitude %.6f, latitude %.6f\n", "centre", p.centre[0], p.centre[1]);
    if (geo->rational) printf("  %-18s there, not read\n", "RPCs");
}

json_t *gp_place_json(const gp_raster_info *about) {
    const gp_georeference *geo = &about->georeference;
    place p = find_place(about);
    json_t *points = json_array();
    for (size_t i = 0; i < geo->control_point_count; i++) {
        const gp_control_point *point = &geo->control_points[i];
        const double numbers[] = {point->column, point->row, point->x, point->y, point->z};
        json_array_append_new(points, gp_json_numbers(numbers, 5));
    }
    return json_pack("{s:o,s:o,s:o,s:b,s:o,s:b,s:o,s:o,s:o,s:o}", "crs", gp_json_text(geo->crs), "crs_name",
                     gp_json_text(geo->crs_name), "epsg",
                     geo->epsg > 0 ? json_integer(geo->epsg) : json_null(), "georeferenced",
                     geo->has_transform || geo->control_point_count > 0, "control_points", points,
                     "rational_polynomials", geo->rational, "transform",
                     geo->has_transform ? gp_json_numbers(geo->transform, 6) : json_null(), "pixel_size",
                     p.has_extent ? gp_json_numbers(p.pixel, 2) : json_null(), "extent",
                     p.has_extent ? gp_json_numbers(p.extent, 4) : json_null(), "centre_wgs84",
                     p.has_centre ? gp_json_numbers(p.centre, 2) : json_null());
}

/** The corners in the CRS: by the transform, or by the polynomial through the control points. */
static bool locate_corners(const gp_raster_info *about, const gp_locator *locator, double corners[4][2]) {
    const gp_georeference *geo = &about->georeference;
    const double *t = geo->transform;
    for (int i = 0; i < 4; i++) {
        double column = i % 2 * (double)about->width, row = i / 2 * (double)about->height;
        corners[i][0] = geo->has_transform ? t[0] + column * t[1] + row * t[2] : column;
        corners[i][1] = geo->has_transform ? t[3] + column * t[4] + row * t[5] : row;
    }
    if (geo->has_transform) return true;
    if (locator != NULL) gp_locator_to_crs(locator, corners[0], 4, corners[0]);
    return locator != NULL;
}

static double distance(const double a[2], const double b[2]) {
    return hypot(b[0] - a[0], b[1] - a[1]);
}

static place find_place(const gp_raster_info *about) {
    const gp_georeference *geo = &about->georeference;
    gp_locator *locator = NULL;
    gp_status told = {0}; /* what cannot be located has no extent or no centre, and that is told */
    double corners[4][2];
    place p = {.centre = {about->width / 2.0, about->height / 2.0}};
    if (gp_georeference_is_placed(geo) && !gp_locator_open(geo, &locator, &told)) locator = NULL;
    p.has_extent = locate_corners(about, locator, corners);
    for (int i = 0; i < 4 && p.has_extent; i++)
        for (int axis = 0; axis < 2; axis++) {
            double value = corners[i][axis];
            if (i == 0 || value < p.extent[axis]) p.extent[axis] = value;
            if (i == 0 || value > p.extent[2 + axis]) p.extent[2 + axis] = value;
        }
    if (geo->has_transform) {
        p.pixel[0] = hypot(geo->transform[1], geo->transform[4]);
        p.pixel[1] = hypot(geo->transform[2], geo->transform[5]);
    } else if (p.has_extent) { /* along the upper and the left edge */
        p.pixel[0] = distance(corners[0], corners[1]) / about->width;
        p.pixel[1] = distance(corners[0], corners[2]) / about->height;
    }
    p.has_centre = locator != NULL && gp_locator_to_wgs84(locator, p.centre, 1, p.centre, &told);
    gp_status_clear(&told);
    gp_locator_close(locator);
    return p;
}
