/** Jobs of ranks of the stand-in for NCCL: rank 0 takes in what all have called and bring, holds the calls
 * against each other, and gives each what it gets. */
#include "tests/simt/nccl_standin_jobs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

const char *const kind_names[] = {"ncclAllGather", "ncclBroadcast", "ncclSend", "ncclRecv"};

bool send_all(int to, const void *bytes, size_t count) {
    for (const char *at = bytes; count > 0;) {
        ssize_t sent = send(to, at, count, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent <= 0) return false;
        at += sent;
        count -= (size_t)sent;
    }
    return true;
}

bool receive_all(int from, void *bytes, size_t count) {
    for (char *at = bytes; count > 0;) {
        ssize_t got = recv(from, at, count, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        at += got;
        count -= (size_t)got;
    }
    return true;
}

static size_t brought(const call *what, int rank) {
    bool brings =
        what->kind == ALL_GATHER || what->kind == SEND || (what->kind == BROADCAST && what->other == rank);
    return brings ? what->bytes : 0;
}

static size_t got(const call *what, int size) {
    return what->kind == SEND ? 0 : what->kind == ALL_GATHER ? what->bytes * (size_t)size : what->bytes;
}

/** All ranks' calls and what they bring, as rank 0 has them. */
typedef struct meeting {
    job jobs[RANKS_MAX];
    unsigned char *bytes[RANKS_MAX][CALLS_MAX];
} meeting;

/** The call at rank `peer` that answers call `index` of `rank`: of equal ones the same in order. */
static int answer(const meeting *m, int rank, int index) {
    const call *own = &m->jobs[rank].calls[index];
    int order = 0;
    for (int i = 0; i < index; i++)
        order += m->jobs[rank].calls[i].kind == own->kind && m->jobs[rank].calls[i].other == own->other;
    const job *there = &m->jobs[own->other];
    kind wanted = own->kind == SEND ? RECEIVE : SEND;
    for (int i = 0; i < there->count; i++)
        if (there->calls[i].kind == wanted && there->calls[i].other == rank && order-- == 0) return i;
    return -1;
}

/** Collective calls are the same at all ranks, in one order; sends and receives answer each other. */
static bool matches(const meeting *m, int size) {
    for (int rank = 0; rank < size; rank++) {
        const job *own = &m->jobs[rank], *first = &m->jobs[0];
        int at = 0; /* in rank 0's calls */
        if (own->captured != first->captured) {
            misused("a graph's operations at rank %d meet calls at rank %d", own->captured ? rank : 0,
                    own->captured ? 0 : rank);
            return false;
        }
        for (int i = 0; i < own->count; i++) {
            const call *c = &own->calls[i];
            if (c->kind == SEND || c->kind == RECEIVE) {
                int other = answer(m, rank, i);
                if (other < 0 || m->jobs[c->other].calls[other].bytes != c->bytes) {
                    misused("%s of %zu bytes between ranks %d and %d has no answer", kind_names[c->kind],
                            c->bytes, rank, c->other);
                    return false;
                }
                continue;
            }
            while (at < first->count && first->calls[at].kind > BROADCAST) at++;
            const call *other = &first->calls[at];
            if (at++ == first->count || other->kind != c->kind || other->type != c->type ||
                other->bytes != c->bytes || other->other != c->other) {
                misused("%s of %zu bytes at rank %d is not what rank 0 called", kind_names[c->kind], c->bytes,
                        rank);
                return false;
            }
        }
        while (at < first->count && first->calls[at].kind > BROADCAST) at++;
        if (at < first->count) {
            misused("rank %d lacks the %s that rank 0 called", rank, kind_names[first->calls[at].kind]);
            return false;
        }
    }
    return true;
}

/** The place among rank `rank`'s calls of the collective that is call `index` of rank `of`. */
static int same_collective(const meeting *m, int of, int index, int rank) {
    int order = 0;
    for (int i = 0; i < index; i++) order += m->jobs[of].calls[i].kind <= BROADCAST;
    for (int i = 0;; i++)
        if (m->jobs[rank].calls[i].kind <= BROADCAST && order-- == 0) return i;
}

/** What call `index` of `rank` gives it, `target` of `got` bytes. */
static void assemble(const meeting *m, int size, int rank, int index, unsigned char *target) {
    const call *c = &m->jobs[rank].calls[index];
    if (c->kind == RECEIVE) memcpy(target, m->bytes[c->other][answer(m, rank, index)], c->bytes);
    if (c->kind == BROADCAST)
        memcpy(target, m->bytes[c->other][same_collective(m, rank, index, c->other)], c->bytes);
    for (int k = 0; c->kind == ALL_GATHER && k < size; k++)
        memcpy(target + (size_t)k * c->bytes, m->bytes[k][same_collective(m, rank, index, k)], c->bytes);
}

static void *memory(size_t bytes) {
    void *given = malloc(bytes + 1);
    if (given == NULL) abort();
    return given;
}

/** Rank 0's part: takes all in, compares, gives all out. */
static gp_nccl_result lead(communicator *c, meeting *m) {
    m->jobs[0] = c->job;
    for (int k = 0; k < c->size; k++) {
        job *theirs = &m->jobs[k];
        if (k > 0 && !receive_all(c->peers[k], theirs, sizeof *theirs)) return GP_NCCL_REMOTE_ERROR;
        for (int i = 0; i < theirs->count; i++) {
            size_t bytes = brought(&theirs->calls[i], k);
            m->bytes[k][i] = memory(bytes);
            if (k == 0 && bytes > 0) memcpy(m->bytes[k][i], theirs->calls[i].from, bytes);
            if (k > 0 && !receive_all(c->peers[k], m->bytes[k][i], bytes)) return GP_NCCL_REMOTE_ERROR;
        }
    }
    gp_nccl_result result = matches(m, c->size) ? GP_NCCL_SUCCESS : GP_NCCL_INVALID_USAGE;
    for (int k = 1; k < c->size; k++)
        if (!send_all(c->peers[k], &result, sizeof result)) return GP_NCCL_REMOTE_ERROR;
    for (int k = 0; result == GP_NCCL_SUCCESS && k < c->size; k++)
        for (int i = 0; i < m->jobs[k].count; i++) {
            size_t bytes = got(&m->jobs[k].calls[i], c->size);
            unsigned char *given = memory(bytes);
            if (bytes > 0) assemble(m, c->size, k, i, given);
            if (k == 0 && bytes > 0) memcpy(c->job.calls[i].to, given, bytes);
            bool sent = k == 0 || send_all(c->peers[k], given, bytes);
            free(given);
            if (!sent) return GP_NCCL_REMOTE_ERROR;
        }
    return result;
}

static gp_nccl_result follow(communicator *c) {
    gp_nccl_result result = GP_NCCL_SUCCESS;
    bool done = send_all(c->peers[0], &c->job, sizeof c->job);
    for (int i = 0; done && i < c->job.count; i++)
        done = send_all(c->peers[0], c->job.calls[i].from, brought(&c->job.calls[i], c->rank));
    done = done && receive_all(c->peers[0], &result, sizeof result);
    for (int i = 0; done && result == GP_NCCL_SUCCESS && i < c->job.count; i++)
        done = receive_all(c->peers[0], c->job.calls[i].to, got(&c->job.calls[i], c->size));
    return done ? result : GP_NCCL_REMOTE_ERROR;
}

gp_nccl_result run_job(communicator *c) {
    if (c->rank > 0) return follow(c);
    meeting *m = calloc(1, sizeof *m);
    if (m == NULL) abort();
    gp_nccl_result result = lead(c, m);
    for (int k = 0; k < c->size; k++)
        for (int i = 0; i < CALLS_MAX; i++) free(m->bytes[k][i]);
    free(m);
    return result;
}
