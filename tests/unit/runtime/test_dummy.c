/**
 * test_dummy MODEL: a model of random numbers. It needs a tokenizer and a config.json, no weights; answers
 * are the same at every opening and with any number of threads, its sizes are those of a plan, nothing is
 * left when it closes, and what cannot be is refused.
 */
#include "runtime/plan.h"
#include "tests/unit/runtime/asking.h"

static char tokenizer[4096], sizes[4096];

/** The model's config.json with another vocabulary, as the only file of `sizes`. */
static void write_config(const char *model, int vocabulary) {
    char path[4200];
    static char text[1 << 16];
    snprintf(path, sizeof path, "%s/config.json", model);
    FILE *file = fopen(path, "rb");
    REQUIRE(file != NULL, "%s", path);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    char *field = strstr(text, "\"vocab_size\":");
    REQUIRE(field != NULL, "%s has no vocab_size", path);
    snprintf(path, sizeof path, "%s/config.json", sizes);
    file = fopen(path, "wb");
    REQUIRE(file != NULL, "%s", path);
    fprintf(file, "%.*s\"vocab_size\": %d%s", (int)(field - text), text, vocabulary, strchr(field, ','));
    REQUIRE(fclose(file) == 0, "%s", path);
}

static gp_engine_options dummy(int threads) {
    return (gp_engine_options){
        .model = tokenizer, .dummy_weights = sizes, .device = GP_DEVICE_CPU, .threads = threads};
}

static void test_answers(int vocabulary, int tokens) {
    static heard first, other;
    gp_status status = {0};
    gp_image image = test_picture(200, 150);
    gp_request_options question = {
        .image = image, .max_new_tokens = 80, .crops = 1, .sampling = {.temperature = 1, .seed = 5}};
    size_t before = gp_memory_observe().live_bytes;
    bool beyond = false;
    for (int threads = 1; threads <= 3; threads++) {
        gp_engine_options options = dummy(threads);
        gp_engine *engine = gp_engine_open(&options, &status);
        REQUIRE(engine != NULL, "%s", status.message);
        ask(engine, question, threads == 1 ? &first : &other);
        CHECK(first.final == GP_EVENT_DONE, "%s", first.error);
        CHECK(threads == 1 || same_answer(&first, &other), "with %d threads: \"%s\", not \"%s\"", threads,
              other.text, first.text);
        if (threads == 1) {
            gp_model planned = {0};
            const gp_model *model = gp_engine_model(engine);
            REQUIRE(gp_plan_open_model(tokenizer, sizes, model->backend, (gp_split){0}, &planned, &status),
                    "%s", status.message);
            CHECK(planned.placed_bytes == model->placed_bytes &&
                      planned.weight_bytes == model->weight_bytes &&
                      planned.converted_bytes == model->converted_bytes,
                  "%llu bytes of weights are planned, %llu placed", (unsigned long long)planned.placed_bytes,
                  (unsigned long long)model->placed_bytes);
            gp_model_close(&planned);
        }
        gp_engine_close(engine);
    }
    for (size_t i = 0; i < first.id_count; i++) {
        CHECK(first.ids[i] >= 0 && first.ids[i] < vocabulary, "id %d", first.ids[i]);
        beyond = beyond || first.ids[i] >= tokens;
    }
    CHECK(beyond, "none of %zu ids is beyond the tokenizer's", first.id_count);
    CHECK(gp_memory_observe().live_bytes == before, "%zu bytes are left",
          gp_memory_observe().live_bytes - before);
    gp_free((void *)(uintptr_t)image.pixels);
}

static void refuse(const gp_engine_options *options, const char *words) {
    gp_status status = {0};
    gp_engine *engine = gp_engine_open(options, &status);
    CHECK(engine == NULL && gp_failed(&status) && strstr(status.message, words) != NULL,
          "\"%s\", which lacks %s", gp_failed(&status) ? status.message : "", words);
    gp_engine_close(engine);
    gp_status_clear(&status);
}

int main(int argc, char **argv) {
    REQUIRE(argc == 2, "usage: test_dummy MODEL");
    static const char *const files[] = {"tokenizer.model", "added_tokens.json", "special_tokens_map.json"};
    gp_tokenizer *read = NULL;
    gp_status status = {0};
    snprintf(tokenizer, sizeof tokenizer, "%s", scratch_folder());
    snprintf(sizes, sizeof sizes, "%s", scratch_folder());
    for (int i = 0; i < 3; i++) link_file(argv[1], tokenizer, files[i]);
    REQUIRE(gp_tokenizer_open(tokenizer, &read, &status), "%s", status.message);
    int tokens = gp_tokenizer_vocabulary(read);
    gp_tokenizer_close(read);
    write_config(argv[1], tokens + 411);
    test_answers(tokens + 411, tokens);
    gp_engine_options options = dummy(1);
    options.dummy_weights = NULL;
    refuse(&options, "config.json");
    options.dummy_weights = "/nonexistent";
    refuse(&options, "/nonexistent");
    options = dummy(1);
    options.model = "/nonexistent";
    refuse(&options, "/nonexistent");
    write_config(argv[1], tokens - 1);
    options = dummy(1);
    refuse(&options, "vocab_size");
    return check_done();
}
