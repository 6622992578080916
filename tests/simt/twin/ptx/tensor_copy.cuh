/** Tensor copies for the emulator: a box lands when nobody can go on without it. */
#pragma once

#include <ptx/mbarrier.cuh>

typedef ::simt::TensorMap tensor_map;

inline void tensor_load(const tensor_map *map, void *target, int column, int row, mbarrier *barrier,
                        SIMT_HERE) {
    ::simt::tensor_load(map, target, column, row, barrier, here);
}
inline void prefetch_map(const tensor_map *) {}

inline bool encode_map(tensor_map *map, const void *base, uint64_t rows, uint64_t columns, uint64_t stride,
                       uint32_t box_rows) {
    if ((uintptr_t)base % 16 != 0 || stride % 8 != 0 || box_rows > 256 || rows == 0 || columns == 0)
        return false;
    *map = {(const unsigned char *)base, rows, columns, stride * 2, box_rows, 64, 0x7E4504A9};
    return true;
}
