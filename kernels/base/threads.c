/**
 * A job is a range of task numbers that all threads draw from; a thread that finds no job spins for a little
 * while, since the next operation usually follows within microseconds, then sleeps.
 */
#include "kernels/base/threads.h"

#include "kernels/base/memory.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>

enum {
    SPINS = 4000
}; /* about 20 µs of pauses: longer than the gap between two operations of a decode step */

struct gp_threads {
    int count; /* the caller's included */
    pthread_t *workers;
    struct worker {
        struct gp_threads *pool;
        int thread;
    } * arguments;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    int sleeping;
    bool stop;

    /* The job: written before `generation` rises, read after. `busy` counts workers that have not finished
     * it. */
    gp_task task;
    void *argument;
    int64_t tasks;
    _Atomic int64_t next;
    atomic_uint generation;
    atomic_int busy;
};

static void *work(void *argument);
static void draw_tasks(struct gp_threads *pool, int thread);
static void pause_briefly(void);

/** Faults stay open: a blocked one ends the program without a word of where it was. */
int gp_thread_create(pthread_t *thread, void *(*function)(void *), void *argument) {
    const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP};
    sigset_t signals, before;
    sigfillset(&signals);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) sigdelset(&signals, faults[i]);
    pthread_sigmask(SIG_BLOCK, &signals, &before);
    int error = pthread_create(thread, NULL, function, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

bool gp_threads_start(int count, struct gp_threads **out, gp_status *status) {
    struct gp_threads *pool = gp_allocate_zeroed(1, sizeof *pool);
    if (pool == NULL) return gp_fail(status, "no memory for %d threads", count);
    pool->count = 1;
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pool->workers = gp_allocate_zeroed((size_t)count, sizeof *pool->workers);
    pool->arguments = gp_allocate_zeroed((size_t)count, sizeof *pool->arguments);
    bool done = pool->workers != NULL && pool->arguments != NULL;
    while (done && pool->count < count) {
        struct worker *self = &pool->arguments[pool->count];
        *self = (struct worker){pool, pool->count};
        int error = gp_thread_create(&pool->workers[pool->count], work, self);
        if (error != 0) {
            gp_fail(status, "cannot start thread %d of %d: %s", pool->count + 1, count, strerror(error));
            gp_threads_stop(pool);
            return false;
        }
        pool->count++;
    }
    if (!done) {
        gp_threads_stop(pool);
        return gp_fail(status, "no memory for %d threads", count);
    }
    *out = pool;
    return true;
}

void gp_threads_stop(struct gp_threads *pool) {
    if (pool == NULL) return;
    pthread_mutex_lock(&pool->mutex);
    pool->stop = true;
    atomic_fetch_add(&pool->generation, 1);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
    for (int i = 1; i < pool->count; i++) pthread_join(pool->workers[i], NULL);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->mutex);
    gp_free(pool->workers);
    gp_free(pool->arguments);
    gp_free(pool);
}

int gp_threads_count(const struct gp_threads *pool) {
    return pool->count;
}

void gp_threads_run(struct gp_threads *pool, int64_t tasks, gp_task task, void *argument) {
    if (pool->count == 1 || tasks <= 1) {
        for (int64_t i = 0; i < tasks; i++) task(argument, i, 0);
        return;
    }
    pool->task = task;
    pool->argument = argument;
    pool->tasks = tasks;
    atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
    atomic_store_explicit(&pool->busy, pool->count - 1, memory_order_relaxed);
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->generation, 1);
    if (pool->sleeping > 0) pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
    draw_tasks(pool, 0);
    while (atomic_load_explicit(&pool->busy, memory_order_acquire) > 0) pause_briefly();
}

static void draw_tasks(struct gp_threads *pool, int thread) {
    int64_t index;
    while ((index = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed)) < pool->tasks)
        pool->task(pool->argument, index, thread);
}

static void *work(void *argument) {
    struct worker *self = argument;
    struct gp_threads *pool = self->pool;
    unsigned seen = 0;
    for (;;) {
        for (int i = 0; i < SPINS && atomic_load_explicit(&pool->generation, memory_order_acquire) == seen;
             i++)
            pause_briefly();
        if (atomic_load_explicit(&pool->generation, memory_order_acquire) == seen) {
            pthread_mutex_lock(&pool->mutex);
            pool->sleeping++;
            while (atomic_load_explicit(&pool->generation, memory_order_acquire) == seen)
                pthread_cond_wait(&pool->wake, &pool->mutex);
            pool->sleeping--;
            pthread_mutex_unlock(&pool->mutex);
        }
        seen++; /* a worker never misses a job: the caller waits for all of them */
        if (pool->stop) return NULL;
        draw_tasks(pool, self->thread);
        atomic_fetch_sub_explicit(&pool->busy, 1, memory_order_release);
    }
}

static void pause_briefly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}
