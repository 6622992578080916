/** Tensor copies for the emulator: a box lands when nobody can go on without it. */
#pragma once

#include <ptx/mbarrier.cuh>

typedef ::simt::TensorMap tensor_map;

inline void tensor_load(const tensor_map *map, void *target, int column, int row, int plane,
                        mbarrier *barrier, SIMT_HERE) {
    ::simt::tensor_load(map, target, column, row, plane, barrier, here);
}
inline void tensor_load(const tensor_map *map, void *target, int column, int row, mbarrier *barrier,
                        SIMT_HERE) {
    ::simt::tensor_load(map, target, column, row, 0, barrier, here);
}
inline void prefetch_map(const tensor_map *) {}

inline bool encode_planes(tensor_map *map, const void *base, uint64_t planes, uint64_t rows, uint64_t columns,
                          uint64_t plane_stride, uint64_t stride, uint32_t box_rows, bool narrow = false) {
    if ((uintptr_t)base % 16 != 0 || stride % 8 != 0 || plane_stride % 8 != 0 || box_rows > 256 ||
        rows == 0 || columns == 0 || planes == 0 || planes >> 32 != 0 || plane_stride >> 39 != 0)
        return false;
    *map = {(const unsigned char *)base, planes,    rows, columns, plane_stride * 2, stride * 2, box_rows,
            narrow ? 16u : 64u,          0x7E4504A9};
    return true;
}
inline bool encode_map(tensor_map *map, const void *base, uint64_t rows, uint64_t columns, uint64_t stride,
                       uint32_t box_rows) {
    return encode_planes(map, base, 1, rows, columns, 0, stride, box_rows);
}
