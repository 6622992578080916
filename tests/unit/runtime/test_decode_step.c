/**
 * test_decode_step MODEL: decoding steps that are recorded and replayed, on the emulated GPU, whose replays
 * have nothing but what was recorded: addresses and sizes; on a real one where there is one. Sequences of
 * several lengths, in ever other company, of ever other choices, get the tokens and hidden rows, to the bit,
 * of steps that are launched directly; nobody's rows write to no page; buffers that move are recorded anew.
 */
#include "runtime/decode.h"
#include "tests/unit/runtime/asking.h"

enum { SEQUENCES = 5, STEPS = 14, PROMPT = 1030, PAGES = 64, QUESTIONS = 3 };

static const int starts[SEQUENCES] = {1, 63, 64, 65, 1021}; /* the last one crosses 1024 */

/* ---- operations that are counted ---- */

static const gp_ops *usual;
static int recordings, replays, samplings;

static void record(gp_backend *backend) {
    recordings++;
    usual->record(backend);
}

static void replay(gp_backend *backend, gp_recording *recording) {
    replays++;
    usual->replay(backend, recording);
}

static void sample(gp_backend *backend, const gp_sample *sample) {
    samplings++;
    usual->sample(backend, sample);
}

/* ---- a run of steps ---- */

typedef struct trial {
    gp_run run;
    gp_reserve reserve;
    gp_kv_cache cache;
    gp_arena stage;
    gp_recorded_steps steps;
    gp_page_table prompt, tables[SEQUENCES];
} trial;

/** What a step takes: the same in every run. */
typedef struct plan {
    int count, of[SEQUENCES];
    gp_token_choice choices[SEQUENCES];
} plan;

/** What it gave. */
typedef struct outcome {
    int32_t tokens[SEQUENCES];
    float *hidden; /* [SEQUENCES, hidden] */
} outcome;

/** Random rows of one long prompt to the cache: others begin with what it has. */
static void prefill(trial *t, uint64_t *seed) {
    const gp_language *language = &t->run.model->language;
    gp_backend *backend = t->run.model->backend;
    gp_batch_buffers buffers;
    gp_status status = {0};
    int32_t ids[PROMPT];
    const uint8_t flags[PROMPT] = {0};
    REQUIRE(gp_page_table_open(&t->prompt, backend, PAGES, &status) &&
                gp_page_table_reserve(&t->prompt, &t->cache, PROMPT, &status) &&
                gp_run_use_batch(&t->run, PROMPT, 1, &buffers, &status),
            "%s", status.message);
    for (int i = 0; i < PROMPT; i++)
        ids[i] = (int32_t)(random_bits(seed) % (uint64_t)language->config.vocab_size);
    backend->ops->upload(backend, buffers.language.ids, ids, sizeof ids);
    backend->ops->upload(backend, buffers.language.image_row, flags, sizeof flags);
    backend->ops->embed(backend,
                        &(gp_embed){language->embeddings, buffers.language.ids, PROMPT, buffers.language.x});
    gp_sequence sequence = {0, PROMPT, 0, t->prompt.device_pages};
    gp_language_forward(language, backend, &buffers.language, PROMPT, &sequence, 1, &t->cache, 0);
}

/** Copies of all pages of all layers. */
static unsigned char *pages_of(const trial *t) {
    size_t layer_bytes = (size_t)t->cache.page_count * t->cache.page_bytes;
    unsigned char *pages = gp_allocate((size_t)t->cache.layers * layer_bytes);
    REQUIRE(pages != NULL, "no memory");
    for (int i = 0; i < t->cache.layers; i++)
        t->cache.backend->ops->download(t->cache.backend, pages + (size_t)i * layer_bytes,
                                        t->cache.layer_pages[i], layer_bytes);
    return pages;
}

/** No page changed but those of the step's positions. */
static void check_pages(const trial *t, const plan *p, const int *lengths, const unsigned char *before) {
    unsigned char *after = pages_of(t);
    for (int i = 0; i < t->cache.layers * t->cache.page_count; i++) {
        int page = i % t->cache.page_count;
        bool own = false;
        for (int k = 0; k < p->count; k++)
            own = own || t->tables[p->of[k]].pages[lengths[p->of[k]] / GP_PAGE_TOKENS] == page;
        CHECK(own || memcmp(before + (size_t)i * t->cache.page_bytes, after + (size_t)i * t->cache.page_bytes,
                            t->cache.page_bytes) == 0,
              "page %d of layer %d is written, and nobody's of the step", page, i / t->cache.page_count);
    }
    gp_free(after);
}

/** All steps from the beginning. `moves`: the stage arena and the cache grow on the way. */
static void run_steps(trial *t, const plan *plans, bool moves, outcome *outcomes) {
    gp_backend *backend = t->run.model->backend;
    const size_t hidden = (size_t)t->run.model->language.config.hidden_size;
    gp_status status = {0};
    int lengths[SEQUENCES];
    int32_t ids[SEQUENCES];
    for (int i = 0; i < SEQUENCES; i++) {
        lengths[i] = starts[i];
        ids[i] = 7 + i;
        REQUIRE(gp_page_table_open(&t->tables[i], backend, PAGES, &status) &&
                    gp_page_table_fork(&t->prompt, &t->cache, starts[i], &t->tables[i], &status) &&
                    gp_page_table_reserve(&t->tables[i], &t->cache, starts[i] + STEPS, &status),
                "%s", status.message);
    }
    for (int number = 0; number < STEPS; number++) {
        const plan *p = &plans[number];
        gp_step step = {0};
        gp_batch_buffers buffers;
        int positions = 0;
        if (moves && number == STEPS / 3)
            REQUIRE(gp_run_reserve_stage(&t->run, t->stage.capacity + 4096, &status), "%s", status.message);
        if (moves && number == 2 * STEPS / 3)
            REQUIRE(gp_kv_cache_grow(&t->cache, t->cache.page_count + 3, &status), "%s", status.message);
        for (int i = 0; i < p->count; i++) {
            int of = p->of[i];
            step.sequences[i] = (gp_sequence){i, 1, lengths[of], t->tables[of].device_pages};
            step.choices[i] = p->choices[i];
            step.ids[i] = ids[of];
            if (lengths[of] >= positions) positions = lengths[of] + 1;
        }
        unsigned char *before = pages_of(t);
        REQUIRE(gp_decode_step(&t->run, &step, NULL, p->count, positions, &buffers, &status), "%s",
                status.message);
        outcome *o = &outcomes[number];
        backend->ops->download(backend, o->tokens, buffers.tokens, (size_t)p->count * sizeof *o->tokens);
        backend->ops->download(backend, o->hidden, buffers.language.final,
                               (size_t)p->count * hidden * sizeof *o->hidden);
        check_pages(t, p, lengths, before);
        gp_free(before);
        for (int i = 0; i < p->count; i++) {
            ids[p->of[i]] = o->tokens[i];
            lengths[p->of[i]]++;
        }
    }
    for (int i = 0; i < SEQUENCES; i++) gp_page_table_close(&t->tables[i], &t->cache);
}

static void compare(const plan *plans, const outcome *have, const outcome *want, size_t hidden,
                    const char *way) {
    for (int number = 0; number < STEPS; number++)
        for (int i = 0; i < plans[number].count; i++)
            CHECK(have[number].tokens[i] == want[number].tokens[i] &&
                      memcmp(have[number].hidden + (size_t)i * hidden,
                             want[number].hidden + (size_t)i * hidden, hidden * sizeof(float)) == 0,
                  "%s: step %d of %d sequences: the %d-th, %d, has token %d, directly %d", way, number,
                  plans[number].count, i, plans[number].of[i], have[number].tokens[i],
                  want[number].tokens[i]);
}

/** Every step's sequences in an order of chance, greedy and drawn; the first ones are all of them. */
static void make_plans(plan *plans, uint64_t *seed) {
    for (int number = 0; number < STEPS; number++) {
        plan *p = &plans[number];
        p->count = number < 2 ? SEQUENCES : 1 + (int)(random_bits(seed) % SEQUENCES);
        for (int i = 0; i < SEQUENCES; i++) p->of[i] = i;
        for (int i = SEQUENCES - 1; i > 0; i--) {
            int other = (int)(random_bits(seed) % (uint64_t)(i + 1)), swapped = p->of[i];
            p->of[i] = p->of[other];
            p->of[other] = swapped;
        }
        for (int i = 0; i < SEQUENCES; i++)
            p->choices[i] = (gp_token_choice){(double)(random_bits(seed) >> 11) * 0x1p-53,
                                              random_bits(seed) % 2 == 0 ? 0 : 0.8f, 0.9f};
    }
}

/** Questions of several lengths at once, to an engine that is opened on `ops`. */
static void ask_all(const char *model, gp_backend *backend, const gp_ops *ops, heard answers[QUESTIONS]) {
    static const char *const prompts[QUESTIONS] = {
        "Where?", "Describe the scene, and then describe it once more.", "Is there a road beside the river?"};
    static const gp_limits limits = {.width = 60, .height = 50, .crops = 1, .max_new_tokens = 6};
    gp_request *requests[QUESTIONS];
    gp_status status = {0};
    gp_image image = test_picture(limits.width, limits.height);
    backend->ops = ops;
    gp_engine *engine = gp_engine_open_on(
        &(gp_engine_options){.model = model, .requests = QUESTIONS, .limits = limits}, backend, &status);
    REQUIRE(engine != NULL, "%s", status.message);
    for (int i = 0; i < QUESTIONS; i++)
        requests[i] = submit(engine,
                             (gp_request_options){.image = image,
                                                  .prompt = prompts[i],
                                                  .crops = 1,
                                                  .max_new_tokens = limits.max_new_tokens - i,
                                                  .sampling = {i == 0 ? 0 : 2.0f, 0.95f, 5 + (uint64_t)i}},
                             &answers[i]);
    for (int i = 0; i < QUESTIONS; i++) gp_request_release(requests[i]);
    gp_engine_close(engine);
    gp_free((void *)image.pixels);
}

/** An engine whose steps were recorded when it opened answers like one that launches them. */
static void test_answers(const char *model, gp_backend *backend, const gp_ops *counted,
                         const gp_ops *direct) {
    static heard answers[2][QUESTIONS];
    ask_all(model, backend, direct, answers[0]);
    replays = recordings = 0;
    ask_all(model, backend, counted, answers[1]);
    CHECK(replays > 0 && recordings > 0, "%d recordings, %d replays", recordings, replays);
    for (int i = 0; i < QUESTIONS; i++)
        CHECK(answers[0][i].final == GP_EVENT_DONE && answers[0][i].id_count > 0 &&
                  same_answer(&answers[0][i], &answers[1][i]),
              "question %d: \"%s\" %s, directly \"%s\" %s", i, answers[1][i].text, answers[1][i].error,
              answers[0][i].text, answers[0][i].error);
}

/** A call that waits while operations are recorded is the recording's failure, and nobody else's. */
static void test_refused(gp_backend *backend) {
    gp_status status = {0};
    backend->ops->record(backend);
    CHECK(backend->ops->allocate(backend, 100) == NULL, "memory is allocated while recording");
    CHECK(backend->ops->recorded(backend, &status) == NULL &&
              strstr(gp_status_message(&status), "cannot be recorded") != NULL,
          "an allocation is recorded: \"%s\"", gp_status_message(&status));
    gp_status_clear(&status);
#ifdef GP_TEST_SIMT /* CUDA would take it, and read the host's bytes at each replay */
    char bytes[4] = {0};
    void *memory = backend->ops->allocate(backend, sizeof bytes);
    REQUIRE(memory != NULL, "no memory");
    backend->ops->record(backend);
    backend->ops->upload(backend, memory, bytes, sizeof bytes);
    CHECK(backend->ops->recorded(backend, &status) == NULL &&
              strstr(gp_status_message(&status), "upload") != NULL,
          "an upload is recorded: \"%s\"", gp_status_message(&status));
    gp_status_clear(&status);
    backend->ops->release(backend, memory);
#endif
    CHECK(backend->ops->finish(backend, &status), "after failed recordings: %s", gp_status_message(&status));
}

int main(int count, char **arguments) {
    REQUIRE(count == 2, "usage: test_decode_step MODEL");
    static trial t;
    static plan plans[STEPS];
    static outcome outcomes[3][STEPS];
    uint64_t seed = fresh_seed();
    gp_backend *backend = NULL;
    gp_status status = {0};
    if (!gp_backend_open_cuda(0, &backend, &status)) {
        printf("skipped: %s\n", status.message);
        return 77;
    }
    gp_engine *engine = gp_engine_open_on(&(gp_engine_options){.model = arguments[1]}, backend, &status);
    REQUIRE(engine != NULL, "%s", status.message);
    usual = backend->ops;
    gp_ops counted = *usual, direct = *usual;
    counted.record = record;
    counted.replay = replay;
    counted.sample = sample;
    direct.record = NULL;
    test_refused(backend);

    const gp_model *model = gp_engine_model(engine);
    const gp_language *language = &model->language;
    const size_t hidden = (size_t)language->config.hidden_size;
    t.reserve.requests = SEQUENCES;
    t.run = (gp_run){
        .model = model, .cache = &t.cache, .stage = &t.stage, .steps = &t.steps, .reserve = &t.reserve};
    REQUIRE(gp_kv_cache_open(&t.cache, backend, language->config.num_hidden_layers,
                             language->config.num_key_value_heads, language->head_dim, PAGES, NULL, &status),
            "%s", status.message);
    prefill(&t, &seed);
    make_plans(plans, &seed);
    for (int way = 0; way < 3; way++)
        for (int i = 0; i < STEPS; i++) {
            outcomes[way][i].hidden = gp_allocate(SEQUENCES * hidden * sizeof(float));
            REQUIRE(outcomes[way][i].hidden != NULL, "no memory");
        }

    backend->ops = &direct;
    run_steps(&t, plans, false, outcomes[0]);

    backend->ops = &counted; /* each size at its first use, and again after buffers moved */
    run_steps(&t, plans, true, outcomes[1]);
    compare(plans, outcomes[1], outcomes[0], hidden, "recorded at first use");
    CHECK(recordings > 3 && replays > 0 && recordings + replays == STEPS && samplings == 2 * recordings,
          "%d recordings, %d replays, %d launches of the sampler", recordings, replays, samplings);

    REQUIRE(gp_decode_forget(&t.run, &status) && gp_decode_record_all(&t.run, &status), "%s", status.message);
    CHECK(t.steps.stage == t.stage.block, "what was recorded is not known");
    replays = samplings = 0;
    run_steps(&t, plans, false, outcomes[2]);
    compare(plans, outcomes[2], outcomes[0], hidden, "recorded before");
    CHECK(replays == STEPS && samplings == 0, "%d replays, %d launches of the sampler", replays, samplings);

    CHECK(gp_decode_forget(&t.run, &status), "%s", gp_status_message(&status));
    gp_page_table_close(&t.prompt, &t.cache);
    gp_kv_cache_close(&t.cache);
    backend->ops->release(backend, t.stage.block);
    for (int way = 0; way < 3; way++)
        for (int i = 0; i < STEPS; i++) gp_free(outcomes[way][i].hidden);
    gp_engine_close(engine);
    test_answers(arguments[1], backend, &counted, &direct);
    backend->ops = usual;
    gp_backend_close(backend);
    return check_done();
}
