/**
 * Takes tensors out of a checkpoint by name and shape, and places them with the backend. All that is missing
 * or misshapen is collected, so that one message lists everything.
 */
#pragma once

#include "kernels/ops.h"
#include "loaders/weights/checkpoint.h"

/** A dimension that any size fits; gp_bind reads it back from the tensor. */
#define GP_ANY (-1)

typedef struct gp_binder {
    gp_checkpoint *checkpoint;
    gp_backend *backend;
    gp_status problems; /* a line each */
    int problem_count;
    const gp_tensor **used; /* sorted by gp_binder_finish */
    size_t used_count, used_capacity;
    void **owned; /* backend memory of converted tensors: handed to the model */
    size_t owned_count, owned_capacity;
    uint64_t weight_bytes;    /* used in place */
    uint64_t converted_bytes; /* in `owned` */
} gp_binder;

/** A matrix [rows, columns] in the file's precision; rows and columns may be GP_ANY. printf-style name. */
gp_matrix gp_bind_matrix(gp_binder *binder, int64_t rows, int64_t columns, const char *name, ...)
    GP_PRINTF(4, 5);

/** A convolution kernel [out, in, side, side] as a matrix [out, in·side²]. */
gp_matrix gp_bind_convolution(gp_binder *binder, int64_t out, int64_t in, int64_t side, const char *name, ...)
    GP_PRINTF(5, 6);

/** A vector of `count` values as f32 in backend memory. */
const float *gp_bind_vector(gp_binder *binder, int64_t count, const char *name, ...) GP_PRINTF(3, 4);

/**
 * A tensor of any shape as f32 in host memory, for forms that are derived from it: free with gp_free. `shape`
 * has `rank` entries, GP_ANY ones are replaced by what is there. NULL when it was missing or misshapen.
 */
float *gp_bind_host(gp_binder *binder, int rank, int64_t *shape, const char *name, ...) GP_PRINTF(4, 5);

/** A copy of `count` host floats in backend memory that the model owns; NULL is noted as a problem. */
const float *gp_binder_place(gp_binder *binder, const float *host, size_t count);

/**
 * After all binding: fails with the list of problems when there are any. Otherwise sets `unexpected` (names
 * of tensors that nobody asked for and that are not known to serve other tasks, a few of them and their
 * number; left empty when there are none).
 */
bool gp_binder_finish(gp_binder *binder, const char *folder, gp_status *unexpected, gp_status *status);

/** Frees what the binder holds, but not `owned`'s memory. */
void gp_binder_clear(gp_binder *binder);
