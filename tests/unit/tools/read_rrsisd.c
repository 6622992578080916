/**
 * read_rrsisd pickles: a line for each pickle of standard input (its size in 4 bytes, then itself): its JSON,
 * or "!" and why not.
 * read_rrsisd set FOLDER SPLIT [IMAGES]: the samples as JSON; why not on standard error, exit code 1.
 */
#include "kernels/base/memory.h"
#include "tests/check.h"
#include "tools/geopixel/evaluation/data_pickle.h"
#include "tools/geopixel/evaluation/dataset.h"

static void print_json(const json_t *value) {
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
    REQUIRE(text != NULL, "json_dumps");
    puts(text);
    free(text);
}

static int read_pickles(void) {
    uint32_t size;
    while (fread(&size, sizeof size, 1, stdin) == 1) {
        /* exact, so that a sanitizer sees reading past it */
        unsigned char *data = malloc(size > 0 ? size : 1);
        REQUIRE(data != NULL && fread(data, 1, size, stdin) == size, "a pickle of %u bytes", size);
        gp_status status = {0};
        json_t *value = gp_data_pickle_read(data, size, "given", &status);
        CHECK((value == NULL) == gp_failed(&status), "refused without a reason, or read with one");
        if (value != NULL)
            print_json(value);
        else
            printf("!%s\n", gp_failed(&status) ? status.message : "");
        json_decref(value);
        gp_status_clear(&status);
        free(data);
    }
    return check_done();
}

static int read_set(const char *folder, const char *split, const char *images) {
    gp_dataset set = {0};
    gp_status status = {0};
    if (!gp_rrsisd_read(folder, split, images, &set, &status)) {
        CHECK(set.samples == NULL && set.path == NULL, "something is left of a failed reading");
        fprintf(stderr, "%s\n", status.message);
        gp_status_clear(&status);
        return 1;
    }
    json_t *list = json_array();
    for (size_t i = 0; i < set.count; i++) {
        const gp_sample *sample = &set.samples[i];
        json_t *targets = json_array();
        for (size_t k = 0; k < sample->target_count; k++)
            json_array_append_new(targets,
                                  json_pack("{s:s, s:O, s:i}", "phrase", sample->targets[k].phrase, "mask",
                                            sample->targets[k].mask, "objects", sample->targets[k].objects));
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:o}", "id", sample->id,
                                              "image", sample->image, "prompt", sample->prompt, "text",
                                              sample->text, "width", sample->width, "height", sample->height,
                                              "targets", targets));
    }
    print_json(list);
    json_decref(list);
    gp_dataset_free(&set);
    CHECK(gp_memory_observe().live_bytes == 0, "%zu bytes are left", gp_memory_observe().live_bytes);
    return check_done();
}

int main(int count, char **arguments) {
    if (count == 2 && strcmp(arguments[1], "pickles") == 0) return read_pickles();
    REQUIRE((count == 4 || count == 5) && strcmp(arguments[1], "set") == 0, "pickles, or set FOLDER SPLIT");
    return read_set(arguments[2], arguments[3], arguments[4]);
}
