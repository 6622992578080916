/** Matrix fragments of a warp: ldmatrix, stmatrix, mma. Every lane of the warp takes part. */
#pragma once

#include <ptx/language.cuh>

/**
 * Four 8×8 tiles of 2-byte values from shared memory; lane 8·i + r gives the address of row r of tile i (16
 * bytes, aligned). Lane l receives in tiles[i] the pair of row l/4 at columns 2·(l mod 4). PTX: ldmatrix.x4.
 */
__device__ __forceinline__ void load_tiles(uint32_t (&tiles)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(tiles[0]), "=r"(tiles[1]), "=r"(tiles[2]), "=r"(tiles[3])
                 : "r"(shared_address(row))
                 : "memory");
}

/** The same with each tile transposed: lane l receives column l/4, rows 2·(l mod 4) and on. PTX:
 * ldmatrix.x4.trans. */
__device__ __forceinline__ void load_tiles_transposed(uint32_t (&tiles)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(tiles[0]), "=r"(tiles[1]), "=r"(tiles[2]), "=r"(tiles[3])
                 : "r"(shared_address(row))
                 : "memory");
}

/**
 * The value in a register of its own. What one 16-byte load gives to several fragments has to be copied to
 * where each of them lies; the compiler makes those copies anew before every mma, unless they are these. PTX:
 * mov.b32.
 */
__device__ __forceinline__ uint32_t own_copy(uint32_t value) {
    uint32_t copy;
    asm volatile("mov.b32 %0, %1;" : "=r"(copy) : "r"(value));
    return copy;
}

/**
 * d [16, 8] += a [16, 16] · b [16, 8], bf16 with f32 sums. Lane l has, with g = l/4 and c = 2·(l mod 4):
 * a[0] (g, c…), a[1] (g + 8, c…), a[2] (g, c + 8…), a[3] (g + 8, c + 8…); b[0] rows c… of column g, b[1] rows
 * c + 8…; d[0…1] (g, c…), d[2…3] (g + 8, c…). PTX: mma.m16n8k16.
 */
__device__ __forceinline__ void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
