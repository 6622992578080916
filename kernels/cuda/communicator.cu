/**
 * Ranks on GPUs: the communicator interface over NCCL.
 *
 * The all-reduce is ours, since NCCL's does not promise an order. Every rank's x falls into `size` shares and
 * a rest. In one group of NCCL's calls rank k gets share k from all, and all get all rests; a kernel adds
 * the ranks in their order; the shares are then gathered in place. Up to kGatheredWhole elements all is rest:
 * one exchange instead of two, for more bytes.
 *
 *   sum_ranks: one thread an element, f32 sums, ranks in order. Reads `size` times and writes once what this
 *   rank adds up: 4·(size + 1)·count/size bytes, or 4·(size + 1)·count where all is rest. Floor by bytes on
 *   an H200 (4.8 TB/s), 8 ranks: 4096 rows of 4096 15.7 µs, 1 row 31 ns (a launch is more).
 *   Links: 8·count·(size − 1)/size bytes come in at each rank, or 4·count·(size − 1) where all is rest.
 *   Speed has been measured on no GPU.
 *
 * NCCL's communicators are non-blocking: a call that waits for other ranks, the first of them for their
 * coming, goes on in a thread of NCCL's and is polled here, so that an abort can come between. An abort frees
 * NCCL's communicator; therefore every other call on it is made under its mutex, and none of them waits.
 * Ranks of one process know each other: an abort of one is an abort of all of them. NCCL's own abort first
 * stops what runs and then waits until nobody has a graph any more that its operations were captured in; who
 * aborts may be who is to forget them, so a thread of ours waits in it, and who destroys a rank for that.
 */
#include "kernels/cuda/device.h"
#include "kernels/cuda/operations.h"

extern "C" {
#include "kernels/base/memory.h"
#include "kernels/base/threads.h"
#include "kernels/cuda/nccl.h"
}

#include <pthread.h>
#include <string.h>
#include <unistd.h>

namespace gp_cuda {
namespace {

constexpr size_t kGatheredWhole = GP_CUDA_GATHERED_WHOLE, kShareAlignment = GP_CUDA_SHARE_ALIGNMENT;
constexpr int kRanksMax = 1024;
constexpr unsigned kThreads = 256;
constexpr useconds_t kPauseMax = 1000; // µs between two looks at a call that goes on

struct Group;

struct Communicator {
    gp_communicator base;
    gp_backend *backend;
    const gp_nccl *nccl;
    Group *group;
    Communicator *next;     // of the group in this process
    pthread_mutex_t mutex;  // around every call on `handle`, and what is below
    gp_nccl_handle handle;  // null: ended
    gp_nccl_handle ending;  // what it was, until its abort is over; groups_mutex is around it
    bool captured;          // graphs have had operations of it
    bool grouped;           // the driving thread has the mutex from group_begin to group_end
    gp_nccl_result failure; // the first
    const char *called, *failed_in;
    float *workspace;
    size_t most;
};

/** The ranks of this process that have one id. One that was ended stays, so that those who come late learn of
 * it. */
struct Group {
    gp_communicator_id id;
    int size;
    bool ended;
    Communicator *members;
    Group *next;
};

pthread_mutex_t groups_mutex = PTHREAD_MUTEX_INITIALIZER; // taken before a communicator's
pthread_cond_t aborted = PTHREAD_COND_INITIALIZER;
Group *groups;

Communicator &communicator_of(gp_communicator *communicator) {
    return *reinterpret_cast<Communicator *>(communicator);
}

__global__ void sum_ranks(float *x, const float *parts, int64_t count, int rank, int size) {
    int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= count) return;
    float own = x[i];
    float sum = rank == 0 ? own : parts[i];
    for (int k = 1; k < size; k++) sum += k == rank ? own : parts[k * count + i];
    x[i] = sum;
}

/** Elements of a rank's share; the rest is less than size · kShareAlignment, or all. */
size_t share_of(size_t count, size_t size) {
    return count <= kGatheredWhole ? 0 : count / (size * kShareAlignment) * kShareAlignment;
}

/* ---- calls ---- */

/** Keeps the first failure. */
void keep(Communicator &own, gp_nccl_result result) {
    if (result == GP_NCCL_SUCCESS || result == GP_NCCL_IN_PROGRESS || own.failure != GP_NCCL_SUCCESS) return;
    own.failure = result;
    own.failed_in = own.called;
}

/** Aborts one that is ending. It does not leave the group meanwhile. */
void *abort_member(void *argument) {
    Communicator &own = *static_cast<Communicator *>(argument);
    own.nccl->abort(own.ending);
    pthread_mutex_lock(&groups_mutex);
    own.ending = nullptr;
    pthread_cond_broadcast(&aborted);
    pthread_mutex_unlock(&groups_mutex);
    return nullptr;
}

bool start_abort(Communicator &own) {
    pthread_t thread;
    return gp_thread_create(&thread, abort_member, &own) == 0 && pthread_detach(thread) == 0;
}

/** Ends all of the group's ranks in this process: no call of theirs is made from here on. All at once, since
 * graphs of one may wait for another. */
void end_group(Group &group) {
    pthread_mutex_lock(&groups_mutex);
    group.ended = true;
    for (Communicator *each = group.members; each != nullptr;) {
        pthread_mutex_lock(&each->mutex);
        gp_nccl_handle handle = each->handle;
        each->handle = nullptr;
        pthread_mutex_unlock(&each->mutex);
        if (handle != nullptr) each->ending = handle;
        if (handle == nullptr || start_abort(*each)) {
            each = each->next;
            continue;
        }
        pthread_mutex_unlock(&groups_mutex); // no thread: here
        abort_member(each);
        pthread_mutex_lock(&groups_mutex);
        each = group.members; // some may have left
    }
    pthread_mutex_unlock(&groups_mutex);
}

/** Takes the communicator for a call of NCCL's; false where it was ended. */
bool take(Communicator &own, const char *called) {
    if (!own.grouped) pthread_mutex_lock(&own.mutex);
    own.called = called;
    own.captured = own.captured || of(own.backend).recording;
    return own.handle != nullptr;
}

/** Until NCCL does nothing with the rank's memory any more; not where it waits for graphs first. */
void await_end(Communicator &own) {
    pthread_mutex_lock(&groups_mutex);
    while (own.ending != nullptr && !own.captured) pthread_cond_wait(&aborted, &groups_mutex);
    pthread_mutex_unlock(&groups_mutex);
}

/** Gives it back once what was called is on the stream. What fails ends the group: others wait for it. */
void give(Communicator &own) {
    if (own.grouped) return; // all waits for the end of the group
    for (useconds_t pause = 0; own.handle != nullptr && own.failure == GP_NCCL_SUCCESS;) {
        gp_nccl_result state = GP_NCCL_SUCCESS;
        keep(own, own.nccl->get_async_error(own.handle, &state));
        keep(own, state);
        if (state != GP_NCCL_IN_PROGRESS) break;
        pthread_mutex_unlock(&own.mutex);
        usleep(pause);
        pause = pause < kPauseMax / 2 ? 2 * pause + 1 : kPauseMax;
        pthread_mutex_lock(&own.mutex);
    }
    bool failed = own.failure != GP_NCCL_SUCCESS, ended = own.handle == nullptr;
    pthread_mutex_unlock(&own.mutex);
    if (failed) end_group(*own.group);
    if (failed || ended) await_end(own);
}

void *stream_of(const Communicator &own) {
    return of(own.backend).stream;
}

/* ---- the operations ---- */

void group_begin(gp_communicator *communicator) {
    Communicator &own = communicator_of(communicator);
    if (take(own, "ncclGroupStart")) keep(own, own.nccl->group_start());
    own.grouped = true;
}

void group_end(gp_communicator *communicator) {
    Communicator &own = communicator_of(communicator);
    if (take(own, "ncclGroupEnd")) keep(own, own.nccl->group_end());
    own.grouped = false;
    give(own);
}

void gather(Communicator &own, const void *x, void *y, size_t count, gp_nccl_type type) {
    if (count == 0) return;
    if (take(own, "ncclAllGather"))
        keep(own, own.nccl->all_gather(x, y, count, type, own.handle, stream_of(own)));
    give(own);
}

void all_gather(gp_communicator *communicator, void *y, size_t bytes) {
    auto *own = static_cast<const char *>(y) + static_cast<size_t>(communicator->rank) * bytes;
    gather(communicator_of(communicator), own, y, bytes, GP_NCCL_UINT8);
}

void broadcast(gp_communicator *communicator, void *x, size_t bytes, int root) {
    Communicator &own = communicator_of(communicator);
    if (bytes == 0) return;
    if (take(own, "ncclBroadcast"))
        keep(own, own.nccl->broadcast(x, x, bytes, GP_NCCL_UINT8, root, own.handle, stream_of(own)));
    give(own);
}

/** In a group: x [count] to `peer`, and y [count] from there. */
void swap(Communicator &own, const float *x, float *y, size_t count, int peer) {
    if (take(own, "ncclSend"))
        keep(own, own.nccl->send(x, count, GP_NCCL_FLOAT32, peer, own.handle, stream_of(own)));
    if (take(own, "ncclRecv"))
        keep(own, own.nccl->receive(y, count, GP_NCCL_FLOAT32, peer, own.handle, stream_of(own)));
}

void sum(Communicator &own, float *x, const float *parts, size_t count) {
    if (count > 0)
        GP_RUN(own.backend, sum_ranks, blocks_for(static_cast<int64_t>(count), kThreads), kThreads, 0, x,
               parts, static_cast<int64_t>(count), own.base.rank, own.base.size);
}

void all_reduce(gp_communicator *communicator, float *x, size_t count) {
    Communicator &own = communicator_of(communicator);
    auto size = static_cast<size_t>(own.base.size), rank = static_cast<size_t>(own.base.rank);
    if (count > own.most) {
        take(own, "an all-reduce of more than join was told");
        keep(own, GP_NCCL_INVALID_ARGUMENT);
        give(own);
        return;
    }
    if (size == 1) return;
    size_t share = share_of(count, size), rest = count - size * share;
    float *shares = own.workspace, *rests = shares + size * share, *rest_of_x = x + size * share;
    group_begin(communicator);
    for (size_t k = 0; share > 0 && k < size; k++)
        if (k != rank) swap(own, x + k * share, shares + k * share, share, static_cast<int>(k));
    gather(own, rest_of_x, rests, rest, GP_NCCL_FLOAT32);
    group_end(communicator);
    sum(own, x + rank * share, shares, share);
    sum(own, rest_of_x, rests, rest);
    gather(own, x + rank * share, x, share, GP_NCCL_FLOAT32);
}

void abort(gp_communicator *communicator) {
    end_group(*communicator_of(communicator).group);
}

bool check(gp_communicator *communicator, gp_status *status) {
    Communicator &own = communicator_of(communicator);
    int rank = own.base.rank, size = own.base.size;
    pthread_mutex_lock(&own.mutex);
    if (own.handle != nullptr) {
        gp_nccl_result state = GP_NCCL_SUCCESS;
        keep(own, own.nccl->get_async_error(own.handle, &state));
        keep(own, state);
    }
    bool ended = own.handle == nullptr;
    gp_nccl_result failure = own.failure;
    const char *failed_in = own.failed_in;
    pthread_mutex_unlock(&own.mutex);
    if (ended) await_end(own);
    if (failure == GP_NCCL_SUCCESS) return !ended || gp_fail(status, "the group of %d ranks was ended", size);
    end_group(*own.group);
    await_end(own);
    return gp_fail(status, "rank %d of %d, and its group is ended: %s: %s", rank, size, failed_in,
                   own.nccl->get_error_string(failure));
}

/* ---- coming and going ---- */

/** Adds a communicator to its group. The group is made where it is the first here. */
bool enter_group(Communicator &own, const gp_communicator_id *id, gp_status *status) {
    int rank = own.base.rank, size = own.base.size;
    pthread_mutex_lock(&groups_mutex);
    Group *group = groups;
    while (group != nullptr && memcmp(&group->id, id, sizeof *id) != 0) group = group->next;
    if (group == nullptr) {
        group = static_cast<Group *>(gp_allocate_zeroed(1, sizeof(Group)));
        if (group != nullptr) {
            *group = {*id, size, false, nullptr, groups};
            groups = group;
        }
    }
    bool fits = group != nullptr && !group->ended && group->size == size;
    if (fits) {
        own.group = group;
        own.next = group->members;
        group->members = &own;
    } else if (group == nullptr) {
        gp_fail(status, "no memory for a group of ranks");
    } else if (group->ended) {
        gp_fail(status, "the group of %d ranks was ended before rank %d had joined", size, rank);
    } else {
        gp_fail(status, "rank %d of %d cannot join a group of %d ranks", rank, size, group->size);
    }
    pthread_mutex_unlock(&groups_mutex);
    return fits;
}

/** Takes it out, once no abort looks at it any more; the last of a group that was not ended frees that. */
void leave_group(Communicator &own) {
    pthread_mutex_lock(&groups_mutex);
    while (own.ending != nullptr) pthread_cond_wait(&aborted, &groups_mutex);
    Communicator **at = &own.group->members;
    while (*at != &own) at = &(*at)->next;
    *at = own.next;
    if (own.handle != nullptr) own.nccl->destroy(own.handle);
    if (own.group->members == nullptr && !own.group->ended) {
        Group **link = &groups;
        while (*link != own.group) link = &(*link)->next;
        *link = own.group->next;
        gp_free(own.group);
    }
    pthread_mutex_unlock(&groups_mutex);
}

void free_communicator(Communicator &own) {
    if (own.group != nullptr) leave_group(own);
    own.backend->ops->release(own.backend, own.workspace);
    pthread_mutex_destroy(&own.mutex);
    gp_free(&own);
}

void destroy(gp_communicator *communicator) {
    Communicator &own = communicator_of(communicator);
    if (take(own, "ncclCommFinalize")) keep(own, own.nccl->finalize(own.handle));
    give(own);
    free_communicator(own);
}

const gp_communicator_ops communicator_operations = {all_reduce, all_gather, broadcast, group_begin,
                                                     group_end,  abort,      check,     destroy};

/** Starts NCCL's own join and waits for its end. Others may abort it from then on. */
bool meet(Communicator &own, const gp_communicator_id *id, gp_communicator **communicator,
          gp_status *status) {
    gp_nccl_config config = {sizeof config, GP_NCCL_CONFIG_MAGIC, GP_NCCL_VERSION_MIN, 0};
    int rank = own.base.rank, size = own.base.size;
    take(own, "ncclCommInitRankConfig");
    gp_nccl_result result = own.nccl->init_rank(&own.handle, size, *id, rank, &config);
    keep(own, result);
    __atomic_store_n(communicator, &own.base, __ATOMIC_RELEASE);
    give(own);
    if (check(&own.base, status)) return true;
    return gp_fail_more(status, " before rank %d had joined", rank);
}

} // namespace

bool communicator_id(gp_communicator_id *id, gp_status *status) {
    const gp_nccl *nccl;
    if (!gp_nccl_load(&nccl, status)) return false;
    gp_nccl_result result = nccl->get_unique_id(id);
    return result == GP_NCCL_SUCCESS ||
           gp_fail(status, "ncclGetUniqueId: %s", nccl->get_error_string(result));
}

bool join(gp_backend *backend, const gp_communicator_id *id, int rank, int size, size_t most,
          gp_communicator **communicator, gp_status *status) {
    const gp_nccl *nccl;
    if (size < 1 || size > kRanksMax || rank < 0 || rank >= size)
        return gp_fail(status, "rank %d of %d: ranks are counted from 0, and there are 1 to %d", rank, size,
                       kRanksMax);
    if (!gp_nccl_load(&nccl, status)) return false;
    auto *own = static_cast<Communicator *>(gp_allocate_zeroed(1, sizeof(Communicator)));
    if (own == nullptr) return gp_fail(status, "no memory for rank %d", rank);
    size_t bytes = gp_cuda_communicator_bytes(size, most);
    own->base = {&communicator_operations, rank, size, bytes};
    own->backend = backend;
    own->nccl = nccl;
    own->most = most;
    pthread_mutex_init(&own->mutex, nullptr);
    own->workspace = static_cast<float *>(backend->ops->allocate(backend, bytes));
    bool done = own->workspace != nullptr || gp_fail(status, "rank %d of %d: no %zu bytes on %s to sum in",
                                                     rank, size, bytes, backend->name);
    if (done && enter_group(*own, id, status)) return meet(*own, id, communicator, status);
    free_communicator(*own);
    return false;
}

} // namespace gp_cuda
