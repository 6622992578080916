#include "tools/geopixel/evaluation/predictions.h"

#include "kernels/base/memory.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static bool read_lines(gp_predictions *predictions, FILE *file, bool append, long *good, gp_status *status);
static bool read_list(gp_predictions *predictions, FILE *file, gp_status *status);

bool gp_predictions_open(const char *path, bool append, gp_predictions *predictions, gp_status *status) {
    FILE *file = fopen(path, "r");
    long good = 0;
    bool is_list = false, done = true;
    *predictions = (gp_predictions){.path = gp_copy_text(path), .by_id = json_object()};
    if (predictions->path == NULL || predictions->by_id == NULL)
        done = gp_fail(status, "%s: no memory", path);
    if (file == NULL && (!append || errno != ENOENT)) done = gp_fail(status, "%s: %s", path, strerror(errno));
    if (done && file != NULL) {
        int first = fgetc(file);
        is_list = first == '[';
        rewind(file);
        done = is_list ? read_list(predictions, file, status)
                       : read_lines(predictions, file, append, &good, status);
    }
    if (file != NULL) fclose(file);
    if (done && append && is_list)
        done = gp_fail(status, "%s is a list; a file of lines can be added to, a list is only read", path);
    if (done && append) {
        predictions->stream = fopen(path, "a");
        if (predictions->stream == NULL || ftruncate(fileno(predictions->stream), good) != 0)
            done = gp_fail(status, "%s: %s", path, strerror(errno));
    }
    return done;
}

/** Checks the form that everybody relies on. */
static bool take(gp_predictions *predictions, json_t *one, size_t number, gp_status *status) {
    const json_t *size = json_object_get(one, "size"), *masks = json_object_get(one, "masks"),
                 *phrases = json_object_get(one, "phrases");
    const char *id = json_string_value(json_object_get(one, "id")), *wrong = NULL;
    long long height = json_integer_value(json_array_get(size, 0)),
              width = json_integer_value(json_array_get(size, 1));
    if (id == NULL)
        wrong = "no id, a text";
    else if (height < 1 || width < 1 || height > 1 << 16 || width > 1 << 16 || json_array_size(size) != 2)
        wrong = "no size [height, width] within 1 ... 65536";
    else if (!json_is_string(json_object_get(one, "text")))
        wrong = "no text";
    else if (!json_is_array(masks))
        wrong = "no list of masks";
    else if (phrases != NULL &&
             (!json_is_array(phrases) || json_array_size(phrases) != json_array_size(masks)))
        wrong = "not as many phrases as masks";
    else if (json_object_get(predictions->by_id, id) != NULL)
        wrong = "a second answer to one id";
    if (wrong != NULL)
        return gp_fail(status, "%s: prediction %zu%s%s: %s", predictions->path, number,
                       id != NULL ? ", id " : "", id != NULL ? id : "", wrong);
    return json_object_set(predictions->by_id, id, one) == 0 ||
           gp_fail(status, "%s: no memory", predictions->path);
}

static bool read_list(gp_predictions *predictions, FILE *file, gp_status *status) {
    json_error_t error;
    json_t *list = json_loadf(file, JSON_REJECT_DUPLICATES, &error);
    bool done = list != NULL || gp_fail(status, "%s: line %d: %s", predictions->path, error.line, error.text);
    for (size_t i = 0; done && i < json_array_size(list); i++)
        done = take(predictions, json_array_get(list, i), i + 1, status);
    json_decref(list);
    return done;
}

static bool read_lines(gp_predictions *predictions, FILE *file, bool append, long *good, gp_status *status) {
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    bool done = true;
    for (size_t number = 1; done && (length = getline(&line, &room, file)) > 0; number++) {
        json_error_t error;
        bool ended = line[length - 1] == '\n';
        if (!ended && append) break;
        json_t *one = json_loads(line, JSON_REJECT_DUPLICATES, &error);
        done = one != NULL ? take(predictions, one, number, status)
                           : gp_fail(status, "%s: line %zu: %s", predictions->path, number, error.text);
        json_decref(one);
        *good += length;
    }
    if (done && ferror(file)) done = gp_fail(status, "%s: %s", predictions->path, strerror(errno));
    free(line);
    return done;
}

const json_t *gp_predictions_find(const gp_predictions *predictions, const char *id) {
    return json_object_get(predictions->by_id, id);
}

bool gp_predictions_add(gp_predictions *predictions, json_t *prediction, gp_status *status) {
    bool done =
        prediction != NULL && take(predictions, prediction, json_object_size(predictions->by_id) + 1, status);
    if (prediction == NULL) gp_fail(status, "no memory for an answer");
    if (done && predictions->stream != NULL &&
        (json_dumpf(prediction, predictions->stream, JSON_COMPACT) != 0 ||
         fputc('\n', predictions->stream) == EOF || fflush(predictions->stream) != 0))
        done = gp_fail(status, "%s cannot be written: %s", predictions->path, strerror(errno));
    json_decref(prediction);
    return done;
}

bool gp_predictions_agree(const gp_predictions *predictions, const char *model, int crops,
                          gp_status *status) {
    const char *id;
    json_t *one;
    json_object_foreach(predictions->by_id, id, one) {
        const char *other = json_string_value(json_object_get(one, "model"));
        const json_t *its_crops = json_object_get(one, "crops");
        if ((other != NULL && strcmp(other, model) != 0) ||
            (its_crops != NULL && json_integer_value(its_crops) != crops))
            return gp_fail(
                status,
                "%s: the answer to %s is of model %s with %lld crops, not of %s with %d; name another file",
                predictions->path, id, other != NULL ? other : "?", (long long)json_integer_value(its_crops),
                model, crops);
    }
    return true;
}

void gp_predictions_close(gp_predictions *predictions) {
    if (predictions->stream != NULL) fclose(predictions->stream);
    json_decref(predictions->by_id);
    gp_free(predictions->path);
    *predictions = (gp_predictions){0};
}
