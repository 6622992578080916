/**
 * test_devices MODEL: an engine on several devices, here shares of the CPU's threads. Replicas answer from
 * one queue with the bits of a single one; sessions stay where they began. Ranks give one rank's tokens, with
 * logits that differ by the rounding of sums alone, and the same bits in any company. What cannot be is
 * refused. Where ranks are lost, nobody hangs, and who is whole answers.
 */
#include "tests/unit/runtime/asking.h"

#include <pthread.h>

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

/** All questions in any order, some in sessions, many at the same time: each has its answer of before. */
static void ask_together(gp_engine *engine, const char *devices, const gp_image *images, const heard *alone) {
    static heard answers[TOGETHER];
    gp_request *requests[TOGETHER];
    gp_session *sessions[2];
    int which[TOGETHER];
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
              "%s, request %d, question %d: \"%s\" %s, alone \"%s\"", devices, i, which[i], answers[i].text,
              answers[i].error, alone[which[i]].text);
    }
    for (int i = 0; i < 2; i++) gp_session_close(sessions[i]);
}

static void test_replicas(const char *model, const gp_image *images, int replicas, int threads) {
    static heard alone[QUESTIONS];
    gp_engine *single = open_with(&(gp_engine_options){.model = model, .threads = 1});
    for (int i = 0; i < QUESTIONS; i++) ask(single, question(i, images), &alone[i]);
    gp_engine_close(single);
    gp_engine *engine = open_with(
        &(gp_engine_options){.model = model, .threads = threads, .replicas = replicas, .requests = 3});
    ask_together(engine, "replicas", images, alone);
    gp_engine_close(engine);
}

/* ---- ranks ---- */

/* The logits that tokens are chosen from, in the order of choosing. */
enum { CHOICES_MAX = 256 };
static float *seen[CHOICES_MAX];
static int seen_count, seen_width;
static void (*usual_sample)(gp_backend *backend, const gp_sample *sample);

static void note_sample(gp_backend *backend, const gp_sample *sample) {
    if (seen_count < CHOICES_MAX) {
        float *logits = gp_allocate((size_t)sample->count * sizeof *logits);
        REQUIRE(logits != NULL, "no memory");
        backend->ops->download(backend, logits, sample->logits, (size_t)sample->count * sizeof *logits);
        seen[seen_count++] = logits;
        seen_width = sample->count;
    }
    usual_sample(backend, sample);
}

/** Asks all questions alone, noting their logits from seen[first] on. */
static void ask_watched(gp_engine *engine, const gp_image *images, heard *answers) {
    gp_backend *backend = gp_engine_model(engine)->backend;
    const gp_ops *usual = backend->ops;
    gp_ops watched = *usual;
    usual_sample = usual->sample;
    watched.sample = note_sample;
    backend->ops = &watched;
    for (int i = 0; i < QUESTIONS; i++) {
        ask(engine, question(i, images), &answers[i]);
        CHECK(answers[i].final == GP_EVENT_DONE, "question %d: %s", i, answers[i].error);
    }
    backend->ops = usual;
}

/** Both runs chose from the same logits, but for the order of sums in f32: relative L2 error as the parity
 * tests allow it for stages. */
static void compare_logits(int ranks, float *const *ours, float *const *whole, int count) {
    double worst = 0;
    for (int i = 0; i < count; i++) {
        double error = 0, norm = 0;
        for (int k = 0; k < seen_width; k++) {
            double difference = (double)ours[i][k] - (double)whole[i][k];
            error += difference * difference;
            norm += (double)whole[i][k] * (double)whole[i][k];
        }
        if (sqrt(error / norm) > worst) worst = sqrt(error / norm);
    }
    CHECK(worst < 1e-5, "%d ranks: logits are off by %g", ranks, worst);
    printf("%d ranks: %d choices, logits off by at most %.2g\n", ranks, count, worst);
}

/** Memory that is planned holds on every rank, in any company; answers are those of memory that grows. */
static void test_planned(const char *model, const gp_image *images, int ranks) {
    static heard grown[QUESTIONS], answers[QUESTIONS];
    gp_request *requests[QUESTIONS];
    gp_engine_options options = {.model = model, .threads = 2, .ranks = ranks, .requests = 3};
    gp_engine *engine = open_with(&options);
    for (int i = 0; i < QUESTIONS; i++) ask(engine, question(i, images), &grown[i]);
    gp_engine_close(engine);
    options.limits = (gp_limits){
        .width = 120, .height = 200, .crops = 4, .text_tokens = 100, .max_new_tokens = 40, .sessions = 1};
    engine = open_with(&options);
    gp_session *session = gp_session_open(engine, &images[0], NULL);
    for (int i = 0; i < QUESTIONS; i++) {
        gp_request_options asked = question(i, images);
        if (i % 4 == 0) asked.session = session;
        if (i == 5) answers[i].cancel_after = 2;
        requests[i] = submit(engine, asked, &answers[i]);
    }
    for (int i = 0; i < QUESTIONS; i++) {
        gp_request_release(requests[i]);
        CHECK(answers[i].finals == 1 && (i == 5 || same_answer(&answers[i], &grown[i])),
              "%d ranks with limits, question %d: \"%s\" %s, without \"%s\"", ranks, i, answers[i].text,
              answers[i].error, grown[i].text);
    }
    gp_session_close(session);
    gp_engine_close(engine);
}

static void test_ranks(const char *model, const gp_image *images, int ranks, int replicas) {
    static heard whole[QUESTIONS], alone[QUESTIONS];
    float *logits[CHOICES_MAX];
    int count;
    gp_engine *single = open_with(&(gp_engine_options){.model = model, .threads = 1});
    ask_watched(single, images, whole);
    count = seen_count;
    memcpy(logits, seen, sizeof logits);
    seen_count = 0;
    gp_engine_close(single);
    gp_engine *engine = open_with(&(gp_engine_options){
        .model = model, .threads = 2, .ranks = ranks, .replicas = replicas, .requests = 5});
    if (replicas < 2) {
        ask_watched(engine, images, alone);
        CHECK(seen_count == count, "%d ranks: %d choices, %d of one rank", ranks, seen_count, count);
        compare_logits(ranks, seen, logits, seen_count < count ? seen_count : count);
    } else {
        for (int i = 0; i < QUESTIONS; i++) ask(engine, question(i, images), &alone[i]);
    }
    for (int i = 0; i < seen_count; i++) gp_free(seen[i]);
    for (int i = 0; i < count; i++) gp_free(logits[i]);
    seen_count = 0;
    for (int i = 0; i < QUESTIONS; i++)
        CHECK(alone[i].id_count == whole[i].id_count &&
                  memcmp(alone[i].ids, whole[i].ids, whole[i].id_count * sizeof *whole[i].ids) == 0 &&
                  alone[i].masks == whole[i].masks,
              "%d ranks, question %d: \"%s\", one rank \"%s\"", ranks, i, alone[i].text, whole[i].text);
    ask_together(engine, "ranks", images, alone);
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

/* ---- what is lost ---- */

static void end_group(const gp_engine *engine) {
    gp_communicator *communicator = gp_engine_model(engine)->language.communicator;
    communicator->ops->abort(communicator);
}

/** One of two replicas has lost its group: its session is told, whatever else is asked the other answers, and
 * new sessions are that one's. */
static void test_lost_replica(const char *model, const gp_image *images) {
    static heard whole[QUESTIONS], answers[TOGETHER], lost;
    gp_request *requests[TOGETHER];
    gp_engine *engine = open_with(
        &(gp_engine_options){.model = model, .threads = 2, .ranks = 2, .replicas = 2, .requests = 3});
    gp_session *first = gp_session_open(engine, &images[0], NULL);
    for (int i = 0; i < QUESTIONS; i++) ask(engine, question(i, images), &whole[i]);
    end_group(engine);
    for (int i = 0; i < TOGETHER; i++)
        requests[i] = submit(engine, question(i % QUESTIONS, images), &answers[i]);
    for (int i = 0; i < TOGETHER; i++) {
        gp_request_release(requests[i]);
        CHECK(answers[i].finals == 1 && same_answer(&answers[i], &whole[i % QUESTIONS]),
              "beside a lost replica, request %d: \"%s\" %s", i, answers[i].text, answers[i].error);
    }
    gp_request_options asked = question(0, images);
    asked.session = first;
    ask(engine, asked, &lost);
    CHECK(lost.final == GP_EVENT_ERROR && strstr(lost.error, "2 ranks") != NULL,
          "a session of a lost replica: %s", lost.error);
    for (int i = 0; i < 2; i++) {
        memset(&lost, 0, sizeof lost);
        asked.session = gp_session_open(engine, &images[0], NULL);
        ask(engine, asked, &lost);
        CHECK(same_answer(&lost, &whole[0]), "a session beside a lost replica: \"%s\" %s", lost.text,
              lost.error);
        if (i == 1) gp_session_close(asked.session); /* the other stays open: there are more sessions here */
        if (i == 0) first = (gp_session_close(first), asked.session);
    }
    gp_session_close(first);
    gp_engine_close(engine);
}

typedef struct ending {
    gp_engine *engine;
    heard all;
} ending;

static void end_in_answer(void *user, const gp_event *event) {
    ending *own = user;
    hear(&own->all, event);
    if (event->type == GP_EVENT_TEXT && own->all.texts == 1) end_group(own->engine);
}

/** The group ends in the middle of an answer: no text of undefined numbers follows, and nobody is answered
 * any more. */
static void test_lost_group(const char *model, const gp_image *images) {
    static ending own;
    static heard later;
    gp_request_options asked = question(1, images);
    own.engine = open_with(&(gp_engine_options){.model = model, .threads = 2, .ranks = 3});
    asked.on_event = end_in_answer;
    asked.user = &own;
    gp_request_release(gp_submit(own.engine, &asked, NULL));
    CHECK(own.all.finals == 1 && own.all.final == GP_EVENT_ERROR && own.all.texts == 1 &&
              strstr(own.all.error, "3 ranks was ended") != NULL,
          "%zu texts, %d final events: %s", own.all.texts, own.all.finals, own.all.error);
    ask(own.engine, question(0, images), &later);
    CHECK(later.final == GP_EVENT_ERROR && later.texts == 0, "afterwards: \"%s\" %s", later.text,
          later.error);
    gp_engine_close(own.engine);
}

/* ---- sessions that close ---- */

typedef struct gate {
    _Atomic bool reached, open;
} gate;

/** Stays in the request's first event until the gate is open. */
static void wait_at_gate(void *user, const gp_event *event) {
    gate *own = user;
    (void)event;
    own->reached = true;
    while (!own->open) usleep(500);
}

static void *close_it(void *session) {
    gp_session_close(session);
    return NULL;
}

static gp_request *submit_to(gp_engine *engine, gp_request_options options, gp_session *session, gate *at) {
    gp_status status = {0};
    options.session = session;
    options.on_event = wait_at_gate;
    options.user = at;
    gp_request *request = gp_submit(engine, &options, &status);
    REQUIRE(request != NULL, "%s", status.message);
    return request;
}

/** A session closes while its last request, cancelled in the queue, gets its final event from the other
 * replica's thread. */
static void test_session_closed(const char *model, const gp_image *images) {
    static gate busy, dropped, other;
    pthread_t thread;
    gp_engine *engine = open_with(&(gp_engine_options){.model = model, .threads = 2, .replicas = 2});
    gp_session *session = gp_session_open(engine, &images[0], NULL);
    gp_request *requests[3];
    requests[0] = submit_to(engine, question(0, images), session, &busy);
    while (!busy.reached) usleep(500);
    requests[1] = submit_to(engine, question(0, images), session, &dropped);
    gp_request_cancel(requests[1]);
    other.open = true;
    requests[2] = submit_to(engine, question(0, images), NULL, &other); /* wakes the other replica's thread */
    while (!dropped.reached) usleep(500);
    busy.open = true;
    gp_request_wait(requests[0]);
    usleep(20000); /* its thread sleeps now */
    REQUIRE(pthread_create(&thread, NULL, close_it, session) == 0, "thread");
    usleep(20000);
    dropped.open = true;
    pthread_join(thread, NULL);
    for (int i = 0; i < 3; i++) gp_request_release(requests[i]);
    gp_engine_close(engine);
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
    static const int sizes[] = {2, 3, 4, 8};
    for (int i = 0; i < 4; i++) test_ranks(arguments[1], images, sizes[i], 0);
    test_ranks(arguments[1], images, 2, 2);
    test_planned(arguments[1], images, 3);
    test_closing(arguments[1], images);
    test_session_closed(arguments[1], images);
    test_lost_replica(arguments[1], images);
    test_lost_group(arguments[1], images);
    test_refused(arguments[1]);
    CHECK(gp_memory_observe().live_bytes == before, "%zu bytes are left behind",
          gp_memory_observe().live_bytes - before);
    for (int i = 0; i < 2; i++) gp_free((void *)images[i].pixels);
    return check_done();
}
