#include "tools/geopixel/scene.h"

#include <stdlib.h>
#include <string.h>

static bool parse_window(const char *text, gp_window *window, gp_status *status);
static bool read_view(const gp_scene_options *options, gp_raster *raster, gp_scene *scene, gp_status *status);

/** What the options say; zeros where they say nothing. */
static bool parse(const gp_scene_options *options, gp_rgb_options *view, gp_window *window,
                  gp_status *status) {
    *view = (gp_rgb_options){0};
    *window = (gp_window){0};
    return (options->bands == NULL || gp_rgb_parse_bands(options->bands, view, status)) &&
           (options->stretch == NULL || gp_rgb_parse_stretch(options->stretch, &view->stretch, status)) &&
           (options->window == NULL || parse_window(options->window, window, status));
}

bool gp_scene_check(const gp_scene_options *options, gp_status *status) {
    gp_rgb_options view;
    gp_window window;
    return parse(options, &view, &window, status);
}

bool gp_scene_read(const gp_scene_options *options, gp_scene *scene, gp_status *note, gp_status *status) {
    gp_raster *raster = NULL;
    *scene = (gp_scene){0};
    bool done =
        gp_raster_open(options->path, &raster, note, status) && read_view(options, raster, scene, status);
    gp_raster_close(raster);
    if (!done) gp_scene_clear(scene);
    return done;
}

void gp_scene_clear(gp_scene *scene) {
    gp_image_free(&scene->image);
    gp_georeference_clear(&scene->georeference);
    *scene = (gp_scene){0};
}

/** "X,Y,WIDTH,HEIGHT", whole numbers. */
static bool parse_window(const char *text, gp_window *window, gp_status *status) {
    long numbers[4] = {0};
    const char *at = text;
    bool done = true;
    for (int i = 0; i < 4 && done; i++) {
        char *end = NULL;
        done = *at >= '0' && *at <= '9';
        if (done) numbers[i] = strtol(at, &end, 10);
        done = done && numbers[i] <= INT32_MAX && *end == (i < 3 ? ',' : '\0');
        at = done ? end + 1 : at;
    }
    *window = (gp_window){(int)numbers[0], (int)numbers[1], (int)numbers[2], (int)numbers[3]};
    return (done && numbers[2] > 0 && numbers[3] > 0) ||
           gp_fail(status, "--window \"%s\": X,Y,WIDTH,HEIGHT are expected, as in 1024,0,2048,2048", text);
}

static bool read_view(const gp_scene_options *options, gp_raster *raster, gp_scene *scene,
                      gp_status *status) {
    const gp_raster_info *info = gp_raster_about(raster);
    gp_rgb_options wanted;
    gp_window window;
    gp_rgb_view view;
    int64_t counting = 0;
    if (!parse(options, &wanted, &window, status)) return false;
    if (options->window == NULL) window = (gp_window){0, 0, info->width, info->height};
    if (window.x > info->width - window.width || window.y > info->height - window.height)
        return gp_fail(status, "%s: --window %s is not within its %d x %d pixels", info->path,
                       options->window, info->width, info->height);
    if ((int64_t)window.width * window.height > GP_IMAGE_PIXELS_MAX)
        return gp_fail(
            status, "%s: %d x %d pixels; %lld are the most at once: --window X,Y,WIDTH,HEIGHT takes a part",
            info->path, window.width, window.height, GP_IMAGE_PIXELS_MAX);
    if (!gp_rgb_view_open(raster, &wanted, &view, status) ||
        !gp_image_allocate(window.width, window.height, info->path, &scene->image, status) ||
        !gp_rgb_view_read(&view, window, scene->image.pixels, (size_t)window.width * 3, &counting, status))
        return false;
    scene->empty = counting == 0;
    return gp_georeference_window(&info->georeference, window.x, window.y, &scene->georeference, status);
}
