/**
 * What the files of the CPU backend share: its threads, its scratch, and the names of operations that are
 * compiled once for each instruction set.
 */
#pragma once

#include "kernels/base/threads.h"
#include "kernels/ops.h"

/* One set of sources, compiled per instruction set with flags of its own; GP_CPU(linear) names each one's. */
#if defined(__AVX512F__)
#define GP_CPU(name) gp_avx512_##name
#elif defined(__AVX2__)
#define GP_CPU(name) gp_avx2_##name
#elif defined(__aarch64__)
#define GP_CPU(name) gp_neon_##name
#else
#define GP_CPU(name) gp_plain_##name /* backend.c and threads.c, which have no operations */
#endif

/** Operands are f32 here. */
static inline const float *gp_cpu_values(const gp_operand *x) {
    return (const float *)(const void *)x;
}
static inline float *gp_cpu_target(gp_operand *y) {
    return (float *)(void *)y;
}

/** Where an output goes that is offered as f32 and as operand: one place, or two. */
typedef struct gp_cpu_output {
    float *y, *copy; /* copy: NULL for one */
} gp_cpu_output;

static inline gp_cpu_output gp_cpu_output_of(float *y, gp_operand *y_operand) {
    float *operand = gp_cpu_target(y_operand);
    if (y == NULL) return (gp_cpu_output){operand, NULL};
    return (gp_cpu_output){y, operand != y ? operand : NULL};
}

/** Scratch that each thread has for packed weights and attention blocks. */
#define GP_CPU_SCRATCH_BYTES (2u << 20)

/** gp_threads_run over the backend's threads. */
void gp_parallel_for(gp_backend *backend, int64_t tasks, gp_task task, void *argument);

/** The scratch of `thread`: GP_CPU_SCRATCH_BYTES aligned to GP_ALIGNMENT. */
void *gp_cpu_scratch(gp_backend *backend, int thread);

int gp_cpu_threads(const gp_backend *backend);

/* The operations, each documented in ops.h. */
bool GP_CPU(place_random)(gp_backend *, gp_matrix *, float scale, uint64_t seed);
size_t GP_CPU(kv_page_bytes)(int kv_heads, int head_dim);
size_t GP_CPU(mask_upsample_scratch)(int masks, int grid, int channels);
size_t GP_CPU(draw_mask_scratch)(int height, int width);
void GP_CPU(linear)(gp_backend *, const gp_linear *);
void GP_CPU(linear_swiglu)(gp_backend *, const gp_linear_swiglu *);
void GP_CPU(norm)(gp_backend *, const gp_norm *);
void GP_CPU(attention)(gp_backend *, const gp_attention *);
void GP_CPU(window_attention)(gp_backend *, const gp_window_attention *);
void GP_CPU(rope_append)(gp_backend *, const gp_rope_append *);
void GP_CPU(paged_attention)(gp_backend *, const gp_paged_attention *);
void GP_CPU(decode_attention)(gp_backend *, const gp_decode_attention *);
void GP_CPU(embed)(gp_backend *, const gp_embed *);
void GP_CPU(add_rows)(gp_backend *, const gp_add_rows *);
void GP_CPU(to_operand)(gp_backend *, const gp_to_operand *);
void GP_CPU(patches)(gp_backend *, const gp_patches *);
void GP_CPU(merge_tokens)(gp_backend *, const gp_merge_tokens *);
void GP_CPU(max_pool)(gp_backend *, const gp_max_pool *);
void GP_CPU(add_upsampled)(gp_backend *, const gp_add_upsampled *);
void GP_CPU(mask_upsample)(gp_backend *, const gp_mask_upsample *);
void GP_CPU(choose_masks)(gp_backend *, const gp_choose_masks *);
void GP_CPU(draw_mask)(gp_backend *, const gp_draw_mask *);
void GP_CPU(resize_rgb)(gp_backend *, const gp_resize_rgb *);
void GP_CPU(crop_views)(gp_backend *, const gp_crop_views *);
void GP_CPU(whole_view)(gp_backend *, const gp_whole_view *);
void GP_CPU(sample)(gp_backend *, const gp_sample *);
