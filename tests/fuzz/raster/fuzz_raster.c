/** Any bytes as a raster file: opened, described, and its first and last window read as the program would. */
#include "kernels/base/memory.h"
#include "loaders/geo/locator.h"
#include "loaders/raster/rgb_view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SIDE = 64, BLOCK_PIXELS_MAX = 1 << 22 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look(gp_raster *raster, gp_window window) {
    static uint8_t rgb[SIDE * SIDE * 3];
    gp_rgb_view view;
    gp_status status = {0};
    int64_t counting = 0;
    bool done = gp_rgb_view_open(raster, &(gp_rgb_options){.stretch = {GP_STRETCH_VALUES, 0, 1000}}, &view,
                                 &status) &&
                gp_rgb_view_read(&view, window, rgb, (size_t)window.width * 3, &counting, &status);
    if (done == gp_failed(&status)) abort();
    if (done && (counting < 0 || counting > (int64_t)window.width * window.height)) abort();
    gp_status_clear(&status);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int file = -1;
    char path[64];
    gp_raster *raster = NULL;
    gp_status status = {0}, note = {0};
    if (size < 4 || (memcmp(data, "II", 2) != 0 && memcmp(data, "MM", 2) != 0)) return 0; /* TIFF alone */
    if (file < 0) file = memfd_create("fuzzed", 0);
    if (file < 0 || ftruncate(file, 0) != 0 || pwrite(file, data, size, 0) != (ssize_t)size) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    bool opened = gp_raster_open(path, &raster, &note, &status);
    if (opened == gp_failed(&status)) abort();
    if (opened) {
        const gp_raster_info *info = gp_raster_about(raster);
        const gp_raster_level *level = &info->levels[0];
        gp_window first = {0, 0, level->width < SIDE ? level->width : SIDE,
                           level->height < SIDE ? level->height : SIDE};
        gp_window last = {level->width - first.width, level->height - first.height, first.width,
                          first.height};
        /* A block is decoded whole: of those that a file may truly have, the fuzzer need not wait for the
         * largest. */
        if ((int64_t)level->block_width * level->block_height * info->band_count <= BLOCK_PIXELS_MAX) {
            look(raster, first);
            look(raster, last);
        }
        gp_locator *locator = NULL;
        gp_status unplaced = {0};
        if (gp_locator_open(&info->georeference, &locator, &unplaced))
            gp_locator_to_crs(locator, (const double[]){1, 2}, 1, (double[2]){0});
        gp_locator_close(locator);
        gp_status_clear(&unplaced);
    }
    gp_raster_close(raster);
    gp_status_clear(&status);
    gp_status_clear(&note);
    return 0;
}
