#include "runtime/worker.h"

#include "runtime/keep.h"
#include "runtime/orders.h"
#include "runtime/replica.h"
#include "runtime/watch.h"

#include <stdatomic.h>
#include <string.h>

typedef struct worker {
    const gp_worker_options *options;
    gp_channel channel;
    gp_message order;
    gp_backend *backend;
    gp_model model;
    _Atomic(gp_communicator *) communicator; /* which the watch may end */
    gp_watch *watch;
    gp_kv_cache cache;
    gp_arena stage;
    int32_t *tables; /* [table_pages] backend memory: of a pass's sequences, one after the other */
    size_t table_pages;
} worker;

static bool open_part(worker *w, gp_status *status);
static bool obey(worker *w, gp_status *status);
static bool answer(worker *w, bool done, gp_status *failure, gp_status *status);
static bool join_group(worker *w, gp_status *status);
static bool use_pages(worker *w, int32_t pages, gp_status *status);
static bool run_pass(worker *w, gp_status *status);
static bool wait_for_device(worker *w, gp_status *status);
static void leader_gone(void *user, int which);
static void close_part(worker *w);

bool gp_worker_serve(const gp_worker_options *options, gp_status *status) {
    worker w = {.options = options, .channel = options->channel};
    gp_status failure = {0};
    bool open = open_part(&w, &failure);
    bool done = answer(&w, open, &failure, status);
    if (!open && done) done = gp_fail(status, "%s", failure.message);
    while (done) {
        done = gp_channel_receive(&w.channel, &w.order, GP_ORDER_BYTES_MAX, status);
        if (!done || w.order.kind == GP_ORDER_END) break;
        done = obey(&w, status);
    }
    gp_status_clear(&failure);
    close_part(&w);
    return done;
}

static bool open_part(worker *w, gp_status *status) {
    const gp_worker_options *o = w->options;
    gp_status unexpected = {0};
    bool done =
        gp_replica_open_backend(o->engine->device, o->engine->threads, o->device, o->device_count,
                                &w->backend, status) &&
        gp_model_open(&w->model, o->engine, w->backend, (gp_split){o->rank, o->size}, &unexpected, status) &&
        gp_watch_start(&w->channel, 1, leader_gone, w, &w->watch, status);
    gp_status_clear(&unexpected); /* the leader has said so */
    if (!done) return false;
    w->table_pages = (size_t)(o->engine->requests > 0 ? o->engine->requests : 1) *
                     (size_t)gp_pages_for(w->model.language.positions);
    w->tables = w->backend->ops->allocate(w->backend, w->table_pages * sizeof *w->tables);
    return w->tables != NULL || gp_fail(status, "no memory for tables of %zu pages", w->table_pages);
}

/** Nothing blocks in the group any more. */
static void leader_gone(void *user, int which) {
    worker *w = user;
    gp_communicator *communicator = atomic_load(&w->communicator);
    (void)which; /* there is one channel */
    if (communicator != NULL) communicator->ops->abort(communicator);
}

/** Does what w->order says. False where it cannot go on: the leader is gone or says what makes no sense. */
static bool obey(worker *w, gp_status *status) {
    gp_status failure = {0};
    int32_t words[2] = {0};
    uint64_t bytes = 0;
    bool done = false;
    if (w->order.bytes >= sizeof bytes) memcpy(&bytes, w->order.data, sizeof bytes);
    if (w->order.bytes >= sizeof *words) memcpy(words, w->order.data, sizeof *words);
    switch (w->order.kind) {
    case GP_ORDER_JOIN:
        done = join_group(w, &failure);
        break;
    case GP_ORDER_STAGE:
        done = gp_arena_renew(&w->stage, w->backend, (size_t)bytes, &failure);
        break;
    case GP_ORDER_CACHE:
        done = use_pages(w, words[0], &failure);
        break;
    case GP_ORDER_COPY_PAGE:
        if (w->order.bytes != sizeof words) break;
        memcpy(words, w->order.data, sizeof words);
        if (words[0] < 0 || words[1] < 0 || words[0] >= w->cache.page_count ||
            words[1] >= w->cache.page_count)
            break;
        gp_kv_cache_copy_page(&w->cache, words[0], words[1]);
        return true;
    case GP_ORDER_PASS: /* others are in its collective operations already */
        if (run_pass(w, status)) return true;
        leader_gone(w, 0);
        if (!gp_failed(status)) gp_fail(status, "an order for a pass makes no sense");
        return false;
    case GP_ORDER_WAIT:
        done = wait_for_device(w, &failure);
        break;
    default:
        break;
    }
    if (!done && !gp_failed(&failure))
        gp_fail(&failure, "an order of kind %u and %zu bytes makes no sense here", w->order.kind,
                w->order.bytes);
    done = answer(w, done, &failure, status);
    gp_status_clear(&failure);
    return done;
}

static bool answer(worker *w, bool done, gp_status *failure, gp_status *status) {
    const char *text = gp_failed(failure) ? failure->message : "out of memory";
    return gp_channel_send(&w->channel, done ? GP_ANSWER_DONE : GP_ANSWER_FAILED, done ? NULL : text,
                           done ? 0 : strlen(text), NULL, 0, status);
}

static bool join_group(worker *w, gp_status *status) {
    const gp_worker_options *o = w->options;
    gp_communicator *communicator = NULL;
    gp_communicator_id id;
    int64_t most = 0;
    if (w->order.bytes != sizeof id + sizeof most) return false;
    memcpy(&id, w->order.data, sizeof id);
    memcpy(&most, w->order.data + sizeof id, sizeof most);
    if (!w->backend->ops->join(w->backend, &id, o->rank, o->size, (size_t)most, &communicator, status))
        return false;
    atomic_store(&w->communicator, communicator);
    w->model.language.communicator = communicator;
    return true;
}

static bool use_pages(worker *w, int32_t pages, gp_status *status) {
    const gp_language *language = &w->model.language;
    if (pages < 1 || pages > INT32_MAX / 2) return false;
    if (w->cache.backend != NULL) return gp_kv_cache_grow(&w->cache, pages, status);
    return gp_kv_cache_open(&w->cache, w->backend, language->config.num_hidden_layers, language->kv_heads,
                            language->head_dim, pages, NULL, status);
}

/** What a GP_ORDER_PASS says, checked. */
typedef struct pass {
    int32_t decode, rows, sequence_count, final_count;
    const int32_t *finals;
    gp_sequence sequences[GP_REQUESTS_MOST]; /* whose pages point into w->tables */
} pass;

/** Takes the next `count` words; NULL where there are no so many. */
static const int32_t *take(const int32_t **words, size_t *left, int64_t count) {
    const int32_t *taken = *words;
    if (count < 0 || (size_t)count > *left) return NULL;
    *words += count;
    *left -= (size_t)count;
    return taken;
}

static bool within(int64_t value, int64_t least, int64_t most) {
    return value >= least && value <= most;
}

/** Reads the pass in w->order and brings its pages to the device. */
static bool read_pass(const worker *w, pass *p) {
    const int32_t *words = (const int32_t *)(const void *)w->order.data;
    size_t left = w->order.bytes / sizeof *words, needed = 0;
    const int32_t *head = take(&words, &left, GP_PASS_HEAD);
    if (head == NULL) return false;
    *p = (pass){
        head[GP_PASS_DECODE], head[GP_PASS_ROWS], head[GP_PASS_SEQUENCES], head[GP_PASS_FINALS], NULL, {{0}}};
    if (!within(p->rows, 1, GP_PREFILL_ROWS) || !within(p->sequence_count, 1, GP_REQUESTS_MOST) ||
        !within(p->final_count, 0, GP_REQUESTS_MOST) ||
        (p->decode && (p->rows != p->sequence_count || p->final_count != p->rows)))
        return false;
    p->finals = take(&words, &left, p->final_count);
    for (int i = 0; p->finals != NULL && i < p->final_count; i++)
        if (!within(p->finals[i], 0, p->rows - 1)) return false;
    if (p->finals == NULL) return false;
    for (int i = 0; i < p->sequence_count; i++) {
        const int32_t *sequence = take(&words, &left, GP_PASS_SEQUENCE);
        if (sequence == NULL) return false;
        int64_t first = sequence[GP_PASS_FIRST_POSITION], rows = sequence[GP_PASS_SEQUENCE_ROWS];
        const int32_t *pages = take(&words, &left, sequence[GP_PASS_PAGES]);
        if (pages == NULL || needed + (size_t)sequence[GP_PASS_PAGES] > w->table_pages ||
            !within(rows, 1, p->rows) || first < 0 ||
            !within(sequence[GP_PASS_FIRST_ROW], 0, p->rows - rows) ||
            first + rows > (int64_t)sequence[GP_PASS_PAGES] * GP_PAGE_TOKENS ||
            first + rows > w->model.language.positions)
            return false;
        for (int32_t k = 0; k < sequence[GP_PASS_PAGES]; k++)
            if (!within(pages[k], 0, w->cache.page_count - 1)) return false;
        w->backend->ops->upload(w->backend, w->tables + needed, pages,
                                (size_t)sequence[GP_PASS_PAGES] * sizeof *pages);
        p->sequences[i] =
            (gp_sequence){sequence[GP_PASS_FIRST_ROW], (int32_t)rows, (int32_t)first, w->tables + needed};
        needed += (size_t)sequence[GP_PASS_PAGES];
    }
    return true;
}

/** The leader's part of a pass is gp_batch_prefill's and gp_batch_decode's. */
static bool run_pass(worker *w, gp_status *status) {
    const gp_language *language = &w->model.language;
    gp_batch_buffers buffers;
    gp_arena measure = {0};
    pass p;
    if (language->communicator == NULL || !read_pass(w, &p)) return false;
    gp_plan_batch(&w->model, w->backend, p.rows, p.sequence_count, &measure, &buffers);
    if (!gp_arena_renew(&w->stage, w->backend, measure.peak, status)) return false;
    gp_plan_batch(&w->model, w->backend, p.rows, p.sequence_count, &w->stage, &buffers);
    gp_language_share_rows(language, &buffers.language, p.rows);
    gp_language_forward(language, w->backend, &buffers.language, p.rows, p.sequences, p.sequence_count,
                        &w->cache, p.decode);
    if (p.decode) {
        gp_language_final(language, w->backend, &buffers.language, 0, p.rows);
        gp_language_logits(language, w->backend, &buffers.language, p.rows, true, buffers.logits);
    }
    for (int i = 0; i < p.final_count && !p.decode; i++) {
        gp_language_final(language, w->backend, &buffers.language, p.finals[i], 1);
        gp_language_logits(language, w->backend, &buffers.language, 1, false, buffers.logits);
    }
    return true;
}

static bool wait_for_device(worker *w, gp_status *status) {
    gp_communicator *communicator = atomic_load(&w->communicator);
    return w->backend->ops->finish(w->backend, status) &&
           (communicator == NULL || communicator->ops->check(communicator, status));
}

static void close_part(worker *w) {
    gp_communicator *communicator = atomic_load(&w->communicator);
    gp_watch_stop(w->watch);
    if (w->backend != NULL) {
        w->backend->ops->finish(w->backend, NULL);
        if (communicator != NULL) communicator->ops->destroy(communicator);
        if (w->cache.backend != NULL) gp_kv_cache_close(&w->cache);
        w->backend->ops->release(w->backend, w->stage.block);
        w->backend->ops->release(w->backend, w->tables);
        if (w->model.backend != NULL) gp_model_close(&w->model);
        gp_backend_close(w->backend);
    }
    gp_free(w->order.data);
    gp_channel_close(&w->channel);
}
