/**
 * Attention over one block of keys after another, for a handful of query rows of one head: FlashAttention's
 * online softmax in base 2. The attention operations gather rows and keys into a thread's scratch and call
 * it.
 *
 * A block has ATTEND_KEYS keys, counted from the sequence's first; a row's sums run over the keys of a block
 * in order, then over blocks. Both are properties of the sequence, so a row's bits do not depend on its
 * neighbours.
 */
#pragma once

#include "kernels/cpu/tile.h"
#include "kernels/ops.h"

#include <math.h>

enum {
    ATTEND_KEYS = GP_PAGE_TOKENS,
    ATTEND_ROWS = 96, /* query rows that share the packing of a block; packing is then 2–3 % of the work */
    ATTEND_DIM = 128, /* the widest head */
};

/** Query rows under way. Kept in a thread's scratch. */
typedef struct gp_attend {
    int rows, dim;
    float q[ATTEND_ROWS][ATTEND_DIM]; /* times scale · log2 e */
    float scores[ATTEND_ROWS][ATTEND_KEYS];
    float sums[ATTEND_ROWS][ATTEND_DIM]; /* Σ 2^(score − largest) · value */
    float largest[ATTEND_ROWS], total[ATTEND_ROWS];
} gp_attend;

/** A block of keys and values, packed by the caller. */
typedef struct gp_attend_block {
    float keys[ATTEND_DIM][ATTEND_KEYS];   /* [d, key] */
    float values[ATTEND_KEYS][ATTEND_DIM]; /* [key, d], zeros from d to the next multiple of 16 */
} gp_attend_block;

static inline void gp_attend_start(gp_attend *state, int dim) {
    state->rows = 0;
    state->dim = dim;
}

/** Adds a query row. */
static inline void gp_attend_query(gp_attend *state, const float *q, float scale) {
    gp_f16 factor = gp_splat(scale * 1.44269504f);
    float *target = state->q[state->rows];
    for (int i = 0; i < state->dim; i += 16)
        gp_store_part(target + i, gp_load_part(q + i, state->dim - i) * factor, state->dim - i);
    state->largest[state->rows] = -INFINITY;
    state->total[state->rows] = 0;
    state->rows++;
}

/** One row's softmax step over its `valid` keys: scores become weights, the sums so far are rescaled. */
static inline void gp_attend_softmax(gp_attend *state, int row, int valid, bool first) {
    float *scores = state->scores[row];
    const gp_f16 lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    gp_f16 largest = gp_splat(state->largest[row]), total = gp_splat(0);
    for (int i = 0; i < valid; i += 16) {
        gp_f16 masked = gp_select(gp_greater(gp_splat((float)(valid - i)), lane), gp_load(scores + i),
                                  gp_splat(-INFINITY));
        gp_store(scores + i, masked);
        largest = gp_max(masked, largest);
    }
    float now = gp_largest(largest);
    for (int i = 0; i < ATTEND_KEYS; i += 16) {
        gp_f16 weight = i < valid ? gp_exp2(gp_load(scores + i) - gp_splat(now)) : gp_splat(0);
        gp_store(scores + i, weight);
        total = total + weight;
    }
    gp_f16 change = gp_exp2(gp_splat(state->largest[row] - now)); /* 0 at first: −∞ − now */
    state->largest[row] = now;
    state->total[row] = state->total[row] * change[0] + gp_sum(total);
    if (first) return;
    for (int i = 0; i < state->dim; i += 16)
        gp_store(&state->sums[row][i], gp_load(&state->sums[row][i]) * change);
}

/**
 * All rows against a block. keys [d, …] and values [key, …] have the strides given. Row r sees the block's
 * first valid[r] keys (`count` for all when NULL); keys beyond are neither trusted nor harmful: in `values`
 * only those below the tile's largest `valid` are read. A row's first block must be its sequence's first.
 */
static inline void gp_attend_over(gp_attend *state, const float *keys, int64_t key_stride,
                                  const float *values, int64_t value_stride, int count, const int *valid,
                                  bool first) {
    for (int row = 0; row < state->rows; row += GP_TILE_ROWS) {
        int rows = state->rows - row < GP_TILE_ROWS ? state->rows - row : GP_TILE_ROWS, seen = count;
        if (valid != NULL) {
            seen = 0;
            for (int r = row; r < row + rows; r++) seen = valid[r] > seen ? valid[r] : seen;
        }
        if (seen <= 0) continue;
        gp_tile_strip(rows, seen, state->dim, state->q[row], ATTEND_DIM, keys, key_stride, state->scores[row],
                      ATTEND_KEYS, false);
        for (int r = row; r < row + rows; r++) {
            int own = valid != NULL ? valid[r] : count;
            if (own > 0) {
                gp_attend_softmax(state, r, own, first);
            } else {
                memset(state->scores[r], 0, sizeof state->scores[r]);
            }
        }
        gp_tile_strip(rows, state->dim, seen, state->scores[row], ATTEND_KEYS, values, value_stride,
                      state->sums[row], ATTEND_DIM, !first);
    }
}

/** Row `row`'s result: sums over total, `dim` floats. */
static inline void gp_attend_result(const gp_attend *state, int row, float *y) {
    gp_f16 share = gp_splat(1.0f / state->total[row]);
    for (int i = 0; i < state->dim; i += 16)
        gp_store_part(y + i, gp_load(&state->sums[row][i]) * share, state->dim - i);
}

/** keys[d][key] = rows[key][d] for `count` rows (NULL-free array of pointers), zeros in keys up to a multiple
 * of 16. */
static inline void gp_attend_pack_keys(gp_attend_block *block, const float *const *rows, int count, int dim) {
    for (int key = 0; key < count; key += 16) {
        for (int d = 0; d < dim; d += 16) {
            gp_f16 square[16];
            for (int i = 0; i < 16; i++)
                square[i] = key + i < count ? gp_load_part(rows[key + i] + d, dim - d) : gp_splat(0);
            gp_transpose(square);
            for (int i = 0; i < 16 && d + i < dim; i++) gp_store(&block->keys[d + i][key], square[i]);
        }
    }
}

/** values[key] = rows[key], zeros up to a multiple of 16. */
static inline void gp_attend_pack_values(gp_attend_block *block, const float *const *rows, int count,
                                         int dim) {
    for (int key = 0; key < count; key++)
        for (int d = 0; d < dim; d += 16)
            gp_store(&block->values[key][d], gp_load_part(rows[key] + d, dim - d));
}
