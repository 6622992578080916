#include "runtime/ranks.h"

#include "kernels/base/threads.h"
#include "runtime/orders.h"
#include "runtime/plan.h"
#include "runtime/processes.h"
#include "runtime/watch.h"
#include "runtime/worker.h"

#include <stdatomic.h>
#include <string.h>

/** A worker that is a thread of this process. */
typedef struct worker_thread {
    gp_engine_options engine; /* what the worker reads of it while it opens */
    gp_worker_options options;
    gp_status status; /* why it gave up, where it was the first (gp_ranks.failed) */
    pthread_t thread;
    bool started;
} worker_thread;

/* What is lost where all ranks are there, but cannot work together any more. */
enum { GROUP = -1 };

struct gp_ranks {
    int size;
    gp_group *group;        /* of processes, lent; NULL: workers are threads */
    gp_channel *channels;   /* [size], to each worker; 0 is none. The group's where there is one */
    worker_thread *workers; /* [size] threads; 0 is none */
    gp_watch *watch;
    atomic_int lost;   /* a rank whose channel has ended, or GROUP; 0: none */
    atomic_int failed; /* the thread that gave up first; 0: none */
    _Atomic(gp_communicator *) communicator;
    atomic_bool joining; /* the communicator is about to be there */
    bool joined;         /* all ranks are in the group, and owe no answer */
    gp_backend *backend; /* the leader's */
    size_t stage;        /* bytes that all workers' stage arenas hold */
    uint64_t moves;      /* times that workers were told to have other memory */
    gp_message answer;
    int32_t *words; /* of the pass that is told, with room for the longest */
};

static bool open_in_processes(gp_ranks *ranks, const gp_engine_options *options, gp_status *status);
static bool start_threads(gp_ranks *ranks, const gp_engine_options *options, int replica, gp_status *status);
static bool start_worker(gp_ranks *ranks, int rank, const gp_engine_options *options, int replica,
                         gp_status *status);
static void worker_gone(void *user, int which);
static void *run_worker(void *argument);
static void tell(gp_ranks *ranks, uint32_t order, const void *data, size_t bytes);
static bool hear_all(gp_ranks *ranks, gp_status *status);
static void lose(gp_ranks *ranks, int which);
static void tell_pass(gp_ranks *ranks, uint32_t order, const int32_t *head, const int32_t *finals,
                      const gp_sequence *sequences, const gp_page_table *const *tables);

/* ---- beginning and end ---- */

bool gp_ranks_start(const gp_engine_options *options, int replica, gp_ranks **ranks, gp_status *status) {
    const int size = options->ranks;
    gp_ranks *own = gp_allocate_zeroed(1, sizeof *own);
    if (own == NULL) return gp_fail(status, "no memory for %d ranks", size);
    own->size = size;
    bool done = gp_processes_borrow(options, &own->group, status) &&
                (own->group != NULL ? open_in_processes(own, options, status)
                                    : start_threads(own, options, replica, status));
    done = done && gp_watch_start(&own->watch, own->channels + 1, size - 1, worker_gone, own, status);
    if (!done) gp_ranks_close(own);
    *ranks = done ? own : NULL;
    return done;
}

static bool open_in_processes(gp_ranks *ranks, const gp_engine_options *options, gp_status *status) {
    const gp_open_order order = {options->requests, options->cache_tokens, options->limits};
    ranks->channels = ranks->group->channels;
    tell(ranks, GP_ORDER_OPEN, &order, sizeof order);
    return gp_ranks_check(ranks, status);
}

static bool start_threads(gp_ranks *ranks, const gp_engine_options *options, int replica, gp_status *status) {
    const int size = ranks->size;
    ranks->channels = gp_allocate_zeroed((size_t)size, sizeof *ranks->channels);
    ranks->workers = gp_allocate_zeroed((size_t)size, sizeof *ranks->workers);
    if (ranks->channels == NULL || ranks->workers == NULL)
        return gp_fail(status, "no memory for %d ranks", size);
    for (int rank = 0; rank < size; rank++) ranks->channels[rank].fd = -1;
    for (int rank = 1; rank < size; rank++)
        if (!start_worker(ranks, rank, options, replica, status)) return false;
    return true;
}

int gp_ranks_device(const gp_ranks *ranks, int replica) {
    return ranks->group != NULL ? gp_processes_device() : replica * ranks->size;
}

static bool start_worker(gp_ranks *ranks, int rank, const gp_engine_options *options, int replica,
                         gp_status *status) {
    worker_thread *worker = &ranks->workers[rank];
    gp_channel ends[2];
    const int replicas = options->replicas > 0 ? options->replicas : 1;
    if (!gp_channel_pair(ends, status)) return false;
    ranks->channels[rank] = ends[0];
    worker->engine = *options;
    worker->engine.on_loading = NULL; /* the leader's progress is shown */
    worker->options = (gp_worker_options){.engine = &worker->engine,
                                          .rank = rank,
                                          .size = ranks->size,
                                          .device = replica * ranks->size + rank,
                                          .device_count = replicas * ranks->size,
                                          .channel = ends[1],
                                          .failed = &ranks->failed};
    int error = gp_thread_create(&worker->thread, run_worker, worker);
    worker->started = error == 0;
    if (error != 0) gp_channel_close(&ends[1]);
    return error == 0 || gp_fail(status, "cannot start rank %d's thread: %s", rank, strerror(error));
}

/** What goes wrong at its opening the worker has told the leader; later, gp_ranks.failed tells. */
static void *run_worker(void *argument) {
    worker_thread *worker = argument;
    gp_worker_serve(&worker->options, &worker->status);
    gp_channel_close(&worker->options.channel);
    return NULL;
}

/** Words of the longest GP_ORDER_PASS. */
static size_t longest_pass(const gp_language *language, int requests) {
    return GP_PASS_HEAD +
           (size_t)requests * (1 + GP_PASS_SEQUENCE + (size_t)gp_pages_for(language->positions));
}

bool gp_ranks_join(gp_ranks *ranks, gp_model *model, int requests, gp_status *status) {
    gp_backend *backend = model->backend;
    const gp_language *language = &model->language;
    struct {
        gp_communicator_id id;
        int64_t most;
    } order = {.most = (int64_t)gp_ranks_largest_sum(language)};
    ranks->words = gp_allocate(longest_pass(language, requests) * sizeof *ranks->words);
    if (ranks->words == NULL) return gp_fail(status, "no memory for orders to %d ranks", ranks->size);
    if (!hear_all(ranks, status) || !backend->ops->communicator_id(&order.id, status)) return false;
    tell(ranks, GP_ORDER_JOIN, &order, sizeof order);
    atomic_store(&ranks->joining, true); /* not before: who loses a rank waits from here on for the join */
    ranks->backend = backend;
    bool joined = gp_ranks_check(ranks, status) &&
                  backend->ops->join(backend, &order.id, 0, ranks->size, (size_t)order.most,
                                     (gp_communicator **)&ranks->communicator, status);
    atomic_store(&ranks->joining, false);
    if (!joined) return false;
    gp_model_share(model, atomic_load(&ranks->communicator));
    ranks->joined = hear_all(ranks, status);
    return ranks->joined;
}

void gp_ranks_close(gp_ranks *ranks) {
    if (ranks == NULL) return;
    bool whole = false;
    if (ranks->joined && gp_ranks_check(ranks, NULL)) {
        tell(ranks, GP_ORDER_END, NULL, 0);
        whole = hear_all(ranks, NULL); /* all are there, and leave the group as this does */
    }
    gp_watch_stop(ranks->watch);
    gp_communicator *communicator = atomic_load(&ranks->communicator);
    for (int rank = 1; ranks->channels != NULL && rank < ranks->size && !whole; rank++)
        gp_channel_shutdown(&ranks->channels[rank]);
    if (communicator != NULL) {
        if (!whole) communicator->ops->abort(communicator);
        ranks->backend->ops->finish(ranks->backend, NULL);
        communicator->ops->destroy(communicator);
    }
    for (int rank = 1; ranks->workers != NULL && rank < ranks->size; rank++)
        if (ranks->workers[rank].started) pthread_join(ranks->workers[rank].thread, NULL);
    if (ranks->group != NULL) {
        gp_processes_give_back(whole);
    } else {
        for (int rank = 1; ranks->channels != NULL && rank < ranks->size; rank++)
            gp_channel_close(&ranks->channels[rank]);
        gp_free(ranks->channels);
    }
    for (int rank = 1; ranks->workers != NULL && rank < ranks->size; rank++)
        gp_status_clear(&ranks->workers[rank].status);
    gp_free(ranks->workers);
    gp_free(ranks->answer.data);
    gp_free(ranks->words);
    gp_free(ranks);
}

/** From the watch's thread, or the leader's. */
static void lose(gp_ranks *ranks, int which) {
    int none = 0;
    if (!atomic_compare_exchange_strong(&ranks->lost, &none, which)) return;
    gp_communicator *communicator = gp_communicator_when_joined(&ranks->communicator, &ranks->joining);
    if (communicator != NULL) communicator->ops->abort(communicator);
    for (int other = 1; other < ranks->size; other++) gp_channel_shutdown(&ranks->channels[other]);
}

static void worker_gone(void *user, int which) {
    lose(user, which + 1);
}

/** A group that has failed is lost: processes would wait in it for the leader. */
bool gp_ranks_check(gp_ranks *ranks, gp_status *status) {
    gp_communicator *communicator = atomic_load(&ranks->communicator);
    gp_status failure = {0};
    bool works = communicator == NULL || communicator->ops->check(communicator, &failure);
    int lost = atomic_load(&ranks->lost), failed = atomic_load(&ranks->failed);
    if (!works && lost == 0) lose(ranks, GROUP);
    if (failed > 0 && (lost != 0 || !works))
        gp_fail(status, "rank %d of %d: %s", failed, ranks->size, ranks->workers[failed].status.message);
    else if (lost > 0)
        gp_fail(status, "rank %d of %d has ended; the others cannot go on without it", lost, ranks->size);
    else if (!works)
        gp_fail(status, "%s", gp_failed(&failure) ? failure.message : "out of memory");
    else if (lost != 0)
        gp_fail(status, "the %d ranks are out of step", ranks->size);
    gp_status_clear(&failure);
    return works && lost == 0;
}

void gp_ranks_give_up(gp_ranks *ranks) {
    lose(ranks, GROUP);
}

/* ---- orders ---- */

static void tell(gp_ranks *ranks, uint32_t order, const void *data, size_t bytes) {
    for (int rank = 1; rank < ranks->size; rank++)
        if (!gp_channel_send(&ranks->channels[rank], order, data, bytes, NULL, 0, NULL)) lose(ranks, rank);
}

/** Everybody's answer, in their order; fails with the first failure, after all have answered. */
static bool hear_all(gp_ranks *ranks, gp_status *status) {
    bool done = true;
    for (int rank = 1; rank < ranks->size; rank++) {
        gp_message *answer = &ranks->answer;
        if (!gp_channel_receive(&ranks->channels[rank], answer, GP_ORDER_BYTES_MAX, NULL)) {
            lose(ranks, rank);
            continue;
        }
        if (answer->kind == GP_ANSWER_DONE) continue;
        if (done)
            gp_fail(status, "rank %d of %d: %.*s", rank, ranks->size,
                    answer->bytes < 4096 ? (int)answer->bytes : 4096, (const char *)answer->data);
        done = false;
    }
    return done && gp_ranks_check(ranks, status);
}

bool gp_ranks_use_stage(gp_ranks *ranks, size_t bytes, gp_status *status) {
    const uint64_t order = bytes;
    if (bytes <= ranks->stage) return true;
    ranks->moves++;
    ranks->stage = 0; /* where it fails, some have none */
    tell(ranks, GP_ORDER_STAGE, &order, sizeof order);
    if (!hear_all(ranks, status)) return false;
    ranks->stage = bytes;
    return true;
}

bool gp_ranks_use_pages(gp_ranks *ranks, int32_t pages, gp_status *status) {
    ranks->moves++;
    tell(ranks, GP_ORDER_CACHE, &pages, sizeof pages);
    return hear_all(ranks, status);
}

uint64_t gp_ranks_moves(const gp_ranks *ranks) {
    return ranks->moves;
}

void gp_ranks_copy_page(gp_ranks *ranks, int32_t from, int32_t to) {
    tell(ranks, GP_ORDER_COPY_PAGE, (int32_t[]){from, to}, 2 * sizeof(int32_t));
}

bool gp_ranks_wait(gp_ranks *ranks, gp_status *status) {
    tell(ranks, GP_ORDER_WAIT, NULL, 0);
    bool done = ranks->backend->ops->finish(ranks->backend, status);
    /* Processes whose leader failed in the group wait there for it; threads were ended with it, and say why.
     */
    if (ranks->group != NULL) done = gp_ranks_check(ranks, done ? status : NULL) && done;
    return hear_all(ranks, done ? status : NULL) && done;
}

void gp_ranks_pass(gp_ranks *ranks, const gp_pass *pass, const gp_language *language,
                   const gp_language_buffers *buffers) {
    const int32_t head[GP_PASS_HEAD] = {[GP_PASS_ROWS] = (int32_t)pass->rows,
                                        [GP_PASS_SEQUENCES] = pass->sequence_count,
                                        [GP_PASS_FINALS] = pass->final_count};
    tell_pass(ranks, GP_ORDER_PASS, head, pass->finals, pass->sequences, pass->tables);
    gp_language_share_rows(language, buffers, pass->rows, false);
}

void gp_ranks_step(gp_ranks *ranks, const gp_step *step, const gp_page_table *const *tables, int count,
                   int positions, int32_t generation) {
    const int32_t head[GP_PASS_HEAD] = {[GP_PASS_ROWS] = count,
                                        [GP_PASS_SEQUENCES] = count,
                                        [GP_PASS_POSITIONS] = positions,
                                        [GP_PASS_GENERATION] = generation};
    tell_pass(ranks, GP_ORDER_STEP, head, NULL, step->sequences, tables);
}

void gp_ranks_look(gp_ranks *ranks, int views) {
    tell(ranks, GP_ORDER_LOOK, (int32_t[]){views}, sizeof(int32_t));
}

void gp_ranks_ground(gp_ranks *ranks, int pictures, int width, int height) {
    tell(ranks, GP_ORDER_GROUND, (int32_t[]){pictures, width, height}, 3 * sizeof(int32_t));
}

void gp_ranks_record(gp_ranks *ranks, int32_t generation) {
    tell(ranks, GP_ORDER_RECORD, &generation, sizeof generation);
}

static void tell_pass(gp_ranks *ranks, uint32_t order, const int32_t *head, const int32_t *finals,
                      const gp_sequence *sequences, const gp_page_table *const *tables) {
    int32_t *words = ranks->words;
    memcpy(words, head, GP_PASS_HEAD * sizeof *words);
    words += GP_PASS_HEAD;
    if (head[GP_PASS_FINALS] > 0) memcpy(words, finals, (size_t)head[GP_PASS_FINALS] * sizeof *words);
    words += head[GP_PASS_FINALS];
    for (int i = 0; i < head[GP_PASS_SEQUENCES]; i++) {
        const gp_page_table *table = tables[i];
        words[GP_PASS_FIRST_ROW] = sequences[i].first_row;
        words[GP_PASS_SEQUENCE_ROWS] = sequences[i].rows;
        words[GP_PASS_FIRST_POSITION] = sequences[i].first_position;
        words[GP_PASS_PAGES] = table->count;
        memcpy(words + GP_PASS_SEQUENCE, table->pages, (size_t)table->count * sizeof *words);
        words += GP_PASS_SEQUENCE + table->count;
    }
    tell(ranks, order, ranks->words, (size_t)(words - ranks->words) * sizeof *words);
}
