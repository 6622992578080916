/** The parts of the stand-in for NCCL: a communicator, what is called on it, and how ranks carry it out
 * together. */
#pragma once

#include "kernels/cuda/nccl.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

enum { RANKS_MAX = 16, CALLS_MAX = 64 };

typedef enum kind { ALL_GATHER, BROADCAST, SEND, RECEIVE } kind;
extern const char *const kind_names[];

/** One call, as it travels; `from` and `to` mean something to its own rank alone. */
typedef struct call {
    kind kind;
    gp_nccl_type type;
    size_t bytes;
    int other; /* root or peer */
    const void *from;
    void *to;
} call;

typedef struct job {
    bool captured; /* a graph's: all ranks' are, or none's */
    int count;
    call calls[CALLS_MAX];
} job;

typedef struct gp_nccl_communicator {
    int rank, size;
    char name[sizeof(gp_communicator_id)];
    pthread_t thread;
    pthread_mutex_t mutex; /* of what is below */
    pthread_cond_t changed;
    gp_nccl_result state;
    bool has_job, running, finalized, ended;
    job job;
    int listening, peers[RANKS_MAX]; /* sockets; peers: of rank 0 all others, of others rank 0. -1: none */
    _Atomic int inside;              /* calls on it now */
    int captures;                    /* jobs that graphs have of it */
    struct gp_nccl_communicator *earlier;
} communicator;

/** Keeps the first misuse. */
gp_nccl_result misused(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** All of the bytes, or false where the other end has gone. */
bool send_all(int to, const void *bytes, size_t count);
bool receive_all(int from, void *bytes, size_t count);

/** Carries out c->job with the other ranks, who have theirs: a star, whose centre is rank 0. */
gp_nccl_result run_job(communicator *c);
