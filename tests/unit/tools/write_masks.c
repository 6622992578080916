/**
 * write_masks SEED COUNT WIDTH HEIGHT PLACE OUT: an answer of random masks, written as OUT.tif (labels),
 * OUT.bands.tif, OUT.geojson, OUT.gpkg and, for the judge, OUT.raw [count, height, width]. PLACE is a raster
 * whose georeference they take, or "-".
 */
#include "kernels/base/memory.h"
#include "loaders/raster/raster.h"
#include "tests/unit/tools/encode.h"
#include "tools/geopixel/outputs/geojson.h"
#include "tools/geopixel/outputs/geopackage.h"
#include "tools/geopixel/outputs/mask_raster.h"

static FILE *open_output(const char *base, const char *suffix, char path[4096]) {
    snprintf(path, 4096, "%s%s", base, suffix);
    FILE *file = fopen(path, "w+b");
    REQUIRE(file != NULL, "%s", path);
    return file;
}

int main(int count, char **arguments) {
    REQUIRE(count == 7, "six arguments");
    uint64_t seed = strtoull(arguments[1], NULL, 10);
    size_t masks = strtoull(arguments[2], NULL, 10);
    int width = atoi(arguments[3]), height = atoi(arguments[4]);
    gp_status status = {0};
    gp_georeference none = {0};
    const gp_georeference *place = &none;
    gp_raster *raster = NULL;
    if (strcmp(arguments[5], "-") != 0) {
        REQUIRE(gp_raster_open(arguments[5], &raster, NULL, &status), "%s", status.message);
        place = &gp_raster_about(raster)->georeference;
    }
    gp_answer answer = {.mask_count = masks, .phrase_count = masks > 0 ? masks - 1 : 0};
    answer.masks = gp_allocate_zeroed(masks + 1, sizeof *answer.masks);
    answer.phrases = gp_allocate_zeroed(masks + 1, sizeof *answer.phrases);
    uint8_t *pixels = gp_allocate((size_t)width * (size_t)height);
    char path[4096], text[64];
    FILE *raw = open_output(arguments[6], ".raw", path);
    for (size_t k = 0; k < masks; k++) {
        /* Boxes with holes and some noise; now and then nothing, all, and all but the holes. */
        memset(pixels, 0, (size_t)width * (size_t)height);
        int left = (int)(random_bits(&seed) % (uint64_t)width),
            top = (int)(random_bits(&seed) % (uint64_t)height);
        int right = left + 1 + (int)(random_bits(&seed) % (uint64_t)(width - left)),
            bottom = top + 1 + (int)(random_bits(&seed) % (uint64_t)(height - top));
        if (k % 9 >= 6) left = top = 0, right = width, bottom = height;
        for (int y = top; y < bottom && k % 9 != 8; y++)
            for (int x = left; x < right; x++)
                pixels[(size_t)y * (size_t)width + (size_t)x] =
                    k % 9 == 7 || ((x / 5 + y / 7) % 6 != 0 && (k % 3 != 0 || random_bits(&seed) % 10 != 0));
        fwrite(pixels, 1, (size_t)width * (size_t)height, raw);
        answer.masks[k].rle = encode(pixels, width, height);
        for (size_t i = 0; i < (size_t)width * (size_t)height; i++) answer.masks[k].area += pixels[i];
        answer.masks[k].score = 0.5f + 0.001f * (float)k;
        snprintf(text, sizeof text, "a <lake> & \"pond\" %zu é", k);
        if (k + 1 < masks) /* the last mask has no phrase */
            answer.phrases[k] =
                (gp_phrase){.text = gp_copy_text(text), .begin = 10 * k, .end = 10 * k + 5, .mask = (int)k};
    }
    fclose(raw);
    gp_free(pixels);
    FILE *labels = open_output(arguments[6], ".tif", path);
    CHECK(gp_mask_raster_write(labels, &answer, width, height, place, false, path, &status), "%s",
          status.message);
    fclose(labels);
    FILE *bands = open_output(arguments[6], ".bands.tif", path);
    CHECK(gp_mask_raster_write(bands, &answer, width, height, place, true, path, &status), "%s",
          status.message);
    fclose(bands);
    FILE *json = open_output(arguments[6], ".geojson", path);
    CHECK(gp_geojson_write(json, &answer, place, 0, path, &status), "%s", status.message);
    fclose(json);
    fclose(open_output(arguments[6], ".gpkg", path));
    CHECK(gp_geopackage_write(path, &answer, place, 0, path, &status), "%s", status.message);
    gp_answer_clear(&answer);
    gp_raster_close(raster);
    gp_status_clear(&status);
    return check_done();
}
