/** A question and what came of it, for the tests of the engine. */
#pragma once

#include "kernels/base/memory.h"
#include "kernels/base/status.h"
#include "runtime/engine.h"
#include "tests/check.h"

#include <sched.h>

/** Everything that the events brought. */
typedef struct heard {
    char text[8192]; /* the pieces, joined */
    int32_t ids[512];
    size_t id_count, masks, texts;
    uint64_t mask_sum; /* FNV-1a over all masks' pixels */
    int finals;
    bool after_final; /* an event came after the final one */
    gp_event_type final;
    char error[4096];
    gp_memory_plan memory;
    int prompt_tokens, image_tokens;
    int cancel_after;              /* texts; 0: never */
    _Atomic(gp_request *) request; /* set by submit, read by the event handler */
} heard;

static inline void hear(void *user, const gp_event *event) {
    heard *all = user;
    if (all->finals > 0) all->after_final = true;
    if (event->type == GP_EVENT_TEXT) {
        strncat(all->text, event->text.text, sizeof all->text - strlen(all->text) - 1);
        all->texts++;
        if (all->cancel_after > 0 && (int)all->texts == all->cancel_after) {
            while (all->request == NULL) sched_yield(); /* submit is about to set it */
            gp_request_cancel(all->request);
        }
    } else if (event->type == GP_EVENT_MASK) {
        const gp_mask *mask = &event->mask;
        CHECK((size_t)mask->index == all->masks++, "masks come in order");
        uint64_t area = 0;
        size_t run = 0, left = mask->run_count > 0 ? mask->runs[0] : 0;
        if (all->mask_sum == 0) all->mask_sum = 14695981039346656037ull;
        for (size_t i = 0; i < (size_t)mask->width * (size_t)mask->height; i++) {
            all->mask_sum = (all->mask_sum ^ mask->pixels[i]) * 1099511628211ull;
            area += mask->pixels[i];
        }
        for (size_t i = 0; i < (size_t)mask->width * (size_t)mask->height;
             i++, left--) { /* down the columns */
            while (left == 0 && run + 1 < mask->run_count) left = mask->runs[++run];
            size_t x = i / (size_t)mask->height, y = i % (size_t)mask->height;
            REQUIRE(left > 0 && mask->pixels[y * (size_t)mask->width + x] == run % 2, "run %zu at %zu, %zu",
                    run, x, y);
        }
        CHECK(left == 0 && run + 1 == mask->run_count, "%zu runs, not %zu", run + 1, mask->run_count);
        CHECK(area == mask->area && mask->score > 0 && mask->score < 1, "area %llu, score %g",
              (unsigned long long)mask->area, (double)mask->score);
    } else if (event->type != GP_EVENT_PROGRESS) {
        all->finals++;
        all->final = event->type;
        if (event->type == GP_EVENT_ERROR) snprintf(all->error, sizeof all->error, "%s", event->error);
        if (event->type == GP_EVENT_DONE) {
            all->id_count = event->result.token_count < 512 ? event->result.token_count : 512;
            memcpy(all->ids, event->result.token_ids, all->id_count * sizeof *all->ids);
            all->memory = event->result.memory;
            all->prompt_tokens = event->result.prompt_tokens;
            all->image_tokens = event->result.image_tokens;
            CHECK(strcmp(all->text, event->result.text) == 0, "the pieces make \"%s\", the whole is \"%s\"",
                  all->text, event->result.text);
            CHECK(all->masks == event->result.mask_count, "%zu masks of %zu", all->masks,
                  event->result.mask_count);
        }
    }
}

/** A picture of slopes and noise, the same for the same size. */
static inline gp_image test_picture(int width, int height) {
    uint8_t *pixels = gp_allocate((size_t)width * (size_t)height * 3);
    uint64_t state = 99;
    REQUIRE(pixels != NULL, "no memory");
    for (int i = 0; i < width * height * 3; i++)
        pixels[i] = (uint8_t)((i / 3 % width) * 200 / width + (int)(random_bits(&state) % 50));
    return (gp_image){width, height, 0, pixels};
}

static inline gp_engine *open_engine(const char *model, int threads) {
    gp_status status = {0};
    gp_engine *engine = gp_engine_open(
        &(gp_engine_options){.model = model, .device = GP_DEVICE_CPU, .threads = threads}, &status);
    REQUIRE(engine != NULL, "%s", status.message);
    return engine;
}

static inline gp_request *submit(gp_engine *engine, gp_request_options options, heard *all) {
    gp_status status = {0};
    int cancel_after = all->cancel_after;
    memset(all, 0, sizeof *all);
    all->cancel_after = cancel_after;
    if (options.prompt == NULL) options.prompt = "Describe the scene.";
    if (options.max_new_tokens == 0) options.max_new_tokens = 20;
    options.on_event = hear;
    options.user = all;
    all->request = gp_submit(engine, &options, &status);
    REQUIRE(all->request != NULL, "%s", status.message);
    return all->request;
}

static inline void ask(gp_engine *engine, gp_request_options options, heard *all) {
    gp_request_release(submit(engine, options, all));
    CHECK(all->finals == 1 && !all->after_final, "%d final events", all->finals);
}

static inline bool same_answer(const heard *a, const heard *b) {
    return a->id_count == b->id_count && memcmp(a->ids, b->ids, a->id_count * sizeof *a->ids) == 0 &&
           a->masks == b->masks && a->mask_sum == b->mask_sum && strcmp(a->text, b->text) == 0;
}
