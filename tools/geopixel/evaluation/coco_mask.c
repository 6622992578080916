#include "tools/geopixel/evaluation/coco_mask.h"

#include <stdint.h>

typedef struct reader {
    const char *path, *place;
    gp_status *status;
} reader;

static json_t *run_lengths(const reader *in, const json_t *object);
static json_t *rings_of(const reader *in, const json_t *polygons);

json_t *gp_coco_mask(const json_t *segmentation, const char *path, const char *place, gp_status *status) {
    reader in = {path, place, status};
    if (json_is_object(segmentation)) return run_lengths(&in, segmentation);
    size_t count = json_array_size(segmentation);
    const json_t *first = json_array_get(segmentation, 0);
    if (json_is_object(first) && count == 1) return run_lengths(&in, first);
    if (json_is_array(first)) return rings_of(&in, segmentation);
    if (json_is_object(first))
        gp_fail(status, "%s: %s: segmentation has %zu run lengths; one can be read", path, place, count);
    else
        gp_fail(status, "%s: %s: segmentation is neither run lengths nor a list of polygons", path, place);
    return NULL;
}

/** A whole number from `least` to 2^31 - 1. */
static bool is_number(const json_t *value, json_int_t least) {
    return json_is_integer(value) && json_integer_value(value) >= least &&
           json_integer_value(value) <= INT32_MAX;
}

static json_t *run_lengths(const reader *in, const json_t *object) {
    const json_t *size = json_object_get(object, "size"), *counts = json_object_get(object, "counts");
    if (json_array_size(size) != 2 || !is_number(json_array_get(size, 0), 1) ||
        !is_number(json_array_get(size, 1), 1)) {
        gp_fail(in->status, "%s: %s: segmentation.size is not [height, width]", in->path, in->place);
        return NULL;
    }
    if (!json_is_string(counts) && !json_is_array(counts)) {
        gp_fail(in->status, "%s: %s: segmentation.counts is neither text nor a list", in->path, in->place);
        return NULL;
    }
    for (size_t i = 0; i < json_array_size(counts); i++)
        if (!is_number(json_array_get(counts, i), 0)) {
            gp_fail(in->status, "%s: %s: segmentation.counts[%zu] is no run length", in->path, in->place, i);
            return NULL;
        }
    json_t *made = json_pack("{s:O, s:O}", "size", size, "counts", counts);
    if (made == NULL) gp_fail(in->status, "%s: %s: no memory for its mask", in->path, in->place);
    return made;
}

/** [x0, y0, x1, y1, …] as [[x0, y0], [x1, y1], …]. */
static json_t *ring_of(const reader *in, const json_t *polygon, size_t index) {
    size_t count = json_array_size(polygon);
    if (count < 6 || count % 2 != 0) {
        gp_fail(in->status,
                "%s: %s: segmentation[%zu] has %zu numbers; a polygon has an x and a y a corner, "
                "and 3 corners at least",
                in->path, in->place, index, count);
        return NULL;
    }
    json_t *ring = json_array();
    for (size_t i = 0; ring != NULL && i < count; i += 2) {
        json_t *x = json_array_get(polygon, i), *y = json_array_get(polygon, i + 1);
        if (!json_is_number(x) || !json_is_number(y)) {
            gp_fail(in->status, "%s: %s: segmentation[%zu][%zu] is no number", in->path, in->place, index,
                    json_is_number(x) ? i + 1 : i);
            json_decref(ring);
            return NULL;
        }
        if (json_array_append_new(ring, json_pack("[O, O]", x, y)) != 0) {
            json_decref(ring);
            ring = NULL;
        }
    }
    if (ring == NULL) gp_fail(in->status, "%s: %s: no memory for its mask", in->path, in->place);
    return ring;
}

static json_t *rings_of(const reader *in, const json_t *polygons) {
    json_t *rings = json_array();
    if (rings == NULL) gp_fail(in->status, "%s: %s: no memory for its mask", in->path, in->place);
    for (size_t i = 0; rings != NULL && i < json_array_size(polygons); i++) {
        json_t *ring = ring_of(in, json_array_get(polygons, i), i);
        if (ring != NULL && json_array_append_new(rings, ring) == 0) continue;
        if (ring != NULL) gp_fail(in->status, "%s: %s: no memory for its mask", in->path, in->place);
        json_decref(rings);
        rings = NULL;
    }
    return rings;
}
