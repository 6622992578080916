/** Marks functions that the host and kernels of the GPU share. */
#pragma once

#ifdef __CUDACC__
#define GP_BOTH_SIDES __host__ __device__
#else
#define GP_BOTH_SIDES
#endif
