#include "loaders/raster/raster.h"

#include "kernels/base/memory.h"
#include "loaders/raster/raster_parts.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static bool open_any(const char *path, gp_raster *raster, gp_status *note, gp_status *status);
static bool mark_valid(gp_raster *raster, int level, gp_window window, const int *bands, int count,
                       const void *samples, uint8_t *valid, gp_status *status);

const char *gp_sample_type_name(gp_sample_type type) {
    static const char *const names[] = {"u8", "i8", "u16", "i16", "u32", "i32", "f32", "f64"};
    return names[type];
}

int gp_sample_type_bytes(gp_sample_type type) {
    static const int bytes[] = {1, 1, 2, 2, 4, 4, 4, 8};
    return bytes[type];
}

const char *gp_band_role_name(gp_band_role role) {
    static const char *const names[] = {"undefined", "grey", "red", "green", "blue", "alpha", "palette"};
    return names[role];
}

/* ---- opening ---- */

bool gp_raster_open(const char *path, gp_raster **raster, gp_status *note, gp_status *status) {
    *raster = gp_allocate_zeroed(1, sizeof **raster);
    if (*raster == NULL) return gp_fail(status, "%s: no memory", path);
    (*raster)->info.path = gp_copy_text(path);
    bool done = (*raster)->info.path != NULL ? open_any(path, *raster, note, status)
                                             : gp_fail(status, "%s: no memory", path);
    if (done) return true;
    gp_raster_close(*raster);
    *raster = NULL;
    return false;
}

/** What the first bytes are the beginning of. */
typedef enum file_kind { KIND_UNKNOWN, KIND_TIFF, KIND_PNG, KIND_JPEG, KIND_JPEG2000 } file_kind;

static file_kind kind_of(const unsigned char *bytes, size_t count) {
    static const struct {
        const char *magic;
        size_t length;
        file_kind kind;
    } kinds[] = {
        {"II*\0", 4, KIND_TIFF},
        {"MM\0*", 4, KIND_TIFF},
        {"II+\0", 4, KIND_TIFF},
        {"MM\0+", 4, KIND_TIFF},
        {"\x89PNG\r\n\x1A\n", 8, KIND_PNG},
        {"\xFF\xD8\xFF", 3, KIND_JPEG},
        {"\0\0\0\x0CjP  ", 8, KIND_JPEG2000},
        {"\xFF\x4F\xFF\x51", 4, KIND_JPEG2000},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (count >= kinds[i].length && memcmp(bytes, kinds[i].magic, kinds[i].length) == 0)
            return kinds[i].kind;
    return KIND_UNKNOWN;
}

static bool open_any(const char *path, gp_raster *raster, gp_status *note, gp_status *status) {
    unsigned char bytes[16];
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        /* GDAL's names are not all files: /vsicurl/https://…, NETCDF:a.nc:b. */
        if (strncmp(path, "/vsi", 4) == 0 || strchr(path, ':') != NULL)
            return gp_gdal_raster_open(path, NULL, raster, note, status);
        return gp_fail(status, "%s: cannot be read: %s", path, strerror(errno));
    }
    size_t count = fread(bytes, 1, sizeof bytes, file);
    int error = ferror(file) ? errno : 0;
    fclose(file);
    if (error != 0) return gp_fail(status, "%s: cannot be read: %s", path, strerror(error));
    switch (kind_of(bytes, count)) {
    case KIND_TIFF:
        return gp_tiff_raster_open(path, raster, note, status);
    case KIND_PNG:
        return gp_picture_raster_open(path, "PNG", "Deflate", raster, status);
    case KIND_JPEG:
        return gp_picture_raster_open(path, "JPEG", "JPEG", raster, status);
    case KIND_JPEG2000:
        return gp_gdal_raster_open(path, "JPEG 2000", raster, note, status);
    case KIND_UNKNOWN:
        break;
    }
    if (count == 0) return gp_fail(status, "%s: an empty file", path);
    return gp_gdal_raster_open(path, "not a TIFF, PNG or JPEG file", raster, note, status);
}

void gp_raster_close(gp_raster *raster) {
    if (raster == NULL) return;
    gp_raster_info *info = &raster->info;
    if (raster->source != NULL) raster->methods->close(raster->source);
    gp_georeference_clear(&info->georeference);
    gp_free(info->path);
    gp_free(info->bands);
    gp_free(info->levels);
    gp_free(info->palette);
    gp_free(raster);
}

const gp_raster_info *gp_raster_about(const gp_raster *raster) {
    return &raster->info;
}

bool gp_raster_allocate_bands(gp_raster *raster, int count, gp_status *status) {
    raster->info.bands = gp_allocate_zeroed((size_t)count, sizeof *raster->info.bands);
    if (raster->info.bands == NULL)
        return gp_fail(status, "%s: no memory for %d bands", raster->info.path, count);
    raster->info.band_count = count;
    return true;
}

bool gp_raster_allocate_levels(gp_raster *raster, int count, gp_status *status) {
    raster->info.levels = gp_allocate_zeroed((size_t)count, sizeof *raster->info.levels);
    if (raster->info.levels == NULL)
        return gp_fail(status, "%s: no memory for %d levels", raster->info.path, count);
    raster->info.level_count = count;
    return true;
}

void gp_raster_note(gp_status *note, const char *format, ...) {
    if (note == NULL) return;
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    gp_fail_more(note, gp_failed(note) ? "\n%s" : "%s", line);
}

void gp_raster_note_place(const gp_raster *raster, gp_status *note) {
    const gp_georeference *place = &raster->info.georeference;
    if (place->rational && !place->has_transform && place->control_point_count == 0)
        gp_raster_note(note,
                       "%s: placed by rational polynomials (RPCs) alone, which are not read: treated as not "
                       "georeferenced",
                       raster->info.path);
}

/* ---- reading ---- */

bool gp_raster_read(gp_raster *raster, int level, gp_window window, const int *bands, int count,
                    void *samples, uint8_t *valid, gp_status *status) {
    const gp_raster_info *info = &raster->info;
    if (level < 0 || level >= info->level_count)
        return gp_fail(status, "%s: level %d; it has %d", info->path, level, info->level_count);
    const gp_raster_level *size = &info->levels[level];
    if (window.x < 0 || window.y < 0 || window.width < 1 || window.height < 1 ||
        window.x > size->width - window.width || window.y > size->height - window.height)
        return gp_fail(status, "%s: the window of %d x %d pixels at (%d, %d) is not within %d x %d",
                       info->path, window.width, window.height, window.x, window.y, size->width,
                       size->height);
    for (int i = 0; i < count; i++)
        if (bands[i] < 1 || bands[i] > info->band_count)
            return gp_fail(status, "%s: band %d; it has bands 1 to %d", info->path, bands[i],
                           info->band_count);
    return raster->methods->read(raster->source, level, window, bands, count, samples, status) &&
           (valid == NULL || mark_valid(raster, level, window, bands, count, samples, valid, status));
}

/** Sets valid [pixels, count] to 0 where band `at` of the pixel is nodata or no number. */
static void mark_band(const gp_raster_info *info, const gp_band *band, const void *samples, size_t pixels,
                      size_t count, size_t at, uint8_t *valid) {
    bool has_nodata = band->has_nodata && !info->has_mask; /* a mask takes nodata's place, as for GDAL */
    double nodata = band->nodata;
    size_t end = pixels * count;
    switch (info->type) {
#define MARK_INTEGERS(type)                                                                                  \
    for (size_t i = at; i < end && has_nodata; i += count)                                                   \
        if (((const type *)samples)[i] == nodata) valid[i] = 0;                                              \
    break
    case GP_SAMPLE_U8:
        MARK_INTEGERS(uint8_t);
    case GP_SAMPLE_I8:
        MARK_INTEGERS(int8_t);
    case GP_SAMPLE_U16:
        MARK_INTEGERS(uint16_t);
    case GP_SAMPLE_I16:
        MARK_INTEGERS(int16_t);
    case GP_SAMPLE_U32:
        MARK_INTEGERS(uint32_t);
    case GP_SAMPLE_I32:
        MARK_INTEGERS(int32_t);
#undef MARK_INTEGERS
    case GP_SAMPLE_F32:
        for (size_t i = at; i < end; i += count) {
            float value = ((const float *)samples)[i];
            if (isnan(value) || (has_nodata && value == (float)nodata)) valid[i] = 0;
        }
        break;
    case GP_SAMPLE_F64:
        for (size_t i = at; i < end; i += count) {
            double value = ((const double *)samples)[i];
            if (isnan(value) || (has_nodata && value == nodata)) valid[i] = 0;
        }
    }
}

/** What counts of a pixel as a whole: [height, width], not 0 where it does. By the mask, or else by alpha. */
static bool read_pixel_mask(gp_raster *raster, int level, gp_window window, uint8_t *mask,
                            gp_status *status) {
    const gp_raster_info *info = &raster->info;
    if (info->has_mask) return raster->methods->read_mask(raster->source, level, window, mask, status);
    size_t pixels = (size_t)window.width * (size_t)window.height;
    int bytes = gp_sample_type_bytes(info->type);
    uint8_t *alpha = gp_allocate(pixels * (size_t)bytes);
    if (alpha == NULL) return gp_fail(status, "%s: no memory for its alpha", info->path);
    bool done = raster->methods->read(raster->source, level, window, &info->alpha, 1, alpha, status);
    for (size_t i = 0; i < pixels && done; i++) {
        mask[i] = 0;
        for (int b = 0; b < bytes; b++) mask[i] |= alpha[i * (size_t)bytes + (size_t)b];
    }
    gp_free(alpha);
    return done;
}

static bool mark_valid(gp_raster *raster, int level, gp_window window, const int *bands, int count,
                       const void *samples, uint8_t *valid, gp_status *status) {
    const gp_raster_info *info = &raster->info;
    size_t pixels = (size_t)window.width * (size_t)window.height;
    memset(valid, 1, pixels * (size_t)count);
    if (info->has_mask || info->alpha > 0) {
        uint8_t *mask = gp_allocate(pixels);
        if (mask == NULL) return gp_fail(status, "%s: no memory for its mask", info->path);
        bool done = read_pixel_mask(raster, level, window, mask, status);
        for (size_t i = 0; i < pixels && done; i++)
            if (mask[i] == 0) memset(valid + i * (size_t)count, 0, (size_t)count);
        gp_free(mask);
        if (!done) return false;
    }
    for (int i = 0; i < count; i++)
        mark_band(info, &info->bands[bands[i] - 1], samples, pixels, (size_t)count, (size_t)i, valid);
    return true;
}
