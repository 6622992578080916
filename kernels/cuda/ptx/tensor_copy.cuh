/** Tensor copies (TMA): boxes of a matrix in global memory to shared memory, completing on an mbarrier.
 * sm_90. */
#pragma once

#include <ptx/mbarrier.cuh>

#include <cuda.h>

typedef CUtensorMap tensor_map;

/**
 * One thread copies the box at (row, column) of the map's matrix; what lies outside becomes 0. The box lands
 * at `target` (a 1024-byte boundary), 128 bytes a row, the 16-byte chunks of row r permuted by ^ (r mod 8).
 * PTX: cp.async.bulk.tensor.2d.
 */
__device__ __forceinline__ void tensor_load(const tensor_map *map, void *target, int column, int row,
                                            mbarrier *barrier) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, "
                 "{%2, %3}], [%4];" ::"r"(shared_address(target)),
                 "l"(reinterpret_cast<uint64_t>(map)), "r"(column), "r"(row), "r"(shared_address(barrier))
                 : "memory");
}

/** Brings a map near before its first use. PTX: prefetch.tensormap. */
__device__ __forceinline__ void prefetch_map(const tensor_map *map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(reinterpret_cast<uint64_t>(map)) : "memory");
}
