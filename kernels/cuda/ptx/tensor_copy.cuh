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

/**
 * Host: the map of a bf16 matrix [rows, columns] at `stride` elements a row (base and rows at multiples of 16
 * bytes), read in boxes of box_rows × 64. False where the driver has no such call or refuses.
 */
inline bool encode_map(tensor_map *map, const void *base, uint64_t rows, uint64_t columns, uint64_t stride,
                       uint32_t box_rows) {
    static void *encode = [] {
        void *found = nullptr;
        cudaDriverEntryPointQueryResult result;
        cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000,
                                                             cudaEnableDefault, &result);
        return error == cudaSuccess && result == cudaDriverEntryPointSuccess ? found : nullptr;
    }();
    if (encode == nullptr) return false;
    const cuuint64_t sizes[2] = {columns, rows}, strides[1] = {stride * 2};
    const cuuint32_t box[2] = {64, box_rows}, steps[2] = {1, 1};
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(encode)(
               map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<void *>(base), sizes, strides, box, steps,
               CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
               CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}
