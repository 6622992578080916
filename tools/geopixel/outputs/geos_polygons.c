#include "tools/geopixel/outputs/geos_polygons.h"

#include "kernels/base/memory.h"

#include <string.h>

/* ---- to GEOS ---- */

static GEOSGeometry *ring_to_geos(GEOSContextHandle_t geos, const gp_ring *ring) {
    GEOSCoordSequence *points = GEOSCoordSeq_create_r(geos, (unsigned)ring->count + 1, 2);
    for (size_t i = 0; i <= ring->count && points != NULL; i++) {
        const double *point = ring->points + 2 * (i % ring->count);
        GEOSCoordSeq_setXY_r(geos, points, (unsigned)i, point[0], point[1]);
    }
    return points != NULL ? GEOSGeom_createLinearRing_r(geos, points) : NULL;
}

static GEOSGeometry *polygon_to_geos(GEOSContextHandle_t geos, const gp_polygon *polygon) {
    size_t count = 0;
    GEOSGeometry **rings = gp_allocate_zeroed(polygon->ring_count, sizeof(GEOSGeometry *)), *whole = NULL;
    while (rings != NULL && count < polygon->ring_count &&
           (rings[count] = ring_to_geos(geos, &polygon->rings[count])) != NULL)
        count++;
    if (rings != NULL && count == polygon->ring_count) { /* which takes the rings */
        whole = GEOSGeom_createPolygon_r(geos, rings[0], rings + 1, (unsigned)count - 1);
        count = 0;
    }
    for (size_t i = 0; i < count; i++) GEOSGeom_destroy_r(geos, rings[i]);
    gp_free(rings);
    return whole;
}

GEOSGeometry *gp_geos_multipolygon(GEOSContextHandle_t geos, const gp_polygons *polygons) {
    size_t count = 0;
    GEOSGeometry **parts = gp_allocate_zeroed(polygons->count, sizeof(GEOSGeometry *)), *whole = NULL;
    while (parts != NULL && count < polygons->count &&
           (parts[count] = polygon_to_geos(geos, &polygons->polygons[count])) != NULL)
        count++;
    if (parts != NULL && count == polygons->count) { /* which takes the parts */
        whole = GEOSGeom_createCollection_r(geos, GEOS_MULTIPOLYGON, parts, (unsigned)count);
        count = 0;
    }
    for (size_t i = 0; i < count; i++) GEOSGeom_destroy_r(geos, parts[i]);
    gp_free(parts);
    return whole;
}

/* ---- and back ---- */

gp_polygon *gp_polygons_add(gp_polygons *polygons, size_t rings) {
    if ((polygons->count & (polygons->count - 1)) == 0) {
        size_t more = polygons->count > 0 ? 2 * polygons->count : 1;
        gp_polygon *grown =
            gp_grow(polygons->polygons, polygons->count * sizeof *grown, more * sizeof *grown);
        if (grown == NULL) return NULL;
        polygons->polygons = grown;
    }
    gp_polygon *polygon = &polygons->polygons[polygons->count];
    *polygon = (gp_polygon){.rings = gp_allocate_zeroed(rings, sizeof *polygon->rings), .ring_count = rings};
    if (polygon->rings == NULL) return NULL;
    polygons->count++;
    return polygon;
}

void gp_ring_orient(gp_ring *ring, bool is_outer) {
    double area = 0, *points = ring->points;
    for (size_t i = 0; i < ring->count; i++) {
        size_t next = (i + 1) % ring->count;
        /* From the first point on: far from 0, 0 the products of small rings would cancel. */
        area += (points[2 * i] - points[0]) * (points[2 * next + 1] - points[1]) -
                (points[2 * next] - points[0]) * (points[2 * i + 1] - points[1]);
    }
    if ((area > 0) == is_outer) return;
    for (size_t i = 0, k = ring->count - 1; i < k; i++, k--) {
        double held[2] = {points[2 * i], points[2 * i + 1]};
        memcpy(points + 2 * i, points + 2 * k, sizeof held);
        memcpy(points + 2 * k, held, sizeof held);
    }
}

static bool take_ring(GEOSContextHandle_t geos, const GEOSGeometry *from, bool is_outer, gp_ring *out) {
    const GEOSCoordSequence *points = GEOSGeom_getCoordSeq_r(geos, from);
    unsigned count = 0;
    if (points == NULL || !GEOSCoordSeq_getSize_r(geos, points, &count) || count < 4) return false;
    out->points = gp_allocate((size_t)(count - 1) * 2 * sizeof(double));
    if (out->points == NULL) return false;
    out->count = count - 1;
    for (unsigned i = 0; i < count - 1; i++)
        GEOSCoordSeq_getXY_r(geos, points, i, &out->points[2 * i], &out->points[2 * i + 1]);
    gp_ring_orient(out, is_outer);
    return true;
}

bool gp_geos_take_polygons(GEOSContextHandle_t geos, const GEOSGeometry *from, gp_polygons *out) {
    bool done = true;
    if (GEOSisEmpty_r(geos, from)) return true;
    if (GEOSGeomTypeId_r(geos, from) != GEOS_POLYGON) {
        int count = GEOSGetNumGeometries_r(geos, from);
        for (int i = 0; i < count && done && GEOSGeom_getDimensions_r(geos, from) == 2; i++)
            done = gp_geos_take_polygons(geos, GEOSGetGeometryN_r(geos, from, i), out);
        return done;
    }
    int holes = GEOSGetNumInteriorRings_r(geos, from);
    gp_polygon *polygon = holes >= 0 ? gp_polygons_add(out, (size_t)holes + 1) : NULL;
    done = polygon != NULL && take_ring(geos, GEOSGetExteriorRing_r(geos, from), true, &polygon->rings[0]);
    for (int i = 0; i < holes && done; i++)
        done = take_ring(geos, GEOSGetInteriorRingN_r(geos, from, i), false, &polygon->rings[i + 1]);
    return done;
}
