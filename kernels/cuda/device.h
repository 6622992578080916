/**
 * What the files of the CUDA backend share: the device and its lanes, how a kernel is launched, and the
 * operations' names. Every operation of ops.h has its kernels in a file of its family, kernels above, the
 * launcher below.
 *
 * Operands are bf16 (uint16_t), placed weights too. Kernels come in two tiers: what runs from compute
 * capability 8.0 on (cp.async, ldmatrix, mma.sync, at most kSharedBaseline bytes of shared memory), and what
 * only 9.0 has (tensor copies, mbarriers, wgmma), chosen by `hopper` in the launcher.
 */
#pragma once

extern "C" {
#include "kernels/cuda/sizes.h"
}

#include <ptx/language.cuh>

namespace gp_cuda {

/** Shared memory that a block may have on every GPU from 8.0 on (an RTX 4090's 99 KB). */
constexpr size_t kSharedBaseline = 99 * 1024;

/** Scratch for what blocks of one launch leave to the next. */
constexpr size_t kWorkspaceBytes = GP_CUDA_WORKSPACE_BYTES;

struct Allocation {
    void *memory;
    Allocation *next;
};

/** What runs in order on its own; its kernels' scratch is its own too, as another lane's may run with them.
 */
struct Lane {
    cudaStream_t stream;
    void *workspace;   // kWorkspaceBytes
    cudaEvent_t given; // recorded when another lane is to wait for what it was given
};

struct Staging; // weights.cu

struct Backend {
    gp_backend base;
    int device; // its number
    Lane lanes[GP_LANES];
    cudaStream_t stream; // the present lane's, and
    void *workspace;     // its
    int processors;      // streaming multiprocessors
    bool hopper;         // capability 9.0: wgmma and tensor copies
    Allocation *weights; // placed, freed with the backend
    Staging *staging;    // while weights are placed
    cudaError_t failure; // the first since the last finish
    const char *failed_in;
    bool recording;
    cudaError_t failure_before; // while operations are recorded: what was noted earlier
    const char *failed_in_before;
};

inline Backend &of(gp_backend *backend) {
    return *reinterpret_cast<Backend *>(backend);
}

/** Notes the first error; `what` is a static text. */
void note(Backend &backend, cudaError_t error, const char *what);

/**
 * GP_RUN(backend, kernel, grid, block, shared_bytes, arguments …): a launch on the present lane's stream.
 * Kernels of templates in parentheses.
 */
#define GP_RUN(backend, kernel, grid, block, shared_bytes, ...)                                              \
    GP_RUN_AS(backend, kernel, shared_bytes,                                                                 \
              GP_LAUNCH(kernel, grid, block, shared_bytes, gp_on.stream)(__VA_ARGS__))

/**
 * The same for a kernel that calls await_earlier: on Hopper it begins while the one before it still runs, if
 * that has let it (let_next_begin), so that its launch, and what it reads of weights, costs no time of its
 * own. Every block waits, those that have nothing to do too: who comes after relies on it.
 */
#define GP_RUN_EARLY(backend, kernel, grid, block, shared_bytes, ...)                                        \
    GP_RUN_AS(backend, kernel, shared_bytes,                                                                 \
              GP_LAUNCH_EARLY(kernel, grid, block, shared_bytes, gp_on.stream, gp_on.hopper)(__VA_ARGS__))

#define GP_RUN_AS(backend, kernel, shared_bytes, launch)                                                     \
    do {                                                                                                     \
        ::gp_cuda::Backend &gp_on = ::gp_cuda::of(backend);                                                  \
        if ((shared_bytes) > 48 * 1024) /* more than that has to be asked for */                             \
            ::gp_cuda::note(gp_on,                                                                           \
                            cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,        \
                                                 static_cast<int>(shared_bytes)),                            \
                            #kernel);                                                                        \
        launch;                                                                                              \
        ::gp_cuda::note(gp_on, cudaGetLastError(), #kernel);                                                 \
    } while (0)

/** Blocks of `size` that cover `count`. */
inline unsigned blocks_for(int64_t count, int64_t size) {
    return static_cast<unsigned>((count + size - 1) / size);
}

inline const uint16_t *bits_of(const gp_operand *x) {
    return reinterpret_cast<const uint16_t *>(x);
}
inline uint16_t *bits_of(gp_operand *x) {
    return reinterpret_cast<uint16_t *>(x);
}

/* The operations, each documented in ops.h. */
bool communicator_id(gp_communicator_id *, gp_status *);
bool join(gp_backend *, const gp_communicator_id *, int rank, int size, size_t most, gp_communicator **,
          gp_status *);
void *allocate(gp_backend *, size_t bytes);
bool place(gp_backend *, gp_matrix *);
bool place_random(gp_backend *, gp_matrix *, float scale, uint64_t seed);
void end_placing(gp_backend *);
void linear(gp_backend *, const gp_linear *);
void linear_swiglu(gp_backend *, const gp_linear_swiglu *);
void norm(gp_backend *, const gp_norm *);
void attention(gp_backend *, const gp_attention *);
void window_attention(gp_backend *, const gp_window_attention *);
void paged_attention(gp_backend *, const gp_paged_attention *);
void decode_attention(gp_backend *, const gp_decode_attention *);
void embed(gp_backend *, const gp_embed *);
void add_rows(gp_backend *, const gp_add_rows *);
void to_operand(gp_backend *, const gp_to_operand *);
void patches(gp_backend *, const gp_patches *);
void merge_tokens(gp_backend *, const gp_merge_tokens *);
void max_pool(gp_backend *, const gp_max_pool *);
void add_upsampled(gp_backend *, const gp_add_upsampled *);
void mask_upsample(gp_backend *, const gp_mask_upsample *);
void choose_masks(gp_backend *, const gp_choose_masks *);
void draw_mask(gp_backend *, const gp_draw_mask *);
void resize_rgb(gp_backend *, const gp_resize_rgb *);
void crop_views(gp_backend *, const gp_crop_views *);
void whole_view(gp_backend *, const gp_whole_view *);
void sample(gp_backend *, const gp_sample *);

} // namespace gp_cuda
