/**
 * test_scheduler MODEL: requests that run at the same time. Each gets the bits that it gets alone, whatever
 * the company, the order of coming and the room for keys and values; waits end; what is cancelled or fails
 * does so alone, with one final event; and nothing is left behind. With GP_TEST_SIMT on the emulated GPU,
 * where only the company is tested, of few: it is slow.
 */
#include "tests/unit/runtime/asking.h"

#include <time.h>
#include <unistd.h>

#ifdef GP_TEST_SIMT
enum { DEVICE = GP_DEVICE_CUDA, QUESTIONS = 3, TOGETHER = 5, TOKENS = 2 };
#else
enum { DEVICE = GP_DEVICE_CPU, QUESTIONS = 12, TOGETHER = 64, TOKENS = 6 };
#endif

static uint64_t seed;

/** Questions about pictures of several sizes and divisions, of several lengths, greedy and drawn. */
static gp_request_options question(int i, const gp_image *images) {
    static const char *const prompts[] = {"Describe the scene.", "Where is the road?",
                                          "Segment the river and the large building at the top left."};
    static const int crops[] = {1, 4, 2, 1, 1, 9};
    gp_request_options options = {.image = images[i % 3],
                                  .prompt = prompts[(i / 3) % 3],
                                  .max_new_tokens = TOKENS + (TOKENS - 1) * (i % 4),
                                  .crops = crops[i % 6]};
    if (i % 5 == 4) options.sampling = (gp_sampling){3, 0.9f, (uint64_t)i};
    return options;
}

static gp_engine *open_for(const char *model, int threads, int requests, int64_t cache_tokens) {
    gp_status status = {0};
    gp_engine *engine = gp_engine_open(&(gp_engine_options){.model = model,
                                                            .device = (gp_device)DEVICE,
                                                            .threads = threads,
                                                            .requests = requests,
                                                            .cache_tokens = cache_tokens},
                                       &status);
    REQUIRE(engine != NULL, "%s", status.message);
    return engine;
}

static void test_company(const char *model, const gp_image *images) {
    static heard alone[QUESTIONS], answers[TOGETHER];
    gp_request *requests[TOGETHER];
    int which[TOGETHER];
    uint64_t state = seed;
    gp_engine *single = open_for(model, 1, 0, 0);
    for (int i = 0; i < QUESTIONS; i++) {
        ask(single, question(i, images), &alone[i]);
        REQUIRE(alone[i].final == GP_EVENT_DONE, "%s", alone[i].error);
    }
    int64_t longest = 0;
    for (int i = 0; i < QUESTIONS; i++) {
        int64_t tokens = alone[i].prompt_tokens + question(i, images).max_new_tokens;
        longest = tokens > longest ? tokens : longest;
    }
    gp_engine_close(single);
    const struct {
        int threads, requests;
        int64_t cache_tokens;
    } rooms[] = {{2, 64, 0}, {1, 7, 0}, {2, 16, 3 * longest}, {2, 64, longest}};
    for (size_t room = 0; room < sizeof rooms / sizeof *rooms; room++) {
        gp_engine *engine =
            open_for(model, rooms[room].threads, rooms[room].requests, rooms[room].cache_tokens);
        int count = room == 0 ? TOGETHER : (TOGETHER + 7) / 8;
        for (int i = 0; i < count; i++) {
            which[i] = (int)(random_bits(&state) % QUESTIONS);
            requests[i] = submit(engine, question(which[i], images), &answers[i]);
            if (random_bits(&state) % 4 == 0) usleep((useconds_t)(random_bits(&state) % 3000));
        }
        for (int i = 0; i < count; i++) {
            gp_request_release(requests[i]);
            CHECK(answers[i].finals == 1 && !answers[i].after_final && answers[i].final == GP_EVENT_DONE,
                  "room %zu, request %d: %d finals, the last %d: %s", room, i, answers[i].finals,
                  answers[i].final, answers[i].error);
            CHECK(same_answer(&answers[i], &alone[which[i]]),
                  "room %zu, request %d, question %d: \"%s\", alone \"%s\"", room, i, which[i],
                  answers[i].text, alone[which[i]].text);
        }
        gp_engine_close(engine);
    }
}

/** Some are cancelled at any moment, some cannot be answered: the others do not notice. */
static void test_faults(const char *model, const gp_image *images) {
    static heard alone[QUESTIONS], answers[TOGETHER];
    gp_request *requests[TOGETHER];
    uint64_t state = seed + 1;
    enum { COUNT = TOGETHER / 2 };
    gp_engine *engine = open_for(model, 2, 16, 4000);
    for (int i = 0; i < QUESTIONS; i++) ask(engine, question(i, images), &alone[i]);
    for (int i = 0; i < COUNT; i++) {
        gp_request_options options = question(i % QUESTIONS, images);
        if (i % 7 == 3) options.max_new_tokens = 4090; /* beyond the context */
        if (i % 7 == 5) options.prompt = "a <ImageHere> b <ImageHere>";
        answers[i].cancel_after = i % 7 == 1 ? 1 + i % 3 : 0;
        requests[i] = submit(engine, options, &answers[i]);
        if (i % 7 == 2 && random_bits(&state) % 2 == 0) usleep((useconds_t)(random_bits(&state) % 4000));
        if (i % 7 == 2) gp_request_cancel(requests[i]);
    }
    for (int i = 0; i < COUNT; i++) {
        gp_event_type end = gp_request_wait(requests[i]);
        gp_request_release(requests[i]);
        CHECK(answers[i].finals == 1 && !answers[i].after_final, "request %d: %d finals", i,
              answers[i].finals);
        if (i % 7 == 3 || i % 7 == 5)
            CHECK(end == GP_EVENT_ERROR, "request %d cannot be answered: %d", i, end);
        else if (i % 7 == 1 || i % 7 == 2)
            CHECK(end == GP_EVENT_CANCELLED || end == GP_EVENT_DONE, "request %d: %d, %s", i, end,
                  answers[i].error);
        else
            CHECK(end == GP_EVENT_DONE && same_answer(&answers[i], &alone[i % QUESTIONS]),
                  "request %d: %d \"%s\" %s", i, end, answers[i].text, answers[i].error);
    }
    gp_engine_close(engine);
}

/** More than the cache will ever hold is refused with the numbers; what a session keeps makes room where
 * nobody runs. */
static void test_room(const char *model, const gp_image *images) {
    static heard all, first, again;
    gp_status status = {0};
    gp_engine *engine = open_for(model, 2, 4, 640);
    ask(engine, (gp_request_options){.image = images[0], .crops = 1, .max_new_tokens = 700}, &all);
    CHECK(all.final == GP_EVENT_ERROR && strstr(all.error, "there are 10") != NULL, "%s", all.error);
    gp_session *session = gp_session_open(engine, &images[0], &status);
    const gp_request_options in_session = {.session = session, .crops = 1, .max_new_tokens = 300};
    ask(engine, in_session, &first);
    CHECK(first.final == GP_EVENT_DONE, "%s", first.error);
    int all_of_it = 640 - first.prompt_tokens; /* with the prompt, every page there is */
    for (int i = 0; i < 2; i++) {
        ask(engine, (gp_request_options){.image = images[0], .crops = 1, .max_new_tokens = all_of_it}, &all);
        CHECK(all.final == GP_EVENT_DONE, "%s", all.error);
        ask(engine, in_session, &again);
        CHECK(same_answer(&first, &again), "after its pages were taken: \"%s\", before \"%s\"", again.text,
              first.text);
    }
    gp_session_close(session);
    ask(engine, (gp_request_options){.image = images[0], .crops = 1, .max_new_tokens = all_of_it}, &all);
    CHECK(all.final == GP_EVENT_DONE, "%s", all.error);
    gp_engine_close(engine);
    CHECK(gp_engine_open(&(gp_engine_options){.model = model, .requests = 65}, &status) == NULL &&
              strstr(status.message, "65"),
          "%s", gp_status_message(&status));
    gp_status_clear(&status);
}

/** What a request of a session brought, and how often the encoder was at work for it. */
typedef struct watched {
    heard all;
    int vision_steps;
} watched;

static void watch(void *user, const gp_event *event) {
    watched *w = user;
    w->vision_steps += event->type == GP_EVENT_PROGRESS && event->progress.stage == GP_STAGE_VISION;
    hear(&w->all, event);
}

/** Several sessions at once, several questions to each, one of them cancelled; another division of the
 * picture among them, for which it is looked at again. All others of a session share what the first one saw.
 */
static void test_sessions(const char *model, const gp_image *images) {
    enum { SESSIONS = 3, EACH = 6, OTHER = 4, CANCELLED = 2 };
    static heard alone[SESSIONS][EACH];
    static watched answers[SESSIONS][EACH];
    gp_request *requests[SESSIONS][EACH];
    gp_session *sessions[SESSIONS];
    gp_status status = {0};
    gp_engine *engine = open_for(model, 2, 16, 0);
    for (int i = 0; i < SESSIONS; i++) {
        sessions[i] = gp_session_open(engine, &images[i], NULL);
        for (int k = 0; k < EACH; k++) {
            gp_request_options options = question(i + 3 * k, images);
            options.crops = k == OTHER ? 4 : 1;
            ask(engine, options, &alone[i][k]);
            memset(&answers[i][k], 0, sizeof answers[i][k]);
        }
    }
    for (int k = 0; k < EACH; k++)
        for (int i = 0; i < SESSIONS; i++) {
            gp_request_options options = question(i + 3 * k, images);
            options.crops = k == OTHER ? 4 : 1;
            options.session = sessions[i];
            options.on_event = watch;
            options.user = &answers[i][k];
            requests[i][k] = gp_submit(engine, &options, &status);
            REQUIRE(requests[i][k] != NULL, "%s", status.message);
            if (k == CANCELLED) gp_request_cancel(requests[i][k]);
        }
    for (int i = 0; i < SESSIONS; i++) {
        int looks = 0;
        for (int k = 0; k < EACH; k++) {
            gp_event_type end = gp_request_wait(requests[i][k]);
            const heard *all = &answers[i][k].all;
            gp_request_release(requests[i][k]);
            looks += answers[i][k].vision_steps > 0;
            CHECK(end == GP_EVENT_DONE || (k == CANCELLED && end == GP_EVENT_CANCELLED),
                  "session %d, question %d: %d %s", i, k, end, all->error);
            if (end == GP_EVENT_DONE)
                CHECK(same_answer(&alone[i][k], all), "session %d, question %d: \"%s\", alone \"%s\"", i, k,
                      all->text, alone[i][k].text);
        }
        int divisions =
            alone[i][OTHER].image_tokens != alone[i][0].image_tokens ? 3 : 1; /* one after the other */
        CHECK(looks == divisions, "session %d: the picture was looked at %d times, not %d", i, looks,
              divisions);
        gp_session_close(sessions[i]);
    }
    gp_engine_close(engine);
}

/* A device that is lost when it is next waited for, after as many requests as are counted have said
 * something; and nothing ends on it before all have been submitted, however slow that is. */
static _Atomic int speakers, expected;
static bool (*usual_finish)(gp_backend *backend, gp_status *status);

static bool finish_or_fail(gp_backend *backend, gp_status *status) {
    while (atomic_load(&expected) > 0) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    if (!usual_finish(backend, status)) return false;
    return atomic_load(&speakers) > 0 ||
           (atomic_fetch_add(&speakers, 100), gp_fail(status, "the device is lost"));
}

static void speak(void *user, const gp_event *event) {
    heard *all = user;
    if (event->type == GP_EVENT_TEXT && all->texts == 0) atomic_fetch_sub(&speakers, 1);
    hear(all, event);
}

/** A failure of the device is everybody's who has begun; afterwards all is well. */
static void test_device(const char *model, const gp_image *images) {
    enum { COUNT = 4 };
    static heard alone[COUNT], answers[COUNT];
    gp_request *requests[COUNT];
    gp_status status = {0};
    gp_engine *engine = open_for(model, 2, COUNT, 0);
    gp_backend *backend = gp_engine_model(engine)->backend;
    const gp_ops *usual = backend->ops;
    gp_ops failing = *usual;
    for (int i = 0; i < COUNT; i++) ask(engine, question(i, images), &alone[i]);
    usual_finish = usual->finish;
    failing.finish = finish_or_fail;
    speakers = expected = COUNT;
    backend->ops = &failing;
    gp_session *session = gp_session_open(engine, &images[0], &status);
    for (int i = 0; i < COUNT; i++) {
        memset(&answers[i], 0, sizeof answers[i]);
        gp_request_options options = question(i, images);
        options.max_new_tokens = 40 + i; /* none ends before all have begun */
        if (i % 2 == 0) options.session = session;
        options.on_event = speak;
        options.user = &answers[i];
        requests[i] = gp_submit(engine, &options, &status);
        REQUIRE(requests[i] != NULL, "%s", status.message);
        atomic_fetch_sub(&expected, 1);
    }
    for (int i = 0; i < COUNT; i++) {
        gp_event_type end = gp_request_wait(requests[i]);
        gp_request_release(requests[i]);
        CHECK(end == GP_EVENT_ERROR && strcmp(answers[i].error, "the device is lost") == 0 &&
                  answers[i].finals == 1,
              "request %d: %d, \"%s\", %d finals", i, end, answers[i].error, answers[i].finals);
    }
    for (int i = 0; i < COUNT; i++) {
        gp_request_options options = question(i, images);
        if (i % 3 == 0) options.session = session; /* questions 0 and 3 are about its picture */
        ask(engine, options, &answers[i]);
        CHECK(same_answer(&alone[i], &answers[i]), "after it, request %d: \"%s\", \"%s\" before", i,
              answers[i].text, alone[i].text);
    }
    gp_session_close(session);
    backend->ops = usual;
    gp_engine_close(engine);
}

static void count_final(void *user, const gp_event *event) {
    if (event->type == GP_EVENT_DONE || event->type == GP_EVENT_ERROR || event->type == GP_EVENT_CANCELLED)
        ++*(int *)user;
}

/** Thousands queued, some of them cancelled, and the engine closed: each has its one final event. */
static void test_crowd(const char *model, const gp_image *images) {
    enum { CROWD = 10000 };
    static int finals[CROWD];
    gp_request **requests = gp_allocate_zeroed(CROWD, sizeof(gp_request *));
    REQUIRE(requests != NULL, "no memory");
    gp_status status = {0};
    gp_engine *engine = open_for(model, 2, 8, 0);
    for (int i = 0; i < CROWD; i++) {
        gp_request_options options = {
            .image = images[0], .prompt = "x", .crops = 1, .max_new_tokens = 2, .user = &finals[i]};
        options.on_event = count_final;
        requests[i] = gp_submit(engine, &options, &status);
        REQUIRE(requests[i] != NULL, "%s", status.message);
        if (i % 5 == 4) gp_request_cancel(requests[i - i % 3]);
    }
    gp_request_wait(requests[0]);
    gp_engine_close(engine);
    for (int i = 0; i < CROWD; i++) {
        CHECK(finals[i] == 1, "request %d: %d final events", i, finals[i]);
        gp_request_release(requests[i]);
    }
    gp_free(requests);
}

int main(int count, char **arguments) {
    REQUIRE(count == 2, "usage: test_scheduler MODEL");
    seed = fresh_seed();
    gp_image images[3] = {test_picture(120, 90), test_picture(64, 200), test_picture(257, 131)};
    size_t before = gp_memory_observe().live_bytes;
    test_company(arguments[1], images);
#ifdef GP_TEST_SIMT
    for (int i = 0; i < 3; i++) gp_free((void *)images[i].pixels);
    return check_done();
#endif
    test_faults(arguments[1], images);
    test_room(arguments[1], images);
    test_sessions(arguments[1], images);
    test_device(arguments[1], images);
    test_crowd(arguments[1], images);
    CHECK(gp_memory_observe().live_bytes == before, "%zu bytes are left behind",
          gp_memory_observe().live_bytes - before);
    for (int i = 0; i < 3; i++) gp_free((void *)images[i].pixels);
    return check_done();
}
