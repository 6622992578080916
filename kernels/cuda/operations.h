/** The CUDA backend's table. */
#pragma once

extern "C" {
#include "kernels/ops.h"
}

namespace gp_cuda {

const gp_ops *operations();

} // namespace gp_cuda
