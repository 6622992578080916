/**
 * OGC 12-128r18: a SQLite file with tables of reference systems, contents and geometry columns, one of
 * features whose geometries are WKB behind a short header, an R-tree over their boxes, and QGIS's table of
 * styles.
 */
#include "tools/geopixel/outputs/geopackage.h"

#include "kernels/base/memory.h"
#include "loaders/geo/locator.h"
#include "tools/geopixel/outputs/geopackage_sql.h"
#include "tools/geopixel/outputs/outline.h"
#include "tools/geopixel/outputs/world.h"
#include "tools/geopixel/outputs/xml_text.h"
#include "tools/geopixel/palette.h"

#include <math.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SRS_NONE = -1, SRS_OWN = 100000 };

/** A package under way. */
typedef struct writing {
    sqlite3 *database;
    const char *path;
    const gp_answer *answer;
    const gp_georeference *georeference;
    gp_locator *locator; /* NULL: no place on Earth */
    double tolerance;
    int srs;
    double box[4]; /* of all: least x, most x, least y, most y */
} writing;

static bool write_all(writing *w, gp_status *status);
static bool write_system(writing *w, gp_status *status);
static bool write_mask(writing *w, size_t mask, gp_status *status);
static bool write_contents(writing *w, gp_status *status);
static bool write_style(writing *w, gp_status *status);

/** Fails with SQLite's words. */
static bool fail(const writing *w, gp_status *status) {
    return gp_fail(status, "%s: cannot be written: SQLite: %s", w->path,
                   w->database != NULL ? sqlite3_errmsg(w->database) : "no memory");
}

static bool run_sql(writing *w, const char *sql, gp_status *status) {
    return sqlite3_exec(w->database, sql, NULL, NULL, NULL) == SQLITE_OK || fail(w, status);
}

/** Runs a statement that gives no rows, and finishes it. */
static bool finish(writing *w, sqlite3_stmt *statement, gp_status *status) {
    bool done = sqlite3_step(statement) == SQLITE_DONE || fail(w, status);
    sqlite3_finalize(statement);
    return done;
}

static sqlite3_stmt *prepare(writing *w, const char *sql, gp_status *status) {
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v2(w->database, sql, -1, &statement, NULL) == SQLITE_OK) return statement;
    fail(w, status);
    return NULL;
}

bool gp_geopackage_write(const char *target, const gp_answer *answer, const gp_georeference *georeference,
                         double tolerance, const char *path, gp_status *status) {
    writing w = {.path = path,
                 .answer = answer,
                 .georeference = georeference,
                 .tolerance = tolerance,
                 .box = {INFINITY, -INFINITY, INFINITY, -INFINITY}};
    gp_status unplaced = {0}; /* a CRS that is none of Earth's has no areas in m² */
    if (gp_georeference_is_placed(georeference)) gp_locator_open(georeference, &w.locator, &unplaced);
    gp_status_clear(&unplaced);
    bool done =
        sqlite3_open_v2(target, &w.database, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL) == SQLITE_OK ||
        fail(&w, status);
    done = done && write_all(&w, status);
    if (sqlite3_close(w.database) != SQLITE_OK && done) done = fail(&w, status);
    gp_locator_close(w.locator);
    return done;
}

static bool write_all(writing *w, gp_status *status) {
    bool done = run_sql(w, gp_geopackage_sql_begin, status) && write_system(w, status);
    for (size_t i = 0; i < w->answer->mask_count && done; i++) done = write_mask(w, i, status);
    return done && write_contents(w, status) && write_style(w, status) &&
           run_sql(w, gp_geopackage_sql_end, status);
}

/* ---- reference system ---- */

/** The scene's, or none: then coordinates are the transform's, or pixels with y upward. */
static bool write_system(writing *w, gp_status *status) {
    const gp_georeference *place = w->georeference;
    w->srs = SRS_NONE;
    if (place->crs == NULL || (!place->has_transform && w->locator == NULL)) return true;
    w->srs = place->epsg > 0 ? place->epsg : SRS_OWN;
    if (place->epsg == 4326) return true; /* every package has it */
    char *wkt = gp_crs_wkt(place, status);
    if (wkt == NULL) return false;
    sqlite3_stmt *add =
        prepare(w, "INSERT INTO gpkg_spatial_ref_sys VALUES (?1, ?2, ?3, ?2, ?4, NULL)", status);
    if (add != NULL) {
        const char *name = place->crs_name != NULL ? place->crs_name : "the scene's";
        sqlite3_bind_text(add, 1, name, -1, SQLITE_STATIC);
        sqlite3_bind_int(add, 2, w->srs);
        sqlite3_bind_text(add, 3, place->epsg > 0 ? "EPSG" : "NONE", -1, SQLITE_STATIC);
        sqlite3_bind_text(add, 4, wkt, -1, SQLITE_STATIC);
    }
    bool done = add != NULL && finish(w, add, status);
    gp_free(wkt);
    return done;
}

static void place_points(const writing *w, double *points, size_t count) {
    const double *t = w->georeference->transform;
    if (!w->georeference->has_transform && w->locator != NULL) {
        gp_locator_to_crs(w->locator, points, count, points);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        double column = points[2 * i], row = points[2 * i + 1];
        bool by_transform = w->georeference->has_transform;
        points[2 * i] = by_transform ? t[0] + column * t[1] + row * t[2] : column;
        points[2 * i + 1] = by_transform ? t[3] + column * t[4] + row * t[5] : -row;
    }
}

/* ---- features ---- */

static void put_count(FILE *to, size_t count) {
    uint32_t number = (uint32_t)count;
    fwrite(&number, sizeof number, 1, to);
}

/** A MultiPolygon as the package has it: header with its box, then WKB, all little-endian as the machines
 * are that this runs on. */
static bool encode(const gp_polygons *polygons, int srs, const double box[4], char **blob, size_t *length) {
    static const char polygon_head[5] = {1, 3, 0, 0, 0}, multi_head[5] = {1, 6, 0, 0, 0};
    FILE *to = open_memstream(blob, length);
    if (to == NULL) return false;
    int32_t number = srs;
    fwrite("GP\0\3", 1, 4, to); /* version 0; little-endian, a box of x and y */
    fwrite(&number, sizeof number, 1, to);
    fwrite(box, sizeof *box, 4, to);
    fwrite(multi_head, 1, sizeof multi_head, to);
    put_count(to, polygons->count);
    for (size_t p = 0; p < polygons->count; p++) {
        const gp_polygon *polygon = &polygons->polygons[p];
        fwrite(polygon_head, 1, sizeof polygon_head, to);
        put_count(to, polygon->ring_count);
        for (size_t r = 0; r < polygon->ring_count; r++) {
            const gp_ring *ring = &polygon->rings[r];
            put_count(to, ring->count + 1);
            fwrite(ring->points, 2 * sizeof(double), ring->count, to);
            fwrite(ring->points, 2 * sizeof(double), 1, to);
        }
    }
    bool written = ferror(to) == 0;
    return fclose(to) == 0 && written;
}

/** Points to their places, and the box round them. */
static void place_polygons(const writing *w, gp_polygons *polygons, double box[4]) {
    for (size_t p = 0; p < polygons->count; p++)
        for (size_t r = 0; r < polygons->polygons[p].ring_count; r++) {
            gp_ring *ring = &polygons->polygons[p].rings[r];
            place_points(w, ring->points, ring->count);
            for (size_t i = 0; i < 2 * ring->count; i++) {
                size_t axis = i % 2 * 2;
                box[axis] = fmin(box[axis], ring->points[i]);
                box[axis + 1] = fmax(box[axis + 1], ring->points[i]);
            }
        }
}

static bool insert_box(writing *w, sqlite3_int64 id, const double box[4], gp_status *status) {
    sqlite3_stmt *add = prepare(w, "INSERT INTO rtree_masks_geom VALUES (?1, ?2, ?3, ?4, ?5)", status);
    if (add == NULL) return false;
    sqlite3_bind_int64(add, 1, id);
    for (int i = 0; i < 4; i++) sqlite3_bind_double(add, i + 2, box[i]);
    return finish(w, add, status);
}

static bool insert_feature(writing *w, size_t mask, const char *blob, size_t length, bool has_area,
                           double area, gp_status *status) {
    const gp_answer_mask *one = &w->answer->masks[mask];
    const gp_phrase *phrase = gp_answer_phrase(w->answer, mask);
    sqlite3_stmt *add = prepare(w, "INSERT INTO masks VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)", status);
    if (add == NULL) return false;
    sqlite3_bind_int64(add, 1, (sqlite3_int64)mask + 1); /* what is not bound is NULL */
    /* Values have a limit, a billion bytes by default: what is beyond it must not become NULL unseen. */
    bool bound = (blob == NULL || sqlite3_bind_blob64(add, 2, blob, length, SQLITE_STATIC) == SQLITE_OK) &&
                 (phrase == NULL || sqlite3_bind_text(add, 3, phrase->text, -1, SQLITE_STATIC) == SQLITE_OK);
    if (!bound) {
        fail(w, status);
        sqlite3_finalize(add);
        return false;
    }
    if (phrase != NULL) {
        sqlite3_bind_int64(add, 5, (sqlite3_int64)phrase->begin);
        sqlite3_bind_int64(add, 6, (sqlite3_int64)phrase->end);
    }
    sqlite3_bind_int64(add, 4, (sqlite3_int64)mask);
    sqlite3_bind_double(add, 7, (double)one->score);
    sqlite3_bind_int64(add, 8, (sqlite3_int64)one->area);
    if (has_area) sqlite3_bind_double(add, 9, area);
    return finish(w, add, status);
}

static bool write_mask(writing *w, size_t mask, gp_status *status) {
    gp_polygons polygons = {0}, world = {0};
    double box[4] = {INFINITY, -INFINITY, INFINITY, -INFINITY}, area = 0;
    char *blob = NULL;
    size_t length = 0;
    /* The layer is in the scene's CRS, so a mask that reaches beyond the Earth there (a full disk, half a
     * pixel above a pole) only has no area. */
    gp_status unplaced = {0};
    bool done = gp_outline(&w->answer->masks[mask].rle, w->tolerance, &polygons, status);
    bool has_area =
        done && w->locator != NULL && gp_polygons_to_wgs84(&polygons, w->locator, &world, &area, &unplaced);
    gp_status_clear(&unplaced);
    if (done && polygons.count > 0) {
        place_polygons(w, &polygons, box);
        done = encode(&polygons, w->srs, box, &blob, &length) || gp_fail(status, "%s: no memory", w->path);
    }
    done = done && insert_feature(w, mask, blob, length, has_area, area, status) &&
           (blob == NULL || insert_box(w, (sqlite3_int64)mask + 1, box, status));
    for (int i = 0; i < 4; i++) w->box[i] = i % 2 == 0 ? fmin(w->box[i], box[i]) : fmax(w->box[i], box[i]);
    free(blob);
    gp_polygons_clear(&polygons);
    gp_polygons_clear(&world);
    return done;
}

/* ---- contents and style ---- */

static bool write_contents(writing *w, gp_status *status) {
    sqlite3_stmt *add = prepare(w,
                                "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, "
                                "min_x, max_x, min_y, max_y, srs_id) "
                                "VALUES ('masks', 'features', 'masks', ?1, ?2, ?3, ?4, ?5, ?6)",
                                status);
    if (add == NULL) return false;
    const char *what = w->srs != SRS_NONE ? "masks of the answer's phrases"
                       : w->georeference->has_transform
                           ? "masks of the answer's phrases; the scene has no CRS"
                           : "masks of the answer's phrases in pixels, y upward: "
                             "the scene is not georeferenced";
    sqlite3_bind_text(add, 1, what, -1, SQLITE_STATIC);
    for (int i = 0; i < 4 && isfinite(w->box[i]); i++) sqlite3_bind_double(add, i + 2, w->box[i]);
    sqlite3_bind_int(add, 6, w->srs);
    if (!finish(w, add, status)) return false;
    add = prepare(w, "INSERT INTO gpkg_geometry_columns VALUES ('masks', 'geom', 'MULTIPOLYGON', ?1, 0, 0)",
                  status);
    if (add == NULL) return false;
    sqlite3_bind_int(add, 1, w->srs);
    return finish(w, add, status);
}

/** QGIS's style: a category a mask, in the palette's colour, see-through, under its phrase. */
static char *style_text(const gp_answer *answer) {
    char *text = NULL;
    size_t length = 0;
    FILE *to = open_memstream(&text, &length);
    if (to == NULL) return NULL;
    fputs("<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n<qgis version=\"3.22\" "
          "styleCategories=\"Symbology\">\n<renderer-v2 type=\"categorizedSymbol\" attr=\"mask\" "
          "symbollevels=\"0\" enableorderby=\"0\" forceraster=\"0\">\n<categories>\n",
          to);
    for (size_t i = 0; i < answer->mask_count; i++) {
        const gp_phrase *phrase = gp_answer_phrase(answer, i);
        fprintf(to, "<category render=\"true\" symbol=\"%zu\" value=\"%zu\" label=\"", i, i);
        if (phrase != NULL)
            gp_xml_write(to, phrase->text, 1);
        else
            fprintf(to, "mask %zu", i);
        fputs("\"/>\n", to);
    }
    fputs("</categories>\n<symbols>\n", to);
    for (size_t i = 0; i < answer->mask_count; i++) {
        gp_colour c = gp_palette((int)i);
        fprintf(to,
                "<symbol type=\"fill\" name=\"%zu\" alpha=\"1\" clip_to_extent=\"1\"><layer "
                "class=\"SimpleFill\" enabled=\"1\" locked=\"0\" pass=\"0\"><prop k=\"color\" "
                "v=\"%d,%d,%d,110\"/><prop k=\"outline_color\" v=\"%d,%d,%d,255\"/><prop k=\"outline_style\" "
                "v=\"solid\"/><prop k=\"outline_width\" v=\"0.4\"/><prop k=\"style\" v=\"solid\"/>"
                "</layer></symbol>\n",
                i, c.red, c.green, c.blue, c.red, c.green, c.blue);
    }
    fputs("</symbols>\n</renderer-v2>\n<layerGeometryType>2</layerGeometryType>\n</qgis>\n", to);
    bool written = ferror(to) == 0;
    if (fclose(to) == 0 && written) return text;
    free(text);
    return NULL;
}

static bool write_style(writing *w, gp_status *status) {
    char *style = style_text(w->answer);
    if (style == NULL) return gp_fail(status, "%s: no memory for its style", w->path);
    sqlite3_stmt *add =
        prepare(w,
                "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, "
                "f_geometry_column, styleName, styleQML, styleSLD, useAsDefault, description, "
                "owner) VALUES ('', '', 'masks', 'geom', 'phrases', ?1, '', 1, "
                "'a colour a phrase', '')",
                status);
    bool done = add != NULL;
    if (done && sqlite3_bind_text(add, 1, style, -1, SQLITE_STATIC) != SQLITE_OK) {
        done = fail(w, status);
        sqlite3_finalize(add);
    }
    done = done && finish(w, add, status);
    free(style);
    return done;
}
