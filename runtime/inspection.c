/** gp_inspect: opens a checkpoint as the engine does, but with a dry binder, and keeps every answer. */
#include "kernels/base/file.h"
#include "kernels/base/memory.h"
#include "runtime/model.h"

#include <string.h>

_Static_assert((int)GP_INSPECTED_RANK_MAX >= (int)GP_TENSOR_RANK_MAX &&
                   (int)GP_INSPECTED_RANK_MAX >= (int)GP_BOUND_RANK_MAX,
               "every shape fits");

/** The inspection and what its texts live in. */
typedef struct inspection {
    gp_inspection seen; /* first: what the caller has */
    gp_model model;
    gp_binder binder;
    gp_status config, tokenizer, weights, reason;
} inspection;

static void bind(inspection *own);
static bool list_tensors(inspection *own, gp_status *status);
static bool list_files(inspection *own, gp_status *status);
static void judge(inspection *own, const char *folder);

gp_inspection *gp_inspect(const char *folder, gp_status *status) {
    inspection *own = gp_allocate_zeroed(1, sizeof *own);
    if (own == NULL) {
        gp_fail(status, "no memory for an inspection");
        return NULL;
    }
    if (!gp_folder_check(folder, status)) {
        gp_inspection_free(&own->seen);
        return NULL;
    }
    if (gp_config_read(folder, &own->model.config, &own->config))
        gp_model_open_tokenizer(&own->model, folder, &own->tokenizer);
    else
        gp_tokenizer_open(folder, &own->model.tokenizer, &own->tokenizer);
    gp_checkpoint_open(folder, &own->model.checkpoint, &own->weights);
    bind(own);
    if (!list_tensors(own, status) || !list_files(own, status)) {
        gp_inspection_free(&own->seen);
        return NULL;
    }
    judge(own, folder);
    return &own->seen;
}

void gp_inspection_free(gp_inspection *seen) {
    inspection *own = (inspection *)seen;
    if (own == NULL) return;
    gp_free((void *)own->seen.tensors);
    gp_free((void *)own->seen.files);
    gp_binder_clear(&own->binder);
    gp_model_close(&own->model);
    gp_status_clear(&own->config);
    gp_status_clear(&own->tokenizer);
    gp_status_clear(&own->weights);
    gp_status_clear(&own->reason);
    gp_free(own);
}

const char *gp_block_name(gp_block block) {
    static const char *const names[GP_BLOCK_COUNT] = {"vision tower", "projector",      "language model",
                                                      "partial LoRA", "text projector", "grounding encoder",
                                                      "mask decoder"};
    return (int)block >= 0 && block < GP_BLOCK_COUNT ? names[block] : "";
}

/** What config.json's model wants; its problems with tensors are in the binder. */
static void bind(inspection *own) {
    own->binder = (gp_binder){.checkpoint = own->model.checkpoint, .dry = true};
    if (gp_failed(&own->config)) return;
    gp_status status = {0};
    bool done = gp_model_bind(&own->model, &own->binder, &status);
    if (!done) { /* the configuration does not hold: what it says of tensors is worth nothing */
        gp_fail(&own->config, "%s", gp_failed(&status) ? status.message : "out of memory");
        gp_status_clear(&status);
        gp_binder_clear(&own->binder);
        own->binder = (gp_binder){0};
        return;
    }
    for (size_t i = 0; i < own->binder.wanted_count; i++) {
        const gp_wanted *wanted = &own->binder.wanted[i];
        uint64_t parameters = 1;
        for (int d = 0; d < wanted->rank; d++) { /* any size: the one there, else GeoPixel-7B's */
            int64_t size = wanted->shape[d];
            if (size < 0)
                size = wanted->tensor != NULL && wanted->problem == NULL ? wanted->tensor->shape[d] : -size;
            parameters *= (uint64_t)size;
        }
        own->seen.needed[wanted->block] += parameters;
        own->seen.needed_tensors++;
    }
}

static void describe_wanted(const gp_wanted *wanted, gp_inspected_tensor *out) {
    out->block = wanted->block;
    out->expected_rank = wanted->rank;
    for (int i = 0; i < wanted->rank; i++) out->expected[i] = wanted->shape[i] < 0 ? -1 : wanted->shape[i];
    out->problem = wanted->problem;
    out->state = wanted->tensor == NULL    ? GP_TENSOR_MISSING
                 : wanted->problem != NULL ? GP_TENSOR_UNFIT
                                           : GP_TENSOR_USED;
}

static void describe_tensor(const gp_tensor *tensor, gp_inspected_tensor *out) {
    *out = (gp_inspected_tensor){.name = tensor->name,
                                 .state = gp_serves_other_tasks(tensor->name) ? GP_TENSOR_NEVER_LOADED
                                                                              : GP_TENSOR_UNKNOWN,
                                 .block = GP_BLOCK_COUNT,
                                 .file = tensor->file,
                                 .dtype = gp_dtype_name(tensor->dtype),
                                 .rank = tensor->rank,
                                 .count = (uint64_t)tensor->count,
                                 .bytes = (uint64_t)tensor->count * gp_dtype_size(tensor->dtype)};
    memcpy(out->shape, tensor->shape, (size_t)tensor->rank * sizeof *tensor->shape);
}

/** The tensors of the files, then those missing. */
static bool list_tensors(inspection *own, gp_status *status) {
    const gp_checkpoint *checkpoint = own->model.checkpoint;
    size_t missing = 0;
    if (checkpoint == NULL) return true;
    for (size_t i = 0; i < own->binder.wanted_count; i++) missing += own->binder.wanted[i].tensor == NULL;
    gp_inspected_tensor *tensors =
        gp_allocate_zeroed(gp_checkpoint_count(checkpoint) + missing + 1, sizeof *tensors);
    own->seen.tensors = tensors;
    if (tensors == NULL)
        return gp_fail(status, "no memory for a list of %zu tensors", gp_checkpoint_count(checkpoint));
    size_t in_files = gp_checkpoint_count(checkpoint), at = in_files;
    for (size_t i = 0; i < own->binder.wanted_count; i++) {
        const gp_wanted *wanted = &own->binder.wanted[i];
        if (wanted->tensor != NULL) continue;
        tensors[at] = (gp_inspected_tensor){.name = wanted->name, .rank = wanted->rank};
        describe_wanted(wanted, &tensors[at]);
        memcpy(tensors[at].shape, tensors[at].expected, sizeof tensors[at].shape);
        at++;
    }
    gp_binder_sort(&own->binder);
    for (size_t count = 0; count < in_files; count++) {
        const gp_tensor *tensor = gp_checkpoint_tensor(checkpoint, count);
        const gp_wanted *wanted = gp_binder_wants(&own->binder, tensor);
        describe_tensor(tensor, &tensors[count]);
        if (wanted != NULL) describe_wanted(wanted, &tensors[count]);
    }
    own->seen.tensor_count = at;
    return true;
}

static bool list_files(inspection *own, gp_status *status) {
    const gp_checkpoint *checkpoint = own->model.checkpoint;
    if (checkpoint == NULL) return true;
    size_t count = gp_checkpoint_file_count(checkpoint);
    gp_inspected_file *files = gp_allocate_zeroed(count + 1, sizeof *files);
    own->seen.files = files;
    if (files == NULL) return gp_fail(status, "no memory for a list of %zu files", count);
    own->seen.file_count = count;
    for (size_t i = 0; i < count; i++) {
        gp_weight_file file = gp_checkpoint_file(checkpoint, i);
        files[i] = (gp_inspected_file){.path = file.path, .format = file.format, .bytes = file.bytes};
        for (size_t k = 0; k < own->seen.tensor_count; k++)
            files[i].tensors += own->seen.tensors[k].file == file.path;
    }
    return true;
}

static void judge(inspection *own, const char *folder) {
    gp_inspection *seen = &own->seen;
    for (size_t i = 0; i < seen->tensor_count; i++) seen->states[seen->tensors[i].state]++;
    seen->config_error = own->config.message;
    seen->tokenizer_error = own->tokenizer.message;
    seen->weights_error = own->weights.message;
    const char *const errors[] = {seen->config_error, seen->tokenizer_error, seen->weights_error};
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i] != NULL)
            gp_fail_more(&own->reason, "%s%s", gp_failed(&own->reason) ? "\n" : "", errors[i]);
    if (own->binder.problem_count > 0) {
        gp_status lines = {0};
        gp_binder_finish(&own->binder, folder, NULL, &lines);
        gp_fail_more(&own->reason, "%s%s", gp_failed(&own->reason) ? "\n" : "",
                     gp_failed(&lines) ? lines.message : "out of memory");
        gp_status_clear(&lines);
    }
    seen->reason = own->reason.message;
    seen->runs = seen->reason == NULL;
}
