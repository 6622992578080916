#include "loaders/raster/tiff_file.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

/* No block and no list of blocks may ask for more at once: bounds what a damaged file can cost. */
static const tmsize_t ALLOCATION_MAX = (tmsize_t)2 << 30;

/** Up to `count` bytes at `offset`; fewer at the file's end or after an error. */
static size_t read_at(const gp_tiff_file *file, void *target, uint64_t offset, size_t count) {
    size_t done = 0;
    while (done < count && offset + done < file->size) {
        ssize_t got = pread(file->descriptor, (char *)target + done, count - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        done += (size_t)got;
    }
    return done;
}

static tmsize_t read_bytes(thandle_t handle, void *target, tmsize_t count) {
    gp_tiff_file *file = handle;
    size_t done = count > 0 ? read_at(file, target, file->at, (size_t)count) : 0;
    file->at += done;
    return (tmsize_t)done;
}

static tmsize_t write_bytes(thandle_t handle, void *bytes, tmsize_t count) {
    (void)handle;
    (void)bytes;
    (void)count;
    return 0;
}

static toff_t seek(thandle_t handle, toff_t offset, int whence) {
    gp_tiff_file *file = handle;
    file->at = offset + (whence == SEEK_CUR ? file->at : whence == SEEK_END ? file->size : 0);
    return file->at;
}

static int close_file(thandle_t handle) {
    (void)handle;
    return 0;
}

static toff_t file_size(thandle_t handle) {
    return ((gp_tiff_file *)handle)->size;
}

static int on_error(TIFF *tiff, void *user, const char *module, const char *format, va_list arguments) {
    (void)tiff;
    (void)module;
    gp_tiff_file *file = user;
    char message[512];
    vsnprintf(message, sizeof message, format, arguments);
    if (!gp_failed(&file->trouble)) gp_fail(&file->trouble, "%s: TIFF: %s", file->path, message);
    return 1;
}

static int on_warning(TIFF *tiff, void *user, const char *module, const char *format, va_list arguments) {
    (void)tiff;
    (void)user;
    (void)module;
    (void)format;
    (void)arguments;
    return 1;
}

bool gp_tiff_file_open(gp_tiff_file *file, int descriptor, uint64_t size, const char *path, uint64_t offset,
                       gp_status *status) {
    *file = (gp_tiff_file){.descriptor = descriptor, .size = size, .path = path};
    TIFFOpenOptions *options = TIFFOpenOptionsAlloc();
    if (options == NULL) return gp_fail(status, "%s: no memory for libtiff", path);
    TIFFOpenOptionsSetErrorHandlerExtR(options, on_error, file);
    TIFFOpenOptionsSetWarningHandlerExtR(options, on_warning, file);
    TIFFOpenOptionsSetMaxSingleMemAlloc(options, ALLOCATION_MAX);
    /* m: not mapped; O: lists of blocks on demand; c: strips as they stand in the file. */
    file->tiff = TIFFClientOpenExt(path, "rmOc", file, read_bytes, write_bytes, seek, close_file, file_size,
                                   NULL, NULL, options);
    TIFFOpenOptionsFree(options);
    if (file->tiff != NULL && (offset == 0 || TIFFSetSubDirectory(file->tiff, offset))) return true;
    gp_tiff_file_fail(file, "not a TIFF that can be read", status);
    gp_tiff_file_close(file);
    return false;
}

void gp_tiff_file_close(gp_tiff_file *file) {
    if (file->tiff != NULL) TIFFClose(file->tiff);
    gp_status_clear(&file->trouble);
    *file = (gp_tiff_file){0};
}

void gp_tiff_file_forget(gp_tiff_file *file) {
    gp_status_clear(&file->trouble);
}

bool gp_tiff_file_fail(gp_tiff_file *file, const char *what, gp_status *status) {
    if (gp_failed(&file->trouble)) return gp_fail(status, "%s", file->trouble.message);
    return gp_fail(status, "%s: %s", file->path, what);
}

bool gp_tiff_file_read(const gp_tiff_file *file, void *target, uint64_t offset, size_t count) {
    return offset <= file->size && count <= file->size - offset &&
           read_at(file, target, offset, count) == count;
}
