/** A TIFF directory opened by libtiff over a file descriptor, its messages kept apart from other handles'. */
#pragma once

#include "kernels/base/status.h"

#include <stdint.h>
#include <tiffio.h>

/** One handle of libtiff. It must not move while it is open: libtiff holds its address. */
typedef struct gp_tiff_file {
    TIFF *tiff;
    int descriptor; /* borrowed; read by position, so that handles can share it */
    uint64_t size, at;
    const char *path;  /* borrowed */
    gp_status trouble; /* the first error that libtiff told since gp_tiff_file_forget */
} gp_tiff_file;

/** Opens the directory at `offset` of the file, the first one where it is 0. Nothing but the directory is
 * read; its lists of blocks follow when they are needed, entry by entry. */
bool gp_tiff_file_open(gp_tiff_file *file, int descriptor, uint64_t size, const char *path, uint64_t offset,
                       gp_status *status);
void gp_tiff_file_close(gp_tiff_file *file);

/** Forgets what libtiff told so far: what it says of tags that nobody needs is no error. */
void gp_tiff_file_forget(gp_tiff_file *file);

/** Fails with what libtiff told, or else with `what`. */
bool gp_tiff_file_fail(gp_tiff_file *file, const char *what, gp_status *status);

/** Reads `count` bytes at `offset`; false where the file ends before. */
bool gp_tiff_file_read(const gp_tiff_file *file, void *target, uint64_t offset, size_t count);
