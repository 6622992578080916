/** Any bytes as a pickle of plain data. */
#include "tools/geopixel/evaluation/data_pickle.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    gp_status status = {0};
    json_t *value = gp_data_pickle_read(data, size, "fuzzed", &status);
    if ((value == NULL) != gp_failed(&status)) abort(); /* refused without a reason, or read with one */
    json_decref(value);
    gp_status_clear(&status);
    return 0;
}
