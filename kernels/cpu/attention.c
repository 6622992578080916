/**
 * Attention over packed sequences and over Hiera's windows on the CPU. A task is one head of one sequence or
 * window and up to ATTEND_ROWS of its queries; it packs the keys and values block by block (attend.h).
 */
#include "kernels/cpu/attend.h"
#include "kernels/cpu/cpu.h"

typedef struct room {
    gp_attend state;
    gp_attend_block block;
} room;

_Static_assert(sizeof(room) <= GP_CPU_SCRATCH_BYTES, "a thread's scratch holds an attention task");

typedef struct job {
    gp_backend *backend;
    const void *arguments;
    int64_t chunks; /* of queries a head */
} job;

/* ---- packed sequences ---- */

static void run_sequence(void *argument, int64_t index, int thread) {
    const job *work = argument;
    const gp_attention *attention = work->arguments;
    const float *q = gp_cpu_values(attention->q), *k = gp_cpu_values(attention->k),
                *v = gp_cpu_values(attention->v);
    room *space = gp_cpu_scratch(work->backend, thread);
    int64_t chunk = index % work->chunks, head = index / work->chunks % attention->heads;
    int64_t sequence = index / work->chunks / attention->heads;
    int64_t column = head * attention->head_dim, first = sequence * attention->queries + chunk * ATTEND_ROWS;
    int64_t rows = attention->queries - chunk * ATTEND_ROWS;
    if (rows > ATTEND_ROWS) rows = ATTEND_ROWS;
    gp_attend_start(&space->state, attention->head_dim);
    for (int64_t row = first; row < first + rows; row++)
        gp_attend_query(&space->state, q + row * attention->q_stride + column, attention->scale);
    for (int64_t key = 0; key < attention->keys; key += ATTEND_KEYS) {
        int count = attention->keys - key < ATTEND_KEYS ? (int)(attention->keys - key) : ATTEND_KEYS;
        const float *pointers[ATTEND_KEYS];
        int64_t offset = (sequence * attention->keys + key) * attention->kv_stride + column;
        for (int i = 0; i < count; i++) pointers[i] = k + offset + i * attention->kv_stride;
        gp_attend_pack_keys(&space->block, pointers, count, attention->head_dim);
        for (int i = 0; i < count; i++) pointers[i] = v + offset + i * attention->kv_stride;
        gp_attend_pack_values(&space->block, pointers, count, attention->head_dim);
        gp_attend_over(&space->state, space->block.keys[0], ATTEND_KEYS, space->block.values[0], ATTEND_DIM,
                       count, NULL, key == 0);
    }
    for (int64_t row = 0; row < rows; row++)
        gp_attend_result(&space->state, (int)row,
                         gp_cpu_target(attention->y) + (first + row) * attention->y_stride + column);
}

void GP_CPU(attention)(gp_backend *backend, const gp_attention *attention) {
    job work = {backend, attention, (attention->queries + ATTEND_ROWS - 1) / ATTEND_ROWS};
    gp_parallel_for(backend, attention->sequences * attention->heads * work.chunks, run_sequence, &work);
}

/* ---- windows ---- */

/** A window's place and size, in positions of the map. */
typedef struct window {
    int top, left, height, width;
} window;

/** q, k or v (part 0, 1, 2) of one head at a place of the map, or of the padding outside it. */
static const float *at(const gp_window_attention *attention, int row, int column, int part, int head) {
    int64_t offset = ((int64_t)part * attention->heads + head) * attention->head_dim;
    if (row >= attention->height || column >= attention->width) return attention->padding + offset;
    int64_t width = 3ll * attention->heads * attention->head_dim;
    return gp_cpu_values(attention->qkv) + ((int64_t)row * attention->width + column) * width + offset;
}

/** The larger of four queries, value by value. */
static void add_pooled_query(gp_attend *state, const gp_window_attention *attention, int row, int column,
                             int head) {
    float pooled[ATTEND_DIM];
    const float *corners[4] = {at(attention, row, column, 0, head), at(attention, row, column + 1, 0, head),
                               at(attention, row + 1, column, 0, head),
                               at(attention, row + 1, column + 1, 0, head)};
    for (int i = 0; i < attention->head_dim; i += 16) {
        int width = attention->head_dim - i;
        gp_f16 top = gp_max(gp_load_part(corners[0] + i, width), gp_load_part(corners[1] + i, width));
        gp_f16 bottom = gp_max(gp_load_part(corners[2] + i, width), gp_load_part(corners[3] + i, width));
        gp_store_part(pooled + i, gp_max(top, bottom), width);
    }
    gp_attend_query(state, pooled, attention->scale);
}

static window window_of(const gp_window_attention *attention, int64_t index) {
    int side = attention->window;
    if (side == 0) return (window){0, 0, attention->height, attention->width};
    int across = (attention->width + side - 1) / side;
    return (window){(int)(index / across) * side, (int)(index % across) * side, side, side};
}

static void run_window(void *argument, int64_t index, int thread) {
    const job *work = argument;
    const gp_window_attention *attention = work->arguments;
    room *space = gp_cpu_scratch(work->backend, thread);
    int head = (int)(index / work->chunks % attention->heads), step = attention->pool ? 2 : 1;
    window place = window_of(attention, index / work->chunks / attention->heads);
    int query_width = place.width / step, queries = place.height / step * query_width;
    int first = (int)(index % work->chunks) * ATTEND_ROWS, last = first + ATTEND_ROWS;
    if (last > queries) last = queries;
    gp_attend_start(&space->state, attention->head_dim);
    for (int query = first; query < last; query++) {
        int row = place.top + query / query_width * step, column = place.left + query % query_width * step;
        if (attention->pool) {
            add_pooled_query(&space->state, attention, row, column, head);
        } else {
            gp_attend_query(&space->state, at(attention, row, column, 0, head), attention->scale);
        }
    }
    int keys = place.height * place.width;
    for (int key = 0; key < keys; key += ATTEND_KEYS) {
        int count = keys - key < ATTEND_KEYS ? keys - key : ATTEND_KEYS;
        const float *pointers[2][ATTEND_KEYS];
        for (int i = 0; i < count; i++) {
            int row = place.top + (key + i) / place.width, column = place.left + (key + i) % place.width;
            pointers[0][i] = at(attention, row, column, 1, head);
            pointers[1][i] = at(attention, row, column, 2, head);
        }
        gp_attend_pack_keys(&space->block, pointers[0], count, attention->head_dim);
        gp_attend_pack_values(&space->block, pointers[1], count, attention->head_dim);
        gp_attend_over(&space->state, space->block.keys[0], ATTEND_KEYS, space->block.values[0], ATTEND_DIM,
                       count, NULL, key == 0);
    }
    int out_height = attention->height / step, out_width = attention->width / step;
    for (int query = first; query < last; query++) {
        int row = place.top / step + query / query_width, column = place.left / step + query % query_width;
        if (row >= out_height || column >= out_width) continue; /* a padded position */
        int64_t target = ((int64_t)row * out_width + column) * attention->heads + head;
        gp_attend_result(&space->state, query - first,
                         gp_cpu_target(attention->y) + target * attention->head_dim);
    }
}

void GP_CPU(window_attention)(gp_backend *backend, const gp_window_attention *attention) {
    int side = attention->window, step = attention->pool ? 2 : 1;
    int64_t windows = 1, queries = (int64_t)(attention->height / step) * (attention->width / step);
    if (side > 0) {
        windows = (int64_t)((attention->height + side - 1) / side) * ((attention->width + side - 1) / side);
        queries = (int64_t)(side / step) * (side / step);
    }
    job work = {backend, attention, (queries + ATTEND_ROWS - 1) / ATTEND_ROWS};
    gp_parallel_for(backend, windows * attention->heads * work.chunks, run_window, &work);
}
