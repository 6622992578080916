/** The pool runs every task once, on any number of threads, and leaves signals to the program's own threads.
 */
#include "kernels/base/threads.h"
#include "tests/check.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

enum { TASKS_MAX = 1000, THREADS_MAX = 5 };

static atomic_int runs[TASKS_MAX], wrong_threads, open_signals, blocked_faults;
static pthread_t caller;

static int is_blocked(int number) {
    sigset_t blocked;
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    return sigismember(&blocked, number);
}

static void look_at_signals(void) {
    const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGALRM, SIGCHLD},
              faults[] = {SIGSEGV, SIGBUS, SIGABRT};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) open_signals += !is_blocked(signals[i]);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) blocked_faults += is_blocked(faults[i]);
}

static void task(void *argument, int64_t index, int thread) {
    runs[index]++;
    wrong_threads += thread < 0 || thread >= *(int *)argument;
    if (!pthread_equal(pthread_self(), caller)) look_at_signals();
}

static void *look(void *argument) {
    look_at_signals();
    return argument;
}

int main(void) {
    gp_status status = {0};
    uint64_t seed = fresh_seed();
    caller = pthread_self();
    for (int count = 1; count <= THREADS_MAX; count++) {
        struct gp_threads *pool = NULL;
        REQUIRE(gp_threads_start(count, &pool, &status), "%s", status.message);
        CHECK(gp_threads_count(pool) == count, "%d, not %d", gp_threads_count(pool), count);
        for (int job = 0; job < 20; job++) {
            int tasks = (int)(random_bits(&seed) % (TASKS_MAX + 1)), wrong = 0;
            memset(runs, 0, sizeof runs);
            gp_threads_run(pool, tasks, task, &count);
            for (int i = 0; i < TASKS_MAX; i++) wrong += runs[i] != (i < tasks);
            CHECK(wrong == 0, "%d of %d tasks on %d threads", wrong, tasks, count);
        }
        gp_threads_stop(pool);
    }
    pthread_t thread;
    void *returned = NULL;
    REQUIRE(gp_thread_create(&thread, look, &thread) == 0, "thread");
    pthread_join(thread, &returned);
    CHECK(returned == &thread, "its argument");
    CHECK(wrong_threads == 0, "%d", wrong_threads);
    CHECK(open_signals == 0, "%d times", open_signals);
    CHECK(blocked_faults == 0, "%d times", blocked_faults);
    CHECK(!is_blocked(SIGINT) && !is_blocked(SIGTERM), "the caller's");
    return check_done();
}
