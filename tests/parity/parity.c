/**
 * parity [--device cuda] FOLDER [CASE …]: runs the cases of a folder of the goldens' layout (checkpoint/,
 * images/, cases/NAME/case.json and stages.safetensors) through the engine and prints the error of each
 * stage.
 *
 * What must hold: relative L2 error <= 1e-5 at every stage that the file has (float32's own error here,
 * against float64, is below 1e-6), every generated id equal, every mask equal in 99.99 % of its pixels (a
 * pixel whose logit is within rounding of 0 may fall either way), and texts, phrases, sizes, counts and
 * checksums equal where case.json has them. What a case does not have is not compared, and said.
 *
 * On a GPU products read bf16. A stage whose numbers have passed n roundings to bf16 on their way, each off
 * by at most 2^-8 and independent of the others, is off by 2^-8·√n in the L2 norm (residual streams, sums and
 * norms are f32 and, as norms do, neither enlarge it nor lose it): n is counted in `roundings`. Ids must be
 * equal (least_margin is far above twice that error of a logit in all cases there are); masks have IoU >=
 * 0.99 with what is expected, or of those whose logits lie at 0 as many equal pixels.
 */
#include "kernels/base/file.h"
#include "kernels/base/memory.h"
#include "loaders/image/image.h"
#include "loaders/raster/rgb_view.h"
#include "runtime/engine.h"
#include "tests/parity/stages.h"

#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static const double error_allowed = 1e-5, mask_share_needed = 0.9999, overlap_needed = 0.99;

enum { NAME_LENGTH = 512, MASKS_MAX = 4096 };

/** A case under way. */
typedef struct running {
    const char *name;
    const gp_model *rounded; /* where products read bf16, else NULL */
    json_t *json;
    stages stages;
    int failures, masks;
    double least_share;
    bool done;
    gp_result seen; /* its numbers alone */
} running;

/** The picture as the program sees it. */
static bool read_picture(const char *path, gp_rgb_image *image, gp_status *status) {
    gp_raster *raster = NULL;
    gp_rgb_view view;
    bool done = gp_raster_open(path, &raster, NULL, status) &&
                gp_rgb_view_open(raster, &(gp_rgb_options){0}, &view, status);
    if (done) {
        const gp_raster_info *info = gp_raster_about(raster);
        done = gp_image_allocate(info->width, info->height, path, image, status) &&
               gp_rgb_view_read(&view, (gp_window){0, 0, info->width, info->height}, image->pixels,
                                (size_t)info->width * 3, NULL, status);
    }
    gp_raster_close(raster);
    return done;
}

static int run_case(gp_engine *engine, running *current, const char *root, const char *name);
static void check_result(running *current, const gp_result *result);
static void check_mask(running *current, const gp_mask *mask);

static void fail(running *current, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void fail(running *current, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    printf("  FAILED %s: ", current->name);
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    current->failures++;
}

/* ---- what the engine shows ---- */

static void on_rows(void *user, const char *name, const float *rows, int64_t first_row, int64_t row_count,
                    int64_t columns) {
    stages_observe(&((running *)user)->stages, name, rows, first_row, row_count, columns);
}

/** text_ids[part] of case.json. */
static void on_integers(void *user, const char *name, const int32_t *values, size_t count) {
    running *current = user;
    const json_t *parts = json_object_get(current->json, "text_ids");
    if (strncmp(name, "text_ids.", 9) != 0 || parts == NULL) return;
    const json_t *want = json_array_get(parts, (size_t)atoi(name + 9));
    bool same = json_array_size(want) == count;
    for (size_t i = 0; same && i < count; i++)
        same = json_integer_value(json_array_get(want, i)) == values[i];
    if (!same) fail(current, "%s differ", name);
}

static void on_divided(void *user, const uint8_t *pixels, int width, int height, int columns, int rows) {
    running *current = user;
    const json_t *size = json_object_get(current->json, "divided_size"),
                 *grid = json_object_get(current->json, "grid");
    const json_t *crc = json_object_get(current->json, "divided_rgb_crc32");
    if (size != NULL && (json_integer_value(json_array_get(size, 0)) != width ||
                         json_integer_value(json_array_get(size, 1)) != height))
        fail(current, "divided into %d x %d", width, height);
    if (grid != NULL && (json_integer_value(json_array_get(grid, 0)) != columns ||
                         json_integer_value(json_array_get(grid, 1)) != rows))
        fail(current, "a grid of %d x %d", columns, rows);
    uLong have = crc32_z(0, pixels, (size_t)width * (size_t)height * 3);
    if (crc == NULL)
        printf("  %s: no divided_rgb_crc32 to compare\n", current->name);
    else if ((uLong)json_integer_value(crc) != have)
        fail(current, "divided picture's CRC-32 is %lu", have);
}

static void on_event(void *user, const gp_event *event) {
    running *current = user;
    if (event->type == GP_EVENT_MASK)
        check_mask(current, &event->mask);
    else if (event->type == GP_EVENT_DONE)
        check_result(current, &event->result);
    else if (event->type == GP_EVENT_ERROR)
        fail(current, "%s", event->error);
}

static void on_warning(void *user, const char *line) {
    (void)user;
    printf("  warning: %s\n", line);
}

/* ---- comparisons ---- */

/** Roundings to bf16 behind a stage: five a layer (the norm's rows, q k v, the weights of values, what
 * attention gives, the hidden rows), and those of the layers between. */
static int roundings(const gp_model *model, const char *name) {
    int vision = 1 + 5 * model->vision.config.num_hidden_layers, tokens = vision + 3,
        text = tokens + 1 + 5 * model->language.config.num_hidden_layers,
        hiera = 1 + 5 * model->grounding.block_count;
    static const char *const exact[] = {"crops", "grounding_pixels"};
    for (size_t i = 0; i < sizeof exact / sizeof *exact; i++)
        if (strcmp(name, exact[i]) == 0) return 0;
    if (strcmp(name, "vit") == 0) return vision;
    if (strcmp(name, "image_tokens") == 0) return tokens;
    if (strcmp(name, "hidden") == 0 || strcmp(name, "logits") == 0 || strcmp(name, "seg_hidden") == 0)
        return text + 1;
    if (strcmp(name, "seg_embeddings") == 0) return text + 3;
    if (strncmp(name, "hiera", 5) == 0 || strncmp(name, "grounding", 9) == 0) return hiera + 3;
    return text + hiera + 3 + 20; /* the mask decoder: two layers of four parts, up-scaling, heads */
}

static double allowed_error(const running *current, const char *name) {
    int count = current->rounded != NULL ? roundings(current->rounded, name) : 0;
    return count > 0 ? 0x1p-8 * sqrt(count) : error_allowed;
}

/** COCO's compressed run lengths to bytes [height, width]; false when they do not fill the picture. */
static bool decode_rle(const char *text, int width, int height, uint8_t *pixels) {
    int64_t runs[3] = {0}, at = 0, area = (int64_t)width * height;
    for (int64_t count = 0; *text != '\0'; count++) {
        int64_t value = 0;
        int shift = 0, byte;
        do {
            byte = *text++ - 48;
            if (byte < 0 || byte > 63 || shift > 50) return false;
            value |= (int64_t)(byte & 31) << shift;
            shift += 5;
        } while ((byte & 32) != 0);
        if ((byte & 16) != 0) value |= -((int64_t)1 << shift);
        if (count > 2) value += runs[(count - 2) % 3];
        runs[count % 3] = value;
        if (value < 0 || value > area - at) return false;
        for (int64_t i = 0; i < value; i++, at++) pixels[at % height * width + at / height] = count % 2 == 1;
    }
    return at == area;
}

static void check_mask(running *current, const gp_mask *mask) {
    const json_t *masks = json_object_get(current->json, "masks"),
                 *want = json_array_get(masks, (size_t)mask->index);
    const json_t *rle = json_is_object(json_object_get(want, "rle")) ? json_object_get(want, "rle") : want;
    const char *counts = json_string_value(json_object_get(rle, "counts"));
    size_t area = (size_t)mask->width * (size_t)mask->height, same = 0;
    uint8_t *pixels = gp_allocate(area);
    current->masks++;
    if (counts == NULL || pixels == NULL || !decode_rle(counts, mask->width, mask->height, pixels)) {
        fail(current, "mask %d is not expected, or its run lengths do not fill %d x %d", mask->index,
             mask->width, mask->height);
    } else {
        size_t both = 0, either = 0;
        for (size_t i = 0; i < area; i++) {
            same += pixels[i] == mask->pixels[i];
            both += pixels[i] & mask->pixels[i];
            either += pixels[i] | mask->pixels[i];
        }
        double share = (double)same / (double)area, overlap = either > 0 ? (double)both / (double)either : 1;
        if (share < current->least_share) current->least_share = share;
        bool close = current->rounded != NULL ? overlap >= overlap_needed || share >= mask_share_needed
                                              : share >= mask_share_needed;
        if (!close) fail(current, "mask %d equals %.6f of its pixels, IoU %.4f", mask->index, share, overlap);
    }
    const json_t *chosen = json_array_get(json_object_get(current->json, "chosen_mask"), (size_t)mask->index);
    if (chosen != NULL && json_integer_value(chosen) != mask->chosen)
        fail(current, "mask %d is logits %d", mask->index, mask->chosen);
    const json_t *stability =
        json_array_get(json_object_get(current->json, "stability"), (size_t)mask->index);
    if (stability != NULL && current->rounded == NULL &&
        fabs(json_number_value(stability) - (double)mask->stability) > 1e-3)
        fail(current, "mask %d has stability %.6f", mask->index, (double)mask->stability);
    gp_free(pixels);
}

static void check_number(running *current, const char *field, const json_t *want, int64_t have) {
    if (json_is_integer(want) && json_integer_value(want) != have)
        fail(current, "%s is %lld", field, (long long)have);
}

static void check_result(running *current, const gp_result *result) {
    const json_t *json = current->json, *ids = json_object_get(json, "generated_ids");
    bool same = json_array_size(ids) == result->token_count;
    for (size_t i = 0; same && i < result->token_count; i++)
        same = json_integer_value(json_array_get(ids, i)) == result->token_ids[i];
    if (!same) fail(current, "the ids differ: %zu, not %zu", result->token_count, json_array_size(ids));
    const char *response = json_string_value(json_object_get(json, "response"));
    if (response != NULL && strcmp(response, result->text) != 0)
        fail(current, "the text is \"%s\", not \"%s\"", result->text, response);
    const json_t *phrases = json_object_get(json, "phrases");
    same = phrases == NULL || json_array_size(phrases) == result->phrase_count;
    for (size_t i = 0; same && phrases != NULL && i < result->phrase_count; i++)
        same = strcmp(json_string_value(json_array_get(phrases, i)), result->phrases[i].text) == 0;
    if (!same) fail(current, "the phrases differ");
    check_number(current, "image_tokens", json_object_get(json, "image_tokens"), result->image_tokens);
    check_number(current, "prompt_tokens", json_object_get(json, "prompt_tokens"), result->prompt_tokens);
    check_number(current, "image_rows[1]", json_array_get(json_object_get(json, "image_rows"), 1),
                 result->image_tokens);
    check_number(current, "segs_generated", json_object_get(json, "segs_generated"),
                 (int64_t)result->mask_count);
    current->seen = *result;
    current->done = true;
}

/* ---- cases ---- */

static void print_table(const running *current) {
    double worst = 0;
    printf("%-24s ids %zu, masks %d", current->name, current->seen.token_count, current->masks);
    if (current->masks > 0) printf(" (least equal %.6f)", current->least_share);
    printf("\n");
    for (int i = 0; i < current->stages.count; i++) {
        double error = stage_error(&current->stages.list[i]);
        printf("  %-18s %.1e%s", current->stages.list[i].name, error,
               i % 4 == 3 || i == current->stages.count - 1 ? "\n" : "");
        if (error > worst) worst = error;
    }
    printf("  worst %.1e\n", worst);
}

static gp_turn *read_history(const json_t *json, size_t *count) {
    *count = json_array_size(json);
    gp_turn *history = gp_allocate_zeroed(*count + 1, sizeof *history);
    for (size_t i = 0; history != NULL && i < *count; i++) {
        const json_t *turn = json_array_get(json, i);
        history[i] =
            (gp_turn){json_string_value(json_array_get(turn, 0)), json_string_value(json_array_get(turn, 1))};
    }
    return history;
}

static void ask(gp_engine *engine, running *current, const gp_rgb_image *image) {
    gp_status status = {0};
    size_t turns;
    gp_turn *history = read_history(json_object_get(current->json, "history"), &turns);
    gp_observer observer = {on_rows, on_integers, on_divided, current};
    gp_engine_observe(engine, &observer);
    gp_request_options options = {
        .image = {image->width, image->height, 0, image->pixels},
        .prompt = json_string_value(json_object_get(current->json, "prompt")),
        .history = history,
        .history_count = turns,
        .crops = (int)json_integer_value(json_object_get(current->json, "hd_num")),
        .max_new_tokens = (int)json_integer_value(json_object_get(current->json, "max_new_tokens")),
        .on_event = on_event,
        .user = current};
    gp_request *request = gp_submit(engine, &options, &status);
    if (request == NULL) fail(current, "%s", status.message);
    gp_request_release(request);
    gp_engine_observe(engine, NULL);
    gp_free(history);
    gp_status_clear(&status);
}

static int run_case(gp_engine *engine, running *current, const char *root, const char *name) {
    char path[4096];
    gp_status status = {0};
    json_error_t error;
    gp_rgb_image image = {0};
    *current = (running){.name = name, .least_share = 1};
    const gp_model *model = gp_engine_model(engine);
    if (model->backend->operand != GP_DTYPE_F32) current->rounded = model;
    snprintf(path, sizeof path, "%s/cases/%s/case.json", root, name);
    current->json = json_load_file(path, 0, &error);
    if (current->json == NULL) {
        fail(current, "%s: %s", path, error.text);
        return current->failures;
    }
    snprintf(path, sizeof path, "%s/cases/%s/stages.safetensors", root, name);
    bool ready = stages_open(&current->stages, path, &status);
    const char *file = json_string_value(json_object_get(current->json, "image"));
    snprintf(path, sizeof path, "%s/%s", root, file != NULL ? file : "");
    ready = ready && read_picture(path, &image, &status);
    if (ready)
        ask(engine, current, &image);
    else
        fail(current, "%s", status.message);
    if (current->done) {
        size_t masks = json_array_size(json_object_get(current->json, "masks"));
        if (masks != (size_t)current->masks) fail(current, "%d masks, not %zu", current->masks, masks);
        for (int i = 0; i < current->stages.count; i++) {
            const stage *one = &current->stages.list[i];
            if (one->seen != one->row_count)
                fail(current, "stage %s: %lld of %lld rows were seen", one->name, (long long)one->seen,
                     (long long)one->row_count);
            else if (stage_error(one) > allowed_error(current, one->name))
                fail(current, "stage %s: error %.1e", one->name, stage_error(one));
        }
        print_table(current);
    }
    gp_image_free(&image);
    stages_close(&current->stages);
    json_decref(current->json);
    gp_status_clear(&status);
    return current->failures;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/** The names of the cases, sorted, into `names`. */
static int list_cases(const char *root, char *names[MASKS_MAX]) {
    char path[4096];
    int count = 0;
    snprintf(path, sizeof path, "%s/cases", root);
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder != NULL && count < MASKS_MAX && (entry = readdir(folder)) != NULL;)
        if (entry->d_name[0] != '.') names[count++] = gp_copy_text(entry->d_name);
    if (folder != NULL) closedir(folder);
    qsort(names, (size_t)count, sizeof *names, compare_names);
    return count;
}

int main(int count, char **arguments) {
    gp_device device = GP_DEVICE_CPU;
    if (count > 2 && strcmp(arguments[1], "--device") == 0) {
        device = strcmp(arguments[2], "cuda") == 0 ? GP_DEVICE_CUDA : GP_DEVICE_CPU;
        arguments += 2;
        count -= 2;
    }
    if (count < 2) {
        fprintf(stderr, "usage: parity [--device cuda] FOLDER [CASE …]\n");
        return 2;
    }
    const char *root = arguments[1];
    static char *names[MASKS_MAX];
    char checkpoint[4096];
    gp_status status = {0};
    if (!gp_file_exists(root, "cases")) {
        printf("skipped: %s/cases is not there\n", root);
        return 77;
    }
    snprintf(checkpoint, sizeof checkpoint, "%s/checkpoint", root);
    gp_engine *engine = gp_engine_open(
        &(gp_engine_options){.model = checkpoint, .device = device, .on_warning = on_warning}, &status);
    if (engine == NULL) {
        printf("%s\n", status.message);
        return 1;
    }
    printf("%s on %s\n", root, gp_engine_device(engine));
    int failures = 0, cases = count > 2 ? count - 2 : list_cases(root, names);
    for (int i = 0; i < cases; i++) {
        static running current;
        failures += run_case(engine, &current, root, count > 2 ? arguments[2 + i] : names[i]);
        if (count == 2) gp_free(names[i]);
    }
    gp_engine_close(engine);
    printf("%d cases, %d failures\n", cases, failures);
    return failures > 0 || cases == 0;
}
