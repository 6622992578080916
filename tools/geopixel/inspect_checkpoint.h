/** `geopixel inspect` of a checkpoint folder: configuration, tokenizer, parameters, files, and whether it
 * runs. */
#pragma once

#include "kernels/base/status.h"

/**
 * The report on standard output. Fails where the folder cannot be looked at, and, with the report printed all
 * the same, where the checkpoint would not run: then `status` has the reason.
 */
bool gp_inspect_checkpoint(const char *folder, bool json, gp_status *status);
