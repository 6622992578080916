/**
 * LayerNorm and RMSNorm, a row at a time. Sums run in sixteen lanes, lane i over columns i, i + 16, …, and
 * the lanes are added in one fixed order: a row's bits depend on its width alone. Mean first, then the
 * variance about it.
 */
#include "kernels/cpu/activation.h"
#include "kernels/cpu/cpu.h"

#include <math.h>

enum { BAND_VALUES = 16384 }; /* values a task, so that small maps stay on one thread */

typedef struct job {
    const gp_norm *norm;
    int64_t band;
} job;

static void run_band(void *argument, int64_t index, int thread);
static void normalise(const gp_norm *norm, const float *x, float *y, float *copy);

void GP_CPU(norm)(gp_backend *backend, const gp_norm *norm) {
    if (norm->rows <= 0) return;
    job work = {norm, BAND_VALUES / norm->columns + 1};
    gp_parallel_for(backend, (norm->rows + work.band - 1) / work.band, run_band, &work);
}

static void run_band(void *argument, int64_t index, int thread) {
    (void)thread;
    const job *work = argument;
    const gp_norm *norm = work->norm;
    int64_t end = (index + 1) * work->band < norm->rows ? (index + 1) * work->band : norm->rows;
    gp_cpu_output output = gp_cpu_output_of(norm->y, norm->y_operand);
    for (int64_t row = index * work->band; row < end; row++) {
        int64_t first = row * norm->columns;
        normalise(norm, norm->x + first, output.y + first, output.copy != NULL ? output.copy + first : NULL);
    }
}

/** Σ (x − centre) or, squared, Σ (x − centre)². */
GP_INLINE float sum_row(const float *x, int64_t columns, float centre, const bool squared) {
    gp_f16 sum = gp_splat(0);
    for (int64_t i = 0; i < columns; i += 16) {
        int64_t width = columns - i;
        gp_f16 value = gp_load_part(x + i, width) - gp_splat(centre);
        if (squared) value = value * value;
        if (width < 16)
            value = gp_load_part((const float *)&value, width); /* lanes beyond the row count nothing */
        sum = sum + value;
    }
    return gp_sum(sum);
}

/** One row, to `y` and, where it is not NULL, to `copy`. */
static void normalise(const gp_norm *norm, const float *x, float *y, float *copy) {
    int64_t columns = norm->columns;
    float mean = norm->rms ? 0 : sum_row(x, columns, 0, false) / (float)columns;
    float variance = sum_row(x, columns, mean, true) / (float)columns;
    float scale = 1.0f / sqrtf(variance + norm->epsilon);
    for (int64_t i = 0; i < columns; i += 16) {
        int64_t width = columns - i;
        gp_f16 value = (gp_load_part(x + i, width) - gp_splat(mean)) * gp_splat(scale);
        value = value * gp_load_part(norm->weight + i, width);
        if (norm->bias != NULL) value = value + gp_load_part(norm->bias + i, width);
        value = gp_activate(norm->activation, value);
        gp_store_part(y + i, value, width);
        if (copy != NULL) gp_store_part(copy + i, value, width);
    }
}
