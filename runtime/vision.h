/**
 * The vision encoder and projector: crops of the divided picture to image tokens. A CLIP vision transformer
 * whose last layer's output is taken without post_layernorm, the 2×2 merge with separators, and a two-layer
 * projector (spec: model.md, section 2; official code: InternLM-XComposer2's build_mlp.py).
 */
#pragma once

#include "kernels/base/memory.h"
#include "loaders/config/config.h"
#include "runtime/layers.h"
#include "runtime/observe.h"

typedef struct gp_vision_layer {
    gp_norm_weights norm1, norm2;
    gp_affine q, k, v, out, fc1, fc2;
} gp_vision_layer;

typedef struct gp_vision {
    gp_vision_config config;
    int grid;                 /* patches along a crop's side; even */
    gp_matrix patch;          /* [hidden, 3·patch²] */
    const float *class_row;   /* class embedding + its position, [hidden] */
    const float *positions;   /* of the patches, [grid², hidden] */
    gp_norm_weights pre_norm; /* `pre_layrnorm` in the checkpoint */
    gp_vision_layer *layers;
    gp_affine project1, project2;      /* 4·hidden → width → width */
    const float *row_end, *global_end; /* plora_sub_GN, plora_glb_GN, [4·hidden] */
    int width;                         /* of an image token: the language model's */
    gp_communicator
        *communicator; /* of the ranks that views are shared among, not owned; NULL: there are none */
} gp_vision;

/** Views that go through the tower together on one device, of whichever pictures: enough to fill a processor,
 * few enough to bound memory and the time that others wait. */
enum { GP_VIEW_BATCH = 4 };

/** A picture on its way through the tower, some views at a time. Memory is the caller's. */
typedef struct gp_vision_picture {
    const uint8_t *canvas; /* the divided picture, [rows·side, columns·side, 3], backend memory */
    int rows, columns;
    float *features; /* [views, 1 + grid², hidden], backend memory: the tower's output */
    int encoded;     /* views that are through */
} gp_vision_picture;

/** Buffers of a batch of views, all backend memory; laid out by gp_vision_layout. */
typedef struct gp_vision_buffers {
    float *x;            /* [ranks, views of a rank, 1 + grid², hidden]: the residual stream */
    float *pixels;       /* [views, 3, side, side] */
    gp_operand *patches; /* of a rank's views: [grid², 3·patch²], rows at the kernel's width as operands */
    gp_operand *normed, *qkv, *attended, *hidden;
} gp_vision_buffers;

/** Buffers of the merge and the projector, backend memory; laid out by gp_vision_layout_merge. */
typedef struct gp_vision_merge_buffers {
    gp_operand *merged, *projected; /* [tokens, 4·hidden], [tokens, width] */
} gp_vision_merge_buffers;

/** Binds all tensors of the two towers' first; layers are owned by the caller until gp_vision_free. */
bool gp_vision_bind(gp_vision *vision, const gp_config *config, gp_binder *binder, gp_status *status);
void gp_vision_free(gp_vision *vision);

/** Tokens that a grid of crops becomes: (rows·columns + 1)·n² + 1 + (rows + 1)·n, n = grid/2. */
int64_t gp_vision_tokens(const gp_vision *vision, int rows, int columns);

/** Views of a picture: all of it, and each crop. */
static inline int gp_vision_views(int rows, int columns) {
    return 1 + rows * columns;
}

/** Values of the features of so many views. */
size_t gp_vision_features(const gp_vision *vision, int views);

/** For a batch of at most `views` on so many ranks. */
void gp_vision_layout(const gp_vision *vision, const gp_backend *backend, int views, int ranks,
                      gp_arena *arena, gp_vision_buffers *buffers);

void gp_vision_layout_merge(const gp_vision *vision, const gp_backend *backend, int64_t tokens,
                            gp_arena *arena, gp_vision_merge_buffers *buffers);

/**
 * One batch: the next views[i] views of pictures[i], at most GP_VIEW_BATCH a rank in all, to their features;
 * counts them in `encoded`. Where there are several ranks, the others have been told to gp_vision_share them.
 */
void gp_vision_encode(const gp_vision *vision, gp_backend *backend, gp_vision_picture *const *pictures,
                      const int *views, int count, const gp_vision_buffers *buffers,
                      const gp_observer *observer);

/**
 * `views` views in rank 0's buffers->pixels through the tower, a share of them on each rank, to buffers->x on
 * all; without a communicator, all of them here. A view gets the same bits on any rank.
 */
void gp_vision_share(const gp_vision *vision, gp_backend *backend, int views,
                     const gp_vision_buffers *buffers);

/** A picture all of whose views are through: tokens [gp_vision_tokens, width], which may stand where the
 * features are. */
void gp_vision_merge(const gp_vision *vision, gp_backend *backend, const gp_vision_picture *picture,
                     const gp_vision_merge_buffers *buffers, const gp_observer *observer, float *tokens);
