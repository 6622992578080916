#include "loaders/raster/tiff_tags.h"

#include "kernels/base/memory.h"
#include "kernels/base/number.h"
#include "loaders/geo/geotiff_tags.h"

#include <string.h>
#include <strings.h>

/** A tag's values, libtiff's own memory; count 0 where the tag is absent. */
typedef struct tag_values {
    const void *data;
    size_t count;
} tag_values;

static bool read_tag(gp_tiff_file *file, uint32_t tag, const char *name, TIFFDataType type, tag_values *out,
                     gp_status *status);
static void read_color_roles(const char *text, size_t length, gp_band *bands, int count);

/** A copy, or NULL for no values; false when memory is out. */
static bool copy(const tag_values *values, size_t size, void *target) {
    void *block = NULL;
    if (values->count > 0) {
        block = gp_allocate(values->count * size);
        if (block == NULL) return false;
        memcpy(block, values->data, values->count * size);
    }
    memcpy(target, &block, sizeof block);
    return true;
}

bool gp_tiff_read_geo_tags(gp_tiff_file *file, gp_geo_tags *tags, bool *rational, gp_status *status) {
    tag_values scale, tiepoints, matrix, keys, parameters, text;
    *tags = (gp_geo_tags){0};
    *rational = TIFFFindField(file->tiff, GP_TAG_RATIONAL, TIFF_ANY) != NULL &&
                TIFFGetField(file->tiff, GP_TAG_RATIONAL, &(uint32_t){0}, &(void *){NULL}) == 1;
    if (!read_tag(file, GP_TAG_PIXEL_SCALE, "ModelPixelScale", TIFF_DOUBLE, &scale, status) ||
        !read_tag(file, GP_TAG_TIEPOINTS, "ModelTiepoint", TIFF_DOUBLE, &tiepoints, status) ||
        !read_tag(file, GP_TAG_TRANSFORMATION, "ModelTransformation", TIFF_DOUBLE, &matrix, status) ||
        !read_tag(file, GP_TAG_KEYS, "GeoKeyDirectory", TIFF_SHORT, &keys, status) ||
        !read_tag(file, GP_TAG_PARAMETERS, "GeoDoubleParams", TIFF_DOUBLE, &parameters, status) ||
        !read_tag(file, GP_TAG_TEXT, "GeoAsciiParams", TIFF_ASCII, &text, status))
        return false;
    if (scale.count != 0 && scale.count < 2)
        return gp_fail(status, "%s: ModelPixelScale of %zu numbers; 3 are expected", file->path, scale.count);
    if (tiepoints.count % 6 != 0)
        return gp_fail(status, "%s: ModelTiepoint of %zu numbers; multiples of 6 are expected", file->path,
                       tiepoints.count);
    if (matrix.count != 0 && matrix.count != 16)
        return gp_fail(status, "%s: ModelTransformation of %zu numbers; 16 are expected", file->path,
                       matrix.count);
    double three[3] = {0};
    if (scale.count > 0) {
        memcpy(three, scale.data, (scale.count < 3 ? scale.count : 3) * sizeof *three);
        scale = (tag_values){three, 3};
    }
    bool done = copy(&scale, sizeof(double), &tags->scale) &&
                copy(&tiepoints, sizeof(double), &tags->tiepoints) &&
                copy(&matrix, sizeof(double), &tags->matrix) && copy(&keys, sizeof(uint16_t), &tags->keys) &&
                copy(&parameters, sizeof(double), &tags->parameters);
    if (done && text.count > 0) {
        tags->text = gp_allocate(text.count + 1);
        done = tags->text != NULL;
        if (done) memcpy(tags->text, text.data, text.count);
        if (done) tags->text[text.count] = '\0';
    }
    if (!done) return gp_fail(status, "%s: no memory for its tags", file->path);
    tags->tiepoint_count = tiepoints.count / 6;
    tags->key_count = keys.count;
    tags->parameter_count = parameters.count;
    return true;
}

bool gp_tiff_read_gdal_tags(gp_tiff_file *file, gp_band *bands, int count, gp_status *status) {
    tag_values text;
    if (!read_tag(file, TIFFTAG_GDAL_NODATA, "GDAL_NODATA", TIFF_ASCII, &text, status)) return false;
    char number[64] = "";
    double nodata = 0;
    if (text.count > 0 && text.count < sizeof number) memcpy(number, text.data, text.count);
    const char *at = number;
    if (gp_parse_number(&at, &nodata)) {
        for (int i = 0; i < count; i++) {
            bands[i].has_nodata = true;
            bands[i].nodata = nodata;
        }
    }
    if (!read_tag(file, TIFFTAG_GDAL_METADATA, "GDAL_METADATA", TIFF_ASCII, &text, status)) return false;
    if (text.count > 0) read_color_roles(text.data, text.count, bands, count);
    return true;
}

/* ---- tags ---- */

/**
 * Nobody registers these tags here, so libtiff makes them up from what the file says, with a count of 32
 * bits; where another library in the process (GDAL) has registered them, that one's description holds.
 */
static bool read_tag(gp_tiff_file *file, uint32_t tag, const char *name, TIFFDataType type, tag_values *out,
                     gp_status *status) {
    *out = (tag_values){0};
    const TIFFField *field = TIFFFindField(file->tiff, tag, TIFF_ANY);
    if (field == NULL) return true;
    void *data = NULL;
    size_t count = 0;
    int read_count = TIFFFieldReadCount(field);
    bool is_counted = TIFFFieldPassCount(field), found;
    if (is_counted && read_count == TIFF_VARIABLE2) {
        uint32_t counted = 0;
        found = TIFFGetField(file->tiff, tag, &counted, &data) == 1;
        count = counted;
    } else if (is_counted) {
        uint16_t counted = 0;
        found = TIFFGetField(file->tiff, tag, &counted, &data) == 1;
        count = counted;
    } else if (TIFFFieldDataType(field) == TIFF_ASCII) {
        found = TIFFGetField(file->tiff, tag, &data) == 1;
        if (found && data != NULL) count = strlen(data);
    } else {
        return gp_fail(status, "%s: %s (tag %u) is registered without a count in this process", file->path,
                       name, tag);
    }
    if (!found || data == NULL || count == 0) return true;
    if (TIFFFieldDataType(field) != type)
        return gp_fail(status, "%s: %s (tag %u) is of TIFF type %d; %d is expected", file->path, name, tag,
                       (int)TIFFFieldDataType(field), (int)type);
    *out = (tag_values){data, count};
    return true;
}

/* ---- GDAL's metadata ---- */

/** The text behind `name` and an opening quotation mark within [from, end); NULL: none. */
static const char *attribute(const char *from, const char *end, const char *name) {
    size_t length = strlen(name);
    for (const char *at = from; at + length + 1 < end; at++)
        if (memcmp(at, name, length) == 0 && at[length] == '"') return at + length + 1;
    return NULL;
}

/** Items such as <Item name="COLORINTERP" sample="3" role="colorinterp">Red</Item>. */
static void read_color_roles(const char *text, size_t length, gp_band *bands, int count) {
    static const struct {
        const char *name;
        gp_band_role role;
    } names[] = {{"Red", GP_BAND_RED},     {"Green", GP_BAND_GREEN}, {"Blue", GP_BAND_BLUE},
                 {"Alpha", GP_BAND_ALPHA}, {"Gray", GP_BAND_GREY},   {"Undefined", GP_BAND_UNDEFINED}};
    const char *end = text + length, *item = text;
    while ((item = memchr(item, '<', (size_t)(end - item))) != NULL) {
        const char *close = memchr(item, '>', (size_t)(end - item));
        if (close == NULL) return;
        const char *role = attribute(item, close, "role="), *sample = attribute(item, close, "sample=");
        if (role != NULL && sample != NULL && close - role >= 12 && memcmp(role, "colorinterp\"", 12) == 0) {
            int band = 0;
            for (; sample < close && *sample >= '0' && *sample <= '9' && band < count; sample++)
                band = band * 10 + (*sample - '0');
            for (size_t i = 0; i < sizeof names / sizeof *names && band < count; i++) {
                size_t name_length = strlen(names[i].name);
                if ((size_t)(end - close) > name_length + 1 &&
                    strncasecmp(close + 1, names[i].name, name_length) == 0 && close[1 + name_length] == '<')
                    bands[band].role = names[i].role;
            }
        }
        item = close;
    }
}
