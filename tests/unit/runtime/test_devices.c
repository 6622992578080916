/**
 * test_devices MODEL: an engine on several devices, here shares of the CPU's threads. Replicas answer from
 * one queue with the bits of a single one; sessions stay where they began; what cannot be is refused.
 */
#include "tests/unit/runtime/asking.h"

enum { QUESTIONS = 9, TOGETHER = 24 };

static uint64_t seed;

static gp_request_options question(int i, const gp_image *images) {
    static const char *const prompts[] = {"Describe the scene.", "Where is the road?",
                                          "Segment the river and the large building at the top left."};
    gp_request_options options = {.image = images[i % 2],
                                  .prompt = prompts[i % 3],
                                  .max_new_tokens = 6 + 5 * (i % 4),
                                  .crops = i % 4 == 3 ? 4 : 1};
    if (i % 5 == 4) options.sampling = (gp_sampling){3, 0.9f, (uint64_t)i};
    return options;
}

static gp_engine *open_with(const gp_engine_options *options) {
    gp_status status = {0};
    gp_engine *engine = gp_engine_open(options, &status);
    REQUIRE(engine != NULL, "%s", status.message);
    return engine;
}

static void test_replicas(const char *model, const gp_image *images, int replicas, int threads) {
    static heard alone[QUESTIONS], answers[TOGETHER];
    gp_request *requests[TOGETHER];
    gp_session *sessions[2];
    int which[TOGETHER];
    gp_engine *single = open_with(&(gp_engine_options){.model = model, .threads = 1});
    for (int i = 0; i < QUESTIONS; i++) ask(single, question(i, images), &alone[i]);
    gp_engine_close(single);
    gp_engine *engine = open_with(
        &(gp_engine_options){.model = model, .threads = threads, .replicas = replicas, .requests = 3});
    for (int i = 0; i < 2; i++) sessions[i] = gp_session_open(engine, &images[i], NULL);
    for (int i = 0; i < TOGETHER; i++) {
        which[i] = (int)(random_bits(&seed) % QUESTIONS);
        gp_request_options options = question(which[i], images);
        if (random_bits(&seed) % 3 == 0) options.session = sessions[which[i] % 2];
        requests[i] = submit(engine, options, &answers[i]);
    }
    for (int i = 0; i < TOGETHER; i++) {
        gp_request_release(requests[i]);
        CHECK(answers[i].finals == 1 && answers[i].final == GP_EVENT_DONE &&
                  same_answer(&answers[i], &alone[which[i]]),
              "%d replicas, request %d, question %d: \"%s\" %s, alone \"%s\"", replicas, i, which[i],
              answers[i].text, answers[i].error, alone[which[i]].text);
    }
    for (int i = 0; i < 2; i++) gp_session_close(sessions[i]);
    gp_engine_close(engine);
}

static void count_final(void *user, const gp_event *event) {
    if (event->type != GP_EVENT_PROGRESS && event->type != GP_EVENT_TEXT && event->type != GP_EVENT_MASK)
        atomic_fetch_add((_Atomic int *)user, 1);
}

/** Closed with a full queue: one final event each. */
static void test_closing(const char *model, const gp_image *images) {
    enum { CROWD = 500 };
    static gp_request *requests[CROWD];
    static _Atomic int finals;
    gp_status status = {0};
    gp_engine *engine =
        open_with(&(gp_engine_options){.model = model, .threads = 2, .replicas = 4, .requests = 2});
    for (int i = 0; i < CROWD; i++) {
        gp_request_options options = question(i, images);
        options.user = &finals;
        options.on_event = count_final;
        requests[i] = gp_submit(engine, &options, &status);
        REQUIRE(requests[i] != NULL, "%s", status.message);
    }
    gp_engine_close(engine);
    CHECK(finals == CROWD, "%d final events of %d", finals, CROWD);
    for (int i = 0; i < CROWD; i++) gp_request_release(requests[i]);
}

static void test_refused(const char *model) {
    gp_status status = {0};
    CHECK(gp_engine_open(&(gp_engine_options){.model = model, .replicas = 65}, &status) == NULL &&
              strstr(status.message, "65 replicas"),
          "%s", gp_status_message(&status));
    gp_status_clear(&status);
    CHECK(gp_engine_open(&(gp_engine_options){.model = "/nowhere", .replicas = 3}, &status) == NULL &&
              strstr(status.message, "/nowhere"),
          "%s", gp_status_message(&status));
    gp_status_clear(&status);
}

int main(int count, char **arguments) {
    REQUIRE(count == 2, "usage: test_devices MODEL");
    seed = fresh_seed();
    gp_image images[2] = {test_picture(120, 90), test_picture(64, 200)};
    size_t before = gp_memory_observe().live_bytes;
    test_replicas(arguments[1], images, 2, 2);
    test_replicas(arguments[1], images, 3, 5);
    test_closing(arguments[1], images);
    test_refused(arguments[1]);
    CHECK(gp_memory_observe().live_bytes == before, "%zu bytes are left behind",
          gp_memory_observe().live_bytes - before);
    for (int i = 0; i < 2; i++) gp_free((void *)images[i].pixels);
    return check_done();
}
