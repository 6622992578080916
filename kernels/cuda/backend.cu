/**
 * The CUDA backend: finds the GPU and says what it is. The operations of ops.h are not part of this build, so opening
 * ends with an error that says so, after the questions that a user wants answered first: is there a driver, is there a
 * GPU, is it new enough.
 */
extern "C" {
#include "kernels/ops.h"
}

#include <cuda_runtime.h>

enum { CAPABILITY_MIN = 80 }; /* Ampere: cp.async, bf16 mma.sync */

extern "C" bool gp_backend_open_cuda(gp_backend **backend, gp_status *status) {
    (void)backend;
    int count = 0, major = 0, minor = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess) return gp_fail(status, "no GPU can be used: %s", cudaGetErrorString(error));
    if (count == 0) return gp_fail(status, "no GPU: the driver lists none");
    cudaDeviceProp properties;
    error = cudaGetDeviceProperties(&properties, 0);
    if (error != cudaSuccess) return gp_fail(status, "GPU 0 does not answer: %s", cudaGetErrorString(error));
    major = properties.major;
    minor = properties.minor;
    if (10 * major + minor < CAPABILITY_MIN)
        return gp_fail(status, "GPU 0 (%s) has compute capability %d.%d: 8.0 is the least that serves",
                       properties.name, major, minor);
    return gp_fail(status, "GPU 0 (%s, compute capability %d.%d) is there, but this build has no CUDA operations",
                   properties.name, major, minor);
}
