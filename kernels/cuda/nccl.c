/** Loads NCCL: a host function without a device, compiled in every build. */
#include "kernels/cuda/nccl.h"

#include <dlfcn.h>
#include <pthread.h>

#define LIBRARY "libnccl.so.2"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static gp_nccl functions;
static bool loaded;

/** Sets *function, a pointer to a function, to what the library has by that name. */
static bool find(void *library, const char *name, void *function, gp_status *status) {
    void *found = dlsym(library, name);
    *(void **)function = found;
    return found != NULL ||
           gp_fail(status, LIBRARY " has no %s: ranks on GPUs need NCCL 2.14 or later", name);
}

static bool load(gp_status *status) {
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        return gp_fail(status, "ranks on GPUs need NCCL, and " LIBRARY " cannot be loaded: %s", dlerror());
    int version = 0;
    bool done = find(library, "ncclGetVersion", &functions.get_version, status) &&
                find(library, "ncclGetUniqueId", &functions.get_unique_id, status) &&
                find(library, "ncclCommInitRankConfig", &functions.init_rank, status) &&
                find(library, "ncclAllGather", &functions.all_gather, status) &&
                find(library, "ncclBroadcast", &functions.broadcast, status) &&
                find(library, "ncclSend", &functions.send, status) &&
                find(library, "ncclRecv", &functions.receive, status) &&
                find(library, "ncclGroupStart", &functions.group_start, status) &&
                find(library, "ncclGroupEnd", &functions.group_end, status) &&
                find(library, "ncclCommGetAsyncError", &functions.get_async_error, status) &&
                find(library, "ncclCommAbort", &functions.abort, status) &&
                find(library, "ncclCommFinalize", &functions.finalize, status) &&
                find(library, "ncclCommDestroy", &functions.destroy, status) &&
                find(library, "ncclGetErrorString", &functions.get_error_string, status);
    if (done && (functions.get_version(&version) != GP_NCCL_SUCCESS || version < GP_NCCL_VERSION_MIN))
        done = gp_fail(status, LIBRARY " is NCCL of version code %d: 2.14 (%d) is the least that serves",
                       version, GP_NCCL_VERSION_MIN);
    if (!done) dlclose(library);
    return done;
}

bool gp_nccl_load(const gp_nccl **nccl, gp_status *status) {
    pthread_mutex_lock(&mutex);
    loaded = loaded || load(status);
    bool done = loaded;
    pthread_mutex_unlock(&mutex);
    *nccl = done ? &functions : NULL;
    return done;
}
