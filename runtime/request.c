#include "kernels/base/clock.h"
#include "kernels/base/memory.h"
#include "runtime/request_state.h"

#include <stdio.h>
#include <string.h>

static gp_outcome prepare(gp_request_state *s, gp_place *place, gp_company company);
static bool divide_picture(gp_request_state *s, gp_arena *canvas);
static void report_result(gp_request_state *s);
static void release(gp_request_state *s);

gp_request_state *gp_request_open(const gp_run *run, gp_question *question, gp_place *place, gp_keep *keep) {
    gp_request_state *s = gp_allocate_zeroed(1, sizeof *s);
    if (s == NULL) return NULL;
    *s = (gp_request_state){.run = run,
                            .model = run->model,
                            .backend = run->model->backend,
                            .question = question,
                            .options = &question->options,
                            .keep = keep != NULL ? keep : &place->keep,
                            .sequence = &place->sequence,
                            .current = GP_STAGE_COUNT};
    if (keep == NULL) gp_keep_forget(s->keep);
    return s;
}

void gp_request_stop(gp_request_state *s, gp_outcome outcome) {
    s->phase = GP_PHASE_OVER;
    s->outcome = outcome;
}

void gp_requests_fail(gp_request_state *const *requests, int count, const gp_status *status) {
    for (int i = 0; i < count; i++) {
        gp_fail(&requests[i]->status, "%s", gp_failed(status) ? status->message : "out of memory");
        gp_request_stop(requests[i], GP_OUTCOME_FAILED);
    }
}

gp_outcome gp_request_start(gp_request_state *s, gp_place *place, gp_company company) {
    gp_request_begin(s, GP_STAGE_PREPARE);
    gp_outcome end = prepare(s, place, company);
    if (end == GP_OUTCOME_WAITS || end == GP_OUTCOME_WAITS_FOR_VISION || end == GP_OUTCOME_WAITS_FOR_MATES) {
        gp_request_begin(s, GP_STAGE_COUNT); /* waiting is no work on it */
        return end;
    }
    if (end == GP_OUTCOME_DONE && !s->keep->tokens_known && !divide_picture(s, company.canvas))
        end = GP_OUTCOME_FAILED;
    if (end != GP_OUTCOME_DONE) {
        gp_request_stop(s, end);
        return end;
    }
    gp_request_begin(s, s->keep->tokens_known ? GP_STAGE_PREFILL : GP_STAGE_VISION);
    s->phase = s->keep->tokens_known ? GP_PHASE_PREFILL : GP_PHASE_VISION;
    return end;
}

gp_event_type gp_request_close(gp_request_state *s) {
    const gp_outcome end = s->outcome;
    if (end == GP_OUTCOME_FAILED && s->prepared) gp_keep_forget(s->keep); /* what was computed is not known */
    if (s->began) {
        s->keep->running--;
        if (s->keep->forgotten == s->forgotten)
            gp_kept_end(s->sequence, s->keep, s->backend->decodes_as_prompts ? INT64_MAX : s->prompt_tokens);
        else
            gp_kept_release(s->sequence);
    }
    gp_request_begin(s, GP_STAGE_COUNT);
    gp_event event = {.type = end == GP_OUTCOME_FAILED ? GP_EVENT_ERROR : GP_EVENT_CANCELLED};
    if (end == GP_OUTCOME_DONE) {
        report_result(s);
        event.type = GP_EVENT_DONE;
    } else {
        if (end == GP_OUTCOME_FAILED)
            event.error = gp_failed(&s->status) ? s->status.message : "the request failed";
        s->options->on_event(s->options->user, &event);
    }
    release(s);
    return event.type;
}

/* ---- prepare: prompt, division, memory ------------------------------------------------------------------
 */

static bool plan_division(gp_request_state *s) {
    const gp_request_options *options = s->options;
    const gp_config *config = &s->model->config;
    int64_t text = (int64_t)(s->prompt.before.count + s->prompt.after.count);
    gp_plan_options picture = {.width = options->image.width,
                               .height = options->image.height,
                               .crops = options->crops,
                               .max_crops = options->max_crops};
    if (!gp_plan_division(config, &picture, text, s->max_new_tokens, &s->division, &s->status)) return false;
    s->prompt_tokens = (int)(text + s->division.image_tokens);
    if (!gp_reserve_holds(s->run->reserve, &s->division, (int64_t)s->prompt_tokens + s->max_new_tokens,
                          &s->status))
        return false;
    if (s->division.reduced && s->run->on_warning != NULL) {
        char line[200];
        snprintf(line, sizeof line,
                 "the picture is divided into %d x %d crops, fewer than the official rule gives: %d prompt "
                 "tokens and %d "
                 "new ones of %lld",
                 s->division.columns, s->division.rows, s->prompt_tokens, s->max_new_tokens,
                 (long long)gp_plan_context(config));
        s->run->on_warning(s->run->warning_user, line);
    }
    return true;
}

/** The picture's rows, unless a question before this one brought them. Where they were forgotten since, maps
 * may be under way for another request of the session. */
static void upload_source(gp_request_state *s) {
    const gp_image *image = &s->options->image;
    size_t row = 3 * (size_t)image->width, stride = image->stride > 0 ? image->stride : row;
    if (!s->keep->source_known && s->keep->maps_under_way)
        s->backend->ops->wait_for_lane(s->backend, GP_LANE_GROUND);
    for (int y = 0; y < image->height && !s->keep->source_known; y++)
        s->backend->ops->upload(s->backend, s->keep->seen.source + (size_t)y * row,
                                image->pixels + (size_t)y * stride, row);
    s->keep->source_known = true;
}

/** What can be known without memory for it. */
static bool ask(gp_request_state *s) {
    const gp_request_options *options = s->options;
    s->max_new_tokens = options->max_new_tokens > 0 ? options->max_new_tokens : GP_NEW_TOKENS_DEFAULT;
    s->asked = gp_prompt_build(s->model->tokenizer, options->prompt, options->history, options->history_count,
                               &s->prompt, &s->status) &&
               gp_reserve_admits(s->run->reserve, options, s->max_new_tokens, &s->prompt, &s->status) &&
               plan_division(s);
    return s->asked;
}

/** Begins the request's sequence, with pages for all of it, so that it never waits for one in its middle. */
static gp_outcome begin_sequence(gp_request_state *s, gp_company company) {
    const gp_language *language = &s->model->language;
    gp_kv_cache *cache = s->run->cache;
    int64_t tokens = (int64_t)s->prompt_tokens + s->max_new_tokens;
    int64_t common = gp_kept_common(&s->keep->last, &s->prompt, &s->division);
    int32_t pages = gp_pages_for(tokens), missing = gp_kept_missing_pages(s->keep, common, tokens);
    if (company.prefilling &&
        (!s->keep->tokens_known || common < (int64_t)s->prompt.before.count + s->division.image_tokens))
        return GP_OUTCOME_WAITS_FOR_MATES;
    if (cache->page_limit > 0 && pages > cache->page_limit) {
        gp_fail(&s->status, "%lld positions need %d pages of keys and values; there are %d",
                (long long)tokens, pages, cache->page_limit);
        return GP_OUTCOME_FAILED;
    }
    if (cache->backend == NULL &&
        !gp_kv_cache_open(cache, s->backend, language->config.num_hidden_layers, language->kv_heads,
                          language->head_dim, missing, s->run->mirror, &s->status))
        return GP_OUTCOME_FAILED;
    while (!gp_kv_cache_provide(cache, missing, &s->status)) {
        if (company.alone && !gp_keep_take_pages(s->run->sessions, s->keep)) return GP_OUTCOME_FAILED;
        gp_status_clear(&s->status);
        if (!company.alone) return GP_OUTCOME_WAITS;
    }
    if (!gp_kept_begin(s->sequence, s->keep, cache, common, tokens, &s->status)) return GP_OUTCOME_FAILED;
    s->began = true;
    s->forgotten = s->keep->forgotten;
    s->keep->running++;
    return GP_OUTCOME_DONE;
}

static gp_outcome prepare(gp_request_state *s, gp_place *place, gp_company company) {
    const gp_request_options *options = s->options;
    gp_arena measure = {0}, *arena = &place->kept;
    int width = options->image.width, height = options->image.height;
    if (s->run->ranks != NULL && !gp_ranks_check(s->run->ranks, &s->status)) return GP_OUTCOME_FAILED;
    if (!s->asked && !ask(s)) return GP_OUTCOME_FAILED;
    if (!gp_keep_admits(s->keep, &s->division)) return GP_OUTCOME_WAITS_FOR_MATES;
    if (company.canvas == NULL && !gp_keep_knows_tokens(s->keep, &s->division))
        return GP_OUTCOME_WAITS_FOR_VISION;
    if (!gp_keep_prepare_picture(s->keep, s->model, width, height, &s->division, &s->status))
        return GP_OUTCOME_FAILED;
    gp_outcome begun = begin_sequence(s, company);
    if (begun != GP_OUTCOME_DONE) return begun;
    s->ids = gp_allocate((size_t)s->max_new_tokens * sizeof *s->ids);
    if (s->ids == NULL) {
        gp_fail(&s->status, "no memory for %d tokens", s->max_new_tokens);
        return GP_OUTCOME_FAILED;
    }
    if (!gp_text_stream_open(s->model->tokenizer, (size_t)s->max_new_tokens, &s->stream, &s->status))
        return GP_OUTCOME_FAILED;
    gp_plan_kept(s->model, s->backend, width, height, s->max_new_tokens, &measure, &s->kept);
    if (!gp_arena_renew(arena, s->backend, measure.peak, &s->status)) return GP_OUTCOME_FAILED;
    gp_plan_kept(s->model, s->backend, width, height, s->max_new_tokens, arena, &s->kept);
    s->kept_bytes = arena->capacity;
    /* Now: the encoder begins in the middle of the text, where nothing is allocated. */
    if (!gp_arena_renew(s->run->ground_stage, s->backend,
                        gp_plan_ground_stage(s->model, s->backend, width, height), &s->status))
        return GP_OUTCOME_FAILED;
    s->prepared = true;
    upload_source(s);
    if (s->run->observer != NULL && s->run->observer->integers != NULL) {
        s->run->observer->integers(s->run->observer->user, "text_ids.0", s->prompt.before.ids,
                                   s->prompt.before.count);
        s->run->observer->integers(s->run->observer->user, "text_ids.1", s->prompt.after.ids,
                                   s->prompt.after.count);
    }
    return gp_request_step(s, 1, 1) ? GP_OUTCOME_DONE : GP_OUTCOME_CANCELLED;
}

/** The picture resized onto the canvas, for vision to look at. */
static bool divide_picture(gp_request_state *s, gp_arena *canvas) {
    const gp_division *division = &s->division;
    gp_arena measure = {0}, scratch = {0};
    const int width = s->options->image.width, height = s->options->image.height;
    gp_plan_canvas(division, &measure);
    gp_plan_resize(width, height, division, &scratch);
    if (!gp_arena_renew(canvas, s->backend, measure.peak, &s->status) ||
        !gp_run_use_stage(s->run, scratch.peak, &s, 1))
        return false;
    uint8_t *pixels = gp_plan_canvas(division, canvas);
    s->canvas = canvas;
    s->picture = (gp_vision_picture){.canvas = pixels,
                                     .rows = division->rows,
                                     .columns = division->columns,
                                     .features = s->keep->seen.image_tokens};
    s->backend->ops->resize_rgb(
        s->backend, &(gp_resize_rgb){.source = s->keep->seen.source,
                                     .source_width = width,
                                     .source_height = height,
                                     .source_stride = 3 * (size_t)width,
                                     .width = division->width,
                                     .height = division->height,
                                     .vertical_first = division->transposed,
                                     .canvas_width = division->canvas_width,
                                     .canvas_height = division->canvas_height,
                                     .scratch = gp_plan_resize(width, height, division, s->run->stage),
                                     .canvas = pixels});
    gp_observe_divided(s->run->observer, s->backend, pixels, division->canvas_width, division->canvas_height,
                       division->columns, division->rows);
    return true;
}

/* ---- result, time, memory -------------------------------------------------------------------------------
 */

static void report_result(gp_request_state *s) {
    const gp_kv_cache *cache = s->run->cache;
    uint64_t canvases = 0;
    for (int i = 0; i < GP_VISION_PICTURES; i++) canvases += s->run->canvases[i].capacity;
    gp_result result = {
        .text = gp_text_stream_text(s->stream),
        .token_ids = s->ids,
        .token_count = (size_t)s->id_count,
        .phrases = s->phrases,
        .phrase_count = s->phrase_count,
        .mask_count = (size_t)s->seg_count,
        .prompt_tokens = s->prompt_tokens,
        .image_tokens = (int)s->division.image_tokens,
        .crop_columns = s->division.columns,
        .crop_rows = s->division.rows,
        .memory = {.weights = s->model->weight_bytes,
                   .converted = s->model->converted_bytes,
                   .kv_cache = (uint64_t)cache->layers * (uint64_t)cache->page_count * cache->page_bytes,
                   .activations = s->keep->arena.capacity + s->kept_bytes + canvases +
                                  s->run->stage->capacity + s->run->ground_stage->capacity +
                                  s->mask.arena.capacity,
                   .workspace = s->backend->workspace_bytes},
    };
    memcpy(result.seconds, s->seconds, sizeof result.seconds);
    s->options->on_event(s->options->user, &(gp_event){.type = GP_EVENT_DONE, .result = result});
}

static void release(gp_request_state *s) {
    gp_prompt_clear(&s->prompt);
    gp_text_stream_close(s->stream);
    for (size_t i = 0; i < s->phrase_count; i++) gp_free((char *)s->phrases[i].text);
    gp_free(s->phrases);
    gp_mask_picture_close(&s->mask);
    gp_free(s->ids);
    gp_status_clear(&s->status);
    gp_free(s);
}

void gp_request_begin(gp_request_state *s, gp_stage stage) {
    double time = gp_clock_seconds();
    if (s->current < GP_STAGE_COUNT) s->seconds[s->current] += time - s->stage_start;
    s->current = stage;
    s->stage_start = time;
}

bool gp_request_step(void *user, int done, int total) {
    gp_request_state *s = user;
    if (atomic_load(&s->question->cancelled)) return false;
    s->options->on_event(s->options->user,
                         &(gp_event){.type = GP_EVENT_PROGRESS, .progress = {s->current, done, total}});
    return true;
}

bool gp_run_reserve_stage(const gp_run *run, size_t bytes, gp_status *status) {
    /* Workers first: they answer when they have done all they were told, so that the leader waits for nobody
     * while it frees memory, which may keep a GPU's driver from others. */
    return (run->ranks == NULL || gp_ranks_use_stage(run->ranks, bytes, status)) &&
           gp_arena_renew(run->stage, run->model->backend, bytes, status);
}

bool gp_run_use_stage(const gp_run *run, size_t bytes, gp_request_state *const *requests, int count) {
    gp_status status = {0};
    bool done = gp_run_reserve_stage(run, bytes, &status);
    if (!done) gp_requests_fail(requests, count, &status);
    gp_status_clear(&status);
    return done;
}

bool gp_run_ranks_there(const gp_run *run, gp_request_state *const *requests, int count) {
    gp_status status = {0};
    bool there = run->ranks == NULL || gp_ranks_check(run->ranks, &status);
    if (!there) gp_requests_fail(requests, count, &status);
    gp_status_clear(&status);
    return there;
}

bool gp_run_use_batch(const gp_run *run, int64_t rows, int sequences, gp_batch_buffers *buffers,
                      gp_status *status) {
    gp_arena measure = {0};
    gp_plan_batch(run->model, run->model->backend, rows, sequences, &measure, buffers);
    if (!gp_run_reserve_stage(run, measure.peak, status)) return false;
    gp_plan_batch(run->model, run->model->backend, rows, sequences, run->stage, buffers);
    return true;
}

bool gp_place_reserve(gp_place *place, gp_kv_cache *cache, const gp_reserve *reserve, gp_status *status) {
    return gp_arena_renew(&place->kept, cache->backend, reserve->kept, status) &&
           gp_keep_reserve(&place->keep, cache, reserve->seen, reserve->table_pages, status) &&
           gp_kept_reserve(&place->sequence, cache, reserve->table_pages, status);
}

void gp_place_close(gp_place *place, gp_backend *backend) {
    backend->ops->release(backend, place->kept.block);
    gp_keep_close(&place->keep, backend);
    gp_kept_close(&place->sequence);
    *place = (gp_place){0};
}
