/** From mask logits to pixels: the choice by stability, and the bilinear enlargement that is only ever a row
 * high, to bits and to the ends of runs. */
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

enum {
    BAND_ROWS = 32,
    BAND_COLUMNS = 4096,
    GROUP_WORDS = 16, /* a cache line of words: the columns whose changes one task looks for */
};

/** A thread's scratch: the columns' sources, two source rows at full width, and a row of pixels. */
typedef struct room {
    int32_t left[BAND_COLUMNS], right[BAND_COLUMNS];
    float share[BAND_COLUMNS]; /* of the right one */
    float rows[2][BAND_COLUMNS];
    uint8_t pixels[BAND_COLUMNS]; /* 0 and 1 */
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

/** Bytes 0 and 1 to bits; the rest of the last word is 0. */
static void pack(uint8_t *pixels, int count, uint32_t *words) {
    int whole = (count + 31) / 32;
    memset(pixels + count, 0, (size_t)(32 * whole - count));
    for (int i = 0; i < whole; i++) {
        uint64_t word = 0;
        for (int part = 0; part < 4; part++) {
            uint64_t eight;
            memcpy(&eight, pixels + 32 * i + 8 * part, sizeof eight);
            word |= (eight * 0x0102040810204080u >> 56) << 8 * part; /* byte k's bit moves to bit k */
        }
        words[i] = (uint32_t)word;
    }
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
        for (int i = 0; i < count; i++) space->pixels[i] = (1 - share) * top[i] + share * bottom[i] > 0;
        pack(space->pixels, count, draw->words + row * gp_mask_words(draw->width) + first / 32);
    }
}

/** Looks for changes down the columns of a group of words; places[x] goes up by column x's. Where `ends` are
 * wanted, places say where they go. */
static void find_changes(const gp_draw_mask *draw, int64_t group, uint32_t *ends) {
    int64_t words = gp_mask_words(draw->width), first = group * GROUP_WORDS;
    int64_t count = words - first < GROUP_WORDS ? words - first : GROUP_WORDS;
    uint32_t *places = draw->scratch, changed[GROUP_WORDS], height = (uint32_t)draw->height;
    const uint32_t *here = draw->words + first, *last = here + (draw->height - 1) * words;
    for (int64_t k = 0; k < count; k++) { /* the first row against the last one, a column before */
        int64_t beyond = draw->width - 32 * (first + k);
        uint32_t corner = first + k > 0 ? last[k - 1] >> 31 : 0;
        changed[k] = here[k] ^ (last[k] << 1 | corner);
        if (beyond < 32) changed[k] &= (1u << beyond) - 1;
    }
    for (uint32_t y = 0; y < height; y++, here += words) {
        uint32_t any = y == 0;
        for (int64_t k = 0; k < count && y > 0; k++) any |= changed[k] = here[k] ^ here[k - words];
        for (int64_t k = 0; k < count && any != 0; k++) {
            for (uint32_t bits = changed[k]; bits != 0; bits &= bits - 1) {
                uint32_t x = (uint32_t)(32 * (first + k) + __builtin_ctz(bits)), place = places[x]++;
                if (ends != NULL) ends[place] = x * height + y;
            }
        }
    }
}

static void count_changes(void *argument, int64_t index, int thread) {
    (void)thread;
    find_changes(argument, index, NULL);
}

static void write_ends(void *argument, int64_t index, int thread) {
    (void)thread;
    const gp_draw_mask *draw = argument;
    find_changes(draw, index, draw->ends);
}

size_t GP_CPU(draw_mask_scratch)(int height, int width) {
    (void)height;
    return (size_t)width * sizeof(uint32_t); /* a column's changes, then where its ends go */
}

void GP_CPU(draw_mask)(gp_backend *backend, const gp_draw_mask *draw) {
    job work = {backend, draw, (draw->width + BAND_COLUMNS - 1) / BAND_COLUMNS};
    gp_parallel_for(backend, work.across * ((draw->height + BAND_ROWS - 1) / BAND_ROWS), draw_band, &work);
    int64_t groups = (gp_mask_words(draw->width) + GROUP_WORDS - 1) / GROUP_WORDS;
    uint32_t *places = draw->scratch, before = 0;
    memset(places, 0, GP_CPU(draw_mask_scratch)(draw->height, draw->width));
    gp_parallel_for(backend, groups, count_changes, (void *)draw);
    for (int x = 0; x < draw->width; x++) {
        uint32_t changes = places[x];
        places[x] = before;
        before += changes;
    }
    gp_parallel_for(backend, groups, write_ends, (void *)draw);
    draw->ends[before] = (uint32_t)draw->width * (uint32_t)draw->height;
    *draw->runs = before + 1;
}
