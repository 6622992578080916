/**
 * test_grounding_lane MODEL: answers with masks on an emulated GPU, whose second stream runs as late as it
 * may: grounding beside the texts of several requests gives the bits that all on one lane gives.
 * Arenas grow here, which waits for all lanes: that masks wait for their maps, test_turns sees.
 */
#include "tests/unit/runtime/asking.h"

enum { COUNT = 3, TOKENS = 2 };

static const gp_ops *usual;
static int32_t seg_token;
static int encoded_beside; /* pictures that lane 1 was given */
static int lane;

/** Every token is a [SEG]; a device's memory is the host's here. */
static void sample(gp_backend *backend, const gp_sample *sample) {
    usual->sample(backend, sample);
    for (int row = 0; row < sample->rows; row++) sample->tokens[row] = seg_token;
}

static void use_lane(gp_backend *backend, int now) {
    usual->use_lane(backend, now);
    lane = now;
}

static void whole_view(gp_backend *backend, const gp_whole_view *view) {
    usual->whole_view(backend, view);
    encoded_beside += lane == 1;
}

static void pass_lane(gp_backend *backend, int ignored) {
    (void)backend;
    (void)ignored;
}

/** Two questions of one session and one about another picture, at the same time. */
static void ask_together(const char *model, bool lanes, heard *answers) {
    const gp_image image = test_picture(60, 45), other = test_picture(40, 50);
    gp_request *requests[COUNT];
    gp_status status = {0};
    gp_engine *engine = gp_engine_open(
        &(gp_engine_options){.model = model, .device = GP_DEVICE_CUDA, .requests = COUNT}, &status);
    REQUIRE(engine != NULL, "%s", status.message);
    gp_backend *backend = gp_engine_model(engine)->backend;
    usual = backend->ops;
    seg_token = gp_engine_model(engine)->seg_token;
    gp_ops watched = *usual;
    watched.record = NULL; /* what is recorded is not asked again */
    watched.sample = sample;
    watched.whole_view = whole_view;
    watched.use_lane = lanes ? use_lane : pass_lane;
    if (!lanes) watched.wait_for_lane = pass_lane;
    backend->ops = &watched;
    encoded_beside = lane = 0;
    gp_session *session = gp_session_open(engine, &image, &status);
    REQUIRE(session != NULL, "%s", status.message);
    for (int i = 0; i < COUNT; i++)
        requests[i] = submit(engine,
                             (gp_request_options){.session = i < 2 ? session : NULL,
                                                  .image = other,
                                                  .prompt = i == 1 ? "Where is the road?" : NULL,
                                                  .crops = 1,
                                                  .max_new_tokens = TOKENS},
                             &answers[i]);
    for (int i = 0; i < COUNT; i++) gp_request_release(requests[i]);
    gp_session_close(session);
    backend->ops = usual;
    gp_engine_close(engine);
    gp_free((void *)image.pixels);
    gp_free((void *)other.pixels);
    CHECK(encoded_beside == (lanes ? 2 : 0), "%d pictures are encoded on the other lane", encoded_beside);
}

int main(int count, char **arguments) {
    REQUIRE(count == 2, "usage: test_grounding_lane MODEL");
    static heard one_lane[COUNT], two_lanes[COUNT];
    ask_together(arguments[1], false, one_lane);
    ask_together(arguments[1], true, two_lanes);
    for (int i = 0; i < COUNT; i++)
        CHECK(two_lanes[i].final == GP_EVENT_DONE && two_lanes[i].masks == TOKENS &&
                  same_answer(&one_lane[i], &two_lanes[i]),
              "request %d: %zu masks, \"%s\" %s, on one lane %zu, \"%s\" %s", i, two_lanes[i].masks,
              two_lanes[i].text, two_lanes[i].error, one_lane[i].masks, one_lane[i].text, one_lane[i].error);
    return check_done();
}
