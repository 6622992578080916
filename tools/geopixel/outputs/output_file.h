/**
 * Files that appear whole or not at all: written beside their place under another name, renamed when
 * complete. Opening finds out at once whether the place can be written.
 */
#pragma once

#include "kernels/base/status.h"

#include <stdio.h>

typedef struct gp_output_file {
    const char *path; /* borrowed; NULL: not asked for */
    char *temporary;
    FILE *stream;
} gp_output_file;

/** Opens the temporary file; fails naming the path and the reason. `path` NULL opens nothing and succeeds. */
bool gp_output_open(gp_output_file *output, const char *path, gp_status *status);

/** Closes and puts the file in its place; what could not be written fails here, and the place stays as it
 * was. */
bool gp_output_commit(gp_output_file *output, gp_status *status);

/** Removes what was not committed. Safe on one that was never opened. */
void gp_output_discard(gp_output_file *output);

/** Removes all temporary files, for a signal handler that ends the program: async-signal-safe. */
void gp_output_remove_all(void);

/** Whether two paths are the same file, or would be. */
bool gp_output_same(const char *a, const char *b);
