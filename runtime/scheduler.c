#include "runtime/scheduler.h"

#include "kernels/base/memory.h"
#include "runtime/batch.h"

/** All memory of requests and sessions, where it is planned. */
static bool reserve_all(gp_scheduler *scheduler, gp_backend *backend, gp_status *status) {
    const gp_reserve *reserve = &scheduler->reserve;
    gp_kv_cache *cache = &scheduler->cache;
    const int sessions = reserve->limits.sessions;
    if (reserve->limits.width == 0) return true;
    scheduler->spare = gp_allocate_zeroed((size_t)sessions, sizeof *scheduler->spare);
    if (scheduler->spare == NULL) return gp_fail(status, "no memory for %d sessions", sessions);
    bool done = gp_run_reserve_stage(&scheduler->run, reserve->stage, status) &&
                gp_arena_renew(&scheduler->ground_stage, backend, reserve->ground_stage, status);
    for (int i = 0; i < gp_reserve_canvases(reserve) && done; i++)
        done = gp_arena_renew(&scheduler->canvases[i], backend, reserve->canvas, status);
    for (int i = 0; i < scheduler->limit && done; i++)
        done = gp_place_reserve(&scheduler->places[i], cache, reserve, status);
    for (int i = 0; i < sessions && done; i++) {
        scheduler->spare_count++;
        done = gp_keep_reserve(&scheduler->spare[i], cache, reserve->seen, reserve->table_pages, status);
    }
    return done && gp_decode_record_all(&scheduler->run, status);
}

static bool use_pages_of_ranks(void *user, int32_t pages, gp_status *status) {
    return gp_ranks_use_pages(user, pages, status);
}

static void copy_page_of_ranks(void *user, int32_t from, int32_t to) {
    gp_ranks_copy_page(user, from, to);
}

bool gp_scheduler_open(gp_scheduler *scheduler, const gp_model *model, gp_ranks *ranks,
                       const gp_reserve *reserve, gp_status *status) {
    const gp_language *language = &model->language;
    const int32_t limit = reserve->requests, pages = reserve->pages;
    *scheduler = (gp_scheduler){.limit = limit, .reserve = *reserve};
    scheduler->run = (gp_run){.model = model,
                              .cache = &scheduler->cache,
                              .stage = &scheduler->stage,
                              .ground_stage = &scheduler->ground_stage,
                              .canvases = scheduler->canvases,
                              .groundings = model->language.split.size,
                              .steps = &scheduler->steps,
                              .reserve = &scheduler->reserve,
                              .ranks = ranks};
    if (ranks != NULL) {
        scheduler->mirror = (gp_kv_mirror){use_pages_of_ranks, copy_page_of_ranks, ranks};
        scheduler->run.mirror = &scheduler->mirror;
    }
    scheduler->places = gp_allocate_zeroed((size_t)limit, sizeof *scheduler->places);
    scheduler->taken = gp_allocate_zeroed((size_t)limit, sizeof *scheduler->taken);
    scheduler->running = gp_allocate_zeroed((size_t)limit, sizeof *scheduler->running);
    bool done = scheduler->places != NULL && scheduler->taken != NULL && scheduler->running != NULL;
    if (!done) gp_fail(status, "no memory for %d requests", limit);
    if (done && pages > 0) {
        done = gp_kv_cache_open(&scheduler->cache, model->backend, language->config.num_hidden_layers,
                                language->kv_heads, language->head_dim, pages, scheduler->run.mirror, status);
        scheduler->cache.page_limit = pages;
    }
    done = done && reserve_all(scheduler, model->backend, status);
    if (!done) gp_scheduler_close(scheduler);
    return done;
}

bool gp_scheduler_lend(gp_scheduler *scheduler, gp_keep *keep, gp_status *status) {
    *keep = (gp_keep){0};
    if (scheduler->spare == NULL) return true;
    if (scheduler->spare_count == 0)
        return gp_fail(status, "%d sessions are open, and the engine's memory is planned for no more",
                       scheduler->reserve.limits.sessions);
    *keep = scheduler->spare[--scheduler->spare_count];
    return true;
}

/** A question of the session came, or ended. */
static void use(gp_scheduler *scheduler, gp_keep *keep) {
    gp_keep **sessions = &scheduler->run.sessions;
    if (keep->used == 0) {
        keep->next = *sessions;
        *sessions = keep;
    }
    keep->used = ++scheduler->uses;
}

void gp_scheduler_take_back(gp_scheduler *scheduler, gp_keep *keep) {
    for (gp_keep **link = &scheduler->run.sessions; *link != NULL; link = &(*link)->next)
        if (*link == keep) {
            *link = keep->next;
            break;
        }
    keep->next = NULL;
    keep->used = 0;
    if (scheduler->spare == NULL) {
        gp_keep_close(keep, scheduler->run.model->backend);
        return;
    }
    gp_keep_forget(keep);
    scheduler->spare[scheduler->spare_count++] = *keep;
    *keep = (gp_keep){0};
}

void gp_scheduler_close(gp_scheduler *scheduler) {
    if (scheduler->run.model == NULL) return;
    gp_backend *backend = scheduler->run.model->backend;
    gp_decode_forget(&scheduler->run, NULL);
    for (int i = 0; i < scheduler->limit && scheduler->places != NULL; i++)
        gp_place_close(&scheduler->places[i], backend);
    for (int i = 0; i < scheduler->spare_count; i++) gp_keep_close(&scheduler->spare[i], backend);
    backend->ops->release(backend, scheduler->stage.block);
    backend->ops->release(backend, scheduler->ground_stage.block);
    for (int i = 0; i < GP_VISION_PICTURES; i++) backend->ops->release(backend, scheduler->canvases[i].block);
    if (scheduler->cache.backend != NULL) gp_kv_cache_close(&scheduler->cache);
    gp_free(scheduler->places);
    gp_free(scheduler->taken);
    gp_free(scheduler->running);
    gp_free(scheduler->spare);
    *scheduler = (gp_scheduler){0};
}

bool gp_scheduler_add(gp_scheduler *scheduler, gp_question *question, gp_keep *keep, void *owner) {
    int place = 0;
    while (scheduler->taken[place]) place++;
    gp_request_state *state = gp_request_open(&scheduler->run, question, &scheduler->places[place], keep);
    if (state == NULL) return false;
    if (keep != NULL) use(scheduler, keep);
    scheduler->taken[place] = true;
    scheduler->running[scheduler->count++] = (gp_running){state, &scheduler->places[place], owner};
    return true;
}

/** The running requests in a phase, in their order. */
static int in_phase(const gp_scheduler *scheduler, gp_phase phase, gp_request_state **found) {
    int count = 0;
    for (int i = 0; i < scheduler->count; i++)
        if (scheduler->running[i].state->phase == phase) found[count++] = scheduler->running[i].state;
    return count;
}

/** Those whose answer has a [SEG], whole or not, in their order. */
static int with_segs(const gp_scheduler *scheduler, gp_request_state **found) {
    int count = 0;
    for (int i = 0; i < scheduler->count; i++) {
        gp_request_state *s = scheduler->running[i].state;
        if (s->segs && s->phase != GP_PHASE_OVER) found[count++] = s;
    }
    return count;
}

static gp_running *first_in(gp_scheduler *scheduler, gp_phase phase) {
    for (int i = 0; i < scheduler->count; i++)
        if (scheduler->running[i].state->phase == phase) return &scheduler->running[i];
    return NULL;
}

/** The final events of those that are over, and their places free again. */
static void close_ended(gp_scheduler *scheduler, void (*ended)(void *user, void *owner, gp_event_type final),
                        void *user) {
    int kept = 0;
    for (int i = 0; i < scheduler->count; i++) {
        gp_running one = scheduler->running[i];
        gp_keep *keep = one.state->keep;
        if (one.state->phase != GP_PHASE_OVER) {
            scheduler->running[kept++] = one;
            continue;
        }
        if (keep != &one.place->keep) use(scheduler, keep);
        gp_event_type final = gp_request_close(one.state);
        gp_keep_forget(&one.place->keep);
        scheduler->taken[one.place - scheduler->places] = false;
        ended(user, one.owner, final);
    }
    scheduler->count = kept;
}

/** Whether a request before the i-th that waits to start has the same keep. */
static bool mate_waits(const gp_scheduler *scheduler, int i) {
    const gp_running *running = scheduler->running;
    for (int k = 0; k < i; k++)
        if (running[k].state->phase == GP_PHASE_START && running[k].state->keep == running[i].state->keep)
            return true;
    return false;
}

/** Where another picture may be divided to; NULL: nowhere, now. */
static gp_arena *free_canvas(gp_scheduler *scheduler) {
    for (int i = 0; i < gp_reserve_canvases(&scheduler->reserve); i++) {
        gp_arena *canvas = &scheduler->canvases[i];
        bool free = true;
        for (int k = 0; k < scheduler->count && free; k++) {
            const gp_request_state *s = scheduler->running[k].state;
            free = s->phase != GP_PHASE_VISION || s->canvas != canvas;
        }
        if (free) return canvas;
    }
    return NULL;
}

static gp_company company_of(gp_scheduler *scheduler, const gp_request_state *s) {
    gp_company company = {.alone = true, .canvas = free_canvas(scheduler)};
    for (int i = 0; i < scheduler->count; i++) {
        const gp_request_state *other = scheduler->running[i].state;
        if (other == s) continue;
        if (other->began) company.alone = false;
        if (other->keep == s->keep && (other->phase == GP_PHASE_VISION || other->phase == GP_PHASE_PREFILL))
            company.prefilling = true;
    }
    return company;
}

/**
 * Starts requests in their order. Who waits for pages keeps those behind from taking them; who waits for
 * vision, those that wait for it too; who waits for its session, that session's.
 */
static void start_next(gp_scheduler *scheduler) {
    for (int i = 0; i < scheduler->count; i++) {
        gp_request_state *s = scheduler->running[i].state;
        if (s->phase != GP_PHASE_START || mate_waits(scheduler, i)) continue;
        if (gp_request_start(s, scheduler->running[i].place, company_of(scheduler, s)) == GP_OUTCOME_WAITS)
            return;
    }
}

/**
 * Waits for the device, all its lanes, before anybody ends: buffers are used again afterwards. A failure
 * there is of everybody who has begun, as all share passes: what was computed is not known.
 */
static void wait_for_device(gp_scheduler *scheduler) {
    gp_backend *backend = scheduler->run.model->backend;
    gp_status status = {0};
    gp_ranks *ranks = scheduler->run.ranks;
    if (first_in(scheduler, GP_PHASE_OVER) == NULL ||
        (ranks != NULL ? gp_ranks_wait(ranks, &status) : backend->ops->finish(backend, &status))) {
        gp_status_clear(&status);
        return;
    }
    for (int i = 0; i < scheduler->count; i++) {
        gp_request_state *s = scheduler->running[i].state;
        if (!s->began || (s->phase == GP_PHASE_OVER && s->outcome == GP_OUTCOME_FAILED)) continue;
        gp_fail(&s->status, "%s", gp_failed(&status) ? status.message : "the device failed");
        gp_request_stop(s, GP_OUTCOME_FAILED);
    }
    gp_status_clear(&status);
}

void gp_scheduler_round(gp_scheduler *scheduler, void (*ended)(void *user, void *owner, gp_event_type final),
                        void *user) {
    gp_request_state *found[GP_REQUESTS_MOST];
    const gp_run *run = &scheduler->run;
    for (int i = 0; i < scheduler->count; i++) {
        gp_request_state *s = scheduler->running[i].state;
        if (atomic_load(&s->question->cancelled)) gp_request_stop(s, GP_OUTCOME_CANCELLED);
    }
    start_next(scheduler);
    int count = gp_plan_grounds_beside(run->model, run->model->backend) ? with_segs(scheduler, found) : 0;
    if (count > 0) gp_batch_ground(run, found, count);
    count = in_phase(scheduler, GP_PHASE_VISION, found);
    if (count > 0) gp_batch_look(run, found, count);
    count = in_phase(scheduler, GP_PHASE_PREFILL, found);
    if (count > 0) gp_batch_prefill(run, found, count);
    count = in_phase(scheduler, GP_PHASE_DECODE, found);
    if (count > 0) gp_batch_decode(run, found, count);
    count = in_phase(scheduler, GP_PHASE_MASKS, found);
    if (count > 0) gp_batch_draw(run, found, count);
    wait_for_device(scheduler);
    close_ended(scheduler, ended, user);
}
