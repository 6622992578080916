/** Masks that tests draw as bytes, as the run lengths that the program's parts take. */
#pragma once

#include "kernels/base/memory.h"
#include "tests/check.h"
#include "tools/geopixel/outputs/rle.h"

/** Bytes [height, width], 0 and 1, pixel by pixel; free with gp_rle_free. */
static inline gp_rle encode(const uint8_t *pixels, int width, int height) {
    size_t area = (size_t)width * (size_t)height, count = 0;
    uint32_t *runs = gp_allocate_zeroed(area + 1, sizeof *runs);
    gp_rle rle;
    REQUIRE(runs != NULL, "no memory");
    for (size_t i = 0; i < area; i++) { /* column by column */
        size_t x = i / (size_t)height, y = i % (size_t)height;
        if (pixels[y * (size_t)width + x] != count % 2) count++;
        runs[count]++;
    }
    REQUIRE(gp_rle_copy(runs, count + 1, width, height, &rle), "no memory");
    gp_free(runs);
    return rle;
}
