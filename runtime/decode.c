#include "runtime/decode.h"

/** What a recording is good for. */
typedef struct shape {
    int row_size, length; /* which of them */
    int rows, positions;
} shape;

static const int ROWS[GP_STEP_ROWS] = {1, 2, 4, 8, 16, 24, 32, 48, GP_REQUESTS_MOST};
enum { POSITIONS_LEAST = 1024 };

static bool lay_out(const gp_run *run, int rows, gp_batch_buffers *buffers, gp_status *status);
static shape shape_for(const gp_run *run, int rows, int64_t positions);
static int64_t positions_most(const gp_run *run);
static void compute(const gp_run *run, const gp_batch_buffers *buffers, int rows, int positions);
static bool record(const gp_run *run, const gp_batch_buffers *buffers, shape s, gp_status *status);
static bool forget_moved(const gp_run *run, gp_status *status);
static bool record_sizes(const gp_run *run, gp_status *status);

bool gp_decode_step(const gp_run *run, const gp_step *step, const gp_page_table *const *tables, int count,
                    int positions, gp_batch_buffers *buffers, gp_status *status) {
    gp_backend *backend = run->model->backend;
    const gp_ops *ops = backend->ops;
    const bool records = ops->record != NULL;
    const shape s = records ? shape_for(run, count, positions) : (shape){0, 0, count, positions};
    if (!lay_out(run, s.rows, buffers, status) || (records && !forget_moved(run, status))) return false;
    if (run->ranks != NULL) gp_ranks_step(run->ranks, step, tables, count, positions, run->steps->generation);
    ops->upload(backend, buffers->step, step, sizeof *step);
    gp_recording *recorded = records ? run->steps->steps[s.row_size][s.length] : NULL;
    if (recorded != NULL) {
        ops->replay(backend, recorded);
        return true;
    }
    /* First of all directly: a kernel's first launch loads it, which must not be while recording. */
    compute(run, buffers, s.rows, s.positions);
    return !records || record(run, buffers, s, status);
}

bool gp_decode_record_all(const gp_run *run, gp_status *status) {
    gp_backend *backend = run->model->backend;
    if (backend->ops->record == NULL) return true;
    if (!forget_moved(run, status)) return false;
    if (run->ranks == NULL) return record_sizes(run, status) && backend->ops->finish(backend, status);
    gp_ranks_record(run->ranks, run->steps->generation);
    if (record_sizes(run, status)) return gp_ranks_wait(run->ranks, status);
    gp_ranks_give_up(run->ranks); /* who compute the next size with the leader */
    return false;
}

static bool record_sizes(const gp_run *run, gp_status *status) {
    gp_backend *backend = run->model->backend;
    const gp_step nobody = {0};
    gp_batch_buffers buffers;
    for (int rows = 0; rows < run->reserve->requests;) {
        shape s = shape_for(run, rows + 1, 1);
        rows = s.rows;
        if (!lay_out(run, rows, &buffers, status)) return false;
        backend->ops->upload(backend, buffers.step, &nobody, sizeof nobody);
        compute(run, &buffers, rows, s.positions);
        for (int64_t positions = 0; positions < positions_most(run); positions = s.positions) {
            s = shape_for(run, rows, positions + 1);
            if (!record(run, &buffers, s, status)) return false;
        }
    }
    return true;
}

bool gp_decode_forget(const gp_run *run, gp_status *status) {
    gp_backend *backend = run->model->backend;
    gp_recorded_steps *steps = run->steps;
    bool done = backend->ops->finish(backend, status);
    for (int i = 0; i < GP_STEP_ROWS && backend->ops->record != NULL; i++)
        for (int k = 0; k < GP_STEP_LENGTHS; k++) backend->ops->forget(backend, steps->steps[i][k]);
    *steps = (gp_recorded_steps){.generation = steps->generation};
    return done;
}

bool gp_decode_follow(const gp_run *run, int32_t generation, gp_status *status) {
    if (run->steps->generation == generation) return true;
    run->steps->generation = generation;
    return gp_decode_forget(run, status);
}

/* ---- sizes ---- */

static int64_t positions_most(const gp_run *run) {
    int64_t planned = run->reserve->limits.context;
    return planned > 0 ? planned : gp_plan_context(&run->model->config);
}

/** The smallest that serves. No more rows than there may be requests, for which memory is planned. */
static shape shape_for(const gp_run *run, int rows, int64_t positions) {
    shape s = {0};
    int64_t length = POSITIONS_LEAST, most = positions_most(run);
    while (ROWS[s.row_size] < rows) s.row_size++;
    for (; length < positions; length *= 2) s.length++;
    s.rows = ROWS[s.row_size] < run->reserve->requests ? ROWS[s.row_size] : run->reserve->requests;
    s.positions = (int)(length < most ? length : most);
    return s;
}

/** Buffers of one size lie at the same addresses for as long as the stage arena does not grow. */
static bool lay_out(const gp_run *run, int rows, gp_batch_buffers *buffers, gp_status *status) {
    return gp_run_use_batch(run, rows, rows, buffers, status);
}

/* ---- the step ---- */

static void compute(const gp_run *run, const gp_batch_buffers *buffers, int rows, int positions) {
    const gp_language *language = &run->model->language;
    gp_backend *backend = run->model->backend;
    const gp_step *step = buffers->step;
    const bool leads = language->split.rank == 0; /* embeddings and choices are its alone */
    if (leads)
        backend->ops->embed(backend, &(gp_embed){language->embeddings, step->ids, rows, buffers->language.x});
    if (language->communicator != NULL) gp_language_share_rows(language, &buffers->language, rows, true);
    gp_language_forward(language, backend, &buffers->language, rows, step->sequences, rows, run->cache,
                        positions);
    gp_language_final(language, backend, &buffers->language, 0, rows);
    gp_language_logits(language, backend, &buffers->language, rows, true, buffers->logits);
    if (leads) gp_decode_choose(run->model, buffers, rows);
}

void gp_decode_choose(const gp_model *model, const gp_batch_buffers *buffers, int rows) {
    model->backend->ops->sample(model->backend,
                                &(gp_sample){.logits = buffers->logits,
                                             .rows = rows,
                                             .count = model->config.language.vocab_size,
                                             .stride = gp_language_logit_stride(&model->language),
                                             .choices = buffers->step->choices,
                                             .order = buffers->order,
                                             .tokens = buffers->tokens});
}

static bool record(const gp_run *run, const gp_batch_buffers *buffers, shape s, gp_status *status) {
    gp_backend *backend = run->model->backend;
    gp_recording **recording = &run->steps->steps[s.row_size][s.length];
    backend->ops->record(backend);
    compute(run, buffers, s.rows, s.positions);
    *recording = backend->ops->recorded(backend, status);
    if (*recording == NULL)
        run->steps->stage = NULL; /* other ranks may have it: all forget, at the next step */
    return *recording != NULL;
}

/** Forgets what was recorded with addresses that are others' now, here or in another rank: what moves there
 * does so as the leader tells. */
static bool forget_moved(const gp_run *run, gp_status *status) {
    gp_recorded_steps *steps = run->steps;
    const uint64_t told = run->ranks != NULL ? gp_ranks_moves(run->ranks) : 0;
    if (steps->stage == run->stage->block && steps->moves == run->cache->moves && steps->told == told)
        return true;
    if (!gp_decode_forget(run, status)) return false;
    steps->stage = run->stage->block;
    steps->moves = run->cache->moves;
    steps->told = told;
    if (run->ranks != NULL) steps->generation++;
    return true;
}
