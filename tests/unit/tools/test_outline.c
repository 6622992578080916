/** Outlines of random masks: filled again they are the mask; rings are simple, polygons as many as an
 * independent flood fill finds, and valid for GEOS. */
#include "kernels/base/memory.h"
#include "tests/unit/tools/encode.h"
#include "tools/geopixel/outputs/outline.h"

#include <geos_c.h>

static int width, height;
static uint8_t pixels[4096], filled[4096];

/** Even-odd fill at pixel centres, ring by ring: an edge turns over all pixels to its right. */
static void fill(const gp_polygons *polygons) {
    memset(filled, 0, sizeof filled);
    for (size_t p = 0; p < polygons->count; p++)
        for (size_t r = 0; r < polygons->polygons[p].ring_count; r++) {
            const gp_ring *ring = &polygons->polygons[p].rings[r];
            for (size_t i = 0; i < ring->count; i++) {
                const double *a = ring->points + 2 * i, *b = ring->points + 2 * ((i + 1) % ring->count);
                CHECK((a[0] == b[0]) != (a[1] == b[1]), "an edge that is not along pixels");
                int low = (int)fmin(a[1], b[1]), high = (int)fmax(a[1], b[1]);
                for (int y = low; y < high; y++)
                    for (int x = (int)a[0]; x < width; x++) filled[y * width + x] ^= 1;
            }
        }
}

static void flood(uint8_t *left, int x, int y, int value) {
    if (x < 0 || y < 0 || x >= width || y >= height || left[y * width + x] != value) return;
    left[y * width + x] = 9;
    for (int dy = -1; dy <= 1; dy++)
        for (int dx = -1; dx <= 1; dx++)
            if ((dx != 0 || dy != 0) && (dx == 0 || dy == 0)) flood(left, x + dx, y + dy, value);
}

static int parts(void) {
    uint8_t left[4096];
    int count = 0;
    memcpy(left, pixels, sizeof left);
    for (int i = 0; i < width * height; i++)
        if (left[i] == 1) {
            count++;
            flood(left, i % width, i / width, 1);
        }
    return count;
}

static double twice_area(const gp_ring *ring) {
    double area = 0;
    for (size_t i = 0; i < ring->count; i++) {
        const double *a = ring->points + 2 * i, *b = ring->points + 2 * ((i + 1) % ring->count);
        area += a[0] * b[1] - b[0] * a[1];
    }
    return area;
}

/** A polygon as GEOS has it. */
static GEOSGeometry *to_geos(GEOSContextHandle_t geos, const gp_polygon *polygon) {
    GEOSGeometry *rings[1024];
    REQUIRE(polygon->ring_count <= 1024, "%zu rings", polygon->ring_count);
    for (size_t r = 0; r < polygon->ring_count; r++) {
        const gp_ring *ring = &polygon->rings[r];
        GEOSCoordSequence *points = GEOSCoordSeq_create_r(geos, (unsigned)ring->count + 1, 2);
        for (size_t i = 0; i <= ring->count; i++)
            GEOSCoordSeq_setXY_r(geos, points, (unsigned)i, ring->points[2 * (i % ring->count)],
                                 ring->points[2 * (i % ring->count) + 1]);
        rings[r] = GEOSGeom_createLinearRing_r(geos, points);
    }
    return GEOSGeom_createPolygon_r(geos, rings[0], rings + 1, (unsigned)polygon->ring_count - 1);
}

/** Whether GEOS calls all of them together a valid multipolygon. */
static bool are_valid(const gp_polygons *polygons) {
    static GEOSGeometry *parts[4096];
    GEOSContextHandle_t geos = GEOS_init_r();
    for (size_t p = 0; p < polygons->count; p++) parts[p] = to_geos(geos, &polygons->polygons[p]);
    GEOSGeometry *whole =
        GEOSGeom_createCollection_r(geos, GEOS_MULTIPOLYGON, parts, (unsigned)polygons->count);
    bool valid = GEOSisValid_r(geos, whole) == 1;
    GEOSGeom_destroy_r(geos, whole);
    GEOS_finish_r(geos);
    return valid;
}

static void check_mask(double tolerance) {
    gp_rle mask = encode(pixels, width, height);
    gp_polygons polygons;
    gp_status status = {0};
    REQUIRE(gp_outline(&mask, tolerance, &polygons, &status), "%s", status.message);
    CHECK((int)polygons.count == parts(), "%d x %d: %zu polygons, %d parts", width, height, polygons.count,
          parts());
    CHECK(are_valid(&polygons), "%d x %d, tolerance %g", width, height, tolerance);
    for (size_t p = 0; p < polygons.count; p++) {
        const gp_polygon *polygon = &polygons.polygons[p];
        for (size_t r = 0; r < polygon->ring_count; r++) {
            const gp_ring *ring = &polygon->rings[r];
            CHECK((twice_area(ring) > 0) == (r == 0), "ring %zu runs the wrong way", r);
            for (size_t i = 0; i < ring->count; i++)
                for (size_t k = i + 1; k < ring->count && ring->count < 300; k++)
                    CHECK(ring->points[2 * i] != ring->points[2 * k] ||
                              ring->points[2 * i + 1] != ring->points[2 * k + 1],
                          "a corner comes twice");
        }
    }
    if (tolerance == 0) {
        fill(&polygons);
        for (int i = 0; i < width * height; i++)
            CHECK(filled[i] == pixels[i], "%d x %d: pixel %d", width, height, i);
    }
    gp_polygons_clear(&polygons);
    gp_rle_free(&mask);
}

int main(void) {
    uint64_t seed = fresh_seed();
    for (int round = 0; round < 600; round++) {
        width = 1 + (int)(random_bits(&seed) % 60);
        height = round % 7 == 0 ? 1 : 1 + (int)(random_bits(&seed) % 60);
        if (round % 11 == 0) width = 1;
        int density = 5 + (int)(random_bits(&seed) % 94);
        bool is_blocky = round % 3 == 0; /* larger shapes */
        memset(pixels, 0, sizeof pixels);
        for (int i = 0; i < width * height; i++) {
            int cell = is_blocky ? i / width / 5 * 13 + i % width / 4 : i;
            uint64_t own = is_blocky ? (uint64_t)(cell + 1) * 0x9E3779B97F4A7C15u ^ (uint64_t)round : 0;
            pixels[i] = (is_blocky ? random_bits(&own) : random_bits(&seed)) % 100 < (uint64_t)density;
            if (round % 50 == 1) pixels[i] = (i / width + i % width) % 2 == 0;           /* a chessboard */
            if (round % 50 == 2) pixels[i] = (i / width / 2) % 2 == 0 || i % width == 0; /* a comb */
            if (round % 50 == 3) pixels[i] = 1;
            if (round % 50 == 4) pixels[i] = 0;
        }
        check_mask(0);
        check_mask(1.5);
    }
    return check_done();
}
