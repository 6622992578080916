/** From mask logits to pixels: the choice by stability, and the bilinear enlargement that is only ever a row
 * high. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"

/* ---- choice ---- */

static void choose(void *argument, int64_t mask, int thread) {
    (void)thread;
    const gp_choose_masks *masks = argument;
    const float *logits = masks->logits + mask * 4 * masks->area, *iou = masks->iou + mask * 4;
    int64_t over = 0, under = 0;
    for (int64_t i = 0; i < masks->area; i++) {
        over += logits[i] > masks->delta;
        under += logits[i] > -masks->delta;
    }
    float stability = under > 0 ? (float)over / (float)under : 1;
    int best = 1;
    for (int i = 2; i < 4; i++)
        if (iou[i] > iou[best]) best = i;
    masks->stability[mask] = stability;
    masks->chosen[mask] = stability >= masks->threshold ? 0 : best;
}

void GP_CPU(choose_masks)(gp_backend *backend, const gp_choose_masks *masks) {
    gp_parallel_for(backend, masks->masks, choose, (void *)masks);
}

/* ---- drawing ---- */

enum { BAND_ROWS = 32, BAND_COLUMNS = 4096 };

/** A thread's scratch: the columns' sources, and two source rows at full width. */
typedef struct room {
    int32_t left[BAND_COLUMNS], right[BAND_COLUMNS];
    float share[BAND_COLUMNS]; /* of the right one */
    float rows[2][BAND_COLUMNS];
} room;

_Static_assert(sizeof(room) <= GP_CPU_SCRATCH_BYTES, "a thread's scratch holds a drawing task");

typedef struct job {
    gp_backend *backend;
    const gp_draw_mask *draw;
    int64_t across; /* column bands */
} job;

/** The source position of a target one: the index below, and the share of the next. In f32, as torch computes
 * it. */
static int source_of(float scale, int index, int size, int *next, float *share) {
    float source = scale * ((float)index + 0.5f) - 0.5f;
    if (source < 0) source = 0;
    int below = (int)source;
    if (below > size - 1) below = size - 1;
    *next = below + (below < size - 1);
    *share = source - (float)below;
    return below;
}

/** Row `row` of the logits at the band's columns. */
static void widen(const gp_draw_mask *draw, const room *space, int row, int count, float *y) {
    const float *logits = draw->logits + (int64_t)row * draw->grid;
    for (int i = 0; i < count; i++)
        y[i] = (1 - space->share[i]) * logits[space->left[i]] + space->share[i] * logits[space->right[i]];
}

static void draw_band(void *argument, int64_t index, int thread) {
    const job *work = argument;
    const gp_draw_mask *draw = work->draw;
    room *space = gp_cpu_scratch(work->backend, thread);
    int first_row = (int)(index / work->across) * BAND_ROWS,
        first = (int)(index % work->across) * BAND_COLUMNS;
    int rows = draw->height - first_row < BAND_ROWS ? draw->height - first_row : BAND_ROWS;
    int count = draw->width - first < BAND_COLUMNS ? draw->width - first : BAND_COLUMNS;
    float scale_x = (float)draw->grid / (float)draw->width, scale_y = (float)draw->grid / (float)draw->height;
    for (int i = 0; i < count; i++) {
        int next;
        space->left[i] = source_of(scale_x, first + i, draw->grid, &next, &space->share[i]);
        space->right[i] = next;
    }
    int held[2] = {-1, -1}; /* which source rows space->rows hold */
    for (int row = first_row; row < first_row + rows; row++) {
        int next;
        float share;
        int above = source_of(scale_y, row, draw->grid, &next, &share);
        int wanted[2] = {above, next};
        for (int i = 0; i < 2; i++) {
            int slot = wanted[i] & 1; /* neighbours never share a slot */
            if (held[slot] == wanted[i]) continue;
            widen(draw, space, wanted[i], count, space->rows[slot]);
            held[slot] = wanted[i];
        }
        const float *top = space->rows[above & 1], *bottom = space->rows[next & 1];
        uint8_t *pixels = draw->pixels + (int64_t)row * draw->width + first;
        for (int i = 0; i < count; i++) pixels[i] = (1 - share) * top[i] + share * bottom[i] > 0;
    }
}

void GP_CPU(draw_mask)(gp_backend *backend, const gp_draw_mask *draw) {
    job work = {backend, draw, (draw->width + BAND_COLUMNS - 1) / BAND_COLUMNS};
    gp_parallel_for(backend, work.across * ((draw->height + BAND_ROWS - 1) / BAND_ROWS), draw_band, &work);
}
