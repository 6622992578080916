/** Watches: a killed process, an end that closes and one that shuts down are told once each, and nothing else
 * is; what was sent before the end can still be received; after a stop nobody is called. */
#include "kernels/base/memory.h"
#include "runtime/watch.h"
#include "tests/unit/runtime/sockets.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>

enum { KILLED, KILLED_TCP, CLOSED, CLOSED_TCP, SHUT, SHUT_TCP, SHUT_HERE, QUIET, NONE, COUNT };

typedef struct notes {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int calls[COUNT], total;
} notes;

static void note(void *user, int which) {
    notes *n = user;
    pthread_mutex_lock(&n->mutex);
    n->calls[which]++;
    n->total++;
    pthread_cond_signal(&n->changed);
    pthread_mutex_unlock(&n->mutex);
}

static void wait_for_total(notes *n, int total) {
    pthread_mutex_lock(&n->mutex);
    while (n->total < total) pthread_cond_wait(&n->changed, &n->mutex);
    pthread_mutex_unlock(&n->mutex);
}

static void open_pair(bool tcp, gp_channel *mine, gp_channel *other) {
    gp_status status = {0};
    gp_channel ends[2];
    int fds[2];
    if (tcp) {
        connect_pair(fds);
        for (int i = 0; i < 2; i++) REQUIRE(gp_channel_open(&ends[i], fds[i], &status), "%s", status.message);
    } else {
        REQUIRE(gp_channel_pair(ends, &status), "%s", status.message);
    }
    *mine = ends[0];
    *other = ends[1];
}

/* A process that holds the other end and waits. */
static pid_t fork_holder(gp_channel *mine, gp_channel *other) {
    pid_t child = fork();
    REQUIRE(child >= 0, "fork: %s", strerror(errno));
    if (child == 0) {
        gp_channel_close(mine);
        for (;;) pause();
    }
    gp_channel_close(other);
    return child;
}

static void test_events(uint64_t *seed) {
    gp_channel mine[COUNT], other[COUNT];
    pid_t children[2];
    gp_status status = {0};
    gp_watch *watch;
    gp_message message = {0};
    notes n = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    for (int i = 0; i < 2; i++) { /* before the others, so that no child holds an end of theirs */
        open_pair(i == 1, &mine[i], &other[i]);
        children[i] = fork_holder(&mine[i], &other[i]);
    }
    for (int i = CLOSED; i < NONE; i++) {
        open_pair(i == CLOSED_TCP || i == SHUT_TCP, &mine[i], &other[i]);
        REQUIRE(gp_channel_send(&other[i], (uint32_t)i, "last words", 10, NULL, 0, &status), "%s",
                status.message);
    }
    mine[NONE].fd = -1;
    REQUIRE(gp_watch_start(&watch, mine, COUNT, note, &n, &status), "%s", status.message);

    int order[QUIET] = {0};
    for (int i = 0; i < QUIET; i++) {
        int place = (int)(random_bits(seed) % (uint64_t)(i + 1));
        order[i] = order[place];
        order[place] = i;
    }
    int want[COUNT] = {0};
    for (int i = 0; i < QUIET; i++) {
        int which = order[i];
        if (which <= KILLED_TCP)
            kill(children[which], SIGKILL);
        else if (which <= CLOSED_TCP)
            gp_channel_close(&other[which]);
        else
            gp_channel_shutdown(which == SHUT_HERE ? &mine[which] : &other[which]);
        want[which] = 1;
        wait_for_total(&n, i + 1);
        pthread_mutex_lock(&n.mutex);
        CHECK(memcmp(n.calls, want, sizeof want) == 0, "event %d: told %d times", which, n.calls[which]);
        pthread_mutex_unlock(&n.mutex);
    }
    for (int i = CLOSED; i < NONE; i++)
        CHECK(gp_channel_receive(&mine[i], &message, 64, &status) && message.kind == (uint32_t)i &&
                  message.bytes == 10 && memcmp(message.data, "last words", 10) == 0,
              "channel %d: %s", i, gp_failed(&status) ? status.message : "other words");
    gp_watch_stop(watch);
    gp_channel_close(&other[QUIET]);
    CHECK(n.total == QUIET && n.calls[QUIET] == 0, "%d calls", n.total);
    for (int i = 0; i < 2; i++) waitpid(children[i], NULL, 0);
    for (int i = SHUT; i < QUIET; i++) gp_channel_close(&other[i]);
    for (int i = 0; i < COUNT; i++) gp_channel_close(&mine[i]);
    gp_free(message.data);
    gp_status_clear(&status);
}

typedef struct late_notes {
    atomic_bool stopped;
    atomic_int calls, late;
} late_notes;

static void note_late(void *user, int which) {
    (void)which;
    late_notes *n = user;
    atomic_fetch_add(&n->calls, 1);
    if (atomic_load(&n->stopped)) atomic_fetch_add(&n->late, 1);
}

static void *close_end(void *user) {
    gp_channel_close(user);
    return NULL;
}

/* Ends that close just when the watch is started or stopped. */
static void test_races(uint64_t *seed) {
    int told = 0;
    for (int round = 0; round < 300; round++) {
        gp_channel mine, other;
        gp_status status = {0};
        gp_watch *watch;
        late_notes n = {0};
        pthread_t closer;
        open_pair(round % 2, &mine, &other);
        bool before = random_bits(seed) % 2;
        if (before) pthread_create(&closer, NULL, close_end, &other);
        REQUIRE(gp_watch_start(&watch, &mine, 1, note_late, &n, &status), "%s", status.message);
        if (!before) pthread_create(&closer, NULL, close_end, &other);
        if (round % 3 == 0)
            while (atomic_load(&n.calls) == 0) sched_yield();
        gp_watch_stop(watch);
        atomic_store(&n.stopped, true);
        pthread_join(closer, NULL);
        CHECK(atomic_load(&n.calls) <= 1 && atomic_load(&n.late) == 0, "%d calls, %d late",
              atomic_load(&n.calls), atomic_load(&n.late));
        told += atomic_load(&n.calls);
        gp_channel_close(&mine);
    }
    CHECK(told >= 100, "%d of 300 were told", told);
    gp_watch_stop(NULL);
}

int main(void) {
    uint64_t seed = fresh_seed();
    fflush(stdout); /* what is left in it every child would print again */
    for (int round = 0; round < 20; round++) test_events(&seed);
    test_races(&seed);
    return check_done();
}
