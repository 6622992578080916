/**
 * Edges of pixels are followed with the mask on the right hand. Runs of each row, joined across rows by
 * union-find, tell which pixels belong together; they are asked only where two pixels of the mask meet in a
 * corner alone. If both are of one polygon the ring crosses over there, which splits it into two that touch,
 * else it turns and stays with its own; so no ring comes to a corner twice. Linear in edges; a byte a pixel
 * and a few a run of memory.
 */
#include "tools/geopixel/outputs/outline.h"

#include "kernels/base/memory.h"
#include "tools/geopixel/outputs/geos_polygons.h"

#include <stdint.h>
#include <string.h>

/** Pixels begin … end − 1 of a row. */
typedef struct row_run {
    int begin, end;
    uint32_t parent; /* another run of the same polygon, or itself */
    bool followed;   /* its left edge is part of a ring already */
} row_run;

typedef struct tracing {
    const uint8_t *pixels; /* [height, width] */
    int width, height;
    row_run *runs;
    size_t run_count, *rows; /* [height + 1]: the first run of each row */
    uint32_t *polygon_of;    /* [run_count]: of a root run, the polygon's index + 1 */
    gp_polygons *out;
} tracing;

/* Turning right is the next. */
typedef enum heading { NORTH, EAST, SOUTH, WEST } heading;

static const int step_x[] = {0, 1, 0, -1}, step_y[] = {-1, 0, 1, 0};

static bool collect_runs(tracing *t);
static void join_runs(tracing *t);
static bool follow_ring(tracing *t, row_run *start, int row, gp_ring *ring);
static bool keep_ring(tracing *t, size_t run, const gp_ring *ring);
static bool simplify(gp_polygons *polygons, double tolerance, gp_status *status);

bool gp_outline(const gp_rle *mask, double tolerance, gp_polygons *out, gp_status *status) {
    tracing t = {.width = mask->width, .height = mask->height, .out = out};
    *out = (gp_polygons){0};
    uint8_t *pixels = gp_allocate((size_t)mask->width * (size_t)mask->height);
    if (pixels != NULL) gp_rle_decode(mask, pixels);
    t.pixels = pixels;
    bool done = pixels != NULL && collect_runs(&t);
    if (done) join_runs(&t);
    for (int row = 0; row < t.height && done; row++) {
        for (size_t i = t.rows[row]; i < t.rows[row + 1] && done; i++) {
            gp_ring ring = {0};
            if (t.runs[i].followed) continue;
            done = follow_ring(&t, &t.runs[i], row, &ring) && keep_ring(&t, i, &ring);
            if (!done) gp_free(ring.points);
        }
    }
    gp_free(pixels);
    gp_free(t.runs);
    gp_free(t.rows);
    gp_free(t.polygon_of);
    if (!done) gp_fail(status, "no memory for the outline of %d x %d pixels", mask->width, mask->height);
    done = done && (tolerance <= 0 || simplify(out, tolerance, status));
    if (!done) gp_polygons_clear(out);
    return done;
}

void gp_polygons_clear(gp_polygons *polygons) {
    for (size_t i = 0; i < polygons->count; i++) {
        gp_polygon *polygon = &polygons->polygons[i];
        for (size_t k = 0; k < polygon->ring_count; k++) gp_free(polygon->rings[k].points);
        gp_free(polygon->rings);
    }
    gp_free(polygons->polygons);
    *polygons = (gp_polygons){0};
}

/* ---- runs ---- */

/** The runs of a row; stored from `runs` on where that is not NULL. */
static size_t runs_of_row(const tracing *t, int row, row_run *runs) {
    const uint8_t *pixels = t->pixels + (size_t)row * (size_t)t->width;
    size_t count = 0;
    for (int x = 0; x < t->width;) {
        while (x < t->width && pixels[x] == 0) x++;
        if (x == t->width) break;
        int begin = x;
        while (x < t->width && pixels[x] != 0) x++;
        if (runs != NULL) runs[count] = (row_run){.begin = begin, .end = x};
        count++;
    }
    return count;
}

static bool collect_runs(tracing *t) {
    t->rows = gp_allocate_zeroed((size_t)t->height + 1, sizeof *t->rows);
    if (t->rows == NULL) return false;
    for (int row = 0; row < t->height; row++) t->rows[row + 1] = t->rows[row] + runs_of_row(t, row, NULL);
    t->run_count = t->rows[t->height];
    t->runs = gp_allocate_zeroed(t->run_count, sizeof *t->runs);
    t->polygon_of = gp_allocate_zeroed(t->run_count, sizeof *t->polygon_of);
    if (t->runs == NULL || t->polygon_of == NULL || t->run_count > UINT32_MAX - 1) return false;
    for (int row = 0; row < t->height; row++) runs_of_row(t, row, t->runs + t->rows[row]);
    for (size_t i = 0; i < t->run_count; i++) t->runs[i].parent = (uint32_t)i;
    return true;
}

static uint32_t root_of(tracing *t, uint32_t run) {
    while (t->runs[run].parent != run) {
        t->runs[run].parent = t->runs[t->runs[run].parent].parent;
        run = t->runs[run].parent;
    }
    return run;
}

/** Runs of neighbouring rows that share a column belong together. */
static void join_runs(tracing *t) {
    for (int row = 1; row < t->height; row++) {
        size_t above = t->rows[row - 1], here = t->rows[row];
        while (above < t->rows[row] && here < t->rows[row + 1]) {
            const row_run *a = &t->runs[above], *b = &t->runs[here];
            if (a->begin < b->end && b->begin < a->end) {
                uint32_t x = root_of(t, (uint32_t)above), y = root_of(t, (uint32_t)here);
                t->runs[x > y ? x : y].parent = x > y ? y : x;
            }
            if (a->end < b->end)
                above++;
            else
                here++;
        }
    }
}

/** The run of a pixel of the mask. */
static size_t run_at(const tracing *t, int x, int row) {
    size_t low = t->rows[row], high = t->rows[row + 1];
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (t->runs[middle].begin <= x)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* ---- rings ---- */

static bool is_mask(const tracing *t, int x, int y) {
    return x >= 0 && y >= 0 && x < t->width && y < t->height &&
           t->pixels[(size_t)y * (size_t)t->width + (size_t)x] != 0;
}

/** Where to go from corner (x, y), reached by `from`. */
static heading turn_at(tracing *t, int x, int y, heading from) {
    /* The pixels before a walker's left and right hand, and behind the right one, by their offset from the
     * corner: its pixels are (x − 1 or x, y − 1 or y). */
    static const int left_x[] = {-1, 0, 0, -1}, left_y[] = {-1, -1, 0, 0};
    heading right_turn = (heading)((from + 1) % 4), left_turn = (heading)((from + 3) % 4);
    int lx = x + left_x[from], ly = y + left_y[from];
    int rx = x + left_x[right_turn], ry = y + left_y[right_turn];
    bool left = is_mask(t, lx, ly), right = is_mask(t, rx, ry);
    if (right) return left ? left_turn : from;
    if (!left) return right_turn;
    int bx = x + left_x[(from + 2) % 4], by = y + left_y[(from + 2) % 4];
    bool is_same = root_of(t, (uint32_t)run_at(t, lx, ly)) == root_of(t, (uint32_t)run_at(t, bx, by));
    return is_same ? left_turn : right_turn;
}

static bool add_point(gp_ring *ring, size_t *capacity, int x, int y) {
    if (ring->count == *capacity) {
        size_t more = *capacity > 0 ? 2 * *capacity : 8;
        double *grown = gp_grow(ring->points, *capacity * 2 * sizeof(double), more * 2 * sizeof(double));
        if (grown == NULL) return false;
        ring->points = grown;
        *capacity = more;
    }
    ring->points[2 * ring->count] = x;
    ring->points[2 * ring->count++ + 1] = y;
    return true;
}

/** The ring that goes up along the left edge of a run. */
static bool follow_ring(tracing *t, row_run *start, int row, gp_ring *ring) {
    int x = start->begin, y = row + 1;
    size_t capacity = 0;
    heading going = NORTH;
    do {
        if (going == NORTH) t->runs[run_at(t, x, y - 1)].followed = true;
        x += step_x[going];
        y += step_y[going];
        heading next = turn_at(t, x, y, going);
        if (next != going && !add_point(ring, &capacity, x, y)) return false;
        going = next;
    } while (x != start->begin || y != row + 1 || going != NORTH);
    return true;
}

/** Rings come outer first: the topmost, leftmost pixel of a polygon lies on its outer one. */
static bool keep_ring(tracing *t, size_t run, const gp_ring *ring) {
    gp_polygons *out = t->out;
    uint32_t *index = &t->polygon_of[root_of(t, (uint32_t)run)];
    if (*index == 0) {
        if (gp_polygons_add(out, 0) == NULL) return false;
        *index = (uint32_t)out->count;
    }
    gp_polygon *polygon = &out->polygons[*index - 1];
    size_t count = polygon->ring_count; /* room for 1, 2, 4, … */
    if ((count & (count - 1)) == 0) {
        size_t more = count > 0 ? 2 * count : 1;
        gp_ring *grown = gp_grow(polygon->rings, count * sizeof *grown, more * sizeof *grown);
        if (grown == NULL) return false;
        polygon->rings = grown;
    }
    polygon->rings[polygon->ring_count++] = *ring;
    return true;
}

/* ---- simplification ---- */

/** Whether the simpler polygons are valid together, and each has the rings it had. */
static bool is_alike(GEOSContextHandle_t geos, const GEOSGeometry *simple, const gp_polygons *polygons) {
    if (simple == NULL || GEOSisValid_r(geos, simple) != 1 ||
        GEOSGetNumGeometries_r(geos, simple) != (int)polygons->count)
        return false;
    for (size_t i = 0; i < polygons->count; i++) {
        const GEOSGeometry *one = GEOSGetGeometryN_r(geos, simple, (int)i);
        if (GEOSisEmpty_r(geos, one) ||
            GEOSGetNumInteriorRings_r(geos, one) != (int)polygons->polygons[i].ring_count - 1)
            return false;
    }
    return true;
}

/** All polygons together, so that none is pushed over another. */
static bool simplify(gp_polygons *polygons, double tolerance, gp_status *status) {
    if (polygons->count == 0) return true;
    GEOSContextHandle_t geos = GEOS_init_r();
    GEOSGeometry *whole = geos != NULL ? gp_geos_multipolygon(geos, polygons) : NULL;
    bool done = whole != NULL;
    /* Where rings meet in corners GEOS may let them cross after all. Half the tolerance is tried then, and
     * below a quarter of a pixel nothing is left to be simplified: the outlines stay as they are. */
    for (bool found = false; done && !found && tolerance >= 0.25; tolerance /= 2) {
        GEOSGeometry *simple = GEOSTopologyPreserveSimplify_r(geos, whole, tolerance);
        found = is_alike(geos, simple, polygons);
        if (found) {
            gp_polygons_clear(polygons);
            done = gp_geos_take_polygons(geos, simple, polygons);
        }
        if (simple != NULL) GEOSGeom_destroy_r(geos, simple);
    }
    if (whole != NULL) GEOSGeom_destroy_r(geos, whole);
    if (geos != NULL) GEOS_finish_r(geos);
    return done || gp_fail(status, "an outline cannot be simplified: no memory");
}
