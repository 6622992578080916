#include "bench/kernels/library.h"

#include <dlfcn.h>

bool gp_load_functions(const char *file, const char *const *names, void **functions, int count,
                       gp_status *status) {
    void *handle =
        dlopen(file, RTLD_NOW | RTLD_LOCAL); /* stays open: its kernels may be in use until the end */
    if (handle == NULL) return gp_fail(status, "%s", dlerror());
    for (int i = 0; i < count; i++) {
        functions[i] = dlsym(handle, names[i]);
        if (functions[i] == NULL) return gp_fail(status, "%s has no %s", file, names[i]);
    }
    return true;
}
