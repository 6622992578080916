/**
 * test_inspection MODEL: an inspection answers what opening an engine answers, and a plan what a request
 * reports: the same words about tensors that are missing or misshapen, the same bytes for pictures of random
 * sizes. Where ../shared/goldens is there, for its checkpoint too.
 */
#include "loaders/image/image.h"
#include "tests/unit/runtime/asking.h"

#include <sys/stat.h>

static void check_whole(const char *model) {
    gp_status status = {0};
    gp_inspection *seen = gp_inspect(model, &status);
    REQUIRE(seen != NULL, "%s", status.message);
    CHECK(seen->runs && seen->reason == NULL, "%s does not run: %s", model, seen->reason);
    CHECK(seen->states[GP_TENSOR_USED] == seen->needed_tensors && seen->states[GP_TENSOR_MISSING] == 0 &&
              seen->states[GP_TENSOR_UNKNOWN] == 0 && seen->states[GP_TENSOR_NEVER_LOADED] > 0,
          "%zu used of %llu, %zu unknown, %zu never loaded", seen->states[GP_TENSOR_USED],
          (unsigned long long)seen->needed_tensors, seen->states[GP_TENSOR_UNKNOWN],
          seen->states[GP_TENSOR_NEVER_LOADED]);
    uint64_t needed = 0, used = 0;
    for (int i = 0; i < GP_BLOCK_COUNT; i++) {
        CHECK(seen->needed[i] > 0, "nothing in the %s", gp_block_name((gp_block)i));
        needed += seen->needed[i];
    }
    for (size_t i = 0; i < seen->tensor_count; i++)
        if (seen->tensors[i].state == GP_TENSOR_USED) used += seen->tensors[i].count;
    CHECK(used == needed, "%llu parameters used, %llu needed", (unsigned long long)used,
          (unsigned long long)needed);
    gp_inspection_free(seen);
}

/** The model with another config.json, in which `from` has become `to`; without weights where `bare`. */
static const char *changed_model(const char *model, const char *from, const char *to, bool bare) {
    static const char *const files[] = {"tokenizer.model", "added_tokens.json", "special_tokens_map.json",
                                        "model.safetensors"};
    static char config[1 << 16], path[8300], real[4096];
    const char *folder = scratch_folder();
    REQUIRE(realpath(model, real) != NULL, "%s", model);
    for (int i = 0; i < (bare ? 3 : 4); i++) {
        char target[8300];
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        snprintf(target, sizeof target, "%s/%s", real, files[i]);
        REQUIRE(symlink(target, path) == 0, "%s", path);
    }
    snprintf(path, sizeof path, "%s/config.json", real);
    FILE *file = fopen(path, "rb");
    REQUIRE(file != NULL, "%s", path);
    config[fread(config, 1, sizeof config - 1, file)] = '\0';
    fclose(file);
    const char *at = strstr(config, from);
    REQUIRE(at != NULL, "no %s in %s", from, path);
    snprintf(path, sizeof path, "%s/config.json", folder);
    file = fopen(path, "wb");
    REQUIRE(file != NULL, "%s", path);
    fprintf(file, "%.*s%s%s", (int)(at - config), config, to, at + strlen(from));
    fclose(file);
    return folder;
}

static void check_broken(const char *model) {
    static const char *const changes[][2] = {
        {"\"intermediate_size\": 384", "\"intermediate_size\": 500"}, /* many are misshapen */
        {"\"num_hidden_layers\": 2", "\"num_hidden_layers\": 4"},     /* many are missing */
        {"\"vocab_size\": ", "\"vocab_size\": 10, \"vocab_was\": "},  /* the tokenizer's are more */
        {"\"rms_norm_eps\"", "\"rms_norm_was\""},
    };
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        const char *folder = changed_model(model, changes[i][0], changes[i][1], false);
        gp_status status = {0};
        gp_inspection *seen = gp_inspect(folder, &status);
        REQUIRE(seen != NULL, "%s", status.message);
        gp_engine *engine =
            gp_engine_open(&(gp_engine_options){.model = folder, .device = GP_DEVICE_CPU}, &status);
        CHECK(engine == NULL && !seen->runs, "%s opens", changes[i][1]);
        const char *reason = seen->reason != NULL ? seen->reason : "";
        const char *said = status.message != NULL ? status.message : "";
        CHECK(strncmp(reason, said, strlen(said)) == 0, "inspection: %s\nengine: %s", reason, said);
        CHECK(seen->tensor_count > 100, "%zu tensors", seen->tensor_count);
        gp_inspection_free(seen);
        gp_status_clear(&status);
    }
}

/** The plan of a request is what the request reports, on an engine of its own. */
static void check_plan(const char *model, gp_image image, const char *prompt, int crops, int max_new_tokens) {
    gp_status status = {0};
    int width = image.width, height = image.height;
    gp_engine *engine = open_engine(model, 2);
    static heard all;
    all = (heard){0};
    ask(engine,
        (gp_request_options){
            .image = image, .prompt = prompt, .crops = crops, .max_new_tokens = max_new_tokens},
        &all);
    gp_engine_close(engine);
    REQUIRE(all.final == GP_EVENT_DONE && all.masks > 0, "%zu masks: %s", all.masks, all.error);
    gp_plan plan;
    gp_plan_options options = {.model = model,
                               .device = GP_DEVICE_CPU,
                               .threads = 2,
                               .width = width,
                               .height = height,
                               .crops = crops,
                               .max_new_tokens = max_new_tokens,
                               .text_tokens = all.prompt_tokens - all.image_tokens,
                               .masks = (int)all.masks};
    REQUIRE(gp_plan_request(&options, &plan, &status), "%s", status.message);
    CHECK(plan.image_tokens == all.image_tokens && plan.prompt_tokens == all.prompt_tokens,
          "%d x %d: %d of %d tokens are the image's; the request had %d of %d", width, height,
          plan.image_tokens, plan.prompt_tokens, all.image_tokens, all.prompt_tokens);
    const uint64_t planned[] = {plan.memory.weights, plan.memory.converted, plan.memory.kv_cache,
                                plan.memory.activations, plan.memory.workspace};
    const uint64_t told[] = {all.memory.weights, all.memory.converted, all.memory.kv_cache,
                             all.memory.activations, all.memory.workspace};
    static const char *const names[] = {"weights", "converted", "kv_cache", "activations", "workspace"};
    for (int i = 0; i < 5; i++)
        CHECK(planned[i] == told[i], "%d x %d, crops %d: %s: planned %llu, reported %llu", width, height,
              crops, names[i], (unsigned long long)planned[i], (unsigned long long)told[i]);
}

/** Sizes that are known from elsewhere: 4,081 image tokens of a square picture of nine crops (model.md, 2),
 * and the parameters of tensors-7b.tsv in bf16, norms and biases in f32 apart. */
static void check_official(void) {
    gp_status status = {0};
    gp_plan plan;
    REQUIRE(gp_plan_request(&(gp_plan_options){.width = 1000, .height = 1000}, &plan, &status), "%s",
            status.message);
    CHECK(plan.image_tokens == 4081 && plan.crop_columns == 3 && plan.crop_rows == 3 && plan.context == 16384,
          "%d tokens, %d x %d crops, context %d", plan.image_tokens, plan.crop_columns, plan.crop_rows,
          plan.context);
    double gigaparameters = (double)plan.memory.weights / 2e9;
    CHECK(gigaparameters > 8.90 && gigaparameters < 8.92, "%.3f G parameters", gigaparameters);
    CHECK(!gp_plan_request(&(gp_plan_options){.width = 9000, .height = 3}, &plan, &status) &&
              strstr(status.message, "9000 x 3") != NULL,
          "9000 x 3: %s", status.message);
    CHECK(!gp_plan_request(&(gp_plan_options){.width = 10, .height = 10, .crops = -1}, &plan, &status) &&
              strstr(status.message, "crops -1") != NULL,
          "crops -1: %s", status.message);
    CHECK(!gp_plan_request(
              &(gp_plan_options){.width = 10, .height = 10, .text_tokens = 16000, .max_new_tokens = 384},
              &plan, &status) &&
              strstr(status.message, "16384") != NULL,
          "a full context: %s", status.message);
    gp_status_clear(&status);
}

int main(int count, char **arguments) {
    REQUIRE(count == 2, "usage: test_inspection MODEL");
    const char *model = arguments[1], *shared = getenv("GEOPIXEL_SHARED");
    uint64_t state = fresh_seed();
    gp_status status = {0};
    check_whole(model);
    check_broken(model);
    check_official();
    for (int i = 0; i < 4; i++) {
        int width = 20 + (int)(random_bits(&state) % 500), height = 20 + (int)(random_bits(&state) % 500);
        gp_image image = test_picture(width, height);
        check_plan(model, image, NULL, (int)(random_bits(&state) % 12), 9 + (int)(random_bits(&state) % 90));
        gp_free((void *)image.pixels);
    }
    CHECK(gp_inspect("/nonexistent", &status) == NULL && gp_failed(&status), "no folder is inspected");
    gp_status_clear(&status);

    gp_inspection *bare = gp_inspect(changed_model(model, "{", "{ ", true), &status);
    REQUIRE(bare != NULL, "%s", status.message);
    CHECK(!bare->runs && bare->weights_error != NULL && strstr(bare->weights_error, "no weights") != NULL &&
              bare->config_error == NULL && bare->tensor_count == 0 && bare->needed_tensors > 100,
          "without weights: %s", bare->reason);
    gp_inspection_free(bare);

    char goldens[4200];
    snprintf(goldens, sizeof goldens, "%s/goldens/checkpoint", shared != NULL ? shared : "../shared");
    if (access(goldens, R_OK) == 0) {
        check_whole(goldens);
        gp_rgb_image square;
        REQUIRE(gp_image_read(shared_or_skip("goldens/images/square.png"), &square, &status), "%s",
                status.message);
        check_plan(goldens, (gp_image){square.width, square.height, 0, square.pixels},
                   "Can you provide a thorough description of this image? Please output with interleaved "
                   "segmentation masks for the corresponding phrases.",
                   1, 120);
        gp_image_free(&square);
    } else {
        printf("%s is not there: the random model alone was looked at\n", goldens);
    }
    return check_done();
}
