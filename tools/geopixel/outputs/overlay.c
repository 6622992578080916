#include "tools/geopixel/outputs/overlay.h"

#include "kernels/base/memory.h"
#include "tools/geopixel/outputs/font.h"
#include "tools/geopixel/palette.h"

#include <png.h>
#include <string.h>

enum {
    FILL_PERCENT = 45,
    PANEL_PERCENT = 72, /* how dark the legend's ground is */
    LABEL_MAX = 60,     /* characters */
    ROWS_MAX = 16,      /* of the legend */
};

/** A picture being drawn on. */
typedef struct canvas {
    uint8_t *pixels;
    int width, height;
} canvas;

static void fill_mask(canvas *on, const uint8_t *mask, gp_colour colour);
static void outline_mask(canvas *on, const uint8_t *mask, gp_colour colour, int thickness);
static void draw_legend(canvas *on, const gp_overlay_mask *masks, size_t count);

bool gp_overlay_draw(uint8_t *pixels, int width, int height, const gp_overlay_mask *masks, size_t count,
                     gp_status *status) {
    canvas on = {pixels, width, height};
    uint8_t *mask = gp_allocate((size_t)width * (size_t)height);
    if (mask == NULL) return gp_fail(status, "no memory for an overlay of %d x %d", width, height);
    int longer = width > height ? width : height, thickness = longer < 700 ? 1 : longer < 2000 ? 2 : 3;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < count; i++) {
            gp_rle_decode(masks[i].rle, mask);
            if (pass == 0)
                fill_mask(&on, mask, gp_palette((int)i));
            else
                outline_mask(&on, mask, gp_palette((int)i), thickness);
        }
    }
    draw_legend(&on, masks, count);
    gp_free(mask);
    return true;
}

/** Moves a pixel towards a colour by `percent`. */
static void blend(canvas *on, int x, int y, gp_colour colour, int percent) {
    if (x < 0 || y < 0 || x >= on->width || y >= on->height) return;
    uint8_t *pixel = on->pixels + 3 * ((size_t)y * (size_t)on->width + (size_t)x);
    const uint8_t target[3] = {colour.red, colour.green, colour.blue};
    for (int c = 0; c < 3; c++)
        pixel[c] = (uint8_t)((pixel[c] * (100 - percent) + target[c] * percent + 50) / 100);
}

static void fill_mask(canvas *on, const uint8_t *mask, gp_colour colour) {
    for (int y = 0; y < on->height; y++)
        for (int x = 0; x < on->width; x++)
            if (mask[(size_t)y * (size_t)on->width + (size_t)x] != 0) blend(on, x, y, colour, FILL_PERCENT);
}

/** Whether the mask has the pixel; beyond the picture it goes on, so that the frame is no outline. */
static bool in_mask(const canvas *on, const uint8_t *mask, int x, int y) {
    if (x < 0 || y < 0 || x >= on->width || y >= on->height) return true;
    return mask[(size_t)y * (size_t)on->width + (size_t)x] != 0;
}

/** The mask's own pixels within `thickness` of its border, in full colour. */
static void outline_mask(canvas *on, const uint8_t *mask, gp_colour colour, int thickness) {
    for (int y = 0; y < on->height; y++) {
        for (int x = 0; x < on->width; x++) {
            if (mask[(size_t)y * (size_t)on->width + (size_t)x] == 0) continue;
            bool border = false;
            for (int t = 1; t <= thickness && !border; t++)
                border = !in_mask(on, mask, x - t, y) || !in_mask(on, mask, x + t, y) ||
                         !in_mask(on, mask, x, y - t) || !in_mask(on, mask, x, y + t);
            if (border) blend(on, x, y, colour, 100);
        }
    }
}

/* ---- legend ---- */

/** A label as printable ASCII of at most `room` characters, ".." where it was cut; other characters become
 * '?'. */
static int legend_text(const char *label, int number, int room, char text[LABEL_MAX + 1]) {
    char name[24];
    if (label == NULL) {
        snprintf(name, sizeof name, "mask %d", number);
        label = name;
    }
    int length = 0;
    for (const unsigned char *at = (const unsigned char *)label; *at != '\0'; at++) {
        if ((*at & 0xC0) == 0x80) continue; /* the rest of a character */
        if (length == room) {
            for (int i = 1; i <= 2 && room - i >= 0; i++) text[room - i] = '.';
            break;
        }
        text[length++] = *at >= 32 && *at < 127 ? (char)*at : '?';
    }
    text[length] = '\0';
    return length;
}

static void draw_block(canvas *on, int left, int top, int width, int height, gp_colour colour, int percent) {
    for (int y = top; y < top + height; y++)
        for (int x = left; x < left + width; x++) blend(on, x, y, colour, percent);
}

static void draw_text(canvas *on, int left, int top, const char *text, int scale) {
    static const gp_colour white = {255, 255, 255};
    for (; *text != '\0'; text++, left += GP_FONT_ADVANCE * scale)
        for (int row = 0; row < GP_FONT_HEIGHT; row++)
            for (int column = 0; column < GP_FONT_WIDTH; column++)
                if ((gp_font[*text - 32][row] >> (GP_FONT_WIDTH - 1 - column) & 1) != 0)
                    draw_block(on, left + column * scale, top + row * scale, scale, scale, white, 100);
}

/** A row a mask: a square in its colour, its label; in the lower left corner, never larger than the picture.
 */
static void draw_legend(canvas *on, const gp_overlay_mask *masks, size_t count) {
    static const gp_colour dark = {12, 14, 20};
    int shorter = on->width < on->height ? on->width : on->height;
    int scale = (shorter + 150) / 300 < 1 ? 1 : (shorter + 150) / 300, margin = 3 * scale,
        line = (GP_FONT_HEIGHT + 4) * scale;
    int swatch = GP_FONT_HEIGHT * scale, indent = 2 * margin + swatch;
    int rows = count < ROWS_MAX ? (int)count : ROWS_MAX, fitting = (on->height - 2 * margin) / line;
    if (rows > fitting) rows = fitting;
    int room = (on->width - indent - 2 * margin) / (GP_FONT_ADVANCE * scale), longest = 0;
    if (rows <= 0 || room < 4) return;
    if (room > LABEL_MAX) room = LABEL_MAX;
    char text[ROWS_MAX][LABEL_MAX + 1];
    for (int i = 0; i < rows; i++) {
        int length = legend_text(masks[i].label, i + 1, room, text[i]);
        if (i == rows - 1 && (size_t)rows < count)
            length = snprintf(text[i], (size_t)room + 1, "and %zu more", count - (size_t)i);
        if (length > room) length = room;
        if (length > longest) longest = length;
    }
    int width = indent + longest * GP_FONT_ADVANCE * scale + margin, height = rows * line + margin;
    int left = margin, top = on->height - margin - height;
    draw_block(on, left, top, width, height, dark, PANEL_PERCENT);
    for (int i = 0; i < rows; i++) {
        int y = top + margin + i * line;
        bool more = i == rows - 1 && (size_t)rows < count;
        if (!more) draw_block(on, left + margin, y, swatch, swatch, gp_palette(i), 100);
        draw_text(on, left + indent, y, text[i], scale);
    }
}

/* ---- PNG ---- */

bool gp_overlay_write_png(FILE *stream, const uint8_t *pixels, int width, int height, const char *path,
                          gp_status *status) {
    png_image image = {.version = PNG_IMAGE_VERSION,
                       .width = (png_uint_32)width,
                       .height = (png_uint_32)height,
                       .format = PNG_FORMAT_RGB};
    if (png_image_write_to_stdio(&image, stream, 0, pixels, 0, NULL) != 0) return true;
    return gp_fail(status, "%s: cannot be written as PNG: %s", path, image.message);
}
