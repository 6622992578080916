/** Tensor copies for the emulator: a box lands when nobody can go on without it. */
#pragma once

#include <ptx/mbarrier.cuh>

typedef ::simt::TensorMap tensor_map;

inline void tensor_load(const tensor_map *map, void *target, int column, int row, mbarrier *barrier,
                        SIMT_HERE) {
    ::simt::tensor_load(map, target, column, row, barrier, here);
}
inline void prefetch_map(const tensor_map *) {}
