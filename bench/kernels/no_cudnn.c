/** Where cudnn.h was not found when this was built. */
#include "bench/kernels/library.h"

bool gp_open_cudnn(cudaStream_t stream, gp_library **library, gp_status *status) {
    (void)stream, (void)library;
    return gp_fail(status, "built without cudnn.h");
}
