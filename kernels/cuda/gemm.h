/**
 * The products behind linear and linear_swiglu: y = finish(x Wᵀ + s Bᵀ), and four kernels that compute it.
 * Sums run over k in steps of 16 in rising order, then over the rank, in one f32 accumulator (gemm,
 * gemm_hopper), or, in decoding steps, in eight that are added two by two and the four then in order
 * (gemm_decode, gemm_batch): never otherwise, whatever the tile or the number of rows.
 */
#pragma once

#include "kernels/cuda/pages.cuh"

namespace gp_cuda {

/** One weight and its low-rank addition. */
struct Weight {
    const uint16_t *w; // [columns, depth] at w_stride
    int64_t w_stride;
    const uint16_t
        *s; // [rows, rank] at s_stride: x Aᵀ, 0 on rows that are not the image's; nullptr: no addition
    int64_t s_stride;
    const uint16_t *b; // [columns, rank] at b_stride
    int64_t b_stride;
    int rank;
};

struct Gemm {
    const uint16_t *x; // [rows, depth] at x_stride, rows at multiples of 16 bytes
    int64_t rows, x_stride;
    int depth, columns;
    Weight weight[2];         // the second for SwiGLU alone: y = silu(first) · second
    const uint8_t *image_row; // [rows]: tiles without a 1 skip the addition; nullptr without one
    bool image_rows_alone;    // compute rows of the image alone, 0 for the others of their tiles: s itself
    const float *bias;        // [columns] or nullptr
    gp_activation activation;
    const float *residual; // [rows, columns] at residual_stride, or nullptr
    int64_t residual_stride;
    float *y;            // [rows, columns] at y_stride, or nullptr
    uint16_t *y_operand; // the same, as bf16
    int64_t y_stride;
    bool pairs;  // two neighbouring columns of y, y_operand and residual may be accessed at once
    bool quads;  // four of them, of the bias too, at multiples of four
    bool octets; // eight of y_operand, which alone is wanted: no y, no residual, no rows to be 0
};

/** What a packed QKV product ends in, instead of y: gp_rope_append for these sequences of its rows. */
struct QkvEnd {
    uint16_t *q; // [rows, kv_heads·group, head_dim]
    const float *cosine, *sine;
    gp_kv_layer cache;
    int group, count; // of the sequences
    SequenceList sequences;
};

/** Tiles of 128×128 or 64×64, mma.sync. */
void gemm(gp_backend *backend, const Gemm &product, bool swiglu);

/** Tiles of 128 × 256, 144, 128 or 64 by tensor copies and wgmma; false where the shape needs the other. */
bool gemm_hopper(gp_backend *backend, const Gemm &product, bool swiglu);

/** The same products with that end, of the f32 sums; false where the shape needs rope_append behind one. */
bool gemm_qkv(gp_backend *backend, const Gemm &product, const QkvEnd &end);
bool gemm_hopper_qkv(gp_backend *backend, const Gemm &product, const QkvEnd &end);

/** The end on its own, of a product that stands in append->qkv. */
void rope_append(gp_backend *backend, const gp_rope_append *append);

constexpr int kDecodeParts = 4; // pairs of sums in a decoding step's products

/** Few rows: the weights stream through registers once for every kFewRows. */
constexpr int kFewRows = 8;
void gemm_decode(gp_backend *backend, const Gemm &product, bool swiglu);

/** The same for more than kFewRows, without an addition. */
void gemm_batch(gp_backend *backend, const Gemm &product, bool swiglu);

} // namespace gp_cuda
