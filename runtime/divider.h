/**
 * The adaptive image divider's arithmetic: how many crops a picture is cut into and at which size (spec:
 * model.md, section 1; InternLM-XComposer2-4KHD arXiv 2404.06512).
 */
#pragma once

#include "kernels/base/status.h"

#include <stdint.h>

/** Pictures with a longer side are refused; it keeps every product within 64 bits. */
enum { GP_DIVIDER_SIDE_MAX = 1 << 26 };

/** What the division may cost. */
typedef struct gp_divider_limits {
    int crops;                /* P of the official rule */
    int max_crops;            /* 0: no limit of its own */
    int64_t max_image_tokens; /* that the context has room for */
} gp_divider_limits;

typedef struct gp_division {
    bool transposed;   /* the picture is higher than wide: divided with its axes swapped, then swapped back */
    int scale;         /* crops along the longer side */
    int width, height; /* of the resized picture, axes as the picture's */
    int columns, rows; /* of the grid of crops, axes as the picture's */
    int canvas_width, canvas_height; /* columns and rows times the crop's side */
    int64_t image_tokens;
    bool reduced; /* fewer crops than the official rule gives, by the limits */
} gp_division;

/**
 * Divides a width × height picture for crops of `side` pixels that become (side/patch/2)² tokens each. The
 * official rule as long as it keeps the limits, else the largest scale that does. Fails, with the numbers, on
 * a picture without pixels, on one more than `side` times as long as wide (the shorter side of a
 * crop of it would vanish), and where not even scale 1 keeps the limits.
 */
bool gp_divide(int width, int height, int side, int patch, const gp_divider_limits *limits,
               gp_division *division, gp_status *status);
