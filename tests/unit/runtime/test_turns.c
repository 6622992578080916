/**
 * test_turns MODEL: whose turn it is among requests that run at the same time. A long vision and a long row
 * of masks leave decoding its turns, and each batch is bounded; views of several pictures and masks of
 * several answers share passes; a picture is encoded for masks on the other lane while its answer goes on,
 * once for a session; a request ends alone in whichever stage it is cancelled or whichever
 * allocation fails; a callback that blocks loses nothing; pages are taken from the session that is idle
 * longest. Answers are the bits that they are alone.
 */
#include "runtime/mask_decoder.h"
#include "runtime/vision.h"
#include "tests/unit/runtime/asking.h"

#include <pthread.h>

static uint64_t seed;

/* ---- a backend that is watched, and answers as the tests want them ---- */

static const float SEG_ALWAYS = 77, WORDS_ALWAYS = 78; /* temperatures whose every token is chosen here */
static const int32_t WORD = 300;

static const gp_ops *usual;
static gp_ops watched;
static int32_t seg_token;
static int64_t view_rows;                                    /* of one view in the vision encoder */
static int view_passes, views_seen, views_most, mask_passes; /* layers' calls, views in all, in one */
static int masks_seen, masks_most;
static int lane, encoded, encoded_at; /* the present lane; pictures given to the grounding encoder, and how
                                        many events had come before the last */
static bool waited;                   /* lane 0 has waited for lane 1 since */
static gp_request *_Atomic *cancelled_by_encoding; /* whose that picture is; NULL: nobody is */
static int allocations, fails;                     /* the one with that number fails, -1: none */
static size_t refused;                             /* so do those of that many bytes; 0: none */

static void sample(gp_backend *backend, const gp_sample *sample) {
    usual->sample(backend, sample);
    for (int row = 0; row < sample->rows; row++) {
        if (sample->choices[row].temperature == SEG_ALWAYS) sample->tokens[row] = seg_token;
        if (sample->choices[row].temperature == WORDS_ALWAYS) sample->tokens[row] = WORD;
    }
}

static void attention(gp_backend *backend, const gp_attention *attention) {
    usual->attention(backend, attention);
    if (attention->queries != view_rows || attention->keys != view_rows) return;
    view_passes++;
    views_seen += (int)attention->sequences;
    if (attention->sequences > views_most) views_most = (int)attention->sequences;
}

static void use_lane(gp_backend *backend, int now) {
    usual->use_lane(backend, now);
    lane = now;
}

static void wait_for_lane(gp_backend *backend, int other) {
    usual->wait_for_lane(backend, other);
    waited = waited || (lane == 0 && other == 1);
}

static void whole_view(gp_backend *backend, const gp_whole_view *view);

static void choose_masks(gp_backend *backend, const gp_choose_masks *masks) {
    usual->choose_masks(backend, masks);
    mask_passes++;
    masks_seen += masks->masks;
    if (masks->masks > masks_most) masks_most = masks->masks;
}

static void *allocate(gp_backend *backend, size_t bytes) {
    if (allocations++ == fails || bytes == refused) return NULL;
    return usual->allocate(backend, bytes);
}

/** Counts of passes from here on. No request may run. */
static void forget_passes(void) {
    view_passes = views_seen = views_most = mask_passes = masks_seen = masks_most = encoded = 0;
}

static gp_engine *open_watched(const char *folder, int requests, int64_t cache_tokens) {
    gp_status status = {0};
    gp_engine *engine = gp_engine_open(&(gp_engine_options){.model = folder,
                                                            .device = GP_DEVICE_CPU,
                                                            .threads = 2,
                                                            .requests = requests,
                                                            .cache_tokens = cache_tokens},
                                       &status);
    REQUIRE(engine != NULL, "%s", status.message);
    const gp_model *model = gp_engine_model(engine);
    usual = model->backend->ops;
    seg_token = model->seg_token;
    view_rows = 1 + (int64_t)model->vision.grid * model->vision.grid;
    watched = *usual;
    watched.sample = sample;
    watched.attention = attention;
    watched.choose_masks = choose_masks;
    watched.use_lane = use_lane;
    watched.wait_for_lane = wait_for_lane;
    watched.whole_view = whole_view;
    cancelled_by_encoding = NULL;
    lane = 0;
    watched.allocate = allocate;
    refused = 0;
    allocations = 0;
    fails = -1;
    model->backend->ops = &watched;
    model->backend->lanes = GP_LANES; /* as a GPU's, for when a picture is encoded */
    return engine;
}

static void close_watched(gp_engine *engine) {
    gp_engine_model(engine)->backend->ops = usual;
    gp_engine_close(engine);
}

/* ---- everybody's events, in the order in which they came ---- */

enum { EVENTS = 8192, REQUESTS = 16 };

/** A request and what its handler does. */
typedef struct asked {
    heard all;
    int number;
    gp_stage cancel_at; /* the first step of that stage; GP_STAGE_COUNT: never */
    bool holds;         /* its first event waits until the gate is open */
} asked;

static struct {
    int request;
    gp_event_type type;
    gp_stage stage;
    int done;
} events[EVENTS];
static int event_count; /* written on the engine's thread while requests run */

static void whole_view(gp_backend *backend, const gp_whole_view *view) {
    usual->whole_view(backend, view);
    CHECK(lane == 1, "a picture is encoded for masks on lane %d", lane);
    encoded++;
    encoded_at = event_count;
    waited = false;
    if (cancelled_by_encoding == NULL) return;
    while (*cancelled_by_encoding == NULL) sched_yield(); /* ask_all is about to set it */
    gp_request_cancel(*cancelled_by_encoding);
    cancelled_by_encoding = NULL;
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t moved = PTHREAD_COND_INITIALIZER;
static bool held, open_gate;

static void wait_at_gate(void) {
    pthread_mutex_lock(&mutex);
    held = true;
    pthread_cond_broadcast(&moved);
    while (!open_gate) pthread_cond_wait(&moved, &mutex);
    pthread_mutex_unlock(&mutex);
}

/** Until somebody stands at the gate, so that the engine's thread does. */
static void await_held(void) {
    pthread_mutex_lock(&mutex);
    while (!held) pthread_cond_wait(&moved, &mutex);
    pthread_mutex_unlock(&mutex);
}

static void let_go(void) {
    pthread_mutex_lock(&mutex);
    open_gate = true;
    pthread_cond_broadcast(&moved);
    pthread_mutex_unlock(&mutex);
}

static void note(void *user, const gp_event *event) {
    asked *a = user;
    const bool step = event->type == GP_EVENT_PROGRESS;
    REQUIRE(event_count < EVENTS, "more than %d events", EVENTS);
    events[event_count].request = a->number;
    events[event_count].type = event->type;
    events[event_count].stage = step ? event->progress.stage : GP_STAGE_COUNT;
    events[event_count++].done = step                           ? event->progress.done
                                 : event->type == GP_EVENT_MASK ? event->mask.index
                                                                : 0;
    if (a->holds) wait_at_gate();
    a->holds = false;
    if (step && event->progress.stage == a->cancel_at) {
        while (a->all.request == NULL) sched_yield(); /* ask_all is about to set it */
        gp_request_cancel(a->all.request);
    }
    hear(&a->all, event);
}

/** Asks `count` things, the first before the second, and waits for all. Where the first one holds, nothing
 * goes on before all are queued. */
static void ask_all(gp_engine *engine, const gp_request_options *options, asked *asked_ones, int count) {
    gp_request *requests[REQUESTS];
    gp_status status = {0};
    event_count = 0;
    held = open_gate = false;
    for (int i = 0; i < count; i++) {
        gp_request_options one = options[i];
        memset(&asked_ones[i].all, 0, sizeof asked_ones[i].all);
        asked_ones[i].number = i;
        if (one.prompt == NULL) one.prompt = "Describe the scene.";
        one.on_event = note;
        one.user = &asked_ones[i];
        const bool holds = asked_ones[i].holds;
        requests[i] = gp_submit(engine, &one, &status);
        REQUIRE(requests[i] != NULL, "%s", status.message);
        asked_ones[i].all.request = requests[i];
        if (holds) await_held();
    }
    let_go();
    for (int i = 0; i < count; i++) {
        gp_request_release(requests[i]);
        CHECK(asked_ones[i].all.finals == 1 && !asked_ones[i].all.after_final, "request %d: %d final events",
              i, asked_ones[i].all.finals);
    }
}

/** The same, one after the other. */
static void ask_each(gp_engine *engine, const gp_request_options *options, asked *asked_ones, int count) {
    for (int i = 0; i < count; i++) {
        asked_ones[i].cancel_at = GP_STAGE_COUNT;
        ask_all(engine, &options[i], &asked_ones[i], 1);
        CHECK(asked_ones[i].all.final == GP_EVENT_DONE, "%s", asked_ones[i].all.error);
    }
}

static void check_same(const asked *alone, const asked *all, int count) {
    for (int i = 0; i < count; i++)
        CHECK(all[i].all.final == GP_EVENT_DONE && same_answer(&alone[i].all, &all[i].all),
              "request %d: %d, \"%s\" (%s), alone \"%s\"", i, all[i].all.final, all[i].all.text,
              all[i].all.error, alone[i].all.text);
}

/* ---- turns ---- */

/**
 * How often two neighbours among the events of `request` (of that type and stage, and with a multiple of
 * `every` done) have no decoding step of `other` between them, as long as that one runs.
 */
static int unbroken(int request, gp_event_type type, gp_stage stage, int every, int other) {
    int missing = 0, decoded = 0, before = -1, done = 0;
    for (int i = 0; i < event_count; i++) {
        if (events[i].request == other && events[i].type == GP_EVENT_PROGRESS &&
            events[i].stage == GP_STAGE_DECODE)
            decoded++;
        if (events[i].request == other && events[i].type == GP_EVENT_DONE) break;
        if (events[i].request != request || events[i].type != type || events[i].stage != stage) continue;
        if (events[i].done % every != 0) continue;
        if (before >= 0) missing += decoded == before;
        before = decoded;
        done++;
    }
    CHECK(done > 2, "%d steps could be looked at", done);
    return missing;
}

/** While a picture of many views is encoded, another request's answer goes on between its batches. */
static void test_long_vision(const char *model) {
    static asked alone[2], both[2];
    gp_image small = test_picture(100, 90), large = test_picture(500, 400);
    gp_engine *engine = open_watched(model, 4, 0);
    const gp_request_options options[2] = {
        {.image = small, .crops = 1, .max_new_tokens = 80, .sampling = {WORDS_ALWAYS, 1, seed}},
        {.image = large, .crops = 20, .max_new_tokens = 5}};
    ask_each(engine, options, alone, 2);
    forget_passes();
    both[0] = (asked){.cancel_at = GP_STAGE_COUNT, .holds = true};
    both[1] = (asked){.cancel_at = GP_STAGE_COUNT};
    ask_all(engine, options, both, 2);
    check_same(alone, both, 2);
    CHECK(views_most == GP_VIEW_BATCH, "%d views in a pass", views_most);
    CHECK(unbroken(1, GP_EVENT_PROGRESS, GP_STAGE_VISION, 1, 0) == 0, "decoding waits for vision");
    close_watched(engine);
    gp_free((void *)small.pixels);
    gp_free((void *)large.pixels);
}

/** While an answer of many masks is drawn, another answer goes on after each batch of them. */
static void test_many_masks(const char *model) {
    enum { MASKS = 5 * GP_MASK_BATCH };
    static asked alone[2], both[2];
    gp_image image = test_picture(100, 90);
    gp_engine *engine = open_watched(model, 4, 0);
    const gp_request_options options[2] = {
        {.image = image, .crops = 1, .max_new_tokens = 3 * MASKS, .sampling = {WORDS_ALWAYS, 1, seed}},
        {.image = image, .crops = 1, .max_new_tokens = MASKS, .sampling = {SEG_ALWAYS, 1, seed}}};
    ask_each(engine, options, alone, 2);
    CHECK(alone[1].all.masks == MASKS, "%zu masks", alone[1].all.masks);
    both[0] = (asked){.cancel_at = GP_STAGE_COUNT, .holds = true};
    both[1] = (asked){.cancel_at = GP_STAGE_COUNT};
    ask_all(engine, options, both, 2);
    check_same(alone, both, 2);
    CHECK(unbroken(1, GP_EVENT_MASK, GP_STAGE_COUNT, GP_MASK_BATCH, 0) == 0, "decoding waits for masks");
    close_watched(engine);
    gp_free((void *)image.pixels);
}

/** Pictures of two views share passes; so do masks of a session's answers. */
static void test_shared_passes(const char *model) {
    enum { COUNT = 9, SEGS = 3 };
    static asked alone[COUNT], all[COUNT];
    gp_image image = test_picture(100, 90), other = test_picture(70, 110);
    gp_request_options options[COUNT];
    gp_status status = {0};
    gp_engine *engine = open_watched(model, 16, 0);
    const int layers = gp_engine_model(engine)->vision.config.num_hidden_layers;
    for (int i = 0; i < COUNT; i++) {
        options[i] = (gp_request_options){
            .image = i % 3 == 0 ? other : image, .crops = 1, .max_new_tokens = SEGS + i % 2};
        if (i % 2 == 0) options[i].sampling = (gp_sampling){SEG_ALWAYS, 1, seed};
        all[i] = (asked){.cancel_at = GP_STAGE_COUNT, .holds = i == 0};
    }
    ask_each(engine, options, alone, COUNT);
    forget_passes();
    ask_all(engine, options, all, COUNT);
    check_same(alone, all, COUNT);
    /* The first one, which was held, goes before the others. */
    CHECK(views_seen == 2 * COUNT * layers && view_passes == (1 + (COUNT - 1) / 2) * layers,
          "%d views in %d passes of %d layers", views_seen / layers, view_passes / layers, layers);

    gp_session *session = gp_session_open(engine, &image, &status);
    REQUIRE(session != NULL, "%s", status.message);
    for (int i = 0; i < COUNT; i++) {
        options[i].session = session;
        options[i].max_new_tokens = SEGS;
        options[i].sampling = (gp_sampling){SEG_ALWAYS, 1, seed};
        all[i].holds = i == 0;
    }
    ask_each(engine, options, alone, COUNT);
    forget_passes();
    ask_all(engine, options, all, COUNT);
    check_same(alone, all, COUNT);
    CHECK(view_passes == 0 && masks_seen == COUNT * SEGS && masks_most == GP_MASK_BATCH &&
              mask_passes < COUNT,
          "%d masks of %d answers in %d passes, %d in one", masks_seen, COUNT, mask_passes, masks_most);
    gp_session_close(session);
    close_watched(engine);
    gp_free((void *)image.pixels);
    gp_free((void *)other.pixels);
}

/* ---- pictures for masks ---- */

/** Events of a request's stage from `first` on, before `end`. */
static int steps_of(int request, gp_stage stage, int first, int end) {
    int steps = 0;
    for (int i = first; i < end; i++)
        steps +=
            events[i].request == request && events[i].type == GP_EVENT_PROGRESS && events[i].stage == stage;
    return steps;
}

/** Where the request's last step of a stage stands among the events. */
static int last_step(int request, gp_stage stage) {
    int last = -1;
    for (int i = 0; i < event_count; i++)
        if (steps_of(request, stage, i, i + 1) > 0) last = i;
    return last;
}

/** A picture is encoded as soon as its answer has a [SEG], and progress of that comes when the text is whole;
 * masks wait for it; an answer without [SEG] needs none. */
static void test_early_grounding(const char *model) {
    enum { TOKENS = 12 };
    static asked one;
    gp_image image = test_picture(100, 90);
    gp_engine *engine = open_watched(model, 2, 0);
    gp_request_options options = {
        .image = image, .crops = 1, .max_new_tokens = TOKENS, .sampling = {SEG_ALWAYS, 1, seed}};
    forget_passes();
    ask_each(engine, &options, &one, 1);
    const int decoded = last_step(0, GP_STAGE_DECODE);
    /* In the round after the prompt's end, which gives the first token and decodes the second. */
    CHECK(encoded == 1 && steps_of(0, GP_STAGE_DECODE, 0, encoded_at) == 2,
          "%d pictures, after %d tokens of %d", encoded, steps_of(0, GP_STAGE_DECODE, 0, encoded_at), TOKENS);
    CHECK(steps_of(0, GP_STAGE_GROUNDING, 0, decoded) == 0 &&
              steps_of(0, GP_STAGE_GROUNDING, decoded, event_count) == 1,
          "%d steps of grounding within the text, %d after it", steps_of(0, GP_STAGE_GROUNDING, 0, decoded),
          steps_of(0, GP_STAGE_GROUNDING, decoded, event_count));
    CHECK(waited && one.all.masks == TOKENS, "%zu masks, whose maps were%s waited for", one.all.masks,
          waited ? "" : " not");
    forget_passes();
    options.sampling.temperature = WORDS_ALWAYS;
    ask_each(engine, &options, &one, 1);
    CHECK(encoded == 0, "%d pictures of an answer without masks", encoded);
    close_watched(engine);
    gp_free((void *)image.pixels);
}

/** All in a session where they share one; the first waits for the others. Passes are counted from here on. */
static gp_session *begin_sharing(gp_engine *engine, bool shared, const gp_image *image,
                                 gp_request_options *options, asked *all, int count) {
    gp_status status = {0};
    gp_session *session = shared ? gp_session_open(engine, image, &status) : NULL;
    REQUIRE(!shared || session != NULL, "%s", status.message);
    for (int i = 0; i < count; i++) {
        options[i].session = session;
        all[i] = (asked){.cancel_at = GP_STAGE_COUNT, .holds = i == 0};
    }
    forget_passes();
    return session;
}

/** Two questions of a session have one encoding, and two pictures two, one a round. */
static void test_shared_grounding(const char *model) {
    enum { COUNT = 2, TOKENS = 6 };
    static asked alone[COUNT], both[COUNT];
    gp_image image = test_picture(100, 90), other = test_picture(70, 110);
    gp_request_options options[COUNT];
    gp_engine *engine = open_watched(model, COUNT, 0);
    for (int shared = 0; shared < 2; shared++) {
        for (int i = 0; i < COUNT; i++) {
            options[i] = (gp_request_options){.image = i == 0 || shared ? image : other,
                                              .crops = 1,
                                              .max_new_tokens = TOKENS,
                                              .sampling = {SEG_ALWAYS, 1, seed}};
            if (i > 0) options[i].prompt = "Where is the road?";
        }
        ask_each(engine, options, alone, COUNT);
        gp_session *session = begin_sharing(engine, shared, &image, options, both, COUNT);
        ask_all(engine, options, both, COUNT);
        check_same(alone, both, COUNT);
        CHECK(encoded == (shared ? 1 : COUNT), "%d pictures of %d questions", encoded, COUNT);
        gp_session_close(session);
    }
    close_watched(engine);
    gp_free((void *)image.pixels);
    gp_free((void *)other.pixels);
}

/** Who is cancelled while its picture is encoded ends without a mask; its session's other question has the
 * picture encoded again, and its answer. */
static void test_cancelled_grounding(const char *model) {
    enum { COUNT = 2 };
    static asked alone[COUNT], both[COUNT];
    gp_image image = test_picture(100, 90);
    gp_request_options options[COUNT];
    gp_engine *engine = open_watched(model, COUNT, 0);
    for (int i = 0; i < COUNT; i++)
        options[i] = (gp_request_options){
            .image = image, .crops = 1, .max_new_tokens = 12, .sampling = {SEG_ALWAYS, 1, seed}};
    ask_each(engine, options, alone, COUNT);
    for (int shared = 0; shared < 2; shared++) {
        gp_session *session = begin_sharing(engine, shared, &image, options, both, COUNT);
        cancelled_by_encoding = &both[0].all.request;
        ask_all(engine, options, both, COUNT);
        CHECK(both[0].all.final == GP_EVENT_CANCELLED && both[0].all.masks == 0 &&
                  steps_of(0, GP_STAGE_GROUNDING, 0, event_count) == 0,
              "%d, %zu masks", both[0].all.final, both[0].all.masks);
        check_same(alone + 1, both + 1, 1);
        CHECK(encoded == 2, "%d pictures", encoded);
        gp_session_close(session);
    }
    close_watched(engine);
    gp_free((void *)image.pixels);
}

/* ---- ends ---- */

/** One is cancelled at the first step of each stage in turn; it ends there, and the others do not notice. */
static void test_cancelled_stages(const char *model) {
    enum { COUNT = 4 };
    uint64_t state = seed;
    static asked alone[COUNT], all[COUNT];
    gp_image image = test_picture(260, 130), small = test_picture(100, 90);
    gp_engine *engine = open_watched(model, COUNT, 0);
    gp_request_options options[COUNT];
    for (int i = 0; i < COUNT; i++)
        options[i] = (gp_request_options){.image = i % 2 == 0 ? small : image,
                                          .crops = i % 2 == 0 ? 1 : 6,
                                          .max_new_tokens = 12,
                                          .sampling = {i == 3 ? WORDS_ALWAYS : SEG_ALWAYS, 1, seed}};
    ask_each(engine, options, alone, COUNT);
    for (int stage = 0; stage < GP_STAGE_COUNT; stage++) {
        const int which = (int)(random_bits(&state) % 3); /* of those with masks */
        for (int i = 0; i < COUNT; i++)
            all[i] = (asked){.cancel_at = i == which ? (gp_stage)stage : GP_STAGE_COUNT, .holds = i == 0};
        ask_all(engine, options, all, COUNT);
        bool beyond = false;
        for (int i = 0; i < event_count; i++)
            beyond = beyond || (events[i].request == which && events[i].type == GP_EVENT_PROGRESS &&
                                (int)events[i].stage > stage);
        CHECK(all[which].all.final == GP_EVENT_CANCELLED && !beyond, "%s, request %d: %d",
              gp_stage_name((gp_stage)stage), which, all[which].all.final);
        check_same(alone, all, which);
        check_same(alone + which + 1, all + which + 1, COUNT - which - 1);
    }
    close_watched(engine);
    gp_free((void *)image.pixels);
    gp_free((void *)small.pixels);
}

/** Bytes that are kept of such a picture, as the engine allocates them. */
static size_t kept_bytes(const gp_model *model, const gp_request_options *options) {
    gp_arena seen = {0};
    gp_division division;
    gp_plan_options picture = {
        .width = options->image.width, .height = options->image.height, .crops = options->crops};
    REQUIRE(gp_plan_division(&model->config, &picture, 1, options->max_new_tokens, &division, NULL),
            "no division");
    gp_plan_seen(model, picture.width, picture.height, division.columns * division.rows,
                 division.image_tokens, &seen, &(gp_seen_buffers){0});
    return seen.peak;
}

/** One that there is no memory for fails alone; and whichever allocation fails, whoever does not fail by it
 * has its answer, and everybody has afterwards. */
static void test_memory(const char *model) {
    enum { COUNT = 3 };
    static asked alone[COUNT], all[COUNT + 1];
    gp_image image = test_picture(260, 130), small = test_picture(100, 90), large = test_picture(500, 430);
    gp_request_options options[COUNT + 1];
    for (int i = 0; i < COUNT; i++)
        options[i] = (gp_request_options){.image = i == 1 ? image : small,
                                          .crops = i == 1 ? 4 : 1,
                                          .max_new_tokens = 3,
                                          .sampling = {i == 2 ? WORDS_ALWAYS : SEG_ALWAYS, 1, seed}};
    options[COUNT] = (gp_request_options){.image = large, .crops = 20, .max_new_tokens = 4};
    gp_engine *engine = open_watched(model, COUNT + 1, 0);
    ask_each(engine, options, alone, COUNT);
    refused = kept_bytes(gp_engine_model(engine), &options[COUNT]);
    for (int i = 0; i < COUNT + 1; i++) {
        gp_request_options turned[COUNT + 1];
        for (int k = 0; k <= COUNT; k++) {
            turned[k] = options[(k + i) % (COUNT + 1)];
            all[k] = (asked){.cancel_at = GP_STAGE_COUNT, .holds = k == 0};
        }
        ask_all(engine, turned, all, COUNT + 1);
        for (int k = 0; k <= COUNT; k++)
            if ((k + i) % (COUNT + 1) == COUNT)
                CHECK(all[k].all.final == GP_EVENT_ERROR && strstr(all[k].all.error, "no memory") != NULL,
                      "without memory: %d \"%s\"", all[k].all.final, all[k].all.error);
            else
                check_same(&alone[(k + i) % (COUNT + 1)], &all[k], 1);
    }
    close_watched(engine);

    int failed = 0, answered = 0;
    uint64_t state = seed + 1;
    for (int number = (int)(random_bits(&state) % 3);; number += 1 + (int)(random_bits(&state) % 5)) {
        engine = open_watched(model, COUNT, 0);
        fails = number;
        all[0].holds = true;
        ask_all(engine, options, all, COUNT);
        const bool all_there = allocations <= number;
        for (int i = 0; i < COUNT; i++) {
            const heard *one = &all[i].all;
            failed += one->final == GP_EVENT_ERROR;
            answered += one->final == GP_EVENT_DONE && !all_there;
            if (one->final == GP_EVENT_ERROR)
                CHECK(strstr(one->error, "no memory") != NULL, "allocation %d, request %d: %s", number, i,
                      one->error);
            else
                check_same(&alone[i], &all[i], 1);
        }
        all[0].holds = true;
        ask_all(engine, options, all, COUNT);
        check_same(alone, all, COUNT);
        close_watched(engine);
        if (all_there) break;
    }
    CHECK(failed > 0 && answered > 0, "%d requests failed by an allocation, %d did not", failed, answered);
    gp_free((void *)image.pixels);
    gp_free((void *)small.pixels);
    gp_free((void *)large.pixels);
}

/* ---- sessions ---- */

/** First position that an observer sees computed. */
static void find_first(void *user, const char *stage, const float *values, int64_t first_row,
                       int64_t row_count, int64_t columns) {
    int64_t *first = user;
    (void)values;
    (void)row_count;
    (void)columns;
    if (strcmp(stage, "hidden") == 0 && *first < 0) *first = first_row;
}

/** Pages are taken from the session whose last question is longest ago, and from no more than needed. */
static void test_idle_sessions(const char *model) {
    enum { SESSIONS = 3 };
    static asked first[SESSIONS], again, large;
    static const int order[SESSIONS + 1] = {0, 1, 2, 0}, expected[SESSIONS] = {2, 0, 1};
    gp_image image = test_picture(100, 90);
    gp_status status = {0};
    gp_session *sessions[SESSIONS];
    gp_request_options one = {.image = image, .crops = 1, .max_new_tokens = 1};
    again.cancel_at = large.cancel_at = GP_STAGE_COUNT;
    gp_engine *engine = open_watched(model, 2, 0);
    ask_each(engine, &one, first, 1);
    close_watched(engine);
    const int pages = gp_pages_for(first[0].all.prompt_tokens + 1);
    engine = open_watched(model, 2, (int64_t)(SESSIONS + 1) * pages * GP_PAGE_TOKENS);
    for (int i = 0; i < SESSIONS; i++) {
        sessions[i] = gp_session_open(engine, &image, &status);
        REQUIRE(sessions[i] != NULL, "%s", status.message);
    }
    for (int i = 0; i <= SESSIONS; i++) {
        one.session = sessions[order[i]];
        ask_each(engine, &one, &first[order[i]], 1);
    }
    gp_request_options needs_two = {.image = image,
                                    .crops = 1,
                                    .max_new_tokens =
                                        2 * pages * GP_PAGE_TOKENS - first[0].all.prompt_tokens};
    ask_all(engine, &needs_two, &large, 1);
    CHECK(large.all.final == GP_EVENT_DONE, "%s", large.all.error);
    int64_t computed = -1;
    gp_observer observer = {.rows = find_first, .user = &computed};
    for (int i = 0; i < SESSIONS; i++) { /* the one that lost its pages last */
        int which = expected[i];
        one.session = sessions[which];
        computed = -1;
        gp_engine_observe(engine, &observer);
        ask_all(engine, &one, &again, 1);
        gp_engine_observe(engine, NULL);
        CHECK(same_answer(&first[which].all, &again.all), "session %d: \"%s\"", which, again.all.text);
        CHECK(computed == (which == 1 ? 0 : again.all.prompt_tokens - 1),
              "session %d computes from position %lld of %d on", which, (long long)computed,
              again.all.prompt_tokens);
    }
    for (int i = 0; i < SESSIONS; i++) gp_session_close(sessions[i]);
    close_watched(engine);
    gp_free((void *)image.pixels);
}

int main(int count, char **arguments) {
    REQUIRE(count == 2, "usage: test_turns MODEL");
    seed = fresh_seed();
    size_t before = gp_memory_observe().live_bytes;
    test_long_vision(arguments[1]);
    test_many_masks(arguments[1]);
    test_shared_passes(arguments[1]);
    test_early_grounding(arguments[1]);
    test_shared_grounding(arguments[1]);
    test_cancelled_grounding(arguments[1]);
    test_cancelled_stages(arguments[1]);
    test_memory(arguments[1]);
    test_idle_sessions(arguments[1]);
    CHECK(gp_memory_observe().live_bytes == before, "%zu bytes are left behind",
          gp_memory_observe().live_bytes - before);
    return check_done();
}
