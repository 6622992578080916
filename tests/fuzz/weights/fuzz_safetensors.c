/** Any bytes as a safetensors file, and as a file of torch.save: read whole or refused, never more than was
 * given. */
#include "loaders/weights/checkpoint_parts.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/** Looks at the first and last byte of what a tensor claims to be. */
static bool look(void *user, const gp_tensor *tensor, gp_status *status) {
    (void)status;
    unsigned *sum = user;
    if (tensor->count == 0) return true;
    int64_t last = 0;
    for (int i = 0; i < tensor->rank; i++) last += (tensor->shape[i] - 1) * tensor->stride[i];
    size_t bytes = gp_dtype_size(tensor->dtype);
    *sum += tensor->data[0] + tensor->data[(size_t)last * bytes + bytes - 1];
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    volatile unsigned kept;
    unsigned sum = 0;
    gp_status status = {0};
    gp_safetensors_parse(data, size, "fuzzed", look, &sum, &status);
    gp_status_clear(&status);
    gp_torch_file_parse(data, size, "fuzzed", look, &sum, &status);
    gp_status_clear(&status);
    kept = sum;
    (void)kept;
    return 0;
}
