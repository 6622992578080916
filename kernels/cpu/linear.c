/**
 * Linear layers on the CPU: y = activation(x Wᵀ + bias + partial LoRA) + residual, and SwiGLU's pair.
 *
 * A task is a block of up to ROW_CHUNK rows by COLUMN_BLOCK columns of y. It walks over k in blocks of
 * DEPTH_BLOCK: the block of W is widened to f32 and transposed into panels (128 KB, second-level cache), then
 * tiles of GP_TILE_ROWS rows run over the panels. Each element of y is the sum, in rising k, of one chain of
 * fused multiply-adds a DEPTH_BLOCK; blocks cut at fixed k, so the order is K's alone. The partial LoRA is
 * more k: the columns of s = xAᵀ after those of x, on image rows only, which is [x|s]·[W;B] with s = 0
 * elsewhere.
 *
 * Work: 2·rows·N·K operations, and rows/ROW_CHUNK readings of W (once, for one row: decode streams the
 * weights).
 */
#include "kernels/cpu/activation.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/tile.h"

enum {
    DEPTH_BLOCK = 256,  /* of the sum; part of what defines a result's bits */
    COLUMN_BLOCK = 128, /* of y a task */
    ROW_CHUNK = 384,    /* at most, of y a task */
    PANELS = COLUMN_BLOCK / GP_TILE_COLUMNS,
    INLINE_OPERATIONS = 20000 /* below this many multiply-adds waking a thread costs more than it gives */
};

/** One product that is added into y: x Wᵀ, on the rows where `mask` is 1 (everywhere when NULL). */
typedef struct product {
    const float *x;
    int64_t stride;
    const gp_matrix *weight;
    const uint8_t *mask;
} product;

typedef struct job {
    gp_backend *backend;
    product products[2][2]; /* for each output (SwiGLU has two): x W, then s B */
    int outputs, count[2];
    int64_t rows, columns, chunk_rows, chunks;
    const float *bias;
    gp_activation activation;
    const float *residual;
    int64_t residual_stride;
    gp_cpu_output output;
    int64_t y_stride;
} job;

/** A thread's scratch. */
typedef struct room {
    float packed[PANELS][DEPTH_BLOCK][GP_TILE_COLUMNS];
    float tile[GP_TILE_ROWS][DEPTH_BLOCK];
    float sums[2][ROW_CHUNK][COLUMN_BLOCK];
} room;

_Static_assert(sizeof(room) <= GP_CPU_SCRATCH_BYTES, "a thread's scratch holds a linear task");

static void run_job(job *work);
static void run_task(void *argument, int64_t index, int thread);
static void add_product(const product *part, int64_t first_row, int64_t rows, int64_t first_column,
                        int64_t columns, bool add, room *space, float (*sums)[COLUMN_BLOCK]);
static void pack(const gp_matrix *weight, int64_t first_row, int64_t rows, int64_t k, int64_t depth,
                 room *space);
static void finish_rows(const job *work, int64_t first_row, int64_t rows, int64_t column, int64_t columns,
                        const room *space);
static void lora_factor(gp_backend *backend, const float *x, int64_t stride, int64_t rows,
                        const gp_partial_lora *lora);
static product lora_product(const gp_partial_lora *lora);
static bool any_image_row(const gp_partial_lora *lora, int64_t rows);

void GP_CPU(linear)(gp_backend *backend, const gp_linear *linear) {
    const float *x = gp_cpu_values(linear->x);
    gp_operand *target = linear->rope != NULL ? linear->rope->qkv : linear->y_operand;
    int64_t x_stride = linear->x_stride != 0 ? linear->x_stride : linear->weight.columns;
    job work = {.backend = backend,
                .outputs = 1,
                .count = {1},
                .rows = linear->rows,
                .columns = linear->weight.rows,
                .bias = linear->bias,
                .activation = linear->activation,
                .residual = linear->residual,
                .residual_stride =
                    linear->residual_stride != 0 ? linear->residual_stride : linear->weight.rows,
                .output = gp_cpu_output_of(linear->y, target),
                .y_stride = linear->y_stride != 0 ? linear->y_stride : linear->weight.rows};
    work.products[0][0] = (product){x, x_stride, &linear->weight, NULL};
    if (any_image_row(linear->lora, linear->rows)) {
        const gp_partial_lora *lora = linear->lora;
        lora_factor(backend, x, x_stride, linear->rows, lora);
        work.products[0][1] = lora_product(lora);
        work.count[0] = 2;
    }
    run_job(&work);
    if (linear->rope != NULL) GP_CPU(rope_append)(backend, linear->rope);
}

void GP_CPU(linear_swiglu)(gp_backend *backend, const gp_linear_swiglu *linear) {
    const float *x = gp_cpu_values(linear->x);
    int64_t depth = linear->w1.columns;
    job work = {.backend = backend,
                .outputs = 2,
                .count = {1, 1},
                .rows = linear->rows,
                .columns = linear->w1.rows,
                .output = gp_cpu_output_of(NULL, linear->y),
                .y_stride = linear->w1.rows};
    work.products[0][0] = (product){x, depth, &linear->w1, NULL};
    work.products[1][0] = (product){x, depth, &linear->w3, NULL};
    if (any_image_row(linear->lora1, linear->rows)) {
        const gp_partial_lora *loras[2] = {linear->lora1, linear->lora3};
        for (int i = 0; i < 2; i++) {
            lora_factor(backend, x, depth, linear->rows, loras[i]);
            work.products[i][1] = lora_product(loras[i]);
            work.count[i] = 2;
        }
    }
    run_job(&work);
}

static bool any_image_row(const gp_partial_lora *lora, int64_t rows) {
    return lora != NULL && rows > 0 && memchr(lora->image_row, 1, (size_t)rows) != NULL;
}

/** scratch = x Aᵀ on image rows; the other rows are neither written nor read. */
static void lora_factor(gp_backend *backend, const float *x, int64_t stride, int64_t rows,
                        const gp_partial_lora *lora) {
    job work = {.backend = backend,
                .outputs = 1,
                .count = {1},
                .rows = rows,
                .columns = lora->a.rows,
                .output = gp_cpu_output_of(NULL, lora->scratch),
                .y_stride = gp_operand_width(lora->a.rows)};
    work.products[0][0] = (product){x, stride, &lora->a, lora->image_row};
    run_job(&work);
}

/** s Bᵀ on image rows. */
static product lora_product(const gp_partial_lora *lora) {
    return (product){gp_cpu_values(lora->scratch), gp_operand_width(lora->b.columns), &lora->b,
                     lora->image_row};
}

static void run_job(job *work) {
    if (work->rows <= 0 || work->columns <= 0) return;
    int64_t blocks = (work->columns + COLUMN_BLOCK - 1) / COLUMN_BLOCK;
    int64_t operations = work->rows * work->columns * work->products[0][0].weight->columns;
    int threads = gp_cpu_threads(work->backend);
    /* Chunks as tall as packing likes, but enough tasks that no thread waits long; from 96 rows on packing is
     * 5 %. */
    work->chunks = (work->rows + ROW_CHUNK - 1) / ROW_CHUNK;
    while (work->chunks * blocks < 6 * threads && work->rows / work->chunks > 96) work->chunks++;
    int64_t tall = (work->rows + work->chunks - 1) / work->chunks;
    work->chunk_rows = (tall + GP_TILE_ROWS - 1) / GP_TILE_ROWS * GP_TILE_ROWS;
    work->chunks = (work->rows + work->chunk_rows - 1) / work->chunk_rows;
    int64_t tasks = work->chunks * blocks;
    if (operations < INLINE_OPERATIONS) {
        for (int64_t i = 0; i < tasks; i++) run_task(work, i, 0);
    } else {
        gp_parallel_for(work->backend, tasks, run_task, work);
    }
}

/** Column blocks outside, row chunks inside: neighbours in time share the block of W. */
static void run_task(void *argument, int64_t index, int thread) {
    const job *work = argument;
    room *space = gp_cpu_scratch(work->backend, thread);
    int64_t row = index % work->chunks * work->chunk_rows, column = index / work->chunks * COLUMN_BLOCK;
    int64_t rows = work->rows - row < work->chunk_rows ? work->rows - row : work->chunk_rows;
    int64_t columns = work->columns - column < COLUMN_BLOCK ? work->columns - column : COLUMN_BLOCK;
    for (int output = 0; output < work->outputs; output++)
        for (int i = 0; i < work->count[output]; i++)
            add_product(&work->products[output][i], row, rows, column, columns, i > 0, space,
                        space->sums[output]);
    finish_rows(work, row, rows, column, columns, space);
}

/** sums [rows, columns] (+)= the product's rows first_row … by W's rows first_column … . */
static void add_product(const product *part, int64_t first_row, int64_t rows, int64_t first_column,
                        int64_t columns, bool add, room *space, float (*sums)[COLUMN_BLOCK]) {
    const uint8_t *mask = part->mask != NULL ? part->mask + first_row : NULL;
    if (mask != NULL && memchr(mask, 1, (size_t)rows) == NULL) return;
    int64_t depth_total = part->weight->columns;
    for (int64_t k = 0; k < depth_total; k += DEPTH_BLOCK) {
        int64_t depth = depth_total - k < DEPTH_BLOCK ? depth_total - k : DEPTH_BLOCK;
        pack(part->weight, first_column, columns, k, depth, space);
        for (int64_t row = 0; row < rows;) {
            if (mask != NULL && mask[row] == 0) {
                row++;
                continue;
            }
            int count = 1;
            while (count < GP_TILE_ROWS && row + count < rows && (mask == NULL || mask[row + count] != 0))
                count++;
            const float *x = part->x + (first_row + row) * part->stride + k;
            int64_t stride = part->stride;
            if (count > 1) { /* rows that are 4 KB apart would fight for one set of the first-level cache */
                for (int r = 0; r < count; r++)
                    memcpy(space->tile[r], x + r * stride, (size_t)depth * sizeof(float));
                x = space->tile[0];
                stride = DEPTH_BLOCK;
            }
            for (int64_t panel = 0; panel * GP_TILE_COLUMNS < columns; panel++) {
                int64_t left = columns - panel * GP_TILE_COLUMNS;
                gp_tile_strip(count, left < GP_TILE_COLUMNS ? left : GP_TILE_COLUMNS, depth, x, stride,
                              space->packed[panel][0], GP_TILE_COLUMNS, &sums[row][panel * GP_TILE_COLUMNS],
                              COLUMN_BLOCK, add || k > 0);
            }
            row += count;
        }
    }
}

GP_INLINE gp_f16 load_weights(const unsigned char *source, gp_dtype dtype) {
    if (dtype == GP_DTYPE_BF16) return gp_load_bf16(source);
    if (dtype == GP_DTYPE_F16) return gp_load_f16(source);
    gp_f16 wide;
    memcpy(&wide, source, sizeof wide);
    return wide;
}

/** Rows first_row … of W, columns k …, as panels [depth][GP_TILE_COLUMNS] of f32; rows beyond `rows` are
 * zeros. */
GP_INLINE void pack_as(const gp_matrix *weight, const gp_dtype dtype, int64_t first_row, int64_t rows,
                       int64_t k, int64_t depth, room *space) {
    const int64_t size = dtype == GP_DTYPE_F32 ? 4 : 2;
    for (int64_t row = 0; row < rows; row += 16) {
        float *target = &space->packed[row / GP_TILE_COLUMNS][0][row % GP_TILE_COLUMNS];
        int64_t present = rows - row < 16 ? rows - row : 16;
        const unsigned char *source =
            (const unsigned char *)weight->data + ((first_row + row) * weight->stride + k) * size;
        for (int64_t column = 0; column < depth; column += 16) {
            int64_t width = depth - column < 16 ? depth - column : 16;
            gp_f16 block[16];
            for (int i = 0; i < 16; i++) {
                const unsigned char *from = source + (i * weight->stride + column) * size;
                __builtin_prefetch(from + DEPTH_BLOCK * size); /* the same row's next block: sixteen rows are
                                                                  too many streams for the processor to see */
                if (i >= present) {
                    block[i] = gp_splat(0);
                } else if (width == 16) {
                    block[i] = load_weights(from, dtype);
                } else {
                    unsigned char part[64] = {0};
                    memcpy(part, from, (size_t)(width * size));
                    block[i] = load_weights(part, dtype);
                }
            }
            gp_transpose(block);
            for (int64_t i = 0; i < width; i++) gp_store(target + (column + i) * GP_TILE_COLUMNS, block[i]);
        }
    }
}

static void pack(const gp_matrix *weight, int64_t first_row, int64_t rows, int64_t k, int64_t depth,
                 room *space) {
    switch (weight->dtype) {
    case GP_DTYPE_BF16:
        pack_as(weight, GP_DTYPE_BF16, first_row, rows, k, depth, space);
        break;
    case GP_DTYPE_F16:
        pack_as(weight, GP_DTYPE_F16, first_row, rows, k, depth, space);
        break;
    default:
        pack_as(weight, GP_DTYPE_F32, first_row, rows, k, depth, space);
        break;
    }
}

/** y = activation(sums + bias) + residual, or silu(sums of output 0) · sums of output 1. */
static void finish_rows(const job *work, int64_t first_row, int64_t rows, int64_t column, int64_t columns,
                        const room *space) {
    const uint8_t *mask =
        work->products[0][0].mask; /* only lora_factor's: rows without a sum stay untouched */
    for (int64_t row = 0; row < rows; row++) {
        if (mask != NULL && mask[first_row + row] == 0) continue;
        int64_t first = (first_row + row) * work->y_stride + column;
        float *y = work->output.y + first, *copy = work->output.copy;
        const float *residual = work->residual != NULL
                                    ? work->residual + (first_row + row) * work->residual_stride + column
                                    : NULL;
        for (int64_t i = 0; i < columns; i += 16) {
            int64_t width = columns - i < 16 ? columns - i : 16;
            gp_f16 value = gp_load(&space->sums[0][row][i]);
            if (work->outputs == 2) {
                value = value * gp_sigmoid(value) * gp_load(&space->sums[1][row][i]);
            } else {
                if (work->bias != NULL) value = value + gp_load_part(work->bias + column + i, width);
                value = gp_activate(work->activation, value);
                if (residual != NULL) value = value + gp_load_part(residual + i, width);
            }
            gp_store_part(y + i, value, width);
            if (copy != NULL) gp_store_part(copy + first + i, value, width);
        }
    }
}
