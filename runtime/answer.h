/** Which words of an answer each mask belongs to. */
#pragma once

#include "runtime/geopixel.h"

/**
 * Finds the phrases of a finished text: `<p> phrase </p>` with only white space between it and a `[SEG]`; the
 * innermost `<p>` counts. The k-th `[SEG]` of the text is mask k, with or without a phrase. Writes at most
 * `capacity` phrases (the text is borrowed by none: spans tell where they stand) and returns how many there
 * are.
 */
size_t gp_find_phrases(const char *text, gp_phrase *phrases, size_t capacity);
