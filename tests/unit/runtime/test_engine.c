/**
 * test_engine MODEL: requests and events. The same answer to the bit from 1 to 3 threads, again and in a
 * queue; sampling that repeats; cancelling, closing and refusals, each with exactly one final event.
 */
#include "tests/unit/runtime/asking.h"

static void test_answers(const char *model, gp_image image) {
    heard first = {0}, again = {0};
    for (int threads = 1; threads <= 3; threads++) {
        gp_engine *engine = open_engine(model, threads);
        ask(engine, (gp_request_options){.image = image}, threads == 1 ? &first : &again);
        CHECK(first.final == GP_EVENT_DONE && first.masks == 1 && first.texts > 1, "%d: \"%s\"", first.final,
              first.text);
        if (threads > 1) CHECK(same_answer(&first, &again), "%d threads: \"%s\"", threads, again.text);
        ask(engine, (gp_request_options){.image = image, .crops = 1}, &again);
        ask(engine, (gp_request_options){.image = image}, &again);
        CHECK(same_answer(&first, &again), "asked again");
        gp_engine_close(engine);
    }
}

static void test_sampling(gp_engine *engine, gp_image image) {
    static heard answers[4];
    uint64_t seeds[4] = {1, 1, 2, 3};
    for (int i = 0; i < 4; i++)
        ask(engine, (gp_request_options){.image = image, .sampling = {50, 0.95f, seeds[i]}}, &answers[i]);
    CHECK(same_answer(&answers[0], &answers[1]), "a seed repeats: \"%s\", \"%s\"", answers[0].text,
          answers[1].text);
    CHECK(!same_answer(&answers[0], &answers[2]) || !same_answer(&answers[0], &answers[3]),
          "other seeds differ: \"%s\"", answers[0].text);
}

static void test_queue(gp_engine *engine, gp_image image) {
    enum { COUNT = 6 };
    static heard answers[COUNT];
    gp_request *requests[COUNT];
    for (int i = 0; i < COUNT; i++)
        requests[i] = submit(engine, (gp_request_options){.image = image, .crops = 1}, &answers[i]);
    gp_request_cancel(requests[3]);
    for (int i = 0; i < COUNT; i++) {
        gp_event_type end = gp_request_wait(requests[i]);
        CHECK(end == (i == 3 ? GP_EVENT_CANCELLED : GP_EVENT_DONE), "request %d ended with %d", i, end);
        gp_request_release(requests[i]);
        CHECK(answers[i].finals == 1 && !answers[i].after_final, "request %d: %d final events", i,
              answers[i].finals);
        if (i != 3) CHECK(same_answer(&answers[0], &answers[i]), "request %d differs", i);
    }
}

static void test_cancel(gp_engine *engine, gp_image image) {
    heard all = {.cancel_after = 2};
    ask(engine, (gp_request_options){.image = image}, &all);
    CHECK(all.final == GP_EVENT_CANCELLED && all.masks == 0, "cancelled in mid-answer: %d", all.final);
}

static void test_close(const char *model, gp_image image) {
    enum { COUNT = 4 };
    static heard answers[COUNT];
    gp_request *requests[COUNT];
    gp_engine *engine = open_engine(model, 2);
    for (int i = 0; i < COUNT; i++)
        requests[i] = submit(engine, (gp_request_options){.image = image}, &answers[i]);
    gp_engine_close(engine);
    for (int i = 0; i < COUNT; i++)
        CHECK(answers[i].finals == 1, "request %d: %d final events when the engine is gone", i,
              answers[i].finals);
    for (int i = 0; i < COUNT; i++) gp_request_release(requests[i]); /* after their engine */
}

static void test_refusals(gp_engine *engine, gp_image image) {
    gp_status status = {0};
    const struct {
        gp_request_options options;
        const char *word;
    } bad[] = {
        {{.image = image, .on_event = hear}, "prompt"},
        {{.image = image, .prompt = "", .on_event = hear}, "prompt"},
        {{.image = {0, 5, 0, image.pixels}, .prompt = "x", .on_event = hear}, "0 x 5"},
        {{.image = {image.width, image.height, 4, image.pixels}, .prompt = "x", .on_event = hear}, "stride"},
        {{.image = image, .prompt = "x", .crops = -1, .on_event = hear}, "-1"},
        {{.image = image, .prompt = "x", .sampling = {.temperature = -1}, .on_event = hear}, "temperature"},
        {{.image = image, .prompt = "x", .sampling = {.top_p = 2}, .on_event = hear}, "top_p"},
        {{.image = image,
          .prompt = "x",
          .history = &(gp_turn){"q", NULL},
          .history_count = 1,
          .on_event = hear},
         "turn 0"},
        {{.image = image, .prompt = "x"}, "on_event"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        gp_request *request = gp_submit(engine, &bad[i].options, &status);
        CHECK(request == NULL && strstr(status.message, bad[i].word) != NULL, "%s: %s", bad[i].word,
              status.message);
    }
    heard all = {0};
    ask(engine, (gp_request_options){.image = image, .prompt = "a <ImageHere> b <ImageHere>"}, &all);
    CHECK(all.final == GP_EVENT_ERROR && strstr(all.error, "ImageHere") != NULL, "%s", all.error);
    static char prompt[40000];
    memset(prompt, 'q', sizeof prompt - 1);
    ask(engine, (gp_request_options){.image = image, .prompt = prompt}, &all);
    CHECK(all.final == GP_EVENT_ERROR && strstr(all.error, "4096") != NULL, "a prompt beyond the context: %s",
          all.error);
    ask(engine, (gp_request_options){.image = image, .max_new_tokens = 4090}, &all);
    CHECK(all.final == GP_EVENT_ERROR && strstr(all.error, "4090") != NULL,
          "an answer beyond the context: %s", all.error);
    ask(engine, (gp_request_options){.image = image, .prompt = "\xFF"}, &all);
    CHECK(all.final == GP_EVENT_ERROR && strstr(all.error, "UTF-8") != NULL, "%s", all.error);
    ask(engine, (gp_request_options){.image = image}, &all);
    CHECK(all.final == GP_EVENT_DONE, "the next request is well: %s", all.error);
    gp_status_clear(&status);
    CHECK(gp_engine_open(&(gp_engine_options){.model = "/nonexistent"}, &status) == NULL &&
              strstr(status.message, "/nonexistent"),
          "%s", status.message);
    CHECK(gp_engine_open(&(gp_engine_options){.model = NULL}, &status) == NULL, "no model");
    gp_status_clear(&status);
}

int main(int count, char **arguments) {
    REQUIRE(count == 2, "usage: test_engine MODEL");
    gp_image image = test_picture(300, 200), small = test_picture(64, 64);
    test_answers(arguments[1], image);
    gp_engine *engine = open_engine(arguments[1], 2);
    CHECK(strstr(gp_engine_device(engine), "2 threads") != NULL && gp_engine_weight_bytes(engine) > 1000000,
          "%s", gp_engine_device(engine));
    test_sampling(engine, small);
    test_queue(engine, small);
    test_cancel(engine, small);
    test_refusals(engine, small);
    gp_engine_close(engine);
    test_close(arguments[1], small);
    gp_free((void *)image.pixels);
    gp_free((void *)small.pixels);
    return check_done();
}
