/**
 * A stand-in for NCCL, and no NCCL: the functions that kernels/cuda/nccl.h declares, over host memory, for
 * the emulator, whose device memory is the host's. Built as libnccl.so.2 in a folder of its own.
 *
 * Ranks are threads or processes. Each has a thread, which carries out what its rank called: a star of Unix
 * sockets, named by the unique id, whose centre is rank 0. A job is one call or one group of calls; every
 * rank sends rank 0 what it called and what it brings, rank 0 holds the calls against each other and sends to
 * each what it gets. Calls return ncclInProgress and are done when ncclCommGetAsyncError says so: this is
 * stricter than NCCL, which only has to have put them on a stream by then.
 *
 * What it refuses, and keeps as the process's misuse: calls on a communicator that is not ready, has ended or
 * is in use by another thread; sends and receives outside a group, which could wait for each other; groups
 * that do not match between ranks in order, kind, type, count or root, or that graphs have in some ranks and
 * not in others; sends without their receive; a communicator destroyed before it was finalised; arguments
 * that NCCL refuses. As NCCL's, an abort or a destruction returns when no graph has jobs of the communicator
 * any more. A communicator's memory stays when it has ended, so that a later use is seen.
 */
#include "kernels/cuda/nccl.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

enum { RANKS_MAX = 16, CALLS_MAX = 64 };
#ifndef NCCL_STANDIN_VERSION
#define NCCL_STANDIN_VERSION 22809
#endif

typedef enum kind { ALL_GATHER, BROADCAST, SEND, RECEIVE } kind;
static const char *const kind_names[] = {"ncclAllGather", "ncclBroadcast", "ncclSend", "ncclRecv"};

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
    bool has_job, finalized, ended;
    job job;
    int listening, peers[RANKS_MAX]; /* sockets; peers: of rank 0 all others, of others rank 0. -1: none */
    _Atomic int inside;              /* calls on it now */
    int captures;                    /* jobs that graphs have of it */
    struct gp_nccl_communicator *earlier;
} communicator;

static _Thread_local int group_depth;
static _Thread_local communicator *group_of;
static _Thread_local job group_job;
static _Thread_local void *group_stream;

static communicator *_Atomic latest; /* all that were made */
static pthread_mutex_t misuse_mutex = PTHREAD_MUTEX_INITIALIZER;
static char misuse[256], told[256];
static _Atomic bool noticed;

static void *carry_out(void *argument);
static gp_nccl_result run_job(communicator *c);
static void close_sockets(communicator *c);
static bool has_ended(communicator *c);

/** Keeps the first misuse. */
static gp_nccl_result misused(const char *format, ...) __attribute__((format(printf, 1, 2)));
static gp_nccl_result misused(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    pthread_mutex_lock(&misuse_mutex);
    if (misuse[0] == '\0') vsnprintf(misuse, sizeof misuse, format, arguments);
    pthread_mutex_unlock(&misuse_mutex);
    va_end(arguments);
    return GP_NCCL_INVALID_USAGE;
}

EXPORT const char *nccl_standin_take_misuse(void);
const char *nccl_standin_take_misuse(void) {
    pthread_mutex_lock(&misuse_mutex);
    memcpy(told, misuse, sizeof told);
    misuse[0] = '\0';
    pthread_mutex_unlock(&misuse_mutex);
    return told;
}

EXPORT void nccl_standin_notice(bool on);
void nccl_standin_notice(bool on) {
    noticed = on;
}

/* ---- calls ---- */

EXPORT gp_nccl_result ncclGetVersion(int *version);
gp_nccl_result ncclGetVersion(int *version) {
    *version = NCCL_STANDIN_VERSION;
    return GP_NCCL_SUCCESS;
}

EXPORT const char *ncclGetErrorString(gp_nccl_result result);
const char *ncclGetErrorString(gp_nccl_result result) {
    return result == GP_NCCL_INVALID_USAGE  ? "invalid usage (stand-in)"
           : result == GP_NCCL_REMOTE_ERROR ? "remote process exited (stand-in)"
                                            : "another error (stand-in)";
}

EXPORT gp_nccl_result ncclGetUniqueId(gp_communicator_id *id);
gp_nccl_result ncclGetUniqueId(gp_communicator_id *id) {
    static _Atomic unsigned made;
    memset(id, 0, sizeof *id);
    snprintf((char *)id->bytes, sizeof id->bytes, "geopixel-nccl-standin-%d-%u", (int)getpid(), made++);
    return GP_NCCL_SUCCESS;
}

EXPORT gp_nccl_result ncclCommInitRankConfig(communicator **handle, int size, gp_communicator_id id, int rank,
                                             gp_nccl_config *config);
gp_nccl_result ncclCommInitRankConfig(communicator **handle, int size, gp_communicator_id id, int rank,
                                      gp_nccl_config *config) {
    *handle = NULL;
    if (size < 1 || size > RANKS_MAX || rank < 0 || rank >= size) return misused("rank %d of %d", rank, size);
    if (config->size != sizeof *config || config->magic != GP_NCCL_CONFIG_MAGIC ||
        config->version != GP_NCCL_VERSION_MIN || config->blocking != 0)
        return misused("a configuration that is not the non-blocking one of 2.14");
    communicator *c = calloc(1, sizeof *c);
    if (c == NULL) return GP_NCCL_INTERNAL_ERROR;
    c->rank = rank;
    c->size = size;
    memcpy(c->name, id.bytes, sizeof c->name);
    c->state = GP_NCCL_IN_PROGRESS;
    c->listening = -1;
    for (int k = 0; k < RANKS_MAX; k++) c->peers[k] = -1;
    pthread_mutex_init(&c->mutex, NULL);
    pthread_cond_init(&c->changed, NULL);
    c->earlier = atomic_exchange(&latest, c);
    if (pthread_create(&c->thread, NULL, carry_out, c) != 0) abort();
    *handle = c;
    return GP_NCCL_IN_PROGRESS;
}

/** One thread at a time is in a communicator's calls: each is entered and left by these. */
static bool go_in(communicator *c, const char *what) {
    if (c->inside++ == 0) return true;
    misused("%s while another thread is in a call on the same communicator", what);
    return false;
}

/** Whether a call that gives work may come now. Its mutex is held. */
static bool is_ready(communicator *c, const char *what) {
    if (c->ended)
        misused("%s on a communicator that has ended", what);
    else if (c->finalized)
        misused("%s on a communicator that was finalised", what);
    else if (c->state == GP_NCCL_IN_PROGRESS)
        misused("%s while an earlier call goes on", what);
    else
        return c->state == GP_NCCL_SUCCESS;
    return false;
}

/** What a stream has captured, and does at each replay. */
typedef struct captured_job {
    communicator *communicator;
    job work;
} captured_job;

/** The emulator's, where the program has it: whether the stream captures; `argument` is copied then, given to
 * `run` at each replay, and to `forget` when no graph has it any more. */
extern bool simt_capture_call(void *stream, void (*run)(void *argument), void (*forget)(void *argument),
                              const void *argument, size_t bytes) __attribute__((weak));

static void replay(void *argument);
static void forget(void *argument);

/** Has the communicator's thread begin with it. The mutex is held. */
static gp_nccl_result begin_job(communicator *c, const job *work, const char *what) {
    if (!is_ready(c, what)) return GP_NCCL_INVALID_USAGE;
    c->job = *work;
    c->has_job = true;
    c->state = GP_NCCL_IN_PROGRESS;
    pthread_cond_broadcast(&c->changed);
    return GP_NCCL_IN_PROGRESS;
}

static gp_nccl_result give_job(communicator *c, const job *work, const char *what, void *stream) {
    gp_nccl_result result = GP_NCCL_INVALID_USAGE;
    if (stream != NULL && simt_capture_call != NULL) {
        captured_job captured = {c, *work};
        captured.work.captured = true;
        if (simt_capture_call(stream, replay, forget, &captured, sizeof captured)) {
            pthread_mutex_lock(&c->mutex);
            c->captures++;
            pthread_mutex_unlock(&c->mutex);
            return GP_NCCL_SUCCESS;
        }
    }
    bool alone = go_in(c, what);
    pthread_mutex_lock(&c->mutex);
    if (alone) result = begin_job(c, work, what);
    pthread_mutex_unlock(&c->mutex);
    c->inside--;
    return result;
}

/** As a graph is launched: the stream goes on when the job is done, or when the communicator has ended. */
static void replay(void *argument) {
    const captured_job *captured = argument;
    communicator *c = captured->communicator;
    pthread_mutex_lock(&c->mutex);
    if (!c->ended) begin_job(c, &captured->work, "a replay");
    while (c->state == GP_NCCL_IN_PROGRESS && !c->ended) pthread_cond_wait(&c->changed, &c->mutex);
    pthread_mutex_unlock(&c->mutex);
}

static void forget(void *argument) {
    const captured_job *captured = argument;
    communicator *c = captured->communicator;
    pthread_mutex_lock(&c->mutex);
    c->captures--;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->mutex);
}

static gp_nccl_result add_call(communicator *c, call added, void *stream) {
    const char *what = kind_names[added.kind];
    if (added.type != GP_NCCL_UINT8 && added.type != GP_NCCL_FLOAT32)
        return misused("%s of type %d", what, (int)added.type);
    if (added.type == GP_NCCL_FLOAT32) added.bytes *= sizeof(float);
    if (stream == NULL) return misused("%s on no stream", what);
    if (added.other < 0 || added.other >= c->size)
        return misused("%s with rank %d of %d", what, added.other, c->size);
    if (group_depth == 0) {
        if (added.kind == SEND || added.kind == RECEIVE)
            return misused("%s outside a group: two of them could wait for each other", what);
        job single = {false, 1, {added}};
        return give_job(c, &single, what, stream);
    }
    if (group_of != NULL && group_of != c) return misused("%s: two communicators in one group", what);
    if (group_job.count == CALLS_MAX) return misused("more than %d calls in a group", CALLS_MAX);
    group_of = c;
    group_stream = stream;
    group_job.calls[group_job.count++] = added;
    return GP_NCCL_SUCCESS;
}

EXPORT gp_nccl_result ncclAllGather(const void *x, void *y, size_t count, gp_nccl_type type, communicator *c,
                                    void *stream);
gp_nccl_result ncclAllGather(const void *x, void *y, size_t count, gp_nccl_type type, communicator *c,
                             void *stream) {
    return add_call(c, (call){ALL_GATHER, type, count, 0, x, y}, stream);
}

EXPORT gp_nccl_result ncclBroadcast(const void *x, void *y, size_t count, gp_nccl_type type, int root,
                                    communicator *c, void *stream);
gp_nccl_result ncclBroadcast(const void *x, void *y, size_t count, gp_nccl_type type, int root,
                             communicator *c, void *stream) {
    return add_call(c, (call){BROADCAST, type, count, root, x, y}, stream);
}

EXPORT gp_nccl_result ncclSend(const void *x, size_t count, gp_nccl_type type, int peer, communicator *c,
                               void *stream);
gp_nccl_result ncclSend(const void *x, size_t count, gp_nccl_type type, int peer, communicator *c,
                        void *stream) {
    return add_call(c, (call){SEND, type, count, peer, x, NULL}, stream);
}

EXPORT gp_nccl_result ncclRecv(void *y, size_t count, gp_nccl_type type, int peer, communicator *c,
                               void *stream);
gp_nccl_result ncclRecv(void *y, size_t count, gp_nccl_type type, int peer, communicator *c, void *stream) {
    return add_call(c, (call){RECEIVE, type, count, peer, NULL, y}, stream);
}

EXPORT gp_nccl_result ncclGroupStart(void);
gp_nccl_result ncclGroupStart(void) {
    if (group_depth++ > 0) return misused("a group in a group");
    group_of = NULL;
    group_job.count = 0;
    return GP_NCCL_SUCCESS;
}

EXPORT gp_nccl_result ncclGroupEnd(void);
gp_nccl_result ncclGroupEnd(void) {
    if (group_depth == 0) return misused("ncclGroupEnd without ncclGroupStart");
    group_depth--;
    return group_job.count == 0 ? GP_NCCL_SUCCESS
                                : give_job(group_of, &group_job, "ncclGroupEnd", group_stream);
}

EXPORT gp_nccl_result ncclCommGetAsyncError(communicator *c, gp_nccl_result *state);
gp_nccl_result ncclCommGetAsyncError(communicator *c, gp_nccl_result *state) {
    bool alone = go_in(c, "ncclCommGetAsyncError");
    pthread_mutex_lock(&c->mutex);
    if (c->ended) misused("ncclCommGetAsyncError on a communicator that has ended");
    *state = c->state;
    pthread_mutex_unlock(&c->mutex);
    c->inside--;
    return alone ? GP_NCCL_SUCCESS : GP_NCCL_INVALID_USAGE;
}

/** Ends the communicator's thread, whatever it waits for. */
static gp_nccl_result end(communicator *c, bool aborted, const char *what) {
    bool alone = go_in(c, what);
    pthread_mutex_lock(&c->mutex);
    gp_nccl_result result = alone ? GP_NCCL_SUCCESS : GP_NCCL_INVALID_USAGE;
    bool again = c->ended;
    if (again)
        result = misused("%s on a communicator that has ended", what);
    else if (!aborted && (!c->finalized || c->state != GP_NCCL_SUCCESS))
        result = misused("%s before the communicator was finalised", what);
    c->ended = true;
    for (int k = 0; k < c->size; k++)
        if (c->peers[k] >= 0) shutdown(c->peers[k], SHUT_RDWR);
    if (c->listening >= 0) shutdown(c->listening, SHUT_RDWR);
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->mutex);
    if (!again) {
        pthread_join(c->thread, NULL);
        close_sockets(c);
        pthread_mutex_lock(&c->mutex);
        while (c->captures > 0) pthread_cond_wait(&c->changed, &c->mutex);
        pthread_mutex_unlock(&c->mutex);
    }
    c->inside--;
    return result;
}

EXPORT gp_nccl_result ncclCommAbort(communicator *c);
gp_nccl_result ncclCommAbort(communicator *c) {
    return end(c, true, "ncclCommAbort");
}

EXPORT gp_nccl_result ncclCommDestroy(communicator *c);
gp_nccl_result ncclCommDestroy(communicator *c) {
    return end(c, false, "ncclCommDestroy");
}

/** A job of no calls, in which ranks meet. */
EXPORT gp_nccl_result ncclCommFinalize(communicator *c);
gp_nccl_result ncclCommFinalize(communicator *c) {
    job none = {.count = 0};
    gp_nccl_result result = give_job(c, &none, "ncclCommFinalize", NULL);
    if (result != GP_NCCL_IN_PROGRESS) return result;
    pthread_mutex_lock(&c->mutex);
    c->finalized = true;
    pthread_mutex_unlock(&c->mutex);
    return result;
}

/* ---- sockets ---- */

static bool has_ended(communicator *c) {
    pthread_mutex_lock(&c->mutex);
    bool ended = c->ended;
    pthread_mutex_unlock(&c->mutex);
    return ended;
}

/** Keeps a socket where an abort sees it; closes it where that has come. */
static bool keep_socket(communicator *c, int *place, int opened) {
    pthread_mutex_lock(&c->mutex);
    bool ended = c->ended;
    if (!ended) *place = opened;
    pthread_mutex_unlock(&c->mutex);
    if (ended) close(opened);
    return !ended;
}

static void close_sockets(communicator *c) {
    for (int k = 0; k < c->size; k++)
        if (c->peers[k] >= 0) close(c->peers[k]);
    if (c->listening >= 0) close(c->listening);
}

static bool send_all(int to, const void *bytes, size_t count) {
    for (const char *at = bytes; count > 0;) {
        ssize_t sent = send(to, at, count, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent <= 0) return false;
        at += sent;
        count -= (size_t)sent;
    }
    return true;
}

static bool receive_all(int from, void *bytes, size_t count) {
    for (char *at = bytes; count > 0;) {
        ssize_t got = recv(from, at, count, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        at += got;
        count -= (size_t)got;
    }
    return true;
}

/** Rank 0 waits for all others; they look for it until it is there. */
static bool connect_all(communicator *c) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strnlen(c->name, sizeof c->name);
    if (length > sizeof address.sun_path - 1) return false;
    memcpy(address.sun_path + 1, c->name, length); /* a name of Linux's, of no file */
    socklen_t bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length);
    if (c->rank > 0) {
        while (!has_ended(c)) {
            int opened = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
            if (opened < 0) return false;
            if (connect(opened, (struct sockaddr *)&address, bytes) == 0)
                return keep_socket(c, &c->peers[0], opened) && send_all(opened, &c->rank, sizeof c->rank) &&
                       receive_all(opened, &(int){0}, sizeof(int)); /* all have come */
            close(opened);
            usleep(1000);
        }
        return false;
    }
    int listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listening < 0 || !keep_socket(c, &c->listening, listening) ||
        bind(listening, (struct sockaddr *)&address, bytes) != 0 || listen(listening, RANKS_MAX) != 0)
        return false;
    for (int come = 1; come < c->size; come++) {
        int rank, opened = accept(listening, NULL, NULL);
        if (opened < 0) return false;
        bool said = receive_all(opened, &rank, sizeof rank); /* else it was killed since it came */
        if (!said || rank < 1 || rank >= c->size || c->peers[rank] >= 0) {
            close(opened);
            if (said) misused("a rank came twice, or is none of the group");
            return false;
        }
        if (!keep_socket(c, &c->peers[rank], opened)) return false;
    }
    for (int k = 1; k < c->size; k++)
        if (!send_all(c->peers[k], &(int){0}, sizeof(int))) return false;
    return true;
}

/** The communicator's thread. */
static void *carry_out(void *argument) {
    communicator *c = argument;
    gp_nccl_result result = connect_all(c) ? GP_NCCL_SUCCESS : GP_NCCL_REMOTE_ERROR;
    for (;;) {
        /* A rank that has gone: unless that is noticed, its work goes on for ever. */
        pthread_mutex_lock(&c->mutex);
        if (result != GP_NCCL_REMOTE_ERROR || noticed) c->state = result;
        pthread_cond_broadcast(&c->changed);
        while (!c->has_job && !c->ended) pthread_cond_wait(&c->changed, &c->mutex);
        c->has_job = false;
        bool ended = c->ended;
        pthread_mutex_unlock(&c->mutex);
        if (ended) return NULL;
        result = run_job(c);
    }
}

/* ---- jobs ---- */

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

static gp_nccl_result run_job(communicator *c) {
    if (c->rank > 0) return follow(c);
    meeting *m = calloc(1, sizeof *m);
    if (m == NULL) abort();
    gp_nccl_result result = lead(c, m);
    for (int k = 0; k < c->size; k++)
        for (int i = 0; i < CALLS_MAX; i++) free(m->bytes[k][i]);
    free(m);
    return result;
}
