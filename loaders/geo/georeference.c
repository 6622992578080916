#include "loaders/geo/georeference.h"

#include "kernels/base/memory.h"
#include "loaders/geo/geotiff_tags.h"

#include <geo_normalize.h>
#include <geo_simpletags.h>
#include <geotiff.h>
#include <geovalues.h>
#include <math.h>
#include <proj.h>
#include <proj_experimental.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The key that says what a pixel's coordinates are of. */
enum { KEY_RASTER_TYPE = 1025, PIXEL_IS_POINT = 2 };

enum { EXTRA_LENGTH = 320 }; /* of a PROJ string: eight numbers and their names */

static bool keys_are_whole(const gp_geo_tags *tags);
static int inline_key(const gp_geo_tags *tags, int key);
static bool read_place(gp_georeference *out, const char *path, gp_status *status);
static bool read_crs(gp_georeference *out, const char *path, gp_status *note, gp_status *status);
static bool copy_tags(const gp_geo_tags *from, gp_geo_tags *to);

static void add_note(gp_status *note, const char *path, const char *what) {
    if (note != NULL) gp_fail_more(note, gp_failed(note) ? "\n%s: %s" : "%s: %s", path, what);
}

bool gp_georeference_read(gp_geo_tags *tags, const char *path, gp_georeference *out, gp_status *note,
                          gp_status *status) {
    *out = (gp_georeference){.tags = *tags};
    *tags = (gp_geo_tags){0};
    if (out->tags.key_count > 0 && !keys_are_whole(&out->tags)) {
        add_note(note, path, "its directory of GeoKeys contradicts itself, so its CRS is not known");
        gp_free(out->tags.keys);
        out->tags.keys = NULL;
        out->tags.key_count = 0;
    }
    if (read_place(out, path, status) && read_crs(out, path, note, status)) return true;
    gp_georeference_clear(out);
    return false;
}

void gp_geo_tags_clear(gp_geo_tags *tags) {
    gp_free(tags->keys);
    gp_free(tags->parameters);
    gp_free(tags->text);
    gp_free(tags->scale);
    gp_free(tags->tiepoints);
    gp_free(tags->matrix);
    *tags = (gp_geo_tags){0};
}

void gp_georeference_clear(gp_georeference *georeference) {
    gp_geo_tags_clear(&georeference->tags);
    gp_free(georeference->control_points);
    gp_free(georeference->crs);
    gp_free(georeference->crs_name);
    *georeference = (gp_georeference){0};
}

bool gp_georeference_is_placed(const gp_georeference *georeference) {
    return georeference->crs != NULL &&
           (georeference->has_transform || georeference->control_point_count >= 3);
}

/* ---- a window of it ---- */

/** A copy of `count` elements; NULL copies to NULL. */
static bool copy_block(const void *from, size_t count, size_t size, void *to) {
    void *block = NULL;
    if (from != NULL) {
        block = gp_allocate(count * size);
        if (block == NULL) return false;
        memcpy(block, from, count * size);
    }
    memcpy(to, &block, sizeof block);
    return true;
}

static bool copy_tags(const gp_geo_tags *from, gp_geo_tags *to) {
    *to = (gp_geo_tags){.key_count = from->key_count,
                        .parameter_count = from->parameter_count,
                        .tiepoint_count = from->tiepoint_count};
    return copy_block(from->keys, from->key_count, sizeof *from->keys, &to->keys) &&
           copy_block(from->parameters, from->parameter_count, sizeof(double), &to->parameters) &&
           copy_block(from->text, from->text != NULL ? strlen(from->text) + 1 : 0, 1, &to->text) &&
           copy_block(from->scale, 3, sizeof(double), &to->scale) &&
           copy_block(from->tiepoints, from->tiepoint_count * 6, sizeof(double), &to->tiepoints) &&
           copy_block(from->matrix, 16, sizeof(double), &to->matrix);
}

bool gp_georeference_window(const gp_georeference *whole, double column, double row, gp_georeference *out,
                            gp_status *status) {
    *out = *whole;
    out->control_points = NULL;
    out->crs = out->crs_name = NULL;
    if (!copy_tags(&whole->tags, &out->tags) ||
        !copy_block(whole->control_points, whole->control_point_count, sizeof *whole->control_points,
                    &out->control_points) ||
        !copy_block(whole->crs, whole->crs != NULL ? strlen(whole->crs) + 1 : 0, 1, &out->crs) ||
        !copy_block(whole->crs_name, whole->crs_name != NULL ? strlen(whole->crs_name) + 1 : 0, 1,
                    &out->crs_name)) {
        gp_georeference_clear(out);
        return gp_fail(status, "no memory for a georeference");
    }
    out->transform[0] += column * out->transform[1] + row * out->transform[2];
    out->transform[3] += column * out->transform[4] + row * out->transform[5];
    for (size_t i = 0; i < out->control_point_count; i++) {
        out->control_points[i].column -= column;
        out->control_points[i].row -= row;
    }
    for (size_t i = 0; i < out->tags.tiepoint_count; i++) {
        out->tags.tiepoints[6 * i] -= column;
        out->tags.tiepoints[6 * i + 1] -= row;
    }
    double *matrix = out->tags.matrix; /* x, y and z from column and row: its first, second and third row */
    for (int i = 0; i < 3 && matrix != NULL; i++)
        matrix[4 * i + 3] += column * matrix[4 * i] + row * matrix[4 * i + 1];
    return true;
}

/* ---- GeoKeys ---- */

/** Whether every key has its values: libgeotiff is given nothing else. */
static bool keys_are_whole(const gp_geo_tags *tags) {
    const uint16_t *keys = tags->keys;
    if (tags->key_count < 4 || keys[0] != 1 || (size_t)keys[3] * 4 + 4 > tags->key_count) return false;
    size_t text = tags->text != NULL ? strlen(tags->text) : 0;
    for (size_t i = 1; i <= keys[3]; i++) {
        size_t end = (size_t)keys[4 * i + 2] + keys[4 * i + 3];
        uint16_t where = keys[4 * i + 1];
        if (where == 0 && keys[4 * i + 2] == 1) continue;
        if (where == GP_TAG_KEYS         ? end > tags->key_count
            : where == GP_TAG_PARAMETERS ? end > tags->parameter_count
                                         : where != GP_TAG_TEXT || end > text + 1)
            return false;
    }
    return true;
}

/** A key whose value stands in the directory; 0 where it is absent. */
static int inline_key(const gp_geo_tags *tags, int key) {
    for (size_t i = 1; tags->keys != NULL && i <= tags->keys[3]; i++)
        if (tags->keys[4 * i] == key && tags->keys[4 * i + 1] == 0) return tags->keys[4 * i + 3];
    return 0;
}

/* ---- where pixels lie ---- */

/** In GDAL's order: scale and tiepoint, or else the matrix, or else tiepoints as control points. */
static bool read_place(gp_georeference *out, const char *path, gp_status *status) {
    const gp_geo_tags *tags = &out->tags;
    double *t = out->transform, half = inline_key(tags, KEY_RASTER_TYPE) == PIXEL_IS_POINT ? 0.5 : 0;
    const double *scale = tags->scale, *tie = tags->tiepoints, *matrix = tags->matrix;
    if (scale != NULL && scale[0] != 0 && scale[1] != 0) {
        if (tags->tiepoint_count > 0) {
            t[1] = scale[0];
            t[5] =
                -fabs(scale[1]); /* a negative one is a writer's mistake: rows run southward all the same */
            t[0] = tie[3] - tie[0] * t[1];
            t[3] = tie[4] - tie[1] * t[5];
            out->has_transform = true;
        }
    } else if (matrix != NULL) {
        memcpy(t, (const double[6]){matrix[3], matrix[0], matrix[1], matrix[7], matrix[4], matrix[5]},
               sizeof out->transform);
        out->has_transform = true;
    }
    for (int i = 0; i < 6; i++) out->has_transform = out->has_transform && isfinite(t[i]);
    if (out->has_transform) {
        t[0] -= half * (t[1] + t[2]);
        t[3] -= half * (t[4] + t[5]);
        return true;
    }
    memset(t, 0, sizeof out->transform);
    if (tags->tiepoint_count == 0) return true;
    out->control_points = gp_allocate(tags->tiepoint_count * sizeof *out->control_points);
    if (out->control_points == NULL)
        return gp_fail(status, "%s: no memory for %zu control points", path, tags->tiepoint_count);
    for (size_t i = 0; i < tags->tiepoint_count; i++, tie += 6) {
        bool is_finite = true;
        for (int k = 0; k < 6; k++) is_finite = is_finite && isfinite(tie[k]);
        if (is_finite)
            out->control_points[out->control_point_count++] =
                (gp_control_point){tie[0] + half, tie[1] + half, tie[3], tie[4], tie[5]};
    }
    return true;
}

/* ---- CRS ---- */

/** Whether PROJ makes a CRS of `text`; then it is the georeference's, with its name. */
static bool take_crs(PJ_CONTEXT *context, const char *text, int epsg, gp_georeference *out) {
    PJ *crs = proj_create(context, text);
    bool is_crs = crs != NULL && proj_is_crs(crs) && proj_get_type(crs) != PJ_TYPE_GEOCENTRIC_CRS;
    if (is_crs) {
        const char *name = proj_get_name(crs);
        out->crs = gp_copy_text(text);
        out->crs_name = name != NULL && name[0] != '\0' ? gp_copy_text(name) : NULL;
        out->epsg = epsg;
    }
    proj_destroy(crs);
    return is_crs && out->crs != NULL;
}

/** WKT that ESRI's software leaves in a citation; NULL: none. A new block. */
static char *esri_wkt(GTIF *keys) {
    static const geokey_t citations[] = {PCSCitationGeoKey, GTCitationGeoKey, GeogCitationGeoKey};
    static const char prefix[] = "ESRI PE String = ";
    for (size_t i = 0; i < sizeof citations / sizeof *citations; i++) {
        char text[4096] = "";
        if (!GTIFKeyGetASCII(keys, citations[i], text, sizeof text)) continue;
        if (strncmp(text, prefix, sizeof prefix - 1) != 0) continue;
        size_t length = strlen(text);
        if (text[length - 1] == '|') text[length - 1] = '\0';
        return gp_copy_text(text + sizeof prefix - 1);
    }
    return NULL;
}

/** The projection of PROJ's `parameters`, which name an ellipsoid alone, upon the datum that the keys name.
 */
static bool take_on_datum(PJ_CONTEXT *context, const char *parameters, GTIF *keys, const GTIFDefn *definition,
                          gp_georeference *out) {
    if (definition->GCS <= 0 || definition->GCS == KvUserDefined) return false;
    char code[16], name[256] = "";
    snprintf(code, sizeof code, "%d", definition->GCS);
    if (!GTIFKeyGetASCII(keys, GTCitationGeoKey, name, sizeof name) || name[0] == '\0')
        snprintf(name, sizeof name, "unknown");
    PJ *plain = proj_create(context, parameters), *whole = NULL;
    PJ *base = proj_create_from_database(context, "EPSG", code, PJ_CATEGORY_CRS, 0, NULL);
    bool is_projected = plain != NULL && base != NULL && proj_get_type(plain) == PJ_TYPE_PROJECTED_CRS;
    PJ *conversion = is_projected ? proj_crs_get_coordoperation(context, plain) : NULL;
    PJ *axes = is_projected ? proj_crs_get_coordinate_system(context, plain) : NULL;
    if (conversion != NULL && axes != NULL)
        whole = proj_create_projected_crs(context, name, base, conversion, axes);
    const char *wkt = NULL;
    if (whole != NULL)
        wkt = proj_as_wkt(context, whole, PJ_WKT2_2019, (const char *const[]){"MULTILINE=NO", NULL});
    bool taken = wkt != NULL && take_crs(context, wkt, 0, out);
    proj_destroy(whole);
    proj_destroy(axes);
    proj_destroy(conversion);
    proj_destroy(base);
    proj_destroy(plain);
    return taken;
}

/** PROJ's string as libgeotiff makes it, and what it leaves out: the angle of a rectified grid, and the shift
 * to WGS 84 of a datum that has no code. */
static void complete_parameters(const GTIFDefn *definition, const char *parameters, char *whole,
                                size_t length) {
    size_t at = (size_t)snprintf(whole, length, "%s", parameters);
    for (int i = 0; i < definition->nParms && i < MAX_GTIF_PROJPARMS; i++)
        if (definition->ProjParmId[i] == ProjRectifiedGridAngleGeoKey && strstr(whole, "+gamma") == NULL)
            at += (size_t)snprintf(whole + at, length - at, " +gamma=%.15g", definition->ProjParm[i]);
    bool is_shifted = definition->GCS == KvUserDefined && strstr(whole, "+towgs84") == NULL;
    for (int i = 0; is_shifted && i < definition->TOWGS84Count && i < 7; i++)
        at += (size_t)snprintf(whole + at, length - at, i == 0 ? " +towgs84=%.15g" : ",%.15g",
                               definition->TOWGS84[i]);
    snprintf(whole + at, length - at, " +type=crs");
}

/** The CRS that the keys describe. */
static bool find_crs(PJ_CONTEXT *context, GTIF *keys, GTIFDefn *definition, gp_georeference *out) {
    bool is_projected = definition->Model != ModelTypeGeographic && definition->PCS != 0;
    int code = is_projected ? definition->PCS : definition->GCS;
    char text[32];
    snprintf(text, sizeof text, "EPSG:%d", code);
    if (definition->Model == ModelTypeGeocentric) return false;
    bool is_plain_geographic =
        definition->Model == ModelTypeGeographic || (is_projected && code != KvUserDefined);
    if (code > 0 && code != KvUserDefined && is_plain_geographic && take_crs(context, text, code, out))
        return true;
    char *wkt = esri_wkt(keys);
    bool found = wkt != NULL && take_crs(context, wkt, 0, out);
    gp_free(wkt);
    if (found) return true;
    char *parameters = GTIFGetProj4Defn(definition);
    if (parameters != NULL && parameters[0] != '\0') {
        size_t length = strlen(parameters) + EXTRA_LENGTH;
        char *whole = gp_allocate(length);
        if (whole != NULL) {
            complete_parameters(definition, parameters, whole, length);
            found = take_on_datum(context, whole, keys, definition, out) || take_crs(context, whole, 0, out);
            gp_free(whole);
        }
    }
    GTIFFreeMemory(parameters);
    return found;
}

static bool read_crs(gp_georeference *out, const char *path, gp_status *note, gp_status *status) {
    const gp_geo_tags *tags = &out->tags;
    if (tags->keys == NULL || tags->keys[3] == 0) return true;
    PJ_CONTEXT *context = proj_context_create();
    ST_TIFF *simple = ST_Create();
    if (context == NULL || simple == NULL) {
        if (simple != NULL) ST_Destroy(simple);
        if (context != NULL) proj_context_destroy(context);
        return gp_fail(status, "%s: no memory for its CRS", path);
    }
    proj_context_set_enable_network(context, 0);
    proj_log_level(context, PJ_LOG_NONE);
    ST_SetKey(simple, GP_TAG_KEYS, (int)tags->key_count, STT_SHORT, tags->keys);
    if (tags->parameter_count > 0)
        ST_SetKey(simple, GP_TAG_PARAMETERS, (int)tags->parameter_count, STT_DOUBLE, tags->parameters);
    if (tags->text != NULL)
        ST_SetKey(simple, GP_TAG_TEXT, (int)strlen(tags->text) + 1, STT_ASCII, tags->text);
    GTIF *keys = GTIFNewSimpleTags(simple);
    GTIFDefn *definition = GTIFAllocDefn();
    bool found = false;
    if (keys != NULL && definition != NULL) {
        GTIFAttachPROJContext(keys, context);
        found = GTIFGetDefn(keys, definition) && find_crs(context, keys, definition, out);
        if (!found && (definition->PCS != 0 || definition->GCS != 0))
            add_note(note, path, "its GeoKeys name a CRS that is not made out: treated as one without a CRS");
    }
    if (definition != NULL) GTIFFreeDefn(definition);
    if (keys != NULL) GTIFFree(keys);
    ST_Destroy(simple);
    proj_context_destroy(context);
    return true;
}
