/** What stands in for the CUDA backend in a build without it. */
#include "kernels/ops.h"

int gp_cuda_devices(void) {
    return 0;
}

bool gp_backend_open_cuda(int index, gp_backend **backend, gp_status *status) {
    (void)index;
    (void)backend;
    return gp_fail(
        status,
        "this build has no CUDA backend: configure with -DGEOPIXEL_CUDA=on on a machine with a toolkit");
}
