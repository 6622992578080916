/**
 * A group is a meeting place in memory: each rank lays down where its buffer is, all wait for the last, each
 * does its share of the work on everybody's buffers, and all wait again before they go on.
 */
#include "kernels/cpu/communicator.h"

#include "kernels/base/memory.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

enum { RANKS_MAX = 1024 };

/** What all ranks of a process share. Made with its id, freed by the last rank that leaves: all have to
 * join, once. */
typedef struct group {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int size; /* 0 until the first has come */
    int joined, left;
    int waiting, leaving; /* ranks at the meeting, at the parting that is to be */
    uint64_t met, parted; /* so far */
    bool aborted;
    void **buffers; /* [size] */
} group;

typedef struct cpu_communicator {
    gp_communicator base;
    group *group;
} cpu_communicator;

/** An id of this backend. */
typedef struct id_content {
    char magic[8];
    pid_t process;
    group *group;
} id_content;

static const char MAGIC[8] = "cpuranks";
static const gp_communicator_ops operations;

static void free_group(group *g) {
    pthread_cond_destroy(&g->changed);
    pthread_mutex_destroy(&g->mutex);
    gp_free(g->buffers);
    gp_free(g);
}

/* Ranks sum in each other's memory. */
size_t gp_cpu_communicator_bytes(int size, size_t most) {
    (void)size;
    (void)most;
    return 0;
}

bool gp_cpu_communicator_id(gp_communicator_id *id, gp_status *status) {
    _Static_assert(sizeof(id_content) <= sizeof *id, "an id has room for it");
    group *g = gp_allocate_zeroed(1, sizeof *g);
    if (g == NULL) return gp_fail(status, "no memory for a group of ranks");
    pthread_mutex_init(&g->mutex, NULL);
    pthread_cond_init(&g->changed, NULL);
    id_content content = {.process = getpid(), .group = g};
    memcpy(content.magic, MAGIC, sizeof content.magic);
    *id = (gp_communicator_id){{0}};
    memcpy(id, &content, sizeof content);
    return true;
}

/** Waits for all ranks. False for all of them where an abort came before the last. */
static bool meet(group *g) {
    pthread_mutex_lock(&g->mutex);
    uint64_t meeting = g->met;
    if (!g->aborted && ++g->waiting == g->size) {
        g->waiting = 0;
        g->met++;
        pthread_cond_broadcast(&g->changed);
    }
    while (g->met == meeting && !g->aborted) pthread_cond_wait(&g->changed, &g->mutex);
    bool met = g->met != meeting;
    pthread_mutex_unlock(&g->mutex);
    return met;
}

/** Waits, after a meeting, until all ranks have done what they met for: buffers are their owners' again. No
 * abort ends that, as none of them waits for anything else. */
static void part(group *g) {
    pthread_mutex_lock(&g->mutex);
    uint64_t parting = g->parted;
    if (++g->leaving == g->size) {
        g->leaving = 0;
        g->parted++;
        pthread_cond_broadcast(&g->changed);
    }
    while (g->parted == parting) pthread_cond_wait(&g->changed, &g->mutex);
    pthread_mutex_unlock(&g->mutex);
}

bool gp_cpu_join(gp_backend *backend, const gp_communicator_id *id, int rank, int size, size_t most,
                 gp_communicator **communicator, gp_status *status) {
    (void)backend;
    (void)most;
    id_content content;
    memcpy(&content, id, sizeof content);
    if (memcmp(content.magic, MAGIC, sizeof content.magic) != 0 || content.process != getpid())
        return gp_fail(status,
                       "the CPU backend's ranks are threads of one process: rank %d of %d is not in "
                       "that of the first",
                       rank, size);
    if (size < 1 || size > RANKS_MAX || rank < 0 || rank >= size)
        return gp_fail(status, "rank %d of %d: ranks are counted from 0, and there are 1 to %d", rank, size,
                       RANKS_MAX);
    group *g = content.group;
    cpu_communicator *own = gp_allocate_zeroed(1, sizeof *own);
    if (own == NULL) return gp_fail(status, "no memory for rank %d", rank);
    pthread_mutex_lock(&g->mutex);
    if (g->size == 0) {
        g->buffers = gp_allocate_zeroed((size_t)size, sizeof *g->buffers);
        if (g->buffers != NULL) g->size = size;
    }
    bool fits = g->size == size && g->joined < size;
    if (fits) g->joined++;
    int others = g->size;
    pthread_mutex_unlock(&g->mutex);
    if (!fits) {
        gp_free(own);
        return gp_fail(status, "rank %d of %d cannot join a group of %d ranks", rank, size, others);
    }
    *own = (cpu_communicator){{&operations, rank, size, 0}, g};
    __atomic_store_n(communicator, &own->base, __ATOMIC_RELEASE);
    if (meet(g)) return true;
    return gp_fail(status, "the group of %d ranks was ended before rank %d had joined", size, rank);
}

static group *group_of(gp_communicator *communicator) {
    return ((cpu_communicator *)communicator)->group;
}

/** Lays down this rank's buffer and waits for all others'. */
static bool bring(gp_communicator *communicator, void *buffer) {
    group *g = group_of(communicator);
    g->buffers[communicator->rank] = buffer;
    return meet(g);
}

/** Each rank sums a share of the elements, and writes it to all. */
static void all_reduce(gp_communicator *communicator, float *x, size_t count) {
    group *g = group_of(communicator);
    size_t size = (size_t)communicator->size, rank = (size_t)communicator->rank;
    size_t each = count / size, rest = count % size;
    size_t first = rank * each + (rank < rest ? rank : rest), end = first + each + (rank < rest ? 1 : 0);
    if (!bring(communicator, x)) return;
    for (size_t i = first; i < end; i++) {
        float sum = ((const float *)g->buffers[0])[i];
        for (size_t k = 1; k < size; k++) sum += ((const float *)g->buffers[k])[i];
        for (size_t k = 0; k < size; k++) ((float *)g->buffers[k])[i] = sum;
    }
    part(g);
}

static void all_gather(gp_communicator *communicator, void *y, size_t bytes) {
    group *g = group_of(communicator);
    if (!bring(communicator, y)) return;
    for (size_t k = 0; k < (size_t)communicator->size; k++)
        if (k != (size_t)communicator->rank && bytes > 0)
            memcpy((char *)y + k * bytes, (const char *)g->buffers[k] + k * bytes, bytes);
    part(g);
}

static void broadcast(gp_communicator *communicator, void *x, size_t bytes, int root) {
    group *g = group_of(communicator);
    if (!bring(communicator, x)) return;
    if (communicator->rank != root && bytes > 0) memcpy(x, g->buffers[root], bytes);
    part(g);
}

/** Operations here are done when they return. */
static void group_begin_or_end(gp_communicator *communicator) {
    (void)communicator;
}

static void abort_group(gp_communicator *communicator) {
    group *g = group_of(communicator);
    pthread_mutex_lock(&g->mutex);
    g->aborted = true;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->mutex);
}

static bool check(gp_communicator *communicator, gp_status *status) {
    group *g = group_of(communicator);
    pthread_mutex_lock(&g->mutex);
    bool aborted = g->aborted;
    pthread_mutex_unlock(&g->mutex);
    return !aborted || gp_fail(status, "the group of %d ranks was ended", communicator->size);
}

static void destroy(gp_communicator *communicator) {
    group *g = group_of(communicator);
    pthread_mutex_lock(&g->mutex);
    bool last = ++g->left == g->size;
    pthread_mutex_unlock(&g->mutex);
    if (last) free_group(g);
    gp_free(communicator);
}

static const gp_communicator_ops operations = {.all_reduce = all_reduce,
                                               .all_gather = all_gather,
                                               .broadcast = broadcast,
                                               .group_begin = group_begin_or_end,
                                               .group_end = group_begin_or_end,
                                               .abort = abort_group,
                                               .check = check,
                                               .destroy = destroy};
