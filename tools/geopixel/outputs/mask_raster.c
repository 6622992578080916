/**
 * The layout of a cloud-optimised GeoTIFF (OGC 21-026): all directories first, the scene's and then its
 * overviews', each followed by its list of tiles; then the tiles, the smallest overview's first. libtiff
 * writes the directories with lists that are filled in later.
 */
#include "tools/geopixel/outputs/mask_raster.h"

#include "kernels/base/memory.h"
#include "loaders/geo/geotiff_tags.h"
#include "tools/geopixel/outputs/xml_text.h"
#include "tools/geopixel/palette.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <tiffio.h>

enum { TILE = 512, LEVELS_MAX = 16 };
/** A raster under way. */
typedef struct writing {
    TIFF *tiff;
    FILE *stream;
    const char *path;
    gp_status trouble; /* what libtiff told first */
    const gp_answer *answer;
    const gp_georeference *georeference;
    int width, height, levels;
    bool as_bands;
    int band_count, bits;
    uint8_t *plane; /* [height, width] of labels (of 2 bytes where bits is 16), or of one mask */
    uint8_t *tile;
} writing;

static bool open_tiff(writing *w, gp_status *status);
static bool write_directory(writing *w, int level);
static bool write_tiles(writing *w, int level);
static void draw_labels(writing *w);

bool gp_mask_raster_write(FILE *stream, const gp_answer *answer, int width, int height,
                          const gp_georeference *georeference, bool bands, const char *path,
                          gp_status *status) {
    writing w = {.stream = stream, .path = path, .answer = answer, .georeference = georeference};
    w.width = width;
    w.height = height;
    w.as_bands = bands;
    w.band_count = bands && answer->mask_count > 0 ? (int)answer->mask_count : 1;
    w.bits = bands ? 1 : answer->mask_count > UINT8_MAX ? 16 : 8;
    w.levels = 1;
    while ((width - 1) >> (w.levels - 1) >= TILE || (height - 1) >> (w.levels - 1) >= TILE) w.levels++;
    if (answer->mask_count > UINT16_MAX || w.levels > LEVELS_MAX)
        return gp_fail(status, "%s: %zu masks of %d x %d pixels; %d masks are the most", path,
                       answer->mask_count, width, height, UINT16_MAX);
    size_t sample = w.bits == 16 ? 2 : 1;
    w.plane = gp_allocate_zeroed((size_t)width * (size_t)height, sample);
    w.tile = gp_allocate((size_t)TILE * TILE * sample);
    bool done = w.plane != NULL && w.tile != NULL;
    if (!done) gp_fail(status, "%s: no memory for %d x %d pixels", path, width, height);
    done = done && open_tiff(&w, status);
    if (done) {
        if (!bands) draw_labels(&w);
        for (int level = 0; level < w.levels && done; level++) done = write_directory(&w, level);
        for (int level = 0; level < w.levels && done; level++)
            done = TIFFSetDirectory(w.tiff, (tdir_t)level) && TIFFForceStrileArrayWriting(w.tiff);
        for (int level = w.levels - 1; level >= 0 && done; level--)
            done = TIFFSetDirectory(w.tiff, (tdir_t)level) && write_tiles(&w, level) && TIFFFlush(w.tiff);
        TIFFClose(w.tiff);
        done = done && !gp_failed(&w.trouble) && fflush(stream) == 0 && !ferror(stream);
        if (!done)
            gp_fail(status, "%s: cannot be written%s%s", path, gp_failed(&w.trouble) ? ": " : "",
                    gp_failed(&w.trouble) ? w.trouble.message : "");
    }
    gp_status_clear(&w.trouble);
    gp_free(w.plane);
    gp_free(w.tile);
    return done;
}

/* ---- the file, as libtiff uses it ---- */

static tmsize_t read_bytes(thandle_t handle, void *target, tmsize_t count) {
    return (tmsize_t)fread(target, 1, (size_t)count, ((writing *)handle)->stream);
}

static tmsize_t write_bytes(thandle_t handle, void *bytes, tmsize_t count) {
    return (tmsize_t)fwrite(bytes, 1, (size_t)count, ((writing *)handle)->stream);
}

static toff_t seek(thandle_t handle, toff_t offset, int whence) {
    FILE *stream = ((writing *)handle)->stream;
    return fseeko(stream, (off_t)offset, whence) == 0 ? (toff_t)ftello(stream) : (toff_t)-1;
}

static int close_file(thandle_t handle) {
    (void)handle;
    return 0;
}

static toff_t file_size(thandle_t handle) {
    FILE *stream = ((writing *)handle)->stream;
    off_t at = ftello(stream);
    fseeko(stream, 0, SEEK_END);
    off_t size = ftello(stream);
    fseeko(stream, at, SEEK_SET);
    return (toff_t)size;
}

static int on_error(TIFF *tiff, void *user, const char *module, const char *format, va_list arguments) {
    (void)tiff;
    (void)module;
    writing *w = user;
    char message[512];
    vsnprintf(message, sizeof message, format, arguments);
    if (!gp_failed(&w->trouble)) gp_fail(&w->trouble, "%s", message);
    return 1;
}

static int on_warning(TIFF *tiff, void *user, const char *module, const char *format, va_list arguments) {
    (void)tiff, (void)user, (void)module, (void)format, (void)arguments;
    return 1;
}

static bool open_tiff(writing *w, gp_status *status) {
    /* A third for the overviews; what Deflate saves is not counted upon. */
    double most = (double)w->width * w->height * w->bits / 8 * w->band_count * 4 / 3;
    TIFFOpenOptions *options = TIFFOpenOptionsAlloc();
    if (options == NULL) return gp_fail(status, "%s: no memory for libtiff", w->path);
    TIFFOpenOptionsSetErrorHandlerExtR(options, on_error, w);
    TIFFOpenOptionsSetWarningHandlerExtR(options, on_warning, w);
    w->tiff = TIFFClientOpenExt(w->path, most > 3.5e9 ? "w8" : "w", w, read_bytes, write_bytes, seek,
                                close_file, file_size, NULL, NULL, options);
    TIFFOpenOptionsFree(options);
    return w->tiff != NULL ||
           gp_fail(status, "%s: cannot be written: %s", w->path,
                   gp_failed(&w->trouble) ? w->trouble.message : "libtiff gives no reason");
}

/* ---- directories ---- */

/** Sets a tag whose count is told beside it: with as many bits as its registration says. */
static bool set_counted(TIFF *tiff, uint32_t tag, size_t count, const void *values) {
    const TIFFField *field = TIFFFindField(tiff, tag, TIFF_ANY);
    if (field == NULL) return false;
    if (TIFFFieldWriteCount(field) == TIFF_VARIABLE2)
        return TIFFSetField(tiff, tag, (uint32_t)count, values) == 1;
    return count <= UINT16_MAX && TIFFSetField(tiff, tag, (int)count, values) == 1;
}

static bool set_geo_tags(TIFF *tiff, const gp_geo_tags *tags) {
    static const TIFFFieldInfo fields[] = {
        {GP_TAG_PIXEL_SCALE, TIFF_VARIABLE2, TIFF_VARIABLE2, TIFF_DOUBLE, FIELD_CUSTOM, 1, 1,
         "ModelPixelScaleTag"},
        {GP_TAG_TIEPOINTS, TIFF_VARIABLE2, TIFF_VARIABLE2, TIFF_DOUBLE, FIELD_CUSTOM, 1, 1,
         "ModelTiepointTag"},
        {GP_TAG_TRANSFORMATION, TIFF_VARIABLE2, TIFF_VARIABLE2, TIFF_DOUBLE, FIELD_CUSTOM, 1, 1,
         "ModelTransformationTag"},
        {GP_TAG_KEYS, TIFF_VARIABLE2, TIFF_VARIABLE2, TIFF_SHORT, FIELD_CUSTOM, 1, 1, "GeoKeyDirectoryTag"},
        {GP_TAG_PARAMETERS, TIFF_VARIABLE2, TIFF_VARIABLE2, TIFF_DOUBLE, FIELD_CUSTOM, 1, 1,
         "GeoDoubleParamsTag"},
        {GP_TAG_TEXT, TIFF_VARIABLE, TIFF_VARIABLE, TIFF_ASCII, FIELD_CUSTOM, 1, 0, "GeoASCIIParamsTag"},
    };
    return TIFFMergeFieldInfo(tiff, fields, sizeof fields / sizeof *fields) == 0 &&
           (tags->scale == NULL || set_counted(tiff, GP_TAG_PIXEL_SCALE, 3, tags->scale)) &&
           (tags->tiepoints == NULL ||
            set_counted(tiff, GP_TAG_TIEPOINTS, tags->tiepoint_count * 6, tags->tiepoints)) &&
           (tags->matrix == NULL || set_counted(tiff, GP_TAG_TRANSFORMATION, 16, tags->matrix)) &&
           (tags->keys == NULL || set_counted(tiff, GP_TAG_KEYS, tags->key_count, tags->keys)) &&
           (tags->parameters == NULL ||
            set_counted(tiff, GP_TAG_PARAMETERS, tags->parameter_count, tags->parameters)) &&
           (tags->text == NULL || TIFFSetField(tiff, GP_TAG_TEXT, tags->text) == 1);
}

/** The phrases as GDAL's metadata: descriptions of the bands, or items MASK_1, MASK_2, …. */
static bool set_metadata(const writing *w) {
    char *text = NULL;
    size_t length = 0;
    FILE *to = open_memstream(&text, &length);
    if (to == NULL) return false;
    fputs("<GDALMetadata>\n", to);
    for (size_t i = 0; i < w->answer->mask_count; i++) {
        const gp_phrase *phrase = gp_answer_phrase(w->answer, i);
        if (w->as_bands)
            fprintf(to, "  <Item name=\"DESCRIPTION\" sample=\"%zu\" role=\"description\">", i);
        else
            fprintf(to, "  <Item name=\"MASK_%zu\">", i + 1);
        gp_xml_write(to, phrase != NULL ? phrase->text : "", 2);
        fputs("</Item>\n", to);
    }
    fputs("</GDALMetadata>\n", to);
    bool done = fclose(to) == 0 && TIFFSetField(w->tiff, TIFFTAG_GDAL_METADATA, text) == 1;
    free(text);
    return done;
}

/** Colour k for label k, 16 bits each; label 0 is black. */
static bool set_colours(const writing *w) {
    size_t count = (size_t)1 << w->bits;
    uint16_t *colours = gp_allocate_zeroed(count * 3, sizeof *colours);
    if (colours == NULL) return false;
    for (size_t i = 1; i < count && i <= w->answer->mask_count; i++) {
        gp_colour colour = gp_palette((int)(i - 1));
        colours[i] = (uint16_t)(colour.red * 257);
        colours[count + i] = (uint16_t)(colour.green * 257);
        colours[2 * count + i] = (uint16_t)(colour.blue * 257);
    }
    bool done = TIFFSetField(w->tiff, TIFFTAG_COLORMAP, colours, colours + count, colours + 2 * count) == 1;
    gp_free(colours);
    return done;
}

static int level_size(int size, int level) {
    return ((size - 1) >> level) + 1;
}

static bool write_directory(writing *w, int level) {
    static const TIFFFieldInfo fields[] = {
        {TIFFTAG_GDAL_METADATA, TIFF_VARIABLE, TIFF_VARIABLE, TIFF_ASCII, FIELD_CUSTOM, 1, 0, "GDALMetadata"},
        {TIFFTAG_GDAL_NODATA, TIFF_VARIABLE, TIFF_VARIABLE, TIFF_ASCII, FIELD_CUSTOM, 1, 0,
         "GDALNoDataValue"},
    };
    TIFF *tiff = w->tiff;
    bool done =
        TIFFMergeFieldInfo(tiff, fields, 2) == 0 &&
        TIFFSetField(tiff, TIFFTAG_IMAGEWIDTH, level_size(w->width, level)) &&
        TIFFSetField(tiff, TIFFTAG_IMAGELENGTH, level_size(w->height, level)) &&
        TIFFSetField(tiff, TIFFTAG_SUBFILETYPE, level > 0 ? FILETYPE_REDUCEDIMAGE : 0) &&
        TIFFSetField(tiff, TIFFTAG_BITSPERSAMPLE, w->bits) &&
        TIFFSetField(tiff, TIFFTAG_SAMPLESPERPIXEL, w->band_count) &&
        TIFFSetField(tiff, TIFFTAG_SAMPLEFORMAT, SAMPLEFORMAT_UINT) &&
        TIFFSetField(tiff, TIFFTAG_PLANARCONFIG,
                     w->band_count > 1 ? PLANARCONFIG_SEPARATE : PLANARCONFIG_CONTIG) &&
        TIFFSetField(tiff, TIFFTAG_COMPRESSION, COMPRESSION_ADOBE_DEFLATE) &&
        TIFFSetField(tiff, TIFFTAG_PHOTOMETRIC, w->as_bands ? PHOTOMETRIC_MINISBLACK : PHOTOMETRIC_PALETTE) &&
        TIFFSetField(tiff, TIFFTAG_TILEWIDTH, TILE) && TIFFSetField(tiff, TIFFTAG_TILELENGTH, TILE);
    if (done && w->band_count > 1) {
        uint16_t *extra = gp_allocate_zeroed((size_t)w->band_count - 1, sizeof *extra);
        done = extra != NULL && TIFFSetField(tiff, TIFFTAG_EXTRASAMPLES, w->band_count - 1, extra);
        gp_free(extra);
    }
    if (done && !w->as_bands) done = set_colours(w) && TIFFSetField(tiff, TIFFTAG_GDAL_NODATA, "0") == 1;
    if (done && level == 0)
        done = (w->answer->mask_count == 0 || set_metadata(w)) && set_geo_tags(tiff, &w->georeference->tags);
    return done && TIFFDeferStrileArrayWriting(tiff) && TIFFWriteCheck(tiff, 1, "geopixel") &&
           TIFFWriteDirectory(tiff);
}

/* ---- tiles ---- */

static void draw_labels(writing *w) {
    for (size_t k = 0; k < w->answer->mask_count; k++)
        gp_rle_paint(&w->answer->masks[k].rle, w->plane, w->bits == 16 ? 2 : 1, (uint16_t)(k + 1));
}

/** The tile's pixels, the nearest of each square of the scene; beyond its edges 0. */
static void fill_tile(const writing *w, int level, int left, int top) {
    size_t sample = w->bits == 16 ? 2 : 1;
    int columns = level_size(w->width, level) - left, rows = level_size(w->height, level) - top;
    memset(w->tile, 0, (size_t)TILE * TILE * sample);
    for (int y = 0; y < TILE && y < rows; y++) {
        const uint8_t *source = w->plane + (size_t)(top + y) * ((size_t)w->width << level) * sample;
        for (int x = 0; x < TILE && x < columns; x++) {
            size_t from = (size_t)(left + x) << level, to = (size_t)(y * TILE + x);
            if (w->bits == 16)
                memcpy(w->tile + 2 * to, source + 2 * from, 2);
            else if (w->bits == 8)
                w->tile[to] = source[from];
            else if (source[from] != 0)
                w->tile[to / 8] |= (uint8_t)(0x80 >> to % 8);
        }
    }
}

static bool write_tiles(writing *w, int level) {
    tmsize_t bytes = (tmsize_t)TILE * TILE * w->bits / 8;
    bool done = true;
    for (int band = 0; band < w->band_count && done; band++) {
        if (w->as_bands && w->answer->mask_count > 0) gp_rle_decode(&w->answer->masks[band].rle, w->plane);
        for (int top = 0; top < level_size(w->height, level) && done; top += TILE) {
            for (int left = 0; left < level_size(w->width, level) && done; left += TILE) {
                uint32_t tile = TIFFComputeTile(w->tiff, (uint32_t)left, (uint32_t)top, 0, (uint16_t)band);
                fill_tile(w, level, left, top);
                done = TIFFWriteEncodedTile(w->tiff, tile, w->tile, bytes) == bytes;
            }
        }
    }
    return done;
}
