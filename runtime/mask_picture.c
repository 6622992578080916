#include "runtime/mask_picture.h"

#include <string.h>

static void layout(gp_mask_picture *picture, gp_arena *arena);
static void expand(const gp_mask_picture *picture);

void gp_drawing_layout(const gp_backend *backend, int grid, int width, int height, gp_arena *arena,
                       gp_drawing_buffers *buffers) {
    buffers->scratch = gp_arena_take(arena, backend->ops->draw_mask_scratch(height, width), 1);
    buffers->words = gp_arena_take(arena, (size_t)(height * gp_mask_words(width)), sizeof(uint32_t));
    buffers->ends = gp_arena_take(arena, gp_mask_runs_max(grid, height, width), sizeof(uint32_t));
    buffers->runs = gp_arena_take(arena, 1, sizeof(uint32_t));
}

static void layout(gp_mask_picture *picture, gp_arena *arena) {
    int height = picture->height, width = picture->width;
    picture->words = gp_arena_take(arena, (size_t)(height * gp_mask_words(width)), sizeof(uint32_t));
    picture->runs = gp_arena_take(arena, gp_mask_runs_max(picture->grid, height, width), sizeof(uint32_t));
    picture->pixels = gp_arena_take(arena, (size_t)height * (size_t)width, 1);
}

size_t gp_mask_picture_bytes(int grid, int width, int height) {
    gp_arena measure = {0};
    layout(&(gp_mask_picture){.grid = grid, .width = width, .height = height}, &measure);
    return measure.peak;
}

bool gp_mask_picture_open(gp_mask_picture *picture, int grid, int width, int height, gp_status *status) {
    size_t bytes = gp_mask_picture_bytes(grid, width, height);
    *picture = (gp_mask_picture){.grid = grid, .width = width, .height = height};
    picture->arena.block = gp_allocate(bytes);
    if (picture->arena.block == NULL)
        return gp_fail(status, "no memory for a mask of %d x %d pixels (%zu bytes)", width, height, bytes);
    picture->arena.capacity = bytes;
    layout(picture, &picture->arena);
    return true;
}

void gp_mask_picture_draw(gp_mask_picture *picture, gp_backend *backend, const float *logits,
                          const gp_drawing_buffers *buffers, gp_mask *mask) {
    const gp_ops *ops = backend->ops;
    uint32_t *runs = picture->runs, count = 0;
    ops->draw_mask(backend, &(gp_draw_mask){.logits = logits,
                                            .grid = picture->grid,
                                            .height = picture->height,
                                            .width = picture->width,
                                            .scratch = buffers->scratch,
                                            .words = buffers->words,
                                            .ends = buffers->ends,
                                            .runs = buffers->runs});
    size_t most = gp_mask_runs_max(picture->grid, picture->height, picture->width);
    ops->download(backend, &count, buffers->runs, sizeof count);
    if (count > most) count = (uint32_t)most; /* the device has failed, which `finish` will tell */
    ops->download(backend, runs, buffers->ends, count * sizeof *runs);
    ops->download(backend, picture->words, buffers->words,
                  (size_t)(picture->height * gp_mask_words(picture->width)) * sizeof *picture->words);
    mask->area = 0;
    for (uint32_t i = count; i-- > 1;) { /* ends to lengths; the first starts at 0 */
        runs[i] -= runs[i - 1];
        if (i % 2 == 1) mask->area += runs[i];
    }
    expand(picture);
    mask->width = picture->width;
    mask->height = picture->height;
    mask->pixels = picture->pixels;
    mask->runs = runs;
    mask->run_count = count;
}

/** Eight bits to bytes 0 and 1: each of eight copies keeps its own bit, which then moves down. */
static uint64_t spread(uint64_t bits) {
    const uint64_t each = 0x0101010101010101u;
    return ((bits * each & 0x8040201008040201u) + 0x7F * each) >> 7 & each;
}

static void expand(const gp_mask_picture *picture) {
    size_t width = (size_t)picture->width, words = (size_t)gp_mask_words(picture->width);
    for (size_t y = 0; y < (size_t)picture->height; y++) {
        const uint32_t *row = picture->words + y * words;
        uint8_t *pixels = picture->pixels + y * width;
        size_t x = 0;
        for (; x + 8 <= width; x += 8) {
            uint64_t eight = spread(row[x / 32] >> x % 32 & 0xFF);
            memcpy(pixels + x, &eight, sizeof eight);
        }
        for (; x < width; x++) pixels[x] = row[x / 32] >> x % 32 & 1;
    }
}

void gp_mask_picture_close(gp_mask_picture *picture) {
    gp_free(picture->arena.block);
    *picture = (gp_mask_picture){0};
}
