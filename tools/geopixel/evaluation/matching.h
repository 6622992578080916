/** Which predicted mask is which right one, and the figures made of that: the paper's mIoU and recall (after
 * GLaMM's evaluation of grounded conversations), and COCO's average precision at IoU 0.5. */
#pragma once

#include "tools/geopixel/outputs/rle.h"

/** IoU of every predicted mask (row) with every right one (column), [predicted, right]. */
void gp_overlaps(const gp_rle *predicted, size_t predicted_count, const gp_rle *right, size_t right_count,
                 double *overlaps);

/** A pair of a picture. */
typedef struct gp_pair {
    size_t predicted, right;
    double overlap;
} gp_pair;

/**
 * Pairs by greatest IoU until none above 0 is left; each mask is in one pair at most; of equals, the first
 * row, then the first column. `overlaps` [predicted, right]; columns where `counted` is false do not take
 * part. `pairs` holds as many as the smaller number of masks. Returns how many were found, or SIZE_MAX when
 * memory is out.
 */
size_t gp_pairs(const double *overlaps, size_t predicted, size_t right, const bool *counted, gp_pair *pairs);

/** Average precision over a set of pictures; free with gp_precision_free. Zeros to begin with. */
typedef struct gp_precision {
    bool *hit; /* one a prediction, in the pictures' order */
    size_t predictions, capacity, right;
} gp_precision;

/** COCO's most predictions of a picture. */
#define GP_PRECISION_MOST 100

/** Adds a picture: its first GP_PRECISION_MOST predictions take, one after the other, the free right mask
 * that they overlap most, if that is by 0.5 or more. Only columns where `counted` is true exist. False when
 * memory is out. */
bool gp_precision_add(gp_precision *precision, const double *overlaps, size_t predicted, size_t right,
                      const bool *counted);

/** The mean over recalls 0, 0.01 … 1 of the best precision at that recall or a higher one; every prediction
 * is as sure as the others, so their order is that in which they were added. −1 where no right mask was
 * added; NaN when memory is out. */
double gp_precision_average(const gp_precision *precision);

void gp_precision_free(gp_precision *precision);
