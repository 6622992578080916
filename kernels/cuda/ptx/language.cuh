/**
 * The CUDA language as kernels use it, beyond what nvcc itself gives: dynamic shared memory and launches.
 * Kernels include <ptx/….cuh> by angle brackets alone: for nvcc these are the files of this folder, for the
 * emulator their twins in tests/simt/twin/ptx.
 */
#pragma once

#include <cuda_runtime.h>
#include <stdint.h>

/** Whether this pass of the compiler may use what sm_90a alone has; elsewhere such kernels are empty, and
 * never launched. */
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define GP_HOPPER 1
#else
#define GP_HOPPER 0
#endif

/** The block's dynamic shared memory, at a 1024-byte boundary. There is no other shared memory. */
template <typename T> __device__ __forceinline__ T *shared_memory() {
    extern __shared__ __align__(1024) unsigned char gp_shared_bytes[];
    return reinterpret_cast<T *>(gp_shared_bytes);
}

/** Address in the shared window. */
__device__ __forceinline__ uint32_t shared_address(const void *pointer) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

/** GP_LAUNCH(kernel, grid, block, shared_bytes, stream)(arguments …). Kernels of templates in parentheses. */
#define GP_LAUNCH(kernel, grid, block, shared_bytes, stream) kernel<<<grid, block, shared_bytes, stream>>>

/** A launch that, where `early`, may begin before the kernel before it has ended (overlap.cuh). */
template <typename... Parameters> struct gp_early_launch {
    void (*kernel)(Parameters...);
    dim3 grid, block;
    size_t shared_bytes;
    cudaStream_t stream;
    bool early;
    void operator()(Parameters... arguments) const {
        cudaLaunchAttribute attribute = {};
        attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
        attribute.val.programmaticStreamSerializationAllowed = 1;
        cudaLaunchConfig_t config = {};
        config.gridDim = grid;
        config.blockDim = block;
        config.dynamicSmemBytes = shared_bytes;
        config.stream = stream;
        config.attrs = &attribute;
        config.numAttrs = early ? 1 : 0;
        cudaLaunchKernelEx(&config, kernel, arguments...);
    }
};
template <typename... Parameters>
gp_early_launch<Parameters...> gp_prepare_early(void (*kernel)(Parameters...), dim3 grid, dim3 block,
                                                size_t shared_bytes, cudaStream_t stream, bool early) {
    return {kernel, grid, block, shared_bytes, stream, early};
}

/** GP_LAUNCH_EARLY(kernel, grid, block, shared_bytes, stream, early)(arguments …). */
#define GP_LAUNCH_EARLY(kernel, grid, block, shared_bytes, stream, early)                                    \
    gp_prepare_early(kernel, grid, block, shared_bytes, stream, early)
