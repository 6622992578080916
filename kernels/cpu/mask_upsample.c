/**
 * The mask decoder's up-scaling on the CPU. A 2×2 deconvolution of stride 2 is a linear to four times the
 * channels whose parts land on the four pixels below a cell: the linear runs over the rows of all masks, then
 * one pass per output pixel adds bias and skip, normalises, and applies GELU. Each mask's pixels then are the
 * weight of a linear over its four hypernetwork rows.
 */
#include "kernels/cpu/activation.h"
#include "kernels/cpu/cpu.h"

#include <math.h>

/** Spreads cells [masks, side², 4·channels] to pixels [masks, (2·side)², channels]. */
typedef struct spread {
    const float *cells;
    int side;
    int64_t channels;
    const float *bias, *skip;             /* [channels], [(2·side)², channels] */
    const float *norm_weight, *norm_bias; /* NULL: no LayerNorm */
    float epsilon;
    float *y;
} spread;

static void spread_row(void *argument, int64_t row, int thread);

/** Where the scratch's parts begin, in floats of one cell's `channels`. */
enum { LINEAR_ROWS = 0, HALF = 2, PIXELS = 3, SCRATCH_END = 5 };

size_t GP_CPU(mask_upsample_scratch)(int masks, int grid, int channels) {
    return (size_t)SCRATCH_END * (size_t)masks * (size_t)grid * (size_t)grid * (size_t)channels *
           sizeof(float);
}

void GP_CPU(mask_upsample)(gp_backend *backend, const gp_mask_upsample *up) {
    int64_t cells = (int64_t)up->masks * up->grid * up->grid, area = 16ll * up->grid * up->grid;
    int64_t channels = up->channels / 8;
    float *scratch = up->scratch, *rows = scratch + LINEAR_ROWS * cells * up->channels;
    float *half = scratch + HALF * cells * up->channels;     // [masks, (2·grid)², channels/4]
    float *pixels = scratch + PIXELS * cells * up->channels; // [masks, (4·grid)², channels/8]
    GP_CPU(linear)(backend, &(gp_linear){.x = up->x, .rows = cells, .weight = up->weight1, .y = rows});
    spread first = {rows,          up->grid,    up->channels / 4,
                    up->bias1,     up->skip1,   up->norm_weight,
                    up->norm_bias, up->epsilon, half};
    gp_parallel_for(backend, (int64_t)up->masks * 2 * up->grid, spread_row, &first);
    GP_CPU(linear)
    (backend,
     &(gp_linear){.x = (gp_operand *)(void *)half, .rows = 4 * cells, .weight = up->weight2, .y = rows});
    spread second = {.cells = rows,
                     .side = 2 * up->grid,
                     .channels = channels,
                     .bias = up->bias2,
                     .skip = up->skip0,
                     .y = pixels};
    gp_parallel_for(backend, (int64_t)up->masks * 4 * up->grid, spread_row, &second);
    for (int64_t mask = 0; mask < up->masks; mask++) { // [4, channels] · [area, channels]ᵀ
        gp_matrix map = {pixels + mask * area * channels, GP_DTYPE_F32, area, channels, channels};
        GP_CPU(linear)
        (backend, &(gp_linear){.x = (const gp_operand *)(const void *)(up->hyper + mask * 4 * channels),
                               .rows = 4,
                               .weight = map,
                               .y = up->logits + mask * 4 * area});
    }
}

/** Row `row` of masks · 2·side pixel rows. */
static void spread_row(void *argument, int64_t row, int thread) {
    (void)thread;
    const spread *job = argument;
    int64_t side = job->side, channels = job->channels, mask = row / (2 * side), y_row = row % (2 * side);
    for (int64_t x = 0; x < 2 * side; x++) {
        const float *part = job->cells + ((mask * side + y_row / 2) * side + x / 2) * 4 * channels +
                            (2 * (y_row % 2) + x % 2) * channels;
        const float *skip = job->skip + (y_row * 2 * side + x) * channels;
        float *y = job->y + (row * 2 * side + x) * channels;
        gp_f16 sum = gp_splat(0);
        for (int64_t i = 0; i < channels; i += 16) {
            int64_t width = channels - i;
            gp_f16 value = gp_load_part(part + i, width) + gp_load_part(job->bias + i, width);
            value = value + gp_load_part(skip + i, width);
            sum = sum + value;
            gp_store_part(y + i, value, width);
        }
        gp_f16 mean = gp_splat(0), scale = gp_splat(1);
        if (job->norm_weight != NULL) {
            mean = gp_splat(gp_sum(sum) / (float)channels);
            sum = gp_splat(0);
            for (int64_t i = 0; i < channels; i += 16) {
                gp_f16 value = gp_load_part(y + i, channels - i) - mean;
                value = value * value;
                sum = sum + gp_load_part((const float *)&value, channels - i);
            }
            scale = gp_splat(1.0f / sqrtf(gp_sum(sum) / (float)channels + job->epsilon));
        }
        for (int64_t i = 0; i < channels; i += 16) {
            int64_t width = channels - i;
            gp_f16 value = gp_load_part(y + i, width);
            if (job->norm_weight != NULL) {
                value = (value - mean) * scale * gp_load_part(job->norm_weight + i, width);
                value = value + gp_load_part(job->norm_bias + i, width);
            }
            gp_store_part(y + i, gp_activate(GP_ACTIVATION_GELU, value), width);
        }
    }
}
