#include "tools/geopixel/outputs/output_file.h"

#include "kernels/base/file.h"
#include "kernels/base/memory.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OPEN_MAX_FILES = 16 };

/* The temporary files that exist now, for gp_output_remove_all. */
static const char *volatile open_files[OPEN_MAX_FILES];

static void forget(const char *temporary) {
    for (int i = 0; i < OPEN_MAX_FILES; i++)
        if (open_files[i] == temporary) open_files[i] = NULL;
}

static void remember(const char *temporary) {
    for (int i = 0; i < OPEN_MAX_FILES; i++) {
        if (open_files[i] != NULL) continue;
        open_files[i] = temporary;
        return;
    }
}

bool gp_output_open(gp_output_file *output, const char *path, gp_status *status) {
    *output = (gp_output_file){.path = path};
    if (path == NULL) return true;
    struct stat info;
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode))
        return gp_fail(status, "%s: cannot be written: it is there and not a regular file", path);
    size_t length = strlen(path);
    output->temporary = gp_allocate(length + 8);
    if (output->temporary == NULL) return gp_fail(status, "%s: no memory", path);
    memcpy(output->temporary, path, length);
    memcpy(output->temporary + length, ".XXXXXX", 8);
    int file = mkstemp(output->temporary);
    if (file < 0) {
        gp_fail(status, "%s: cannot be written: %s", path, strerror(errno));
        gp_free(output->temporary);
        output->temporary = NULL;
        return false;
    }
    remember(output->temporary);
    mode_t mask =
        umask(0); /* mkstemp gives a file to its owner alone; what is asked for is an ordinary one */
    umask(mask);
    fchmod(file, 0666 & ~mask);
    output->stream = fdopen(file, "w+b");
    if (output->stream != NULL) return true;
    close(file);
    gp_output_discard(output);
    return gp_fail(status, "%s: no memory", path);
}

bool gp_output_commit(gp_output_file *output, gp_status *status) {
    if (output->stream == NULL) return true;
    bool written = ferror(output->stream) == 0 && fflush(output->stream) == 0;
    written = fclose(output->stream) == 0 && written;
    output->stream = NULL;
    if (written && rename(output->temporary, output->path) == 0) {
        forget(output->temporary);
        gp_free(output->temporary);
        output->temporary = NULL;
        return true;
    }
    gp_fail(status, "%s: cannot be written: %s", output->path, strerror(errno));
    gp_output_discard(output);
    return false;
}

void gp_output_discard(gp_output_file *output) {
    if (output->stream != NULL) fclose(output->stream);
    if (output->temporary != NULL) {
        unlink(output->temporary);
        forget(output->temporary);
        gp_free(output->temporary);
    }
    *output = (gp_output_file){0};
}

void gp_output_remove_all(void) {
    for (int i = 0; i < OPEN_MAX_FILES; i++)
        if (open_files[i] != NULL) unlink(open_files[i]);
}

/** PATH with its folder resolved, in a new block; NULL where the folder is not there. */
static char *resolved(const char *path) {
    const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
    size_t length = slash == NULL ? 1 : slash == path ? 1 : (size_t)(slash - path);
    char *folder = gp_allocate(length + 1), real[PATH_MAX], *whole = NULL;
    if (folder == NULL) return NULL;
    memcpy(folder, slash != NULL ? path : ".", length);
    folder[length] = '\0';
    if (realpath(folder, real) != NULL) whole = gp_file_join(real, name);
    gp_free(folder);
    return whole;
}

bool gp_output_same(const char *a, const char *b) {
    struct stat first, second;
    if (a == NULL || b == NULL) return false;
    if (strcmp(a, b) == 0) return true;
    if (stat(a, &first) == 0 && stat(b, &second) == 0)
        return first.st_dev == second.st_dev && first.st_ino == second.st_ino;
    char *x = resolved(a), *y = resolved(b); /* neither need be there yet */
    bool same = x != NULL && y != NULL && strcmp(x, y) == 0;
    gp_free(x);
    gp_free(y);
    return same;
}
