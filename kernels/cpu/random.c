/** Weights without a checkpoint. */
#include "kernels/base/random.h"
#include "kernels/base/memory.h"
#include "kernels/cpu/cpu.h"

typedef struct job {
    uint16_t *bits;
    int64_t columns;
    float scale;
    uint64_t seed;
} job;

static void fill_row(void *argument, int64_t row, int thread) {
    (void)thread;
    const job *work = argument;
    for (int64_t i = row * work->columns; i < (row + 1) * work->columns; i++)
        work->bits[i] = gp_f32_to_bf16(gp_random_signed(work->seed, (uint64_t)i) * work->scale);
}

bool GP_CPU(place_random)(gp_backend *backend, gp_matrix *matrix, float scale, uint64_t seed) {
    job work = {.bits = gp_allocate((size_t)(matrix->rows * matrix->columns) * sizeof *work.bits),
                .columns = matrix->columns,
                .scale = scale,
                .seed = seed};
    if (work.bits == NULL) return false;
    gp_parallel_for(backend, matrix->rows, fill_row, &work);
    matrix->data = work.bits;
    matrix->dtype = GP_DTYPE_BF16;
    matrix->stride = matrix->columns;
    return true;
}
