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
#include "tests/simt/nccl_standin_jobs.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

#ifndef NCCL_STANDIN_VERSION
#define NCCL_STANDIN_VERSION 22809
#endif

static _Thread_local int group_depth;
static _Thread_local communicator *group_of;
static _Thread_local job group_job;
static _Thread_local void *group_stream;

static communicator *_Atomic latest; /* all that were made */
static pthread_mutex_t misuse_mutex = PTHREAD_MUTEX_INITIALIZER;
static char misuse[256], told[256];
static _Atomic bool noticed;

static void *carry_out(void *argument);
static void close_sockets(communicator *c);
static bool has_ended(communicator *c);

gp_nccl_result misused(const char *format, ...) {
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
    while (c->running || (c->state == GP_NCCL_IN_PROGRESS && !c->ended))
        pthread_cond_wait(&c->changed, &c->mutex);
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
        c->running = false;
        if (result != GP_NCCL_REMOTE_ERROR || noticed) c->state = result;
        pthread_cond_broadcast(&c->changed);
        while (!c->has_job && !c->ended) pthread_cond_wait(&c->changed, &c->mutex);
        c->has_job = false;
        bool ended = c->ended;
        c->running = !ended;
        pthread_mutex_unlock(&c->mutex);
        if (ended) return NULL;
        result = run_job(c);
    }
}
