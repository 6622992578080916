/**
 * What ranks do together: collective operations over backend memory, one communicator a rank. Ranks are
 * threads of one process, each with a backend of its own, or, on GPUs, processes too. Every rank makes the
 * same calls in the same order. kernels/cpu and kernels/cuda (by NCCL) implement this table.
 *
 * Rules for every operation:
 *  - it joins the backend's stream: it comes after the backend's operations before it, and those after it see
 *    its result; it may run asynchronously;
 *  - the sum of an all-reduce is ((x of rank 0 + x of rank 1) + x of rank 2) + …, in f32, for every element,
 *    whatever stands beside it and however many there are: a row gets the same bits in any company;
 *  - nothing is allocated after a communicator is open;
 *  - after an abort, by whomever, nothing blocks any more and results are not defined.
 */
#pragma once

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct gp_backend gp_backend;
typedef struct gp_communicator gp_communicator;

/** Names a group of ranks that is to be: made by one of them, given to all others by whatever means. */
typedef struct gp_communicator_id {
    unsigned char bytes[128]; /* as NCCL's */
} gp_communicator_id;

typedef struct gp_communicator_ops {
    /** x [count] = the sum over ranks, in place, on every rank. */
    void (*all_reduce)(gp_communicator *communicator, float *x, size_t count);
    /** y [size, bytes]: every rank brings y[rank] and gets all. */
    void (*all_gather)(gp_communicator *communicator, void *y, size_t bytes);
    /** x [bytes] of `root` to all. */
    void (*broadcast)(gp_communicator *communicator, void *x, size_t bytes, int root);
    /** What is called between is launched together; no operation of the backend may stand between, and none
     * of them may read another's result. all_reduce may not be among them. */
    void (*group_begin)(gp_communicator *communicator);
    void (*group_end)(gp_communicator *communicator);
    /** Ends the group's work, for all its ranks in this process at least, as soon as may be; from any
     * thread that is not itself between a group_begin and its end, any number of times. */
    void (*abort)(gp_communicator *communicator);
    /** After gp_backend's finish: whether all that was asked was done; false with `status` set after an
     * abort, and where the group failed by itself, which ends it as an abort does. From another thread, at
     * any time: whether nothing is known to have failed so far. */
    bool (*check)(gp_communicator *communicator, gp_status *status);
    /** Frees this rank's; every rank does, and none waits in an operation. */
    void (*destroy)(gp_communicator *communicator);
} gp_communicator_ops;

/** Implementations embed it as their first member. */
struct gp_communicator {
    const gp_communicator_ops *ops;
    int rank, size;
    size_t workspace_bytes; /* of backend memory, that it holds itself */
};
