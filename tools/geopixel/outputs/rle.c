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

json_t *gp_rle_json(const gp_rle *rle) {
    char *counts = gp_rle_text(rle);
    json_t *object =
        counts != NULL ? json_pack("{s:[i,i],s:s}", "size", rle->height, rle->width, "counts", counts) : NULL;
    gp_free(counts);
    return object;
}

bool gp_rle_parse(const char *text, int width, int height, gp_rle *rle, gp_status *status) {
    const uint64_t pixels = (uint64_t)width * (uint64_t)height;
    uint64_t sum = 0;
    *rle = (gp_rle){.width = width, .height = height};
    rle->runs = gp_allocate((strlen(text) + 1) * sizeof *rle->runs); /* a run is a character at least */
    if (rle->runs == NULL) return gp_fail(status, "no memory for a mask of %zu characters", strlen(text));
    for (const char *at = text; *at != '\0';) {
        int64_t value = 0;
        int group = 32;
        for (int shift = 0; (group & 32) != 0; shift += 5, at++) {
            group = *at - 48;
            if (group < 0 || group > 63 || shift > 30) {
                gp_rle_free(rle);
                return gp_fail(status, "run lengths break off or are none at character %zu",
                               (size_t)(at - text));
            }
            value |= (int64_t)(group & 31) << shift;
            if ((group & 32) == 0 && (group & 16) != 0) value -= (int64_t)1 << (shift + 5); /* the sign */
        }
        if (rle->count > 2) value += rle->runs[rle->count - 2];
        if (value < 0 || (uint64_t)value > pixels - sum) {
            gp_rle_free(rle);
            return gp_fail(status, "run %zu is of %lld pixels; %llu of the mask's %llu are left", rle->count,
                           (long long)value, (unsigned long long)(pixels - sum), (unsigned long long)pixels);
        }
        sum += (uint64_t)value;
        rle->runs[rle->count++] = (uint32_t)value;
    }
    if (sum == pixels) return true;
    gp_rle_free(rle);
    return gp_fail(status, "the runs are %llu pixels; %d x %d has %llu", (unsigned long long)sum, width,
                   height, (unsigned long long)pixels);
}

uint64_t gp_rle_area(const gp_rle *rle) {
    uint64_t area = 0;
    for (size_t i = 1; i < rle->count; i += 2) area += rle->runs[i];
    return area;
}

uint64_t gp_rle_common(const gp_rle *a, const gp_rle *b) {
    uint64_t common = 0, end_a = 0, end_b = 0, at = 0; /* ends of the runs that hold `at` */
    size_t i = 0, j = 0;                               /* the runs behind those */
    while (true) {
        while (end_a == at && i < a->count) end_a += a->runs[i++];
        while (end_b == at && j < b->count) end_b += b->runs[j++];
        uint64_t end = end_a < end_b ? end_a : end_b;
        if (end == at) return common;
        if (i % 2 == 0 && j % 2 == 0) common += end - at;
        at = end;
    }
}

void gp_rle_free(gp_rle *rle) {
    gp_free(rle->runs);
    *rle = (gp_rle){0};
}
