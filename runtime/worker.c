#include "runtime/worker.h"

#include "runtime/decode.h"
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
    atomic_bool joining;                     /* it is about to be there */
    atomic_bool gone;                        /* the leader is */
    gp_watch *watch;
    gp_kv_cache cache;
    gp_arena stage;
    gp_recorded_steps steps;
    gp_reserve reserve;
    gp_run run;      /* over the above */
    int32_t *tables; /* [table_pages] backend memory: of a pass's sequences, one after the other */
    size_t table_pages;
} worker;

static bool open_part(worker *w, gp_status *status);
static bool obey(worker *w, gp_status *status);
static bool answer(worker *w, bool done, gp_status *failure, gp_status *status);
static bool join_group(worker *w, gp_status *status);
static bool use_pages(worker *w, int32_t pages, gp_status *status);
static bool run_pass(worker *w, gp_status *status);
static bool run_step(worker *w, gp_status *status);
static bool record_all(worker *w, gp_status *status);
static bool look(worker *w, gp_status *status);
static bool ground(worker *w, gp_status *status);
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
        gp_status end = {0};
        done = gp_channel_receive(&w.channel, &w.order, GP_ORDER_BYTES_MAX, &end) ||
               gp_fail(status, "rank 0, which leads, has ended: %s", gp_failed(&end) ? end.message : "");
        gp_status_clear(&end);
        if (done && w.order.kind == GP_ORDER_END) {
            done = answer(&w, true, &failure, status);
            break;
        }
        done = done && obey(&w, status);
    }
    gp_status_clear(&failure);
    gp_watch_stop(w.watch);
    if (!done) leader_gone(&w, 0); /* nobody leaves the group in order */
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
        gp_reserve_measure(&w->model, w->backend, o->engine, &w->reserve, status) &&
        gp_watch_start(&w->watch, &w->channel, 1, leader_gone, w, status);
    gp_status_clear(&unexpected); /* the leader has said so */
    if (!done) return false;
    w->run = (gp_run){.model = &w->model,
                      .cache = &w->cache,
                      .stage = &w->stage,
                      .steps = &w->steps,
                      .reserve = &w->reserve};
    w->table_pages = (size_t)w->reserve.requests * (size_t)gp_pages_for(w->model.language.positions);
    w->tables = w->backend->ops->allocate(w->backend, w->table_pages * sizeof *w->tables);
    return w->tables != NULL || gp_fail(status, "no memory for tables of %zu pages", w->table_pages);
}

/** Nothing blocks in the group any more. */
static void leader_gone(void *user, int which) {
    worker *w = user;
    (void)which; /* there is one channel */
    atomic_store(&w->gone, true);
    gp_communicator *communicator = gp_communicator_when_joined(&w->communicator, &w->joining);
    if (communicator != NULL) communicator->ops->abort(communicator);
}

/** An order that is not answered could not be carried out: the others, who are in its collective operations
 * already, shall not wait. */
static bool give_up(worker *w, gp_status *status) {
    const gp_worker_options *o = w->options;
    int none = 0;
    if (!gp_failed(status))
        gp_fail(status, "an order of kind %u and %zu bytes makes no sense here", w->order.kind,
                w->order.bytes);
    if (o->failed != NULL && gp_failed(status) && !atomic_load(&w->gone))
        atomic_compare_exchange_strong(o->failed, &none, o->rank);
    leader_gone(w, 0);
    return false;
}

/** Whether all went well so far that the others count on: who waits for a rank whose device has failed, or
 * whose group has, waits for ever, and says nothing until then. */
static bool is_well(worker *w, gp_status *status) {
    if (wait_for_device(w, status)) return true;
    if (!atomic_load(&w->gone)) return false;
    return gp_fail(status, "rank 0, which leads, has ended");
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
    case GP_ORDER_JOIN: /* which others wait in */
        if (!join_group(w, status)) return give_up(w, status);
        done = true;
        break;
    case GP_ORDER_STAGE:
        done = gp_arena_renew(&w->stage, w->backend, (size_t)bytes, &failure);
        break;
    case GP_ORDER_CACHE:
        done = use_pages(w, words[0], &failure);
        break;
    case GP_ORDER_COPY_PAGE:
        if (w->order.bytes != sizeof words) return give_up(w, status);
        memcpy(words, w->order.data, sizeof words);
        if (words[0] < 0 || words[1] < 0 || words[0] >= w->cache.page_count ||
            words[1] >= w->cache.page_count)
            return give_up(w, status);
        gp_kv_cache_copy_page(&w->cache, words[0], words[1]);
        return true;
    case GP_ORDER_PASS:
        return (run_pass(w, status) && is_well(w, status)) || give_up(w, status);
    case GP_ORDER_STEP:
        return (run_step(w, status) && is_well(w, status)) || give_up(w, status);
    case GP_ORDER_LOOK:
        return (look(w, status) && is_well(w, status)) || give_up(w, status);
    case GP_ORDER_GROUND:
        return (ground(w, status) && is_well(w, status)) || give_up(w, status);
    case GP_ORDER_RECORD:
        return (record_all(w, status) && is_well(w, status)) || give_up(w, status);
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
    gp_communicator_id id;
    int64_t most = 0;
    if (w->order.bytes != sizeof id + sizeof most) return false;
    memcpy(&id, w->order.data, sizeof id);
    memcpy(&most, w->order.data + sizeof id, sizeof most);
    atomic_store(&w->joining, true);
    bool joined = atomic_load(&w->gone)
                      ? gp_fail(status, "rank 0 has ended")
                      : w->backend->ops->join(w->backend, &id, o->rank, o->size, (size_t)most,
                                              (gp_communicator **)&w->communicator, status);
    atomic_store(&w->joining, false);
    if (!joined) return false;
    gp_model_share(&w->model, atomic_load(&w->communicator));
    return true;
}

static bool use_pages(worker *w, int32_t pages, gp_status *status) {
    const gp_language *language = &w->model.language;
    if (pages < 1 || pages > INT32_MAX / 2) return false;
    if (w->cache.backend != NULL) return gp_kv_cache_grow(&w->cache, pages, status);
    return gp_kv_cache_open(&w->cache, w->backend, language->config.num_hidden_layers, language->kv_heads,
                            language->head_dim, pages, NULL, status);
}

/** What a GP_ORDER_PASS or a GP_ORDER_STEP says, checked. */
typedef struct pass {
    int32_t rows, sequence_count, final_count, positions, generation;
    const int32_t *finals;
    gp_step step; /* the sequences, whose pages point into w->tables */
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

/** The next sequence of the pass; its pages go to the device behind `used` others. */
static bool read_sequence(const worker *w, const int32_t **words, size_t *left, const pass *p, size_t *used,
                          gp_sequence *sequence) {
    const int32_t *head = take(words, left, GP_PASS_SEQUENCE);
    if (head == NULL) return false;
    const int64_t first = head[GP_PASS_FIRST_POSITION], rows = head[GP_PASS_SEQUENCE_ROWS];
    const int32_t count = head[GP_PASS_PAGES], *pages = take(words, left, count);
    if (pages == NULL || *used + (size_t)count > w->table_pages || !within(rows, 1, p->rows) || first < 0 ||
        !within(head[GP_PASS_FIRST_ROW], 0, p->rows - rows) ||
        first + rows > (int64_t)count * GP_PAGE_TOKENS || first + rows > w->model.language.positions)
        return false;
    for (int32_t k = 0; k < count; k++)
        if (!within(pages[k], 0, w->cache.page_count - 1)) return false;
    w->backend->ops->upload(w->backend, w->tables + *used, pages, (size_t)count * sizeof *pages);
    *sequence = (gp_sequence){head[GP_PASS_FIRST_ROW], (int32_t)rows, (int32_t)first, w->tables + *used};
    *used += (size_t)count;
    return true;
}

static bool read_pass(const worker *w, pass *p) {
    const int32_t *words = (const int32_t *)(const void *)w->order.data;
    const bool step = w->order.kind == GP_ORDER_STEP;
    size_t left = w->order.bytes / sizeof *words, used = 0;
    const int32_t *head = take(&words, &left, GP_PASS_HEAD);
    if (head == NULL || w->model.language.communicator == NULL) return false;
    *p = (pass){.rows = head[GP_PASS_ROWS],
                .sequence_count = head[GP_PASS_SEQUENCES],
                .final_count = head[GP_PASS_FINALS],
                .positions = head[GP_PASS_POSITIONS],
                .generation = head[GP_PASS_GENERATION]};
    if (!within(p->rows, 1, GP_PREFILL_ROWS) || !within(p->sequence_count, 1, w->reserve.requests) ||
        !within(p->final_count, 0, w->reserve.requests) ||
        (step && (p->rows != p->sequence_count || !within(p->positions, 1, w->model.language.positions))))
        return false;
    p->finals = take(&words, &left, p->final_count);
    if (p->finals == NULL) return false;
    for (int i = 0; i < p->final_count; i++)
        if (!within(p->finals[i], 0, p->rows - 1)) return false;
    for (int i = 0; i < p->sequence_count; i++) {
        gp_sequence *sequence = &p->step.sequences[i];
        if (!read_sequence(w, &words, &left, p, &used, sequence) ||
            (step &&
             (sequence->first_row != i || sequence->rows != 1 || sequence->first_position >= p->positions)))
            return false;
    }
    return true;
}

/** The leader's part of it is gp_batch_prefill's. */
static bool run_pass(worker *w, gp_status *status) {
    const gp_language *language = &w->model.language;
    gp_batch_buffers buffers;
    pass p;
    if (!read_pass(w, &p) || !gp_run_use_batch(&w->run, p.rows, p.sequence_count, &buffers, status))
        return false;
    gp_language_share_rows(language, &buffers.language, p.rows, false);
    gp_language_forward(language, w->backend, &buffers.language, p.rows, p.step.sequences, p.sequence_count,
                        &w->cache, 0);
    for (int i = 0; i < p.final_count; i++) {
        gp_language_final(language, w->backend, &buffers.language, p.finals[i], 1);
        gp_language_logits(language, w->backend, &buffers.language, 1, false,
                           buffers.logits + i * gp_language_logit_stride(language));
    }
    return true;
}

static bool run_step(worker *w, gp_status *status) {
    gp_batch_buffers buffers;
    pass p;
    return read_pass(w, &p) && gp_decode_follow(&w->run, p.generation, status) &&
           gp_decode_step(&w->run, &p.step, NULL, p.sequence_count, p.positions, &buffers, status);
}

/** The `count` words of an order; false where there are others. */
static bool read_words(const worker *w, int32_t *words, size_t count) {
    if (w->order.bytes != count * sizeof *words || w->model.language.communicator == NULL) return false;
    memcpy(words, w->order.data, w->order.bytes);
    return true;
}

static bool record_all(worker *w, gp_status *status) {
    int32_t generation;
    return read_words(w, &generation, 1) && gp_decode_follow(&w->run, generation, status) &&
           gp_decode_record_all(&w->run, status);
}

static bool look(worker *w, gp_status *status) {
    const int ranks = w->options->size;
    gp_vision_buffers buffers;
    gp_arena measure = {0};
    int32_t views;
    if (!read_words(w, &views, 1) || !within(views, 1, (int64_t)GP_VIEW_BATCH * ranks)) return false;
    gp_vision_layout(&w->model.vision, w->backend, views, ranks, &measure, &buffers);
    if (!gp_run_reserve_stage(&w->run, measure.peak, status)) return false;
    gp_vision_layout(&w->model.vision, w->backend, views, ranks, &w->stage, &buffers);
    gp_vision_share(&w->model.vision, w->backend, views, &buffers);
    return true;
}

static bool ground(worker *w, gp_status *status) {
    const int ranks = w->options->size;
    gp_grounding_buffers buffers;
    gp_arena measure = {0};
    int32_t words[3]; // pictures, width, height
    if (!read_words(w, words, 3) || !within(words[0], 1, ranks) ||
        !within(words[1], 1, GP_DIVIDER_SIDE_MAX) || !within(words[2], 1, GP_DIVIDER_SIDE_MAX))
        return false;
    gp_grounding_layout(&w->model.grounding, w->backend, ranks, words[1], words[2], &measure, &buffers);
    if (!gp_run_reserve_stage(&w->run, measure.peak, status)) return false;
    gp_grounding_layout(&w->model.grounding, w->backend, ranks, words[1], words[2], &w->stage, &buffers);
    gp_grounding_share(&w->model.grounding, w->backend, words[0], &buffers);
    return true;
}

static bool wait_for_device(worker *w, gp_status *status) {
    gp_communicator *communicator = atomic_load(&w->communicator);
    return w->backend->ops->finish(w->backend, status) &&
           (communicator == NULL || communicator->ops->check(communicator, status));
}

static void close_part(worker *w) {
    gp_communicator *communicator = atomic_load(&w->communicator);
    if (w->backend != NULL) {
        if (w->run.model != NULL) gp_decode_forget(&w->run, NULL);
        if (communicator != NULL) communicator->ops->destroy(communicator);
        if (w->cache.backend != NULL) gp_kv_cache_close(&w->cache);
        w->backend->ops->release(w->backend, w->stage.block);
        w->backend->ops->release(w->backend, w->tables);
        if (w->model.backend != NULL) gp_model_close(&w->model);
        gp_backend_close(w->backend);
    }
    gp_free(w->order.data);
}
