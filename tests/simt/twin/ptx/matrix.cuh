/** ldmatrix and mma for the emulator. */
#pragma once

#include <ptx/language.cuh>

namespace simt {
void load_tiles(uint32_t *tiles, const void *row, bool transposed, Place here);
void multiply(float *d, const uint32_t *a, uint32_t b0, uint32_t b1, Place here);
} // namespace simt

inline void load_tiles(uint32_t (&tiles)[4], const void *row, SIMT_HERE) {
    ::simt::load_tiles(tiles, row, false, here);
}
inline void load_tiles_transposed(uint32_t (&tiles)[4], const void *row, SIMT_HERE) {
    ::simt::load_tiles(tiles, row, true, here);
}
inline uint32_t own_copy(uint32_t value) {
    return value;
}
inline void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, SIMT_HERE) {
    ::simt::multiply(d, a, b0, b1, here);
}
