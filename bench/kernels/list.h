/** What every case costs by arithmetic, without a GPU. */
#pragma once

#include <stdbool.h>

/** The GPUs whose ceilings are known, as the words of a choice: "h200|h100|a100". */
extern const char *const gp_list_gpus;

/** A Markdown table of the cases whose name holds `only` (NULL: all) at a GPU's ceilings. False where a cost
 * is none, which is said on standard error. */
bool gp_list(int gpu, const char *only);
