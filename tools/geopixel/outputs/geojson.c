#include "tools/geopixel/outputs/geojson.h"

#include "loaders/geo/locator.h"
#include "tools/geopixel/outputs/outline.h"
#include "tools/geopixel/outputs/world.h"

#include <jansson.h>

/* Twelve digits are a tenth of a millimetre on Earth; whole pixels and areas stand in them exactly. */
enum { DIGITS = 12 };

static json_t *geometry_json(const gp_polygons *polygons);
static json_t *feature_json(const gp_answer *answer, size_t mask, const gp_locator *locator, double tolerance,
                            gp_status *status);

bool gp_geojson_write(FILE *stream, const gp_answer *answer, const gp_georeference *georeference,
                      double tolerance, const char *path, gp_status *status) {
    gp_locator *locator = NULL;
    gp_status unplaced = {0}; /* a CRS that is none of Earth's leaves pixels */
    if (gp_georeference_is_placed(georeference)) gp_locator_open(georeference, &locator, &unplaced);
    gp_status_clear(&unplaced);
    bool done =
        fprintf(stream, "{\"type\": \"FeatureCollection\", \"coordinates_are\": \"%s\", \"features\": [",
                locator != NULL ? "WGS 84" : "pixels") > 0;
    for (size_t i = 0; i < answer->mask_count && done; i++) {
        json_t *feature = feature_json(answer, i, locator, tolerance, status);
        done = feature != NULL && fputs(i > 0 ? ",\n" : "\n", stream) >= 0 &&
               json_dumpf(feature, stream, JSON_COMPACT | JSON_REAL_PRECISION(DIGITS)) == 0;
        json_decref(feature);
    }
    done = done && fputs("\n]}\n", stream) >= 0;
    gp_locator_close(locator);
    if (done) return true;
    if (status != NULL && gp_failed(status)) return gp_fail_more(status, " (%s)", path);
    return gp_fail(status, "%s: the GeoJSON cannot be written", path);
}

static json_t *feature_json(const gp_answer *answer, size_t mask, const gp_locator *locator, double tolerance,
                            gp_status *status) {
    const gp_answer_mask *one = &answer->masks[mask];
    const gp_phrase *phrase = gp_answer_phrase(answer, mask);
    gp_polygons pixels = {0}, world = {0};
    double area = 0;
    bool done = gp_outline(&one->rle, tolerance, &pixels, status) &&
                (locator == NULL || gp_polygons_to_wgs84(&pixels, locator, &world, &area, status));
    json_t *feature = NULL;
    if (done) {
        json_t *span = phrase != NULL
                           ? json_pack("[I, I]", (json_int_t)phrase->begin, (json_int_t)phrase->end)
                           : json_null();
        feature = json_pack("{s:s, s:{s:s?, s:i, s:o, s:f, s:I, s:o}, s:o}", "type", "Feature", "properties",
                            "phrase", phrase != NULL ? phrase->text : NULL, "mask", (int)mask, "span", span,
                            "score", (double)one->score, "area_px", (json_int_t)one->area, "area_m2",
                            locator != NULL ? json_real(area) : json_null(), "geometry",
                            geometry_json(locator != NULL ? &world : &pixels));
    }
    gp_polygons_clear(&pixels);
    gp_polygons_clear(&world);
    return feature;
}

/** A MultiPolygon, its rings closed; null where there are no polygons. */
static json_t *geometry_json(const gp_polygons *polygons) {
    if (polygons->count == 0) return json_null();
    json_t *all = json_array();
    for (size_t p = 0; p < polygons->count; p++) {
        const gp_polygon *polygon = &polygons->polygons[p];
        json_t *rings = json_array();
        for (size_t r = 0; r < polygon->ring_count; r++) {
            const gp_ring *ring = &polygon->rings[r];
            json_t *points = json_array();
            for (size_t i = 0; i <= ring->count; i++) {
                const double *point = ring->points + 2 * (i % ring->count);
                json_array_append_new(points, json_pack("[f, f]", point[0], point[1]));
            }
            json_array_append_new(rings, points);
        }
        json_array_append_new(all, rings);
    }
    return json_pack("{s:s, s:o}", "type", "MultiPolygon", "coordinates", all);
}
