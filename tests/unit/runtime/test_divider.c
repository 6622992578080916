/** The divider's limits and refusals; its sizes and pixels are compared with the official ones in
 * test_pictures. */
#include "runtime/divider.h"
#include "tests/check.h"

static void refuse(int width, int height, gp_divider_limits limits, const char *word, const char *other) {
    gp_division d;
    gp_status status = {0};
    bool divided = gp_divide(width, height, 560, 14, &limits, &d, &status);
    CHECK(!divided && strstr(status.message, word) != NULL && strstr(status.message, other) != NULL,
          "%d x %d: %s", width, height, divided ? "divided" : status.message);
    gp_status_clear(&status);
}

/** Tokens by the formula of the specification, counted apart. */
static int64_t tokens(int columns, int rows) {
    return (int64_t)(rows * columns + 1) * 400 + 1 + (rows + 1) * 20;
}

int main(void) {
    uint64_t seed = fresh_seed();
    gp_division d;
    gp_status status = {0};
    gp_divider_limits open = {9, 0, 1 << 30};
    CHECK(gp_divide(3840, 2160, 560, 14, &open, &d, &status) && d.columns * d.rows == 24 &&
              d.image_tokens == 10101 && !d.reduced,
          "4K: %d x %d", d.columns, d.rows);
    CHECK(gp_divide(4096, 4096, 560, 14, &open, &d, &status) && d.columns * d.rows == 49 &&
              d.image_tokens == 20161,
          "4096²");
    CHECK(gp_divide(33, 77, 560, 14, &(gp_divider_limits){8, 0, 1 << 30}, &d, &status) && d.transposed &&
              d.scale == 4 && d.width == 959,
          "33 x 77: %d", d.width);
    gp_divider_limits narrow = {9, 0, 16384 - 400};
    CHECK(gp_divide(4096, 4096, 560, 14, &narrow, &d, &status) && d.columns == 6 && d.rows == 6 && d.reduced,
          "what fits the context: %d x %d", d.columns, d.rows);
    CHECK(gp_divide(4096, 4096, 560, 14, &(gp_divider_limits){9, 10, 1 << 30}, &d, &status) &&
              d.columns == 3 && d.rows == 3 && d.reduced,
          "--max-crops");
    for (int i = 0; i < 20000; i++) {
        int width = 1 + (int)(random_bits(&seed) % 6000), height = 1 + (int)(random_bits(&seed) % 6000);
        gp_divider_limits limits = {1 + (int)(random_bits(&seed) % 16), 0,
                                    900 + (int64_t)(random_bits(&seed) % 20000)};
        if (!gp_divide(width, height, 560, 14, &limits, &d, &status)) {
            gp_status_clear(&status);
            continue;
        }
        CHECK(d.image_tokens == tokens(d.columns, d.rows) && d.image_tokens <= limits.max_image_tokens,
              "%d x %d: %lld tokens", width, height, (long long)d.image_tokens);
        CHECK(d.width <= d.canvas_width && d.height <= d.canvas_height && d.canvas_width == 560 * d.columns &&
                  d.canvas_height == 560 * d.rows,
              "%d x %d", width, height);
        CHECK(d.canvas_width - d.width < 560 && d.canvas_height - d.height < 560 && d.width > 0 &&
                  d.height > 0,
              "%d x %d", width, height);
        CHECK(d.transposed == (width < height) && (d.transposed ? d.rows : d.columns) == d.scale, "%d x %d",
              width, height);
    }
    refuse(0, 5, open, "0 x 5", "no pixels");
    refuse(5, -1, open, "-1", "no pixels");
    refuse(100000, 10, open, "100000 x 10", "560 times");
    refuse(10, 100000, open, "10 x 100000", "560 times");
    refuse(100, 100, (gp_divider_limits){9, 0, 840}, "841", "840");
    refuse(100000000, 100000000, open, "100000000", "67108864");
    refuse(0x7FFFFFFF, 1, open, "2147483647", "");
    CHECK(gp_divide(560, 1, 560, 14, &open, &d, &status), "560 x 1 is just possible: %s", status.message);
    refuse(561, 1, open, "561 x 1", "560 times");
    return check_done();
}
