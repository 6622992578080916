#include "runtime/grounding.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define TRUNK "model.visual_model.image_encoder.trunk"

static const float imagenet_mean[3] = {0.485f, 0.456f, 0.406f};
static const float imagenet_deviation[3] = {0.229f, 0.224f, 0.225f};

enum { PATCH = 7, PATCH_STRIDE = 4, PATCH_PADDING = 3, USUAL_WINDOW = 8 };

static const float layer_norm_epsilon = 1e-6f;

static void bind_positions(gp_grounding *grounding, gp_binder *binder);
static void bind_block(gp_grounding *grounding, gp_binder *binder, int index, int stage, bool pool);
static bool encode(const gp_grounding *grounding, gp_backend *backend, const float *pixels,
                   const gp_grounding_picture *picture, const gp_grounding_buffers *buffers,
                   const gp_observer *observer, const gp_grounding_maps *maps);
static void share(const gp_grounding *grounding, gp_backend *backend, gp_grounding_picture *pictures,
                  int count, const gp_grounding_buffers *buffers, const gp_observer *observer);
static void take_maps(const gp_grounding *grounding, gp_backend *backend, const gp_grounding_buffers *buffers,
                      int rank, const gp_grounding_maps *maps);
static int64_t view_values(const gp_grounding *grounding);
static void run_block(const gp_hiera_block *block, gp_backend *backend, const gp_grounding_buffers *buffers,
                      int side, const float *x, float *y, gp_operand *y_operand);
static void run_neck(const gp_grounding *grounding, gp_backend *backend, const gp_grounding_buffers *buffers,
                     const gp_observer *observer, const gp_grounding_maps *maps);
static bool level_is_needed(const gp_grounding *grounding, int level);
static bool level_is_summed(const gp_grounding *grounding, int level);

bool gp_grounding_bind(gp_grounding *grounding, const gp_config *config, gp_binder *binder,
                       gp_status *status) {
    const gp_grounding_config *c = &config->grounding;
    char name[128];
    grounding->config = *c;
    grounding->side = c->image_size / PATCH_STRIDE;
    grounding->width = config->language.out_dim;
    for (int i = 0; i < c->stage_count; i++) grounding->block_count += c->stages[i];
    grounding->blocks = gp_allocate_zeroed((size_t)grounding->block_count, sizeof *grounding->blocks);
    if (grounding->blocks == NULL) return gp_fail(status, "no memory for %d blocks", grounding->block_count);
    binder->block = GP_BLOCK_GROUNDING;
    grounding->patch = gp_bind_affine_convolution(binder, c->embed_dim, 3, PATCH, TRUNK ".patch_embed.proj");
    bind_positions(grounding, binder);
    for (int stage = 0, index = 0; stage < c->stage_count; stage++)
        for (int i = 0; i < c->stages[stage]; i++, index++) {
            bind_block(grounding, binder, index, stage, i == 0 && stage > 0);
            grounding->blocks[index].last = i == c->stages[stage] - 1;
        }
    for (int level = 0; level < c->stage_count; level++) { /* `convs.0` is the coarsest map's */
        snprintf(name, sizeof name, "model.visual_model.image_encoder.neck.convs.%d.conv",
                 c->stage_count - 1 - level);
        grounding->lateral[level] =
            gp_bind_affine_convolution(binder, grounding->width, (int64_t)c->embed_dim << level, 1, name);
    }
    float *embed =
        gp_bind_host(binder, 3, (int64_t[]){1, 1, grounding->width}, "model.visual_model.no_mem_embed");
    grounding->no_mem_embed = gp_binder_place(binder, embed, (size_t)grounding->width);
    gp_free(embed);
    binder->block = GP_BLOCK_MASK_DECODER; /* whose first two layers the encoder applies */
    grounding->conv_s0 = gp_bind_affine_convolution(binder, grounding->width / 8, grounding->width, 1,
                                                    "model.visual_model.sam_mask_decoder.conv_s0");
    grounding->conv_s1 = gp_bind_affine_convolution(binder, grounding->width / 4, grounding->width, 1,
                                                    "model.visual_model.sam_mask_decoder.conv_s1");
    return true;
}

void gp_grounding_free(gp_grounding *grounding) {
    gp_free(grounding->blocks);
    grounding->blocks = NULL;
}

/** pos_embed resized to the map, pos_embed_window repeated over it, as rows. */
static void bind_positions(gp_grounding *grounding, gp_binder *binder) {
    int64_t width = grounding->config.embed_dim, side = grounding->side;
    const int *size = grounding->config.window_pos_embed_bkg_spatial_size;
    int64_t background_shape[4] = {1, width, size[0], size[1]},
            window_shape[4] = {1, width, GP_ANY(USUAL_WINDOW), GP_ANY(USUAL_WINDOW)};
    float *background = gp_bind_host(binder, 4, background_shape, TRUNK ".pos_embed");
    float *window = gp_bind_host(binder, 4, window_shape, TRUNK ".pos_embed_window");
    int64_t wh = window_shape[2], ww = window_shape[3];
    float *resized = gp_binder_derive(binder, (size_t)(width * side * side));
    float *rows = gp_binder_derive(binder, (size_t)(width * side * side));
    if (wh > 0 && ww > 0 && (side % wh != 0 || side % ww != 0)) {
        gp_binder_refuse(binder, "windows of %lld x %lld do not tile a map of %lld x %lld", (long long)wh,
                         (long long)ww, (long long)side, (long long)side);
    } else if (background != NULL && window != NULL && resized != NULL && rows != NULL) {
        gp_resize_bicubic(background, (int)width, size[0], size[1], (int)side, (int)side, resized);
        for (int64_t y = 0; y < side; y++)
            for (int64_t x = 0; x < side; x++)
                for (int64_t c = 0; c < width; c++) // [C, H, W] → [H, W, C]
                    rows[(y * side + x) * width + c] =
                        resized[(c * side + y) * side + x] + window[(c * wh + y % wh) * ww + x % ww];
    }
    grounding->positions = gp_binder_place(binder, rows, (size_t)(width * side * side));
    gp_free(background);
    gp_free(window);
    gp_free(resized);
    gp_free(rows);
}

static void bind_block(gp_grounding *grounding, gp_binder *binder, int index, int stage, bool pool) {
    const gp_grounding_config *c = &grounding->config;
    gp_hiera_block *block = &grounding->blocks[index];
    int64_t width = (int64_t)c->embed_dim << stage, width_in = pool ? width / 2 : width;
    block->pool = pool;
    block->stage = stage;
    block->width_in = (int)width_in;
    block->width = (int)width;
    block->heads = c->num_heads << stage;
    block->window =
        c->window_spec[pool ? stage - 1 : stage]; /* the first block still has the previous stage's */
    for (int i = 0; i < c->global_block_count; i++)
        if (c->global_att_blocks[i] == index) block->window = 0;
    const struct {
        gp_affine *layer;
        int64_t out, in;
        const char *name;
    } parts[] = {
        {&block->qkv, 3 * width, width_in, "attn.qkv"},
        {&block->out, width, width, "attn.proj"},
        {&block->fc1, GP_ANY(4 * width), width, "mlp.layers.0"},
    };
    char name[128];
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        snprintf(name, sizeof name, TRUNK ".blocks.%d.%s", index, parts[i].name);
        *parts[i].layer = gp_bind_affine(binder, parts[i].out, parts[i].in, name);
    }
    snprintf(name, sizeof name, TRUNK ".blocks.%d.mlp.layers.1", index);
    block->fc2 = gp_bind_affine(
        binder, width, block->fc1.weight.data != NULL ? block->fc1.weight.rows : GP_ANY(4 * width), name);
    snprintf(name, sizeof name, TRUNK ".blocks.%d.norm1", index);
    block->norm1 = gp_bind_norm(binder, width_in, name);
    snprintf(name, sizeof name, TRUNK ".blocks.%d.norm2", index);
    block->norm2 = gp_bind_norm(binder, width, name);
    if (!pool) return;
    snprintf(name, sizeof name, TRUNK ".blocks.%d.proj", index);
    block->shortcut = gp_bind_affine(binder, width, width_in, name);
}

void gp_grounding_layout_maps(const gp_grounding *grounding, gp_arena *arena, gp_grounding_maps *maps) {
    size_t cells = (size_t)gp_grounding_grid(grounding) * (size_t)gp_grounding_grid(grounding);
    size_t width = (size_t)grounding->width;
    maps->embed = gp_arena_take(arena, cells * width, sizeof(float));
    maps->s0 = gp_arena_take(arena, 16 * cells * (width / 8), sizeof(float));
    maps->s1 = gp_arena_take(arena, 4 * cells * (width / 4), sizeof(float));
}

/** Bytes of a picture's maps, one behind the other. */
static size_t maps_bytes(const gp_grounding *grounding) {
    gp_arena measure = {0};
    gp_grounding_layout_maps(grounding, &measure, &(gp_grounding_maps){0});
    return (measure.peak + GP_ALIGNMENT - 1) / GP_ALIGNMENT * GP_ALIGNMENT;
}

void gp_grounding_layout(const gp_grounding *grounding, const gp_backend *backend, int ranks, int width,
                         int height, gp_arena *arena, gp_grounding_buffers *buffers) {
    size_t side = (size_t)grounding->config.image_size, map = 0, in = 0, wide = 0, attended = 0, shortcut = 0;
    int blocks_side = grounding->side;
    for (int i = 0; i < grounding->block_count; i++) {
        const gp_hiera_block *block = &grounding->blocks[i];
        size_t cells_in = (size_t)blocks_side * (size_t)blocks_side;
        if (block->pool) blocks_side /= 2;
        size_t cells = (size_t)blocks_side * (size_t)blocks_side, out = cells * (size_t)block->width;
        size_t sizes[2] = {cells_in * 3 * (size_t)block->width, cells * (size_t)block->fc1.weight.rows};
        if (out > map) map = out;
        if (cells_in * (size_t)block->width_in > in) in = cells_in * (size_t)block->width_in;
        if (out > attended) attended = out;
        if (block->pool && cells_in * (size_t)block->width > shortcut)
            shortcut = cells_in * (size_t)block->width;
        for (int k = 0; k < 2; k++)
            if (sizes[k] > wide) wide = sizes[k];
    }
    if (map > in) in = map; /* norm2's rows, and a stage's map */
    for (int level = 0; level < grounding->config.stage_count; level++) {
        size_t cells = (size_t)(grounding->side >> level) * (size_t)(grounding->side >> level);
        size_t values = cells * (size_t)grounding->width;
        buffers->sums[level] =
            level_is_summed(grounding, level) ? gp_arena_take(arena, values, sizeof(float)) : NULL;
        if (level < 2)
            buffers->fine[level] = level_is_summed(grounding, level)
                                       ? gp_take_twin(arena, backend, buffers->sums[level], values)
                                       : gp_take_operands(arena, backend, values);
    }
    buffers->gathered = ranks > 1 ? gp_arena_take(arena, (size_t)ranks * maps_bytes(grounding), 1) : NULL;
    buffers->x = gp_arena_take(arena, map, sizeof(float));
    size_t mark = gp_arena_mark(arena);
    buffers->pixels = gp_arena_take(arena, (size_t)ranks * 3 * side * side, sizeof(float));
    buffers->scratch = gp_arena_take(arena, gp_whole_view_scratch(width, height, (int)side), 1);
    buffers->patches = gp_take_operands(
        arena, backend,
        (size_t)(grounding->side * grounding->side * gp_operand_width(grounding->patch.weight.stride)));
    gp_arena_rewind(arena, mark); /* the first map has used them up when the blocks begin */
    buffers->next = gp_arena_take(arena, map, sizeof(float));
    buffers->normed = gp_take_operands(arena, backend, in);
    buffers->wide = gp_take_operands(arena, backend, wide);
    mark = gp_arena_mark(arena);
    buffers->shortcut = gp_arena_take(arena, shortcut, sizeof(float));
    size_t end = gp_arena_mark(arena);
    gp_arena_rewind(arena, mark); /* pooled before attention gives its result */
    buffers->attended = gp_take_operands(arena, backend, attended);
    if (gp_arena_mark(arena) < end) gp_arena_rewind(arena, end);
}

/** Levels 0 to 2 are given out; the coarsest of all is added to the one below it. */
static bool level_is_needed(const gp_grounding *grounding, int level) {
    int coarsest = grounding->config.stage_count - 1;
    return level <= 2 || (level == coarsest && coarsest - 1 <= 2);
}

/** Whether the level is a sum, or a part of one: given out with no_mem_embed added, or one of the two
 * coarsest where the upper is needed. Others are read by a convolution alone. */
static bool level_is_summed(const gp_grounding *grounding, int level) {
    int coarsest = grounding->config.stage_count - 1;
    return level_is_needed(grounding, level) && (level == 2 || level >= coarsest - 1);
}

void gp_grounding_view(const gp_grounding *grounding, gp_backend *backend,
                       const gp_grounding_picture *picture, const gp_grounding_buffers *buffers,
                       float *pixels, const gp_observer *observer) {
    int side = grounding->config.image_size;
    gp_whole_view view = {.source = picture->pixels,
                          .source_width = picture->width,
                          .source_height = picture->height,
                          .source_stride = picture->stride,
                          .side = side,
                          .scratch = buffers->scratch,
                          .y = pixels};
    for (int i = 0; i < 3; i++) {
        view.mean[i] = imagenet_mean[i];
        view.deviation[i] = imagenet_deviation[i];
    }
    backend->ops->whole_view(backend, &view);
    gp_observe(observer, backend, "grounding_pixels", pixels, 0, 3ll * side, side);
}

void gp_grounding_encode(const gp_grounding *grounding, gp_backend *backend, gp_grounding_picture *pictures,
                         int count, const gp_grounding_buffers *buffers, const gp_observer *observer) {
    for (int i = 0; i < count && grounding->communicator == NULL; i++) {
        gp_grounding_view(grounding, backend, &pictures[i], buffers, buffers->pixels, observer);
        pictures[i].encoded =
            encode(grounding, backend, buffers->pixels, &pictures[i], buffers, observer, pictures[i].maps);
    }
    if (grounding->communicator == NULL) return;
    for (int i = 0; i < count; i++)
        gp_grounding_view(grounding, backend, &pictures[i], buffers,
                          buffers->pixels + i * view_values(grounding), observer);
    share(grounding, backend, pictures, count, buffers, observer);
    for (int i = 0; i < count; i++) {
        gp_grounding_picture *picture = &pictures[i];
        if (i > 0)
            picture->encoded = picture->step(picture->user, grounding->block_count, grounding->block_count);
        if (picture->encoded) take_maps(grounding, backend, buffers, i, picture->maps);
    }
}

void gp_grounding_share(const gp_grounding *grounding, gp_backend *backend, int count,
                        const gp_grounding_buffers *buffers) {
    share(grounding, backend, NULL, count, buffers, NULL);
}

static int64_t view_values(const gp_grounding *grounding) {
    return 3ll * grounding->config.image_size * grounding->config.image_size;
}

/** A rank's maps in buffers->gathered. */
static gp_grounding_maps gathered_maps(const gp_grounding *grounding, const gp_grounding_buffers *buffers,
                                       int rank) {
    const size_t bytes = maps_bytes(grounding);
    gp_arena arena = {.block = buffers->gathered + (size_t)rank * bytes, .capacity = bytes};
    gp_grounding_maps maps;
    gp_grounding_layout_maps(grounding, &arena, &maps);
    return maps;
}

/** Rank r encodes picture r, and all get all maps. `pictures` are rank 0's, whose first it encodes; NULL
 * elsewhere. */
static void share(const gp_grounding *grounding, gp_backend *backend, gp_grounding_picture *pictures,
                  int count, const gp_grounding_buffers *buffers, const gp_observer *observer) {
    gp_communicator *communicator = grounding->communicator;
    const int rank = communicator->rank;
    const float *own = buffers->pixels + rank * view_values(grounding);
    const gp_grounding_maps maps = gathered_maps(grounding, buffers, rank);
    communicator->ops->broadcast(communicator, buffers->pixels,
                                 (size_t)(count * view_values(grounding)) * sizeof(float), 0);
    if (rank < count) {
        bool whole = encode(grounding, backend, own, pictures, buffers, observer, &maps);
        if (pictures != NULL) pictures[0].encoded = whole;
    }
    communicator->ops->all_gather(communicator, buffers->gathered, maps_bytes(grounding));
}

static void take_maps(const gp_grounding *grounding, gp_backend *backend, const gp_grounding_buffers *buffers,
                      int rank, const gp_grounding_maps *maps) {
    const gp_grounding_maps gathered = gathered_maps(grounding, buffers, rank);
    const size_t cells = (size_t)gp_grounding_grid(grounding) * (size_t)gp_grounding_grid(grounding);
    const size_t width = (size_t)grounding->width;
    backend->ops->copy(backend, maps->embed, gathered.embed, cells * width * sizeof(float));
    backend->ops->copy(backend, maps->s0, gathered.s0, 16 * cells * (width / 8) * sizeof(float));
    backend->ops->copy(backend, maps->s1, gathered.s1, 4 * cells * (width / 4) * sizeof(float));
}

/** One view to its maps; false where `picture`, whose it is where it is not NULL, has its step end the work
 * early. */
static bool encode(const gp_grounding *grounding, gp_backend *backend, const float *pixels,
                   const gp_grounding_picture *picture, const gp_grounding_buffers *buffers,
                   const gp_observer *observer, const gp_grounding_maps *maps) {
    int image = grounding->config.image_size, side = grounding->side;
    int64_t cells = (int64_t)side * side, patch_stride = gp_operand_width(grounding->patch.weight.stride);
    backend->ops->patches(backend, &(gp_patches){.x = pixels,
                                                 .channels = 3,
                                                 .height = image,
                                                 .width = image,
                                                 .patch = PATCH,
                                                 .stride = PATCH_STRIDE,
                                                 .padding = PATCH_PADDING,
                                                 .y = buffers->patches,
                                                 .y_stride = patch_stride});
    backend->ops->linear(backend, &(gp_linear){.x = buffers->patches,
                                               .rows = cells,
                                               .x_stride = patch_stride,
                                               .weight = grounding->patch.weight,
                                               .bias = grounding->patch.bias,
                                               .residual = grounding->positions,
                                               .y = buffers->x});
    float *x = buffers->x, *next = buffers->next;
    for (int i = 0; i < grounding->block_count; i++) {
        const gp_hiera_block *block = &grounding->blocks[i];
        bool to_lateral = block->last && level_is_needed(grounding, block->stage);
        run_block(block, backend, buffers, side, x, next, to_lateral ? buffers->normed : NULL);
        if (block->pool) side /= 2;
        float *written = next;
        next = x;
        x = written;
        cells = (int64_t)side * side;
        if (block->last) {
            char name[32];
            snprintf(name, sizeof name, "hiera_stage%d", block->stage);
            gp_observe(observer, backend, name, x, 0, cells, block->width);
            bool summed = level_is_summed(grounding, block->stage);
            if (to_lateral)
                gp_apply_affine(backend, &grounding->lateral[block->stage], buffers->normed, cells,
                                GP_ACTIVATION_NONE, NULL, buffers->sums[block->stage],
                                summed ? NULL : buffers->fine[block->stage]);
        }
        if (picture != NULL && !picture->step(picture->user, i + 1, grounding->block_count)) return false;
    }
    run_neck(grounding, backend, buffers, observer, maps);
    return true;
}

/** y [side'², width] from x [side², width_in]; side' = ⌊side/2⌋ where the block pools. y_operand: NULL, or
 * the same again. */
static void run_block(const gp_hiera_block *block, gp_backend *backend, const gp_grounding_buffers *buffers,
                      int side, const float *x, float *y, gp_operand *y_operand) {
    const gp_ops *ops = backend->ops;
    int64_t cells_in = (int64_t)side * side,
            cells = block->pool ? (int64_t)(side / 2) * (side / 2) : cells_in;
    gp_apply_norm(backend, &block->norm1, x, cells_in, block->width_in, layer_norm_epsilon, NULL,
                  buffers->normed);
    if (block->pool) {
        gp_apply_affine(backend, &block->shortcut, buffers->normed, cells_in, GP_ACTIVATION_NONE, NULL,
                        buffers->shortcut, NULL);
        ops->max_pool(backend, &(gp_max_pool){buffers->shortcut, side, side, block->width, y});
        x = y;
    }
    gp_apply_affine(backend, &block->qkv, buffers->normed, cells_in, GP_ACTIVATION_NONE, NULL, NULL,
                    buffers->wide);
    int head_dim = block->width / block->heads;
    ops->window_attention(backend, &(gp_window_attention){.qkv = buffers->wide,
                                                          .padding = block->qkv.bias,
                                                          .height = side,
                                                          .width = side,
                                                          .window = block->window,
                                                          .pool = block->pool,
                                                          .heads = block->heads,
                                                          .head_dim = head_dim,
                                                          .scale = 1.0f / sqrtf((float)head_dim),
                                                          .y = buffers->attended});
    gp_apply_affine(backend, &block->out, buffers->attended, cells, GP_ACTIVATION_NONE, x, y, NULL);
    gp_apply_norm(backend, &block->norm2, y, cells, block->width, layer_norm_epsilon, NULL, buffers->normed);
    gp_apply_affine(backend, &block->fc1, buffers->normed, cells, GP_ACTIVATION_GELU, NULL, NULL,
                    buffers->wide);
    gp_apply_affine(backend, &block->fc2, buffers->wide, cells, GP_ACTIVATION_NONE, y, y, y_operand);
}

/** The levels to the three maps: only the level above the coarsest has something added from above. */
static void run_neck(const gp_grounding *grounding, gp_backend *backend, const gp_grounding_buffers *buffers,
                     const gp_observer *observer, const gp_grounding_maps *maps) {
    int coarsest = grounding->config.stage_count - 1, side = grounding->side >> coarsest,
        grid = gp_grounding_grid(grounding);
    int64_t cells = (int64_t)grid * grid;
    int width = grounding->width;
    if (coarsest - 1 <= 2)
        backend->ops->add_upsampled(backend, &(gp_add_upsampled){buffers->sums[coarsest], side, side, width,
                                                                 buffers->sums[coarsest - 1]});
    for (int level = 0; level < 2; level++)
        if (level_is_summed(grounding, level))
            backend->ops->to_operand(backend, &(gp_to_operand){buffers->sums[level],
                                                               (cells << (4 - 2 * level)) * width,
                                                               buffers->fine[level]});
    gp_apply_sum(backend, buffers->sums[2], grounding->no_mem_embed, cells, width, 1, maps->embed, NULL);
    gp_apply_affine(backend, &grounding->conv_s0, buffers->fine[0], 16 * cells, GP_ACTIVATION_NONE, NULL,
                    maps->s0, NULL);
    gp_apply_affine(backend, &grounding->conv_s1, buffers->fine[1], 4 * cells, GP_ACTIVATION_NONE, NULL,
                    maps->s1, NULL);
    gp_observe(observer, backend, "grounding_embed", maps->embed, 0, cells, width);
    gp_observe(observer, backend, "grounding_s0", maps->s0, 0, 16 * cells, width / 8);
    gp_observe(observer, backend, "grounding_s1", maps->s1, 0, 4 * cells, width / 4);
}
