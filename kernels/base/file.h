/** Whole files in memory: read into a block, or mapped. */
#pragma once

#include "kernels/base/status.h"

#include <stddef.h>

/** A file mapped read-only. `data` is NULL when the file is empty. */
typedef struct gp_mapping {
    const unsigned char *data;
    size_t size;
} gp_mapping;

/** Maps `path`; fails naming it and the reason. The file must not shrink while it is mapped. */
bool gp_file_map(const char *path, gp_mapping *mapping, gp_status *status);
void gp_file_unmap(gp_mapping *mapping);

/** FOLDER/NAME in a new block (free with gp_free), or NULL when memory is out. */
char *gp_file_join(const char *folder, const char *name);

/** Whether FOLDER/NAME can be read. */
bool gp_file_exists(const char *folder, const char *name);

/** Whether `path` is a folder; fails naming it when it is not there or something else. */
bool gp_folder_check(const char *path, gp_status *status);
