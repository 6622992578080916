#include "kernels/base/file.h"

#include "kernels/base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

bool gp_file_map(const char *path, gp_mapping *mapping, gp_status *status) {
    *mapping = (gp_mapping){0};
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return gp_fail(status, "%s: %s", path, strerror(errno));
    struct stat info;
    bool done = fstat(file, &info) == 0;
    if (!done)
        gp_fail(status, "%s: %s", path, strerror(errno));
    else if (!S_ISREG(info.st_mode))
        done = gp_fail(status, "%s: not a regular file", path);
    if (done && info.st_size > 0) {
        void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, file, 0);
        done = data != MAP_FAILED;
        if (done)
            *mapping = (gp_mapping){data, (size_t)info.st_size};
        else
            gp_fail(status, "%s: cannot map %lld bytes: %s", path, (long long)info.st_size, strerror(errno));
    }
    close(file);
    return done;
}

void gp_file_unmap(gp_mapping *mapping) {
    if (mapping->data != NULL) munmap((void *)mapping->data, mapping->size);
    *mapping = (gp_mapping){0};
}

char *gp_file_join(const char *folder, const char *name) {
    size_t a = strlen(folder), b = strlen(name);
    char *path = gp_allocate(a + b + 2);
    if (path == NULL) return NULL;
    memcpy(path, folder, a);
    path[a] = '/';
    memcpy(path + a + 1, name, b + 1);
    return path;
}

bool gp_file_exists(const char *folder, const char *name) {
    char *path = gp_file_join(folder, name);
    bool there = path != NULL && access(path, R_OK) == 0;
    gp_free(path);
    return there;
}

bool gp_folder_check(const char *path, gp_status *status) {
    struct stat info;
    if (stat(path, &info) != 0) return gp_fail(status, "%s: %s", path, strerror(errno));
    return S_ISDIR(info.st_mode) || gp_fail(status, "%s: not a folder", path);
}
