/**
 * What GDAL opens (JPEG 2000, VRT, /vsicurl/…), as a raster. Its overviews are levels and its mask band the
 * mask. Where it lies is told in the tags of a GeoTIFF of one pixel, which GDAL writes into memory, so that
 * one reader of tags serves all.
 */
#include "kernels/base/memory.h"
#include "loaders/raster/raster_parts.h"
#include "loaders/raster/tiff_tags.h"

#include <cpl_conv.h>
#include <cpl_error.h>
#include <cpl_string.h>
#include <cpl_vsi.h>
#include <gdal.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct gdal_source {
    GDALDatasetH dataset;
    const char *path; /* the raster's */
    GDALDataType type;
    int *overviews; /* [level_count]: GDAL's number of the level's overview; −1 the scene */
    char codec[64];
} gdal_source;

static bool describe(gdal_source *source, gp_raster *raster, gp_status *status);
static bool describe_levels(gdal_source *source, gp_raster *raster, gp_status *status);
static bool locate(const gdal_source *source, gp_raster *raster, gp_status *note, gp_status *status);
static bool read_samples(void *source, int level, gp_window window, const int *bands, int count,
                         void *samples, gp_status *status);
static bool read_mask(void *source, int level, gp_window window, uint8_t *mask, gp_status *status);
static void close_source(void *source);

static const gp_raster_methods gdal_methods = {read_samples, read_mask, close_source};

/** GDAL's last error in one line. */
static const char *gdal_error(void) {
    const char *message = CPLGetLastErrorMsg();
    return message != NULL && message[0] != '\0' ? message : "no reason is given";
}

bool gp_gdal_raster_open(const char *path, const char *reason, gp_raster *raster, gp_status *note,
                         gp_status *status) {
    static pthread_once_t registered = PTHREAD_ONCE_INIT;
    pthread_once(&registered, GDALAllRegister);
    gdal_source *source = gp_allocate_zeroed(1, sizeof *source);
    if (source == NULL) return gp_fail(status, "%s: no memory", path);
    source->path = raster->info.path;
    raster->source = source;
    raster->methods = &gdal_methods;
    CPLPushErrorHandler(CPLQuietErrorHandler);
    CPLErrorReset();
    source->dataset = GDALOpenEx(path, GDAL_OF_RASTER | GDAL_OF_READONLY, NULL, NULL, NULL);
    bool done = true;
    if (source->dataset == NULL && reason != NULL)
        done = gp_fail(status, "%s: %s, and GDAL does not open it: %s", path, reason, gdal_error());
    else if (source->dataset == NULL)
        done =
            gp_fail(status, "%s: there is no such file, and GDAL does not open it: %s", path, gdal_error());
    done = done && describe(source, raster, status) && locate(source, raster, note, status);
    CPLPopErrorHandler();
    return done;
}

/* ---- what it is ---- */

static bool is_signed_byte(GDALRasterBandH band) {
    const char *type = GDALGetMetadataItem(band, "PIXELTYPE", "IMAGE_STRUCTURE");
    return type != NULL && strcmp(type, "SIGNEDBYTE") == 0;
}

/** The one type that holds every band's samples. */
static bool find_type(gdal_source *source, gp_raster_info *info, int count, gp_status *status) {
    GDALDatasetH dataset = source->dataset;
    source->type = GDALGetRasterDataType(GDALGetRasterBand(dataset, 1));
    for (int i = 2; i <= count; i++)
        source->type = GDALDataTypeUnion(source->type, GDALGetRasterDataType(GDALGetRasterBand(dataset, i)));
    static const struct {
        GDALDataType theirs;
        gp_sample_type ours;
    } types[] = {
        {GDT_Byte, GP_SAMPLE_U8},
        {GDT_UInt16, GP_SAMPLE_U16},
        {GDT_Int16, GP_SAMPLE_I16},
        {GDT_UInt32, GP_SAMPLE_U32},
        {GDT_Int32, GP_SAMPLE_I32},
        {GDT_Float32, GP_SAMPLE_F32},
        {GDT_Float64, GP_SAMPLE_F64},
#if GDAL_VERSION_NUM >= GDAL_COMPUTE_VERSION(3, 7, 0)
        {GDT_Int8, GP_SAMPLE_I8},
#endif
    };
    bool known = false;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (types[i].theirs != source->type) continue;
        info->type = types[i].ours;
        known = true;
    }
    if (source->type == GDT_Byte && is_signed_byte(GDALGetRasterBand(dataset, 1))) info->type = GP_SAMPLE_I8;
    info->bits = gp_sample_type_bytes(info->type) * 8;
    const char *bits = GDALGetMetadataItem(GDALGetRasterBand(dataset, 1), "NBITS", "IMAGE_STRUCTURE");
    if (bits != NULL && atoi(bits) >= 1 && atoi(bits) < info->bits) info->bits = atoi(bits);
    return known || gp_fail(status,
                            "%s: samples of type %s, which are not read; as floats they are: gdal_translate "
                            "-ot Float64 \"%s\" out.tif",
                            info->path, GDALGetDataTypeName(source->type), info->path);
}

static void read_palette(GDALRasterBandH band, gp_raster_info *info) {
    GDALColorTableH table = GDALGetRasterColorTable(band);
    int count = table != NULL ? GDALGetColorEntryCount(table) : 0;
    if (count < 1 || count > UINT16_MAX + 1) return;
    info->palette = gp_allocate_zeroed((size_t)count, sizeof *info->palette);
    if (info->palette == NULL) return;
    info->palette_size = count;
    for (int i = 0; i < count; i++) {
        const GDALColorEntry *entry = GDALGetColorEntry(table, i);
        const short colours[3] = {entry->c1, entry->c2, entry->c3};
        for (int c = 0; c < 3; c++) info->palette[i][c] = (uint8_t)colours[c];
    }
}

static gp_band_role role_of(GDALRasterBandH band) {
    switch (GDALGetRasterColorInterpretation(band)) {
    case GCI_GrayIndex:
        return GP_BAND_GREY;
    case GCI_PaletteIndex:
        return GP_BAND_PALETTE;
    case GCI_RedBand:
        return GP_BAND_RED;
    case GCI_GreenBand:
        return GP_BAND_GREEN;
    case GCI_BlueBand:
        return GP_BAND_BLUE;
    case GCI_AlphaBand:
        return GP_BAND_ALPHA;
    default:
        return GP_BAND_UNDEFINED;
    }
}

static bool describe(gdal_source *source, gp_raster *raster, gp_status *status) {
    GDALDatasetH dataset = source->dataset;
    gp_raster_info *info = &raster->info;
    int count = GDALGetRasterCount(dataset);
    if (count < 1) {
        char **parts = GDALGetMetadata(dataset, "SUBDATASETS");
        const char *first = CSLFetchNameValue(parts, "SUBDATASET_1_NAME");
        return gp_fail(status, "%s: no raster of its own%s%s", info->path,
                       first != NULL ? "; it holds others, such as " : "", first != NULL ? first : "");
    }
    info->format = GDALGetDriverShortName(GDALGetDatasetDriver(dataset));
    const char *codec = GDALGetMetadataItem(dataset, "COMPRESSION", "IMAGE_STRUCTURE");
    snprintf(source->codec, sizeof source->codec, "%s", codec != NULL ? codec : info->format);
    info->codec = source->codec;
    info->width = GDALGetRasterXSize(dataset);
    info->height = GDALGetRasterYSize(dataset);
    const char *order = GDALGetMetadataItem(dataset, "INTERLEAVE", "IMAGE_STRUCTURE");
    info->planar = count > 1 && order != NULL && strcmp(order, "BAND") == 0;
    if (!find_type(source, info, count, status) || !gp_raster_allocate_bands(raster, count, status))
        return false;
    for (int i = 0; i < count; i++) {
        GDALRasterBandH band = GDALGetRasterBand(dataset, i + 1);
        int has_nodata = 0;
        double nodata = GDALGetRasterNoDataValue(band, &has_nodata);
        info->bands[i] = (gp_band){role_of(band), has_nodata != 0, nodata};
        if (info->bands[i].role == GP_BAND_PALETTE && info->palette == NULL) read_palette(band, info);
        if (info->bands[i].role == GP_BAND_ALPHA && info->alpha == 0) info->alpha = i + 1;
    }
    int mask = GDALGetMaskFlags(GDALGetRasterBand(dataset, 1));
    info->has_mask = (mask & GMF_PER_DATASET) != 0 && (mask & GMF_ALPHA) == 0;
    return describe_levels(source, raster, status);
}

static bool describe_levels(gdal_source *source, gp_raster *raster, gp_status *status) {
    gp_raster_info *info = &raster->info;
    int count = GDALGetOverviewCount(GDALGetRasterBand(source->dataset, 1));
    for (int i = 2; i <= info->band_count; i++) {
        int of_band = GDALGetOverviewCount(GDALGetRasterBand(source->dataset, i));
        if (of_band < count) count = of_band;
    }
    source->overviews = gp_allocate_zeroed((size_t)count + 1, sizeof *source->overviews);
    if (source->overviews == NULL) return gp_fail(status, "%s: no memory", info->path);
    if (!gp_raster_allocate_levels(raster, count + 1, status)) return false;
    info->level_count = 0;
    for (int i = -1; i < count; i++) {
        GDALRasterBandH band = GDALGetRasterBand(source->dataset, 1);
        if (i >= 0) band = GDALGetOverview(band, i);
        if (band == NULL) continue;
        gp_raster_level level = {.width = GDALGetRasterBandXSize(band),
                                 .height = GDALGetRasterBandYSize(band)};
        GDALGetBlockSize(band, &level.block_width, &level.block_height);
        bool is_smaller = i < 0 || level.width < info->levels[info->level_count - 1].width ||
                          level.height < info->levels[info->level_count - 1].height;
        if (!is_smaller || level.block_width < 1 || level.block_height < 1) continue;
        source->overviews[info->level_count] = i;
        info->levels[info->level_count++] = level;
    }
    info->tiled = info->levels[0].block_width < info->width;
    return info->level_count > 0 || gp_fail(status, "%s: a raster without blocks", info->path);
}

/* ---- where it lies ---- */

/** A GeoTIFF of one pixel with the dataset's place at `name`. */
static bool write_place(GDALDatasetH dataset, const char *name) {
    GDALDriverH driver = GDALGetDriverByName("GTiff");
    GDALDatasetH place = driver != NULL ? GDALCreate(driver, name, 1, 1, 1, GDT_Byte, NULL) : NULL;
    if (place == NULL) return false;
    double transform[6];
    int points = GDALGetGCPCount(dataset);
    OGRSpatialReferenceH system = GDALGetSpatialRef(dataset);
    bool done = true;
    if (GDALGetGeoTransform(dataset, transform) == CE_None) {
        if (system != NULL) done = GDALSetSpatialRef(place, system) == CE_None;
        done = done && GDALSetGeoTransform(place, transform) == CE_None;
    } else if (points > 0) {
        done = GDALSetGCPs2(place, points, GDALGetGCPs(dataset), GDALGetGCPSpatialRef(dataset)) == CE_None;
    }
    GDALClose(place);
    return done;
}

static bool locate(const gdal_source *source, gp_raster *raster, gp_status *note, gp_status *status) {
    gp_raster_info *info = &raster->info;
    char name[64];
    snprintf(name, sizeof name, "/vsimem/geopixel-%p.tif", (const void *)source);
    gp_geo_tags tags = {0};
    bool rational = false, done = write_place(source->dataset, name);
    vsi_l_offset size = 0;
    const GByte *bytes = done ? VSIGetMemFileBuffer(name, &size, FALSE) : NULL;
    int descriptor = memfd_create("geopixel-place", MFD_CLOEXEC);
    gp_tiff_file file;
    done = bytes != NULL && descriptor >= 0 && write(descriptor, bytes, size) == (ssize_t)size;
    if (!done) gp_fail(status, "%s: where it lies cannot be told: %s", info->path, gdal_error());
    if (done && gp_tiff_file_open(&file, descriptor, size, info->path, 0, status)) {
        done = gp_tiff_read_geo_tags(&file, &tags, &rational, status);
        gp_tiff_file_close(&file);
        done = done && gp_georeference_read(&tags, info->path, &info->georeference, note, status);
    } else {
        done = false;
    }
    gp_geo_tags_clear(&tags);
    if (descriptor >= 0) close(descriptor);
    VSIUnlink(name);
    info->georeference.rational = GDALGetMetadata(source->dataset, "RPC") != NULL;
    if (done) gp_raster_note_place(raster, note);
    return done;
}

/* ---- reading ---- */

static GDALRasterBandH band_of(const gdal_source *source, int level, int band) {
    GDALRasterBandH whole = GDALGetRasterBand(source->dataset, band);
    return source->overviews[level] < 0 ? whole : GDALGetOverview(whole, source->overviews[level]);
}

/** One band's window to `target`, its samples `step` bytes apart. */
static bool read_band(const gdal_source *source, GDALRasterBandH band, gp_window window, void *target,
                      GDALDataType type, int step, gp_status *status) {
    CPLPushErrorHandler(CPLQuietErrorHandler);
    CPLErrorReset();
    bool done = band != NULL && GDALRasterIOEx(band, GF_Read, window.x, window.y, window.width, window.height,
                                               target, window.width, window.height, type, step,
                                               (GSpacing)step * window.width, NULL) == CE_None;
    if (!done)
        gp_fail(status, "%s: the window of %d x %d pixels at (%d, %d): GDAL: %s", source->path, window.width,
                window.height, window.x, window.y, gdal_error());
    CPLPopErrorHandler();
    return done;
}

static bool read_samples(void *opaque, int level, gp_window window, const int *bands, int count,
                         void *samples, gp_status *status) {
    const gdal_source *source = opaque;
    int bytes = GDALGetDataTypeSizeBytes(source->type);
    bool done = true;
    for (int i = 0; i < count && done; i++)
        done = read_band(source, band_of(source, level, bands[i]), window, (char *)samples + i * bytes,
                         source->type, count * bytes, status);
    return done;
}

static bool read_mask(void *opaque, int level, gp_window window, uint8_t *mask, gp_status *status) {
    const gdal_source *source = opaque;
    return read_band(source, GDALGetMaskBand(band_of(source, level, 1)), window, mask, GDT_Byte, 1, status);
}

static void close_source(void *opaque) {
    gdal_source *source = opaque;
    if (source->dataset != NULL) GDALClose(source->dataset);
    gp_free(source->overviews);
    gp_free(source);
}
