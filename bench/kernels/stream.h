/** The CUDA backend's own stream, which events and captures have to stand in. */
#pragma once

#include "kernels/ops.h"

#include <cuda_runtime.h>

cudaStream_t gp_stream_of(gp_backend *backend);
