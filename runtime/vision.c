#include "runtime/vision.h"

#include "kernels/base/memory.h"

#include <math.h>
#include <stdio.h>

static const float clip_mean[3] = {0.48145466f, 0.4578275f, 0.40821073f};
static const float clip_deviation[3] = {0.26862954f, 0.26130258f, 0.27577711f};

static void crop_views(const gp_vision *vision, gp_backend *backend, const gp_vision_picture *picture,
                       int count, float *pixels, const gp_observer *observer);
static void encode_views(const gp_vision *vision, gp_backend *backend, const float *pixels, int count,
                         const gp_vision_buffers *buffers, float *x);
static void encoder_layer(const gp_vision *vision, const gp_vision_layer *layer, gp_backend *backend,
                          const gp_vision_buffers *buffers, int views, float *x);

/** Rows of a tensor in the tower, or 0. */
static int64_t rows_of(const gp_binder *binder, const char *name) {
    char whole[128];
    snprintf(whole, sizeof whole, "vit.vision_tower.vision_model.%s", name);
    const gp_tensor *tensor =
        binder->checkpoint != NULL ? gp_checkpoint_find(binder->checkpoint, whole) : NULL;
    return tensor != NULL && tensor->rank > 0 && tensor->shape[0] <= 1 << 20 ? tensor->shape[0] : 0;
}

/** Widths that config.json leaves to the tensors' shapes; without tensors they are GeoPixel-7B's. */
static bool sizes_from_tensors(gp_vision_config *c, const gp_binder *binder, gp_status *status) {
    if (c->hidden_size == 0) c->hidden_size = (int)rows_of(binder, "embeddings.patch_embedding.weight");
    if (c->intermediate_size == 0)
        c->intermediate_size = (int)rows_of(binder, "encoder.layers.0.mlp.fc1.weight");
    const bool assumed = binder->dry || binder->random;
    if (assumed && c->hidden_size == 0) c->hidden_size = 1024;
    if (assumed && c->intermediate_size == 0) c->intermediate_size = 4096;
    if (c->hidden_size == 0 || c->intermediate_size == 0)
        return gp_fail(
            status,
            "the vision tower's widths stand neither in config.json's vision_config nor in its tensors");
    int heads = c->num_attention_heads;
    return (c->hidden_size % heads == 0 && c->hidden_size / heads <= 128) ||
           gp_fail(status, "the vision tower is %d wide, which %d heads of at most 128 do not divide",
                   c->hidden_size, heads);
}

bool gp_vision_bind(gp_vision *vision, const gp_config *config, gp_binder *binder, gp_status *status) {
    const gp_vision_config *c = &config->vision;
    const char *tower = "vit.vision_tower.vision_model";
    int64_t hidden = c->hidden_size, width = config->language.hidden_size;
    char name[128];
    vision->config = *c;
    if (!sizes_from_tensors(&vision->config, binder, status)) return false;
    c = &vision->config;
    hidden = c->hidden_size;
    vision->grid = c->image_size / c->patch_size;
    vision->width = (int)width;
    vision->layers = gp_allocate_zeroed((size_t)c->num_hidden_layers, sizeof *vision->layers);
    if (vision->layers == NULL)
        return gp_fail(status, "no memory for %d vision layers", c->num_hidden_layers);

    binder->block = GP_BLOCK_VISION;
    vision->patch =
        gp_bind_convolution(binder, hidden, 3, c->patch_size, "%s.embeddings.patch_embedding.weight", tower);
    int64_t patches = (int64_t)vision->grid * vision->grid, position_shape[2] = {patches + 1, hidden};
    float *class = gp_bind_host(binder, 1, &hidden, "%s.embeddings.class_embedding", tower);
    float *positions =
        gp_bind_host(binder, 2, position_shape, "%s.embeddings.position_embedding.weight", tower);
    for (int64_t i = 0; class != NULL && positions != NULL && i < hidden; i++) class[i] += positions[i];
    vision->class_row = gp_binder_place(binder, class, (size_t)hidden);
    vision->positions =
        gp_binder_place(binder, positions != NULL ? positions + hidden : NULL, (size_t)(patches * hidden));
    gp_free(class);
    gp_free(positions);
    snprintf(name, sizeof name, "%s.pre_layrnorm", tower);
    vision->pre_norm = gp_bind_norm(binder, hidden, name);
    for (int i = 0; i < c->num_hidden_layers; i++) {
        gp_vision_layer *layer = &vision->layers[i];
        const struct {
            gp_affine *layer;
            int64_t out, in;
            const char *name;
        } parts[] = {
            {&layer->q, hidden, hidden, "self_attn.q_proj"},
            {&layer->k, hidden, hidden, "self_attn.k_proj"},
            {&layer->v, hidden, hidden, "self_attn.v_proj"},
            {&layer->out, hidden, hidden, "self_attn.out_proj"},
            {&layer->fc1, c->intermediate_size, hidden, "mlp.fc1"},
            {&layer->fc2, hidden, c->intermediate_size, "mlp.fc2"},
        };
        for (size_t part = 0; part < sizeof parts / sizeof *parts; part++) {
            snprintf(name, sizeof name, "%s.encoder.layers.%d.%s", tower, i, parts[part].name);
            *parts[part].layer = gp_bind_affine(binder, parts[part].out, parts[part].in, name);
        }
        snprintf(name, sizeof name, "%s.encoder.layers.%d.layer_norm1", tower, i);
        layer->norm1 = gp_bind_norm(binder, hidden, name);
        snprintf(name, sizeof name, "%s.encoder.layers.%d.layer_norm2", tower, i);
        layer->norm2 = gp_bind_norm(binder, hidden, name);
    }
    binder->block = GP_BLOCK_PROJECTOR;
    vision->project1 = gp_bind_affine(binder, width, 4 * hidden, "vision_proj.0");
    vision->project2 = gp_bind_affine(binder, width, width, "vision_proj.2");
    float *row_end = gp_bind_host(binder, 4, (int64_t[]){1, 1, 1, 4 * hidden}, "plora_sub_GN");
    float *global_end = gp_bind_host(binder, 3, (int64_t[]){1, 1, 4 * hidden}, "plora_glb_GN");
    vision->row_end = gp_binder_place(binder, row_end, (size_t)(4 * hidden));
    vision->global_end = gp_binder_place(binder, global_end, (size_t)(4 * hidden));
    gp_free(row_end);
    gp_free(global_end);
    return true;
}

void gp_vision_free(gp_vision *vision) {
    gp_free(vision->layers);
    vision->layers = NULL;
}

int64_t gp_vision_tokens(const gp_vision *vision, int rows, int columns) {
    int64_t side = vision->grid / 2;
    return ((int64_t)rows * columns + 1) * side * side + 1 + (rows + 1) * side;
}

static int64_t view_rows(const gp_vision *vision) {
    return 1 + (int64_t)vision->grid * vision->grid;
}

size_t gp_vision_features(const gp_vision *vision, int views) {
    return (size_t)(views * view_rows(vision) * vision->config.hidden_size);
}

/** Of `views` on so many ranks, each rank's. */
static int share_of(int views, int ranks) {
    return (views + ranks - 1) / ranks;
}

static int64_t view_pixels(const gp_vision *vision) {
    return 3ll * vision->config.image_size * vision->config.image_size;
}

void gp_vision_layout(const gp_vision *vision, const gp_backend *backend, int views, int ranks,
                      gp_arena *arena, gp_vision_buffers *buffers) {
    const gp_vision_config *c = &vision->config;
    const int share = share_of(views, ranks);
    int64_t hidden = c->hidden_size, rows = share * view_rows(vision);
    buffers->x = gp_arena_take(arena, gp_vision_features(vision, ranks * share), sizeof(float));
    buffers->pixels = gp_arena_take(arena, (size_t)(views * view_pixels(vision)), sizeof(float));
    buffers->patches = gp_take_operands(
        arena, backend, (size_t)(vision->grid * vision->grid * gp_operand_width(vision->patch.stride)));
    buffers->normed = gp_take_operands(arena, backend, (size_t)(rows * hidden));
    buffers->qkv = gp_take_operands(arena, backend, (size_t)(rows * 3 * hidden));
    buffers->attended = gp_take_operands(arena, backend, (size_t)(rows * hidden));
    buffers->hidden = gp_take_operands(arena, backend, (size_t)(rows * c->intermediate_size));
}

void gp_vision_layout_merge(const gp_vision *vision, const gp_backend *backend, int64_t tokens,
                            gp_arena *arena, gp_vision_merge_buffers *buffers) {
    buffers->merged = gp_take_operands(arena, backend, (size_t)(tokens * 4 * vision->config.hidden_size));
    buffers->projected = gp_take_operands(arena, backend, (size_t)(tokens * vision->width));
}

void gp_vision_encode(const gp_vision *vision, gp_backend *backend, gp_vision_picture *const *pictures,
                      const int *views, int count, const gp_vision_buffers *buffers,
                      const gp_observer *observer) {
    int total = 0;
    int64_t rows = view_rows(vision);
    for (int i = 0; i < count; i++) {
        crop_views(vision, backend, pictures[i], views[i], buffers->pixels + total * view_pixels(vision),
                   observer);
        total += views[i];
    }
    gp_vision_share(vision, backend, total, buffers);
    const float *x = buffers->x;
    for (int i = 0; i < count; i++) {
        gp_vision_picture *picture = pictures[i];
        size_t before = gp_vision_features(vision, picture->encoded);
        size_t values = gp_vision_features(vision, views[i]);
        backend->ops->copy(backend, picture->features + before, x, values * sizeof(float));
        gp_observe(observer, backend, "vit", x, picture->encoded * rows, views[i] * rows,
                   vision->config.hidden_size);
        picture->encoded += views[i];
        x += values;
    }
}

void gp_vision_share(const gp_vision *vision, gp_backend *backend, int views,
                     const gp_vision_buffers *buffers) {
    gp_communicator *communicator = vision->communicator;
    if (communicator == NULL) {
        encode_views(vision, backend, buffers->pixels, views, buffers, buffers->x);
        return;
    }
    const int share = share_of(views, communicator->size), first = communicator->rank * share;
    const int own = views - first < share ? views - first : share;
    const size_t values = gp_vision_features(vision, share);
    communicator->ops->broadcast(communicator, buffers->pixels,
                                 (size_t)(views * view_pixels(vision)) * sizeof(float), 0);
    if (own > 0)
        encode_views(vision, backend, buffers->pixels + first * view_pixels(vision), own, buffers,
                     buffers->x + (size_t)communicator->rank * values);
    communicator->ops->all_gather(communicator, buffers->x, values * sizeof(float));
}

void gp_vision_merge(const gp_vision *vision, gp_backend *backend, const gp_vision_picture *picture,
                     const gp_vision_merge_buffers *buffers, const gp_observer *observer, float *tokens) {
    int64_t rows = gp_vision_tokens(vision, picture->rows, picture->columns);
    backend->ops->merge_tokens(backend, &(gp_merge_tokens){.features = picture->features,
                                                           .grid = vision->grid,
                                                           .channels = vision->config.hidden_size,
                                                           .rows = picture->rows,
                                                           .columns = picture->columns,
                                                           .row_end = vision->row_end,
                                                           .global_end = vision->global_end,
                                                           .y = buffers->merged});
    gp_apply_affine(backend, &vision->project1, buffers->merged, rows, GP_ACTIVATION_GELU, NULL, NULL,
                    buffers->projected);
    gp_apply_affine(backend, &vision->project2, buffers->projected, rows, GP_ACTIVATION_NONE, NULL, tokens,
                    NULL);
    gp_observe(observer, backend, "image_tokens", tokens, 0, rows, vision->width);
}

/** The picture's next `count` views as the encoder sees them. */
static void crop_views(const gp_vision *vision, gp_backend *backend, const gp_vision_picture *picture,
                       int count, float *pixels, const gp_observer *observer) {
    int side = vision->config.image_size, first = picture->encoded;
    gp_crop_views views = {.canvas = picture->canvas,
                           .rows = picture->rows,
                           .columns = picture->columns,
                           .side = side,
                           .first_view = first,
                           .views = count,
                           .y = pixels};
    for (int i = 0; i < 3; i++) {
        views.mean[i] = clip_mean[i];
        views.deviation[i] = clip_deviation[i];
    }
    backend->ops->crop_views(backend, &views);
    gp_observe(observer, backend, "crops", pixels, (int64_t)first * 3 * side, (int64_t)count * 3 * side,
               side);
}

/** `count` views from their pixels to x [count, 1 + grid², hidden]. */
static void encode_views(const gp_vision *vision, gp_backend *backend, const float *pixels, int count,
                         const gp_vision_buffers *buffers, float *x) {
    const gp_ops *ops = backend->ops;
    int side = vision->config.image_size, hidden = vision->config.hidden_size;
    int64_t rows = view_rows(vision), patch_stride = gp_operand_width(vision->patch.stride);
    for (int view = 0; view < count; view++) {
        float *target = x + view * rows * hidden;
        ops->patches(backend, &(gp_patches){.x = pixels + view * view_pixels(vision),
                                            .channels = 3,
                                            .height = side,
                                            .width = side,
                                            .patch = vision->config.patch_size,
                                            .stride = vision->config.patch_size,
                                            .y = buffers->patches,
                                            .y_stride = patch_stride});
        ops->copy(backend, target, vision->class_row, (size_t)hidden * sizeof(float));
        ops->linear(backend, &(gp_linear){.x = buffers->patches,
                                          .rows = rows - 1,
                                          .x_stride = patch_stride,
                                          .weight = vision->patch,
                                          .residual = vision->positions,
                                          .y = target + hidden});
    }
    gp_apply_norm(backend, &vision->pre_norm, x, count * rows, hidden, vision->config.layer_norm_eps, x,
                  NULL);
    for (int i = 0; i < vision->config.num_hidden_layers; i++)
        encoder_layer(vision, &vision->layers[i], backend, buffers, count, x);
}

static void encoder_layer(const gp_vision *vision, const gp_vision_layer *layer, gp_backend *backend,
                          const gp_vision_buffers *buffers, int views, float *x) {
    int hidden = vision->config.hidden_size, heads = vision->config.num_attention_heads;
    int64_t per_view = view_rows(vision), rows = views * per_view;
    float epsilon = vision->config.layer_norm_eps;
    gp_apply_norm(backend, &layer->norm1, x, rows, hidden, epsilon, NULL, buffers->normed);
    const gp_affine *projections[3] = {&layer->q, &layer->k, &layer->v};
    for (int i = 0; i < 3; i++) // side by side: [rows, 3, hidden]
        backend->ops->linear(backend,
                             &(gp_linear){.x = buffers->normed,
                                          .rows = rows,
                                          .weight = projections[i]->weight,
                                          .bias = projections[i]->bias,
                                          .y_operand = gp_operand_at(backend, buffers->qkv, i * hidden),
                                          .y_stride = 3 * hidden});
    backend->ops->attention(backend, &(gp_attention){.q = buffers->qkv,
                                                     .k = gp_operand_at(backend, buffers->qkv, hidden),
                                                     .v = gp_operand_at(backend, buffers->qkv, 2 * hidden),
                                                     .q_stride = 3 * hidden,
                                                     .kv_stride = 3 * hidden,
                                                     .sequences = views,
                                                     .queries = per_view,
                                                     .keys = per_view,
                                                     .heads = heads,
                                                     .head_dim = hidden / heads,
                                                     .scale = 1.0f / sqrtf((float)(hidden / heads)),
                                                     .y = buffers->attended,
                                                     .y_stride = hidden});
    gp_apply_affine(backend, &layer->out, buffers->attended, rows, GP_ACTIVATION_NONE, x, x, NULL);
    gp_apply_norm(backend, &layer->norm2, x, rows, hidden, epsilon, NULL, buffers->normed);
    gp_apply_affine(backend, &layer->fc1, buffers->normed, rows, GP_ACTIVATION_QUICK_GELU, NULL, NULL,
                    buffers->hidden);
    gp_apply_affine(backend, &layer->fc2, buffers->hidden, rows, GP_ACTIVATION_NONE, x, x, NULL);
}
