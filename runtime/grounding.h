/**
 * The grounding encoder: SAM2's Hiera trunk and FPN neck over the whole picture, giving the maps that the
 * mask decoder reads (spec: model.md, section 5; Hiera arXiv 2306.00989, SAM 2 arXiv 2408.00714).
 */
#pragma once

#include "kernels/base/memory.h"
#include "loaders/config/config.h"
#include "runtime/layers.h"
#include "runtime/observe.h"

typedef struct gp_hiera_block {
    gp_norm_weights norm1, norm2;
    gp_affine qkv, out, fc1, fc2;
    gp_affine shortcut; /* of a stage's first block but the first stage's: its width grows, its map halves */
    bool pool;
    int width_in, width, heads;
    int window; /* 0: the whole map */
    int stage;  /* that the block belongs to */
    bool last;  /* of its stage */
} gp_hiera_block;

typedef struct gp_grounding {
    gp_grounding_config config;
    int side; /* of the first stage's map: image_size / 4 */
    int block_count;
    gp_hiera_block *blocks;
    gp_affine patch;                  /* 7×7, stride 4, padding 3 */
    const float *positions;           /* [side², embed_dim] */
    gp_affine lateral[GP_STAGES_MAX]; /* of each stage's map, finest first */
    gp_affine conv_s0, conv_s1;
    const float *no_mem_embed; /* [width] */
    int width;                 /* of the maps given out: out_dim */
    gp_communicator
        *communicator; /* of the ranks that pictures are shared among, not owned; NULL: there are none */
} gp_grounding;

/** What the mask decoder reads, backend memory; grid = image_size/16. */
typedef struct gp_grounding_maps {
    float *embed; /* [grid², width], no_mem_embed added */
    float *s0;    /* [(4·grid)², width/8] */
    float *s1;    /* [(2·grid)², width/4] */
} gp_grounding_maps;

typedef struct gp_grounding_buffers {
    float *pixels;              /* [ranks, 3, image_size, image_size] */
    unsigned char *gathered;    /* [ranks] maps, of several ranks */
    float *scratch;             /* of the resize */
    gp_operand *patches;        /* rows at the kernel's width as operands */
    float *x, *next;            /* maps: a block reads one and writes the other */
    gp_operand *normed;         /* the norms' rows; after a stage's last block, its map for the lateral */
    gp_operand *wide;           /* qkv, then the MLP's hidden rows */
    gp_operand *attended;       /* attention's result */
    float *shortcut;            /* before pooling, in the place that attention's result then takes */
    float *sums[GP_STAGES_MAX]; /* the neck's maps that something is added to or that are added */
    gp_operand *fine[2];        /* levels 0 and 1, for the last convolutions */
} gp_grounding_buffers;

bool gp_grounding_bind(gp_grounding *grounding, const gp_config *config, gp_binder *binder,
                       gp_status *status);
void gp_grounding_free(gp_grounding *grounding);

/** Side of gp_grounding_maps.embed. */
static inline int gp_grounding_grid(const gp_grounding *grounding) {
    return grounding->side / 4;
}

/** The maps, taken from an arena that lives until the masks are drawn. */
void gp_grounding_layout_maps(const gp_grounding *grounding, gp_arena *arena, gp_grounding_maps *maps);

/** The stage's own buffers for pictures of up to width × height, one a rank. */
void gp_grounding_layout(const gp_grounding *grounding, const gp_backend *backend, int ranks, int width,
                         int height, gp_arena *arena, gp_grounding_buffers *buffers);

/** A picture for the encoder. */
typedef struct gp_grounding_picture {
    const uint8_t *pixels; /* RGB in backend memory, rows of `stride` bytes */
    int width, height;
    size_t stride;
    const gp_grounding_maps *maps; /* that it becomes */
    /* Called after each block, or where it is on another rank at the end; when it returns false, the work on
     * this picture ends early. */
    bool (*step)(void *user, int done, int total);
    void *user;
    bool encoded; /* the maps are whole; set by gp_grounding_encode */
} gp_grounding_picture;

/** Encodes the pictures; the buffers are laid out for the largest width and height among them. Where there
 * are several ranks, there are no more pictures, and the others have been told to gp_grounding_share them. */
void gp_grounding_encode(const gp_grounding *grounding, gp_backend *backend, gp_grounding_picture *pictures,
                         int count, const gp_grounding_buffers *buffers, const gp_observer *observer);

/**
 * `count` pictures, as rank 0's buffers->pixels have them, to buffers->gathered on all ranks, each on one: a
 * rank above 0 calls this, with what rank 0 gave to gp_grounding_layout.
 */
void gp_grounding_share(const gp_grounding *grounding, gp_backend *backend, int count,
                        const gp_grounding_buffers *buffers);

/** The picture as the encoder sees it, to pixels [3, image_size, image_size]; the first part of
 * gp_grounding_encode. */
void gp_grounding_view(const gp_grounding *grounding, gp_backend *backend,
                       const gp_grounding_picture *picture, const gp_grounding_buffers *buffers,
                       float *pixels, const gp_observer *observer);
