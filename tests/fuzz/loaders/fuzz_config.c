/** Any bytes as config.json: what is taken must keep the promises that the runtime divides and allocates by.
 */
#include "loaders/config/config.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    gp_config c;
    gp_status status = {0};
    bool read = gp_config_parse((const char *)data, size, "fuzzed", &c, &status);
    if (read == gp_failed(&status)) abort();
    gp_status_clear(&status);
    if (!read) return 0;
    if (c.language.num_attention_heads <= 0 || c.language.num_key_value_heads <= 0 ||
        c.language.hidden_size % c.language.num_attention_heads != 0 || c.vision.patch_size <= 0 ||
        c.vision.image_size / c.vision.patch_size < 2 || c.grounding.stage_count < 3 ||
        c.grounding.image_size < 16)
        abort();
    return 0;
}
