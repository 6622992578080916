/** RRSIS-D, and whatever else lies in the folders of the REFER API: references of a pickle to annotations of
 * a COCO file. */
#include "kernels/base/file.h"
#include "kernels/base/memory.h"
#include "tools/geopixel/evaluation/coco_mask.h"
#include "tools/geopixel/evaluation/data_pickle.h"
#include "tools/geopixel/evaluation/dataset.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define INSTANCES  "instances.json"
#define REFERENCES "refs(unc).p"
#define QUESTION   "Could you provide a segmentation mask for %s in this image?"

enum { ID_SIZE = 64, SIDE_MAX = 1 << 20 };

typedef struct reader {
    char *instances_path, *references_path, *images;
    json_t *instances, *references;
    json_t *images_by_id, *annotations_by_id;
    json_t *ids; /* of the samples so far */
    gp_dataset *dataset;
    gp_status *status;
} reader;

static bool read_instances(reader *in);
static bool read_references(reader *in, const char *split);
static bool read_reference(reader *in, size_t index, const json_t *reference);

/** Where the pictures are: in the folder, or where the published archive has them, in images/ beside it. */
static char *pictures_of(const char *folder) {
    static const char beside[] = "../images/rrsisd/JPEGImages";
    return gp_file_join(folder, gp_file_exists(folder, beside) ? beside : "JPEGImages");
}

bool gp_rrsisd_read(const char *folder, const char *split, const char *images, gp_dataset *dataset,
                    gp_status *status) {
    *dataset = (gp_dataset){0};
    if (!gp_folder_check(folder, status)) return false;
    reader in = {.instances_path = gp_file_join(folder, INSTANCES),
                 .references_path = gp_file_join(folder, REFERENCES),
                 .images = images != NULL ? gp_copy_text(images) : pictures_of(folder),
                 .images_by_id = json_object(),
                 .annotations_by_id = json_object(),
                 .ids = json_object(),
                 .dataset = dataset,
                 .status = status};
    dataset->path = gp_copy_text(folder);
    bool done = in.instances_path != NULL && in.references_path != NULL && in.images != NULL &&
                in.images_by_id != NULL && in.annotations_by_id != NULL && in.ids != NULL &&
                dataset->path != NULL;
    if (!done) gp_fail(status, "%s: no memory to read it", folder);
    done = done && read_instances(&in) && read_references(&in, split);
    json_decref(in.ids);
    json_decref(in.annotations_by_id);
    json_decref(in.images_by_id);
    json_decref(in.references);
    json_decref(in.instances);
    gp_free(in.images);
    gp_free(in.references_path);
    gp_free(in.instances_path);
    if (!done) gp_dataset_free(dataset);
    return done;
}

/* ---- ids ---- */

/** An id, which is a whole number or a text, as text; false for anything else. */
static bool id_text(const json_t *id, char text[ID_SIZE]) {
    if (json_is_integer(id)) return snprintf(text, ID_SIZE, "%lld", (long long)json_integer_value(id)) > 0;
    return json_is_string(id) && json_string_length(id) > 0 &&
           strlen(json_string_value(id)) == json_string_length(id) &&
           snprintf(text, ID_SIZE, "%s", json_string_value(id)) < ID_SIZE;
}

/** The member `field` of what is called `place` (printf format), as an id. */
GP_PRINTF(6, 7)
static bool read_id(reader *in, const char *path, const json_t *object, const char *field, char text[ID_SIZE],
                    const char *place, ...) {
    if (id_text(json_object_get(object, field), text)) return true;
    char name[64];
    va_list arguments;
    va_start(arguments, place);
    vsnprintf(name, sizeof name, place, arguments);
    va_end(arguments);
    return gp_fail(in->status, "%s: %s: %s is no id: a number, or a text of 1 to %d bytes", path, name, field,
                   ID_SIZE - 1);
}

/* ---- instances.json ---- */

/** The entries of a list of instances.json by their ids. */
static bool index_list(reader *in, const char *list_name, json_t *by_id) {
    const json_t *list = json_object_get(in->instances, list_name);
    if (!json_is_array(list)) return gp_fail(in->status, "%s: %s is no list", in->instances_path, list_name);
    size_t i;
    json_t *entry;
    char id[ID_SIZE];
    json_array_foreach(list, i, entry) {
        if (!read_id(in, in->instances_path, entry, "id", id, "%s[%zu]", list_name, i)) return false;
        if (json_object_get(by_id, id) != NULL)
            return gp_fail(in->status, "%s: %s[%zu]: the id %s is another's too", in->instances_path,
                           list_name, i, id);
        if (json_object_set(by_id, id, entry) != 0)
            return gp_fail(in->status, "%s: no memory for its %s", in->instances_path, list_name);
    }
    return true;
}

static bool read_instances(reader *in) {
    gp_mapping file;
    json_error_t error;
    if (!gp_file_map(in->instances_path, &file, in->status)) return false;
    in->instances = json_loadb(file.data != NULL ? (const char *)file.data : "", file.size,
                               JSON_REJECT_DUPLICATES, &error);
    gp_file_unmap(&file);
    if (in->instances == NULL)
        return gp_fail(in->status, "%s: line %d, column %d: %s", in->instances_path, error.line, error.column,
                       error.text);
    if (!json_is_object(in->instances))
        return gp_fail(in->status, "%s: not a JSON object", in->instances_path);
    return index_list(in, "images", in->images_by_id) && index_list(in, "annotations", in->annotations_by_id);
}

/** A picture's width or height, 0 where the file does not say. */
static bool read_side(reader *in, const json_t *image, const char *id, const char *field, int *side) {
    const json_t *value = json_object_get(image, field);
    *side = 0;
    if (value == NULL || json_is_null(value)) return true;
    if (!json_is_integer(value) || json_integer_value(value) < 1 || json_integer_value(value) > SIDE_MAX)
        return gp_fail(in->status, "%s: image %s: %s is no number from 1 to %d", in->instances_path, id,
                       field, SIDE_MAX);
    *side = (int)json_integer_value(value);
    return true;
}

/* ---- refs(unc).p ---- */

/** What there is instead of `split`. */
static bool fail_split(reader *in, const char *split) {
    json_t *counts = json_object();
    size_t i, total = json_array_size(in->references);
    json_t *reference;
    json_array_foreach(in->references, i, reference) {
        const char *name = json_string_value(json_object_get(reference, "split"));
        if (name != NULL)
            json_object_set_new(counts, name,
                                json_integer(json_integer_value(json_object_get(counts, name)) + 1));
    }
    gp_fail(in->status, "%s: none of its %zu references is of the split \"%s\"", in->references_path, total,
            split);
    const char *name, *before = "; there are ";
    json_t *count;
    json_object_foreach(counts, name, count) {
        gp_fail_more(in->status, "%s%s (%lld)", before, name, (long long)json_integer_value(count));
        before = ", ";
    }
    json_decref(counts);
    return false;
}

static bool read_references(reader *in, const char *split) {
    gp_mapping file;
    if (!gp_file_map(in->references_path, &file, in->status)) return false;
    in->references = gp_data_pickle_read(file.data, file.size, in->references_path, in->status);
    gp_file_unmap(&file);
    if (in->references == NULL) return false;
    if (!json_is_array(in->references))
        return gp_fail(in->status, "%s: no list of references", in->references_path);
    size_t i, found = 0;
    json_t *reference;
    json_array_foreach(in->references, i, reference) {
        const json_t *name = json_object_get(reference, "split");
        if (!json_is_string(name))
            return gp_fail(in->status, "%s: reference %zu: split is no text", in->references_path, i);
        if (strcmp(json_string_value(name), split) != 0) continue;
        if (!read_reference(in, i, reference)) return false;
        found++;
    }
    return found > 0 || fail_split(in, split);
}

/** A new text by printf's format, or NULL. */
GP_PRINTF(1, 2)
static char *text_of(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    char *text = length >= 0 ? gp_allocate((size_t)length + 1) : NULL;
    if (text == NULL) return NULL;
    va_start(arguments, format);
    vsnprintf(text, (size_t)length + 1, format, arguments);
    va_end(arguments);
    return text;
}

/** The sentence `index` of a reference as a sample; image, width and height are taken from `like`. */
static bool add_sample(reader *in, const json_t *sentence, size_t reference, size_t index, const char *ref_id,
                       const gp_sample *like, json_t *mask) {
    char sent_id[ID_SIZE];
    if (!read_id(in, in->references_path, sentence, "sent_id", sent_id, "reference %zu, sentence %zu",
                 reference, index))
        return false;
    const char *expression = json_string_value(json_object_get(sentence, "sent"));
    if (expression == NULL || strlen(expression) != json_string_length(json_object_get(sentence, "sent")))
        return gp_fail(in->status, "%s: reference %zu, sentence %zu: sent is no text", in->references_path,
                       reference, index);
    gp_sample *sample = gp_dataset_add(in->dataset, in->status);
    if (sample == NULL) return false;
    sample->id = text_of("%s-%s", ref_id, sent_id);
    sample->image = gp_copy_text(like->image);
    sample->prompt = text_of(QUESTION, expression);
    sample->text = gp_copy_text(expression);
    sample->width = like->width;
    sample->height = like->height;
    sample->targets = gp_allocate_zeroed(1, sizeof *sample->targets);
    if (sample->targets != NULL) {
        sample->target_count = 1;
        sample->targets->phrase = gp_copy_text(expression);
        sample->targets->mask = json_incref(mask);
        sample->targets->objects = 1;
    }
    if (sample->id == NULL || sample->image == NULL || sample->prompt == NULL || sample->text == NULL ||
        sample->targets == NULL || sample->targets->phrase == NULL)
        return gp_fail(in->status, "%s: no memory for reference %zu", in->references_path, reference);
    if (json_object_get(in->ids, sample->id) != NULL)
        return gp_fail(in->status,
                       "%s: reference %zu, sentence %zu: ref_id %s with sent_id %s is there twice",
                       in->references_path, reference, index, ref_id, sent_id);
    return json_object_set_new(in->ids, sample->id, json_true()) == 0 ||
           gp_fail(in->status, "%s: no memory for its ids", in->references_path);
}

/** Where the reference's picture and annotation are. */
static bool look_up(reader *in, size_t index, const json_t *reference, gp_sample *like, json_t **mask) {
    char ann_id[ID_SIZE], image_id[ID_SIZE], of_annotation[ID_SIZE];
    if (!read_id(in, in->references_path, reference, "ann_id", ann_id, "reference %zu", index) ||
        !read_id(in, in->references_path, reference, "image_id", image_id, "reference %zu", index))
        return false;
    const json_t *annotation = json_object_get(in->annotations_by_id, ann_id);
    if (annotation == NULL)
        return gp_fail(in->status, "%s: reference %zu: ann_id %s is none of the %zu annotations of %s",
                       in->references_path, index, ann_id, json_object_size(in->annotations_by_id),
                       in->instances_path);
    const json_t *image = json_object_get(in->images_by_id, image_id);
    if (image == NULL)
        return gp_fail(in->status, "%s: reference %zu: image_id %s is none of the %zu images of %s",
                       in->references_path, index, image_id, json_object_size(in->images_by_id),
                       in->instances_path);
    if (!read_id(in, in->instances_path, annotation, "image_id", of_annotation, "annotation %s", ann_id))
        return false;
    if (strcmp(image_id, of_annotation) != 0)
        return gp_fail(in->status, "%s: reference %zu: image_id %s, but annotation %s is of image %s",
                       in->references_path, index, image_id, ann_id, of_annotation);
    const json_t *name = json_object_get(image, "file_name");
    if (json_string_length(name) == 0 || strlen(json_string_value(name)) != json_string_length(name))
        return gp_fail(in->status, "%s: image %s: file_name is no text", in->instances_path, image_id);
    if (!read_side(in, image, image_id, "width", &like->width) ||
        !read_side(in, image, image_id, "height", &like->height))
        return false;
    char place[ID_SIZE + 32];
    snprintf(place, sizeof place, "annotation %s", ann_id);
    *mask = gp_coco_mask(json_object_get(annotation, "segmentation"), in->instances_path, place, in->status);
    if (*mask == NULL) return false;
    like->image = gp_file_join(in->images, json_string_value(name));
    return like->image != NULL ||
           gp_fail(in->status, "%s: no memory for the path of image %s", in->instances_path, image_id);
}

static bool read_reference(reader *in, size_t index, const json_t *reference) {
    char ref_id[ID_SIZE];
    if (!read_id(in, in->references_path, reference, "ref_id", ref_id, "reference %zu", index)) return false;
    const json_t *sentences = json_object_get(reference, "sentences");
    if (!json_is_array(sentences))
        return gp_fail(in->status, "%s: reference %zu: sentences is no list", in->references_path, index);
    gp_sample like = {0};
    json_t *mask = NULL;
    bool done = look_up(in, index, reference, &like, &mask);
    for (size_t i = 0; done && i < json_array_size(sentences); i++)
        done = add_sample(in, json_array_get(sentences, i), index, i, ref_id, &like, mask);
    gp_free(like.image);
    json_decref(mask);
    return done;
}
