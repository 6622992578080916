/**
 * test_session MODEL: several questions in a session have the answers, to the bit, that they have without
 * one; what an earlier question computed is not computed again; nothing that ends a question early spoils the
 * next, nor does a device that fails.
 */
#include "tests/unit/runtime/asking.h"

#include <pthread.h>

enum { TURNS = 4 };

static const char *const questions[TURNS] = {"Describe the scene.", "And the road beside it?",
                                             "Segment the building please.", "Why?"};

/** What the events of a question tell beside its answer. */
typedef struct told {
    heard all;
    int steps[GP_STAGE_COUNT], first_prefill, prompt_tokens;
} told;

static void tell(void *user, const gp_event *event) {
    told *t = user;
    if (event->type == GP_EVENT_PROGRESS) {
        if (event->progress.stage == GP_STAGE_PREFILL && t->steps[GP_STAGE_PREFILL] == 0)
            t->first_prefill = event->progress.done;
        t->steps[event->progress.stage]++;
        t->prompt_tokens =
            event->progress.stage == GP_STAGE_PREFILL ? event->progress.total : t->prompt_tokens;
    }
    hear(&t->all, event);
}

static void ask_told(gp_engine *engine, gp_request_options options, told *t) {
    gp_status status = {0};
    int cancel_after = t->all.cancel_after;
    *t = (told){.all = {.cancel_after = cancel_after}};
    if (options.max_new_tokens == 0) options.max_new_tokens = 30;
    options.on_event = tell;
    options.user = t;
    gp_request *request = gp_submit(engine, &options, &status);
    REQUIRE(request != NULL, "%s", status.message);
    gp_request_release(request);
}

/** A conversation with and without a session. */
static void test_conversation(gp_engine *engine, gp_image image) {
    static told with[TURNS], without[TURNS];
    gp_turn history[TURNS];
    gp_status status = {0};
    gp_session *session = gp_session_open(engine, &image, &status);
    REQUIRE(session != NULL, "%s", status.message);
    size_t masks = 0;
    for (int i = 0; i < TURNS; i++) {
        gp_request_options options = {
            .image = image, .prompt = questions[i], .history = history, .history_count = (size_t)i};
        ask_told(engine, options, &without[i]);
        options.session = session;
        options.image = (gp_image){0};
        ask_told(engine, options, &with[i]);
        CHECK(with[i].all.final == GP_EVENT_DONE && same_answer(&with[i].all, &without[i].all),
              "turn %d: \"%s\", \"%s\" without a session (%s)", i, with[i].all.text, without[i].all.text,
              with[i].all.error);
        CHECK(without[i].steps[GP_STAGE_VISION] > 0 && (with[i].steps[GP_STAGE_VISION] > 0) == (i == 0),
              "turn %d looks at the picture in %d steps", i, with[i].steps[GP_STAGE_VISION]);
        if (with[i].all.masks > 0)
            CHECK((with[i].steps[GP_STAGE_GROUNDING] > 0) == (masks == 0),
                  "turn %d has %d steps of grounding after %zu masks", i, with[i].steps[GP_STAGE_GROUNDING],
                  masks);
        masks += with[i].all.masks;
        history[i] = (gp_turn){questions[i], with[i].all.text};
    }
    CHECK(masks > 1, "%zu masks", masks);
    gp_session_close(session);
}

/** How much of a prompt is computed: of one asked again, its last token; where the image stands elsewhere,
 * what is before it is kept and nothing behind. */
static void test_prefix(gp_engine *engine, gp_image image) {
    gp_session *session = gp_session_open(engine, &image, NULL);
    static told first, again, moved, moved_without, shorter, shorter_without;
    gp_request_options options = {.session = session, .prompt = questions[0]};
    ask_told(engine, options, &first);
    ask_told(engine, options, &again);
    CHECK(same_answer(&first.all, &again.all), "asked again: \"%s\"", again.all.text);
    options.prompt = "Here <ImageHere> what is it?";
    ask_told(engine, options, &moved);
    ask_told(engine, (gp_request_options){.image = image, .prompt = options.prompt}, &moved_without);
    CHECK(same_answer(&moved.all, &moved_without.all), "the image elsewhere: \"%s\"", moved.all.text);
    CHECK(moved.steps[GP_STAGE_VISION] == 0, "the picture is looked at again");
    options.prompt = questions[1];
    options.crops = 1;
    ask_told(engine, options, &shorter);
    ask_told(engine, (gp_request_options){.image = image, .prompt = options.prompt, .crops = 1},
             &shorter_without);
    CHECK(same_answer(&shorter.all, &shorter_without.all) && shorter.prompt_tokens < first.prompt_tokens,
          "another division: \"%s\", %d and %d tokens", shorter.all.text, shorter.prompt_tokens,
          first.prompt_tokens);
    CHECK(shorter.steps[GP_STAGE_VISION] > 0, "another division is looked at anew");
    gp_session_close(session);
}

/** Final-norm rows that an observer sees, which are the positions that are computed. */
static void count_rows(void *user, const char *stage, const float *values, int64_t first_row,
                       int64_t row_count, int64_t columns) {
    int64_t *range = user;
    (void)values;
    (void)columns;
    if (strcmp(stage, "hidden") != 0) return;
    if (range[1] == 0) range[0] = first_row;
    range[1] = first_row + row_count;
}

static void test_positions(gp_engine *engine, gp_image image) {
    gp_session *session = gp_session_open(engine, &image, NULL);
    int64_t range[2] = {0};
    gp_observer observer = {.rows = count_rows, .user = range};
    static told turn;
    gp_turn history[1];
    gp_engine_observe(engine, &observer);
    ask_told(engine, (gp_request_options){.session = session, .prompt = questions[0]}, &turn);
    CHECK(range[0] == 0 && range[1] == turn.prompt_tokens, "the first question computes %lld to %lld",
          (long long)range[0], (long long)range[1]);
    int before = turn.prompt_tokens;
    range[0] = range[1] = 0;
    ask_told(engine, (gp_request_options){.session = session, .prompt = questions[0]}, &turn);
    CHECK(range[0] == before - 1 && range[1] == before, "the same question computes %lld to %lld of %d",
          (long long)range[0], (long long)range[1], before);
    static char answer[sizeof turn.all.text];
    memcpy(answer, turn.all.text, sizeof answer);
    history[0] = (gp_turn){questions[0], answer};
    range[0] = range[1] = 0;
    ask_told(engine,
             (gp_request_options){
                 .session = session, .prompt = questions[1], .history = history, .history_count = 1},
             &turn);
    CHECK(range[0] >= before && range[1] == turn.prompt_tokens, "the second turn computes %lld to %lld of %d",
          (long long)range[0], (long long)range[1], turn.prompt_tokens);
    gp_session_close(session);
    gp_engine_observe(engine, NULL);
}

/** Cancelled or refused, a question leaves the next one right. */
static void test_early_ends(gp_engine *engine, gp_image image) {
    static heard want, all;
    gp_session *session = gp_session_open(engine, &image, NULL);
    ask(engine, (gp_request_options){.image = image}, &want);
    for (int pieces = 0; pieces < 4; pieces++) {
        all.cancel_after = pieces;
        gp_request *request = submit(engine, (gp_request_options){.session = session}, &all);
        if (pieces == 0) gp_request_cancel(request);
        gp_event_type end = gp_request_wait(request);
        CHECK(end == GP_EVENT_CANCELLED || (pieces == 0 && end == GP_EVENT_DONE), "%d pieces: %d", pieces,
              end);
        gp_request_release(request);
        all.cancel_after = 0;
        if (pieces > 0) ask(engine, (gp_request_options){.session = session}, &all);
        if (pieces > 0) CHECK(same_answer(&want, &all), "after %d pieces: \"%s\"", pieces, all.text);
    }
    ask(engine, (gp_request_options){.session = session, .max_new_tokens = 4090}, &all);
    CHECK(all.final == GP_EVENT_ERROR, "an answer beyond the context: %d", all.final);
    ask(engine, (gp_request_options){.session = session}, &all);
    CHECK(same_answer(&want, &all), "after a refusal: \"%s\"", all.text);
    gp_session_close(session);
}

/* What a device tells that is waited for; on the engine's thread while a request runs. */
static int waits;
static bool device_lost;

static bool wait_for_device(gp_backend *backend, gp_status *status) {
    (void)backend;
    waits++;
    return !device_lost || gp_fail(status, "the device is lost");
}

/** Every ending waits for the device; where that fails the question does, and nothing is kept of it. */
static void test_device(gp_engine *engine, gp_image image) {
    static told want, all;
    gp_backend *backend = gp_engine_model(engine)->backend;
    const gp_ops *usual = backend->ops;
    gp_ops watched = *usual;
    watched.finish = wait_for_device;
    backend->ops = &watched;
    gp_session *session = gp_session_open(engine, &image, NULL);
    gp_request_options options = {.session = session, .prompt = questions[0]}, beyond = options;
    beyond.max_new_tokens = 4090;
    ask_told(engine, options, &want);
    CHECK(want.all.final == GP_EVENT_DONE && waits == 1, "done after %d waits", waits);
    static heard cancelled = {.cancel_after = 1};
    gp_request_release(submit(engine, options, &cancelled));
    CHECK(cancelled.final == GP_EVENT_CANCELLED && waits == 2, "cancelled after %d waits", waits);
    ask_told(engine, beyond, &all);
    CHECK(all.all.final == GP_EVENT_ERROR && waits == 3, "refused after %d waits", waits);
    device_lost = true;
    ask_told(engine, options, &all);
    CHECK(all.all.final == GP_EVENT_ERROR && strcmp(all.all.error, "the device is lost") == 0, "\"%s\"",
          all.all.error);
    gp_request_release(submit(engine, options, &cancelled));
    CHECK(cancelled.final == GP_EVENT_ERROR, "cancelled on a lost device: %d", cancelled.final);
    ask_told(engine, beyond, &all);
    CHECK(strstr(all.all.error, "context") != NULL, "the first reason stays: \"%s\"", all.all.error);
    device_lost = false;
    ask_told(engine, options, &all);
    CHECK(all.steps[GP_STAGE_VISION] > 0 && same_answer(&want.all, &all.all),
          "after a failure: %d steps of vision, \"%s\"", all.steps[GP_STAGE_VISION], all.all.text);
    gp_session_close(session);
    backend->ops = usual;
}

/** Asks its own session's questions from its own thread. */
typedef struct asker {
    gp_engine *engine;
    gp_image image;
    heard last;
} asker;

static void *ask_three(void *argument) {
    asker *a = argument;
    gp_session *session = gp_session_open(a->engine, &a->image, NULL);
    gp_request *requests[2];
    static _Thread_local heard queued[2];
    for (int i = 0; i < 2; i++)
        requests[i] =
            submit(a->engine, (gp_request_options){.session = session, .prompt = questions[i]}, &queued[i]);
    for (int i = 0; i < 2; i++) gp_request_release(requests[i]);
    requests[0] = submit(a->engine, (gp_request_options){.session = session}, &a->last);
    gp_session_close(session); /* waits for it */
    CHECK(a->last.finals == 1, "%d final events before the session is closed", a->last.finals);
    gp_request_release(requests[0]);
    return NULL;
}

static void test_threads(gp_engine *engine, gp_image image, gp_image other) {
    static heard want[2];
    static asker askers[2];
    pthread_t threads[2];
    askers[0] = (asker){.engine = engine, .image = image};
    askers[1] = (asker){.engine = engine, .image = other};
    for (int i = 0; i < 2; i++) ask(engine, (gp_request_options){.image = askers[i].image}, &want[i]);
    for (int i = 0; i < 2; i++)
        REQUIRE(pthread_create(&threads[i], NULL, ask_three, &askers[i]) == 0, "no thread");
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < 2; i++)
        CHECK(same_answer(&want[i], &askers[i].last), "session %d: \"%s\"", i, askers[i].last.text);
}

int main(int count, char **arguments) {
    REQUIRE(count == 2, "usage: test_session MODEL");
    gp_image image = test_picture(300, 200), small = test_picture(64, 90);
    gp_status status = {0};
    gp_engine *engine = open_engine(arguments[1], 2), *another = open_engine(arguments[1], 1);
    test_conversation(engine, image);
    test_prefix(engine, image);
    test_positions(engine, image);
    test_early_ends(engine, small);
    test_device(engine, small);
    test_threads(engine, image, small);
    CHECK(gp_session_open(engine, &(gp_image){0, 4, 0, image.pixels}, &status) == NULL &&
              strstr(status.message, "0 x 4") != NULL,
          "%s", status.message);
    gp_session *session = gp_session_open(another, &small, NULL);
    gp_request_options options = {.session = session, .prompt = "x", .on_event = hear};
    CHECK(gp_submit(engine, &options, &status) == NULL && strstr(status.message, "engine") != NULL, "%s",
          status.message);
    gp_session_close(session);
    gp_session_close(NULL);
    gp_engine_close(another);
    gp_engine_close(engine);
    gp_status_clear(&status);
    gp_free((void *)image.pixels);
    gp_free((void *)small.pixels);
    return check_done();
}
