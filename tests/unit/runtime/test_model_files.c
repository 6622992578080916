/**
 * test_model_files MODEL: a model from other files. The same weights in three shards give the same bits;
 * tensors that are missing or misshapen are listed all at once with both shapes; unknown ones are a warning.
 */
#include "loaders/weights/checkpoint.h"
#include "tests/unit/runtime/asking.h"

#include <sys/stat.h>

static char folder[4096];

/** What happens to a tensor on its way to the new file. */
typedef enum change { KEEP, DROP, CUT } change;

static change change_of(const char *name, bool spoil) {
    if (spoil && strcmp(name, "model.norm.weight") == 0) return DROP;
    if (spoil && strcmp(name, "vision_proj.2.bias") == 0) return DROP;
    if (spoil && strcmp(name, "output.weight") == 0) return CUT;
    return KEEP;
}

/** Tensors number k, k + of, … of the checkpoint as NAME; `spoil` leaves out two and cuts a row of a third.
 */
static void write_part(const gp_checkpoint *from, const char *name, size_t k, size_t of, bool spoil,
                       const char *extra) {
    char path[4200];
    static char header[1 << 20];
    size_t length = (size_t)snprintf(header, sizeof header, "{%s", extra), at = 0;
    if (extra[0] != '\0') at = 4;
    for (size_t i = k; i < gp_checkpoint_count(from); i += of) {
        const gp_tensor *tensor = gp_checkpoint_tensor(from, i);
        change what = change_of(tensor->name, spoil);
        if (what == DROP) continue;
        size_t bytes = (size_t)tensor->count * 2;
        length +=
            (size_t)snprintf(header + length, sizeof header - length,
                             "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[", length > 1 ? "," : "", tensor->name);
        for (int d = 0; d < tensor->rank; d++) {
            int64_t size = tensor->shape[d] - (what == CUT && d == 0);
            if (what == CUT && d == 0) bytes -= bytes / (size_t)tensor->shape[0];
            length += (size_t)snprintf(header + length, sizeof header - length, "%s%lld", d > 0 ? "," : "",
                                       (long long)size);
        }
        length += (size_t)snprintf(header + length, sizeof header - length, "],\"data_offsets\":[%zu,%zu]}",
                                   at, at + bytes);
        at += bytes;
    }
    header[length++] = '}';
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *out = fopen(path, "wb");
    REQUIRE(out != NULL, "%s", path);
    for (int i = 0; i < 8; i++) fputc((int)(length >> (8 * i) & 255), out);
    fwrite(header, 1, length, out);
    if (extra[0] != '\0') fwrite("\0\0\0\0", 1, 4, out);
    for (size_t i = k; i < gp_checkpoint_count(from); i += of) {
        const gp_tensor *tensor = gp_checkpoint_tensor(from, i);
        change what = change_of(tensor->name, spoil);
        size_t bytes = (size_t)tensor->count * 2;
        if (what == DROP) continue;
        if (what == CUT) bytes -= bytes / (size_t)tensor->shape[0];
        fwrite(tensor->data, 1, bytes, out);
    }
    fclose(out);
}

static void new_folder(const char *model) {
    static const char *const others[] = {"config.json", "tokenizer.model", "added_tokens.json",
                                         "special_tokens_map.json"};
    snprintf(folder, sizeof folder, "%s", scratch_folder());
    for (int i = 0; i < 4; i++) link_file(model, folder, others[i]);
}

static char warned[4096];

static void on_warning(void *user, const char *line) {
    (void)user;
    snprintf(warned, sizeof warned, "%s", line);
}

int main(int count, char **arguments) {
    REQUIRE(count == 2, "usage: test_model_files MODEL");
    const char *model = arguments[1];
    gp_checkpoint *whole;
    gp_status status = {0};
    gp_image image = test_picture(100, 80);
    heard first = {0}, again = {0};
    REQUIRE(gp_checkpoint_open(model, &whole, &status), "%s", status.message);

    gp_engine *engine = open_engine(model, 2);
    ask(engine, (gp_request_options){.image = image}, &first);
    gp_engine_close(engine);
    new_folder(model);
    char path[4200];
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", folder);
    FILE *index = fopen(path, "wb");
    fputs("{\"weight_map\":{", index);
    for (size_t i = 0; i < gp_checkpoint_count(whole); i++)
        fprintf(index, "%s\"%s\":\"part%zu.safetensors\"", i > 0 ? "," : "",
                gp_checkpoint_tensor(whole, i)->name, i % 3);
    fputs("}}", index);
    fclose(index);
    for (size_t k = 0; k < 3; k++) {
        char name[32];
        snprintf(name, sizeof name, "part%zu.safetensors", k);
        write_part(whole, name, k, 3, false, "");
    }
    engine = open_engine(folder, 2);
    ask(engine, (gp_request_options){.image = image}, &again);
    gp_engine_close(engine);
    CHECK(first.final == GP_EVENT_DONE && same_answer(&first, &again), "three shards: \"%s\", \"%s\"",
          first.text, again.text);

    new_folder(model);
    write_part(whole, "model.safetensors", 0, 1, true, "");
    engine = gp_engine_open(&(gp_engine_options){.model = folder, .device = GP_DEVICE_CPU}, &status);
    CHECK(engine == NULL, "a spoilt model opens");
    const gp_tensor *head = gp_checkpoint_find(whole, "output.weight");
    char both[2][64];
    snprintf(both[0], sizeof both[0], "[%lld, %lld]", (long long)head->shape[0], (long long)head->shape[1]);
    snprintf(both[1], sizeof both[1], "[%lld, %lld]", (long long)head->shape[0] - 1,
             (long long)head->shape[1]);
    static const char *const words[] = {"3 tensors", "model.norm.weight: missing",
                                        "vision_proj.2.bias: missing", "output.weight"};
    for (int i = 0; i < 4; i++)
        CHECK(gp_failed(&status) && strstr(status.message, words[i]) != NULL, "\"%s\" is not said: %s",
              words[i], status.message);
    for (int i = 0; i < 2; i++)
        CHECK(strstr(status.message, both[i]) != NULL, "%s is not said: %s", both[i], status.message);
    gp_status_clear(&status);

    new_folder(model);
    write_part(whole, "model.safetensors", 0, 1, false,
               "\"a.stranger\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}");
    engine = gp_engine_open(
        &(gp_engine_options){.model = folder, .device = GP_DEVICE_CPU, .on_warning = on_warning}, &status);
    CHECK(engine != NULL, "%s", status.message);
    CHECK(strstr(warned, "a.stranger") != NULL && strstr(warned, "lora_sft") == NULL, "warned of \"%s\"",
          warned);
    gp_engine_close(engine);
    gp_checkpoint_close(whole);
    gp_free((void *)image.pixels);
    gp_status_clear(&status);
    return check_done();
}
