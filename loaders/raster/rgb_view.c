#include "loaders/raster/rgb_view.h"

#include "kernels/base/memory.h"
#include "kernels/base/number.h"
#include "loaders/raster/samples.h"
#include "loaders/raster/statistics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Pixels that are read at once beside the picture itself, where the raster's blocks allow. */
enum { CHUNK_PIXELS = 1 << 20 };

static bool choose_bands(const gp_raster_info *info, const gp_rgb_options *options, gp_rgb_view *view,
                         gp_status *status);
static bool choose_stretch(gp_raster *raster, const gp_stretch *wanted, gp_rgb_view *view, gp_status *status);
static gp_window chunk_at(const gp_raster_info *info, gp_window window, int x, int y);
static void show(const gp_rgb_view *view, gp_window window, const void *samples, const uint8_t *valid,
                 uint8_t *rgb, size_t stride, int64_t *valid_pixels);

/* ---- options ---- */

bool gp_rgb_parse_bands(const char *text, gp_rgb_options *options, gp_status *status) {
    const char *at = text;
    int count = 0;
    for (; count < 3; count++) {
        char *end;
        long band = *at >= '0' && *at <= '9' ? strtol(at, &end, 10) : 0;
        if (band < 1 || band > UINT16_MAX) break;
        options->bands[count] = (int)band;
        at = end;
        if (*at != ',') {
            count++;
            break;
        }
        at++;
    }
    options->band_count = count;
    return (*at == '\0' && (count == 1 || count == 3) && at[-1] != ',') ||
           gp_fail(status, "bands \"%s\": one band or three are expected, counted from 1, as in 4,3,2", text);
}

bool gp_rgb_parse_stretch(const char *text, gp_stretch *stretch, gp_status *status) {
    *stretch = (gp_stretch){.kind = GP_STRETCH_NONE};
    if (strcmp(text, "none") == 0) return true;
    stretch->kind = GP_STRETCH_EXTREMES;
    if (strcmp(text, "min,max") == 0) return true;
    bool percent = text[0] == 'p';
    const char *at = text + percent;
    bool done = gp_parse_number(&at, &stretch->low) && *at == ',' && (at++, !percent || *at == 'p');
    if (done) at += percent;
    done = done && gp_parse_number(&at, &stretch->high) && *at == '\0' && stretch->low < stretch->high &&
           isfinite(stretch->low) && isfinite(stretch->high) &&
           (!percent || (stretch->low >= 0 && stretch->high <= 100));
    stretch->kind = percent ? GP_STRETCH_PERCENTILES : GP_STRETCH_VALUES;
    return done || gp_fail(status,
                           "stretch \"%s\": none, min,max, two percentiles as in p2,p98 or two values as in "
                           "100,3000 are expected, the lower first",
                           text);
}

/* ---- what is shown ---- */

bool gp_rgb_view_open(gp_raster *raster, const gp_rgb_options *options, gp_rgb_view *view,
                      gp_status *status) {
    *view = (gp_rgb_view){.raster = raster};
    return choose_bands(gp_raster_about(raster), options, view, status) &&
           choose_stretch(raster, &options->stretch, view, status);
}

static bool choose_bands(const gp_raster_info *info, const gp_rgb_options *options, gp_rgb_view *view,
                         gp_status *status) {
    view->band_count = options->band_count;
    for (int i = 0; i < options->band_count; i++) {
        view->bands[i] = options->bands[i];
        if (view->bands[i] < 1 || view->bands[i] > info->band_count)
            return gp_fail(status, "%s: band %d is asked for; it has bands 1 to %d", info->path,
                           view->bands[i], info->band_count);
    }
    if (view->band_count > 0) return true;
    if (info->inks && info->band_count >= 4 && info->type == GP_SAMPLE_U8) {
        memcpy(view->bands, (const int[]){1, 2, 3, 4}, sizeof view->bands);
        view->band_count = 4;
        return true;
    }
    int named[3] = {0}, plain[3] = {0}, plain_count = 0;
    for (int i = info->band_count; i > 0; i--) {
        gp_band_role role = info->bands[i - 1].role;
        if (role >= GP_BAND_RED && role <= GP_BAND_BLUE) named[role - GP_BAND_RED] = i;
    }
    for (int i = 1; i <= info->band_count && plain_count < 3; i++)
        if (info->bands[i - 1].role != GP_BAND_ALPHA) plain[plain_count++] = i;
    bool is_coloured = named[0] > 0 && named[1] > 0 && named[2] > 0;
    memcpy(view->bands, is_coloured ? named : plain, sizeof named);
    view->band_count = is_coloured || plain_count == 3 ? 3 : 1;
    if (view->bands[0] == 0) view->bands[0] = 1;
    return true;
}

/** Whether the one band that is shown picks colours. */
static bool shows_palette(const gp_raster_info *info, const gp_rgb_view *view) {
    return view->band_count == 1 && info->palette != NULL &&
           info->bands[view->bands[0] - 1].role == GP_BAND_PALETTE;
}

static bool choose_stretch(gp_raster *raster, const gp_stretch *wanted, gp_rgb_view *view,
                           gp_status *status) {
    const gp_raster_info *info = gp_raster_about(raster);
    gp_stretch stretch = *wanted;
    if (stretch.kind == GP_STRETCH_DEFAULT && info->type != GP_SAMPLE_U8)
        stretch = (gp_stretch){GP_STRETCH_PERCENTILES, 2, 98};
    if (stretch.kind == GP_STRETCH_DEFAULT && info->bits < 8)
        stretch = (gp_stretch){GP_STRETCH_VALUES, 0, (1 << info->bits) - 1};
    if (stretch.kind == GP_STRETCH_DEFAULT || stretch.kind == GP_STRETCH_NONE || view->band_count == 4 ||
        shows_palette(info, view))
        return true;
    view->stretched = true;
    for (int i = 0; i < view->band_count; i++) {
        view->low[i] = stretch.low;
        view->high[i] = stretch.high;
    }
    if (stretch.kind == GP_STRETCH_VALUES) return true;
    if (stretch.kind == GP_STRETCH_EXTREMES) stretch.high = 100;
    return gp_raster_percentiles(raster, view->bands, view->band_count, stretch.low, stretch.high, view->low,
                                 view->high, status);
}

/* ---- pixels ---- */

bool gp_rgb_view_read(const gp_rgb_view *view, gp_window window, uint8_t *rgb, size_t stride,
                      int64_t *valid_pixels, gp_status *status) {
    const gp_raster_info *info = gp_raster_about(view->raster);
    int64_t counting = 0;
    size_t capacity = 0;
    void *samples = NULL;
    uint8_t *valid = NULL;
    bool done = true;
    gp_window chunk;
    for (int y = window.y; done && y - window.y < window.height; y += chunk.height) {
        for (int x = window.x; done && x - window.x < window.width; x += chunk.width) {
            chunk = chunk_at(info, window, x, y);
            size_t count = (size_t)chunk.width * (size_t)chunk.height * (size_t)view->band_count;
            if (count > capacity) {
                gp_free(samples);
                gp_free(valid);
                samples = gp_allocate(count * (size_t)gp_sample_type_bytes(info->type));
                valid = gp_allocate(count);
                capacity = count;
            }
            done =
                ((samples != NULL && valid != NULL) || gp_fail(status, "%s: no memory for %d x %d pixels",
                                                               info->path, chunk.width, chunk.height)) &&
                gp_raster_read(view->raster, 0, chunk, view->bands, view->band_count, samples, valid, status);
            if (done)
                show(view, chunk, samples, valid,
                     rgb + (size_t)(y - window.y) * stride + (size_t)(x - window.x) * 3, stride, &counting);
            else
                break;
        }
        if (!done) break;
    }
    gp_free(samples);
    gp_free(valid);
    if (valid_pixels != NULL) *valid_pixels = counting;
    return done;
}

/** The part of the window from (x, y) on that is read at once. It ends where blocks end, so that none is
 * decoded twice; strips are taken in their whole width. */
static gp_window chunk_at(const gp_raster_info *info, gp_window window, int x, int y) {
    const gp_raster_level *level = &info->levels[0];
    int right = window.x + window.width, bottom = window.y + window.height;
    gp_window chunk = {x, y, right - x, bottom - y};
    int64_t columns = chunk.width, rows = level->block_height;
    if (info->tiled) {
        int64_t blocks = CHUNK_PIXELS / ((int64_t)level->block_width * level->block_height);
        if (blocks < 1) blocks = 1;
        columns = (x / level->block_width + blocks) * level->block_width - x;
    } else {
        /* The rows of a strip come one after the other, so that it can be taken in slices. */
        rows = CHUNK_PIXELS / window.width;
        if (rows < 1) rows = 1;
    }
    int64_t end = info->tiled ? (y / rows + 1) * rows : y + rows;
    if (columns < chunk.width) chunk.width = (int)columns;
    if (end - y < chunk.height) chunk.height = (int)(end - y);
    return chunk;
}

/** A value as 8 bits. */
static uint8_t scale(const gp_rgb_view *view, int band, double value) {
    double out = value;
    if (view->stretched) {
        double low = view->low[band], high = view->high[band];
        if (high > low)
            out = (value - low) / (high - low) * 255;
        else
            out = value < low ? 0 : value > low ? 255 : 128;
    }
    return out <= 0 || isnan(out) ? 0 : out >= 255 ? 255 : (uint8_t)(out + 0.5);
}

static void show(const gp_rgb_view *view, gp_window window, const void *samples, const uint8_t *valid,
                 uint8_t *rgb, size_t stride, int64_t *valid_pixels) {
    const gp_raster_info *info = gp_raster_about(view->raster);
    int count = view->band_count;
    bool by_palette = shows_palette(info, view) && !view->stretched;
    size_t at = 0;
    for (int y = 0; y < window.height; y++) {
        uint8_t *pixel = rgb + (size_t)y * stride;
        for (int x = 0; x < window.width; x++, pixel += 3, at += (size_t)count) {
            uint8_t counts = 0, values[4];
            for (int i = 0; i < count; i++) {
                bool is_valid = valid[at + (size_t)i] != 0;
                counts |= is_valid;
                values[i] = 0;
                if (is_valid || !view->stretched) {
                    values[i] = scale(view, i, gp_sample_value(info->type, samples, at + (size_t)i));
                    if (info->zero_is_white) values[i] = (uint8_t)(255 - values[i]);
                }
            }
            *valid_pixels += counts;
            for (int c = 0; c < 3; c++)
                pixel[c] = count == 4   ? (uint8_t)((255 - values[c]) * (255 - values[3]) / 255)
                           : count == 3 ? values[c]
                                        : values[0];
            if (by_palette) {
                unsigned index = (unsigned)gp_sample_value(info->type, samples, at);
                if (index < (unsigned)info->palette_size) memcpy(pixel, info->palette[index], 3);
            }
        }
    }
}
