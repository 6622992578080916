/** Any bytes as the pickle of a state dict. */
#include "loaders/weights/pickle.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/** Names must be texts, shapes sizes. */
static bool look(void *user, const gp_pickle_tensor *tensor, gp_status *status) {
    (void)user;
    (void)status;
    if (strlen(tensor->name) > 100000 || tensor->offset < 0 || tensor->rank < 0 ||
        tensor->rank > GP_TENSOR_RANK_MAX)
        abort();
    for (int i = 0; i < tensor->rank; i++)
        if (tensor->shape[i] < 0 || tensor->stride[i] < 0) abort();
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    gp_status status = {0};
    bool read = gp_pickle_parse(data, size, "fuzzed", look, NULL, &status);
    if (read == gp_failed(&status)) abort(); /* refused without a reason, or read with one */
    gp_status_clear(&status);
    return 0;
}
