/** What tests ask of the stand-in for NCCL: that it is loaded instead of NCCL, and what it saw. */
#pragma once

#include "kernels/cuda/nccl.h"
#include "tests/check.h"

#include <dlfcn.h>

/** First in main: has the program find libnccl.so.2 in `folder` by running it anew, where it does not yet. */
static inline void find_nccl_in(const char *folder, char **arguments) {
    const char *have = getenv("LD_LIBRARY_PATH");
    if (have != NULL && strcmp(have, folder) == 0) return;
    setenv("LD_LIBRARY_PATH", folder, 1);
    execv("/proc/self/exe", arguments);
    REQUIRE(false, "the test cannot run itself again");
}

static inline void *standin_function(const char *name) {
    const gp_nccl *nccl;
    REQUIRE(gp_nccl_load(&nccl, NULL), "no stand-in for NCCL");
    void *found = dlsym(dlopen("libnccl.so.2", RTLD_NOW | RTLD_NOLOAD), name);
    REQUIRE(found != NULL, "what was loaded is not the stand-in: it has no %s", name);
    return found;
}

/** The first misuse in this process, forgotten when it is told; "" where there was none. */
static inline const char *take_misuse(void) {
    const char *(*take)(void) = (const char *(*)(void))standin_function("nccl_standin_take_misuse");
    return take();
}

/** Whether ranks learn that another has gone (ncclRemoteError), as over a network; at first they do not, as
 * over memory that GPUs share. */
static inline void notice_gone(bool noticed) {
    void (*notice)(bool) = (void (*)(bool))standin_function("nccl_standin_notice");
    notice(noticed);
}
