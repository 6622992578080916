/**
 * What is measured: families of cases, each an operation of kernels/ops.h at the sizes that GeoPixel-7B
 * meets. A family knows what a case costs by arithmetic, what its buffers hold, how it is launched and how
 * its result is checked; trial.h runs and checks a case on any backend whose operands are bf16, main.c
 * measures it on a GPU.
 */
#pragma once

#include "bench/kernels/findings.h"
#include "kernels/ops.h"

enum { GP_BUFFERS_MAX = 16 };

typedef struct gp_family gp_family;

/** A case of a family. `small`: the same operation at a size that an emulator runs in a second. */
typedef struct gp_case {
    const gp_family *family;
    int index;
    bool small;
} gp_case;

/** The least that a case has to do. */
typedef struct gp_cost {
    char name[48]; /* "linear/vit-fc1": the operation, what for */
    char size[72]; /* "16010 x 4096 of 1024" */
    double operations;
    bool matrix;  /* they are tensor cores', so that their rate is a bound; else bytes alone are */
    double bytes; /* every input read once, every output written once */
} gp_cost;

/** What a buffer is for a launch. */
typedef enum gp_buffer_role {
    GP_BUFFER_INPUT,
    GP_BUFFER_OUTPUT,         /* poisoned before the checked launch */
    GP_BUFFER_SUM,            /* an output that holds something before, to which a launch adds */
    GP_BUFFER_LIBRARY_OUTPUT, /* of the yardstick alone */
    GP_BUFFER_SCRATCH,        /* holds nothing that counts */
} gp_buffer_role;

typedef struct gp_buffer {
    gp_buffer_role role;
    size_t bytes;
    void *host; /* what it holds before a launch; NULL for outputs that hold nothing, and scratch */
} gp_buffer;

/** A library's kernel that does the same, on the same buffers. */
typedef enum gp_yardstick_kind {
    GP_YARDSTICK_NONE,
    GP_YARDSTICK_PRODUCT,
    GP_YARDSTICK_ATTENTION
} gp_yardstick_kind;

typedef struct gp_yardstick {
    gp_yardstick_kind kind;
    struct { /* y [rows, columns] = x [rows, depth] Wᵀ (+ residual), without bias, activation and addition */
        int64_t rows, columns, depth, x_stride, w_stride, y_stride;
        int x, w, y, residual; /* buffers; residual -1: none */
        bool y_is_f32;
    } product;
    struct {
        int64_t sequences, queries, keys, q_stride, kv_stride, y_stride; /* strides from row to row */
        int heads, kv_heads, head_dim;
        bool causal;
        float scale;
        int q, k, v, y;                       /* buffers */
        int64_t q_offset, k_offset, v_offset; /* elements before the first row */
    } attention;
} gp_yardstick;

/** A case's buffers in host memory. */
typedef struct gp_work {
    gp_buffer buffers[GP_BUFFERS_MAX];
    int count; /* of the slots in use: the highest + 1 */
    gp_yardstick yardstick;
    /** Writes into inputs in backend memory what they hold of addresses there; NULL: nothing. */
    void (*settle)(const gp_case *c, gp_backend *backend, void *const *at);
    bool failed; /* memory was out */
} gp_work;

struct gp_family {
    int count;
    void (*cost)(const gp_case *c, gp_cost *cost);
    /** Declares the buffers, fills the inputs, and says what the yardstick is. */
    void (*fill)(const gp_case *c, const gp_backend *backend, uint64_t *seed, gp_work *work);
    /** `at[i]`: buffer i in backend memory. */
    void (*launch)(const gp_case *c, gp_backend *backend, void *const *at);
    /** `results[i]`: a host copy of output i after a launch. `of_yardstick`: the library's launch. */
    void (*check)(const gp_case *c, const gp_work *work, void *const *results, bool of_yardstick,
                  uint64_t *seed, gp_findings *findings);
};

/** All families, `gp_family_count` of them, in the order of the table. */
extern const gp_family *const gp_families[];
extern const int gp_family_count;

/* The families: products.c, attention.c, windows.c, pages.c, norms.c, maps.c, masks.c, pictures.c,
 * sampling.c. */
extern const gp_family gp_family_linear, gp_family_swiglu, gp_family_attention, gp_family_window,
    gp_family_rope, gp_family_prefill, gp_family_decode, gp_family_norm, gp_family_add_rows, gp_family_embed,
    gp_family_patches, gp_family_merge, gp_family_pool, gp_family_upsampled, gp_family_mask_upsample,
    gp_family_choose, gp_family_draw, gp_family_resize, gp_family_crops, gp_family_whole, gp_family_sample;

/* ---- buffers: memory that is out sets work->failed, and gives NULL ---- */

/** An input of `count` bf16 or f32 values, uniform in [-scale, scale). */
uint16_t *gp_work_bf16(gp_work *work, int slot, int64_t count, float scale, uint64_t *seed);
float *gp_work_f32(gp_work *work, int slot, int64_t count, float scale, uint64_t *seed);
/** An input that the caller fills. */
void *gp_work_input(gp_work *work, int slot, size_t bytes);
void gp_work_output(gp_work *work, int slot, size_t bytes);
void gp_work_library_output(gp_work *work, int slot, size_t bytes);
void gp_work_scratch(gp_work *work, int slot, size_t bytes);
void gp_work_free(gp_work *work);

/** A placed weight: bf16, rows at gp_operand_width(columns). */
static inline gp_matrix gp_placed(const void *data, int64_t rows, int64_t columns) {
    return (gp_matrix){data, GP_DTYPE_BF16, rows, columns, gp_operand_width(columns)};
}

static inline int64_t gp_smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}
