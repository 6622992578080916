/**
 * The operations that GeoPixel's forward pass is written over, and the backend that carries them out. Each is
 * what one fused kernel does, not a tensor algebra. kernels/cpu and kernels/cuda implement this table; the
 * runtime alone calls it.
 *
 * Rules for every operation:
 *  - activations are f32, row-major, or operands: numbers that products alone read (inputs of linears,
 * queries, keys, values), in the one format that the backend multiplies (gp_backend.operand: f32 on the CPU,
 * bf16 on a GPU). Sums are f32 everywhere;
 *  - rows of operands start at multiples of GP_OPERAND_ALIGNMENT elements: widths and strides are multiples
 * of it;
 *  - where an output is offered as f32 and as operand (`y` and `y_operand`), one may be NULL; both are
 * written else. Where operands are f32, both may be the same memory;
 *  - all pointers in argument structs are backend memory, unless a comment says host;
 *  - the order in which a row's numbers are added depends on that row's own shape and on whether it is a
 * decoding step (`decode`, where there is such a field: rows of one token each, few of them, so that reading
 * weights is the work), never on how many rows there are, on threads, or on where a prompt was cut into
 * chunks: the same row gives the same bits always;
 *  - input and output must not overlap, unless a comment says that they may;
 *  - nothing is allocated; scratch comes from the caller where a field says so;
 *  - operations may run asynchronously, in the order they were called, uploads, copies and releases among
 * them; host memory is the caller's again when a call returns; `finish` waits and tells errors;
 *  - that order holds within a lane. Those of two lanes may run at the same time, but where wait_for_lane
 * orders them: what one writes, the other must not touch before.
 */
#pragma once

#include "kernels/base/dtype.h"
#include "kernels/base/status.h"
#include "kernels/communicator.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct gp_backend gp_backend;

/** Positions a page of the KV cache. Key blocks of every attention over pages end at multiples of it. */
#define GP_PAGE_TOKENS 64

/** Lanes: rows of operations that a backend may run beside each other. */
enum { GP_LANES = 2 };

/** Elements: the alignment of rows of operands, 16 bytes in bf16. */
#define GP_OPERAND_ALIGNMENT 8

/** `width` rounded up to the alignment. */
static inline int64_t gp_operand_width(int64_t width) {
    return (width + GP_OPERAND_ALIGNMENT - 1) / GP_OPERAND_ALIGNMENT * GP_OPERAND_ALIGNMENT;
}

/** A number in the backend's operand format. Opaque, so that nobody steps through it by mistake:
 * gp_operand_at. */
typedef struct gp_operand gp_operand;

/** A weight matrix [rows, columns], row-major, as `place` of the backend gives it. */
typedef struct gp_matrix {
    const void *data;
    gp_dtype dtype; /* bf16, f16 or f32 */
    int64_t rows, columns;
    int64_t stride; /* elements from row to row; columns beyond `columns` are never read */
} gp_matrix;

typedef enum gp_activation {
    GP_ACTIVATION_NONE,
    GP_ACTIVATION_RELU,
    GP_ACTIVATION_GELU,       /* exact: x/2·(1 + erf(x/√2)) */
    GP_ACTIVATION_QUICK_GELU, /* x·σ(1.702 x) */
    GP_ACTIVATION_SIGMOID,
} gp_activation;

/* ---- linear ------------------------------------------------------------------------------------------- */

/** The partial-LoRA addition: on rows whose `image_row` is 1, + (x Aᵀ) Bᵀ. */
typedef struct gp_partial_lora {
    gp_matrix a;              /* [rank, columns of x] */
    gp_matrix b;              /* [columns of y, rank] */
    const uint8_t *image_row; /* [rows], 0 or 1 */
    gp_operand *scratch;      /* [rows, rank rounded up to GP_OPERAND_ALIGNMENT]: x Aᵀ */
} gp_partial_lora;

typedef struct gp_rope_append gp_rope_append;

/**
 * y = activation(x Wᵀ + bias + partial LoRA) + residual.
 * x [rows, weight.columns], y [rows, weight.rows]. Row r starts at r·stride elements; a stride of 0 means
 * contiguous. With `rope`, x Wᵀ + partial LoRA are a prompt's packed qkv rows, which end as gp_rope_append
 * says; there is no y then, no bias, activation or residual, and it is no decoding step.
 */
typedef struct gp_linear {
    const gp_operand *x;
    int64_t rows;
    int64_t x_stride;
    gp_matrix weight;
    const float *bias;           /* [weight.rows] or NULL */
    const gp_partial_lora *lora; /* host struct, or NULL */
    gp_activation activation;
    const float *residual; /* [rows, weight.rows] or NULL; may be y */
    int64_t residual_stride;
    bool decode;                /* the rows are decoding steps */
    const gp_rope_append *rope; /* host struct, or NULL */
    float *y;
    gp_operand *y_operand;
    int64_t y_stride; /* of both */
} gp_linear;

/**
 * y = silu(x W1ᵀ + LoRA1) · (x W3ᵀ + LoRA3), the first half of SwiGLU. x [rows, K], y [rows, N], contiguous.
 * Both LoRAs or neither.
 */
typedef struct gp_linear_swiglu {
    const gp_operand *x;
    int64_t rows;
    gp_matrix w1, w3;
    const gp_partial_lora *lora1, *lora3; /* host structs with scratch of their own, or NULL */
    bool decode;
    gp_operand *y;
} gp_linear_swiglu;

/* ---- norms -------------------------------------------------------------------------------------------- */

/**
 * y = activation((x − mean)/√(variance + epsilon) · weight + bias), a row at a time; y may be x.
 * For RMSNorm, `bias` is NULL and `rms` true: y = weight · x/√(mean(x²) + epsilon). All [rows, columns].
 */
typedef struct gp_norm {
    const float *x;
    int64_t rows, columns;
    const float *weight, *bias;
    float epsilon;
    bool rms;
    gp_activation activation;
    float *y;
    gp_operand *y_operand;
} gp_norm;

/* ---- attention ---------------------------------------------------------------------------------------- */

/**
 * softmax(q kᵀ · scale) v over `sequences` packed sequences of one length, not causal. Head h of a row is its
 * columns h·head_dim … ; row r of q starts at r·q_stride, of k and v at r·kv_stride, of y at r·y_stride.
 * Sequence s has queries s·queries … and keys s·keys … . Head dims up to 128.
 */
typedef struct gp_attention {
    const gp_operand *q, *k, *v;
    int64_t q_stride, kv_stride;
    int64_t sequences, queries, keys;
    int heads, head_dim;
    float scale;
    gp_operand *y; /* [sequences·queries, heads·head_dim] at y_stride */
    int64_t y_stride;
} gp_attention;

/**
 * Hiera's attention on a map, a window at a time. qkv [height·width, 3, heads, head_dim]. Windows of
 * window × window are cut from the top left; positions beyond the map hold `padding` [3, heads, head_dim]
 * (what the qkv projection gives for a row of zeros: its bias). window 0: the whole map is one window.
 * `pool`: queries are max-pooled 2×2 inside their window, and y has ⌊height/2⌋ × ⌊width/2⌋ rows.
 * y [height·width or pooled, heads·head_dim], contiguous. Outputs at padded positions are dropped.
 */
typedef struct gp_window_attention {
    const gp_operand *qkv;
    const float *padding;
    int height, width, window;
    bool pool;
    int heads, head_dim;
    float scale;
    gp_operand *y;
} gp_window_attention;

/** Rows first_row … first_row + rows − 1 of a packed batch are positions first_position … of one sequence. */
typedef struct gp_sequence {
    int32_t first_row, rows, first_position;
    const int32_t *pages; /* backend memory: pages[i] holds positions i·GP_PAGE_TOKENS … */
} gp_sequence;

/** Keys and values of one layer. What is inside a page is the backend's own: see kv_page_bytes. */
typedef struct gp_kv_layer {
    void *pages;
    int kv_heads, head_dim;
} gp_kv_layer;

/**
 * How a linear's packed rows [rows, kv_heads, group + 2, head_dim] (a kv head's q's, then k, then v) end: q
 * and k are turned by their positions, q is written to its buffer, k and v to their pages; rows of no
 * sequence are left out. Rotation by halves: (a, b) → (a·cos − b·sin, b·cos + a·sin), a and b the halves of
 * a head. What is turned are the f32 sums; or the same rounded to operands, where a backend has to put the
 * product in `qkv` first, which head_dim and the addresses decide.
 */
struct gp_rope_append {
    gp_operand *qkv;              /* scratch [rows, kv_heads, group + 2, head_dim] */
    const gp_sequence *sequences; /* host array; a row is one's at most */
    int sequence_count;
    int group;
    const float *cosine, *sine; /* [positions, head_dim/2] */
    gp_kv_layer cache;
    gp_operand *q; /* [rows, kv_heads·group, head_dim] */
};

/** A prompt's causal attention: q [rows, kv_heads·group, head_dim] against the pages; y has q's shape. */
typedef struct gp_paged_attention {
    const gp_operand *q;
    const gp_sequence *sequences; /* host array */
    int sequence_count;
    int group;
    gp_kv_layer cache;
    float scale;
    gp_operand *y;
} gp_paged_attention;

/**
 * Decoding steps: gp_rope_append of a product, then the new position's attention against all that its
 * sequence has. Every sequence has one row, and the page that this is written to is in no other sequence of
 * the call; or none: it is passed over. What the pages have of earlier positions was written before
 * `sequences` was uploaded: a GPU reads it while the operation before this one still runs. qkv is packed as
 * gp_rope_append's; y [rows, kv_heads·group, head_dim]. Sequences are backend memory, so that a recorded call
 * can be replayed for others.
 */
typedef struct gp_decode_attention {
    const gp_operand *qkv;
    const gp_sequence *sequences; /* [sequence_count], backend memory */
    int sequence_count;
    int positions; /* all first_position are below; results do not depend on it */
    int group;
    const float *cosine, *sine; /* [positions, head_dim/2] */
    gp_kv_layer cache;
    float scale;
    gp_operand *y;
} gp_decode_attention;

/* ---- rows and maps ------------------------------------------------------------------------------------ */

/** y[r] = table[ids[r]] as f32. */
typedef struct gp_embed {
    gp_matrix table;
    const int32_t *ids;
    int64_t rows;
    float *y;
} gp_embed;

/** y[r, c] = x[r, c] + addend[r mod period, c]; y may be x. period 1 adds one row to all. */
typedef struct gp_add_rows {
    const float *x, *addend;
    int64_t rows, columns, period;
    float *y;
    gp_operand *y_operand;
} gp_add_rows;

/** y = x as operands, `count` of them; y may be x where operands are f32. */
typedef struct gp_to_operand {
    const float *x;
    int64_t count;
    gp_operand *y;
} gp_to_operand;

/**
 * The patches of a convolution as rows: x [channels, height, width] → y [oh·ow, channels·patch·patch], oh =
 * (height + 2·padding − patch)/stride + 1, zeros outside. A linear with the kernel as [out, channels·patch²]
 * then is the convolution.
 */
typedef struct gp_patches {
    const float *x;
    int channels, height, width, patch, stride, padding;
    gp_operand *y;
    int64_t y_stride; /* at least channels·patch²; what is between is set to 0 */
} gp_patches;

/**
 * The 2×2 merge and the separators. features [1 + rows·columns crops, 1 + grid², channels], class token
 * first; y [image tokens, 4·channels]: the global view's grid/2 rows with row_end after each, global_end,
 * then the crops as one (rows·grid/2) × (columns·grid/2) map with row_end after each row. Merged channels:
 * (row 0 col 0, row 0 col 1, row 1 col 0, row 1 col 1).
 */
typedef struct gp_merge_tokens {
    const float *features;
    int grid, channels, rows, columns;
    const float *row_end, *global_end; /* [4·channels] */
    gp_operand *y;
} gp_merge_tokens;

/** Largest of each 2×2: x [height, width, channels] → y [⌊height/2⌋, ⌊width/2⌋, channels]. */
typedef struct gp_max_pool {
    const float *x;
    int height, width, channels;
    float *y;
} gp_max_pool;

/** y [2·height, 2·width, channels] += x [height, width, channels], each value to its 2×2. */
typedef struct gp_add_upsampled {
    const float *x;
    int height, width, channels;
    float *y;
} gp_add_upsampled;

/* ---- masks -------------------------------------------------------------------------------------------- */

/** Channels that gp_mask_upsample takes at most where operands are not f32: SAM 2's. */
enum { GP_MASK_CHANNELS_MOST = 256 };

/**
 * The mask decoder's up-scaling and the product with the hypernetworks' rows, for `masks` maps at once:
 * deconvolution 2×2 + bias + skip1 → LayerNorm over channels → GELU → deconvolution 2×2 + bias + skip0 → GELU
 * → logits[k] = hyper[k] · pixel, k of 4. A deconvolution's weight is given as [4·out, in], row (2·dy +
 * dx)·out + o. x [masks, grid², channels]; skip1 [(2·grid)², channels/4]; skip0 [(4·grid)², channels/8]; both
 * shared by all masks.
 */
typedef struct gp_mask_upsample {
    const gp_operand *x;
    int masks, grid, channels;
    gp_matrix weight1, weight2; /* [4·(channels/4), channels], [4·(channels/8), channels/4] */
    const float *bias1, *bias2; /* [channels/4], [channels/8] */
    const float *skip1, *skip0;
    const float *norm_weight, *norm_bias;
    float epsilon;
    const float *hyper; /* [masks, 4, channels/8] */
    void *scratch;      /* gp_backend's mask_upsample_scratch bytes */
    float *logits;      /* [masks, 4, (4·grid)²] */
} gp_mask_upsample;

/**
 * Choice by stability. logits [masks, 4, area], iou [masks, 4]. stability = |first > delta|/|first > −delta|,
 * 1 where the denominator is 0; chosen = 0 where it is ≥ threshold, else the one of 1 … 3 of highest iou (the
 * first of equals).
 */
typedef struct gp_choose_masks {
    const float *logits, *iou;
    int masks;
    int64_t area;
    float delta, threshold;
    float *stability; /* [masks] */
    int32_t *chosen;  /* [masks] */
} gp_choose_masks;

/** Words of 32 pixels that a row of a mask has. */
static inline int64_t gp_mask_words(int width) {
    return ((int64_t)width + 31) / 32;
}

/**
 * The most runs that gp_draw_mask can find, whatever the logits. Down the pixels between two neighbouring
 * rows of logits the value is (1 − s)·a + s·b with s growing from 0 on, and both products are monotone in
 * s, rounded too: where a and b differ in sign, > 0 changes at most once; where both are positive, twice, if
 * they are so small that both products vanish between; where one is infinite, once, behind s = 0, which makes
 * it NaN. With one change to the pixel after the last, 3·grid a column, the first of the next included; and
 * there is one run more than changes.
 */
static inline size_t gp_mask_runs_max(int grid, int height, int width) {
    int64_t changes = 3 * (int64_t)grid < height ? 3 * (int64_t)grid : height;
    return (size_t)(width * changes + 1);
}

/**
 * Logits [grid, grid] → bilinear (align_corners false, no antialias) at height × width → > 0, as bits and as
 * run lengths; the logits at full size are never written. Runs are COCO's: column by column, of 0, 1, 0, …,
 * the first empty where the first pixel is 1. Run i is the pixels from ends[i − 1] (0 for the first) to
 * ends[i], pixel (x, y) being number x·height + y modulo 2^32.
 */
typedef struct gp_draw_mask {
    const float *logits;
    int grid, height, width;
    void *scratch;   /* gp_backend's draw_mask_scratch bytes */
    uint32_t *words; /* [height, gp_mask_words]: pixel x is bit x mod 32 of word x/32; 0 beyond the width */
    uint32_t *ends;  /* [gp_mask_runs_max], of which as many as there are runs are written */
    uint32_t *runs;  /* [1] how many */
} gp_draw_mask;

/* ---- pictures ----------------------------------------------------------------------------------------- */

/**
 * Bilinear resize with antialias of RGB bytes, equal to Pillow ≤ 12 byte for byte, onto the top left of a
 * white canvas. source [source_height, source_width, 3] at source_stride bytes a row. Rows first (horizontal
 * pass, then vertical) unless vertical_first, which is what resizing the transposed picture does.
 */
typedef struct gp_resize_rgb {
    const uint8_t *source;
    int source_width, source_height;
    size_t source_stride;
    int width, height; /* of the resized picture */
    bool vertical_first;
    int canvas_width, canvas_height;
    uint8_t *scratch; /* gp_resize_rgb_scratch bytes, aligned to 8 */
    uint8_t *canvas;  /* [canvas_height, canvas_width, 3] */
} gp_resize_rgb;

/**
 * Encoder input from the divided picture: view 0 is the whole canvas, normalised and resized bicubic (A =
 * −0.75, align_corners false, no antialias) to side × side; view 1 + i is crop i of the grid, row-major,
 * normalised. Writes views first_view … first_view + views − 1 to y [views, 3, side, side]: ((v/255) −
 * mean)/deviation.
 */
typedef struct gp_crop_views {
    const uint8_t *canvas; /* [rows·side, columns·side, 3] */
    int rows, columns, side;
    int first_view, views;
    float mean[3], deviation[3];
    float *y;
} gp_crop_views;

/**
 * The whole picture for the grounding encoder: v/255, bilinear with antialias in f32 (torch's kernel: widths
 * first, then heights) to side × side, aspect not kept, then (v − mean)/deviation. y [3, side, side].
 */
typedef struct gp_whole_view {
    const uint8_t *source;
    int source_width, source_height;
    size_t source_stride;
    int side;
    float mean[3], deviation[3];
    float *scratch; /* gp_whole_view_scratch bytes */
    float *y;
} gp_whole_view;

/** Bytes of scratch for the two resizes above, the more the larger any of the sizes. Host functions, the same
 * for every backend. */
size_t gp_resize_rgb_scratch(int source_width, int source_height, int width, int height);
size_t gp_whole_view_scratch(int source_width, int source_height, int side);

/**
 * Bicubic resize (A = −0.75, align_corners false, no antialias) of x [channels, height, width] to y
 * [channels, new_height, new_width], f32. A host function: position embeddings are made once, at load.
 */
void gp_resize_bicubic(const float *x, int channels, int height, int width, int new_height, int new_width,
                       float *y);

/* ---- sampling ----------------------------------------------------------------------------------------- */

/**
 * How a token is chosen. temperature 0: the index of the largest logit (the first of equals). Else a draw
 * from softmax(logits/temperature) cut to the smallest set of most likely tokens whose probabilities reach
 * top_p, by `uniform` in [0, 1): tokens in falling order of probability, the first whose cumulated share
 * exceeds it.
 */
typedef struct gp_token_choice {
    double uniform;
    float temperature, top_p;
} gp_token_choice;

/** The next token of each row of logits [rows, count]. */
typedef struct gp_sample {
    const float *logits;
    int rows, count;
    int64_t stride;                 /* elements from row to row of logits; 0: count */
    const gp_token_choice *choices; /* [rows], backend memory */
    int32_t *order;                 /* scratch [rows, count]; unused where a row's choice is greedy */
    int32_t *tokens;                /* [rows] */
} gp_sample;

/* ---- the table ---------------------------------------------------------------------------------------- */

/** Operations that were recorded. */
typedef struct gp_recording gp_recording;

typedef struct gp_ops {
    /** Called by each thread that will drive the backend, before any other operation; not needed by the one
     * that opened it while that opens or enters no other. One thread at a time drives a backend. */
    void (*enter)(gp_backend *backend);
    /** Operations from now on are that lane's, 0 … GP_LANES − 1, in order among themselves; 0 at first. */
    void (*use_lane)(gp_backend *backend, int lane);
    /** The present lane's next operations come after everything that lane `lane` has been given until now. */
    void (*wait_for_lane)(gp_backend *backend, int lane);
    /** `bytes` of backend memory aligned to GP_ALIGNMENT; NULL when there is none. Free with release, which
     * waits for all lanes. */
    void *(*allocate)(gp_backend *backend, size_t bytes);
    void (*release)(gp_backend *backend, void *memory);
    /** Host to backend, backend to host; download waits for the operations before it on its lane. */
    void (*upload)(gp_backend *backend, void *target, const void *host, size_t bytes);
    void (*download)(gp_backend *backend, void *host, const void *source, size_t bytes);
    /** Backend to backend. */
    void (*copy)(gp_backend *backend, void *target, const void *source, size_t bytes);
    /**
     * A weight of the checkpoint [rows, columns] in host memory, its stride as it is there, in the form that
     * the backend computes with: the host's own where it reads host memory, brought in by all threads
     * where it is a file's, else a copy that lives as long as the backend. The host's own must stay as long
     * as the backend does. False when there is no room.
     */
    bool (*place)(gp_backend *backend, gp_matrix *matrix);
    /**
     * A weight [matrix->rows, matrix->columns] that no file holds, in the form that the backend computes
     * with: element i, row by row, is gp_random_signed(seed, i)·scale rounded to bf16
     * (kernels/base/random.h). Free `data` with release. False when there is no room.
     */
    bool (*place_random)(gp_backend *backend, gp_matrix *matrix, float scale, uint64_t seed);
    /** No more weights come, or none for a while: what placing them needed is freed. */
    void (*end_placing)(gp_backend *backend);
    /** Waits for all operations of all lanes; false with `status` set when one of them failed. */
    bool (*finish)(gp_backend *backend, gp_status *status);
    /**
     * Recording, on lane 0, NULL on a backend that gains nothing by it. Operations between `record` and
     * `recorded`, and no other function of the table, are not carried out but kept with their arguments,
     * addresses among them; `replay` carries them out, like an operation, on what is in memory then.
     * `recorded` gives NULL with `status` set when one of the calls failed. `forget` frees a recording (NULL
     * is allowed) that was not replayed since the last `finish`.
     */
    void (*record)(gp_backend *backend);
    gp_recording *(*recorded)(gp_backend *backend, gp_status *status);
    void (*replay)(gp_backend *backend, gp_recording *recording);
    void (*forget)(gp_backend *backend, gp_recording *recording);
    /** Bytes that a matrix has once it is placed, its stride then included; asked before. */
    size_t (*placed_bytes)(const gp_matrix *matrix);
    /** Bytes of one page of one layer. */
    size_t (*kv_page_bytes)(int kv_heads, int head_dim);
    /** Bytes of gp_mask_upsample's scratch. */
    size_t (*mask_upsample_scratch)(int masks, int grid, int channels);
    /** Bytes of gp_draw_mask's scratch. */
    size_t (*draw_mask_scratch)(int height, int width);
    /** Bytes that `join` allocates for one of `size` ranks (gp_communicator.workspace_bytes). */
    size_t (*communicator_bytes)(int size, size_t most);
    /** A name for a new group of ranks on backends of this kind. */
    bool (*communicator_id)(gp_communicator_id *id, gp_status *status);
    /**
     * Makes the backend one of `size` ranks; blocks until all have come, or `abort` of one that has. `most`:
     * elements of the largest all-reduce. Closed by its `destroy`, before the backend. Fails where ranks of
     * this kind cannot meet. `*communicator` is stored, for an atomic load by another thread, as soon as that
     * may abort it. Where it is stored it is to be destroyed, once no other thread aborts it any more, also
     * after a join that failed; where it is not, it stays as it was.
     */
    bool (*join)(gp_backend *backend, const gp_communicator_id *id, int rank, int size, size_t most,
                 gp_communicator **communicator, gp_status *status);

    void (*linear)(gp_backend *, const gp_linear *);
    void (*linear_swiglu)(gp_backend *, const gp_linear_swiglu *);
    void (*norm)(gp_backend *, const gp_norm *);
    void (*attention)(gp_backend *, const gp_attention *);
    void (*window_attention)(gp_backend *, const gp_window_attention *);
    void (*paged_attention)(gp_backend *, const gp_paged_attention *);
    void (*decode_attention)(gp_backend *, const gp_decode_attention *);
    void (*embed)(gp_backend *, const gp_embed *);
    void (*add_rows)(gp_backend *, const gp_add_rows *);
    void (*to_operand)(gp_backend *, const gp_to_operand *);
    void (*patches)(gp_backend *, const gp_patches *);
    void (*merge_tokens)(gp_backend *, const gp_merge_tokens *);
    void (*max_pool)(gp_backend *, const gp_max_pool *);
    void (*add_upsampled)(gp_backend *, const gp_add_upsampled *);
    void (*mask_upsample)(gp_backend *, const gp_mask_upsample *);
    void (*choose_masks)(gp_backend *, const gp_choose_masks *);
    void (*draw_mask)(gp_backend *, const gp_draw_mask *);
    void (*resize_rgb)(gp_backend *, const gp_resize_rgb *);
    void (*crop_views)(gp_backend *, const gp_crop_views *);
    void (*whole_view)(gp_backend *, const gp_whole_view *);
    void (*sample)(gp_backend *, const gp_sample *);
} gp_ops;

/** A device ready to compute. Backends embed it as their first member. */
struct gp_backend {
    const gp_ops *ops;
    char name[96];           /* "cpu avx512, 2 threads" */
    gp_dtype operand;        /* the format of gp_operand: f32 or bf16 */
    size_t workspace_bytes;  /* what the backend itself holds besides weights and allocations */
    int lanes;               /* that run beside each other; 1: all are one after the other */
    bool decodes_as_prompts; /* a decoding step writes the keys and values, to the bit, that a prompt's row of
                                the same token does */
    void (*destroy)(gp_backend *backend);
};

/**
 * The CPU backend with `threads` threads, the caller's among them (0: as many as the process may run on). The
 * widest vectors that the processor has are used; without AVX2 and FMA on x86-64 it fails, saying so.
 * GEOPIXEL_ISA in the environment (avx2, avx512) forces a narrower one, for tests.
 */
bool gp_backend_open_cpu(int threads, gp_backend **backend, gp_status *status);

/** Processors that this process may run on. */
int gp_cpu_processors(void);

/** The CUDA backend on GPU number `index`, 0 for the first; fails, saying why, where the build, the driver or
 * the GPU is lacking. */
bool gp_backend_open_cuda(int index, gp_backend **backend, gp_status *status);

/** GPUs that the driver lists; 0 without one, and in a build without CUDA. */
int gp_cuda_devices(void);

/** `count` operands beyond x. */
static inline gp_operand *gp_operand_at(const gp_backend *backend, const gp_operand *x, int64_t count) {
    return (gp_operand *)((char *)(uintptr_t)x + count * (int64_t)gp_dtype_size(backend->operand));
}

/** Frees everything, placed weights included. NULL is allowed. */
static inline void gp_backend_close(gp_backend *backend) {
    if (backend != NULL) backend->destroy(backend);
}
