#include "loaders/geo/locator.h"

#include "kernels/base/memory.h"

#include <geodesic.h>
#include <math.h>
#include <proj.h>
#include <stdio.h>
#include <string.h>

enum { TERMS_MAX = 6 }; /* 1, u, v, u², uv, v² */

/** x and y as polynomials of the place on the picture, in coordinates scaled to about −1 … 1. */
typedef struct polynomial {
    int terms;                 /* 3 or 6 */
    double column, row, scale; /* u = (column − this) / scale */
    double x, y;               /* the middle of the control points, added in the end */
    double coefficients[2][TERMS_MAX];
} polynomial;

struct gp_locator {
    const gp_georeference *georeference;
    polynomial fit; /* where the georeference has no transform */
    PJ_CONTEXT *context;
    PJ *to_wgs84;
};

static bool fit_polynomial(const gp_georeference *georeference, polynomial *fit, gp_status *status);
static bool open_projection(gp_locator *locator, gp_status *status);

/** A context that asks no server and prints nothing. */
static PJ_CONTEXT *quiet_context(void) {
    PJ_CONTEXT *context = proj_context_create();
    if (context == NULL) return NULL;
    proj_context_set_enable_network(context, 0);
    proj_log_level(context, PJ_LOG_NONE);
    return context;
}

bool gp_locator_open(const gp_georeference *georeference, gp_locator **out, gp_status *status) {
    *out = NULL;
    if (!gp_georeference_is_placed(georeference)) return gp_fail(status, "the scene is not georeferenced");
    gp_locator *locator = gp_allocate_zeroed(1, sizeof *locator);
    if (locator == NULL) return gp_fail(status, "no memory for a locator");
    locator->georeference = georeference;
    if ((georeference->has_transform || fit_polynomial(georeference, &locator->fit, status)) &&
        open_projection(locator, status)) {
        *out = locator;
        return true;
    }
    gp_locator_close(locator);
    return false;
}

void gp_locator_close(gp_locator *locator) {
    if (locator == NULL) return;
    proj_destroy(locator->to_wgs84);
    if (locator->context != NULL) proj_context_destroy(locator->context);
    gp_free(locator);
}

static bool open_projection(gp_locator *locator, gp_status *status) {
    const char *text = locator->georeference->crs;
    locator->context = quiet_context();
    if (locator->context == NULL) return gp_fail(status, "no memory for PROJ");
    PJ *crs = proj_create(locator->context, text);
    const char *body = crs != NULL ? proj_get_celestial_body_name(locator->context, crs) : NULL;
    bool is_earth = body == NULL || strcmp(body, "Earth") == 0;
    if (!is_earth)
        gp_fail(status, "the CRS %.80s is of another body (%s), which WGS 84 does not cover", text, body);
    proj_destroy(crs);
    if (!is_earth) return false;
    /* EPSG:4326 and not OGC:CRS84, whose candidates PROJ ranks otherwise: GDAL's choice for NAD83. */
    PJ *plain = proj_create_crs_to_crs(locator->context, text, "EPSG:4326", NULL);
    if (plain != NULL) locator->to_wgs84 = proj_normalize_for_visualization(locator->context, plain);
    proj_destroy(plain);
    return locator->to_wgs84 != NULL ||
           gp_fail(status, "PROJ does not relate the CRS %.80s to WGS 84: %s", text,
                   proj_context_errno_string(locator->context, proj_context_errno(locator->context)));
}

/* ---- control points ---- */

static void terms_at(const polynomial *fit, double column, double row, double out[TERMS_MAX]) {
    double u = (column - fit->column) / fit->scale, v = (row - fit->row) / fit->scale;
    memcpy(out, (const double[TERMS_MAX]){1, u, v, u * u, u * v, v * v}, sizeof(double) * TERMS_MAX);
}

/** Solves the normal equations [n][n + 2] in place by elimination with pivots; false where they are
 * singular. */
static bool solve(double equations[TERMS_MAX][TERMS_MAX + 2], int n) {
    for (int i = 0; i < n; i++) {
        int pivot = i;
        for (int k = i + 1; k < n; k++)
            if (fabs(equations[k][i]) > fabs(equations[pivot][i])) pivot = k;
        if (fabs(equations[pivot][i]) < 1e-10) return false; /* of sums of values up to 1 */
        for (int c = 0; c < n + 2; c++) {
            double held = equations[i][c];
            equations[i][c] = equations[pivot][c];
            equations[pivot][c] = held;
        }
        for (int k = 0; k < n; k++) {
            double factor = k == i ? 0 : equations[k][i] / equations[i][i];
            for (int c = i; c < n + 2 && factor != 0; c++) equations[k][c] -= factor * equations[i][c];
        }
    }
    for (int i = 0; i < n; i++)
        for (int c = n; c < n + 2; c++) equations[i][c] /= equations[i][i];
    return true;
}

static bool fit_order(const gp_georeference *georeference, int terms, polynomial *fit) {
    double equations[TERMS_MAX][TERMS_MAX + 2] = {{0}}, at[TERMS_MAX];
    fit->terms = terms;
    for (size_t i = 0; i < georeference->control_point_count; i++) {
        const gp_control_point *point = &georeference->control_points[i];
        terms_at(fit, point->column, point->row, at);
        for (int a = 0; a < terms; a++) {
            for (int b = 0; b < terms; b++) equations[a][b] += at[a] * at[b];
            equations[a][terms] += at[a] * (point->x - fit->x);
            equations[a][terms + 1] += at[a] * (point->y - fit->y);
        }
    }
    if (!solve(equations, terms)) return false;
    for (int a = 0; a < terms; a++) {
        fit->coefficients[0][a] = equations[a][terms];
        fit->coefficients[1][a] = equations[a][terms + 1];
    }
    return true;
}

static bool fit_polynomial(const gp_georeference *georeference, polynomial *fit, gp_status *status) {
    size_t count = georeference->control_point_count;
    const gp_control_point *points = georeference->control_points;
    *fit = (polynomial){0};
    for (size_t i = 0; i < count; i++) {
        fit->column += points[i].column / (double)count;
        fit->row += points[i].row / (double)count;
        fit->x += points[i].x / (double)count;
        fit->y += points[i].y / (double)count;
    }
    for (size_t i = 0; i < count; i++) {
        fit->scale = fmax(fit->scale, fabs(points[i].column - fit->column));
        fit->scale = fmax(fit->scale, fabs(points[i].row - fit->row));
    }
    return (fit->scale > 0 &&
            ((count >= 6 && fit_order(georeference, 6, fit)) || fit_order(georeference, 3, fit))) ||
           gp_fail(status, "its %zu control points lie on a line of the picture, so they place nothing",
                   count);
}

/* ---- points ---- */

void gp_locator_to_crs(const gp_locator *locator, const double *pixels, size_t count, double *out) {
    const double *t = locator->georeference->transform;
    const polynomial *fit = &locator->fit;
    for (size_t i = 0; i < count; i++) {
        double column = pixels[2 * i], row = pixels[2 * i + 1], at[TERMS_MAX];
        if (locator->georeference->has_transform) {
            out[2 * i] = t[0] + column * t[1] + row * t[2];
            out[2 * i + 1] = t[3] + column * t[4] + row * t[5];
            continue;
        }
        terms_at(fit, column, row, at);
        double x = fit->x, y = fit->y;
        for (int a = 0; a < fit->terms; a++) {
            x += fit->coefficients[0][a] * at[a];
            y += fit->coefficients[1][a] * at[a];
        }
        out[2 * i] = x;
        out[2 * i + 1] = y;
    }
}

bool gp_locator_to_wgs84(const gp_locator *locator, const double *pixels, size_t count, double *out,
                         gp_status *status) {
    if (count == 0) return true;
    const double column = pixels[0], row = pixels[1];
    gp_locator_to_crs(locator, pixels, count, out);
    proj_trans_generic(locator->to_wgs84, PJ_FWD, out, 2 * sizeof *out, count, out + 1, 2 * sizeof *out,
                       count, NULL, 0, 0, NULL, 0, 0);
    for (size_t i = 0; i < count; i++) {
        double *point = out + 2 * i;
        if (!isfinite(point[0]) || !isfinite(point[1]) || fabs(point[1]) > 90)
            return gp_fail(status,
                           "point %zu of %zu from pixel (%g, %g) on has no place on Earth in the CRS %.80s",
                           i, count, column, row, locator->georeference->crs);
        if (point[0] > 180 || point[0] < -180) point[0] = remainder(point[0], 360);
    }
    return true;
}

double gp_geodesic_area(const double *ring, size_t count) {
    struct geod_geodesic ellipsoid;
    struct geod_polygon polygon;
    double area = 0, perimeter = 0;
    geod_init(&ellipsoid, 6378137, 1 / 298.257223563);
    geod_polygon_init(&polygon, 0);
    for (size_t i = 0; i < count; i++)
        geod_polygon_addpoint(&ellipsoid, &polygon, ring[2 * i + 1], ring[2 * i]);
    geod_polygon_compute(&ellipsoid, &polygon, 0, 1, &area, &perimeter);
    return fabs(area);
}

char *gp_crs_wkt(const gp_georeference *georeference, gp_status *status) {
    PJ_CONTEXT *context = quiet_context();
    PJ *crs = context != NULL && georeference->crs != NULL ? proj_create(context, georeference->crs) : NULL;
    static const char *const options[] = {"MULTILINE=NO", NULL};
    const char *text = NULL;
    if (crs != NULL) text = proj_as_wkt(context, crs, PJ_WKT1_GDAL, options);
    if (crs != NULL && text == NULL) text = proj_as_wkt(context, crs, PJ_WKT2_2019, options);
    char *copy = text != NULL ? gp_copy_text(text) : NULL;
    if (copy == NULL)
        gp_fail(status, "PROJ has no WKT for the CRS %.80s",
                georeference->crs != NULL ? georeference->crs : "(none)");
    proj_destroy(crs);
    if (context != NULL) proj_context_destroy(context);
    return copy;
}
