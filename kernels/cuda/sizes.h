/**
 * How large things are on a GPU: host functions without a device, compiled in every build, so that memory can
 * be planned where no GPU is. The CUDA backend's table has these same functions.
 */
#pragma once

#include "kernels/ops.h"

enum {
    GP_CUDA_WORKSPACE_BYTES = 64 << 20, /* f32 scratch of each lane */
    GP_CUDA_MASK_THREADS = 256,         /* columns that a block draws of a mask */
    GP_CUDA_MASK_BAND = 64,             /* rows that it draws */
    GP_CUDA_GATHERED_WHOLE = 64 * 1024, /* elements of an all-reduce: up to so many, all ranks get all of
                                           them; what 8 ranks move more then takes as long as a call */
    GP_CUDA_SHARE_ALIGNMENT = 4, /* elements, of a rank's share of one: 16 bytes, NCCL's widest access */
};

/* As the table's fields of the same names are documented in ops.h. */
size_t gp_cuda_placed_bytes(const gp_matrix *matrix);
size_t gp_cuda_kv_page_bytes(int kv_heads, int head_dim);
size_t gp_cuda_mask_upsample_scratch(int masks, int grid, int channels);
size_t gp_cuda_draw_mask_scratch(int height, int width);
size_t gp_cuda_communicator_bytes(int size, size_t most);

/** Elements that one kv head has in a page: keys, then values. */
#define GP_CUDA_PAGE_HEAD_SIZE(head_dim) (2ll * GP_PAGE_TOKENS * (head_dim))

/** A backend that knows sizes and nothing else: its table has the functions above, no operation. Not to be
 * closed. */
gp_backend gp_cuda_sizes(void);
