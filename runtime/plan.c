#include "runtime/plan.h"

#include "kernels/base/memory.h"
#include "runtime/replica.h"

#include <stdio.h>

static void measure(const gp_model *model, const gp_backend *backend, const gp_plan_options *options,
                    const gp_division *division, gp_plan *plan);
static bool check_options(const gp_plan_options *options, gp_status *status);

bool gp_plan_request(const gp_plan_options *options, gp_plan *plan, gp_status *status) {
    gp_model model = {0};
    gp_backend *backend = NULL;
    gp_division division;
    *plan = (gp_plan){0};
    int text = options->text_tokens > 0 ? options->text_tokens : GP_TEXT_TOKENS_DEFAULT;
    int answer = options->max_new_tokens > 0 ? options->max_new_tokens : GP_NEW_TOKENS_DEFAULT;
    bool done = check_options(options, status) &&
                gp_replica_open_backend(options->device, options->threads, 0, 1, &backend, status) &&
                gp_plan_open_model(options->model, NULL, backend, (gp_split){0}, &model, status) &&
                gp_plan_division(&model.config, options, text, answer, &division, status);
    if (done) {
        plan->crop_side = model.config.vision.image_size;
        plan->patch_side = model.config.vision.patch_size;
        plan->context = (int)gp_plan_context(&model.config);
        plan->resized_width = division.width;
        plan->resized_height = division.height;
        plan->crop_columns = division.columns;
        plan->crop_rows = division.rows;
        plan->reduced = division.reduced;
        plan->image_tokens = (int)division.image_tokens;
        plan->prompt_tokens = text + plan->image_tokens;
        plan->max_new_tokens = answer;
        snprintf(plan->device, sizeof plan->device, "%s", backend->name);
        measure(&model, backend, options, &division, plan);
    }
    gp_model_close(&model);
    gp_backend_close(backend);
    return done;
}

static bool check_options(const gp_plan_options *options, gp_status *status) {
    if (options->crops < 0 || options->max_crops < 0 || options->max_new_tokens < 0 ||
        options->text_tokens < 0 || options->masks < 0)
        return gp_fail(
            status,
            "crops %d, max_crops %d, max_new_tokens %d, text_tokens %d, masks %d: none may be negative",
            options->crops, options->max_crops, options->max_new_tokens, options->text_tokens,
            options->masks);
    return true;
}

bool gp_plan_open_model(const char *folder, const char *dummy_weights, gp_backend *backend, gp_split split,
                        gp_model *model, gp_status *status) {
    gp_binder binder = {.dry = true, .backend = backend, .split = split};
    gp_status absent = {0}; /* weights that cannot be read are as good as none */
    *model = (gp_model){.backend = backend};
    if (!gp_model_read_config(folder, dummy_weights, &model->config, status)) return false;
    if (folder != NULL && dummy_weights == NULL) gp_checkpoint_open(folder, &model->checkpoint, &absent);
    gp_status_clear(&absent);
    binder.checkpoint = model->checkpoint;
    bool done = gp_model_bind(model, &binder, status);
    gp_binder_clear(&binder);
    return done;
}

static void measure(const gp_model *model, const gp_backend *backend, const gp_plan_options *options,
                    const gp_division *division, gp_plan *plan) {
    const gp_language *language = &model->language;
    int width = options->width, height = options->height;
    gp_arena seen = {0}, kept = {0};
    gp_arena canvas = {0};
    gp_plan_seen(model, width, height, division->columns * division->rows, division->image_tokens, &seen,
                 &(gp_seen_buffers){0});
    gp_plan_canvas(division, &canvas);
    gp_plan_kept(model, backend, width, height, plan->max_new_tokens, &kept, &(gp_kept_buffers){0});
    int rows = plan->prompt_tokens < GP_PREFILL_ROWS ? plan->prompt_tokens : GP_PREFILL_ROWS;
    size_t stage = gp_plan_stage(model, backend, width, height, division, rows, 1,
                                 options->masks > 0 ? options->masks : GP_MASK_BATCH);
    plan->memory =
        (gp_memory_plan){.weights = model->weight_bytes,
                         .converted = model->converted_bytes,
                         .kv_cache = gp_kv_cache_bytes(
                             backend, language->config.num_hidden_layers, language->kv_heads,
                             language->head_dim, gp_pages_for(plan->prompt_tokens + plan->max_new_tokens)),
                         .activations = seen.peak + kept.peak + canvas.peak + stage +
                                        gp_plan_ground_stage(model, backend, width, height) +
                                        gp_mask_picture_bytes(4 * model->masks.grid, width, height),
                         .workspace = backend->workspace_bytes};
}

int64_t gp_plan_context(const gp_config *config) {
    int64_t length = config->language.max_length, positions = config->language.max_position_embeddings;
    return length < positions ? length : positions;
}

bool gp_plan_division(const gp_config *config, const gp_plan_options *picture, int64_t text,
                      int max_new_tokens, gp_division *division, gp_status *status) {
    int64_t context = gp_plan_context(config), room = context - text - max_new_tokens;
    if (room <= 0)
        return gp_fail(
            status, "the prompt has %lld tokens of text and the answer may have %d; the context holds %lld",
            (long long)text, max_new_tokens, (long long)context);
    gp_divider_limits limits = {picture->crops > 0 ? picture->crops : GP_CROPS_DEFAULT, picture->max_crops,
                                room};
    return gp_divide(picture->width, picture->height, config->vision.image_size, config->vision.patch_size,
                     &limits, division, status);
}

void gp_plan_seen(const gp_model *model, int width, int height, int crops, int64_t image_tokens,
                  gp_arena *arena, gp_seen_buffers *buffers) {
    size_t tokens = (size_t)image_tokens * (size_t)model->config.language.hidden_size;
    size_t features = gp_vision_features(&model->vision, 1 + crops);
    gp_grounding_layout_maps(&model->grounding, arena, &buffers->maps);
    buffers->source = gp_arena_take(arena, (size_t)width * (size_t)height, 3);
    buffers->image_tokens = gp_arena_take(arena, features > tokens ? features : tokens, sizeof(float));
}

void gp_plan_kept(const gp_model *model, const gp_backend *backend, int width, int height, int max_new_tokens,
                  gp_arena *arena, gp_kept_buffers *buffers) {
    size_t hidden = (size_t)model->config.language.hidden_size;
    buffers->seg_hidden = gp_arena_take(arena, (size_t)max_new_tokens * hidden, sizeof(float));
    gp_drawing_layout(backend, 4 * model->masks.grid, width, height, arena, &buffers->drawing);
}

uint8_t *gp_plan_canvas(const gp_division *division, gp_arena *arena) {
    return gp_arena_take(arena, (size_t)division->canvas_width * (size_t)division->canvas_height, 3);
}

uint8_t *gp_plan_resize(int width, int height, const gp_division *division, gp_arena *arena) {
    return gp_arena_take(arena, gp_resize_rgb_scratch(width, height, division->width, division->height), 1);
}

void gp_plan_batch(const gp_model *model, const gp_backend *backend, int64_t rows, int sequences,
                   gp_arena *arena, gp_batch_buffers *buffers) {
    size_t vocabulary = (size_t)model->config.language.vocab_size;
    gp_language_layout(&model->language, backend, rows, arena, &buffers->language);
    const size_t stride = (size_t)gp_language_logit_stride(&model->language);
    buffers->step = gp_arena_take(arena, 1, sizeof(gp_step));
    buffers->logits = gp_arena_take(arena, (size_t)sequences * stride, sizeof(float));
    buffers->order = gp_arena_take(arena, (size_t)sequences * vocabulary, sizeof(int32_t));
    buffers->tokens = gp_arena_take(arena, (size_t)sequences, sizeof(int32_t));
}

/** What the grounding encoder needs, wherever it is. */
static size_t grounding_bytes(const gp_model *model, const gp_backend *backend, int width, int height) {
    gp_arena measure = {0};
    gp_grounding_layout(&model->grounding, backend, model->language.split.size, width, height, &measure,
                        &(gp_grounding_buffers){0});
    return measure.peak;
}

bool gp_plan_grounds_beside(const gp_model *model, const gp_backend *backend) {
    return backend->lanes > 1 && model->language.split.size == 1;
}

size_t gp_plan_ground_stage(const gp_model *model, const gp_backend *backend, int width, int height) {
    return gp_plan_grounds_beside(model, backend) ? grounding_bytes(model, backend, width, height) : 0;
}

size_t gp_plan_stage(const gp_model *model, const gp_backend *backend, int width, int height,
                     const gp_division *division, int64_t rows, int requests, int64_t masks) {
    gp_arena stages[6] = {{0}};
    size_t largest = 0;
    int views = gp_vision_views(division->rows, division->columns) *
                (requests < GP_VISION_PICTURES ? requests : GP_VISION_PICTURES);
    gp_plan_resize(width, height, division, &stages[0]);
    const int ranks = model->language.split.size, most = GP_VIEW_BATCH * ranks;
    gp_vision_layout(&model->vision, backend, views < most ? views : most, ranks, &stages[1],
                     &(gp_vision_buffers){0});
    gp_vision_layout_merge(&model->vision, backend, division->image_tokens, &stages[2],
                           &(gp_vision_merge_buffers){0});
    gp_plan_batch(model, backend, rows, requests, &stages[3], &(gp_batch_buffers){0});
    if (!gp_plan_grounds_beside(model, backend))
        stages[4].peak = grounding_bytes(model, backend, width, height);
    gp_mask_layout(&model->masks, backend, masks < GP_MASK_BATCH ? (int)masks : GP_MASK_BATCH, &stages[5],
                   &(gp_mask_buffers){0});
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++)
        if (stages[i].peak > largest) largest = stages[i].peak;
    return largest;
}
