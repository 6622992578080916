#include "runtime/batch.h"

#include "runtime/decode.h"
#include "runtime/sampling.h"

#include <string.h>

/** A request's part of a pass: rows of buffers->x from first_row on, positions from first on. */
typedef struct part {
    gp_request_state *request;
    int32_t first_row, rows;
    int64_t first;
    bool whole; /* the prompt is through with these */
} part;

static int divide_rows(gp_request_state *const *requests, int count, part *parts);
static void embed_prompt(const part *p, const gp_language_buffers *buffers);
static void observe_prefill(const part *p, const gp_language_buffers *buffers);
static gp_token_choice choice_of(const gp_request_state *s);
static void take_token(gp_request_state *s, int32_t id);
static void end_text(gp_request_state *s);

/* ---- prompts ---- */

void gp_batch_prefill(const gp_run *run, gp_request_state *const *requests, int count) {
    const gp_language *language = &run->model->language;
    gp_backend *backend = run->model->backend;
    part parts[GP_REQUESTS_MOST];
    gp_sequence sequences[GP_REQUESTS_MOST];
    int32_t ids[GP_REQUESTS_MOST] = {0}; /* a lost device brings none */
    gp_token_choice choices[GP_REQUESTS_MOST];
    gp_batch_buffers buffers;
    const gp_page_table *tables[GP_REQUESTS_MOST];
    int32_t finals[GP_REQUESTS_MOST];
    gp_status status = {0};
    int taking = divide_rows(requests, count, parts), whole = 0, final_count = 0;
    int64_t rows = parts[taking - 1].first_row + parts[taking - 1].rows;
    if (!gp_run_use_batch(run, rows, taking, &buffers, &status)) {
        gp_requests_fail(requests, taking, &status);
        gp_status_clear(&status);
        return;
    }
    for (int i = 0; i < taking; i++) {
        const part *p = &parts[i];
        sequences[i] =
            (gp_sequence){p->first_row, p->rows, (int32_t)p->first, p->request->sequence->table.device_pages};
        embed_prompt(p, &buffers.language);
    }
    for (int i = 0; i < taking; i++) {
        tables[i] = &parts[i].request->sequence->table;
        if (parts[i].whole) finals[final_count++] = parts[i].first_row + parts[i].rows - 1;
    }
    if (run->ranks != NULL)
        gp_ranks_pass(run->ranks, &(gp_pass){rows, sequences, tables, taking, finals, final_count}, language,
                      &buffers.language);
    gp_language_forward(language, backend, &buffers.language, rows, sequences, taking, run->cache, 0);
    for (int i = 0; i < taking; i++) {
        gp_request_state *s = parts[i].request;
        gp_kept_prompt(s->sequence, &s->prompt, &s->division, parts[i].first + parts[i].rows);
        observe_prefill(&parts[i], &buffers.language);
        if (!parts[i].whole) continue;
        gp_language_final(language, backend, &buffers.language, parts[i].first_row + parts[i].rows - 1, 1);
        gp_language_logits(language, backend, &buffers.language, 1, false,
                           buffers.logits + whole * gp_language_logit_stride(language));
        choices[whole++] = choice_of(s);
    }
    if (whole > 0) {
        backend->ops->upload(backend, buffers.step->choices, choices, (size_t)whole * sizeof *choices);
        gp_decode_choose(run->model, &buffers, whole);
        backend->ops->download(backend, ids, buffers.tokens, (size_t)whole * sizeof *ids);
    }
    if (!gp_run_ranks_there(run, requests, taking)) return;
    for (int i = 0, next = 0; i < taking; i++) {
        gp_request_state *s = parts[i].request;
        int32_t id = parts[i].whole ? ids[next++] : 0;
        if (!gp_request_step(s, (int)(parts[i].first + parts[i].rows), s->prompt_tokens)) {
            gp_request_stop(s, GP_OUTCOME_CANCELLED);
        } else if (parts[i].whole) {
            if (s->options->session != NULL) gp_kept_share(s->sequence, s->keep);
            gp_request_begin(s, GP_STAGE_DECODE);
            s->phase = GP_PHASE_DECODE;
            take_token(s, id);
        }
    }
}

/** The next rows of the first requests; returns how many requests have any. */
static int divide_rows(gp_request_state *const *requests, int count, part *parts) {
    int32_t used = 0;
    int taking = 0;
    for (; taking < count && used < GP_PREFILL_ROWS; taking++) {
        gp_request_state *s = requests[taking];
        int64_t first = s->sequence->id_count, left = s->prompt_tokens - first;
        int32_t room = GP_PREFILL_ROWS - used, rows = left < room ? (int32_t)left : room;
        parts[taking] = (part){s, used, rows, first, rows == left};
        used += rows;
    }
    return taking;
}

/** Puts the part's rows into buffers->x and says which are the image's. */
static void embed_prompt(const part *p, const gp_language_buffers *buffers) {
    const gp_request_state *s = p->request;
    const gp_ops *ops = s->backend->ops;
    int64_t hidden = s->model->config.language.hidden_size, last = p->first + p->rows;
    int64_t starts[4] = {0, (int64_t)s->prompt.before.count,
                         (int64_t)s->prompt.before.count + s->division.image_tokens, s->prompt_tokens};
    const int32_t *ids[3] = {s->prompt.before.ids, NULL, s->prompt.after.ids};
    for (int i = 0; i < 3; i++) {
        int64_t begin = starts[i] > p->first ? starts[i] : p->first;
        int64_t end = starts[i + 1] < last ? starts[i + 1] : last, row = p->first_row + begin - p->first;
        if (begin >= end) continue;
        float *x = buffers->x + row * hidden;
        uint8_t flags[GP_PREFILL_ROWS];
        memset(flags, i == 1, (size_t)(end - begin));
        ops->upload(s->backend, buffers->image_row + row, flags, (size_t)(end - begin));
        if (i == 1) {
            ops->copy(s->backend, x, s->keep->seen.image_tokens + (begin - starts[1]) * hidden,
                      (size_t)((end - begin) * hidden) * sizeof(float));
        } else {
            ops->upload(s->backend, buffers->ids + row, ids[i] + (begin - starts[i]),
                        (size_t)(end - begin) * sizeof(int32_t));
            ops->embed(s->backend,
                       &(gp_embed){s->model->language.embeddings, buffers->ids + row, end - begin, x});
        }
    }
}

/** The observer sees the final norm's rows and the logits of the whole prompt; the answer needs the last
 * row's alone. */
static void observe_prefill(const part *p, const gp_language_buffers *buffers) {
    const gp_request_state *s = p->request;
    const gp_language *language = &s->model->language;
    if (s->run->observer == NULL) return;
    gp_language_final(language, s->backend, buffers, p->first_row, p->rows);
    gp_observe(s->run->observer, s->backend, "hidden", buffers->final, p->first, p->rows,
               language->config.hidden_size);
    if (s->run->ranks != NULL) return; /* workers know of the rows that the answer needs */
    float *logits = s->backend->ops->allocate(s->backend, (size_t)(p->rows * language->config.vocab_size) *
                                                              sizeof *logits);
    if (logits == NULL) return;
    gp_language_logits(language, s->backend, buffers, p->rows, false, logits);
    gp_observe(s->run->observer, s->backend, "logits", logits, p->first, p->rows,
               language->config.vocab_size);
    s->backend->ops->release(s->backend, logits);
}

/* ---- answers ---- */

/**
 * The hidden state that makes a mask is that of the position whose input is [SEG]: one step after it was
 * chosen, and one step more than the answer needs where [SEG] is the last token allowed.
 */
void gp_batch_decode(const gp_run *run, gp_request_state *const *requests, int count) {
    gp_backend *backend = run->model->backend;
    const int64_t hidden = run->model->language.config.hidden_size;
    const gp_page_table *tables[GP_REQUESTS_MOST];
    gp_step step = {0};
    int32_t tokens[GP_REQUESTS_MOST] = {0}; /* a lost device brings none */
    gp_batch_buffers buffers;
    gp_status status = {0};
    int positions = 0;
    for (int i = 0; i < count; i++) {
        const gp_request_state *s = requests[i];
        int position = s->prompt_tokens + s->id_count - 1;
        tables[i] = &s->sequence->table;
        step.ids[i] = s->ids[s->id_count - 1];
        step.sequences[i] = (gp_sequence){i, 1, position, s->sequence->table.device_pages};
        step.choices[i] = choice_of(s);
        if (position >= positions) positions = position + 1;
    }
    if (!gp_decode_step(run, &step, tables, count, positions, &buffers, &status)) {
        gp_requests_fail(requests, count, &status);
        gp_status_clear(&status);
        return;
    }
    for (int i = 0; i < count; i++) {
        gp_request_state *s = requests[i];
        gp_kept_token(s->sequence, step.ids[i]);
        if (step.ids[i] == s->model->seg_token)
            backend->ops->copy(backend, s->kept.seg_hidden + s->seg_count++ * hidden,
                               buffers.language.final + i * hidden, (size_t)hidden * sizeof(float));
    }
    backend->ops->download(backend, tokens, buffers.tokens, (size_t)count * sizeof *tokens);
    if (!gp_run_ranks_there(run, requests, count)) return;
    for (int i = 0; i < count; i++) {
        if (requests[i]->id_count == requests[i]->max_new_tokens)
            end_text(requests[i]); /* the step was for its [SEG] */
        else
            take_token(requests[i], tokens[i]);
    }
}

/** How the request's next token is chosen. */
static gp_token_choice choice_of(const gp_request_state *s) {
    const gp_sampling *sampling = &s->options->sampling;
    return (gp_token_choice){.uniform = gp_uniform(sampling->seed, (uint64_t)s->id_count),
                             .temperature = sampling->temperature,
                             .top_p = sampling->top_p > 0 ? sampling->top_p : 1};
}

static void emit_text(gp_request_state *s, const char *text) {
    if (text[0] == '\0') return;
    gp_event event = {.type = GP_EVENT_TEXT, .text = {text, strlen(text), s->id_count}};
    s->options->on_event(s->options->user, &event);
}

/** A token of the answer: its text to the caller, and whether the answer ends with it. */
static void take_token(gp_request_state *s, int32_t id) {
    s->ids[s->id_count++] = id;
    s->segs = s->segs || id == s->model->seg_token;
    if (id == s->model->config.language.eos_token_id) {
        end_text(s);
        return;
    }
    emit_text(s, gp_text_stream_push(s->stream, id));
    if (!gp_request_step(s, s->id_count, s->max_new_tokens))
        gp_request_stop(s, GP_OUTCOME_CANCELLED);
    else if (s->id_count == s->max_new_tokens && id != s->model->seg_token)
        end_text(s);
}

static void end_text(gp_request_state *s) {
    emit_text(s, gp_text_stream_finish(s->stream));
    s->phase = GP_PHASE_MASKS;
}
