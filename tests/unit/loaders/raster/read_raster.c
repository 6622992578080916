/**
 * Reads rasters as a test asks: a line on standard input, an answer on standard output. Fields are separated
 * by tabs.
 *   about PATH                            → JSON
 *   read PATH LEVEL X Y W H BANDS         → JSON with "bytes" and "valid_bytes", then those bytes
 *   view PATH BANDS STRETCH X Y W H       → JSON with "bytes", then RGB; "-" is the default
 *   locate PATH X Y COLUMN ROW            → JSON: the place of (COLUMN, ROW) in the window that begins at (X,
 * Y) An error is {"error": …}.
 */
#include "kernels/base/memory.h"
#include "loaders/geo/locator.h"
#include "loaders/raster/rgb_view.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static void print(json_t *object) {
    char *text = json_dumps(object, JSON_COMPACT);
    puts(text);
    free(text);
    json_decref(object);
}

static json_t *text_or_null(const char *text) {
    return text != NULL ? json_string(text) : json_null();
}

static json_t *about(const gp_raster_info *info, const gp_status *note) {
    json_t *bands = json_array(), *levels = json_array(), *transform = json_array(), *points = json_array();
    for (int i = 0; i < info->band_count; i++) {
        const gp_band *band = &info->bands[i];
        json_array_append_new(bands, json_pack("{s:s, s:o}", "role", gp_band_role_name(band->role), "nodata",
                                               !band->has_nodata              ? json_null()
                                               : band->nodata != band->nodata ? json_string("nan")
                                                                              : json_real(band->nodata)));
    }
    for (int i = 0; i < info->level_count; i++)
        json_array_append_new(levels, json_pack("[iiii]", info->levels[i].width, info->levels[i].height,
                                                info->levels[i].block_width, info->levels[i].block_height));
    const gp_georeference *place = &info->georeference;
    for (int i = 0; i < 6 && place->has_transform; i++)
        json_array_append_new(transform, json_real(place->transform[i]));
    for (size_t i = 0; i < place->control_point_count; i++)
        json_array_append_new(points, json_pack("[fffff]", place->control_points[i].column,
                                                place->control_points[i].row, place->control_points[i].x,
                                                place->control_points[i].y, place->control_points[i].z));
    return json_pack(
        "{s:s, s:s, s:i, s:i, s:s, s:i, s:o, s:o, s:b, s:b, s:b, s:i, s:i, s:o, s:o, s:o, s:i, s:o}",
        "format", info->format, "codec", info->codec, "width", info->width, "height", info->height, "type",
        gp_sample_type_name(info->type), "bits", info->bits, "bands", bands, "levels", levels, "tiled",
        info->tiled, "planar", info->planar, "has_mask", info->has_mask, "alpha", info->alpha,
        "further_pictures", info->further_pictures, "transform", transform, "control_points", points, "crs",
        text_or_null(place->crs), "epsg", place->epsg, "note", text_or_null(note->message));
}

static void answer_read(gp_raster *raster, char *const *fields, gp_status *status) {
    const gp_raster_info *info = gp_raster_about(raster);
    int bands[64], count = 0, level = atoi(fields[2]);
    for (char *at = strtok(fields[7], ","); at != NULL && count < 64; at = strtok(NULL, ","))
        bands[count++] = atoi(at);
    gp_window window = {atoi(fields[3]), atoi(fields[4]), atoi(fields[5]), atoi(fields[6])};
    size_t values = (size_t)window.width * (size_t)window.height * (size_t)count,
           bytes = values * (size_t)gp_sample_type_bytes(info->type);
    uint8_t *samples = malloc(bytes), *valid = malloc(values);
    memset(samples, 0xA5, bytes);
    memset(valid, 0xA5, values);
    if (gp_raster_read(raster, level, window, bands, count, samples, valid, status)) {
        struct rusage usage;
        getrusage(RUSAGE_SELF, &usage);
        print(json_pack("{s:I, s:I, s:I}", "bytes", (json_int_t)bytes, "valid_bytes", (json_int_t)values,
                        "peak_kilobytes", (json_int_t)usage.ru_maxrss));
        fwrite(samples, 1, bytes, stdout);
        fwrite(valid, 1, values, stdout);
    }
    free(samples);
    free(valid);
}

static void answer_view(gp_raster *raster, char *const *fields, gp_status *status) {
    gp_rgb_options options = {0};
    gp_rgb_view view;
    gp_window window = {atoi(fields[4]), atoi(fields[5]), atoi(fields[6]), atoi(fields[7])};
    size_t stride = (size_t)window.width * 3 + 5, bytes = stride * (size_t)window.height;
    int64_t counting = -1;
    uint8_t *rgb = malloc(bytes);
    memset(rgb, 0xA5, bytes);
    if ((strcmp(fields[2], "-") == 0 || gp_rgb_parse_bands(fields[2], &options, status)) &&
        (strcmp(fields[3], "-") == 0 || gp_rgb_parse_stretch(fields[3], &options.stretch, status)) &&
        gp_rgb_view_open(raster, &options, &view, status) &&
        gp_rgb_view_read(&view, window, rgb, stride, &counting, status)) {
        print(json_pack("{s:I, s:I, s:b, s:[fff], s:[fff]}", "bytes",
                        (json_int_t)window.width * window.height * 3, "valid_pixels", (json_int_t)counting,
                        "stretched", view.stretched, "low", view.low[0], view.low[1], view.low[2], "high",
                        view.high[0], view.high[1], view.high[2]));
        for (int y = 0; y < window.height; y++)
            fwrite(rgb + (size_t)y * stride, 1, (size_t)window.width * 3, stdout);
    }
    free(rgb);
}

static void answer_locate(gp_raster *raster, char *const *fields, gp_status *status) {
    gp_georeference part = {0};
    gp_locator *locator = NULL;
    double pixel[2] = {strtod(fields[4], NULL), strtod(fields[5], NULL)}, projected[2], degrees[2];
    if (gp_georeference_window(&gp_raster_about(raster)->georeference, strtod(fields[2], NULL),
                               strtod(fields[3], NULL), &part, status) &&
        gp_locator_open(&part, &locator, status)) {
        char *wkt = gp_crs_wkt(&part, status);
        gp_locator_to_crs(locator, pixel, 1, projected);
        if (wkt != NULL && gp_locator_to_wgs84(locator, pixel, 1, degrees, status))
            print(json_pack("{s:[ff], s:[ff], s:s}", "crs", projected[0], projected[1], "wgs84", degrees[0],
                            degrees[1], "wkt", wkt));
        gp_free(wkt);
    }
    gp_locator_close(locator);
    gp_georeference_clear(&part);
}

int main(void) {
    char line[8192], *fields[8];
    while (fgets(line, sizeof line, stdin) != NULL) {
        int count = 0;
        line[strcspn(line, "\n")] = '\0';
        for (char *at = line; at != NULL && count < 8;) fields[count++] = strsep(&at, "\t");
        gp_raster *raster = NULL;
        gp_status status = {0}, note = {0};
        if (count >= 2 && gp_raster_open(fields[1], &raster, &note, &status)) {
            if (strcmp(fields[0], "about") == 0) print(about(gp_raster_about(raster), &note));
            if (strcmp(fields[0], "read") == 0 && count == 8) answer_read(raster, fields, &status);
            if (strcmp(fields[0], "locate") == 0 && count == 6) answer_locate(raster, fields, &status);
            if (strcmp(fields[0], "view") == 0 && count == 8) answer_view(raster, fields, &status);
        }
        if (gp_failed(&status)) print(json_pack("{s:s}", "error", status.message));
        fflush(stdout);
        gp_raster_close(raster);
        gp_status_clear(&status);
        gp_status_clear(&note);
    }
    return 0;
}
