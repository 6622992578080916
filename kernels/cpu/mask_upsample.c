/**
 * The mask decoder's up-scaling on the CPU. A 2×2 deconvolution of stride 2 is a linear to four times the
 * channels whose parts land on the four pixels below a cell: the linear runs over the rows of all masks, then
 * one pass per output pixel adds bias and skip, normalises, and applies GELU.
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

void GP_CPU(mask_upsample)(gp_backend *backend, const gp_mask_upsample *up) {
    int64_t cells = (int64_t)up->masks * up->grid * up->grid;
    float *half = up->scratch +
                  2 * cells * up->channels; /* [masks, (2·grid)², channels/4], behind both linears' rows */
    GP_CPU(linear)(backend, &(gp_linear){.x = up->x, .rows = cells, .weight = up->weight1, .y = up->scratch});
    spread first = {up->scratch,     up->grid,      up->channels / 4, up->bias1, up->skip1,
                    up->norm_weight, up->norm_bias, up->epsilon,      half};
    gp_parallel_for(backend, (int64_t)up->masks * 2 * up->grid, spread_row, &first);
    GP_CPU(linear)
    (backend, &(gp_linear){.x = half, .rows = 4 * cells, .weight = up->weight2, .y = up->scratch});
    spread second = {.cells = up->scratch,
                     .side = 2 * up->grid,
                     .channels = up->channels / 8,
                     .bias = up->bias2,
                     .skip = up->skip0,
                     .y = up->y};
    gp_parallel_for(backend, (int64_t)up->masks * 4 * up->grid, spread_row, &second);
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
