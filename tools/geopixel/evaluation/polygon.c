#include "tools/geopixel/evaluation/polygon.h"

#include "kernels/base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/** COCO walks a ring's edges on a grid five times as fine as the picture's. */
#define FINE     5
#define FARTHEST 1e5 /* pixels */

/** Where the ring goes, in fine cells: a list of points that grows. */
typedef struct trail {
    int *x, *y;
    size_t count, capacity;
} trail;

static bool fill_ring(const json_t *ring, int width, int height, uint8_t *pixels, size_t number,
                      gp_status *status);
static bool runs_of(const uint8_t *columns, int width, int height, gp_rle *mask);

bool gp_polygon_mask(const json_t *rings, int width, int height, gp_rle *mask, gp_status *status) {
    /* Columns one after the other, as run lengths have them. */
    uint8_t *pixels = gp_allocate_zeroed((size_t)width * (size_t)height, 1);
    bool done = pixels != NULL;
    if (!done) gp_fail(status, "no memory for a mask of %d x %d", width, height);
    if (done && !json_is_array(rings)) done = gp_fail(status, "the polygon is no list of rings");
    for (size_t i = 0; done && i < json_array_size(rings); i++)
        done = fill_ring(json_array_get(rings, i), width, height, pixels, i, status);
    if (done && !runs_of(pixels, width, height, mask)) done = gp_fail(status, "no memory for a mask's runs");
    gp_free(pixels);
    return done;
}

static bool put(trail *t, int x, int y) {
    if (t->count == t->capacity) {
        size_t capacity = 2 * t->capacity + 1024;
        int *wider_x = gp_grow(t->x, t->count * sizeof *t->x, capacity * sizeof *t->x);
        if (wider_x != NULL) t->x = wider_x;
        int *wider_y = gp_grow(t->y, t->count * sizeof *t->y, capacity * sizeof *t->y);
        if (wider_y != NULL) t->y = wider_y;
        if (wider_x == NULL || wider_y == NULL) return false;
        t->capacity = capacity;
    }
    t->x[t->count] = x;
    t->y[t->count++] = y;
    return true;
}

/** The fine cells from (x0, y0) to (x1, y1), both among them, one a step along the longer side; the other
 * coordinate is counted from the end that is lower along the longer side, so that an edge and its reverse are
 * the same cells. */
static bool put_edge(trail *t, int x0, int y0, int x1, int y1) {
    const int across = abs(x1 - x0), down = abs(y1 - y0);
    const bool flat = across >= down;
    const bool reversed = flat ? x0 > x1 : y0 > y1;
    const int from_x = reversed ? x1 : x0, from_y = reversed ? y1 : y0, to_x = reversed ? x0 : x1,
              to_y = reversed ? y0 : y1;
    const int steps = flat ? across : down;
    const double slope = steps == 0 ? 0
                         : flat     ? (double)(to_y - from_y) / steps
                                    : (double)(to_x - from_x) / steps;
    for (int i = 0; i <= steps; i++) {
        int step = reversed ? steps - i : i;
        int x = flat ? from_x + step : (int)(from_x + slope * step + 0.5);
        int y = flat ? (int)(from_y + slope * step + 0.5) : from_y + step;
        if (!put(t, x, y)) return false;
    }
    return true;
}

static int by_position(const void *a, const void *b) {
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

/** Sets what lies between every second pair of crossings with the columns' middles. */
static bool fill_between(const trail *t, int width, int height, uint8_t *pixels) {
    uint64_t *crossings = gp_allocate((t->count + 1) * sizeof *crossings);
    size_t count = 0;
    if (crossings == NULL) return false;
    for (size_t i = 1; i < t->count; i++) {
        if (t->x[i] == t->x[i - 1]) continue;
        double column = ((t->x[i] < t->x[i - 1] ? t->x[i] : t->x[i] - 1) + 0.5) / FINE - 0.5;
        if (floor(column) != column || column < 0 || column > width - 1) continue;
        double row = ((t->y[i] < t->y[i - 1] ? t->y[i] : t->y[i - 1]) + 0.5) / FINE - 0.5;
        row = ceil(row < 0 ? 0 : row > height ? height : row);
        crossings[count++] = (uint64_t)column * (uint64_t)height + (uint64_t)row;
    }
    const uint64_t end = (uint64_t)width * (uint64_t)height;
    if (count % 2 == 1) crossings[count++] = end;
    qsort(crossings, count, sizeof *crossings, by_position);
    for (size_t i = 0; i + 1 < count; i += 2)
        memset(pixels + crossings[i], 1, crossings[i + 1] - crossings[i]);
    gp_free(crossings);
    return true;
}

static bool fill_ring(const json_t *ring, int width, int height, uint8_t *pixels, size_t number,
                      gp_status *status) {
    const size_t count = json_array_size(ring);
    trail t = {0};
    bool done = true;
    if (!json_is_array(ring)) return gp_fail(status, "ring %zu is no list of points", number);
    int *points = gp_allocate(2 * (count + 1) * sizeof *points);
    if (points == NULL) return gp_fail(status, "no memory for %zu points", count);
    for (size_t i = 0; i < count && done; i++) {
        const json_t *point = json_array_get(ring, i);
        double x = json_number_value(json_array_get(point, 0)),
               y = json_number_value(json_array_get(point, 1));
        if (json_array_size(point) != 2 || !json_is_number(json_array_get(point, 0)) ||
            !json_is_number(json_array_get(point, 1)) || fabs(x) > FARTHEST || fabs(y) > FARTHEST)
            done = gp_fail(status, "point %zu of ring %zu is no [x, y] within 100000 pixels", i, number);
        points[2 * i] = done ? (int)(FINE * x + 0.5) : 0;
        points[2 * i + 1] = done ? (int)(FINE * y + 0.5) : 0;
    }
    for (size_t i = 0; i < count && count >= 3 && done; i++) {
        size_t next = (i + 1) % count;
        if (!put_edge(&t, points[2 * i], points[2 * i + 1], points[2 * next], points[2 * next + 1]))
            done = gp_fail(status, "no memory for ring %zu", number);
    }
    if (done && !fill_between(&t, width, height, pixels))
        done = gp_fail(status, "no memory for ring %zu", number);
    gp_free(points);
    gp_free(t.x);
    gp_free(t.y);
    return done;
}

static bool runs_of(const uint8_t *columns, int width, int height, gp_rle *mask) {
    const size_t count = (size_t)width * (size_t)height;
    size_t changes = 1;
    for (size_t i = 1; i < count; i++) changes += columns[i] != columns[i - 1];
    *mask =
        (gp_rle){.width = width, .height = height, .runs = gp_allocate((changes + 1) * sizeof *mask->runs)};
    if (mask->runs == NULL) return false;
    if (count > 0 && columns[0] == 1) mask->runs[mask->count++] = 0;
    for (size_t i = 0, begin = 0; i < count; i++) {
        if (i + 1 < count && columns[i + 1] == columns[i]) continue;
        mask->runs[mask->count++] = (uint32_t)(i + 1 - begin);
        begin = i + 1;
    }
    return true;
}
