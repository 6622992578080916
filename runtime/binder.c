#include "runtime/binder.h"

#include "kernels/base/memory.h"
#include "kernels/base/random.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_MAX_LENGTH = 256, SHOWN_UNEXPECTED = 5 };

/*
 * Tensors of the released checkpoints that serve other tasks, training or video: `prefix` starts or `part`
 * occurs in the name. Never read, never worth a word.
 */
static const char *const other_prefixes[] = {
    "model.visual_model.memory_",
    "model.visual_model.maskmem_tpos_enc",
    "model.visual_model.mask_downsample.",
    "model.visual_model.no_mem_pos_enc",
    "model.visual_model.no_obj_ptr",
    "model.visual_model.obj_ptr_",
    "model.visual_model.sam_mask_decoder.pred_obj_score_head.",
    "model.visual_model.sam_prompt_encoder.mask_downscaling.",
    "model.visual_model.sam_prompt_encoder.not_a_point_embed.",
    "model.visual_model.sam_prompt_encoder.point_embeddings.",
    "vit.vision_tower.vision_model.post_layernorm.",
};
static const char *const other_parts[] = {".lora_sft_", ".lora_dpo_", ".lora_web_", "rotary_emb.inv_freq",
                                          ".position_ids"};

static const gp_tensor *want(gp_binder *binder, const char *name, int rank, int64_t *shape);
static gp_matrix place(gp_binder *binder, const gp_tensor *tensor, int64_t columns, const gp_part *row_part,
                       const gp_part *column_part);
static gp_part whole(int64_t size);
static uint64_t random_seed(const gp_binder *binder);
static void fill_random(const gp_binder *binder, const gp_tensor *tensor, float *host);
static void problem(gp_binder *binder, const char *format, ...) GP_PRINTF(2, 3);
static uint64_t placed_bytes(const gp_binder *binder, const gp_matrix *matrix);
static bool append_pointer(void ***list, size_t *count, size_t *capacity, void *pointer);

/** What a dry binder gives for backend memory: not NULL, and never looked at. */
static const float nowhere[1];

#define FORMAT_NAME(text, format)                                                                            \
    char text[NAME_MAX_LENGTH];                                                                              \
    va_list arguments;                                                                                       \
    va_start(arguments, format);                                                                             \
    vsnprintf(text, sizeof text, format, arguments);                                                         \
    va_end(arguments)

gp_matrix gp_bind_matrix(gp_binder *binder, int64_t rows, int64_t columns, const char *name, ...) {
    FORMAT_NAME(text, name);
    int64_t shape[2] = {rows, columns};
    const gp_tensor *tensor = want(binder, text, 2, shape);
    if (tensor == NULL) return (gp_matrix){0};
    gp_part all_rows = whole(shape[0]), all_columns = whole(shape[1]);
    return place(binder, tensor, shape[1], &all_rows, &all_columns);
}

gp_matrix gp_bind_part(gp_binder *binder, int64_t rows, const gp_part *row_part, int64_t columns,
                       const gp_part *column_part, const char *name, ...) {
    FORMAT_NAME(text, name);
    int64_t shape[2] = {rows, columns};
    const gp_tensor *tensor = want(binder, text, 2, shape);
    if (tensor == NULL) return (gp_matrix){0};
    gp_part all_rows = whole(shape[0]), all_columns = whole(shape[1]);
    return place(binder, tensor, shape[1], row_part != NULL ? row_part : &all_rows,
                 column_part != NULL ? column_part : &all_columns);
}

gp_matrix gp_bind_convolution(gp_binder *binder, int64_t out, int64_t in, int64_t side, const char *name,
                              ...) {
    FORMAT_NAME(text, name);
    int64_t shape[4] = {out, in, side, side};
    const gp_tensor *tensor = want(binder, text, 4, shape);
    if (tensor == NULL) return (gp_matrix){0};
    gp_part all_rows = whole(shape[0]), all_columns = whole(shape[1] * side * side);
    return place(binder, tensor, shape[1] * side * side, &all_rows, &all_columns);
}

/** The tensor's values as f32 in host memory, or NULL with the problem noted; a dry binder has NULL alone. */
static float *convert(gp_binder *binder, const gp_tensor *tensor) {
    gp_status status = {0};
    if (binder->dry) return NULL;
    const void *data = binder->random ? NULL : gp_checkpoint_read(binder->checkpoint, tensor, &status);
    float *host = binder->random || data != NULL ? gp_allocate((size_t)tensor->count * sizeof *host) : NULL;
    if (host == NULL)
        problem(binder, "%s: %s", tensor->name, gp_failed(&status) ? status.message : "out of memory");
    else if (binder->random)
        fill_random(binder, tensor, host);
    else
        gp_convert_to_f32(data, tensor->dtype, (size_t)tensor->count, host);
    gp_status_clear(&status);
    return host;
}

const float *gp_bind_vector(gp_binder *binder, int64_t count, const char *name, ...) {
    FORMAT_NAME(text, name);
    const gp_tensor *tensor = want(binder, text, 1, &count);
    float *host = tensor != NULL ? convert(binder, tensor) : NULL;
    const float *vector = tensor != NULL ? gp_binder_place(binder, host, (size_t)tensor->count) : NULL;
    gp_free(host);
    return vector;
}

float *gp_bind_host(gp_binder *binder, int rank, int64_t *shape, const char *name, ...) {
    FORMAT_NAME(text, name);
    const gp_tensor *tensor = want(binder, text, rank, shape);
    return tensor != NULL ? convert(binder, tensor) : NULL;
}

void gp_binder_refuse(gp_binder *binder, const char *format, ...) {
    FORMAT_NAME(text, format);
    if (binder->wanted_count == 0) return;
    gp_wanted *wanted = &binder->wanted[binder->wanted_count - 1];
    problem(binder, "%s: %s", wanted->name, text);
    if (wanted->problem == NULL) wanted->problem = gp_copy_text(text);
}

float *gp_binder_derive(const gp_binder *binder, size_t count) {
    return binder->dry ? NULL : gp_allocate_zeroed(count, sizeof(float));
}

const float *gp_binder_place(gp_binder *binder, const float *host, size_t count) {
    if (binder->dry) {
        binder->converted_bytes += count * sizeof *host;
        return nowhere;
    }
    if (host == NULL) {
        if (binder->problem_count == 0) problem(binder, "no memory for %zu values", count);
        return NULL;
    }
    const gp_ops *ops = binder->backend->ops;
    void *memory = ops->allocate(binder->backend, count * sizeof *host);
    if (memory == NULL ||
        !append_pointer(&binder->owned, &binder->owned_count, &binder->owned_capacity, memory)) {
        ops->release(binder->backend, memory);
        problem(binder, "no memory for %zu values", count);
        return NULL;
    }
    ops->upload(binder->backend, memory, host, count * sizeof *host);
    binder->converted_bytes += count * sizeof *host;
    return memory;
}

gp_matrix gp_binder_place_matrix(gp_binder *binder, float *host, int64_t rows, int64_t columns) {
    gp_matrix matrix = {NULL, GP_DTYPE_F32, rows, columns, columns};
    uint64_t bytes = placed_bytes(binder, &matrix);
    if (binder->dry) {
        binder->converted_bytes += bytes;
        matrix.data = nowhere;
        return matrix;
    }
    if (host == NULL) {
        matrix.data = gp_binder_place(binder, NULL, (size_t)(rows * columns)); /* notes the problem */
        return matrix;
    }
    if (!append_pointer(&binder->owned_host, &binder->owned_host_count, &binder->owned_host_capacity, host)) {
        gp_free(host);
        problem(binder, "no memory for %zu values", (size_t)(rows * columns));
        return matrix;
    }
    matrix.data = host;
    if (!binder->backend->ops->place(binder->backend, &matrix)) {
        matrix.data = NULL;
        problem(binder, "no room on the device for a matrix of %llu bytes", (unsigned long long)bytes);
    }
    binder->converted_bytes += bytes;
    return matrix;
}

/** Notes that the model needs the tensor; NULL when memory is out. */
static gp_wanted *note(gp_binder *binder, const char *name, int rank, const int64_t *shape) {
    if (binder->wanted_count == binder->wanted_capacity) {
        size_t count = binder->wanted_count, larger = count > 0 ? 2 * count : 256;
        gp_wanted *grown = gp_grow(binder->wanted, count * sizeof *grown, larger * sizeof *grown);
        if (grown == NULL) return NULL;
        binder->wanted = grown;
        binder->wanted_capacity = larger;
    }
    gp_wanted *wanted = &binder->wanted[binder->wanted_count];
    *wanted = (gp_wanted){.name = gp_copy_text(name), .block = binder->block, .rank = rank};
    if (wanted->name == NULL) return NULL;
    memcpy(wanted->shape, shape, (size_t)rank * sizeof *shape);
    binder->wanted_count++;
    return wanted;
}

/** Whether the tensor is there, in a shape that fits and in numbers that can be computed with. */
static bool check(const gp_wanted *wanted, gp_status *problem_status) {
    const gp_tensor *tensor = wanted->tensor;
    char expected[160], found[160];
    gp_format_shape(wanted->shape, wanted->rank, expected);
    if (tensor == NULL) return gp_fail(problem_status, "missing; %s is expected", expected);
    bool fits = tensor->rank == wanted->rank && tensor->count > 0;
    for (int i = 0; i < wanted->rank && fits; i++)
        fits = wanted->shape[i] < 0 || wanted->shape[i] == tensor->shape[i];
    if (!fits) {
        gp_format_shape(tensor->shape, tensor->rank, found);
        return gp_fail(problem_status, "%s in %s; %s is expected", found, tensor->file, expected);
    }
    if (tensor->dtype != GP_DTYPE_BF16 && tensor->dtype != GP_DTYPE_F16 && tensor->dtype != GP_DTYPE_F32)
        return gp_fail(problem_status, "%s in %s; bf16, f16 or f32 is expected", gp_dtype_name(tensor->dtype),
                       tensor->file);
    return true;
}

/** What a dry or random binder takes for the tensor wanted, so that all others are asked for as if it were
 * there. */
static const gp_tensor *assume(gp_binder *binder, const gp_wanted *wanted) {
    gp_tensor *tensor = &binder->assumed;
    *tensor = (gp_tensor){.name = wanted->name, .dtype = GP_DTYPE_BF16, .rank = wanted->rank, .count = 1};
    for (int i = 0; i < wanted->rank; i++) {
        tensor->shape[i] = wanted->shape[i] < 0 ? -wanted->shape[i] : wanted->shape[i];
        tensor->count *= tensor->shape[i];
    }
    return tensor;
}

/** The tensor of that name if it serves, with GP_ANY filled in. */
static const gp_tensor *want(gp_binder *binder, const char *name, int rank, int64_t *shape) {
    gp_wanted *wanted = note(binder, name, rank, shape);
    if (wanted == NULL) {
        problem(binder, "%s: out of memory", name);
        return NULL;
    }
    const gp_tensor *tensor = NULL;
    if (binder->checkpoint != NULL) {
        gp_status status = {0};
        wanted->tensor = tensor = gp_checkpoint_find(binder->checkpoint, name);
        if (!check(wanted, &status)) {
            problem(binder, "%s: %s", name, gp_failed(&status) ? status.message : "out of memory");
            wanted->problem = status.message;
            tensor = NULL;
        }
    }
    if (tensor == NULL && (binder->dry || binder->random)) tensor = assume(binder, wanted);
    for (int i = 0; i < rank && tensor != NULL; i++) shape[i] = tensor->shape[i];
    return tensor;
}

static gp_part whole(int64_t size) {
    return (gp_part){{{0, size, 0}}};
}

/** Whether the part is one range of what is there. */
static bool is_view(const gp_part *part) {
    return part->ranges[0].count == gp_part_size(part);
}

/** The parts of a matrix with `stride` elements a row, beside each other in new host memory; or NULL. */
static void *copy_parts(const unsigned char *source, size_t size, int64_t stride, const gp_part *row_part,
                        const gp_part *column_part) {
    int64_t columns = gp_part_size(column_part);
    unsigned char *copy = gp_allocate_zeroed((size_t)(gp_part_size(row_part) * columns), size);
    int64_t target_row = 0;
    for (int i = 0; i < GP_PART_RANGES && copy != NULL; i++) {
        gp_range rows = row_part->ranges[i];
        for (int64_t row = 0; row < rows.count; row++) {
            int64_t at = (target_row + row) * columns, from = (rows.first + row) * stride;
            for (int k = 0; k < GP_PART_RANGES; k++) {
                gp_range part = column_part->ranges[k];
                memcpy(copy + (size_t)at * size, source + (size_t)(from + part.first) * size,
                       (size_t)part.count * size);
                at += part.count + part.padding;
            }
        }
        target_row += rows.count + rows.padding;
    }
    return copy;
}

/** Of the tensor that was wanted last, on this rank. */
static uint64_t random_seed(const gp_binder *binder) {
    return (uint64_t)binder->split.rank << 32 | (uint64_t)binder->wanted_count;
}

/** The bound of uniform numbers that keep the size of what passes a matrix with `columns` a row: their
 * deviation is a root of 3 below it. */
static float random_scale(int64_t columns) {
    return sqrtf(3.0f / (float)columns);
}

/** A norm's weights are ones; biases and what vectors there are else, small. */
static void fill_random(const gp_binder *binder, const gp_tensor *tensor, float *host) {
    const char *end = strrchr(tensor->name, '.');
    bool norm = tensor->rank == 1 && end != NULL && strcmp(end, ".weight") == 0;
    float scale = tensor->rank == 1 ? 0.02f : random_scale(tensor->count / tensor->shape[0]);
    for (int64_t i = 0; i < tensor->count; i++)
        host[i] = norm ? 1 : scale * gp_random_signed(random_seed(binder), (uint64_t)i);
}

static void tell_placed(const gp_binder *binder) {
    if (binder->on_placed != NULL) binder->on_placed(binder->user, binder->weight_bytes, binder->total_bytes);
}

/** A matrix of that size in random numbers; without data where there is no room, with the problem noted. */
static void place_random(gp_binder *binder, const gp_tensor *tensor, int64_t columns, gp_matrix *matrix) {
    const gp_ops *ops = binder->backend->ops;
    if (!ops->place_random(binder->backend, matrix, random_scale(columns), random_seed(binder))) {
        problem(binder, "%s: no room for it on the device", tensor->name);
        matrix->data = NULL;
    } else if (!append_pointer(&binder->owned, &binder->owned_count, &binder->owned_capacity,
                               (void *)(uintptr_t)matrix->data)) {
        ops->release(binder->backend, (void *)(uintptr_t)matrix->data);
        problem(binder, "%s: out of memory", tensor->name);
        matrix->data = NULL;
    }
}

/** Parts of the tensor, which has `columns` a row, as a matrix placed with the backend; without data where
 * that fails, with the problem noted. */
static gp_matrix place(gp_binder *binder, const gp_tensor *tensor, int64_t columns, const gp_part *row_part,
                       const gp_part *column_part) {
    gp_status status = {0};
    size_t size = gp_dtype_size(tensor->dtype);
    bool view = is_view(row_part) && is_view(column_part);
    gp_matrix matrix = {NULL, tensor->dtype, gp_part_size(row_part), gp_part_size(column_part), columns};
    if (!view) matrix.stride = matrix.columns;
    binder->weight_bytes += (size_t)(matrix.rows * matrix.columns) * size;
    binder->placed_bytes += placed_bytes(binder, &matrix);
    if (binder->dry) {
        if (tensor != &binder->assumed) matrix.data = nowhere; /* sizes assumed bind no other tensor */
        return matrix;
    }
    if (matrix.rows == 0) return matrix;
    if (binder->random) {
        place_random(binder, tensor, columns, &matrix);
        tell_placed(binder);
        return matrix;
    }
    const unsigned char *source = gp_checkpoint_read(binder->checkpoint, tensor, &status);
    void *copy = source != NULL && !view ? copy_parts(source, size, columns, row_part, column_part) : NULL;
    if (source != NULL)
        matrix.data =
            view
                ? source + (size_t)(row_part->ranges[0].first * columns + column_part->ranges[0].first) * size
                : copy;
    bool done = matrix.data != NULL && binder->backend->ops->place(binder->backend, &matrix);
    bool keep = done && copy != NULL && matrix.data == copy;
    if (keep)
        keep = done = append_pointer(&binder->owned_host, &binder->owned_host_count,
                                     &binder->owned_host_capacity, copy);
    if (!keep) gp_free(copy);
    if (!done) {
        problem(binder, "%s: %s", tensor->name,
                gp_failed(&status) ? status.message : "no room for it on the device");
        matrix.data = NULL;
    }
    gp_status_clear(&status);
    tell_placed(binder);
    return matrix;
}

/** What the backend needs for a matrix; without one, what it has. */
static uint64_t placed_bytes(const gp_binder *binder, const gp_matrix *matrix) {
    if (binder->backend != NULL) return binder->backend->ops->placed_bytes(matrix);
    return (uint64_t)(matrix->rows * matrix->columns) * gp_dtype_size(matrix->dtype);
}

static void problem(gp_binder *binder, const char *format, ...) {
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    gp_fail_more(&binder->problems, "\n  %s", line);
    binder->problem_count++;
}

static int compare_wanted(const void *a, const void *b) {
    uintptr_t x = (uintptr_t)((const gp_wanted *)a)->tensor, y = (uintptr_t)((const gp_wanted *)b)->tensor;
    return x < y ? -1 : x > y;
}

void gp_binder_sort(gp_binder *binder) {
    if (binder->wanted_count > 0)
        qsort(binder->wanted, binder->wanted_count, sizeof *binder->wanted, compare_wanted);
}

const gp_wanted *gp_binder_wants(const gp_binder *binder, const gp_tensor *tensor) {
    if (binder->wanted_count == 0) return NULL;
    return bsearch(&(gp_wanted){.tensor = tensor}, binder->wanted, binder->wanted_count,
                   sizeof *binder->wanted, compare_wanted);
}

bool gp_binder_finish(gp_binder *binder, const char *folder, gp_status *unexpected, gp_status *status) {
    if (binder->problem_count > 0) {
        const char *lines = binder->problems.message;
        return gp_fail(status, "%s: %d tensor%s not as config.json says:%s", folder, binder->problem_count,
                       binder->problem_count == 1 ? " is" : "s are", lines);
    }
    if (binder->checkpoint == NULL) return true;
    gp_binder_sort(binder);
    int count = 0;
    for (size_t i = 0; i < gp_checkpoint_count(binder->checkpoint); i++) {
        const gp_tensor *tensor = gp_checkpoint_tensor(binder->checkpoint, i);
        if (gp_binder_wants(binder, tensor) != NULL || gp_serves_other_tasks(tensor->name)) continue;
        if (count < SHOWN_UNEXPECTED) gp_fail_more(unexpected, "%s%s", count > 0 ? ", " : "", tensor->name);
        count++;
    }
    if (count > SHOWN_UNEXPECTED) gp_fail_more(unexpected, " and %d more", count - SHOWN_UNEXPECTED);
    return true;
}

void gp_binder_clear(gp_binder *binder) {
    gp_status_clear(&binder->problems);
    for (size_t i = 0; i < binder->wanted_count; i++) {
        gp_free(binder->wanted[i].name);
        gp_free(binder->wanted[i].problem);
    }
    gp_free(binder->wanted);
    gp_free(binder->owned);
    gp_free(binder->owned_host);
    binder->wanted = NULL;
    binder->wanted_count = 0;
    binder->owned = binder->owned_host = NULL;
}

bool gp_serves_other_tasks(const char *name) {
    for (size_t i = 0; i < sizeof other_prefixes / sizeof *other_prefixes; i++)
        if (strncmp(name, other_prefixes[i], strlen(other_prefixes[i])) == 0) return true;
    for (size_t i = 0; i < sizeof other_parts / sizeof *other_parts; i++)
        if (strstr(name, other_parts[i]) != NULL) return true;
    return false;
}

void gp_format_shape(const int64_t *shape, int rank, char text[160]) {
    size_t length = (size_t)snprintf(text, 160, "[");
    for (int i = 0; i < rank && length < 130; i++) {
        if (i > 0) length += (size_t)snprintf(text + length, 160 - length, ", ");
        if (shape[i] < 0)
            length += (size_t)snprintf(text + length, 160 - length, "any");
        else
            length += (size_t)snprintf(text + length, 160 - length, "%lld", (long long)shape[i]);
    }
    snprintf(text + length, 160 - length, "]");
}

static bool append_pointer(void ***list, size_t *count, size_t *capacity, void *pointer) {
    if (*count == *capacity) {
        size_t larger = *capacity > 0 ? 2 * *capacity : 256;
        void **grown = gp_grow(*list, *count * sizeof **list, larger * sizeof **list);
        if (grown == NULL) return false;
        *list = grown;
        *capacity = larger;
    }
    (*list)[(*count)++] = pointer;
    return true;
}
