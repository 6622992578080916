/** Numbers with their units, and texts out of files, as inspections show them on a terminal and in JSON. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** A text by value: `gp_short_bytes(n).text` stands until the end of its statement. */
typedef struct gp_short_text {
    char text[200];
} gp_short_text;

/** "16.6 GiB", "578.3 MiB", "12 bytes". */
gp_short_text gp_short_bytes(uint64_t bytes);

/** "8.91 G", "303.2 M", "703". */
gp_short_text gp_short_count(uint64_t count);

/** "16,384". */
gp_short_text gp_short_whole(uint64_t number);

/** "4096 x 1024"; a size below 0 is "any", no sizes are "scalar". */
gp_short_text gp_short_shape(const int64_t *shape, int rank);

/** The text on standard output; control characters become '?', so that no file commands the terminal. */
void gp_print_text(const char *text);

/** A new JSON string; bytes beyond ASCII become '?' where the text is not UTF-8. NULL gives JSON's null. */
json_t *gp_json_text(const char *text);

/** A number; infinities and what is none, for which JSON has no numbers, are texts: "inf", "-inf", "nan". */
json_t *gp_json_number(double number);
json_t *gp_json_numbers(const double *numbers, int count);

/** [4096, 1024]; a size below 0 is null. */
json_t *gp_json_shape(const int64_t *shape, int rank);

/** The document on standard output; frees it. False when memory was out for it or it cannot be written. */
bool gp_json_print(json_t *document);
