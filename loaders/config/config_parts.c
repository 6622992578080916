#include "loaders/config/config_parts.h"

#include "kernels/base/memory.h"

#include <string.h>

bool gp_config_open(const char *folder, const char *name, gp_config_file *file, gp_status *status) {
    *file = (gp_config_file){0};
    if (!gp_folder_check(folder, status)) return false;
    file->path = gp_file_join(folder, name);
    if (file->path == NULL) return gp_fail(status, "no memory for the path of %s/%s", folder, name);
    if (!gp_file_map(file->path, &file->mapping, status)) {
        gp_config_close(file);
        return false;
    }
    file->text = file->mapping.data != NULL ? (const char *)file->mapping.data : "";
    file->length = file->mapping.size;
    return true;
}

void gp_config_close(gp_config_file *file) {
    gp_file_unmap(&file->mapping);
    gp_free(file->path);
    *file = (gp_config_file){0};
}

json_t *gp_config_load(const char *text, size_t length, const char *name, gp_status *status) {
    json_error_t error;
    json_t *root = json_loadb(text != NULL ? text : "", length, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL) {
        gp_fail(status, "%s: line %d, column %d: %s", name, error.line, error.column, error.text);
        return NULL;
    }
    if (json_is_object(root)) return root;
    json_decref(root);
    gp_fail(status, "%s: not a JSON object", name);
    return NULL;
}

bool gp_config_int(const gp_config_reader *in, const char *field, int low, int high, const int *fallback,
                   int *value) {
    const json_t *json = json_object_get(in->object, field);
    if (json == NULL || json_is_null(json)) {
        if (fallback == NULL) return gp_fail(in->status, "%s: %s%s is missing", in->name, in->scope, field);
        *value = *fallback;
        return true;
    }
    if (!json_is_integer(json))
        return gp_fail(in->status, "%s: %s%s is not a whole number", in->name, in->scope, field);
    json_int_t number = json_integer_value(json);
    if (number < low || number > high)
        return gp_fail(in->status, "%s: %s%s is %lld; %d to %d are possible", in->name, in->scope, field,
                       (long long)number, low, high);
    *value = (int)number;
    return true;
}

bool gp_config_positive(const gp_config_reader *in, const char *field, const float *fallback, float *value) {
    const json_t *json = json_object_get(in->object, field);
    if (json == NULL || json_is_null(json)) {
        if (fallback == NULL) return gp_fail(in->status, "%s: %s%s is missing", in->name, in->scope, field);
        *value = *fallback;
        return true;
    }
    if (!json_is_number(json))
        return gp_fail(in->status, "%s: %s%s is not a number", in->name, in->scope, field);
    double number = json_number_value(json);
    if (!(number > 0 && number <= 1e30 && (float)number > 0))
        return gp_fail(in->status, "%s: %s%s is %g; a positive number is expected", in->name, in->scope,
                       field, number);
    *value = (float)number;
    return true;
}

bool gp_config_ints(const gp_config_reader *in, const char *field, int low, int high, int most, int *values,
                    int *count) {
    const json_t *json = json_object_get(in->object, field);
    if (json == NULL || json_is_null(json)) return true;
    if (!json_is_array(json))
        return gp_fail(in->status, "%s: %s%s is not a list", in->name, in->scope, field);
    if (json_array_size(json) > (size_t)most)
        return gp_fail(in->status, "%s: %s%s has %zu entries; %d are the most", in->name, in->scope, field,
                       json_array_size(json), most);
    *count = (int)json_array_size(json);
    for (int i = 0; i < *count; i++) {
        const json_t *entry = json_array_get(json, (size_t)i);
        if (!json_is_integer(entry))
            return gp_fail(in->status, "%s: %s%s[%d] is not a whole number", in->name, in->scope, field, i);
        json_int_t number = json_integer_value(entry);
        if (number < low || number > high)
            return gp_fail(in->status, "%s: %s%s[%d] is %lld; %d to %d are possible", in->name, in->scope,
                           field, i, (long long)number, low, high);
        values[i] = (int)number;
    }
    return true;
}

bool gp_config_name(const gp_config_reader *in, const char *field, const char *accepted) {
    const json_t *json = json_object_get(in->object, field);
    if (json == NULL || json_is_null(json)) return true;
    if (!json_is_string(json))
        return gp_fail(in->status, "%s: %s%s is not a text", in->name, in->scope, field);
    return strcmp(json_string_value(json), accepted) == 0 ||
           gp_fail(in->status, "%s: %s%s is \"%s\"; \"%s\" is the one known", in->name, in->scope, field,
                   json_string_value(json), accepted);
}

bool gp_config_divides(const gp_config_reader *in, const char *part, int divisor, const char *whole,
                       int number) {
    return number % divisor == 0 || gp_fail(in->status, "%s: %s%s, %d, does not divide %s, %d", in->name,
                                            in->scope, part, divisor, whole, number);
}

bool gp_config_head_dim(const gp_config_reader *in, int head_dim) {
    return head_dim <= GP_CONFIG_HEAD_DIM_MAX ||
           gp_fail(in->status, "%s: %sheads are %d wide; %d is the most", in->name, in->scope, head_dim,
                   GP_CONFIG_HEAD_DIM_MAX);
}

bool gp_config_flag(const gp_config_reader *in, const char *field, bool fallback, bool *value) {
    const json_t *json = json_object_get(in->object, field);
    *value = fallback;
    if (json == NULL || json_is_null(json)) return true;
    if (!json_is_boolean(json))
        return gp_fail(in->status, "%s: %s%s is neither true nor false", in->name, in->scope, field);
    *value = json_is_true(json);
    return true;
}
