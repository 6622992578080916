/** `geopixel inspect` of one weight file, and the sums that inspections of tensors are made of. */
#pragma once

#include "kernels/base/status.h"

#include <jansson.h>
#include <stdint.h>

/** A sum of tensors. */
typedef struct gp_tally {
    const char *name; /* what they have in common; borrowed */
    uint64_t tensors, parameters, bytes;
} gp_tally;

enum { GP_TALLIES_MAX = 16 }; /* more than there are number formats */

/** Sums by name, in the order of their first tensors. */
typedef struct gp_tallies {
    gp_tally entries[GP_TALLIES_MAX];
    int count;
} gp_tallies;

void gp_tally_add(gp_tally *tally, uint64_t parameters, uint64_t bytes);

/** Adds a tensor to the sum of that name. */
void gp_tallies_add(gp_tallies *tallies, const char *name, uint64_t parameters, uint64_t bytes);

/** One line of a table, under gp_tally_print_header's. */
void gp_tally_print(const gp_tally *tally);
void gp_tally_print_header(const char *title);

/** {"tensors", "parameters", "bytes"}, and under `key`, where it is not NULL, the name. */
json_t *gp_tally_json(const gp_tally *tally, const char *key);
json_t *gp_tallies_json(const gp_tallies *tallies, const char *key);

/** The report of a safetensors or torch file on standard output. Fails, with nothing printed, where it cannot
 * be read. */
bool gp_inspect_weights(const char *path, bool json, gp_status *status);
