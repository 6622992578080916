/** Numbers in text, read the same whatever the program's locale. */
#pragma once

#include <stdbool.h>

/** The number at the start of `*text` (as strtod has it in the C locale), and `*text` moved behind it; false
 * where none stands there. */
bool gp_parse_number(const char **text, double *out);
