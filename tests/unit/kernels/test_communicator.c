/**
 * Collective operations of ranks that are threads, by sums and copies made here in the order that
 * communicator.h gives: 1 to 8 ranks, sizes from nothing to odd tens of thousands, ranks that come late, and
 * aborts. On the CPU, on GPUs as many as there are, and on emulated ones.
 */
#include "kernels/base/memory.h"
#include "kernels/ops.h"
#include "tests/check.h"
#ifdef GP_TEST_SIMT
#include "tests/simt/nccl_standin.h"
#endif

#include <pthread.h>
#include <string.h>
#include <unistd.h>

enum { RANKS_MAX = 8, ROUNDS = 12 };

static uint64_t seed;

static size_t between(size_t least, size_t most) {
    return least + (size_t)(random_bits(&seed) % (most - least + 1));
}

/** Of each rank, opened once by main and driven by the ranks' threads. */
static gp_backend *backends[RANKS_MAX];

typedef struct rank_run {
    gp_communicator_id id;
    int rank, size, round;
    size_t count;
    float *x;              /* [count] summed in place */
    unsigned char *gather; /* [size, count] */
    unsigned char *spread; /* [count] */
    int root;
    bool joined, ended; /* ended: join or check said so */
    int leave_at;       /* operation before which this rank aborts; -1: none */
} rank_run;

static void *on_backend(gp_backend *backend, const void *host, size_t bytes) {
    void *memory = backend->ops->allocate(backend, bytes);
    REQUIRE(memory != NULL, "memory");
    backend->ops->upload(backend, memory, host, bytes);
    return memory;
}

static void back(gp_backend *backend, void *host, void *memory, size_t bytes) {
    backend->ops->download(backend, host, memory, bytes);
    backend->ops->release(backend, memory);
}

/** Whether the last two operations of a round are launched together. */
static bool is_grouped(int round) {
    return round % 2 == 1;
}

/** The three operations; results to host memory. */
static void operate(const rank_run *r, gp_backend *backend, gp_communicator *c) {
    size_t bytes = r->count * sizeof *r->x, pieces = (size_t)r->size * r->count;
    void *x = on_backend(backend, r->x, bytes);
    void *gather = on_backend(backend, r->gather, pieces + 1);
    void *spread = on_backend(backend, r->spread, r->count);
    bool grouped = is_grouped(r->round);
    for (int i = 0; i < 3; i++) {
        if (i == r->leave_at) c->ops->abort(c);
        if ((r->rank + i + r->round) % 3 == 0) usleep(500); /* somebody is late */
        if (i == 0) c->ops->all_reduce(c, x, r->count);
        if (i == 1 && grouped) c->ops->group_begin(c);
        if (i == 1) c->ops->all_gather(c, gather, r->count);
        if (i == 2) c->ops->broadcast(c, spread, r->count, r->root);
        if (i == 2 && grouped) c->ops->group_end(c);
    }
    CHECK(backend->ops->finish(backend, NULL), "rank %d of %d finishes", r->rank, r->size);
    back(backend, r->x, x, bytes);
    back(backend, r->gather, gather, pieces + 1);
    back(backend, r->spread, spread, r->count);
}

static void *run(void *argument) {
    rank_run *r = argument;
    gp_backend *backend = backends[r->rank];
    gp_communicator *c = NULL;
    gp_status status = {0};
    backend->ops->enter(backend);
    r->joined = backend->ops->join(backend, &r->id, r->rank, r->size, r->count, &c, &status);
    if (r->joined) operate(r, backend, c);
    r->ended = !r->joined || !c->ops->check(c, &status);
    CHECK(!r->ended || strstr(status.message, "ended") != NULL, "said: %s", status.message);
    if (c != NULL) c->ops->destroy(c);
    gp_status_clear(&status);
    return NULL;
}

/** Starts one thread a rank and waits for all. */
static void run_all(rank_run *ranks, int size) {
    pthread_t threads[RANKS_MAX];
    for (int i = 0; i < size; i++) REQUIRE(pthread_create(&threads[i], NULL, run, &ranks[i]) == 0, "thread");
    for (int i = 0; i < size; i++) pthread_join(threads[i], NULL);
}

static void fill(rank_run *ranks, int size, int round, size_t count, int leave_at) {
    gp_communicator_id id;
    REQUIRE(backends[0]->ops->communicator_id(&id, NULL), "no id");
    for (int k = 0; k < size; k++) {
        rank_run *r = &ranks[k];
        *r = (rank_run){.id = id, .rank = k, .size = size, .round = round, .count = count, .leave_at = -1};
        r->root = round % size;
        if (k == size - 1) r->leave_at = leave_at;
        r->x = gp_allocate((count + 1) * sizeof *r->x);
        r->gather = gp_allocate((size_t)size * count + 1);
        r->spread = gp_allocate(count + 1);
        REQUIRE(r->x != NULL && r->gather != NULL && r->spread != NULL, "memory");
        for (size_t i = 0; i <= count; i++) r->x[i] = random_float(&seed) * 1e3f;
        memset(r->gather, 0xA5, (size_t)size * count + 1);
        for (size_t i = 0; i < count; i++) {
            r->gather[(size_t)k * count + i] = (unsigned char)between(0, 255);
            r->spread[i] = (unsigned char)between(0, 255);
        }
    }
}

static void free_all(rank_run *ranks, int size) {
    for (int k = 0; k < size; k++) {
        gp_free(ranks[k].x);
        gp_free(ranks[k].gather);
        gp_free(ranks[k].spread);
    }
}

static void test_results(int size, int round) {
    rank_run ranks[RANKS_MAX];
    size_t count = round == 0 ? 0 : between(1, round % 4 == 3 ? 150000 : round % 2 == 0 ? 20 : 5000);
    fill(ranks, size, round, count, -1);
    float *sums = gp_allocate((count + 1) * sizeof *sums);
    unsigned char *pieces = gp_allocate((size_t)size * count + 1), *spread = gp_allocate(count + 1);
    REQUIRE(sums != NULL && pieces != NULL && spread != NULL, "memory");
    for (size_t i = 0; i < count; i++) {
        sums[i] = ranks[0].x[i];
        for (int k = 1; k < size; k++) sums[i] += ranks[k].x[i];
    }
    for (int k = 0; k < size; k++)
        memcpy(pieces + (size_t)k * count, ranks[k].gather + (size_t)k * count, count);
    memcpy(spread, ranks[ranks[0].root].spread, count);
    run_all(ranks, size);
    for (int k = 0; k < size; k++) {
        CHECK(ranks[k].joined && !ranks[k].ended, "rank %d of %d joined and stayed", k, size);
        CHECK(memcmp(ranks[k].x, sums, count * sizeof *sums) == 0, "sum of %zu at rank %d of %d", count, k,
              size);
        CHECK(memcmp(ranks[k].gather, pieces, (size_t)size * count) == 0, "gathered %zu at rank %d of %d",
              count, k, size);
        CHECK(ranks[k].gather[(size_t)size * count] == 0xA5, "nothing behind the pieces");
        CHECK(memcmp(ranks[k].spread, spread, count) == 0, "broadcast %zu at rank %d of %d", count, k, size);
    }
    gp_free(sums);
    gp_free(pieces);
    gp_free(spread);
    free_all(ranks, size);
}

/** A rank that aborts before any of its operations: nobody hangs, and everybody is told. */
static void test_abort(int size, int round) {
    rank_run ranks[RANKS_MAX];
    fill(ranks, size, round, between(1, 1000), round % (is_grouped(round) ? 2 : 3));
    run_all(ranks, size);
    for (int k = 0; k < size; k++) CHECK(ranks[k].ended, "rank %d of %d is told", k, size);
    CHECK(ranks[size - 1].joined, "rank %d of %d, which aborts", size - 1, size);
    free_all(ranks, size);
}

/* ---- a join that others end ---- */

typedef struct joining {
    gp_communicator_id id;
    int rank;
    gp_communicator *communicator;
    bool joined;
} joining;

static void *join_two(void *argument) {
    joining *j = argument;
    gp_backend *backend = backends[j->rank];
    backend->ops->enter(backend);
    j->joined = backend->ops->join(backend, &j->id, j->rank, 2, 1, &j->communicator, NULL);
    return NULL;
}

static void *watch_join(void *argument) {
    joining *j = argument;
    gp_communicator *c;
    while ((c = __atomic_load_n(&j->communicator, __ATOMIC_ACQUIRE)) == NULL) usleep(10);
    usleep((useconds_t)(j->rank * 20)); /* about when the join returns */
    c->ops->abort(c);
    return NULL;
}

/** Two watchers end a join: the second may do so when the join has failed already. */
static void test_watched_join(void) {
    joining ranks[2] = {{.rank = 0}, {.rank = 1}};
    pthread_t threads[3];
    REQUIRE(backends[0]->ops->communicator_id(&ranks[0].id, NULL), "no id");
    ranks[1].id = ranks[0].id;
    for (int i = 0; i < 3; i++)
        REQUIRE(pthread_create(&threads[i], NULL, i == 0 ? join_two : watch_join, &ranks[0]) == 0, "thread");
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    join_two(&ranks[1]); /* it comes too late */
    for (int i = 0; i < 2; i++) {
        CHECK(!ranks[i].joined, "rank %d joined a group that was ended", i);
        if (ranks[i].communicator != NULL) ranks[i].communicator->ops->destroy(ranks[i].communicator);
    }
}

static void test_refused(void) {
    gp_backend *backend = backends[0];
    gp_communicator *c = NULL;
    gp_communicator_id id = {{0}};
    gp_status status = {0};
    backend->ops->enter(backend);
#ifndef GP_TEST_CUDA
    CHECK(!backend->ops->join(backend, &id, 0, 2, 1, &c, &status) &&
              strstr(status.message, "threads of one process") != NULL,
          "an id of nothing: %s", status.message);
    gp_status_clear(&status);
#endif
    REQUIRE(backend->ops->communicator_id(&id, NULL), "no id");
    CHECK(!backend->ops->join(backend, &id, 2, 2, 1, &c, &status) &&
              strstr(status.message, "rank 2 of 2") != NULL,
          "a rank beyond: %s", status.message);
    gp_status_clear(&status);
    REQUIRE(backend->ops->join(backend, &id, 0, 1, 1, &c, NULL), "one rank");
    c->ops->destroy(c);
}

/** Opens as many backends as there are, up to RANKS_MAX; without one, or without what ranks need, the test
 * ends as skipped. */
static int open_backends(void) {
    gp_communicator_id id;
    gp_communicator *alone;
    gp_status status = {0};
    int count = 0;
#ifdef GP_TEST_CUDA
    while (count < RANKS_MAX && gp_backend_open_cuda(count, &backends[count], &status)) count++;
#else
    while (count < RANKS_MAX && gp_backend_open_cpu(1, &backends[count], &status)) count++;
#endif
    if (count == 0 || !backends[0]->ops->communicator_id(&id, &status)) {
        printf("skipped: %s\n", status.message);
        exit(77);
    }
    gp_status_clear(&status);
    backends[0]->ops->enter(backends[0]);
    REQUIRE(backends[0]->ops->join(backends[0], &id, 0, 1, 0, &alone, &status), "%s", status.message);
    alone->ops->destroy(alone);
    printf("1 to %d ranks\n", count);
    return count;
}

int main(int count, char **arguments) {
    (void)count;
#ifdef GP_TEST_SIMT
    find_nccl_in(GP_NCCL_FOLDERS "/nccl-standin", arguments);
    setenv("GEOPIXEL_SIMT_DEVICES", "8", 1);
#else
    (void)arguments;
#endif
    int most = open_backends();
    seed = fresh_seed();
    for (int size = 1; size <= most; size++)
        for (int round = 0; round < ROUNDS; round++) {
            test_results(size, round);
            test_abort(size, round);
        }
    for (int round = 0; most > 1 && round < 50; round++) test_watched_join();
    test_refused();
    for (int i = 0; i < most; i++) gp_backend_close(backends[i]);
#ifdef GP_TEST_SIMT
    const char *misuse = take_misuse();
    CHECK(misuse[0] == '\0', "misuse of NCCL: %s", misuse);
#endif
    return check_done();
}
