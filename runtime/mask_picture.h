/**
 * One mask at the scene's size: drawn by the backend as bits and ends of runs, which is all that is
 * downloaded, and given to the caller as bytes and COCO's run lengths.
 */
#pragma once

#include "kernels/base/memory.h"
#include "kernels/ops.h"
#include "runtime/geopixel.h"

/** Where the backend draws; its memory. */
typedef struct gp_drawing_buffers {
    void *scratch;
    uint32_t *words, *ends, *runs; /* as in gp_draw_mask */
} gp_drawing_buffers;

/** Buffers for masks of width × height from logits [grid, grid]. */
void gp_drawing_layout(const gp_backend *backend, int grid, int width, int height, gp_arena *arena,
                       gp_drawing_buffers *buffers);

/** The mask in host memory, one block. Zeros are none. */
typedef struct gp_mask_picture {
    gp_arena arena; /* owned */
    int grid, width, height;
    uint32_t *words; /* [height, gp_mask_words] */
    uint32_t *runs;  /* [gp_mask_runs_max] */
    uint8_t *pixels; /* [height, width] */
} gp_mask_picture;

/** Bytes of the block. */
size_t gp_mask_picture_bytes(int grid, int width, int height);

/** Free with gp_mask_picture_close, after failure too. */
bool gp_mask_picture_open(gp_mask_picture *picture, int grid, int width, int height, gp_status *status);

/** Draws logits [grid, grid] in buffers laid out for the picture's sizes; sets the mask's size, pixels, runs
 * and area, which the next mask overwrites. */
void gp_mask_picture_draw(gp_mask_picture *picture, gp_backend *backend, const float *logits,
                          const gp_drawing_buffers *buffers, gp_mask *mask);

void gp_mask_picture_close(gp_mask_picture *picture);
