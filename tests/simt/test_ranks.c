/**
 * Ranks on emulated GPUs beyond what test_communicator asks of threads: 2 to 4 ranks as processes, one of
 * them killed anywhere, aborts of a join and of an operation by a watcher, libraries that will not do, calls
 * that are wrong, and that the stand-in for NCCL sees what is wrong.
 */
#include "kernels/base/memory.h"
#include "kernels/ops.h"
#include "tests/simt/nccl_standin.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

enum { RANKS_MAX = 4, COUNT_MAX = 100000 };

static uint64_t seed, first_seed;

/** What a rank brings: the same in every process and thread. */
static float number(int rank, size_t index) {
    uint64_t state = first_seed + 1000003 * (uint64_t)(rank + 1) + 7919 * (uint64_t)index;
    if (state == 0) state = 1;
    random_bits(&state);
    return random_float(&state) * 1e3f;
}

static gp_backend *open_device(int device) {
    gp_backend *backend = NULL;
    gp_status status = {0};
    REQUIRE(gp_backend_open_cuda(device, &backend, &status), "%s", status.message);
    return backend;
}

static float *numbers_on(gp_backend *backend, int rank, size_t count) {
    float *host = gp_allocate(count * sizeof *host), *memory;
    REQUIRE(host != NULL, "memory");
    for (size_t i = 0; i < count; i++) host[i] = number(rank, i);
    memory = backend->ops->allocate(backend, count * sizeof *host);
    REQUIRE(memory != NULL, "memory");
    backend->ops->upload(backend, memory, host, count * sizeof *host);
    gp_free(host);
    return memory;
}

static bool finish(gp_backend *backend, gp_communicator *c, gp_status *status) {
    CHECK(backend->ops->finish(backend, NULL), "the backend's own operations");
    return c->ops->check(c, status);
}

/** One all-reduce, compared with the sum in rank order; true while the group works. */
static bool reduce(gp_backend *backend, gp_communicator *c, size_t count, gp_status *status) {
    float *x = numbers_on(backend, c->rank, count), *host = gp_allocate(count * sizeof *host);
    REQUIRE(host != NULL, "memory");
    c->ops->all_reduce(c, x, count);
    bool done = finish(backend, c, status);
    backend->ops->download(backend, host, x, count * sizeof *host);
    size_t wrong = 0;
    for (size_t i = 0; done && i < count; i++) {
        float sum = number(0, i);
        for (int k = 1; k < c->size; k++) sum += number(k, i);
        wrong += memcmp(&sum, &host[i], sizeof sum) != 0;
    }
    CHECK(wrong == 0, "%zu of %zu sums at rank %d of %d", wrong, count, c->rank, c->size);
    backend->ops->release(backend, x);
    gp_free(host);
    return done;
}

static gp_communicator_id new_id(void) {
    const gp_nccl *nccl;
    gp_communicator_id id;
    REQUIRE(gp_nccl_load(&nccl, NULL) && nccl->get_unique_id(&id) == GP_NCCL_SUCCESS, "no id");
    return id;
}

/* ---- processes ---- */

/** The communicator that a thread makes, once it is in its join. */
static gp_communicator *await(gp_communicator *const *communicator) {
    gp_communicator *c;
    while ((c = __atomic_load_n(communicator, __ATOMIC_ACQUIRE)) == NULL) usleep(100);
    return c;
}

/** What a process is told and tells: pipes, -1 for none. */
typedef struct links {
    int abort, joined; /* a byte from the one: abort; a byte to the other: this rank has joined */
} links;

typedef struct watch {
    gp_communicator *communicator;
    int pipe;
} watch;

static void *watch_pipe(void *argument) {
    watch *w = argument;
    char byte;
    if (read(w->pipe, &byte, 1) != 1) return NULL;
    gp_communicator *c = await(&w->communicator);
    c->ops->abort(c);
    return NULL;
}

/** What a rank's process does: all-reduces of both ways, `rounds` of them or, where that is 0, until the
 * group ends, whose reason must hold `reason`. Never returns. */
static void be_rank(const gp_communicator_id *id, int rank, int size, int rounds, links to,
                    const char *reason) {
    static const size_t counts[] = {1, 4099, 65536, 65537, 70001, 99999};
    gp_backend *backend = open_device(rank);
    gp_status status = {0};
    watch watched = {NULL, to.abort};
    pthread_t thread;
    if (to.abort >= 0) REQUIRE(pthread_create(&thread, NULL, watch_pipe, &watched) == 0, "thread");
    if (rank == size - 1) usleep(2000); /* it comes late */
    bool joined = backend->ops->join(backend, id, rank, size, COUNT_MAX, &watched.communicator, &status);
    gp_communicator *c = watched.communicator;
    if (to.joined >= 0) REQUIRE(write(to.joined, "x", 1) == 1, "pipe");
    bool works = joined;
    for (int i = 0; works && (rounds == 0 || i < rounds); i++)
        works = reduce(backend, c, rounds == 0 ? 101 : counts[i % 6], &status);
    CHECK(works == (rounds > 0), "rank %d of %d ends as it should", rank, size);
    CHECK(works || strstr(status.message, reason) != NULL, "said: %s", status.message);
    if (to.abort >= 0) pthread_join(thread, NULL);
    if (c != NULL) c->ops->destroy(c);
    gp_backend_close(backend);
    const char *misuse = take_misuse();
    CHECK(misuse[0] == '\0', "misuse of NCCL: %s", misuse);
    gp_status_clear(&status);
    _exit(check_done());
}

static void expect_success(pid_t process, int rank, int size) {
    int state = 0;
    REQUIRE(waitpid(process, &state, 0) == process, "waitpid");
    CHECK(WIFEXITED(state) && WEXITSTATUS(state) == 0, "process of rank %d of %d: state %x", rank, size,
          (unsigned)state);
}

static void test_processes(int size) {
    gp_communicator_id id = new_id();
    pid_t processes[RANKS_MAX];
    for (int rank = 0; rank < size; rank++)
        if ((processes[rank] = fork()) == 0) be_rank(&id, rank, size, 6, (links){-1, -1}, "");
    for (int rank = 0; rank < size; rank++) expect_success(processes[rank], rank, size);
}

/**
 * A process is killed. Where that is noticed, at some moment of endless all-reduces, and the others end by
 * themselves; else at any moment from its start on, and they wait until they are told to abort.
 */
static void test_killed(int size, bool noticed) {
    gp_communicator_id id = new_id();
    pid_t processes[RANKS_MAX];
    int aborts[RANKS_MAX][2], joined[2], killed = (int)(random_bits(&seed) % (uint64_t)size);
    char bytes[RANKS_MAX];
    notice_gone(noticed);
    REQUIRE(pipe(joined) == 0, "pipe");
    for (int rank = 0; rank < size; rank++) REQUIRE(pipe(aborts[rank]) == 0, "pipe");
    for (int rank = 0; rank < size; rank++)
        if ((processes[rank] = fork()) == 0)
            be_rank(&id, rank, size, 0, noticed ? (links){-1, joined[1]} : (links){aborts[rank][0], -1},
                    noticed ? "remote process exited" : "ended");
    for (int got = 0; noticed && got < size;) got += (int)read(joined[0], bytes, sizeof bytes);
    usleep((useconds_t)(random_bits(&seed) % (noticed ? 10000 : 150000)));
    kill(processes[killed], SIGKILL);
    REQUIRE(waitpid(processes[killed], NULL, 0) == processes[killed], "waitpid");
    for (int rank = 0; rank < size; rank++)
        if (!noticed) REQUIRE(write(aborts[rank][1], "x", 1) == 1, "pipe");
    for (int rank = 0; rank < size; rank++) {
        if (rank != killed) expect_success(processes[rank], rank, size);
        close(aborts[rank][0]);
        close(aborts[rank][1]);
    }
    close(joined[0]);
    close(joined[1]);
    notice_gone(false);
}

/* ---- threads ---- */

typedef struct rank_thread {
    gp_backend *backend;
    gp_communicator_id id;
    int rank, size;
    size_t count, pieces; /* of the all-reduce, 0: none; of the all-gather, 0: none */
    gp_communicator *communicator;
    gp_recording *recording;
    bool joined, done;
    gp_status status;
    pthread_t thread;
} rank_thread;

static void *run_rank(void *argument) {
    rank_thread *r = argument;
    r->backend->ops->enter(r->backend);
    r->joined =
        r->backend->ops->join(r->backend, &r->id, r->rank, r->size, COUNT_MAX, &r->communicator, &r->status);
    r->done = r->joined;
    if (r->done && r->count > 0) r->done = reduce(r->backend, r->communicator, r->count, &r->status);
    if (r->done && r->pieces > 0) {
        void *y = r->backend->ops->allocate(r->backend, r->pieces * (size_t)r->size);
        r->communicator->ops->all_gather(r->communicator, y, r->pieces);
        r->done = finish(r->backend, r->communicator, &r->status);
        r->backend->ops->release(r->backend, y);
    }
    return NULL;
}

static void start(rank_thread *r) {
    REQUIRE(pthread_create(&r->thread, NULL, run_rank, r) == 0, "thread");
}

static void end(rank_thread *r) {
    if (r->communicator != NULL) r->communicator->ops->destroy(r->communicator);
    gp_status_clear(&r->status);
}

/** A join that waits for a rank which never comes is ended; one that comes then is told at once. */
static void test_abort_of_join(gp_backend **backends) {
    rank_thread ranks[2] = {{backends[0], new_id(), 0, 2, .count = 0}};
    ranks[1] = ranks[0];
    ranks[1].rank = 1;
    ranks[1].backend = backends[1];
    start(&ranks[0]);
    gp_communicator *c = await(&ranks[0].communicator);
    c->ops->abort(c);
    pthread_join(ranks[0].thread, NULL);
    start(&ranks[1]);
    pthread_join(ranks[1].thread, NULL);
    for (int k = 0; k < 2; k++)
        CHECK(!ranks[k].joined && (ranks[k].communicator != NULL) == (k == 0) &&
                  strstr(ranks[k].status.message, "ended before rank") != NULL,
              "rank %d: %s", k, ranks[k].status.message);
    for (int k = 0; k < 2; k++) end(&ranks[k]);
}

/** A watcher ends an operation that waits for a rank which does nothing. */
static void test_abort_of_operation(gp_backend **backends) {
    rank_thread ranks[2] = {{backends[0], new_id(), 0, 2, .count = 0}};
    ranks[1] = ranks[0];
    ranks[1].rank = 1;
    ranks[1].backend = backends[1];
    ranks[0].count = 1 + random_bits(&seed) % COUNT_MAX;
    for (int k = 0; k < 2; k++) start(&ranks[k]);
    pthread_join(ranks[1].thread, NULL);
    usleep((useconds_t)(random_bits(&seed) % 3000)); /* before the operation or within */
    if (ranks[1].joined) ranks[1].communicator->ops->abort(ranks[1].communicator);
    pthread_join(ranks[0].thread, NULL);
    CHECK(ranks[1].joined && !ranks[0].done && strstr(ranks[0].status.message, "was ended") != NULL,
          "rank 0: %s", ranks[0].status.message);
    for (int k = 0; k < 2; k++) end(&ranks[k]);
}

/** Two ranks that have joined, with x [count] of each. */
static void join_two(gp_backend **backends, rank_thread ranks[2], float *x[2], size_t count) {
    const gp_communicator_id id = new_id();
    for (int k = 0; k < 2; k++) {
        ranks[k] = (rank_thread){backends[k], id, k, 2, .count = 0};
        start(&ranks[k]);
    }
    for (int k = 0; k < 2; k++) {
        pthread_join(ranks[k].thread, NULL);
        REQUIRE(ranks[k].joined, "%s", ranks[k].status.message);
        backends[k]->ops->enter(backends[k]);
        x[k] = numbers_on(backends[k], k, count);
    }
}

/** Records an all-reduce of x [count]. */
static void record(rank_thread *r, float *x, size_t count) {
    r->backend->ops->record(r->backend);
    r->communicator->ops->all_reduce(r->communicator, x, count);
    r->recording = r->backend->ops->recorded(r->backend, &r->status);
    REQUIRE(r->recording != NULL, "%s", r->status.message);
}

/** Forgets and destroys on the rank's own thread, at its own time. */
static void *forget_and_end(void *argument) {
    rank_thread *r = argument;
    const gp_ops *ops = r->backend->ops;
    ops->enter(r->backend);
    usleep(r->rank == 0 ? 0 : 3000);
    CHECK(ops->finish(r->backend, NULL) && !r->communicator->ops->check(r->communicator, NULL),
          "rank %d goes on", r->rank);
    ops->forget(r->backend, r->recording);
    end(r);
    return NULL;
}

/** NCCL's abort waits until no graph has its operations any more: whoever forgets them after it is not kept
 * waiting for it. */
static void test_abort_of_recorded(gp_backend **backends) {
    rank_thread ranks[2];
    float *x[2];
    join_two(backends, ranks, x, 100);
    for (int k = 0; k < 2; k++) {
        backends[k]->ops->enter(backends[k]);
        record(&ranks[k], x[k], 100);
    }
    ranks[1].communicator->ops->abort(ranks[1].communicator);
    for (int k = 0; k < 2; k++) { /* what was recorded does nothing any more, and does not wait */
        backends[k]->ops->enter(backends[k]);
        backends[k]->ops->replay(backends[k], ranks[k].recording);
        REQUIRE(pthread_create(&ranks[k].thread, NULL, forget_and_end, &ranks[k]) == 0, "thread");
    }
    for (int k = 0; k < 2; k++) {
        pthread_join(ranks[k].thread, NULL);
        backends[k]->ops->enter(backends[k]);
        backends[k]->ops->release(backends[k], x[k]);
    }
}

static void *replay(void *argument) {
    rank_thread *r = argument;
    r->backend->ops->enter(r->backend);
    r->backend->ops->replay(r->backend, r->recording);
    return NULL;
}

/** Ranks of which one replays what the other calls: NCCL wants it of all or of none. */
static void test_recorded_by_one(gp_backend **backends) {
    rank_thread ranks[2];
    float *x[2];
    join_two(backends, ranks, x, 10);
    backends[0]->ops->enter(backends[0]);
    record(&ranks[0], x[0], 10);
    REQUIRE(pthread_create(&ranks[0].thread, NULL, replay, &ranks[0]) == 0, "thread");
    backends[1]->ops->enter(backends[1]);
    ranks[1].communicator->ops->all_reduce(ranks[1].communicator, x[1], 10);
    pthread_join(ranks[0].thread, NULL);
    CHECK(!ranks[1].communicator->ops->check(ranks[1].communicator, NULL), "it goes on");
    const char *misuse = take_misuse();
    CHECK(strstr(misuse, "a graph's operations at rank 0 meet calls at rank 1") != NULL, "seen: %s", misuse);
    backends[0]->ops->forget(backends[0], ranks[0].recording);
    for (int k = 0; k < 2; k++) {
        backends[k]->ops->enter(backends[k]);
        end(&ranks[k]);
        backends[k]->ops->release(backends[k], x[k]);
    }
}

/** Ranks that call different things, or more than they said: all are told, and nobody waits. */
static void test_wrong_calls(gp_backend **backends) {
    rank_thread ranks[2] = {{backends[0], new_id(), 0, 2, .pieces = 10}};
    ranks[1] = ranks[0];
    ranks[1].rank = 1;
    ranks[1].backend = backends[1];
    ranks[1].pieces = 11;
    for (int k = 0; k < 2; k++) start(&ranks[k]);
    for (int k = 0; k < 2; k++) pthread_join(ranks[k].thread, NULL);
    for (int k = 0; k < 2; k++)
        CHECK(ranks[k].joined && !ranks[k].done, "rank %d is told: %s", k, ranks[k].status.message);
    CHECK(strstr(ranks[0].status.message, "ncclAllGather: invalid usage") != NULL ||
              strstr(ranks[1].status.message, "ncclAllGather: invalid usage") != NULL,
          "said: %s; %s", ranks[0].status.message, ranks[1].status.message);
    const char *misuse = take_misuse();
    CHECK(strstr(misuse, "of 11 bytes at rank 1 is not what rank 0 called") != NULL, "seen: %s", misuse);
    for (int k = 0; k < 2; k++) end(&ranks[k]);

    rank_thread wrong = {backends[0], new_id(), 0, 2, .count = 0}, right = wrong;
    right.backend = backends[1];
    right.rank = 1;
    right.count = 5;
    start(&wrong);
    start(&right);
    pthread_join(wrong.thread, NULL);
    REQUIRE(wrong.joined, "%s", wrong.status.message);
    wrong.communicator->ops->all_reduce(wrong.communicator, NULL, COUNT_MAX + 1);
    pthread_join(right.thread, NULL); /* it is told before the other asks */
    CHECK(!right.done && strstr(right.status.message, "was ended") != NULL, "said: %s", right.status.message);
    CHECK(!wrong.communicator->ops->check(wrong.communicator, &wrong.status) &&
              strstr(wrong.status.message, "more than join was told") != NULL,
          "said: %s", wrong.status.message);
    end(&wrong);
    end(&right);

    rank_thread first = {backends[0], new_id(), 0, 2, .count = 0}, second = first;
    second.backend = backends[1];
    second.rank = 1;
    second.size = 3;
    start(&first);
    gp_communicator *c = await(&first.communicator);
    start(&second);
    pthread_join(second.thread, NULL);
    CHECK(!second.joined && strstr(second.status.message, "cannot join a group of 2") != NULL, "said: %s",
          second.status.message);
    c->ops->abort(c);
    pthread_join(first.thread, NULL);
    end(&first);
    end(&second);
}

/* ---- the stand-in itself ---- */

static void expect_misuse(gp_nccl_result result, const char *words) {
    const char *seen = take_misuse();
    CHECK(result == GP_NCCL_INVALID_USAGE && strstr(seen, words) != NULL, "%s: result %d, seen: %s", words,
          (int)result, seen);
}

static void wait_for(const gp_nccl *nccl, gp_nccl_handle handle) {
    gp_nccl_result state = GP_NCCL_IN_PROGRESS;
    while (state == GP_NCCL_IN_PROGRESS) nccl->get_async_error(handle, &state);
    CHECK(state == GP_NCCL_SUCCESS, "state %d", (int)state);
}

static void test_standin(void) {
    const gp_nccl *nccl;
    gp_nccl_config config = {sizeof config, GP_NCCL_CONFIG_MAGIC, GP_NCCL_VERSION_MIN, 0};
    gp_nccl_handle waiting, alone;
    int stream;
    char x[4] = {1, 2, 3, 4}, y[4];
    REQUIRE(gp_nccl_load(&nccl, NULL), "no stand-in");
    CHECK(nccl->init_rank(&waiting, 2, new_id(), 0, &config) == GP_NCCL_IN_PROGRESS, "a rank waits");
    expect_misuse(nccl->all_gather(x, y, 1, GP_NCCL_UINT8, waiting, &stream),
                  "while an earlier call goes on");
    expect_misuse(nccl->send(x, 1, GP_NCCL_UINT8, 1, waiting, &stream), "outside a group");
    CHECK(nccl->abort(waiting) == GP_NCCL_SUCCESS, "an abort of a rank that waits");
    expect_misuse(nccl->broadcast(x, y, 1, GP_NCCL_UINT8, 0, waiting, &stream), "that has ended");
    expect_misuse(nccl->abort(waiting), "that has ended");
    expect_misuse(nccl->group_end(), "without ncclGroupStart");

    nccl->init_rank(&alone, 1, new_id(), 0, &config);
    wait_for(nccl, alone);
    CHECK(nccl->broadcast(x, y, 4, GP_NCCL_UINT8, 0, alone, &stream) == GP_NCCL_IN_PROGRESS, "a broadcast");
    wait_for(nccl, alone);
    CHECK(memcmp(x, y, 4) == 0, "its result");
    expect_misuse(nccl->broadcast(x, y, 4, GP_NCCL_UINT8, 1, alone, &stream), "with rank 1 of 1");
    nccl->group_start();
    nccl->send(x, 1, GP_NCCL_UINT8, 0, alone, &stream);
    nccl->group_end();
    gp_nccl_result state = GP_NCCL_IN_PROGRESS;
    while (state == GP_NCCL_IN_PROGRESS) nccl->get_async_error(alone, &state);
    expect_misuse(state, "has no answer");
    expect_misuse(nccl->destroy(alone), "before the communicator was finalised");
    config.blocking = 1;
    expect_misuse(nccl->init_rank(&alone, 1, new_id(), 0, &config), "a configuration that is not");
}

/* ---- libraries that will not do ---- */

/** Runs this program with `folder` as the place of NCCL; it must be refused there with `words`. */
static void test_refused(const char *folder, const char *words, char **arguments) {
    pid_t process = fork();
    if (process == 0) {
        setenv("LD_LIBRARY_PATH", folder, 1);
        execv("/proc/self/exe", (char *[]){arguments[0], (char *)words, NULL});
        _exit(1);
    }
    expect_success(process, 0, 1);
}

/** A program that uses one GPU needs no NCCL; one that wants ranks is told what is wrong with it. */
static int be_refused(const char *words) {
    gp_backend *backend = open_device(0);
    gp_communicator_id id = {{0}};
    gp_communicator *c = NULL;
    for (int i = 0; i < 2; i++) {
        gp_status status = {0};
        bool done = i == 0 ? backend->ops->communicator_id(&id, &status)
                           : backend->ops->join(backend, &id, 0, 1, 1, &c, &status);
        CHECK(!done && strstr(status.message, "libnccl.so.2") != NULL &&
                  strstr(status.message, words) != NULL,
              "said: %s", status.message);
        gp_status_clear(&status);
    }
    gp_backend_close(backend);
    return check_done();
}

int main(int count, char **arguments) {
    if (count > 1) return be_refused(arguments[1]);
    find_nccl_in(GP_NCCL_FOLDERS "/nccl-standin", arguments);
    setenv("GEOPIXEL_SIMT_DEVICES", "4", 1);
    seed = first_seed = fresh_seed();
    const char *folder = scratch_folder();
    char path[5000];
    snprintf(path, sizeof path, "%s/libnccl.so.2", folder);
    FILE *broken = fopen(path, "w");
    REQUIRE(broken != NULL && fputs("no library\n", broken) >= 0 && fclose(broken) == 0, "%s", path);
    test_refused(folder, "cannot be loaded", arguments);
    test_refused(GP_NCCL_FOLDERS "/nccl-none", "has no ncclGetVersion", arguments);
    test_refused(GP_NCCL_FOLDERS "/nccl-old", "version code 21212", arguments);
    for (int size = 2; size <= RANKS_MAX; size++) { /* processes first: they fork while there is one thread */
        test_processes(size);
        for (int i = 0; i < 4; i++) test_killed(size, i % 2 == 1);
    }
    test_standin();
    gp_backend *backends[2] = {open_device(0), open_device(1)};
    for (int i = 0; i < 8; i++) {
        test_abort_of_join(backends);
        test_abort_of_operation(backends);
        test_abort_of_recorded(backends);
    }
    test_recorded_by_one(backends);
    test_wrong_calls(backends);
    for (int i = 0; i < 2; i++) gp_backend_close(backends[i]);
    const char *misuse = take_misuse();
    CHECK(misuse[0] == '\0', "misuse of NCCL: %s", misuse);
    return check_done();
}
