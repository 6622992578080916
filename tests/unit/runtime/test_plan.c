/**
 * test_plan MODEL: memory that is planned. For random limits an engine allocates what gp_plan_engine says, to
 * the byte, when it opens, and nothing afterwards; answers are the bits of an engine without limits; what is
 * beyond a limit is refused with the numbers, alone; and the largest batch that is said to fit does, one more
 * does not. With GP_TEST_SIMT on the emulated GPU, where engines are opened and nothing is asked: it is slow.
 */
#include "kernels/cuda/sizes.h"
#include "runtime/replica.h"
#include "tests/unit/runtime/asking.h"
#ifdef GP_TEST_SIMT
#include "tests/simt/nccl_standin.h"
#endif

enum { THREADS = 2, ASKED = 7 };

#ifdef GP_TEST_SIMT
#define DEVICE GP_DEVICE_CUDA
#else
#define DEVICE GP_DEVICE_CPU
#endif

static uint64_t state;

static int random_in(int low, int high) {
    return low + (int)(random_bits(&state) % (uint64_t)(high - low + 1));
}

/* ---- a backend whose memory is counted ---- */

static const gp_ops *usual;
static _Atomic uint64_t taken, room, calls; /* bytes, bytes that there are (0: any), calls */
static _Atomic int64_t live;

static bool take(uint64_t bytes) {
    if (room > 0 && taken + bytes > room) return false;
    taken += bytes;
    calls++;
    return true;
}

static void *allocate(gp_backend *backend, size_t bytes) {
    if (!take(bytes)) return NULL;
    live++;
    return usual->allocate(backend, bytes);
}

static void release(gp_backend *backend, void *memory) {
    live -= memory != NULL;
    usual->release(backend, memory);
}

static bool place(gp_backend *backend, gp_matrix *matrix) {
    return take(usual->placed_bytes(matrix)) && usual->place(backend, matrix);
}

static gp_backend *open_counted(void) {
    static gp_ops counted;
    gp_backend *backend = NULL;
    gp_status status = {0};
    REQUIRE(gp_replica_open_backend(DEVICE, THREADS, 0, 1, &backend, &status), "%s", status.message);
    usual = backend->ops;
    counted = *usual;
    counted.allocate = allocate;
    counted.release = release;
    counted.place = place;
    backend->ops = &counted;
    taken = calls = 0;
    live = 0;
    return backend;
}

/** Options with random limits that leave room for a picture. */
static gp_engine_options random_options(const char *model) {
    gp_engine_options options = {.model = model,
                                 .device = DEVICE,
                                 .threads = THREADS,
                                 .requests = random_in(1, 5),
                                 .limits = {.width = random_in(60, 500),
                                            .height = random_in(60, 500),
                                            .crops = random_in(1, 12),
                                            .max_crops = random_in(0, 1) * random_in(4, 20),
                                            .text_tokens = random_in(100, 400),
                                            .max_new_tokens = random_in(3, 30),
                                            .sessions = random_in(0, 2)}};
    if (random_in(0, 2) == 0) options.limits.context = random_in(1200, 3000);
    if (random_in(0, 2) == 0) options.cache_tokens = random_in(4200, 9000);
    return options;
}

static gp_engine_plan plan_of(const gp_engine_options *options, uint64_t bytes) {
    gp_engine_plan plan;
    gp_status status = {0};
    REQUIRE(gp_plan_engine(options, bytes, &plan, &status), "%s", status.message);
    CHECK(plan.total == plan.weights + plan.converted + plan.kv_cache + plan.requests_bytes +
                            plan.sessions_bytes + plan.stage + plan.workspace + plan.communicator +
                            plan.others,
          "the lines do not add up to %llu", (unsigned long long)plan.total);
    return plan;
}

/* ---- sizes ---- */

/** Whatever keeps the limits needs no more than was reserved for it, of any model on any backend. */
static void test_sizes(const char *folder, gp_backend *backend) {
    gp_model model = {0};
    gp_status status = {0};
    int held = 0;
    REQUIRE(gp_plan_open_model(folder, NULL, backend, (gp_split){0}, &model, &status), "%s", status.message);
    for (int i = 0; i < 60; i++) {
        gp_engine_options options = random_options(folder);
        gp_limits *limits = &options.limits;
        gp_reserve reserve;
        options.cache_tokens = limits->context = 0;
        limits->width *= random_in(1, 12);
        limits->height *= random_in(1, 12);
        limits->max_crops *= 4;
        REQUIRE(gp_reserve_measure(&model, backend, &options, &reserve, &status), "%s", status.message);
        for (int k = 0; k < 60; k++) {
            gp_division division;
            gp_plan_options picture = {.width = random_in(0, 3) ? random_in(1, limits->width) : limits->width,
                                       .height =
                                           random_in(0, 3) ? random_in(1, limits->height) : limits->height,
                                       .crops = random_in(1, limits->crops)};
            int text = random_in(1, limits->text_tokens), answer = random_in(1, limits->max_new_tokens);
            int64_t tokens = 0;
            if (!gp_plan_division(&model.config, &picture, text, answer, &division, NULL)) continue;
            tokens = text + answer + division.image_tokens;
            if (!gp_reserve_holds(&reserve, &division, tokens, NULL)) {
                CHECK(limits->max_crops > 0 && division.columns * division.rows > limits->max_crops,
                      "%d x %d crops of %d x %d, %lld tokens: refused", division.columns, division.rows,
                      picture.width, picture.height, (long long)tokens);
                continue;
            }
            gp_arena seen = {0}, kept = {0};
            gp_arena canvas = {0};
            gp_plan_seen(&model, picture.width, picture.height, division.columns * division.rows,
                         division.image_tokens, &seen, &(gp_seen_buffers){0});
            gp_plan_canvas(&division, &canvas);
            gp_plan_kept(&model, backend, picture.width, picture.height, answer, &kept,
                         &(gp_kept_buffers){0});
            int64_t rows = options.requests * (text + division.image_tokens);
            size_t ground = gp_plan_ground_stage(&model, backend, picture.width, picture.height);
            size_t stage = gp_plan_stage(&model, backend, picture.width, picture.height, &division,
                                         rows < GP_PREFILL_ROWS ? rows : GP_PREFILL_ROWS,
                                         random_in(1, options.requests), answer);
            CHECK(seen.peak <= reserve.seen && kept.peak <= reserve.kept && stage <= reserve.stage &&
                      (ground > 0) == (backend->lanes > 1) && ground <= reserve.ground_stage &&
                      canvas.peak <= reserve.canvas && gp_pages_for(tokens) <= reserve.table_pages &&
                      division.columns * division.rows <= reserve.crops,
                  "%d x %d of %d x %d, %d x %d crops of %d: %zu of %zu, %zu of %zu, %zu of %zu",
                  picture.width, picture.height, limits->width, limits->height, division.columns,
                  division.rows, reserve.crops, seen.peak, reserve.seen, kept.peak, reserve.kept, stage,
                  reserve.stage);
            held++;
        }
    }
    CHECK(held > 600, "%d requests alone could be looked at", held);
    gp_model_close(&model);
}

/* ---- engines ---- */

static const char *const prompts[] = {"Describe the scene.", "Where is the road?",
                                      "Segment the river and the large building at the top left."};

/** A request within the limits, but for what its picture may be divided into. */
static gp_request_options random_request(const gp_limits *limits) {
    gp_request_options options = {.prompt = prompts[random_in(0, 2)],
                                  .crops = random_in(1, limits->crops),
                                  .max_new_tokens = random_in(1, limits->max_new_tokens)};
    int width = random_in(limits->width / 4, limits->width);
    int height = random_in(limits->height / 4, limits->height);
    options.image = test_picture(random_in(0, 2) == 0 ? limits->width : width,
                                 random_in(0, 2) == 0 ? limits->height : height);
    if (random_in(0, 3) == 0) options.sampling = (gp_sampling){3, 0.9f, random_bits(&state)};
    return options;
}

static int answered; /* of test_mix's requests */

/** Whether an error names memory that is planned, and a number. */
static bool refused(const heard *all, const char *words, int number) {
    char text[40];
    snprintf(text, sizeof text, "planned for %d", number);
    return all->final == GP_EVENT_ERROR && strstr(all->error, words) != NULL &&
           strstr(all->error, text) != NULL;
}

/** Requests and sessions at once: none allocates, and each gets what it gets of an engine without limits. */
static void test_mix(gp_engine *engine, gp_engine *plain, const gp_engine_plan *plan) {
    static heard answers[ASKED], want;
    const gp_limits *limits = &plan->limits;
    gp_request_options options[ASKED];
    gp_request *requests[ASKED];
    const uint8_t *pixels[ASKED];
    gp_session *sessions[2] = {NULL, NULL}; /* of the first questions' pictures */
    gp_status status = {0};
    for (int i = 0; i < ASKED; i++) {
        options[i] = random_request(limits);
        pixels[i] = options[i].image.pixels;
        if (i < limits->sessions) sessions[i] = gp_session_open(engine, &options[i].image, &status);
        if (i < limits->sessions) REQUIRE(sessions[i] != NULL, "%s", status.message);
    }
    CHECK(gp_session_open(engine, &options[0].image, &status) == NULL &&
              strstr(status.message, "sessions are open") != NULL,
          "%s", gp_status_message(&status));
    gp_status_clear(&status);
    for (int i = 0; i < ASKED; i++) {
        gp_request_options o = options[i];
        o.session = limits->sessions > 0 ? sessions[i % limits->sessions] : NULL;
        if (i % 3 == 2) o.session = NULL;
        requests[i] = submit(engine, o, &answers[i]);
        if (o.session != NULL) options[i].image = options[i % limits->sessions].image;
    }
    for (int i = 0; i < ASKED; i++) {
        gp_request_release(requests[i]);
        ask(plain, options[i], &want);
        if (answers[i].final == GP_EVENT_ERROR && want.final == GP_EVENT_DONE)
            CHECK(refused(&answers[i], "crops", limits->max_crops) ||
                      refused(&answers[i], "tokens of image", limits->context),
                  "request %d: %s", i, answers[i].error);
        else
            CHECK(answers[i].final == want.final && same_answer(&answers[i], &want),
                  "request %d: \"%s\" %s, without limits \"%s\" %s", i, answers[i].text, answers[i].error,
                  want.text, want.error);
        answered += answers[i].final == GP_EVENT_DONE;
        if (answers[i].final == GP_EVENT_DONE)
            CHECK(answers[i].memory.kv_cache == plan->kv_cache &&
                      answers[i].memory.converted == plan->converted &&
                      answers[i].memory.workspace == plan->workspace,
                  "request %d's memory is not the plan's", i);
    }
    for (int i = 0; i < 2; i++) gp_session_close(sessions[i]);
    for (int i = 0; i < ASKED; i++) gp_free((void *)pixels[i]);
}

/** One step beyond each limit, while another request runs. */
static void test_beyond(gp_engine *engine, gp_engine *plain, const gp_engine_plan *plan) {
    static heard all, other, want;
    static char text[4096];
    const gp_limits *limits = &plan->limits;
    gp_image small = test_picture(50, 50);
    const gp_request_options usual_one = {
        .image = small, .prompt = prompts[0], .crops = 1, .max_new_tokens = 3};
    gp_image wide = test_picture(limits->width + 1, 50), high = test_picture(50, limits->height + 1);
    memset(text, 'x', sizeof text - 1);
    for (size_t i = 1; i < sizeof text - 1; i += 2) text[i] = ' ';
    for (int i = 0; i < 5; i++) {
        gp_request_options options = usual_one;
        static const char *const words[] = {"picture", "picture", "crops", "answer", "text"};
        const int numbers[] = {limits->width, limits->width, limits->crops, limits->max_new_tokens,
                               limits->text_tokens};
        if (i == 0) options.image = wide;
        if (i == 1) options.image = high;
        if (i == 2) options.crops = limits->crops + 1;
        if (i == 3) options.max_new_tokens = limits->max_new_tokens + 1;
        if (i == 4) options.prompt = text;
        gp_request *company = submit(engine, usual_one, &other);
        ask(engine, options, &all);
        gp_request_release(company);
        CHECK(refused(&all, words[i], numbers[i]), "beyond a limit of the %s: %d %s", words[i], all.final,
              all.error);
        ask(plain, usual_one, &want);
        CHECK(same_answer(&other, &want), "beside a refusal: \"%s\"", other.text);
    }
    gp_free((void *)small.pixels);
    gp_free((void *)wide.pixels);
    gp_free((void *)high.pixels);
}

/** `plain`: an engine without limits; NULL: nothing is asked. What is counted is the first rank's. */
static void test_engine(const char *model, gp_engine *plain, int ranks) {
    gp_engine_options options = random_options(model);
    options.ranks = ranks;
    gp_engine_plan plan = plan_of(&options, 0);
    gp_backend *backend = open_counted();
    gp_status status = {0};
    gp_engine *engine = gp_engine_open_on(&options, backend, &status);
    REQUIRE(engine != NULL, "%s", status.message);
    CHECK(taken + plan.workspace + plan.others == plan.total, "%llu bytes are allocated, planned were %llu",
          (unsigned long long)taken, (unsigned long long)(plan.total - plan.workspace - plan.others));
    uint64_t before = calls;
    for (int i = 0; i < 2 && plain != NULL; i++)
        test_mix(engine, plain, &plan); /* the second time, sessions get what others had */
    if (plain != NULL) test_beyond(engine, plain, &plan);
    CHECK(calls == before, "%d allocations after the start", (int)(calls - before));
    gp_engine_close(engine);
    CHECK(live == 0, "%d allocations are left", (int)live);
    gp_backend_close(backend);
}

/** The largest batch in some room, and one more. */
static void test_largest(const char *model) {
    gp_engine_options options = random_options(model);
    gp_status status = {0};
    options.cache_tokens = 0;
    options.requests = random_in(2, 8);
    uint64_t bytes = plan_of(&options, 0).total + (uint64_t)random_in(0, 100000);
    gp_engine_plan plan = plan_of(&options, bytes);
    CHECK(plan.requests_most >= options.requests && plan.requests_most < GP_REQUESTS_MOST,
          "%d requests fit into the room of %d", plan.requests_most, options.requests);
    for (int more = 0; more < 2; more++) {
        gp_backend *backend = open_counted();
        room = bytes - plan.workspace - plan.others;
        options.requests = plan.requests_most + more;
        gp_engine *engine = gp_engine_open_on(&options, backend, &status);
        CHECK((engine != NULL) == (more == 0), "%d requests, %d fit: %s", options.requests,
              plan.requests_most, gp_status_message(&status));
        gp_engine_close(engine);
        CHECK(live == 0, "%d allocations are left", (int)live);
        gp_backend_close(backend);
        room = 0;
    }
    CHECK(strstr(gp_status_message(&status), "no memory") != NULL, "%s", gp_status_message(&status));
    gp_status_clear(&status);
    CHECK(plan_of(&options, 1 << 20).requests_most == 0, "a request in a MiB");
}

/** What cannot be planned, and what an engine does not open with. */
static void test_impossible(const char *model) {
    const gp_limits some = {.width = 100, .height = 100};
    const struct {
        const char *words;
        int requests;
        int64_t cache_tokens;
        gp_limits limits;
    } cases[] = {{"65", 65, 0, some},
                 {"width and height are missing", 1, 0, {0}},
                 {"100 x 0", 1, 0, {.width = 100}},
                 {"0 x 0", 1, 0, {.crops = 4}},
                 {"max_new_tokens -1", 1, 0, {.width = 100, .height = 100, .max_new_tokens = -1}},
                 {"context of 100000", 1, 0, {.width = 100, .height = 100, .context = 100000}},
                 {"no picture", 1, 0, {.width = 100, .height = 100, .context = 10}},
                 {"largest request", 1, 64, some}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gp_engine_options options = {.model = model,
                                     .device = GP_DEVICE_CPU,
                                     .threads = 1,
                                     .requests = cases[i].requests,
                                     .cache_tokens = cases[i].cache_tokens,
                                     .limits = cases[i].limits};
        gp_engine_plan plan;
        gp_status status = {0};
        CHECK(!gp_plan_engine(&options, 0, &plan, &status) && strstr(status.message, cases[i].words) != NULL,
              "case %zu: %s", i, gp_status_message(&status));
        gp_engine *engine = gp_engine_open(&options, &status);
        CHECK((engine != NULL) == (i == 1), "case %zu opens otherwise", i);
        if (engine == NULL)
            CHECK(strstr(status.message, cases[i].words) != NULL, "case %zu: %s", i, status.message);
        gp_engine_close(engine);
        gp_status_clear(&status);
    }
}

int main(int count, char **arguments) {
    REQUIRE(count == 2, "usage: test_plan MODEL");
    const char *model = arguments[1];
#ifdef GP_TEST_SIMT
    setenv("GEOPIXEL_SIMT_DEVICES", "3", 1);
    find_nccl_in(GP_NCCL_FOLDERS "/nccl-standin", arguments);
#endif
    state = fresh_seed();
    gp_backend *cpu = NULL, cuda = gp_cuda_sizes();
    if (DEVICE == GP_DEVICE_CUDA) {
        for (int ranks = 1; ranks <= 3; ranks++) test_engine(model, NULL, ranks);
        return check_done();
    }
    REQUIRE(gp_replica_open_backend(GP_DEVICE_CPU, 1, 0, 1, &cpu, NULL), "no CPU backend");
    test_sizes(model, cpu);
    test_sizes(model, &cuda);
    test_sizes(NULL, &cuda);
    gp_backend_close(cpu);
    gp_engine *plain = open_engine(model, THREADS);
    for (int i = 0; i < 5; i++) test_engine(model, plain, 1);
    for (int ranks = 2; ranks <= 4; ranks++) test_engine(model, NULL, ranks);
    gp_engine_close(plain);
    CHECK(answered > ASKED, "%d requests alone were answered", answered);
    for (int i = 0; i < 3; i++) test_largest(model);
    test_impossible(model);
    return check_done();
}
