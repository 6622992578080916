/**
 * test_loading MODEL: what on_loading tells while a model is loaded. Bytes rise to their total, which is what
 * the engine uses of weights; one replica and one rank tell, however many load; a model that is refused tells
 * nothing, since nothing of it was read.
 */
#include "tests/unit/runtime/asking.h"

typedef struct told {
    uint64_t done, total;
    int times;
} told;

static void on_loading(void *user, uint64_t done, uint64_t total) {
    told *all = user;
    CHECK(done >= all->done && done <= total && (all->times == 0 || total == all->total),
          "%llu of %llu bytes, after %llu of %llu", (unsigned long long)done, (unsigned long long)total,
          (unsigned long long)all->done, (unsigned long long)all->total);
    *all = (told){done, total, all->times + 1};
}

/** Opens an engine so, and checks what it tells against its weights. */
static told open_so(gp_engine_options options) {
    told all = {0};
    gp_status status = {0};
    options.device = GP_DEVICE_CPU;
    options.threads = 2;
    options.on_loading = on_loading;
    options.user = &all;
    gp_engine *engine = gp_engine_open(&options, &status);
    REQUIRE(engine != NULL, "%s", status.message);
    CHECK(all.times > 10 && all.done == all.total && all.total == gp_engine_weight_bytes(engine),
          "%d times, at last %llu of %llu bytes; the engine has %llu", all.times,
          (unsigned long long)all.done, (unsigned long long)all.total,
          (unsigned long long)gp_engine_weight_bytes(engine));
    gp_engine_close(engine);
    return all;
}

/** A folder with the model's config.json and tokenizer, and weights of one tensor. */
static const char *spoilt_copy(const char *model) {
    static const char *const names[] = {"config.json", "tokenizer.model", "added_tokens.json",
                                        "special_tokens_map.json"};
    const char *folder = scratch_folder();
    char from[8300], to[4200], real[4096];
    REQUIRE(realpath(model, real) != NULL, "%s", model);
    for (int i = 0; i < 4; i++) {
        snprintf(from, sizeof from, "%s/%s", real, names[i]);
        snprintf(to, sizeof to, "%s/%s", folder, names[i]);
        REQUIRE(symlink(from, to) == 0, "cannot link %s", to);
    }
    snprintf(to, sizeof to, "%s/model.safetensors", folder);
    FILE *file = fopen(to, "wb");
    static const char header[] =
        "{\"model.norm.weight\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}";
    REQUIRE(file != NULL, "%s", to);
    for (int i = 0; i < 8; i++) fputc((int)((sizeof header - 1) >> (8 * i) & 255), file);
    fprintf(file, "%s1234", header);
    REQUIRE(fclose(file) == 0, "%s", to);
    return folder;
}

int main(int argc, char **argv) {
    REQUIRE(argc == 2, "usage: test_loading MODEL");
    const char *model = argv[1];
    told alone = open_so((gp_engine_options){.model = model});
    told copies = open_so((gp_engine_options){.model = model, .replicas = 3});
    told parts = open_so((gp_engine_options){.model = model, .ranks = 2});
    told dummy = open_so((gp_engine_options){.model = model, .dummy_weights = model});
    CHECK(copies.times == alone.times && copies.total == alone.total, "three replicas tell %d times",
          copies.times);
    CHECK(parts.times == alone.times && parts.total < alone.total, "rank 0 of 2 tells %d times of %llu bytes",
          parts.times, (unsigned long long)parts.total);
    CHECK(dummy.times == alone.times, "random weights tell %d times", dummy.times);
    told none = {0};
    gp_status status = {0};
    CHECK(gp_engine_open(&(gp_engine_options){.model = spoilt_copy(model),
                                              .device = GP_DEVICE_CPU,
                                              .on_loading = on_loading,
                                              .user = &none},
                         &status) == NULL &&
              none.times == 0,
          "a spoilt model tells %d times", none.times);
    CHECK(strstr(status.message, "output.weight: missing") != NULL, "%s", status.message);
    gp_status_clear(&status);
    return check_done();
}
