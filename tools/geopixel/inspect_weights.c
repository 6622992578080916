#include "tools/geopixel/inspect_weights.h"

#include "kernels/base/memory.h"
#include "loaders/weights/checkpoint.h"
#include "tools/geopixel/inspect_text.h"

#include <stdio.h>
#include <string.h>

static uint64_t bytes_of(const gp_tensor *tensor);
static void print_report(const gp_checkpoint *file, const gp_tallies *dtypes, const gp_tally *total,
                         const json_t *metadata);
static json_t *report_json(const gp_checkpoint *file, const gp_tallies *dtypes, const gp_tally *total,
                           json_t *metadata);

bool gp_inspect_weights(const char *path, bool json, gp_status *status) {
    gp_checkpoint *file = NULL;
    gp_tallies dtypes = {0};
    gp_tally total = {.name = "total"};
    if (!gp_checkpoint_open_file(path, &file, status)) return false;
    for (size_t i = 0; i < gp_checkpoint_count(file); i++) {
        const gp_tensor *tensor = gp_checkpoint_tensor(file, i);
        gp_tallies_add(&dtypes, gp_dtype_name(tensor->dtype), (uint64_t)tensor->count, bytes_of(tensor));
        gp_tally_add(&total, (uint64_t)tensor->count, bytes_of(tensor));
    }
    char *text = gp_checkpoint_metadata(file, 0);
    json_t *metadata = text != NULL ? json_loads(text, 0, NULL) : NULL;
    bool done = metadata != NULL || gp_fail(status, "%s: no memory for its metadata", path);
    if (done && json)
        done = gp_json_print(report_json(file, &dtypes, &total, metadata)) ||
               gp_fail(status, "%s: the report cannot be written", path);
    else if (done)
        print_report(file, &dtypes, &total, metadata);
    json_decref(metadata);
    gp_free(text);
    gp_checkpoint_close(file);
    return done;
}

static uint64_t bytes_of(const gp_tensor *tensor) {
    return (uint64_t)tensor->count * gp_dtype_size(tensor->dtype);
}

static void print_report(const gp_checkpoint *file, const gp_tallies *dtypes, const gp_tally *total,
                         const json_t *metadata) {
    gp_weight_file about = gp_checkpoint_file(file, 0);
    const char *key;
    json_t *value;
    gp_print_text(about.path);
    printf(": %s, %s, %s tensors\n", about.format, gp_short_bytes(about.bytes).text,
           gp_short_whole(total->tensors).text);
    json_object_foreach((json_t *)metadata, key, value) {
        printf("  ");
        gp_print_text(key);
        printf(": ");
        gp_print_text(json_is_string(value) ? json_string_value(value) : "?");
        putchar('\n');
    }
    gp_tally_print_header("by number format");
    for (int i = 0; i < dtypes->count; i++) gp_tally_print(&dtypes->entries[i]);
    gp_tally_print(total);
    puts("\ntensors");
    for (size_t i = 0; i < gp_checkpoint_count(file); i++) {
        const gp_tensor *tensor = gp_checkpoint_tensor(file, i);
        printf("  %-5s %-22s ", gp_dtype_name(tensor->dtype),
               gp_short_shape(tensor->shape, tensor->rank).text);
        gp_print_text(tensor->name);
        putchar('\n');
    }
}

static json_t *report_json(const gp_checkpoint *file, const gp_tallies *dtypes, const gp_tally *total,
                           json_t *metadata) {
    gp_weight_file about = gp_checkpoint_file(file, 0);
    json_t *tensors = json_array();
    for (size_t i = 0; i < gp_checkpoint_count(file); i++) {
        const gp_tensor *tensor = gp_checkpoint_tensor(file, i);
        json_array_append_new(tensors,
                              json_pack("{s:o,s:s,s:o,s:I,s:I}", "name", gp_json_text(tensor->name), "dtype",
                                        gp_dtype_name(tensor->dtype), "shape",
                                        gp_json_shape(tensor->shape, tensor->rank), "parameters",
                                        (json_int_t)tensor->count, "bytes", (json_int_t)bytes_of(tensor)));
    }
    return json_pack("{s:s,s:o,s:s,s:I,s:O,s:o,s:o,s:o}", "kind", "weights", "file", gp_json_text(about.path),
                     "format", about.format, "file_bytes", (json_int_t)about.bytes, "metadata", metadata,
                     "total", gp_tally_json(total, NULL), "dtypes", gp_tallies_json(dtypes, "dtype"),
                     "tensors", tensors);
}

/* ---- sums ---- */

void gp_tally_add(gp_tally *tally, uint64_t parameters, uint64_t bytes) {
    tally->tensors++;
    tally->parameters += parameters;
    tally->bytes += bytes;
}

void gp_tallies_add(gp_tallies *tallies, const char *name, uint64_t parameters, uint64_t bytes) {
    int i = 0;
    while (i < tallies->count && strcmp(tallies->entries[i].name, name) != 0) i++;
    if (i == GP_TALLIES_MAX) return;
    if (i == tallies->count) tallies->entries[tallies->count++] = (gp_tally){.name = name};
    gp_tally_add(&tallies->entries[i], parameters, bytes);
}

void gp_tally_print_header(const char *title) {
    printf("\n%-20s %8s %12s %12s\n", title, "tensors", "parameters", "size");
}

void gp_tally_print(const gp_tally *tally) {
    printf("  %-18s %8s %12s %12s\n", tally->name, gp_short_whole(tally->tensors).text,
           gp_short_count(tally->parameters).text, gp_short_bytes(tally->bytes).text);
}

json_t *gp_tally_json(const gp_tally *tally, const char *key) {
    json_t *sum = json_object();
    if (key != NULL) json_object_set_new(sum, key, json_string(tally->name));
    json_object_set_new(sum, "tensors", json_integer((json_int_t)tally->tensors));
    json_object_set_new(sum, "parameters", json_integer((json_int_t)tally->parameters));
    json_object_set_new(sum, "bytes", json_integer((json_int_t)tally->bytes));
    return sum;
}

json_t *gp_tallies_json(const gp_tallies *tallies, const char *key) {
    json_t *sums = json_array();
    for (int i = 0; i < tallies->count; i++)
        json_array_append_new(sums, gp_tally_json(&tallies->entries[i], key));
    return sums;
}
