extern "C" {
#include "bench/kernels/stream.h"
}

#include "kernels/cuda/device.h"

extern "C" cudaStream_t gp_stream_of(gp_backend *backend) {
    return gp_cuda::of(backend).stream;
}
