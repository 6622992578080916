/** This instruction set's table of operations, and what memory means on a CPU. */
#include "kernels/base/memory.h"
#include "kernels/cpu/communicator.h"
#include "kernels/cpu/cpu.h"

#include <string.h>

enum { PAGE_BYTES = 4096, TASK_BYTES = 1 << 20 };

static void enter(gp_backend *backend) {
    (void)backend;
}

/* Every operation is done when its call returns: before all that come after it, whichever lane's. */
static void pass_lane(gp_backend *backend, int lane) {
    (void)backend;
    (void)lane;
}

static void *allocate(gp_backend *backend, size_t bytes) {
    (void)backend;
    return gp_allocate(bytes);
}

static void release(gp_backend *backend, void *memory) {
    (void)backend;
    gp_free(memory);
}

static void copy(gp_backend *backend, void *target, const void *source, size_t bytes) {
    (void)backend;
    if (bytes > 0) memcpy(target, source, bytes);
}

/** Rows of a matrix that are brought into memory. */
typedef struct pages {
    const unsigned char *data;
    size_t row_bytes, stride;
    int64_t rows, together; /* together: a task's */
} pages;

/** Reads a byte of every page. */
static void bring_in(void *argument, int64_t index, int thread) {
    (void)thread;
    const pages *all = argument;
    int64_t first = index * all->together, end = first + all->together;
    for (int64_t row = first; row < end && row < all->rows; row++) {
        const volatile unsigned char *bytes = all->data + (size_t)row * all->stride;
        for (size_t at = 0; at < all->row_bytes; at += PAGE_BYTES) (void)bytes[at];
        (void)bytes[all->row_bytes - 1];
    }
}

/** The host's own bytes. Where they are a file's that is mapped, they are read here by all threads at once,
 * not page by page in the first answer. */
static bool place(gp_backend *backend, gp_matrix *matrix) {
    size_t size = gp_dtype_size(matrix->dtype), row_bytes = (size_t)matrix->columns * size;
    if (matrix->rows == 0 || row_bytes == 0) return true;
    pages all = {matrix->data, row_bytes, (size_t)matrix->stride * size, matrix->rows,
                 (int64_t)(TASK_BYTES / row_bytes) + 1};
    gp_parallel_for(backend, (all.rows + all.together - 1) / all.together, bring_in, &all);
    return true;
}

static void end_placing(gp_backend *backend) {
    (void)backend; /* placing needs nothing here */
}

static size_t placed_bytes(const gp_matrix *matrix) {
    return (size_t)(matrix->rows * matrix->columns) * gp_dtype_size(matrix->dtype);
}

static bool finish(gp_backend *backend, gp_status *status) {
    (void)backend;
    (void)status;
    return true; /* every operation here is done when it returns, and none can fail */
}

extern const gp_ops GP_CPU(ops);

const gp_ops GP_CPU(ops) = {
    .enter = enter,
    .use_lane = pass_lane,
    .wait_for_lane = pass_lane,
    .allocate = allocate,
    .release = release,
    .upload = copy,
    .download = copy,
    .copy = copy,
    .place = place,
    .place_random = GP_CPU(place_random),
    .end_placing = end_placing,
    .finish = finish,
    .placed_bytes = placed_bytes,
    .kv_page_bytes = GP_CPU(kv_page_bytes),
    .mask_upsample_scratch = GP_CPU(mask_upsample_scratch),
    .draw_mask_scratch = GP_CPU(draw_mask_scratch),
    .communicator_bytes = gp_cpu_communicator_bytes,
    .communicator_id = gp_cpu_communicator_id,
    .join = gp_cpu_join,
    .linear = GP_CPU(linear),
    .linear_swiglu = GP_CPU(linear_swiglu),
    .norm = GP_CPU(norm),
    .attention = GP_CPU(attention),
    .window_attention = GP_CPU(window_attention),
    .paged_attention = GP_CPU(paged_attention),
    .decode_attention = GP_CPU(decode_attention),
    .embed = GP_CPU(embed),
    .add_rows = GP_CPU(add_rows),
    .to_operand = GP_CPU(to_operand),
    .patches = GP_CPU(patches),
    .merge_tokens = GP_CPU(merge_tokens),
    .max_pool = GP_CPU(max_pool),
    .add_upsampled = GP_CPU(add_upsampled),
    .mask_upsample = GP_CPU(mask_upsample),
    .choose_masks = GP_CPU(choose_masks),
    .draw_mask = GP_CPU(draw_mask),
    .resize_rgb = GP_CPU(resize_rgb),
    .crop_views = GP_CPU(crop_views),
    .whole_view = GP_CPU(whole_view),
    .sample = GP_CPU(sample),
};
