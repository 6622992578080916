/**
 * A TIFF file as a raster: the scene is its first picture that is neither a reduced one nor a mask; reduced
 * ones are overviews, masks go with the picture of their size, and all others are further pictures. Those are
 * GDAL's conventions (https://gdal.org/drivers/raster/gtiff.html).
 */
#include "kernels/base/memory.h"
#include "loaders/raster/raster_parts.h"
#include "loaders/raster/tiff_picture.h"
#include "loaders/raster/tiff_tags.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DIRECTORIES_MAX = 4096 };

/** A level's pixels and its mask's; a mask without a width is not there. */
typedef struct tiff_level {
    gp_tiff_picture picture, mask;
} tiff_level;

typedef struct tiff_source {
    int descriptor;
    gp_tiff_file origin; /* the handle over the scene's directory; its descriptor and path serve the others */
    gp_band *bands;      /* the raster's, for nodata */
    tiff_level *levels;  /* [level_count] */
    int level_count;
    uint64_t scene_offset;
    int further_pictures;
} tiff_source;

static bool read_file(const char *path, gp_raster *raster, gp_status *note, gp_status *status);
static bool find_scene(tiff_source *source, gp_tiff_file *file, gp_status *status);
static bool find_levels(tiff_source *source, gp_tiff_file *file, gp_status *status);
static bool describe(tiff_source *source, gp_raster *raster, gp_status *status);
static bool locate(tiff_source *source, gp_raster *raster, gp_status *note, gp_status *status);
static bool read_samples(void *source, int level, gp_window window, const int *bands, int count,
                         void *samples, gp_status *status);
static bool read_mask(void *source, int level, gp_window window, uint8_t *mask, gp_status *status);
static void close_source(void *source);

static const gp_raster_methods tiff_methods = {read_samples, read_mask, close_source};

bool gp_tiff_raster_open(const char *path, gp_raster *raster, gp_status *note, gp_status *status) {
    tiff_source *source = gp_allocate_zeroed(1, sizeof *source);
    if (source == NULL) return gp_fail(status, "%s: no memory", path);
    source->descriptor = -1;
    raster->source = source;
    raster->methods = &tiff_methods;
    return read_file(path, raster, note, status);
}

static bool read_file(const char *path, gp_raster *raster, gp_status *note, gp_status *status) {
    tiff_source *source = raster->source;
    struct stat info;
    source->descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (source->descriptor < 0 || fstat(source->descriptor, &info) != 0)
        return gp_fail(status, "%s: cannot be read: %s", path, strerror(errno));
    gp_tiff_file walk;
    if (!gp_tiff_file_open(&walk, source->descriptor, (uint64_t)info.st_size, path, 0, status)) return false;
    bool done = find_scene(source, &walk, status) && find_levels(source, &walk, status);
    raster->info.format = TIFFIsBigTIFF(walk.tiff) ? "BigTIFF" : "TIFF";
    gp_tiff_file_close(&walk);
    return done &&
           gp_tiff_file_open(&source->origin, source->descriptor, (uint64_t)info.st_size, raster->info.path,
                             source->scene_offset, status) &&
           describe(source, raster, status) && locate(source, raster, note, status);
}

/* ---- pictures in the file ---- */

static uint32_t picture_kind(gp_tiff_file *file) {
    uint32_t kind = 0;
    TIFFGetFieldDefaulted(file->tiff, TIFFTAG_SUBFILETYPE, &kind);
    return kind;
}

static bool find_scene(tiff_source *source, gp_tiff_file *file, gp_status *status) {
    source->scene_offset = TIFFCurrentDirOffset(file->tiff);
    for (int i = 0; i < DIRECTORIES_MAX; i++) {
        if ((picture_kind(file) & (FILETYPE_REDUCEDIMAGE | FILETYPE_MASK)) == 0) {
            source->scene_offset = TIFFCurrentDirOffset(file->tiff);
            break;
        }
        if (!TIFFReadDirectory(file->tiff)) break;
    }
    return TIFFSetDirectory(file->tiff, 0) ||
           gp_tiff_file_fail(file, "TIFF whose directories cannot be read", status);
}

/** A directory of a kind that does not belong to the scene is none of its levels and no failure. */
static bool describe_quietly(gp_tiff_file *file, gp_tiff_picture *picture) {
    gp_status unheard = {0};
    bool done = gp_tiff_picture_describe(file, picture, &unheard);
    gp_status_clear(&unheard);
    gp_tiff_file_forget(file);
    return done;
}

/** Adds to a list that grows. */
static bool append(gp_tiff_picture **list, int *count, const gp_tiff_picture *picture) {
    size_t size = sizeof *picture;
    gp_tiff_picture *grown = gp_grow(*list, (size_t)*count * size, ((size_t)*count + 1) * size);
    if (grown == NULL) return false;
    *list = grown;
    grown[(*count)++] = *picture;
    return true;
}

/** The scene first, then overviews from the largest on, each with its mask. An overview without a mask of its
 * own in a scene with one is passed over: it would show pixels that do not count. */
static bool arrange(tiff_source *source, const gp_tiff_picture *scene, gp_tiff_picture *overviews,
                    int overview_count, const gp_tiff_picture *masks, int mask_count) {
    for (int i = 1; i < overview_count; i++) {
        gp_tiff_picture moved = overviews[i];
        int at = i;
        for (; at > 0 && overviews[at - 1].width < moved.width; at--) overviews[at] = overviews[at - 1];
        overviews[at] = moved;
    }
    source->levels = gp_allocate_zeroed((size_t)overview_count + 1, sizeof *source->levels);
    if (source->levels == NULL) return false;
    for (int i = -1; i < overview_count; i++) {
        tiff_level level = {.picture = i < 0 ? *scene : overviews[i]};
        for (int m = mask_count - 1; m >= 0; m--)
            if (masks[m].width == level.picture.width && masks[m].height == level.picture.height)
                level.mask = masks[m];
        bool is_masked = level.mask.width > 0;
        if (i < 0 || is_masked == (source->levels[0].mask.width > 0))
            source->levels[source->level_count++] = level;
    }
    return true;
}

static bool find_levels(tiff_source *source, gp_tiff_file *file, gp_status *status) {
    gp_tiff_picture scene = {0}, picture, *overviews = NULL, *masks = NULL;
    int overview_count = 0, mask_count = 0;
    if (!TIFFSetSubDirectory(file->tiff, source->scene_offset))
        return gp_tiff_file_fail(file, "TIFF whose directory cannot be read", status);
    if (!gp_tiff_picture_describe(file, &scene, status)) return false;
    bool done = TIFFSetDirectory(file->tiff, 0) ||
                gp_tiff_file_fail(file, "TIFF whose directories cannot be read", status);
    for (int i = 0; i < DIRECTORIES_MAX && done; i++) {
        uint32_t kind = picture_kind(file);
        if (TIFFCurrentDirOffset(file->tiff) != source->scene_offset) {
            bool known = describe_quietly(file, &picture);
            if (kind & FILETYPE_MASK) {
                /* In the mask itself 1 is a pixel that counts, whatever its photometric interpretation. */
                if (known && picture.samples == 1 && picture.type == GP_SAMPLE_U8)
                    done = append(&masks, &mask_count, &picture);
            } else if (kind & FILETYPE_REDUCEDIMAGE) {
                if (known && picture.samples == scene.samples && picture.type == scene.type &&
                    picture.bits == scene.bits && picture.width <= scene.width &&
                    picture.height <= scene.height &&
                    (picture.width < scene.width || picture.height < scene.height))
                    done = append(&overviews, &overview_count, &picture);
            } else {
                source->further_pictures++;
            }
            if (!done) gp_fail(status, "%s: no memory for its directories", file->path);
        }
        if (!TIFFReadDirectory(file->tiff)) break;
    }
    if (done && !arrange(source, &scene, overviews, overview_count, masks, mask_count))
        done = gp_fail(status, "%s: no memory for its directories", file->path);
    gp_free(overviews);
    gp_free(masks);
    return done;
}

/* ---- what the scene is ---- */

static bool read_palette(TIFF *tiff, const gp_tiff_picture *picture, gp_raster_info *info) {
    uint16_t *colours[3];
    if (picture->bits > 16 || !TIFFGetField(tiff, TIFFTAG_COLORMAP, &colours[0], &colours[1], &colours[2]))
        return true;
    info->palette_size = 1 << picture->bits;
    info->palette = gp_allocate_zeroed((size_t)info->palette_size, sizeof *info->palette);
    if (info->palette == NULL) return false;
    bool is_small = true; /* some writers put 8 bits where 16 belong */
    for (int i = 0; i < info->palette_size; i++)
        for (int c = 0; c < 3; c++) is_small = is_small && colours[c][i] < 256;
    for (int i = 0; i < info->palette_size; i++)
        for (int c = 0; c < 3; c++) info->palette[i][c] = (uint8_t)(colours[c][i] >> (is_small ? 0 : 8));
    return true;
}

/** Roles from the photometric interpretation, and alpha among what is beside its colours. */
static void assign_roles(TIFF *tiff, const gp_tiff_picture *picture, gp_raster_info *info) {
    uint16_t extra_count = 0, *extra = NULL;
    if (picture->as_rgba) {
        extra_count = 1;
        extra = (uint16_t[]){EXTRASAMPLE_ASSOCALPHA};
    } else {
        TIFFGetFieldDefaulted(tiff, TIFFTAG_EXTRASAMPLES, &extra_count, &extra);
    }
    int count = info->band_count;
    if (picture->photometric == PHOTOMETRIC_RGB) {
        for (int i = 0; i < 3 && i < count; i++) info->bands[i].role = (gp_band_role)(GP_BAND_RED + i);
    } else if (picture->photometric == PHOTOMETRIC_PALETTE) {
        info->bands[0].role = GP_BAND_PALETTE;
    } else if (picture->photometric == PHOTOMETRIC_MINISBLACK ||
               picture->photometric == PHOTOMETRIC_MINISWHITE) {
        info->bands[0].role = GP_BAND_GREY;
    }
    for (int i = 0; i < extra_count && extra_count <= count; i++)
        if (extra[i] == EXTRASAMPLE_ASSOCALPHA || extra[i] == EXTRASAMPLE_UNASSALPHA)
            info->bands[count - extra_count + i].role = GP_BAND_ALPHA;
}

static bool describe(tiff_source *source, gp_raster *raster, gp_status *status) {
    const gp_tiff_picture *scene = &source->levels[0].picture;
    gp_raster_info *info = &raster->info;
    TIFF *tiff = source->origin.tiff;
    const char *codec = gp_tiff_codec_name(scene->compression);
    info->codec = codec != NULL ? codec : TIFFFindCODEC(scene->compression)->name;
    info->width = (int)scene->width;
    info->height = (int)scene->height;
    info->type = scene->type;
    info->bits = scene->bits;
    info->tiled = scene->tiled;
    info->planar = scene->planar;
    info->has_mask = source->levels[0].mask.width > 0;
    info->zero_is_white = scene->photometric == PHOTOMETRIC_MINISWHITE;
    info->inks = scene->photometric == PHOTOMETRIC_SEPARATED;
    info->further_pictures = source->further_pictures;
    if (!gp_raster_allocate_bands(raster, scene->samples, status) ||
        !gp_raster_allocate_levels(raster, source->level_count, status))
        return false;
    source->bands = info->bands;
    for (int i = 0; i < source->level_count; i++) {
        const gp_tiff_picture *picture = &source->levels[i].picture;
        info->levels[i] = (gp_raster_level){(int)picture->width, (int)picture->height,
                                            (int)picture->block_width, (int)picture->block_height};
    }
    assign_roles(tiff, scene, info);
    if (!gp_tiff_read_gdal_tags(&source->origin, info->bands, info->band_count, status)) return false;
    for (int i = info->band_count; i > 0; i--)
        if (info->bands[i - 1].role == GP_BAND_ALPHA) info->alpha = i;
    if (scene->photometric == PHOTOMETRIC_PALETTE && !scene->as_rgba && !read_palette(tiff, scene, info))
        return gp_fail(status, "%s: no memory for its palette", info->path);
    if (scene->photometric == PHOTOMETRIC_PALETTE && info->palette == NULL)
        return gp_fail(status, "%s: palette TIFF without a palette", info->path);
    return true;
}

static bool locate(tiff_source *source, gp_raster *raster, gp_status *note, gp_status *status) {
    gp_raster_info *info = &raster->info;
    gp_geo_tags tags;
    bool rational = false;
    if (!gp_tiff_read_geo_tags(&source->origin, &tags, &rational, status)) {
        gp_geo_tags_clear(&tags);
        return false;
    }
    if (!gp_georeference_read(&tags, info->path, &info->georeference, note, status)) return false;
    info->georeference.rational = rational;
    const gp_georeference *place = &info->georeference;
    if (place->has_transform || place->control_point_count > 0 || place->crs != NULL)
        info->format = strcmp(info->format, "BigTIFF") == 0 ? "BigTIFF" : "GeoTIFF";
    gp_raster_note_place(raster, note);
    if (info->further_pictures > 0)
        gp_raster_note(note, "%s: %d further pictures in the file, which are not read", info->path,
                       info->further_pictures);
    return true;
}

/* ---- reading ---- */

static bool read_samples(void *opaque, int level, gp_window window, const int *bands, int count,
                         void *samples, gp_status *status) {
    tiff_source *source = opaque;
    return gp_tiff_picture_read(&source->levels[level].picture, &source->origin, window, bands, count,
                                source->bands, samples, status);
}

static bool read_mask(void *opaque, int level, gp_window window, uint8_t *mask, gp_status *status) {
    tiff_source *source = opaque;
    return gp_tiff_picture_read(&source->levels[level].mask, &source->origin, window, (const int[]){1}, 1,
                                NULL, mask, status);
}

static void close_source(void *opaque) {
    tiff_source *source = opaque;
    for (int i = 0; i < source->level_count; i++) {
        gp_tiff_picture_close(&source->levels[i].picture);
        gp_tiff_picture_close(&source->levels[i].mask);
    }
    gp_tiff_file_close(&source->origin);
    if (source->descriptor >= 0) close(source->descriptor);
    gp_free(source->levels);
    gp_free(source);
}
