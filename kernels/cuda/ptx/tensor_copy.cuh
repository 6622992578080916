/** Tensor copies (TMA): boxes of a matrix in global memory to shared memory, completing on an mbarrier.
 * sm_90. */
#pragma once

#include <ptx/mbarrier.cuh>

#include <cuda.h>

typedef CUtensorMap tensor_map;

/**
 * One thread copies the box at (row, column) of the map's matrix; what lies outside becomes 0. column is a
 * multiple of 8: another is an illegal instruction on an H200, of which the manual says nothing. The box
 * lands at `target` (a 1024-byte boundary), 128 bytes a row, the 16-byte chunks of row r permuted by ^ (r mod
 * 8); a narrow one (a 256-byte boundary) 32 bytes a row, by ^ (r/4 mod 2). PTX: cp.async.bulk.tensor.2d.
 */
__device__ __forceinline__ void tensor_load(const tensor_map *map, void *target, int column, int row,
                                            mbarrier *barrier) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, "
                 "{%2, %3}], [%4];" ::"r"(shared_address(target)),
                 "l"(reinterpret_cast<uint64_t>(map)), "r"(column), "r"(row), "r"(shared_address(barrier))
                 : "memory");
}

/** The same from one plane of a map of planes. PTX: cp.async.bulk.tensor.3d. */
__device__ __forceinline__ void tensor_load(const tensor_map *map, void *target, int column, int row,
                                            int plane, mbarrier *barrier) {
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, "
                 "{%2, %3, %4}], [%5];" ::"r"(shared_address(target)),
                 "l"(reinterpret_cast<uint64_t>(map)), "r"(column), "r"(row), "r"(plane),
                 "r"(shared_address(barrier))
                 : "memory");
}

/** Brings a map near before its first use. PTX: prefetch.tensormap. */
__device__ __forceinline__ void prefetch_map(const tensor_map *map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(reinterpret_cast<uint64_t>(map)) : "memory");
}

/** Host: cuTensorMapEncodeTiled of the driver, or null. */
inline void *map_encoder() {
    static void *encoder = [] {
        void *found = nullptr;
        cudaDriverEntryPointQueryResult result;
        cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000,
                                                             cudaEnableDefault, &result);
        return error == cudaSuccess && result == cudaDriverEntryPointSuccess ? found : nullptr;
    }();
    return encoder;
}

/**
 * Host: the map of bf16 matrices [planes, rows, columns] at `stride` elements a row and `plane_stride` a
 * plane (base, rows and planes at multiples of 16 bytes, in any order of size), read in boxes of box_rows ×
 * 64 of one plane, or × 16 where `narrow`; what lies beyond the plane's rows or columns becomes 0. False
 * where the driver has no such call or refuses.
 */
inline bool encode_planes(tensor_map *map, const void *base, uint64_t planes, uint64_t rows, uint64_t columns,
                          uint64_t plane_stride, uint64_t stride, uint32_t box_rows, bool narrow = false) {
    const cuuint64_t sizes[3] = {columns, rows, planes}, strides[2] = {stride * 2, plane_stride * 2};
    const cuuint32_t box[3] = {narrow ? 16u : 64u, box_rows, 1}, steps[3] = {1, 1, 1};
    return map_encoder() != nullptr &&
           reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(map_encoder())(
               map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, const_cast<void *>(base), sizes, strides, box, steps,
               CU_TENSOR_MAP_INTERLEAVE_NONE, narrow ? CU_TENSOR_MAP_SWIZZLE_32B : CU_TENSOR_MAP_SWIZZLE_128B,
               CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

/** Host: the same of one matrix, for boxes without a plane. */
inline bool encode_map(tensor_map *map, const void *base, uint64_t rows, uint64_t columns, uint64_t stride,
                       uint32_t box_rows) {
    const cuuint64_t sizes[2] = {columns, rows}, strides[1] = {stride * 2};
    const cuuint32_t box[2] = {64, box_rows}, steps[2] = {1, 1};
    return map_encoder() != nullptr &&
           reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(map_encoder())(
               map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<void *>(base), sizes, strides, box, steps,
               CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
               CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}
