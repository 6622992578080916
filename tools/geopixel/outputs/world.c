/**
 * Each ring's corners go to longitude and latitude; where the middle of an edge strays from the middle of its
 * ends by a hundredth of a pixel the edge is halved, and again. Longitudes run on beyond ±180° where the ring
 * does. A ring that stays within is done; of the others GEOS takes the parts between −180° and 180°, 180° and
 * 540°, …, each moved to its place. A ring that comes back 360° further has gone round a pole, and is closed
 * over ±90°. Polar grids like to have the pole in a corner of pixels, where no longitude is: then all is
 * moved by a thousandth of a pixel. Where the pole is a line of the picture (plain degrees), longitudes are
 * those along the line and nothing moves.
 */
#include "tools/geopixel/outputs/world.h"

#include "kernels/base/memory.h"
#include "tools/geopixel/outputs/geos_polygons.h"

#include <math.h>
#include <string.h>

enum { DEPTH_MAX = 20, TURNS_MAX = 2, SHORT_EDGE = 4 /* pixels */ };
static const double STRAY_MAX = 0.01, STRAY_OF_POLE = 0.05; /* pixels */
static const double POLE_NEAR = 1e-7;                       /* degrees: a centimetre */
#define POLE_SHIFT 1e-3                                     /* pixels */
/* Degrees of longitude from an end of an edge to a point of it: so that no step between points comes near
 * 180°, where east and west are alike. */
static const double STEP_MAX = 60;
/* Coordinates are whole multiples of 2^-30 degrees, a tenth of a millimetre: then ±360° changes no bit of
 * them, and corners in which rings meet stay the same. */
static const double GRID = 0x1p-30;
/* Degrees of longitude. Between two points of a ring the line is straight in degrees, for the area it is a
 * geodesic: they part by 0.3 m at most over this length. */
static const double AREA_STEP = 0.05;
/* WGS 84's ellipsoid. */
static const double SEMI_MAJOR = 6378137, ECCENTRICITY = 0.0818191908426215;

/** Points [count][2] that grow. */
typedef struct point_list {
    double *points;
    size_t count, capacity;
} point_list;

/** A ring in degrees, unwrapped. */
typedef struct world_ring {
    point_list list;
    int turns;    /* round a pole, eastward positive */
    bool is_wide; /* beyond ±180° */
    bool at_pole; /* a point of it is where no longitude is */
} world_ring;

static bool project_ring(const gp_ring *ring, const double shift[2], const gp_locator *locator,
                         world_ring *out, gp_status *status);
static bool ring_area(const world_ring *ring, double *area);
static bool keep_rings(world_ring *rings, size_t count, gp_polygons *out);
static bool cut_rings(const world_ring *rings, size_t count, gp_polygons *out);
static bool join_at_seam(gp_polygons *out);

/** One polygon; `at_pole` becomes true where a point of it has no longitude, `is_cut` where it leaves ±180°.
 */
static bool convert(const gp_polygon *polygon, const double shift[2], const gp_locator *locator,
                    gp_polygons *out, double *area, bool *at_pole, bool *is_cut, gp_status *status) {
    world_ring *rings = gp_allocate_zeroed(polygon->ring_count, sizeof *rings);
    bool is_wide = false, done = rings != NULL || gp_fail(status, "no memory for an outline in degrees");
    for (size_t k = 0; k < polygon->ring_count && done; k++) {
        double own = 0;
        done = project_ring(&polygon->rings[k], shift, locator, &rings[k], status) &&
               (ring_area(&rings[k], &own) || gp_fail(status, "no memory for an outline in degrees"));
        *area += k == 0 ? own : -own;
        is_wide = is_wide || rings[k].is_wide || rings[k].turns != 0;
        *at_pole = *at_pole || rings[k].at_pole;
    }
    if (done && !*at_pole &&
        !(is_wide ? cut_rings(rings, polygon->ring_count, out) : keep_rings(rings, polygon->ring_count, out)))
        done = gp_fail(status, "an outline cannot be cut at the antimeridian");
    for (size_t k = 0; rings != NULL && k < polygon->ring_count; k++) gp_free(rings[k].list.points);
    gp_free(rings);
    *is_cut = *is_cut || is_wide;
    return done;
}

bool gp_polygons_to_wgs84(const gp_polygons *pixels, const gp_locator *locator, gp_polygons *out,
                          double *area, gp_status *status) {
    static const double shifts[2][2] = {{0, 0}, {POLE_SHIFT, POLE_SHIFT * 0.7}};
    bool done = true, at_pole = true, is_cut = false;
    *out = (gp_polygons){0};
    for (int attempt = 0; attempt < 2 && done && at_pole; attempt++) {
        gp_polygons_clear(out);
        *area = 0;
        at_pole = false;
        for (size_t i = 0; i < pixels->count && done && !at_pole; i++)
            done =
                convert(&pixels->polygons[i], shifts[attempt], locator, out, area, &at_pole, &is_cut, status);
    }
    if (done && at_pole)
        done = gp_fail(status, "an outline has corners at a pole that cannot be moved off it");
    if (done && is_cut && out->count > 1 && !join_at_seam(out))
        done = gp_fail(status, "outlines cannot be joined where the picture's sides meet");
    if (!done) gp_polygons_clear(out);
    return done;
}

/* ---- to degrees ---- */

static bool add(point_list *list, const double point[2]) {
    if (list->count == list->capacity) {
        size_t more = list->capacity > 0 ? 2 * list->capacity : 16;
        double *grown = gp_grow(list->points, list->count * 2 * sizeof(double), more * 2 * sizeof(double));
        if (grown == NULL) return false;
        list->points = grown;
        list->capacity = more;
    }
    memcpy(list->points + 2 * list->count++, point, 2 * sizeof(double));
    return true;
}

/** The longitude that is `longitude` and within 180° of `near`. */
static double unwrap(double longitude, double near) {
    return longitude - 360 * round((longitude - near) / 360);
}

/**
 * Whether a point of an edge is near enough to the point of its chord at `share` of the way: by a hundredth
 * of a pixel, and close to a pole, where chords sweep over many longitudes, by a twentieth of the way to it.
 * On a pole that is a line that way is nothing, and rounding alone would halve the edge for ever.
 */
static bool is_near(const double a[2], const double b[2], const double point[2], double share,
                    double pixels) {
    if (fabs(unwrap(point[0], a[0]) - a[0]) > STEP_MAX || fabs(unwrap(b[0], point[0]) - point[0]) > STEP_MAX)
        return false;
    double shrink = cos((a[1] + b[1]) / 2 * M_PI / 180);
    double b_longitude = unwrap(b[0], a[0]), across = a[0] + (b_longitude - a[0]) * share;
    double length = hypot((b_longitude - a[0]) * shrink, b[1] - a[1]);
    double off = hypot((unwrap(point[0], across) - across) * shrink, point[1] - a[1] - (b[1] - a[1]) * share);
    return off * pixels <= STRAY_MAX * length && off <= STRAY_OF_POLE * fmax(90 - fabs(point[1]), POLE_NEAR);
}

/** Adds the points between two ends of an edge, given in pixels and degrees with its middle. A long edge may
 * be bent like an S about its middle, so its quarters are asked too. */
static bool add_between(point_list *list, const gp_locator *locator, const double from[2], const double to[2],
                        const double a[2], const double b[2], const double middle[2], int depth,
                        gp_status *status) {
    double pixels = hypot(to[0] - from[0], to[1] - from[1]);
    bool is_straight = is_near(a, b, middle, 0.5, pixels);
    if (depth == DEPTH_MAX || (is_straight && pixels <= SHORT_EDGE)) return true;
    double half[2] = {(from[0] + to[0]) / 2, (from[1] + to[1]) / 2};
    double quarters[4] = {(from[0] + half[0]) / 2, (from[1] + half[1]) / 2, (half[0] + to[0]) / 2,
                          (half[1] + to[1]) / 2};
    if (!gp_locator_to_wgs84(locator, quarters, 2, quarters, status)) return false;
    if (is_straight && is_near(a, b, quarters, 0.25, pixels) && is_near(a, b, quarters + 2, 0.75, pixels))
        return true;
    return add_between(list, locator, from, half, a, middle, quarters, depth + 1, status) &&
           (add(list, middle) || gp_fail(status, "no memory for an outline in degrees")) &&
           add_between(list, locator, half, to, middle, b, quarters + 2, depth + 1, status);
}

static bool is_at_pole(const double point[2]) {
    return fabs(point[1]) > 90 - POLE_NEAR;
}

/** Whether the pole at `pixel` is a line of the picture's row, not a point of it. */
static bool pole_is_line(const gp_locator *locator, const double pixel[2]) {
    double beside[4] = {pixel[0] - 0.5, pixel[1], pixel[0] + 0.5, pixel[1]};
    gp_status unplaced = {0}; /* then the pole is where the Earth ends */
    bool is_line = gp_locator_to_wgs84(locator, beside, 2, beside, &unplaced) && is_at_pole(beside) &&
                   is_at_pole(beside + 2);
    gp_status_clear(&unplaced);
    return is_line;
}

static bool project_ring(const gp_ring *ring, const double shift[2], const gp_locator *locator,
                         world_ring *out, gp_status *status) {
    size_t count = ring->count, bytes = count * 2 * sizeof(double);
    double *pixels = gp_allocate(bytes), *corners = gp_allocate(bytes), *middles = gp_allocate(bytes);
    bool done = (pixels != NULL && corners != NULL && middles != NULL) ||
                gp_fail(status, "no memory for an outline in degrees");
    for (size_t i = 0; i < 2 * count && done; i++) pixels[i] = ring->points[i] + shift[i % 2];
    for (size_t i = 0; i < 2 * count && done; i++)
        middles[i] = (pixels[i] + pixels[(i + 2) % (2 * count)]) / 2;
    done = done && gp_locator_to_wgs84(locator, pixels, count, corners, status) &&
           gp_locator_to_wgs84(locator, middles, count, middles, status);
    for (size_t i = 0; i < count && done; i++) {
        size_t next = (i + 1) % count;
        done = (add(&out->list, corners + 2 * i) || gp_fail(status, "no memory for an outline in degrees")) &&
               add_between(&out->list, locator, pixels + 2 * i, pixels + 2 * next, corners + 2 * i,
                           corners + 2 * next, middles + 2 * i, 0, status);
    }
    bool is_line = false;
    for (size_t i = 0; i < count && done && !is_line; i++)
        is_line = is_at_pole(corners + 2 * i) && pole_is_line(locator, pixels + 2 * i);
    gp_free(pixels);
    gp_free(corners);
    gp_free(middles);
    if (!done) return false;
    double *points = out->list.points;
    for (size_t i = 0; i < 2 * out->list.count; i++) points[i] = nearbyint(points[i] / GRID) * GRID;
    for (size_t i = 1; i < out->list.count; i++) points[2 * i] = unwrap(points[2 * i], points[2 * i - 2]);
    double end = unwrap(points[0], points[2 * out->list.count - 2]);
    out->turns = (int)round((end - points[0]) / 360);
    for (size_t i = 0; i < out->list.count; i++) {
        out->is_wide = out->is_wide || points[2 * i] > 180 || points[2 * i] < -180;
        out->at_pole = out->at_pole || (!is_line && is_at_pole(points + 2 * i));
    }
    return true;
}

/** Area in m² for each radian of longitude between the equator and a latitude. */
static double zone_area(double latitude) {
    double sine = sin(latitude * M_PI / 180), e = ECCENTRICITY;
    return SEMI_MAJOR * SEMI_MAJOR * (1 - e * e) / 2 *
           (sine / (1 - e * e * sine * sine) + atanh(e * sine) / e);
}

/**
 * Geodesic area in m². Of the two sides of a ring gp_geodesic_area takes the smaller; a sum of zones says
 * whether the ring holds the larger.
 */
static bool ring_area(const world_ring *ring, double *area) {
    point_list list = {0};
    const double *points = ring->list.points;
    double earth = 4 * M_PI * zone_area(90), zones = 0;
    bool done = true;
    for (size_t i = 0; i < ring->list.count && done; i++) {
        const double *a = points + 2 * i, *b = points + 2 * ((i + 1) % ring->list.count);
        double across = unwrap(b[0], a[0]) - a[0], up = b[1] - a[1];
        int pieces = 1 + (int)(fabs(across) / AREA_STEP);
        zones += across * M_PI / 180 * (zone_area(a[1]) + zone_area(b[1])) / 2;
        for (int n = 0; n < pieces && done; n++)
            done = add(&list, (const double[2]){a[0] + across * n / pieces, a[1] + up * n / pieces});
    }
    if (done) *area = gp_geodesic_area(list.points, list.count);
    if (done && ring->turns == 0 && fabs(zones) > earth / 2) *area = earth - *area;
    gp_free(list.points);
    return done;
}

/* ---- polygons ---- */

/** A polygon within ±180°: its rings as they are; they move into `out`. */
static bool keep_rings(world_ring *rings, size_t count, gp_polygons *out) {
    gp_polygon *polygon = gp_polygons_add(out, count);
    if (polygon == NULL) return false;
    for (size_t i = 0; i < count; i++) {
        polygon->rings[i] = (gp_ring){rings[i].list.points, rings[i].list.count};
        rings[i].list = (point_list){0};
        gp_ring_orient(&polygon->rings[i], i == 0);
    }
    return true;
}

/* ---- the antimeridian and the poles ---- */

/**
 * What a ring encloses, unwrapped; round a pole all that lies between it and the pole. There it begins with
 * its point that is nearest the pole, so that the way up from there meets no other part of it.
 */
static GEOSGeometry *enclosed(GEOSContextHandle_t geos, const world_ring *ring) {
    const double *points = ring->list.points;
    size_t count = ring->list.count, closing = ring->turns != 0 ? 4 : 1, first = 0;
    GEOSCoordSequence *sequence = GEOSCoordSeq_create_r(geos, (unsigned)(count + closing), 2);
    if (sequence == NULL) return NULL;
    double latitude = 0, turn = 360.0 * ring->turns;
    for (size_t i = 0; i < count; i++) latitude += points[2 * i + 1];
    double pole = latitude > 0 ? 90 : -90;
    for (size_t i = 0; i < count && ring->turns != 0; i++)
        if (fabs(pole - points[2 * i + 1]) < fabs(pole - points[2 * first + 1])) first = i;
    for (size_t i = 0; i < count; i++) {
        size_t from = (first + i) % count;
        GEOSCoordSeq_setXY_r(geos, sequence, (unsigned)i, points[2 * from] + (from < first ? turn : 0),
                             points[2 * from + 1]);
    }
    unsigned at = (unsigned)count;
    const double *start = points + 2 * first;
    if (ring->turns != 0) {
        GEOSCoordSeq_setXY_r(geos, sequence, at++, start[0] + turn, start[1]);
        GEOSCoordSeq_setXY_r(geos, sequence, at++, start[0] + turn, pole);
        GEOSCoordSeq_setXY_r(geos, sequence, at++, start[0], pole);
    }
    GEOSCoordSeq_setXY_r(geos, sequence, at, start[0], start[1]);
    GEOSGeometry *shell = GEOSGeom_createLinearRing_r(geos, sequence);
    return shell != NULL ? GEOSGeom_createPolygon_r(geos, shell, NULL, 0) : NULL;
}

static int shift_west(double *x, double *y, void *turns) {
    (void)y;
    *x -= 360 * *(const int *)turns;
    return 1;
}

/** `whole` within ±180°, each part that lies beyond moved there. Destroys `whole`. */
static GEOSGeometry *wrapped(GEOSContextHandle_t geos, GEOSGeometry *whole) {
    GEOSGeometry *all = GEOSGeom_createEmptyPolygon_r(geos);
    for (int turn = -TURNS_MAX; turn <= TURNS_MAX && all != NULL; turn++) {
        GEOSGeometry *part = GEOSClipByRect_r(geos, whole, -180 + 360 * turn, -90, 180 + 360 * turn, 90);
        GEOSGeometry *moved = part != NULL ? GEOSGeom_transformXY_r(geos, part, shift_west, &turn) : NULL;
        GEOSGeometry *joined = moved != NULL ? GEOSUnion_r(geos, all, moved) : NULL;
        GEOSGeom_destroy_r(geos, part);
        GEOSGeom_destroy_r(geos, moved);
        GEOSGeom_destroy_r(geos, all);
        all = joined;
    }
    GEOSGeom_destroy_r(geos, whole);
    return all;
}

static bool cut_rings(const world_ring *rings, size_t count, gp_polygons *out) {
    GEOSContextHandle_t geos = GEOS_init_r(); /* silent: no message handlers are set */
    if (geos == NULL) return false;
    GEOSGeometry *outer = enclosed(geos, &rings[0]), *whole = outer != NULL ? wrapped(geos, outer) : NULL;
    for (size_t i = 1; i < count && whole != NULL; i++) {
        GEOSGeometry *ring = enclosed(geos, &rings[i]), *hole = ring != NULL ? wrapped(geos, ring) : NULL;
        GEOSGeometry *left = hole != NULL ? GEOSDifference_r(geos, whole, hole) : NULL;
        GEOSGeom_destroy_r(geos, hole);
        GEOSGeom_destroy_r(geos, whole);
        whole = left;
    }
    if (whole != NULL && GEOSisValid_r(geos, whole) != 1) {
        GEOSGeometry *valid = GEOSMakeValid_r(geos, whole);
        GEOSGeom_destroy_r(geos, whole);
        whole = valid;
    }
    bool done = whole != NULL && gp_geos_take_polygons(geos, whole, out);
    GEOSGeom_destroy_r(geos, whole);
    GEOS_finish_r(geos);
    return done;
}

/**
 * On a picture that goes all round the Earth, polygons that its left and right sides part share an edge
 * there; they become one.
 */
static bool join_at_seam(gp_polygons *out) {
    GEOSContextHandle_t geos = GEOS_init_r();
    if (geos == NULL) return false;
    GEOSGeometry *all = gp_geos_multipolygon(geos, out), *joined = NULL;
    bool done = all != NULL;
    if (done && GEOSisValid_r(geos, all) != 1) {
        joined = GEOSUnaryUnion_r(geos, all);
        gp_polygons_clear(out);
        done = joined != NULL && gp_geos_take_polygons(geos, joined, out);
    }
    GEOSGeom_destroy_r(geos, all);
    GEOSGeom_destroy_r(geos, joined);
    GEOS_finish_r(geos);
    return done;
}
