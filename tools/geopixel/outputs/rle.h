/** Masks as run lengths, column by column, and COCO's compressed text of them (pycocotools' rleToString). */
#pragma once

#include "kernels/base/status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Runs of 0, 1, 0, … in column-major order; the first may be empty. Free with gp_rle_free. */
typedef struct gp_rle {
    int width, height;
    uint32_t *runs;
    size_t count;
} gp_rle;

/** A copy of a mask's runs; false when memory is out. */
bool gp_rle_copy(const uint32_t *runs, size_t count, int width, int height, gp_rle *rle);

/** Bytes [height, width], 0 and 1. */
void gp_rle_decode(const gp_rle *rle, uint8_t *pixels);

/** Sets the mask's pixels of [height, width], each of 1 or 2 bytes, to `value`; the others stay. */
void gp_rle_paint(const gp_rle *rle, void *pixels, int bytes, uint16_t value);

/** COCO's text, terminated: each run (from the third on its difference to the one two before) in groups of
 * five bits, lowest first. NULL when memory is out; free with gp_free. */
char *gp_rle_text(const gp_rle *rle);

/** COCO's object {size: [height, width], counts: its text}; NULL when memory is out. */
json_t *gp_rle_json(const gp_rle *rle);

/** Reads COCO's text of a mask of the size; fails, naming what is wrong, where the runs are not exactly the
 * mask's pixels. */
bool gp_rle_parse(const char *text, int width, int height, gp_rle *rle, gp_status *status);

/** Pixels that are set. */
uint64_t gp_rle_area(const gp_rle *rle);

/** Pixels that are set in both; the masks are of one size. */
uint64_t gp_rle_common(const gp_rle *a, const gp_rle *b);

void gp_rle_free(gp_rle *rle);
