#include "tools/geopixel/outputs/rle.h"

#include "kernels/base/memory.h"

#include <string.h>

bool gp_rle_copy(const uint32_t *runs, size_t count, int width, int height, gp_rle *rle) {
    *rle = (gp_rle){.width = width, .height = height};
    rle->runs = gp_allocate(count * sizeof *runs);
    if (rle->runs == NULL) return false;
    memcpy(rle->runs, runs, count * sizeof *runs);
    rle->count = count;
    return true;
}

void gp_rle_decode(const gp_rle *rle, uint8_t *pixels) {
    memset(pixels, 0, (size_t)rle->height * (size_t)rle->width);
    gp_rle_paint(rle, pixels, 1, 1);
}

void gp_rle_paint(const gp_rle *rle, void *pixels, int bytes, uint16_t value) {
    size_t height = (size_t)rle->height, width = (size_t)rle->width, column = 0, row = 0;
    uint8_t *small = pixels;
    uint16_t *large = pixels;
    for (size_t i = 0; i < rle->count; i++) {
        size_t left = rle->runs[i];
        while (left > 0 && column < width) {
            size_t here = left < height - row ? left : height - row; /* of this column */
            for (size_t y = row; y < row + here && i % 2 == 1; y++) {
                if (bytes == 1)
                    small[y * width + column] = (uint8_t)value;
                else
                    large[y * width + column] = value;
            }
            left -= here;
            row += here;
            column += row / height;
            row %= height;
        }
    }
}

char *gp_rle_text(const gp_rle *rle) {
    char *text = gp_allocate(7 * rle->count + 1),
         *end = text; /* 33 bits with their sign are seven groups at most */
    if (text == NULL) return NULL;
    for (size_t i = 0; i < rle->count; i++) {
        int64_t value = rle->runs[i];
        if (i > 2) value -= rle->runs[i - 2];
        for (bool more = true; more;) {
            int group = (int)(value & 31);
            value >>= 5;
            more = (group & 16) != 0 ? value != -1 : value != 0;
            *end++ = (char)((more ? group | 32 : group) + 48);
        }
    }
    *end = '\0';
    return text;
}

void gp_rle_free(gp_rle *rle) {
    gp_free(rle->runs);
    *rle = (gp_rle){0};
}
