#include "runtime/request_state.h"
#include "runtime/sampling.h"

#include <string.h>

static gp_outcome prefill(gp_request_state *s, int64_t known, gp_language_buffers *buffers);
static gp_outcome decode(gp_request_state *s, gp_language_buffers *buffers);

gp_outcome gp_request_answer(gp_request_state *s) {
    gp_language_buffers buffers;
    gp_arena measure = {0};
    int64_t known = gp_keep_common(s->keep, &s->prompt), rest = s->prompt_tokens - known;
    gp_plan_language(s->model, s->backend, rest, &measure, &buffers);
    if (!gp_request_use_stage(s, measure.peak)) return GP_OUTCOME_FAILED;
    gp_plan_language(s->model, s->backend, rest, &s->run->workplace->stage, &buffers);
    gp_request_begin(s, GP_STAGE_PREFILL);
    gp_outcome end = prefill(s, known, &buffers);
    if (end != GP_OUTCOME_DONE) return end;
    gp_request_begin(s, GP_STAGE_DECODE);
    return decode(s, &buffers);
}

/** Puts prompt rows first … first + count − 1 into buffers->x and says which are the image's. */
static void embed_rows(gp_request_state *s, gp_language_buffers *buffers, int64_t first, int64_t count) {
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
            ops->copy(s->backend, x, s->keep->seen.image_tokens + (begin - starts[1]) * hidden,
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
static void observe_prefill(gp_request_state *s, const gp_language_buffers *buffers, int64_t first,
                            int64_t count) {
    if (s->run->observer == NULL) return;
    const gp_language *language = &s->model->language;
    gp_language_final(language, s->backend, buffers, 0, count);
    gp_observe(s->run->observer, s->backend, "hidden", buffers->final, first, count,
               language->config.hidden_size);
    float *logits =
        s->backend->ops->allocate(s->backend, (size_t)(count * language->config.vocab_size) * sizeof *logits);
    if (logits == NULL) return;
    gp_language_logits(language, s->backend, buffers, count, false, logits);
    gp_observe(s->run->observer, s->backend, "logits", logits, first, count, language->config.vocab_size);
    s->backend->ops->release(s->backend, logits);
}

/** The prompt from position `known` on into the cache; s->kept.logits are the last row's. */
static gp_outcome prefill(gp_request_state *s, int64_t known, gp_language_buffers *buffers) {
    const gp_language *language = &s->model->language;
    for (int64_t first = known; first < s->prompt_tokens; first += buffers->rows) {
        int64_t count = s->prompt_tokens - first < buffers->rows ? s->prompt_tokens - first : buffers->rows;
        gp_sequence sequence = {0, (int32_t)count, (int32_t)first, s->keep->table.device_pages};
        embed_rows(s, buffers, first, count);
        gp_language_forward(language, s->backend, buffers, count, &sequence, 1, &s->keep->cache, false);
        gp_keep_prompt(s->keep, &s->prompt, first + count);
        observe_prefill(s, buffers, first, count);
        if (first + count == s->prompt_tokens) {
            gp_language_final(language, s->backend, buffers, count - 1, 1);
            gp_language_logits(language, s->backend, buffers, 1, false, s->kept.logits);
        }
        if (!gp_request_step(s, (int)(first + count), s->prompt_tokens)) return GP_OUTCOME_CANCELLED;
    }
    return GP_OUTCOME_DONE;
}

/** One decoded token as input: its hidden state after the final norm is in buffers->final. */
static void advance(gp_request_state *s, gp_language_buffers *buffers, int32_t id, int position) {
    const gp_ops *ops = s->backend->ops;
    const gp_language *language = &s->model->language;
    const uint8_t text_row = 0;
    gp_sequence sequence = {0, 1, position, s->keep->table.device_pages};
    ops->upload(s->backend, buffers->image_row, &text_row, 1);
    ops->upload(s->backend, buffers->ids, &id, sizeof id);
    ops->embed(s->backend, &(gp_embed){language->embeddings, buffers->ids, 1, buffers->x});
    gp_language_forward(language, s->backend, buffers, 1, &sequence, 1, &s->keep->cache, true);
    gp_keep_token(s->keep, id);
    gp_language_final(language, s->backend, buffers, 0, 1);
}

/** The next token by the request's sampling, from s->kept.logits. */
static int32_t choose_token(gp_request_state *s) {
    const gp_sampling *sampling = &s->options->sampling;
    int32_t id;
    s->backend->ops->sample(s->backend,
                            &(gp_sample){.logits = s->kept.logits,
                                         .count = s->model->config.language.vocab_size,
                                         .temperature = sampling->temperature,
                                         .top_p = sampling->top_p > 0 ? sampling->top_p : 1,
                                         .uniform = gp_uniform(sampling->seed, (uint64_t)s->id_count),
                                         .order = s->kept.order,
                                         .token = s->kept.token});
    s->backend->ops->download(s->backend, &id, s->kept.token, sizeof id);
    return id;
}

static void emit_text(gp_request_state *s, const char *text) {
    if (text[0] == '\0') return;
    gp_event event = {.type = GP_EVENT_TEXT, .text = {text, strlen(text), s->id_count}};
    s->options->on_event(s->options->user, &event);
}

/**
 * Tokens until the end-of-sequence or the limit. The hidden state that makes a mask is that of the position
 * whose input is [SEG]: one step after it was chosen, and one step more than the answer needs where [SEG] is
 * the last token allowed.
 */
static gp_outcome decode(gp_request_state *s, gp_language_buffers *buffers) {
    const gp_language_config *config = &s->model->config.language;
    size_t row_bytes = (size_t)config->hidden_size * sizeof(float);
    for (;;) {
        int32_t id = choose_token(s);
        s->ids[s->id_count++] = id;
        if (id == config->eos_token_id) break;
        emit_text(s, gp_text_stream_push(s->stream, id));
        if (!gp_request_step(s, s->id_count, s->max_new_tokens)) return GP_OUTCOME_CANCELLED;
        bool last = s->id_count == s->max_new_tokens;
        if (last && id != s->model->seg_token) break;
        advance(s, buffers, id, s->prompt_tokens + s->id_count - 1);
        if (id == s->model->seg_token) {
            float *target = s->kept.seg_hidden + (int64_t)s->seg_count * config->hidden_size;
            s->backend->ops->copy(s->backend, target, buffers->final, row_bytes);
            s->seg_count++;
        }
        if (last) break;
        gp_language_logits(&s->model->language, s->backend, buffers, 1, true, s->kept.logits);
    }
    emit_text(s, gp_text_stream_finish(s->stream));
    return GP_OUTCOME_DONE;
}
