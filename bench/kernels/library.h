/**
 * The libraries that kernels are compared with: opened at run time, so that the program runs where they are
 * not. A library plans a yardstick once and runs the plan on any set of the case's buffers.
 */
#pragma once

#include "bench/kernels/case.h"

#include <cuda_runtime.h>

typedef struct gp_library gp_library;

/** What a library made of a yardstick; begins every library's own. */
typedef struct gp_plan {
    gp_library *library;
} gp_plan;

struct gp_library {
    char name[64]; /* "cuBLASLt 13.1.0" */
    gp_yardstick_kind kind;
    /** Fails, saying why, where the library does not have it. `at`: buffers to choose the best way on. */
    bool (*plan)(gp_library *library, const gp_yardstick *yardstick, void *const *at, gp_plan **plan,
                 gp_status *status);
    /** Puts it into the stream; false when it was refused. */
    bool (*run)(const gp_plan *plan, void *const *at);
    void (*free_plan)(gp_plan *plan);
    void (*close)(gp_library *library);
};

/** Fail, naming what was looked for, where the library or this build's knowledge of it is missing. */
bool gp_open_cublaslt(cudaStream_t stream, gp_library **library, gp_status *status);
bool gp_open_cudnn(cudaStream_t stream, gp_library **library, gp_status *status);

/** Addresses of `count` functions by name from the first of `files` that opens. */
bool gp_load_functions(const char *file, const char *const *names, void **functions, int count,
                       gp_status *status);
