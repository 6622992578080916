/**
 * The matrix kernel under linear and attention: a tile of C (+)= A·B held in registers.
 *
 * Every element of C is one chain of fused multiply-adds over k in rising order, started at zero and then
 * stored or added to C. So its bits depend neither on the tile that it stands in nor on the width of the
 * registers: that is what makes results equal for any batch, any number of threads and any instruction set.
 *
 * A tile is GP_TILE_ROWS × GP_TILE_COLUMNS: with AVX-512 12 × 32 in 24 accumulators, 2 registers of B and
 * 1 of A; a step of k costs 14 loads for 24 multiply-adds, so the adders are the limit. AVX2: 6 × 16 in 12 of
 * 16 registers. NEON: 6 × 16 in 24 of 32.
 */
#pragma once

#include "kernels/cpu/simd.h"

#include <stdbool.h>

#if defined(__AVX512F__)
#define GP_TILE_ROWS    12
#define GP_TILE_VECTORS 2
#elif defined(__AVX2__)
#define GP_TILE_ROWS    6
#define GP_TILE_VECTORS 2
#else
#define GP_TILE_ROWS    6
#define GP_TILE_VECTORS 4
#endif
#define GP_TILE_COLUMNS (GP_TILE_VECTORS * GP_NATIVE)

/** The tile for `rows` × `vectors` registers, both constants once inlined. */
GP_INLINE void gp_tile_of(const int rows, const int vectors, int64_t depth, const float *a, int64_t a_stride,
                          const float *b, int64_t b_stride, float *c, int64_t c_stride, bool add) {
    gp_native sum[GP_TILE_ROWS][GP_TILE_VECTORS];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) sum[r][v] = gp_native_zero();
    for (int64_t k = 0; k < depth; k++) {
        gp_native column[GP_TILE_VECTORS];
        for (int v = 0; v < vectors; v++) column[v] = gp_native_load(b + k * b_stride + v * GP_NATIVE);
        for (int r = 0; r < rows; r++) {
            gp_native value = gp_native_splat(a[r * a_stride + k]);
            for (int v = 0; v < vectors; v++) sum[r][v] = gp_native_fma(value, column[v], sum[r][v]);
        }
    }
    for (int r = 0; r < rows; r++) {
        for (int v = 0; v < vectors; v++) {
            float *target = c + r * c_stride + v * GP_NATIVE;
            if (add) sum[r][v] = gp_native_add(gp_native_load(target), sum[r][v]);
            gp_native_store(target, sum[r][v]);
        }
    }
}

#define GP_TILE_CASE(n)                                                                                      \
    case n:                                                                                                  \
        gp_tile_of(n, vectors, depth, a, a_stride, b, b_stride, c, c_stride, add);                           \
        break;

GP_INLINE void gp_tile_rows(int rows, const int vectors, int64_t depth, const float *a, int64_t a_stride,
                            const float *b, int64_t b_stride, float *c, int64_t c_stride, bool add) {
    switch (rows) {
        GP_TILE_CASE(1)
        GP_TILE_CASE(2)
        GP_TILE_CASE(3)
        GP_TILE_CASE(4)
        GP_TILE_CASE(5)
        GP_TILE_CASE(6)
#if GP_TILE_ROWS > 6
        GP_TILE_CASE(7)
        GP_TILE_CASE(8)
        GP_TILE_CASE(9)
        GP_TILE_CASE(10)
        GP_TILE_CASE(11)
        GP_TILE_CASE(12)
#endif
    }
}

/**
 * C [rows, columns] (+)= A [rows, depth] · B [depth, columns]. B and C must have room for columns rounded up
 * to a multiple of 16; what stands there in B is multiplied and lands there in C. rows ≤ GP_TILE_ROWS.
 */
static inline void gp_tile_strip(int rows, int64_t columns, int64_t depth, const float *a, int64_t a_stride,
                                 const float *b, int64_t b_stride, float *c, int64_t c_stride, bool add) {
    int64_t column = 0;
    for (; columns - column > GP_TILE_COLUMNS - 16; column += GP_TILE_COLUMNS)
        gp_tile_rows(rows, GP_TILE_VECTORS, depth, a, a_stride, b + column, b_stride, c + column, c_stride,
                     add);
    if (column < columns) /* at most 16 are left, and only where a tile is wider */
        gp_tile_rows(rows, 16 / GP_NATIVE, depth, a, a_stride, b + column, b_stride, c + column, c_stride,
                     add);
}

/** Sixteen vectors of sixteen, transposed. */
GP_INLINE void gp_transpose(gp_f16 rows[16]) {
#if defined(__AVX2__) && !defined(__AVX512F__)
    /* Four 8 × 8 blocks: pairs, fours, then halves change places. */
    gp_f16 turned[16];
    for (int top = 0; top < 2; top++) {
        for (int left = 0; left < 2; left++) {
            __m256 x[8], pairs[8], fours[8];
            for (int i = 0; i < 8; i++) x[i] = gp_part(&rows[8 * top + i], left);
            for (int i = 0; i < 8; i += 2) {
                pairs[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
                pairs[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
            }
            for (int i = 0; i < 8; i += 4) {
                fours[i] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
                fours[i + 1] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0xEE);
                fours[i + 2] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
                fours[i + 3] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xEE);
            }
            for (int i = 0; i < 4; i++) {
                __m256 low = _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x20);
                __m256 high = _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x31);
                memcpy((char *)&turned[8 * left + i] + top * sizeof low, &low, sizeof low);
                memcpy((char *)&turned[8 * left + i + 4] + top * sizeof high, &high, sizeof high);
            }
        }
    }
    memcpy(rows, turned, sizeof turned);
#else
    /* Four rounds in which row i meets row i + 8. */
    for (int round = 0; round < 4; round++) {
        gp_f16 next[16];
        for (int i = 0; i < 8; i++) {
            gp_f16 a = rows[i], b = rows[i + 8];
            next[2 * i] =
                __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            next[2 * i + 1] =
                __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        }
        memcpy(rows, next, sizeof next);
    }
#endif
}
