/** Operations that move rows: embeddings, sums with a repeated row, patches, the 2×2 merge, pooling,
 * up-sampling. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"

void GP_CPU(embed)(gp_backend *backend, const gp_embed *embed) {
    (void)backend;
    int64_t columns = embed->table.columns;
    size_t row_bytes = (size_t)embed->table.stride * gp_dtype_size(embed->table.dtype);
    for (int64_t row = 0; row < embed->rows; row++) {
        const unsigned char *source =
            (const unsigned char *)embed->table.data + (size_t)embed->ids[row] * row_bytes;
        gp_convert_to_f32(source, embed->table.dtype, (size_t)columns, embed->y + row * columns);
    }
}

/* ---- sums ---- */

static void add_row(void *argument, int64_t row, int thread) {
    (void)thread;
    const gp_add_rows *add = argument;
    const float *x = add->x + row * add->columns, *addend = add->addend + row % add->period * add->columns;
    gp_cpu_output output = gp_cpu_output_of(add->y, add->y_operand);
    float *y = output.y + row * add->columns;
    for (int64_t i = 0; i < add->columns; i += 16) {
        int64_t width = add->columns - i;
        gp_f16 sum = gp_load_part(x + i, width) + gp_load_part(addend + i, width);
        gp_store_part(y + i, sum, width);
        if (output.copy != NULL) gp_store_part(output.copy + row * add->columns + i, sum, width);
    }
}

void GP_CPU(add_rows)(gp_backend *backend, const gp_add_rows *add) {
    gp_parallel_for(backend, add->rows, add_row, (void *)add);
}

void GP_CPU(to_operand)(gp_backend *backend, const gp_to_operand *copy) {
    (void)backend;
    float *y = gp_cpu_target(copy->y);
    if (y != copy->x && copy->count > 0) memcpy(y, copy->x, (size_t)copy->count * sizeof *y);
}

/* ---- patches ---- */

/** One row of patches: y [ow, channels·patch²] at y_stride. */
static void cut_row(void *argument, int64_t row, int thread) {
    (void)thread;
    const gp_patches *cut = argument;
    int patch = cut->patch, columns = (cut->width + 2 * cut->padding - patch) / cut->stride + 1;
    int64_t width = (int64_t)cut->channels * patch * patch;
    int top = (int)row * cut->stride - cut->padding;
    for (int column = 0; column < columns; column++) {
        int left = column * cut->stride - cut->padding;
        float *y = gp_cpu_target(cut->y) + (row * columns + column) * cut->y_stride;
        memset(y + width, 0, (size_t)(cut->y_stride - width) * sizeof *y);
        for (int channel = 0; channel < cut->channels; channel++) {
            for (int dy = 0; dy < patch; dy++, y += patch) {
                const float *line = cut->x + ((int64_t)channel * cut->height + top + dy) * cut->width + left;
                if (top + dy < 0 || top + dy >= cut->height) {
                    memset(y, 0, (size_t)patch * sizeof *y);
                } else if (left >= 0 && left + patch <= cut->width) {
                    memcpy(y, line, (size_t)patch * sizeof *y);
                } else {
                    for (int dx = 0; dx < patch; dx++)
                        y[dx] = left + dx >= 0 && left + dx < cut->width ? line[dx] : 0;
                }
            }
        }
    }
}

void GP_CPU(patches)(gp_backend *backend, const gp_patches *cut) {
    gp_parallel_for(backend, (cut->height + 2 * cut->padding - cut->patch) / cut->stride + 1, cut_row,
                    (void *)cut);
}

/* ---- merge ---- */

/** Row `row` of the output map: the global view's rows, then those of the crops' map. */
static void merge_row(void *argument, int64_t row, int thread) {
    (void)thread;
    const gp_merge_tokens *merge = argument;
    int side = merge->grid / 2, width = 4 * merge->channels;
    int64_t crop_rows =
        1 + (int64_t)merge->grid * merge->grid; /* of features: the class token and the patches */
    size_t bytes = (size_t)merge->channels * sizeof(float), merged_bytes = (size_t)width * sizeof(float);
    bool global = row < side;
    int64_t map_row = global ? row : row - side; /* row of merged tokens in its map */
    int columns = global ? 1 : merge->columns;
    int64_t first = global ? 0 : 1 + map_row / side * merge->columns; /* crop of the row's first token */
    int64_t token =
        global ? row * (side + 1) : side * (side + 1) + 1 + map_row * ((int64_t)columns * side + 1);
    float *y = gp_cpu_target(merge->y) + token * width;
    if (row == side) memcpy(y - width, merge->global_end, merged_bytes); /* between the two maps */
    for (int crop = 0; crop < columns; crop++) {
        const float *patches = merge->features + ((first + crop) * crop_rows + 1) * merge->channels;
        for (int column = 0; column < side; column++, y += width) {
            for (int part = 0; part < 4; part++) {
                int64_t patch = (2 * (map_row % side) + part / 2) * merge->grid + 2 * column + part % 2;
                memcpy(y + part * merge->channels, patches + patch * merge->channels, bytes);
            }
        }
    }
    memcpy(y, merge->row_end, merged_bytes);
}

void GP_CPU(merge_tokens)(gp_backend *backend, const gp_merge_tokens *merge) {
    gp_parallel_for(backend, (int64_t)merge->grid / 2 * (1 + merge->rows), merge_row, (void *)merge);
}

/* ---- maps ---- */

static void pool_row(void *argument, int64_t row, int thread) {
    (void)thread;
    const gp_max_pool *pool = argument;
    int64_t channels = pool->channels, line = pool->width * channels;
    for (int64_t column = 0; column < pool->width / 2; column++) {
        const float *x = pool->x + 2 * row * line + 2 * column * channels;
        float *y = pool->y + (row * (pool->width / 2) + column) * channels;
        for (int64_t i = 0; i < channels; i += 16) {
            int64_t width = channels - i;
            gp_f16 top = gp_max(gp_load_part(x + i, width), gp_load_part(x + channels + i, width));
            gp_f16 bottom =
                gp_max(gp_load_part(x + line + i, width), gp_load_part(x + line + channels + i, width));
            gp_store_part(y + i, gp_max(top, bottom), width);
        }
    }
}

void GP_CPU(max_pool)(gp_backend *backend, const gp_max_pool *pool) {
    gp_parallel_for(backend, pool->height / 2, pool_row, (void *)pool);
}

static void add_upsampled_row(void *argument, int64_t row, int thread) {
    (void)thread;
    const gp_add_upsampled *add = argument;
    for (int64_t column = 0; column < 2 * add->width; column++) {
        const float *x = add->x + (row / 2 * add->width + column / 2) * add->channels;
        float *y = add->y + (row * 2 * add->width + column) * add->channels;
        for (int64_t i = 0; i < add->channels; i++) y[i] += x[i];
    }
}

void GP_CPU(add_upsampled)(gp_backend *backend, const gp_add_upsampled *add) {
    gp_parallel_for(backend, 2 * (int64_t)add->height, add_upsampled_row, (void *)add);
}
