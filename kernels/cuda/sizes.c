#include "kernels/cuda/sizes.h"

size_t gp_cuda_placed_bytes(const gp_matrix *matrix) {
    return (size_t)(matrix->rows * gp_operand_width(matrix->columns)) * sizeof(uint16_t);
}

size_t gp_cuda_kv_page_bytes(int kv_heads, int head_dim) {
    return (size_t)(kv_heads * GP_CUDA_PAGE_HEAD_SIZE(head_dim)) * sizeof(uint16_t);
}

size_t gp_cuda_mask_upsample_scratch(int masks, int grid, int channels) {
    (void)masks, (void)grid, (void)channels;
    return 0; /* nothing but logits is written */
}

size_t gp_cuda_draw_mask_scratch(int height, int width) {
    int64_t bands = ((int64_t)height + GP_CUDA_MASK_BAND - 1) / GP_CUDA_MASK_BAND;
    int64_t blocks = ((int64_t)width + GP_CUDA_MASK_THREADS - 1) / GP_CUDA_MASK_THREADS;
    return (size_t)((bands + 1) * width + blocks) * sizeof(uint32_t);
}

/* What an all-reduce of up to `most` lays down: others' shares and rests. */
size_t gp_cuda_communicator_bytes(int size, size_t most) {
    size_t ranks = (size_t)size, whole = most < GP_CUDA_GATHERED_WHOLE ? most : GP_CUDA_GATHERED_WHOLE;
    size_t elements = ranks * whole, parts = most + ranks * ranks * GP_CUDA_SHARE_ALIGNMENT;
    if (size == 1) return 0;
    if (most > whole && parts > elements) elements = parts;
    return elements * sizeof(float);
}

gp_backend gp_cuda_sizes(void) {
    static const gp_ops sizes = {.placed_bytes = gp_cuda_placed_bytes,
                                 .kv_page_bytes = gp_cuda_kv_page_bytes,
                                 .mask_upsample_scratch = gp_cuda_mask_upsample_scratch,
                                 .draw_mask_scratch = gp_cuda_draw_mask_scratch,
                                 .communicator_bytes = gp_cuda_communicator_bytes};
    return (gp_backend){.ops = &sizes,
                        .name = "cuda",
                        .lanes = GP_LANES,
                        .operand = GP_DTYPE_BF16,
                        .workspace_bytes = GP_LANES * (size_t)GP_CUDA_WORKSPACE_BYTES};
}
