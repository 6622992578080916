/** Opens a GPU: is there a driver, is there a GPU, is it new enough; and closes it. */
#include "kernels/cuda/device.h"
#include "kernels/cuda/operations.h"

extern "C" {
#include "kernels/base/memory.h"
}

#include <stdio.h>

using gp_cuda::Backend;

enum { CAPABILITY_MIN = 80 }; /* Ampere: cp.async, bf16 mma.sync */

static void destroy(gp_backend *backend) {
    Backend &cuda = gp_cuda::of(backend);
    backend->ops->enter(backend); // whoever closes it
    for (const gp_cuda::Lane &lane : cuda.lanes)
        if (lane.stream != nullptr) cudaStreamSynchronize(lane.stream);
    gp_cuda::end_placing(backend);
    while (cuda.weights != nullptr) {
        gp_cuda::Allocation *weight = cuda.weights;
        cuda.weights = weight->next;
        cudaFree(weight->memory);
        gp_free(weight);
    }
    for (const gp_cuda::Lane &lane : cuda.lanes) {
        cudaFree(lane.workspace);
        if (lane.given != nullptr) cudaEventDestroy(lane.given);
        if (lane.stream != nullptr) cudaStreamDestroy(lane.stream);
    }
    gp_free(&cuda);
}

extern "C" int gp_cuda_devices(void) {
    int count = 0;
    if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
    cudaGetLastError(); // told by whoever opens one
    return 0;
}

extern "C" bool gp_backend_open_cuda(int index, gp_backend **backend, gp_status *status) {
    int count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess) return gp_fail(status, "no GPU can be used: %s", cudaGetErrorString(error));
    if (count == 0) return gp_fail(status, "no GPU: the driver lists none");
    if (index < 0 || index >= count)
        return gp_fail(status, "GPU %d is not there: the driver lists %d, from 0 on", index, count);
    cudaDeviceProp properties;
    error = cudaSetDevice(index);
    if (error == cudaSuccess) error = cudaGetDeviceProperties(&properties, index);
    if (error != cudaSuccess)
        return gp_fail(status, "GPU %d does not answer: %s", index, cudaGetErrorString(error));
    int capability = 10 * properties.major + properties.minor;
    if (capability < CAPABILITY_MIN)
        return gp_fail(status, "GPU %d (%s) has compute capability %d.%d: 8.0 is the least that serves",
                       index, properties.name, properties.major, properties.minor);
    auto *cuda = static_cast<Backend *>(gp_allocate_zeroed(1, sizeof(Backend)));
    if (cuda == nullptr) return gp_fail(status, "no memory for the CUDA backend");
    cuda->base.ops = gp_cuda::operations();
    cuda->base.operand = GP_DTYPE_BF16;
    cuda->base.lanes = GP_LANES;
    cuda->base.workspace_bytes = GP_LANES * gp_cuda::kWorkspaceBytes;
    cuda->base.destroy = destroy;
    cuda->device = index;
    cuda->processors = properties.multiProcessorCount;
#ifndef GP_WITHOUT_HOPPER
    cuda->hopper = capability == 90; // its own instructions do not live on in later chips
#endif
    snprintf(cuda->base.name, sizeof cuda->base.name, "cuda %.64s, sm_%d", properties.name, capability);
    for (gp_cuda::Lane &lane : cuda->lanes) {
        if (error == cudaSuccess) error = cudaStreamCreateWithFlags(&lane.stream, cudaStreamNonBlocking);
        if (error == cudaSuccess) error = cudaMalloc(&lane.workspace, gp_cuda::kWorkspaceBytes);
        if (error == cudaSuccess) error = cudaEventCreateWithFlags(&lane.given, cudaEventDisableTiming);
    }
    cuda->base.ops->use_lane(&cuda->base, 0);
    if (error != cudaSuccess) {
        gp_fail(status, "GPU %d (%s): %s", index, properties.name, cudaGetErrorString(error));
        destroy(&cuda->base);
        return false;
    }
    *backend = &cuda->base;
    return true;
}
