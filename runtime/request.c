#include "runtime/request.h"

#include "kernels/base/memory.h"
#include "runtime/answer.h"
#include "runtime/plan.h"
#include "runtime/prompt.h"
#include "runtime/sampling.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/** How a stage ended. */
typedef enum outcome { DONE, FAILED, CANCELLED } outcome;

/** A request under way. */
typedef struct state {
    const gp_run *run;
    const gp_model *model;
    gp_backend *backend;
    gp_question *question;
    const gp_request_options *options;
    gp_status status;
    gp_stage current;
    double stage_start, seconds[GP_STAGE_COUNT];

    gp_prompt prompt;
    gp_division division;
    int prompt_tokens, max_new_tokens;
    gp_text_stream *stream;
    gp_page_table table;
    int32_t *ids; /* [max_new_tokens] generated */
    int id_count, seg_count;
    gp_phrase *phrases; /* [phrase_count], texts owned */
    size_t phrase_count;

    /* In the kept arena, backend memory. */
    uint8_t *source;     /* [height, width, 3] */
    float *image_tokens; /* [image tokens, hidden] */
    float *seg_hidden;   /* [max_new_tokens, hidden], the first seg_count rows */
    float *logits;       /* [vocabulary] */
    int32_t *order, *token;
    gp_grounding_maps maps;
    uint8_t *mask_pixels; /* [height, width] */

    uint8_t *host_pixels; /* the same in host memory, for the caller; owned */
} state;

static outcome prepare(state *s);
static outcome see(state *s);
static outcome answer(state *s);
static outcome prefill(state *s, gp_language_buffers *buffers);
static outcome decode(state *s, gp_language_buffers *buffers);
static outcome ground(state *s);
static outcome draw(state *s);
static void find_phrases(state *s);
static void report_result(state *s);
static void release(state *s);
static void begin_stage(state *s, gp_stage stage);
static bool step(void *user, int done, int total);
static bool use_stage_arena(state *s, size_t bytes);
static bool ensure_arena(state *s, gp_arena *arena, size_t bytes);

gp_event_type gp_run_request(const gp_run *run, gp_question *question) {
    state s = {.run = run,
               .model = run->model,
               .backend = run->model->backend,
               .question = question,
               .options = &question->options,
               .current = GP_STAGE_COUNT};
    outcome end = prepare(&s);
    if (end == DONE) end = see(&s);
    if (end == DONE) end = answer(&s);
    if (end == DONE) find_phrases(&s);
    bool masks =
        s.seg_count > 0; /* without, the grounding branch is not run: an observer sees its input alone */
    if (end == DONE && (masks || run->observer != NULL)) end = ground(&s);
    if (end == DONE && masks) end = draw(&s);
    if (end == DONE && !s.backend->ops->finish(s.backend, &s.status)) end = FAILED;
    begin_stage(&s, GP_STAGE_COUNT);
    gp_event event = {.type = end == FAILED ? GP_EVENT_ERROR : GP_EVENT_CANCELLED};
    if (end == DONE) {
        report_result(&s);
        event.type = GP_EVENT_DONE;
    } else {
        if (end == FAILED) event.error = gp_failed(&s.status) ? s.status.message : "the request failed";
        s.options->on_event(s.options->user, &event);
    }
    release(&s);
    return event.type;
}

/* ---- prepare: prompt, division, memory ------------------------------------------------------------------
 */

/** The buffers that live from stage to stage. */
static void lay_out_kept(state *s, gp_arena *arena) {
    gp_kept_buffers kept;
    gp_plan_kept(s->model, s->options->image.width, s->options->image.height, s->division.image_tokens,
                 s->max_new_tokens, arena, &kept);
    s->source = kept.source;
    s->image_tokens = kept.image_tokens;
    s->seg_hidden = kept.seg_hidden;
    s->logits = kept.logits;
    s->order = kept.order;
    s->token = kept.token;
    s->maps = kept.maps;
    s->mask_pixels = kept.mask_pixels;
}

static bool divide_picture(state *s) {
    const gp_request_options *options = s->options;
    const gp_config *config = &s->model->config;
    int64_t text = (int64_t)(s->prompt.before.count + s->prompt.after.count);
    gp_plan_options picture = {.width = options->image.width,
                               .height = options->image.height,
                               .crops = options->crops,
                               .max_crops = options->max_crops};
    if (!gp_plan_division(config, &picture, text, s->max_new_tokens, &s->division, &s->status)) return false;
    s->prompt_tokens = (int)(text + s->division.image_tokens);
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

/** Pages for the prompt and every token that may be decoded, in a cache that is large enough. */
static bool reserve_pages(state *s) {
    gp_kv_cache *cache = &s->run->workplace->cache;
    const gp_language *language = &s->model->language;
    int64_t tokens = s->prompt_tokens + s->max_new_tokens;
    if (cache->page_count < gp_pages_for(tokens)) {
        if (cache->backend != NULL) gp_kv_cache_close(cache);
        if (!gp_kv_cache_open(cache, s->backend, language->config.num_hidden_layers,
                              language->config.num_key_value_heads, language->head_dim, gp_pages_for(tokens),
                              &s->status))
            return false;
    }
    return gp_page_table_open(&s->table, s->backend, gp_pages_for(tokens), &s->status) &&
           gp_page_table_reserve(&s->table, cache, tokens, &s->status);
}

static outcome prepare(state *s) {
    const gp_request_options *options = s->options;
    gp_workplace *workplace = s->run->workplace;
    begin_stage(s, GP_STAGE_PREPARE);
    s->max_new_tokens = options->max_new_tokens > 0 ? options->max_new_tokens : GP_NEW_TOKENS_DEFAULT;
    if (!gp_prompt_build(s->model->tokenizer, options->prompt, options->history, options->history_count,
                         &s->prompt, &s->status) ||
        !divide_picture(s) || !reserve_pages(s))
        return FAILED;
    s->ids = gp_allocate((size_t)s->max_new_tokens * sizeof *s->ids);
    if (s->ids == NULL) {
        gp_fail(&s->status, "no memory for %d tokens", s->max_new_tokens);
        return FAILED;
    }
    if (!gp_text_stream_open(s->model->tokenizer, (size_t)s->max_new_tokens, &s->stream, &s->status))
        return FAILED;
    gp_arena measure = {0};
    lay_out_kept(s, &measure);
    if (!ensure_arena(s, &workplace->kept, measure.peak)) return FAILED;
    lay_out_kept(s, &workplace->kept);
    size_t row = 3 * (size_t)options->image.width,
           stride = options->image.stride > 0 ? options->image.stride : row;
    for (int y = 0; y < options->image.height; y++)
        s->backend->ops->upload(s->backend, s->source + (size_t)y * row,
                                options->image.pixels + (size_t)y * stride, row);
    if (s->run->observer != NULL && s->run->observer->integers != NULL) {
        s->run->observer->integers(s->run->observer->user, "text_ids.0", s->prompt.before.ids,
                                   s->prompt.before.count);
        s->run->observer->integers(s->run->observer->user, "text_ids.1", s->prompt.after.ids,
                                   s->prompt.after.count);
    }
    return step(s, 1, 1) ? DONE : CANCELLED;
}

/* ---- vision ---------------------------------------------------------------------------------------------
 */

static outcome see(state *s) {
    const gp_division *division = &s->division;
    gp_arena measure = {0}, *arena = &s->run->workplace->stage;
    gp_picture_buffers buffers;
    int width = s->options->image.width, height = s->options->image.height;
    gp_plan_picture(s->model, width, height, division, &measure, &buffers);
    if (!use_stage_arena(s, measure.peak)) return FAILED;
    gp_plan_picture(s->model, width, height, division, arena, &buffers);
    s->backend->ops->resize_rgb(s->backend, &(gp_resize_rgb){.source = s->source,
                                                             .source_width = width,
                                                             .source_height = height,
                                                             .source_stride = 3 * (size_t)width,
                                                             .width = division->width,
                                                             .height = division->height,
                                                             .vertical_first = division->transposed,
                                                             .canvas_width = division->canvas_width,
                                                             .canvas_height = division->canvas_height,
                                                             .scratch = buffers.scratch,
                                                             .canvas = buffers.canvas});
    if (s->run->observer != NULL && s->run->observer->divided != NULL)
        s->run->observer->divided(s->run->observer->user, buffers.canvas, division->canvas_width,
                                  division->canvas_height, division->columns, division->rows);
    begin_stage(s, GP_STAGE_VISION);
    gp_vision_input input = {buffers.canvas, division->rows, division->columns};
    if (!gp_vision_encode(&s->model->vision, s->backend, &input, &buffers.vision, s->run->observer, step, s,
                          s->image_tokens))
        return CANCELLED;
    return DONE;
}

/* ---- prompt and answer ----------------------------------------------------------------------------------
 */

static outcome answer(state *s) {
    gp_language_buffers buffers;
    gp_arena measure = {0};
    gp_plan_language(s->model, s->prompt_tokens, &measure, &buffers);
    if (!use_stage_arena(s, measure.peak)) return FAILED;
    gp_plan_language(s->model, s->prompt_tokens, &s->run->workplace->stage, &buffers);
    begin_stage(s, GP_STAGE_PREFILL);
    outcome end = prefill(s, &buffers);
    if (end != DONE) return end;
    begin_stage(s, GP_STAGE_DECODE);
    return decode(s, &buffers);
}

/** Puts prompt rows first … first + count − 1 into buffers->x and says which are the image's. */
static void embed_rows(state *s, gp_language_buffers *buffers, int64_t first, int64_t count) {
    const gp_ops *ops = s->backend->ops;
    int64_t hidden = s->model->config.language.hidden_size;
    int64_t starts[4] = {0, (int64_t)s->prompt.before.count,
                         (int64_t)s->prompt.before.count + s->division.image_tokens, s->prompt_tokens};
    const int32_t *ids[3] = {s->prompt.before.ids, NULL, s->prompt.after.ids};
    for (int part = 0; part < 3; part++) {
        int64_t begin = starts[part] > first ? starts[part] : first;
        int64_t end = starts[part + 1] < first + count ? starts[part + 1] : first + count;
        if (begin >= end) continue;
        float *x = buffers->x + (begin - first) * hidden;
        uint8_t flags[GP_PREFILL_ROWS];
        memset(flags, part == 1, (size_t)(end - begin));
        ops->upload(s->backend, buffers->image_row + (begin - first), flags, (size_t)(end - begin));
        if (part == 1) {
            ops->copy(s->backend, x, s->image_tokens + (begin - starts[1]) * hidden,
                      (size_t)((end - begin) * hidden) * sizeof(float));
        } else {
            ops->upload(s->backend, buffers->ids, ids[part] + (begin - starts[part]),
                        (size_t)(end - begin) * sizeof(int32_t));
            ops->embed(s->backend, &(gp_embed){s->model->language.embeddings, buffers->ids, end - begin, x});
        }
    }
}

/** The observer sees the final norm's rows and the logits of the whole prompt; the answer needs the last
 * row's alone. */
static void observe_prefill(state *s, const gp_language_buffers *buffers, int64_t first, int64_t count) {
    if (s->run->observer == NULL) return;
    const gp_language *language = &s->model->language;
    gp_language_final(language, s->backend, buffers, 0, count);
    gp_observe(s->run->observer, s->backend, "hidden", buffers->final, first, count,
               language->config.hidden_size);
    float *logits =
        s->backend->ops->allocate(s->backend, (size_t)(count * language->config.vocab_size) * sizeof *logits);
    if (logits == NULL) return;
    gp_language_logits(language, s->backend, buffers, count, logits);
    gp_observe(s->run->observer, s->backend, "logits", logits, first, count, language->config.vocab_size);
    s->backend->ops->release(s->backend, logits);
}

/** The prompt into the cache; s->logits are the last row's. */
static outcome prefill(state *s, gp_language_buffers *buffers) {
    const gp_language *language = &s->model->language;
    for (int64_t first = 0; first < s->prompt_tokens; first += buffers->rows) {
        int64_t count = s->prompt_tokens - first < buffers->rows ? s->prompt_tokens - first : buffers->rows;
        gp_sequence sequence = {0, (int32_t)count, (int32_t)first, s->table.device_pages};
        embed_rows(s, buffers, first, count);
        gp_language_forward(language, s->backend, buffers, count, &sequence, 1, &s->run->workplace->cache);
        observe_prefill(s, buffers, first, count);
        if (first + count == s->prompt_tokens) {
            gp_language_final(language, s->backend, buffers, count - 1, 1);
            gp_language_logits(language, s->backend, buffers, 1, s->logits);
        }
        if (!step(s, (int)(first + count), s->prompt_tokens)) return CANCELLED;
    }
    return DONE;
}

/** One decoded token as input: its hidden state after the final norm is in buffers->final. */
static void advance(state *s, gp_language_buffers *buffers, int32_t id, int position) {
    const gp_ops *ops = s->backend->ops;
    const gp_language *language = &s->model->language;
    const uint8_t text_row = 0;
    gp_sequence sequence = {0, 1, position, s->table.device_pages};
    ops->upload(s->backend, buffers->image_row, &text_row, 1);
    ops->upload(s->backend, buffers->ids, &id, sizeof id);
    ops->embed(s->backend, &(gp_embed){language->embeddings, buffers->ids, 1, buffers->x});
    gp_language_forward(language, s->backend, buffers, 1, &sequence, 1, &s->run->workplace->cache);
    gp_language_final(language, s->backend, buffers, 0, 1);
}

/** The next token by the request's sampling, from s->logits. */
static int32_t choose_token(state *s) {
    const gp_sampling *sampling = &s->options->sampling;
    int32_t id;
    s->backend->ops->sample(s->backend,
                            &(gp_sample){.logits = s->logits,
                                         .count = s->model->config.language.vocab_size,
                                         .temperature = sampling->temperature,
                                         .top_p = sampling->top_p > 0 ? sampling->top_p : 1,
                                         .uniform = gp_uniform(sampling->seed, (uint64_t)s->id_count),
                                         .order = s->order,
                                         .token = s->token});
    s->backend->ops->download(s->backend, &id, s->token, sizeof id);
    return id;
}

static void emit_text(state *s, const char *text) {
    if (text[0] == '\0') return;
    gp_event event = {.type = GP_EVENT_TEXT, .text = {text, strlen(text), s->id_count}};
    s->options->on_event(s->options->user, &event);
}

/**
 * Tokens until the end-of-sequence or the limit. The hidden state that makes a mask is that of the position
 * whose input is [SEG]: one step after it was chosen, and one step more than the answer needs where [SEG] is
 * the last token allowed.
 */
static outcome decode(state *s, gp_language_buffers *buffers) {
    const gp_language_config *config = &s->model->config.language;
    size_t row_bytes = (size_t)config->hidden_size * sizeof(float);
    for (;;) {
        int32_t id = choose_token(s);
        s->ids[s->id_count++] = id;
        if (id == config->eos_token_id) break;
        emit_text(s, gp_text_stream_push(s->stream, id));
        if (!step(s, s->id_count, s->max_new_tokens)) return CANCELLED;
        bool last = s->id_count == s->max_new_tokens;
        if (last && id != s->model->seg_token) break;
        advance(s, buffers, id, s->prompt_tokens + s->id_count - 1);
        if (id == s->model->seg_token) {
            float *target = s->seg_hidden + (int64_t)s->seg_count * config->hidden_size;
            s->backend->ops->copy(s->backend, target, buffers->final, row_bytes);
            s->seg_count++;
        }
        if (last) break;
        gp_language_logits(&s->model->language, s->backend, buffers, 1, s->logits);
    }
    emit_text(s, gp_text_stream_finish(s->stream));
    return DONE;
}

/** The phrases of the whole text, with texts of their own. Out of memory, those that found room. */
static void find_phrases(state *s) {
    const char *text = gp_text_stream_text(s->stream);
    if (s->seg_count == 0) return;
    s->phrases = gp_allocate_zeroed((size_t)s->seg_count, sizeof *s->phrases);
    if (s->phrases == NULL) return;
    size_t found = gp_find_phrases(text, s->phrases, (size_t)s->seg_count);
    if (found > (size_t)s->seg_count) found = (size_t)s->seg_count;
    for (; s->phrase_count < found; s->phrase_count++) {
        gp_phrase *phrase = &s->phrases[s->phrase_count];
        size_t length = phrase->byte_end - phrase->byte_begin;
        char *copy = gp_allocate(length + 1);
        if (copy == NULL) return;
        memcpy(copy, text + phrase->byte_begin, length);
        copy[length] = '\0';
        phrase->text = copy;
    }
}

/* ---- masks ----------------------------------------------------------------------------------------------
 */

static outcome ground(state *s) {
    const gp_image *image = &s->options->image;
    gp_grounding_buffers buffers;
    gp_arena measure = {0};
    begin_stage(s, GP_STAGE_GROUNDING);
    gp_grounding_layout(&s->model->grounding, image->width, image->height, &measure, &buffers);
    if (!use_stage_arena(s, measure.peak)) return FAILED;
    gp_grounding_layout(&s->model->grounding, image->width, image->height, &s->run->workplace->stage,
                        &buffers);
    if (s->seg_count == 0) {
        gp_grounding_view(&s->model->grounding, s->backend, s->source, image->width, image->height,
                          3 * (size_t)image->width, &buffers, s->run->observer);
        return DONE;
    }
    bool done = gp_grounding_encode(&s->model->grounding, s->backend, s->source, image->width, image->height,
                                    3 * (size_t)image->width, &buffers, s->run->observer, step, s, &s->maps);
    return done ? DONE : CANCELLED;
}

/** One mask of a decoded batch to the caller. */
static void draw_mask(state *s, const gp_mask_buffers *buffers, int in_batch, int index) {
    const gp_ops *ops = s->backend->ops;
    const gp_image *image = &s->options->image;
    int side = 4 * s->model->masks.grid;
    size_t area = (size_t)image->width * (size_t)image->height;
    gp_mask mask = {.index = index, .width = image->width, .height = image->height, .pixels = s->host_pixels};
    int32_t chosen;
    ops->download(s->backend, &chosen, buffers->chosen + in_batch, sizeof chosen);
    ops->download(s->backend, &mask.stability, buffers->stability + in_batch, sizeof mask.stability);
    ops->download(s->backend, &mask.score, buffers->iou + in_batch * GP_MASK_TOKENS + chosen,
                  sizeof mask.score);
    mask.chosen = chosen;
    const float *logits = buffers->logits + (int64_t)(in_batch * GP_MASK_TOKENS + chosen) * side * side;
    gp_observe(s->run->observer, s->backend, "mask_logits", logits, (int64_t)index * side, side, side);
    ops->draw_mask(s->backend, &(gp_draw_mask){logits, side, image->height, image->width, s->mask_pixels});
    ops->download(s->backend, s->host_pixels, s->mask_pixels, area);
    for (size_t i = 0; i < area; i++) mask.area += s->host_pixels[i];
    for (size_t i = 0; i < s->phrase_count; i++)
        if (s->phrases[i].mask == index) mask.phrase = &s->phrases[i];
    s->options->on_event(s->options->user, &(gp_event){.type = GP_EVENT_MASK, .mask = mask});
}

static outcome draw(state *s) {
    gp_mask_buffers buffers;
    gp_arena measure = {0};
    int hidden = s->model->config.language.hidden_size;
    size_t pixels = (size_t)s->options->image.width * (size_t)s->options->image.height;
    begin_stage(s, GP_STAGE_MASKS);
    s->host_pixels = gp_allocate(pixels);
    if (s->host_pixels == NULL) {
        gp_fail(&s->status, "no memory for a mask of %zu pixels", pixels);
        return FAILED;
    }
    int batch = gp_plan_masks(s->model, s->seg_count, &measure, &buffers);
    if (!use_stage_arena(s, measure.peak)) return FAILED;
    gp_plan_masks(s->model, s->seg_count, &s->run->workplace->stage, &buffers);
    gp_observe(s->run->observer, s->backend, "seg_hidden", s->seg_hidden, 0, s->seg_count, hidden);
    for (int first = 0; first < s->seg_count; first += batch) {
        int count = s->seg_count - first < batch ? s->seg_count - first : batch;
        gp_mask_decode(&s->model->masks, s->backend, s->seg_hidden + (int64_t)first * hidden, count, first,
                       &s->maps, &buffers, s->run->observer);
        for (int i = 0; i < count; i++) {
            draw_mask(s, &buffers, i, first + i);
            if (!step(s, first + i + 1, s->seg_count)) return CANCELLED;
        }
    }
    return DONE;
}

/* ---- result, time, memory -------------------------------------------------------------------------------
 */

static void report_result(state *s) {
    const gp_workplace *workplace = s->run->workplace;
    const gp_kv_cache *cache = &workplace->cache;
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
                   .activations = workplace->kept.capacity + workplace->stage.capacity +
                                  (s->host_pixels != NULL ? (uint64_t)s->options->image.width *
                                                                (uint64_t)s->options->image.height
                                                          : 0),
                   .workspace = s->backend->workspace_bytes},
    };
    memcpy(result.seconds, s->seconds, sizeof result.seconds);
    s->options->on_event(s->options->user, &(gp_event){.type = GP_EVENT_DONE, .result = result});
}

static void release(state *s) {
    gp_prompt_clear(&s->prompt);
    gp_text_stream_close(s->stream);
    gp_page_table_close(&s->table, &s->run->workplace->cache);
    for (size_t i = 0; i < s->phrase_count; i++) gp_free((char *)s->phrases[i].text);
    gp_free(s->phrases);
    gp_free(s->host_pixels);
    gp_free(s->ids);
    gp_status_clear(&s->status);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/** Ends the current stage's clock and starts the next one's. */
static void begin_stage(state *s, gp_stage stage) {
    double time = now();
    if (s->current < GP_STAGE_COUNT) s->seconds[s->current] += time - s->stage_start;
    s->current = stage;
    s->stage_start = time;
}

/** Tells the caller of progress in the current stage; false when the request was cancelled. */
static bool step(void *user, int done, int total) {
    state *s = user;
    if (atomic_load(&s->question->cancelled)) return false;
    s->options->on_event(s->options->user,
                         &(gp_event){.type = GP_EVENT_PROGRESS, .progress = {s->current, done, total}});
    return true;
}

/** Empties the stage arena, which then holds at least `bytes`. */
static bool use_stage_arena(state *s, size_t bytes) {
    return ensure_arena(s, &s->run->workplace->stage, bytes);
}

static bool ensure_arena(state *s, gp_arena *arena, size_t bytes) {
    arena->used = 0;
    if (arena->capacity >= bytes) return true;
    s->backend->ops->release(s->backend, arena->block);
    *arena = (gp_arena){.block = s->backend->ops->allocate(s->backend, bytes), .capacity = bytes};
    if (arena->block != NULL) return true;
    *arena = (gp_arena){0};
    return gp_fail(&s->status, "no memory for %.1f MiB of buffers", (double)bytes / 0x1p20);
}

void gp_workplace_close(gp_workplace *workplace) {
    if (workplace->backend == NULL) return;
    workplace->backend->ops->release(workplace->backend, workplace->kept.block);
    workplace->backend->ops->release(workplace->backend, workplace->stage.block);
    if (workplace->cache.backend != NULL) gp_kv_cache_close(&workplace->cache);
    *workplace = (gp_workplace){0};
}
