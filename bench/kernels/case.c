#include "bench/kernels/case.h"

#include "bench/kernels/reference.h"
#include "kernels/base/memory.h"

const gp_family *const gp_families[] = {
    &gp_family_linear,   &gp_family_swiglu,    &gp_family_attention,     &gp_family_window,
    &gp_family_rope,     &gp_family_prefill,   &gp_family_decode,        &gp_family_norm,
    &gp_family_add_rows, &gp_family_embed,     &gp_family_patches,       &gp_family_merge,
    &gp_family_pool,     &gp_family_upsampled, &gp_family_mask_upsample, &gp_family_choose,
    &gp_family_draw,     &gp_family_resize,    &gp_family_crops,         &gp_family_whole,
    &gp_family_sample,
};
const int gp_family_count = sizeof gp_families / sizeof *gp_families;

static gp_buffer *declare(gp_work *work, int slot, gp_buffer_role role, size_t bytes) {
    gp_buffer *buffer = &work->buffers[slot];
    *buffer = (gp_buffer){.role = role, .bytes = bytes};
    if (slot >= work->count) work->count = slot + 1;
    return buffer;
}

void *gp_work_input(gp_work *work, int slot, size_t bytes) {
    gp_buffer *buffer = declare(work, slot, GP_BUFFER_INPUT, bytes);
    buffer->host = gp_allocate(bytes);
    if (buffer->host == NULL) work->failed = true;
    return buffer->host;
}

uint16_t *gp_work_bf16(gp_work *work, int slot, int64_t count, float scale, uint64_t *seed) {
    uint16_t *values = gp_work_input(work, slot, (size_t)count * sizeof *values);
    if (values != NULL) gp_random_bf16(seed, values, count, scale);
    return values;
}

float *gp_work_f32(gp_work *work, int slot, int64_t count, float scale, uint64_t *seed) {
    float *values = gp_work_input(work, slot, (size_t)count * sizeof *values);
    if (values != NULL) gp_random_f32(seed, values, count, scale);
    return values;
}

void gp_work_output(gp_work *work, int slot, size_t bytes) {
    declare(work, slot, GP_BUFFER_OUTPUT, bytes);
}

void gp_work_library_output(gp_work *work, int slot, size_t bytes) {
    declare(work, slot, GP_BUFFER_LIBRARY_OUTPUT, bytes);
}

void gp_work_scratch(gp_work *work, int slot, size_t bytes) {
    declare(work, slot, GP_BUFFER_SCRATCH, bytes);
}

void gp_work_free(gp_work *work) {
    for (int i = 0; i < work->count; i++) gp_free(work->buffers[i].host);
    *work = (gp_work){0};
}
