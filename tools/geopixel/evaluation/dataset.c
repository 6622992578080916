#include "tools/geopixel/evaluation/dataset.h"

#include "kernels/base/file.h"
#include "kernels/base/memory.h"
#include "tools/geopixel/evaluation/polygon.h"

#include <stdio.h>
#include <string.h>

static bool read_record(const json_t *record, size_t number, const char *images, gp_dataset *dataset,
                        gp_status *status);

gp_sample *gp_dataset_add(gp_dataset *dataset, gp_status *status) {
    if (dataset->count == dataset->capacity) {
        size_t capacity = 2 * dataset->capacity + 64, size = sizeof *dataset->samples;
        gp_sample *wider = gp_grow(dataset->samples, dataset->count * size, capacity * size);
        if (wider == NULL) {
            gp_fail(status, "%s: no memory for %zu samples", dataset->path, capacity);
            return NULL;
        }
        dataset->samples = wider;
        dataset->capacity = capacity;
    }
    gp_sample *sample = &dataset->samples[dataset->count++];
    *sample = (gp_sample){0};
    return sample;
}

void gp_dataset_free(gp_dataset *dataset) {
    for (size_t i = 0; i < dataset->count; i++) {
        gp_sample *sample = &dataset->samples[i];
        for (size_t k = 0; k < sample->target_count; k++) {
            gp_free(sample->targets[k].phrase);
            json_decref(sample->targets[k].mask);
        }
        gp_free(sample->targets);
        gp_free(sample->id);
        gp_free(sample->image);
        gp_free(sample->prompt);
        gp_free(sample->text);
    }
    gp_free(dataset->samples);
    gp_free(dataset->path);
    *dataset = (gp_dataset){0};
}

/** COCO's counts: their text, or the plain list. */
static bool read_runs(const json_t *counts, int width, int height, gp_rle *mask, gp_status *status) {
    uint64_t sum = 0, pixels = (uint64_t)width * (uint64_t)height;
    if (json_is_string(counts)) return gp_rle_parse(json_string_value(counts), width, height, mask, status);
    if (!json_is_array(counts)) return gp_fail(status, "counts are neither text nor a list");
    *mask = (gp_rle){
        .width = width, .height = height, .runs = gp_allocate(json_array_size(counts) * sizeof *mask->runs)};
    if (mask->runs == NULL) return gp_fail(status, "no memory for %zu runs", json_array_size(counts));
    for (size_t i = 0; i < json_array_size(counts); i++) {
        long long run = json_integer_value(json_array_get(counts, i));
        if (run < 0 || (uint64_t)run > pixels - sum) run = (long long)(pixels - sum) + 1;
        sum += (uint64_t)run;
        if (sum > pixels) break;
        mask->runs[mask->count++] = (uint32_t)run;
    }
    if (sum == pixels) return true;
    gp_rle_free(mask);
    return gp_fail(status, "the runs are not the %llu pixels of %d x %d", (unsigned long long)pixels, width,
                   height);
}

bool gp_target_mask(const gp_dataset *dataset, const gp_sample *sample, size_t target, int width, int height,
                    gp_rle *mask, gp_status *status) {
    const json_t *source = sample->targets[target].mask;
    gp_status inner = {0};
    bool done;
    if (json_is_array(source)) {
        done = gp_polygon_mask(source, width, height, mask, &inner);
    } else {
        const json_t *size = json_object_get(source, "size"), *counts = json_object_get(source, "counts");
        long long rows = json_integer_value(json_array_get(size, 0)),
                  columns = json_integer_value(json_array_get(size, 1));
        if (rows != height || columns != width)
            done = gp_fail(&inner, "the mask is of [%lld, %lld], the picture of [%d, %d] rows and columns",
                           rows, columns, height, width);
        else
            done = read_runs(counts, width, height, mask, &inner);
    }
    if (!done)
        gp_fail(status, "%s: sample %s: mask %zu: %s", dataset->path, sample->id, target, inner.message);
    gp_status_clear(&inner);
    return done;
}

/* ---- GeoPixelD ---- */

/** `name` below `images`; where it is not there, its last part alone; else as it is. */
static char *placed(const char *images, const char *name) {
    const char *last = strrchr(name, '/');
    const char *tries[] = {name, last != NULL ? last + 1 : name};
    for (size_t i = 0; i < 2 && name[0] != '/'; i++)
        if (gp_file_exists(images, tries[i])) return gp_file_join(images, tries[i]);
    return gp_copy_text(name);
}

static char *folder_of(const char *path) {
    char *folder = gp_copy_text(path);
    char *slash = folder != NULL ? strrchr(folder, '/') : NULL;
    if (slash == NULL) {
        gp_free(folder);
        return gp_copy_text(".");
    }
    *(slash == folder ? slash + 1 : slash) = '\0';
    return folder;
}

/** Answers are found by ids, so none is there twice. */
static bool take_id(json_t *ids, const gp_dataset *dataset, size_t number, gp_status *status) {
    const char *id = dataset->samples[number].id;
    if (json_object_get(ids, id) != NULL)
        return gp_fail(status, "%s: record %zu: the id %s is another's too", dataset->path, number, id);
    return json_object_set_new(ids, id, json_true()) == 0 ||
           gp_fail(status, "%s: no memory for its ids", dataset->path);
}

bool gp_geopixeld_read(const char *path, const char *images, gp_dataset *dataset, gp_status *status) {
    json_error_t error;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    *dataset = (gp_dataset){.path = gp_copy_text(path)};
    if (root == NULL)
        return error.line > 0 ? gp_fail(status, "%s: line %d: %s", path, error.line, error.text)
                              : gp_fail(status, "%s: %s", path, error.text);
    char *folder = images != NULL ? gp_copy_text(images) : folder_of(path);
    json_t *ids = json_object();
    bool done = folder != NULL && dataset->path != NULL && ids != NULL;
    if (!done) gp_fail(status, "%s: no memory", path);
    if (done && !json_is_array(root)) done = gp_fail(status, "%s: not a list of records", path);
    if (done && json_array_size(root) == 0) done = gp_fail(status, "%s: the list is empty", path);
    for (size_t i = 0; done && i < json_array_size(root); i++)
        done = read_record(json_array_get(root, i), i, folder, dataset, status) &&
               take_id(ids, dataset, i, status);
    json_decref(ids);
    gp_free(folder);
    json_decref(root);
    return done;
}

/** The text of the first turn of that speaker. */
static const char *said_by(const json_t *conversations, const char *speaker) {
    for (size_t i = 0; i < json_array_size(conversations); i++) {
        const json_t *turn = json_array_get(conversations, i);
        const char *from = json_string_value(json_object_get(turn, "from"));
        if (from != NULL && strcmp(from, speaker) == 0)
            return json_string_value(json_object_get(turn, "value"));
    }
    return NULL;
}

/** The text between the last <p> … </p> before `seg` and after `from`, trimmed; empty where there is none. */
static char *phrase_before(const char *from, const char *seg) {
    const char *begin = NULL, *end = NULL;
    for (const char *at = from; at < seg; at++) {
        if (strncmp(at, "<p>", 3) == 0) begin = at + 3, end = NULL;
        if (strncmp(at, "</p>", 4) == 0) end = at;
    }
    if (begin == NULL || end == NULL) return gp_copy_text("");
    while (begin < end && *begin == ' ') begin++;
    while (end > begin && end[-1] == ' ') end--;
    char *phrase = gp_allocate((size_t)(end - begin) + 1);
    if (phrase == NULL) return NULL;
    memcpy(phrase, begin, (size_t)(end - begin));
    phrase[end - begin] = '\0';
    return phrase;
}

/** How many objects a mask covers: as the record says (meta.targets[k].instances), else the polygon's rings,
 * else 1. */
static int objects_of(const json_t *record, const json_t *mask, size_t target) {
    const json_t *known = json_array_get(json_object_get(json_object_get(record, "meta"), "targets"), target);
    long long instances = json_integer_value(json_object_get(known, "instances"));
    if (instances > 0) return instances < 1 << 30 ? (int)instances : 1 << 30;
    return json_is_array(mask) && json_array_size(mask) > 1 ? (int)json_array_size(mask) : 1;
}

/** The list of masks: in the record, or in the file that it names. Borrowed from `record`, or from `file`,
 * which is the caller's. */
static const json_t *masks_of(const json_t *record, const char *images, json_t **file, gp_status *status) {
    const json_t *masks = json_object_get(record, "segmentation"),
                 *polygons = json_object_get(record, "polygons");
    json_error_t error;
    if (masks != NULL || !json_is_string(polygons)) return masks != NULL ? masks : polygons;
    char *path = placed(images, json_string_value(polygons));
    *file = path != NULL ? json_load_file(path, JSON_REJECT_DUPLICATES, &error) : NULL;
    if (path == NULL)
        gp_fail(status, "no memory");
    else if (*file == NULL && error.line > 0)
        gp_fail(status, "%s: line %d: %s", path, error.line, error.text);
    else if (*file == NULL)
        gp_fail(status, "%s", error.text);
    if (*file != NULL && json_object_get(*file, "polygons") == NULL) gp_fail(status, "%s: no polygons", path);
    gp_free(path);
    return json_object_get(*file, "polygons");
}

static bool take_targets(const json_t *record, const json_t *masks, gp_sample *sample, gp_status *status) {
    const char *from = sample->text;
    size_t count = 0;
    for (const char *at = sample->text; (at = strstr(at, "[SEG]")) != NULL; at += 5) count++;
    if (!json_is_array(masks)) return gp_fail(status, "neither segmentation nor polygons is a list");
    if (count != json_array_size(masks))
        return gp_fail(status, "%zu [SEG] in the text, %zu masks", count, json_array_size(masks));
    sample->targets = gp_allocate_zeroed(count + 1, sizeof *sample->targets);
    if (sample->targets == NULL) return gp_fail(status, "no memory for %zu masks", count);
    for (size_t k = 0; k < count; k++) {
        gp_target *target = &sample->targets[sample->target_count++];
        const char *seg = strstr(from, "[SEG]");
        target->phrase = phrase_before(from, seg);
        target->mask = json_incref(json_array_get(masks, k));
        target->objects = objects_of(record, target->mask, k);
        if (target->phrase == NULL) return gp_fail(status, "no memory for a phrase");
        from = seg + 5;
    }
    return true;
}

/** The prompt without the place of the image, where it is written. */
static char *plain_prompt(const char *text) {
    static const char *const marks[] = {"<ImageHere>", "<image>"};
    for (size_t i = 0; i < 2; i++) {
        if (strncmp(text, marks[i], strlen(marks[i])) != 0) continue;
        text += strlen(marks[i]);
        while (*text == '\n' || *text == ' ') text++;
    }
    return gp_copy_text(text);
}

static bool read_record(const json_t *record, size_t number, const char *images, gp_dataset *dataset,
                        gp_status *status) {
    const json_t *id = json_object_get(record, "id"),
                 *conversations = json_object_get(record, "conversations");
    const char *image = json_string_value(json_object_get(record, "image"));
    const char *prompt = said_by(conversations, "human"), *text = said_by(conversations, "bot");
    json_t *file = NULL;
    gp_status inner = {0};
    gp_sample *sample = gp_dataset_add(dataset, status);
    char numbered[32];
    if (sample == NULL) return false;
    if (text == NULL) text = said_by(conversations, "gpt");
    snprintf(numbered, sizeof numbered, "%lld",
             json_is_integer(id) ? (long long)json_integer_value(id) : (long long)number);
    if (image == NULL || prompt == NULL || text == NULL)
        return gp_fail(status, "%s: record %zu: %s is missing", dataset->path, number,
                       image == NULL    ? "image"
                       : prompt == NULL ? "the human's turn"
                                        : "the bot's turn");
    sample->id = gp_copy_text(json_is_string(id) ? json_string_value(id) : numbered);
    sample->image = placed(images, image);
    sample->prompt = plain_prompt(prompt);
    sample->text = gp_copy_text(text);
    bool done = sample->id != NULL && sample->image != NULL && sample->prompt != NULL && sample->text != NULL;
    if (!done) gp_fail(&inner, "no memory");
    if (done) {
        const json_t *masks = masks_of(record, images, &file, &inner);
        done = !gp_failed(&inner) && take_targets(record, masks, sample, &inner);
    }
    if (!done) gp_fail(status, "%s: record %zu: %s", dataset->path, number, inner.message);
    gp_status_clear(&inner);
    json_decref(file);
    return done;
}
