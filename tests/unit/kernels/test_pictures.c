/**
 * The resizes. resize_rgb against the CRC-32s that Pillow's results have (goldens), on the divider's 168
 * sizes too. The float views against a plain evaluation of the same definitions in f64.
 *
 * Tolerances, relative L2 of a whole view. A crop and the global view: 1e-6, sixteen products of f32 weights.
 * The whole view: torch rounds a tap's centre to f32, which moves it by up to W·2^-25; each of 2·reach
 * weights is then off by that over the reach, so a pass over W pixels moves values of size 1 by up to
 * W·2^-24, and normalising by the smallest deviation, 0.26, and dividing by the view's own root mean square,
 * about 1.2, at most doubles the share: 1e-6 + 2·(W + H)·2^-24.
 */
#include "runtime/divider.h"
#include "tests/unit/kernels/backends.h"

#include <jansson.h>
#include <zlib.h>

/** The goldens' picture: ((7x + 13y + 101c) xor ((x·y) >> 4) xor (37·(x/16 + y/16))) and 255. */
static uint8_t *formula_picture(int width, int height) {
    uint8_t *pixels = host_memory((size_t)width * (size_t)height * 3);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int c = 0; c < 3; c++)
                pixels[(y * (size_t)width + (size_t)x) * 3 + (size_t)c] =
                    (uint8_t)(((7 * x + 13 * y + 101 * c) ^ ((x * y) >> 4) ^ (37 * (x / 16 + y / 16))) & 255);
    return pixels;
}

/** resize_rgb of the formula's picture onto a canvas, and the canvas' CRC-32. */
static uLong resized_crc(gp_backend *backend, int source_width, int source_height, int width, int height,
                         bool vertical_first, int canvas_width, int canvas_height) {
    size_t bytes = (size_t)canvas_width * (size_t)canvas_height * 3;
    const uint8_t *picture = formula_picture(source_width, source_height);
    void *grey = host_memory(bytes); /* what is not written shows: the canvas is white */
    memset(grey, 0xAA, bytes);
    gp_resize_rgb resize = {
        .source = on_backend(backend, picture, (size_t)source_width * (size_t)source_height * 3),
        .source_width = source_width,
        .source_height = source_height,
        .source_stride = 3 * (size_t)source_width,
        .width = width,
        .height = height,
        .vertical_first = vertical_first,
        .canvas_width = canvas_width,
        .canvas_height = canvas_height,
        .scratch =
            on_backend(backend, NULL, gp_resize_rgb_scratch(source_width, source_height, width, height)),
        .canvas = on_backend(backend, grey, bytes)};
    backend->ops->resize_rgb(backend, &resize);
    uLong crc = crc32_z(0, from_backend(backend, resize.canvas, bytes), bytes);
    release_memory();
    return crc;
}

static int whole(const json_t *json, const char *field, int index) {
    const json_t *value = json_object_get(json, field);
    return (int)json_integer_value(index < 0 ? value : json_array_get(value, (size_t)index));
}

static void test_pillow(gp_backend *backend, const char *path) {
    json_t *cases = json_load_file(path, 0, NULL);
    REQUIRE(json_array_size(cases) > 5, "%s holds no cases", path);
    for (size_t i = 0; i < json_array_size(cases); i += EMULATED ? 3 : 1) {
        const json_t *one = json_array_get(cases, i);
        int sw = whole(one, "source", 0), sh = whole(one, "source", 1), w = whole(one, "target", 0),
            h = whole(one, "target", 1);
        uLong crc = resized_crc(backend, sw, sh, w, h, false, w, h);
        CHECK(crc == (uLong)json_integer_value(json_object_get(one, "rgb_crc32")), "%d x %d to %d x %d on %s",
              sw, sh, w, h, backend->name);
    }
    json_decref(cases);
}

static void test_divider(gp_backend *backend, const char *path) {
    json_t *root = json_load_file(path, 0, NULL);
    const json_t *cases = json_object_get(root, "cases");
    REQUIRE(json_array_size(cases) > 100, "%s holds no cases", path);
    for (size_t i = 0; i < json_array_size(cases); i += EMULATED ? 40 : 1) {
        const json_t *one = json_array_get(cases, i);
        int width = whole(one, "width", -1), height = whole(one, "height", -1),
            crops = whole(one, "hd_num", -1);
        gp_division d;
        gp_status status = {0};
        gp_divider_limits limits = {crops, 0, INT64_MAX};
        if (!gp_divide(width, height, 560, 14, &limits, &d, &status)) {
            CHECK(false, "%d x %d, P %d: %s", width, height, crops, status.message);
            gp_status_clear(&status);
            continue;
        }
        CHECK(d.columns == whole(one, "grid", 0) && d.rows == whole(one, "grid", 1),
              "%d x %d, P %d: %d x %d crops", width, height, crops, d.columns, d.rows);
        CHECK(d.canvas_width == whole(one, "divided_size", 0) &&
                  d.canvas_height == whole(one, "divided_size", 1),
              "%d x %d, P %d", width, height, crops);
        CHECK((d.columns * d.rows > crops) == json_is_true(json_object_get(one, "exceeds_hd_num")),
              "%d x %d, P %d", width, height, crops);
        uLong crc = resized_crc(backend, width, height, d.width, d.height, d.transposed, d.canvas_width,
                                d.canvas_height);
        CHECK(crc == (uLong)json_integer_value(json_object_get(one, "rgb_crc32")),
              "%d x %d, P %d: the pixels differ", width, height, crops);
    }
    json_decref(root);
}

/* ---- views in f64 ---- */

static const float mean[3] = {0.48f, 0.45f, 0.41f}, deviation[3] = {0.27f, 0.26f, 0.28f};

static double normalised(uint8_t value, int channel) {
    return ((double)value / 255 - (double)mean[channel]) / (double)deviation[channel];
}

static double cubic(double x) {
    const double a = -0.75;
    x = fabs(x);
    if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
}

static int inside(int index, int size) {
    return index < 0 ? 0 : index >= size ? size - 1 : index;
}

static void test_crops(gp_backend *backend, uint64_t *seed, int rows, int columns, int side) {
    int width = columns * side, height = rows * side, views = 1 + rows * columns;
    int64_t plane = (int64_t)side * side, values = 3 * plane;
    uint8_t *canvas = host_memory((size_t)width * (size_t)height * 3);
    for (int i = 0; i < width * height * 3; i++) canvas[i] = (uint8_t)random_bits(seed);
    const uint8_t *source = on_backend(backend, canvas, (size_t)width * (size_t)height * 3);
    float *target = floats_on(backend, NULL, views * values);
    double *want = host_memory((size_t)values * sizeof *want);
    for (int first = 0; first < views;
         first += 2) { /* in two batches: what is asked for is written, no more */
        gp_crop_views ask = {
            source, rows, columns, side, first, views - first < 2 ? 1 : 2, {0}, {0}, target + first * values};
        memcpy(ask.mean, mean, sizeof mean);
        memcpy(ask.deviation, deviation, sizeof deviation);
        backend->ops->crop_views(backend, &ask);
    }
    const float *have = floats_from(backend, target, views * values);
    for (int view = 0; view < views; view++) {
        for (int64_t i = 0; i < values; i++) {
            int channel = (int)(i / plane), y = (int)(i % plane / side), x = (int)(i % side);
            if (view > 0) {
                int cy = (view - 1) / columns * side + y, cx = (view - 1) % columns * side + x;
                want[i] = normalised(canvas[(cy * width + cx) * 3 + channel], channel);
                continue;
            }
            double sy = (double)rows * (y + 0.5) - 0.5, sx = (double)columns * (x + 0.5) - 0.5;
            want[i] = 0;
            for (int k = -1; k < 3; k++)
                for (int l = -1; l < 3; l++) {
                    int py = (int)floor(sy) + k, px = (int)floor(sx) + l;
                    want[i] +=
                        cubic(sy - py) * cubic(sx - px) *
                        normalised(canvas[(inside(py, height) * width + inside(px, width)) * 3 + channel],
                                   channel);
                }
        }
        double error = relative_error(have + view * values, want, (size_t)values);
        CHECK(error <= 1e-6, "view %d of %d x %d crops of %d on %s: %g", view, rows, columns, side,
              backend->name, error);
    }
    release_memory();
}

/** One axis of the antialiased resize in f64: the weight of source position k for target i, before
 * normalising. */
static double reach_weight(int i, int k, int source, int target) {
    double scale = (double)source / target, reach = scale > 1 ? scale : 1,
           distance = fabs((k + 0.5 - (i + 0.5) * scale) / reach);
    return distance < 1 ? 1 - distance : 0;
}

static void test_whole(gp_backend *backend, uint64_t *seed, int width, int height, int side) {
    int64_t values = 3ll * side * side;
    size_t stride = 3 * (size_t)width + 5;
    uint8_t *source = host_memory(stride * (size_t)height);
    for (size_t i = 0; i < stride * (size_t)height; i++) source[i] = (uint8_t)random_bits(seed);
    double *want = host_memory((size_t)values * sizeof *want),
           *across = host_memory((size_t)(3 * height * side) * sizeof *across);
    gp_whole_view view = {.source = on_backend(backend, source, stride * (size_t)height),
                          .source_width = width,
                          .source_height = height,
                          .source_stride = stride,
                          .side = side,
                          .scratch = on_backend(backend, NULL, gp_whole_view_scratch(width, height, side)),
                          .y = floats_on(backend, NULL, values)};
    memcpy(view.mean, mean, sizeof mean);
    memcpy(view.deviation, deviation, sizeof deviation);
    backend->ops->whole_view(backend, &view);
    const float *have = floats_from(backend, view.y, values);
    for (int c = 0; c < 3; c++)
        for (int y = 0; y < height; y++)
            for (int i = 0; i < side; i++) {
                double sum = 0, total = 0;
                for (int k = 0; k < width; k++) {
                    double weight = reach_weight(i, k, width, side);
                    sum += weight * source[(size_t)y * stride + 3 * (size_t)k + (size_t)c] / 255.0;
                    total += weight;
                }
                across[(c * height + y) * side + i] = sum / total;
            }
    for (int c = 0; c < 3; c++)
        for (int j = 0; j < side; j++)
            for (int i = 0; i < side; i++) {
                double sum = 0, total = 0;
                for (int k = 0; k < height; k++) {
                    double weight = reach_weight(j, k, height, side);
                    sum += weight * across[(c * height + k) * side + i];
                    total += weight;
                }
                want[(c * side + j) * side + i] = (sum / total - (double)mean[c]) / (double)deviation[c];
            }
    double error = relative_error(have, want, (size_t)values);
    CHECK(error <= 1e-6 + 2 * (width + height) * 0x1p-24, "%d x %d to %d on %s: %g", width, height, side,
          backend->name, error);
    release_memory();
}

static void test_all(uint64_t *seed, gp_backend **backends, int count) {
    for (int i = 0; i < count; i++) {
        test_crops(backends[i], seed, 1, 1, 28);
        test_crops(backends[i], seed, 2, 3, 42);
        test_crops(backends[i], seed, 3, 1, 56);
        test_whole(backends[i], seed, 100, 64, 48);
        test_whole(backends[i], seed, 31, 130, 64);
        test_whole(backends[i], seed, 1, 1, 32);
        test_whole(backends[i], seed, 64, 64, 64);
    }
    const char *folder = getenv("GEOPIXEL_SHARED");
    char path[2][4096];
    snprintf(path[0], sizeof path[0], "%s/goldens/pillow_bilinear.json",
             folder != NULL ? folder : "../shared");
    snprintf(path[1], sizeof path[1], "%s/goldens/divider.json", folder != NULL ? folder : "../shared");
    if (access(path[0], R_OK) == 0 && access(path[1], R_OK) == 0) {
        for (int i = 0; i < count; i += 3) {
            test_pillow(backends[i], path[0]);
            test_divider(backends[i + 1 < count ? i + 1 : i], path[1]);
        }
    } else {
        printf("not compared with Pillow: %s is not there\n", path[0]);
    }
}

int main(void) {
    return run_on_backends(test_all);
}
