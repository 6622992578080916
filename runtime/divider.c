#include "runtime/divider.h"

static int64_t ceiling_quotient(int64_t a, double b);
static void grid_at(int64_t scale, double ratio, int side, int64_t *height, int64_t *rows);
static int64_t image_tokens(int64_t columns, int64_t rows, int side, int patch);

bool gp_divide(int width, int height, int side, int patch, const gp_divider_limits *limits,
               gp_division *division, gp_status *status) {
    if (width <= 0 || height <= 0)
        return gp_fail(status, "a picture of %d x %d has no pixels", width, height);
    if (width > GP_DIVIDER_SIDE_MAX || height > GP_DIVIDER_SIDE_MAX)
        return gp_fail(status, "a picture of %d x %d: at most %d x %d can be divided", width, height,
                       GP_DIVIDER_SIDE_MAX, GP_DIVIDER_SIDE_MAX);
    bool transposed = width < height;
    int64_t longer = transposed ? height : width, shorter = transposed ? width : height;
    double ratio = (double)longer / (double)shorter;
    if (longer >
        side * shorter) /* one crop long, it has no width left: no grid of crops is a picture of it */
        return gp_fail(
            status,
            "a picture of %d x %d is more than %d times as long as wide, which leaves a crop of it no width",
            width, height, side);

    int64_t official = 1;
    while (official * ceiling_quotient(official, ratio) <= limits->crops) official++;
    official = official - 1 > longer / side ? official - 1 : longer / side;
    int64_t scale = official < 1 ? 1 : official, new_height, rows, tokens;
    for (;; scale--) {
        grid_at(scale, ratio, side, &new_height, &rows);
        /* The grid as the encoder sees it: axes swapped back. */
        tokens = transposed ? image_tokens(rows, scale, side, patch) : image_tokens(scale, rows, side, patch);
        bool fits = tokens <= limits->max_image_tokens &&
                    (limits->max_crops == 0 || scale * rows <= limits->max_crops);
        if (fits) break;
        if (scale == 1) {
            if (limits->max_crops > 0 && rows > limits->max_crops)
                return gp_fail(status, "a picture of %d x %d needs %lld crops at least; --max-crops is %d",
                               width, height, (long long)rows, limits->max_crops);
            return gp_fail(
                status,
                "a picture of %d x %d needs %lld image tokens at least; the context has room for %lld beside "
                "the text and the answer",
                width, height, (long long)tokens, (long long)limits->max_image_tokens);
        }
    }
    int64_t canvas_long = scale * side, canvas_short = rows * side;
    *division = (gp_division){.transposed = transposed,
                              .scale = (int)scale,
                              .width = (int)(transposed ? new_height : canvas_long),
                              .height = (int)(transposed ? canvas_long : new_height),
                              .columns = (int)(transposed ? rows : scale),
                              .rows = (int)(transposed ? scale : rows),
                              .canvas_width = (int)(transposed ? canvas_short : canvas_long),
                              .canvas_height = (int)(transposed ? canvas_long : canvas_short),
                              .image_tokens = tokens,
                              .reduced = scale < official};
    return true;
}

/** ⌈a/b⌉ as Python's math.ceil of a float quotient. */
static int64_t ceiling_quotient(int64_t a, double b) {
    double quotient = (double)a / b;
    int64_t whole = (int64_t)quotient;
    return (double)whole < quotient ? whole + 1 : whole;
}

/** The resized height and the rows of crops at a scale. */
static void grid_at(int64_t scale, double ratio, int side, int64_t *height, int64_t *rows) {
    *height = (int64_t)((double)(scale * side) / ratio);
    *rows = (*height + side - 1) / side;
}

static int64_t image_tokens(int64_t columns, int64_t rows, int side, int patch) {
    int64_t n = side / patch / 2;
    return (columns * rows + 1) * n * n + 1 + (rows + 1) * n;
}
