/**
 * Takes tensors out of a checkpoint by name and shape, and places them with the backend. All that is missing
 * or misshapen is collected, so that one message lists everything. A dry binder asks for the same tensors and
 * counts the same bytes, but reads and places nothing: what inspections and plans are made of. A random one
 * has no checkpoint, takes every tensor for there, and places random numbers.
 */
#pragma once

#include "kernels/ops.h"
#include "loaders/weights/checkpoint.h"
#include "runtime/geopixel.h"
#include "runtime/split.h"

/** A dimension that any size fits; gp_bind reads it back from the tensor. `usual` is GeoPixel-7B's: what a
 * dry or random binder takes where there is no tensor to ask. */
#define GP_ANY(usual) (-(int64_t)(usual))

enum { GP_BOUND_RANK_MAX = 4 };

/** A tensor that the model needs, as it was asked for. */
typedef struct gp_wanted {
    char *name;              /* owned */
    const gp_tensor *tensor; /* NULL: the checkpoint has none of that name */
    gp_block block;
    int rank;
    int64_t shape[GP_BOUND_RANK_MAX]; /* below 0: any */
    char *problem;                    /* why the tensor does not serve, owned; NULL: it does */
} gp_wanted;

typedef struct gp_binder {
    gp_checkpoint *checkpoint; /* NULL: a dry or random binder takes every tensor for there, in bf16 */
    gp_backend
        *backend; /* a dry binder asks it for sizes alone, and needs none: then those of the files count */
    bool dry;
    bool random;        /* not dry, no checkpoint */
    gp_split split;     /* the rank whose part of the language model is bound */
    gp_block block;     /* that what is bound next belongs to */
    gp_status problems; /* a line each */
    int problem_count;
    gp_wanted *wanted; /* in the order of binding; sorted by tensor in gp_binder_sort */
    size_t wanted_count, wanted_capacity;
    gp_tensor assumed; /* what a dry or random binder takes for a tensor that is not as it should be */
    void **owned;      /* backend memory of converted tensors: handed to the model */
    size_t owned_count, owned_capacity;
    void **owned_host; /* host memory that placed matrices are of: handed to the model */
    size_t owned_host_count, owned_host_capacity;
    /* After each matrix that is placed; total_bytes: of all. May be NULL. */
    void (*on_placed)(void *user, uint64_t bytes, uint64_t total_bytes);
    void *user;
    uint64_t total_bytes;
    uint64_t weight_bytes;    /* of matrices, or the parts of them, as the files hold them */
    uint64_t placed_bytes;    /* of the same, as the backend holds them */
    uint64_t converted_bytes; /* of vectors and derived matrices, as the backend holds them */
} gp_binder;

/** A matrix [rows, columns] in the file's precision; rows and columns may be GP_ANY. printf-style name. */
gp_matrix gp_bind_matrix(gp_binder *binder, int64_t rows, int64_t columns, const char *name, ...)
    GP_PRINTF(4, 5);

/**
 * The same matrix, of which these parts of rows and columns are placed; NULL: all of them. One range without
 * padding is a view into the file, others are copied together in host memory, which the model owns where the
 * backend computes with it. Parts of nothing ask for the tensor and place none: without data.
 */
gp_matrix gp_bind_part(gp_binder *binder, int64_t rows, const gp_part *row_part, int64_t columns,
                       const gp_part *column_part, const char *name, ...) GP_PRINTF(6, 7);

/** A convolution kernel [out, in, side, side] as a matrix [out, in·side²]. */
gp_matrix gp_bind_convolution(gp_binder *binder, int64_t out, int64_t in, int64_t side, const char *name, ...)
    GP_PRINTF(5, 6);

/** A vector of `count` values as f32 in backend memory. */
const float *gp_bind_vector(gp_binder *binder, int64_t count, const char *name, ...) GP_PRINTF(3, 4);

/**
 * A tensor of any shape as f32 in host memory, for forms that are derived from it: free with gp_free. `shape`
 * has `rank` entries, GP_ANY ones are replaced by what is there. NULL when it was missing or misshapen, and
 * from a dry binder.
 */
float *gp_bind_host(gp_binder *binder, int rank, int64_t *shape, const char *name, ...) GP_PRINTF(4, 5);

/** Notes a problem (printf format) of the tensor that was wanted last: there, but of no use. */
void gp_binder_refuse(gp_binder *binder, const char *format, ...) GP_PRINTF(2, 3);

/** Host memory for a derived form of `count` values, free with gp_free; NULL where it cannot be had, and from
 * a dry binder, which derives nothing. */
float *gp_binder_derive(const gp_binder *binder, size_t count);

/**
 * A copy of `count` host floats in backend memory that the model owns; out of memory is noted as a problem.
 * `host` is NULL where what it is derived from, or the memory for it, was not there: gives NULL. A dry binder
 * only counts.
 */
const float *gp_binder_place(gp_binder *binder, const float *host, size_t count);

/**
 * A derived matrix [rows, columns] in f32, placed with the backend. Takes `host`, which gp_binder_derive gave
 * and the model owns from now on; NULL as for gp_binder_place.
 */
gp_matrix gp_binder_place_matrix(gp_binder *binder, float *host, int64_t rows, int64_t columns);

/**
 * After all binding: fails with the list of problems when there are any. Otherwise sets `unexpected` (names
 * of tensors that nobody asked for and that are not known to serve other tasks, a few of them and their
 * number; left empty when there are none).
 */
bool gp_binder_finish(gp_binder *binder, const char *folder, gp_status *unexpected, gp_status *status);

/** Sorts what was wanted by tensor, for gp_binder_wants. */
void gp_binder_sort(gp_binder *binder);

/** After gp_binder_sort: what the tensor was wanted for, or NULL. */
const gp_wanted *gp_binder_wants(const gp_binder *binder, const gp_tensor *tensor);

/** Whether a tensor of that name serves other tasks: never read, never worth a word. */
bool gp_serves_other_tasks(const char *name);

/** "[256, 1152, 1, 1]"; any size is "any". */
void gp_format_shape(const int64_t *shape, int rank, char text[160]);

/** Frees what the binder holds, but not the memory that `owned` and `owned_host` list. */
void gp_binder_clear(gp_binder *binder);
