/**
 * The part of NCCL's C interface, 2.14 and later, that the backend uses. It is declared here and loaded when
 * ranks are wanted: a program on one GPU needs no NCCL. tests/cuda/test_nccl.cpp holds this to NCCL's own
 * header and library.
 */
#pragma once

#include "kernels/communicator.h"

/** ncclResult_t. */
typedef enum gp_nccl_result {
    GP_NCCL_SUCCESS = 0,
    GP_NCCL_INTERNAL_ERROR = 3,
    GP_NCCL_INVALID_ARGUMENT = 4,
    GP_NCCL_INVALID_USAGE = 5,
    GP_NCCL_REMOTE_ERROR = 6,
    GP_NCCL_IN_PROGRESS = 7,
} gp_nccl_result;

/** ncclDataType_t. */
typedef enum gp_nccl_type { GP_NCCL_UINT8 = 1, GP_NCCL_FLOAT32 = 7 } gp_nccl_type;

/** ncclConfig_t as of 2.14, the first: later libraries take what is not in it for unset, by its version. */
typedef struct gp_nccl_config {
    size_t size;
    unsigned magic;
    unsigned version;
    int blocking;
} gp_nccl_config;

enum { GP_NCCL_VERSION_MIN = 21400 };
#define GP_NCCL_CONFIG_MAGIC 0xcafebeefu

/** ncclComm_t. */
typedef struct gp_nccl_communicator *gp_nccl_handle;

/** The library's functions; a stream is a cudaStream_t, an id an ncclUniqueId. */
typedef struct gp_nccl {
    gp_nccl_result (*get_version)(int *version);
    gp_nccl_result (*get_unique_id)(gp_communicator_id *id);
    gp_nccl_result (*init_rank)(gp_nccl_handle *handle, int size, gp_communicator_id id, int rank,
                                gp_nccl_config *config);
    gp_nccl_result (*all_gather)(const void *x, void *y, size_t count, gp_nccl_type type,
                                 gp_nccl_handle handle, void *stream);
    gp_nccl_result (*broadcast)(const void *x, void *y, size_t count, gp_nccl_type type, int root,
                                gp_nccl_handle handle, void *stream);
    gp_nccl_result (*send)(const void *x, size_t count, gp_nccl_type type, int peer, gp_nccl_handle handle,
                           void *stream);
    gp_nccl_result (*receive)(void *y, size_t count, gp_nccl_type type, int peer, gp_nccl_handle handle,
                              void *stream);
    gp_nccl_result (*group_start)(void);
    gp_nccl_result (*group_end)(void);
    gp_nccl_result (*get_async_error)(gp_nccl_handle handle, gp_nccl_result *state);
    gp_nccl_result (*abort)(gp_nccl_handle handle);
    gp_nccl_result (*finalize)(gp_nccl_handle handle);
    gp_nccl_result (*destroy)(gp_nccl_handle handle);
    const char *(*get_error_string)(gp_nccl_result result);
} gp_nccl;

/**
 * Loads libnccl.so.2 as the system finds it, once: every call after the first success gives the same
 * functions, which stay until the process ends. From any thread. Fails naming the library and what it lacks.
 */
bool gp_nccl_load(const gp_nccl **nccl, gp_status *status);
