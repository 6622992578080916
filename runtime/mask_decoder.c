#include "runtime/mask_decoder.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define DECODER "model.visual_model.sam_mask_decoder"
#define PROMPT  "model.visual_model.sam_prompt_encoder"

enum { HEADS = 8 };

static const float layer_norm_epsilon = 1e-5f, upscale_norm_epsilon = 1e-6f;
static const float stability_delta = 0.05f, stability_threshold = 0.98f;

static gp_decoder_attention bind_attention(gp_binder *binder, int64_t width, int64_t inner, const char *name);
static void bind_mlp(gp_binder *binder, gp_affine layers[3], int64_t width, int64_t out, const char *name);
static void bind_tokens(gp_mask_decoder *decoder, gp_binder *binder);
static void bind_positions(gp_mask_decoder *decoder, gp_binder *binder);
static gp_matrix bind_deconvolution(gp_binder *binder, int64_t in, int64_t out, const char *name);
static void two_way_layer(const gp_mask_decoder *decoder, gp_backend *backend, const gp_decoder_layer *layer,
                          bool first, int masks, const gp_mask_buffers *buffers);
static void tokens_attend(const gp_mask_decoder *decoder, gp_backend *backend,
                          const gp_decoder_attention *attention, const gp_norm_weights *norm, int masks,
                          const gp_mask_buffers *buffers);
static void attend(gp_backend *backend, const gp_decoder_attention *attention, int masks,
                   const gp_operand *query, int64_t queries, const gp_operand *key, const gp_operand *value,
                   int64_t keys, const float *residual, const gp_mask_buffers *buffers, float *y);
static void heads(const gp_mask_decoder *decoder, gp_backend *backend, int masks,
                  const gp_mask_buffers *buffers);
static void upscale(const gp_mask_decoder *decoder, gp_backend *backend, const gp_mask_part *part, int first,
                    const gp_mask_buffers *buffers);
static void observe_part(const gp_mask_decoder *decoder, gp_backend *backend, const gp_mask_part *part,
                         int first, const gp_mask_buffers *buffers, const gp_observer *observer);

bool gp_mask_decoder_bind(gp_mask_decoder *decoder, const gp_config *config, gp_binder *binder) {
    int64_t width = config->language.out_dim, language = config->language.hidden_size;
    decoder->width = (int)width;
    decoder->language_width = (int)language;
    decoder->grid = config->grounding.image_size / 16;
    binder->block = GP_BLOCK_TEXT_PROJECTOR;
    decoder->text1 = gp_bind_affine(binder, language, language, "model.text_hidden_fcs.0.0");
    decoder->text2 = gp_bind_affine(binder, width, language, "model.text_hidden_fcs.0.2");
    binder->block = GP_BLOCK_MASK_DECODER;
    bind_tokens(decoder, binder);
    bind_positions(decoder, binder);
    for (int i = 0; i < GP_DECODER_LAYERS; i++) {
        gp_decoder_layer *layer = &decoder->layers[i];
        char name[128];
#define PART(part) (snprintf(name, sizeof name, DECODER ".transformer.layers.%d." part, i), name)
        layer->self = bind_attention(binder, width, width, PART("self_attn"));
        layer->token_to_image = bind_attention(binder, width, width / 2, PART("cross_attn_token_to_image"));
        layer->image_to_token = bind_attention(binder, width, width / 2, PART("cross_attn_image_to_token"));
        layer->norm1 = gp_bind_norm(binder, width, PART("norm1"));
        layer->norm2 = gp_bind_norm(binder, width, PART("norm2"));
        layer->norm3 = gp_bind_norm(binder, width, PART("norm3"));
        layer->norm4 = gp_bind_norm(binder, width, PART("norm4"));
        layer->fc1 = gp_bind_affine(binder, GP_ANY(8 * width), width, PART("mlp.layers.0"));
        layer->fc2 = gp_bind_affine(
            binder, width, layer->fc1.weight.data != NULL ? layer->fc1.weight.rows : GP_ANY(8 * width),
            PART("mlp.layers.1"));
#undef PART
    }
    decoder->final_attention =
        bind_attention(binder, width, width / 2, DECODER ".transformer.final_attn_token_to_image");
    decoder->final_norm = gp_bind_norm(binder, width, DECODER ".transformer.norm_final_attn");
    decoder->upscale1 = bind_deconvolution(binder, width, width / 4, DECODER ".output_upscaling.0.weight");
    if (binder->backend != NULL && binder->backend->operand != GP_DTYPE_F32 && width > GP_MASK_CHANNELS_MOST)
        gp_binder_refuse(binder, "maps of %lld channels, of which a GPU takes %d at most", (long long)width,
                         GP_MASK_CHANNELS_MOST);
    decoder->upscale_bias1 = gp_bind_vector(binder, width / 4, DECODER ".output_upscaling.0.bias");
    decoder->upscale_norm = gp_bind_norm(binder, width / 4, DECODER ".output_upscaling.1");
    decoder->upscale2 =
        bind_deconvolution(binder, width / 4, width / 8, DECODER ".output_upscaling.3.weight");
    decoder->upscale_bias2 = gp_bind_vector(binder, width / 8, DECODER ".output_upscaling.3.bias");
    for (int i = 0; i < GP_MASK_TOKENS; i++) {
        char name[128];
        snprintf(name, sizeof name, DECODER ".output_hypernetworks_mlps.%d", i);
        bind_mlp(binder, decoder->hyper[i], width, width / 8, name);
    }
    bind_mlp(binder, decoder->iou, width, GP_MASK_TOKENS, DECODER ".iou_prediction_head");
    return true;
}

static gp_decoder_attention bind_attention(gp_binder *binder, int64_t width, int64_t inner,
                                           const char *name) {
    gp_decoder_attention attention;
    gp_affine *const projections[3] = {&attention.q, &attention.k, &attention.v};
    char part[160];
    for (int i = 0; i < 3; i++) {
        snprintf(part, sizeof part, "%s.%c_proj", name, "qkv"[i]);
        *projections[i] = gp_bind_affine(binder, inner, width, part);
    }
    snprintf(part, sizeof part, "%s.out_proj", name);
    attention.out = gp_bind_affine(binder, width, inner, part);
    return attention;
}

/** Three layers; the inner widths are the tensors' own, at most `width`. */
static void bind_mlp(gp_binder *binder, gp_affine layers[3], int64_t width, int64_t out, const char *name) {
    for (int i = 0; i < 3; i++) {
        char part[160];
        snprintf(part, sizeof part, "%s.layers.%d", name, i);
        layers[i] = gp_bind_affine(binder, i < 2 ? width : out, width, part);
    }
}

static void bind_tokens(gp_mask_decoder *decoder, gp_binder *binder) {
    int64_t width = decoder->width, count = GP_DECODER_TOKENS - 1;
    static const struct {
        const char *name;
        int first, count;
    } parts[] = {{DECODER ".obj_score_token.weight", 0, 1},
                 {DECODER ".iou_token.weight", 1, 1},
                 {DECODER ".mask_tokens.weight", 2, GP_MASK_TOKENS}};
    float *own = gp_binder_derive(binder, (size_t)(count * width));
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        float *part = gp_bind_host(binder, 2, (int64_t[]){parts[i].count, width}, "%s", parts[i].name);
        if (part != NULL && own != NULL)
            memcpy(own + parts[i].first * width, part, (size_t)(parts[i].count * width) * sizeof *own);
        gp_free(part);
    }
    decoder->own_tokens = gp_binder_place(binder, own, (size_t)(count * width));
    gp_free(own);
    float *embed = gp_bind_host(binder, 2, (int64_t[]){1, width}, PROMPT ".no_mask_embed.weight");
    decoder->no_mask_embed = gp_binder_place(binder, embed, (size_t)width);
    gp_free(embed);
}

/** [sin | cos] of 2π·((2·centre − 1)·G), centre = (x, y) of a cell in 0 … 1, in f32 as the official code. */
static void bind_positions(gp_mask_decoder *decoder, gp_binder *binder) {
    int64_t half = decoder->width / 2, grid = decoder->grid;
    float *gaussian =
        gp_bind_host(binder, 2, (int64_t[]){2, half}, PROMPT ".pe_layer.positional_encoding_gaussian_matrix");
    float *rows = gp_binder_derive(binder, (size_t)(grid * grid * 2 * half));
    for (int64_t cell = 0; gaussian != NULL && rows != NULL && cell < grid * grid; cell++) {
        float x = 2 * (((float)(cell % grid) + 0.5f) / (float)grid) - 1;
        float y = 2 * (((float)(cell / grid) + 0.5f) / (float)grid) - 1;
        for (int64_t i = 0; i < half; i++) {
            float angle = 6.28318530717958647692f * (x * gaussian[i] + y * gaussian[half + i]);
            rows[cell * 2 * half + i] = (float)sin((double)angle);
            rows[cell * 2 * half + half + i] = (float)cos((double)angle);
        }
    }
    decoder->positions = gp_binder_place(binder, rows, (size_t)(grid * grid * 2 * half));
    gp_free(gaussian);
    gp_free(rows);
}

/** [in, out, 2, 2] as [(2·dy + dx)·out + o, in] in f32. */
static gp_matrix bind_deconvolution(gp_binder *binder, int64_t in, int64_t out, const char *name) {
    float *kernel = gp_bind_host(binder, 4, (int64_t[]){in, out, 2, 2}, "%s", name);
    float *rows = gp_binder_derive(binder, (size_t)(4 * in * out));
    if (kernel != NULL && rows != NULL) {
        for (int64_t i = 0; i < in; i++)
            for (int64_t o = 0; o < out; o++)
                for (int64_t part = 0; part < 4; part++)
                    rows[(part * out + o) * in + i] = kernel[(i * out + o) * 4 + part];
    }
    gp_free(kernel);
    return gp_binder_place_matrix(binder, rows, 4 * out, in);
}

void gp_mask_layout(const gp_mask_decoder *decoder, const gp_backend *backend, int masks, gp_arena *arena,
                    gp_mask_buffers *buffers) {
    size_t n = (size_t)masks, width = (size_t)decoder->width,
           cells = (size_t)decoder->grid * (size_t)decoder->grid;
    size_t token_values = n * GP_DECODER_TOKENS * width, image_values = n * cells * width, mlp = 0;
    for (int i = 0; i < GP_DECODER_LAYERS; i++)
        if ((size_t)decoder->layers[i].fc1.weight.rows > mlp)
            mlp = (size_t)decoder->layers[i].fc1.weight.rows;
    buffers->masks = masks;
    float **const token_rows[] = {&buffers->point, &buffers->tokens, &buffers->token_out};
    for (size_t i = 0; i < sizeof token_rows / sizeof *token_rows; i++)
        *token_rows[i] = gp_arena_take(arena, token_values, sizeof(float));
    buffers->token_value = gp_take_twin(arena, backend, buffers->tokens, token_values);
    buffers->token_query = gp_take_operands(arena, backend, token_values);
    buffers->hidden = gp_take_operands(arena, backend, n * (size_t)decoder->language_width);
    buffers->text = gp_take_operands(arena, backend, n * (size_t)decoder->language_width);
    buffers->prompts = gp_arena_take(arena, n * width, sizeof(float));
    buffers->mlp = gp_take_operands(arena, backend, n * GP_DECODER_TOKENS * mlp);
    buffers->hyper_rows[0] = gp_take_operands(arena, backend, n * width);
    buffers->hyper_rows[1] = gp_take_operands(arena, backend, n * width);
    buffers->hyper = gp_arena_take(arena, n * GP_MASK_TOKENS * (width / 8), sizeof(float));
    buffers->iou = gp_arena_take(arena, n * GP_MASK_TOKENS, sizeof(float));
    buffers->stability = gp_arena_take(arena, n, sizeof(float));
    buffers->chosen = gp_arena_take(arena, n, sizeof(int32_t));
    buffers->logits = gp_arena_take(arena, n * GP_MASK_TOKENS * 16 * cells, sizeof(float));
    buffers->image = gp_arena_take(arena, image_values, sizeof(float));
    buffers->image_value = gp_take_twin(arena, backend, buffers->image, image_values);
    size_t mark = gp_arena_mark(arena);
    buffers->image_out = gp_arena_take(arena, image_values, sizeof(float));
    buffers->image_query = gp_take_operands(arena, backend, image_values);
    gp_operand **const projections[] = {&buffers->q, &buffers->k, &buffers->v, &buffers->attended};
    for (size_t i = 0; i < sizeof projections / sizeof *projections; i++) /* at most as wide as the map */
        *projections[i] =
            gp_take_operands(arena, backend, image_values > token_values ? image_values : token_values);
    gp_arena_rewind(arena, mark); /* the transformer is done when up-scaling begins */
    buffers->upscale_scratch =
        gp_arena_take(arena, backend->ops->mask_upsample_scratch(masks, decoder->grid, decoder->width), 1);
}

void gp_mask_decode(const gp_mask_decoder *decoder, gp_backend *backend, const gp_mask_part *parts, int count,
                    const gp_mask_buffers *buffers, const gp_observer *observer) {
    const gp_ops *ops = backend->ops;
    int64_t width = decoder->width, cells = (int64_t)decoder->grid * decoder->grid;
    size_t row_bytes = (size_t)width * sizeof(float);
    int masks = 0;
    for (int i = 0; i < count; i++) { // image [masks, grid², width]
        const gp_mask_part *part = &parts[i];
        int64_t values = (int64_t)part->masks * decoder->language_width,
                first = (int64_t)masks * decoder->language_width;
        ops->to_operand(
            backend, &(gp_to_operand){part->hidden, values, gp_operand_at(backend, buffers->hidden, first)});
        for (int end = masks + part->masks; masks < end; masks++)
            gp_apply_sum(backend, part->maps->embed, decoder->no_mask_embed, cells, width, 1,
                         buffers->image + masks * cells * width,
                         gp_operand_at(backend, buffers->image_value, masks * cells * width));
    }
    int64_t token_rows = (int64_t)masks * GP_DECODER_TOKENS;
    gp_apply_affine(backend, &decoder->text1, buffers->hidden, masks, GP_ACTIVATION_RELU, NULL, NULL,
                    buffers->text);
    gp_apply_affine(backend, &decoder->text2, buffers->text, masks, GP_ACTIVATION_NONE, NULL,
                    buffers->prompts, NULL);
    for (int i = 0; i < masks; i++) { // point [masks, 7, width]
        float *point = buffers->point + i * GP_DECODER_TOKENS * width;
        ops->copy(backend, point, decoder->own_tokens, (GP_DECODER_TOKENS - 1) * row_bytes);
        ops->copy(backend, point + (GP_DECODER_TOKENS - 1) * width, buffers->prompts + i * width, row_bytes);
    }
    ops->copy(backend, buffers->tokens, buffers->point, (size_t)token_rows * row_bytes);
    ops->to_operand(backend, &(gp_to_operand){buffers->tokens, token_rows * width, buffers->token_value});
    for (int i = 0; i < GP_DECODER_LAYERS; i++)
        two_way_layer(decoder, backend, &decoder->layers[i], i == 0, masks, buffers);
    tokens_attend(decoder, backend, &decoder->final_attention, &decoder->final_norm, masks, buffers);
    heads(decoder, backend, masks, buffers);
    for (int i = 0, first = 0; i < count; first += parts[i++].masks)
        upscale(decoder, backend, &parts[i], first, buffers);
    ops->choose_masks(backend, &(gp_choose_masks){.logits = buffers->logits,
                                                  .iou = buffers->iou,
                                                  .masks = masks,
                                                  .area = 16 * cells,
                                                  .delta = stability_delta,
                                                  .threshold = stability_threshold,
                                                  .stability = buffers->stability,
                                                  .chosen = buffers->chosen});
    for (int i = 0, first = 0; i < count; first += parts[i++].masks)
        observe_part(decoder, backend, &parts[i], first, buffers, observer);
}

/** What the batch's masks from `first` on, those of the part, came of. */
static void observe_part(const gp_mask_decoder *decoder, gp_backend *backend, const gp_mask_part *part,
                         int first, const gp_mask_buffers *buffers, const gp_observer *observer) {
    int64_t width = decoder->width, cells = (int64_t)decoder->grid * decoder->grid, side = 4 * decoder->grid;
    int64_t mask_rows = GP_MASK_TOKENS * side;
    gp_observe(observer, backend, "seg_embeddings", buffers->prompts + first * width, part->first,
               part->masks, width);
    gp_observe(observer, backend, "decoder_tokens", buffers->tokens + first * GP_DECODER_TOKENS * width,
               (int64_t)part->first * GP_DECODER_TOKENS, (int64_t)part->masks * GP_DECODER_TOKENS, width);
    if (part->first == 0)
        gp_observe(observer, backend, "decoder_image", buffers->image + first * cells * width, 0, cells,
                   width);
    gp_observe(observer, backend, "all_mask_logits", buffers->logits + first * mask_rows * side,
               part->first * mask_rows, part->masks * mask_rows, side);
    gp_observe(observer, backend, "iou", buffers->iou + (int64_t)first * GP_MASK_TOKENS, part->first,
               part->masks, GP_MASK_TOKENS);
}

/** One layer of the two-way transformer, tokens and image in place. */
static void two_way_layer(const gp_mask_decoder *decoder, gp_backend *backend, const gp_decoder_layer *layer,
                          bool first, int masks, const gp_mask_buffers *buffers) {
    int64_t width = decoder->width, tokens = GP_DECODER_TOKENS,
            cells = (int64_t)decoder->grid * decoder->grid;
    int64_t token_rows = masks * tokens, image_rows = masks * cells;
    const gp_operand *query = buffers->token_value;
    if (!first) {
        gp_apply_sum(backend, buffers->tokens, buffers->point, token_rows, width, token_rows, NULL,
                     buffers->token_query);
        query = buffers->token_query;
    }
    attend(backend, &layer->self, masks, query, tokens, query, buffers->token_value, tokens,
           first ? NULL : buffers->tokens, buffers, buffers->token_out);
    gp_apply_norm(backend, &layer->norm1, buffers->token_out, token_rows, width, layer_norm_epsilon,
                  buffers->tokens, buffers->token_value);

    tokens_attend(decoder, backend, &layer->token_to_image, &layer->norm2, masks, buffers);

    gp_apply_affine(backend, &layer->fc1, buffers->token_value, token_rows, GP_ACTIVATION_RELU, NULL, NULL,
                    buffers->mlp);
    gp_apply_affine(backend, &layer->fc2, buffers->mlp, token_rows, GP_ACTIVATION_NONE, buffers->tokens,
                    buffers->tokens, NULL);
    gp_apply_norm(backend, &layer->norm3, buffers->tokens, token_rows, width, layer_norm_epsilon,
                  buffers->tokens, buffers->token_value);

    gp_apply_sum(backend, buffers->tokens, buffers->point, token_rows, width, token_rows, NULL,
                 buffers->token_query);
    gp_apply_sum(backend, buffers->image, decoder->positions, image_rows, width, cells, NULL,
                 buffers->image_query);
    attend(backend, &layer->image_to_token, masks, buffers->image_query, cells, buffers->token_query,
           buffers->token_value, tokens, buffers->image, buffers, buffers->image_out);
    gp_apply_norm(backend, &layer->norm4, buffers->image_out, image_rows, width, layer_norm_epsilon,
                  buffers->image, buffers->image_value);
}

/** tokens = norm(tokens + attention of (tokens + point) to (image + position; image)). */
static void tokens_attend(const gp_mask_decoder *decoder, gp_backend *backend,
                          const gp_decoder_attention *attention, const gp_norm_weights *norm, int masks,
                          const gp_mask_buffers *buffers) {
    int64_t width = decoder->width, cells = (int64_t)decoder->grid * decoder->grid;
    int64_t token_rows = (int64_t)masks * GP_DECODER_TOKENS;
    gp_apply_sum(backend, buffers->tokens, buffers->point, token_rows, width, token_rows, NULL,
                 buffers->token_query);
    gp_apply_sum(backend, buffers->image, decoder->positions, masks * cells, width, cells, NULL,
                 buffers->image_query);
    attend(backend, attention, masks, buffers->token_query, GP_DECODER_TOKENS, buffers->image_query,
           buffers->image_value, cells, buffers->tokens, buffers, buffers->token_out);
    gp_apply_norm(backend, norm, buffers->token_out, token_rows, width, layer_norm_epsilon, buffers->tokens,
                  buffers->token_value);
}

/** y = out(softmax(q kᵀ/√d) v) + residual, `masks` sequences of `queries` rows against `keys` rows. */
static void attend(gp_backend *backend, const gp_decoder_attention *attention, int masks,
                   const gp_operand *query, int64_t queries, const gp_operand *key, const gp_operand *value,
                   int64_t keys, const float *residual, const gp_mask_buffers *buffers, float *y) {
    int64_t inner = attention->q.weight.rows, head_dim = inner / HEADS;
    gp_apply_affine(backend, &attention->q, query, masks * queries, GP_ACTIVATION_NONE, NULL, NULL,
                    buffers->q);
    gp_apply_affine(backend, &attention->k, key, masks * keys, GP_ACTIVATION_NONE, NULL, NULL, buffers->k);
    gp_apply_affine(backend, &attention->v, value, masks * keys, GP_ACTIVATION_NONE, NULL, NULL, buffers->v);
    backend->ops->attention(backend, &(gp_attention){.q = buffers->q,
                                                     .k = buffers->k,
                                                     .v = buffers->v,
                                                     .q_stride = inner,
                                                     .kv_stride = inner,
                                                     .sequences = masks,
                                                     .queries = queries,
                                                     .keys = keys,
                                                     .heads = HEADS,
                                                     .head_dim = (int)head_dim,
                                                     .scale = 1.0f / sqrtf((float)head_dim),
                                                     .y = buffers->attended,
                                                     .y_stride = inner});
    gp_apply_affine(backend, &attention->out, buffers->attended, masks * queries, GP_ACTIVATION_NONE,
                    residual, y, NULL);
}

/** Three linears with ReLU between, from token `token` of each mask; the last activation is `activation`, and
 * its result f32. */
static void token_mlp(const gp_mask_decoder *decoder, gp_backend *backend, const gp_affine layers[3],
                      int token, gp_activation activation, int masks, const gp_mask_buffers *buffers,
                      float *y, int64_t y_stride) {
    int64_t width = decoder->width;
    const gp_operand *first = gp_operand_at(backend, buffers->token_value, token * width);
    for (int i = 0; i < 3; i++)
        backend->ops->linear(backend, &(gp_linear){.x = i == 0 ? first : buffers->hyper_rows[i - 1],
                                                   .rows = masks,
                                                   .x_stride = i == 0 ? GP_DECODER_TOKENS * width : width,
                                                   .weight = layers[i].weight,
                                                   .bias = layers[i].bias,
                                                   .activation = i < 2 ? GP_ACTIVATION_RELU : activation,
                                                   .y = i < 2 ? NULL : y,
                                                   .y_operand = i < 2 ? buffers->hyper_rows[i] : NULL,
                                                   .y_stride = i < 2 ? width : y_stride});
}

/** Hypernetworks and predicted IoU: hyper [masks, 4, width/8], iou [masks, 4]. */
static void heads(const gp_mask_decoder *decoder, gp_backend *backend, int masks,
                  const gp_mask_buffers *buffers) {
    int64_t channels = decoder->width / 8;
    for (int i = 0; i < GP_MASK_TOKENS; i++)
        token_mlp(decoder, backend, decoder->hyper[i], 2 + i, GP_ACTIVATION_NONE, masks, buffers,
                  buffers->hyper + i * channels, GP_MASK_TOKENS * channels);
    token_mlp(decoder, backend, decoder->iou, 1, GP_ACTIVATION_SIGMOID, masks, buffers, buffers->iou,
              GP_MASK_TOKENS);
}

/** Logits [masks, 4, (4·grid)²] of a part, whose masks are the batch's from `first` on. */
static void upscale(const gp_mask_decoder *decoder, gp_backend *backend, const gp_mask_part *part, int first,
                    const gp_mask_buffers *buffers) {
    int64_t width = decoder->width, cells = (int64_t)decoder->grid * decoder->grid;
    backend->ops->mask_upsample(
        backend, &(gp_mask_upsample){.x = gp_operand_at(backend, buffers->image_value, first * cells * width),
                                     .masks = part->masks,
                                     .grid = decoder->grid,
                                     .channels = decoder->width,
                                     .weight1 = decoder->upscale1,
                                     .weight2 = decoder->upscale2,
                                     .bias1 = decoder->upscale_bias1,
                                     .bias2 = decoder->upscale_bias2,
                                     .skip1 = part->maps->s1,
                                     .skip0 = part->maps->s0,
                                     .norm_weight = decoder->upscale_norm.weight,
                                     .norm_bias = decoder->upscale_norm.bias,
                                     .epsilon = upscale_norm_epsilon,
                                     .hyper = buffers->hyper + first * GP_MASK_TOKENS * (width / 8),
                                     .scratch = buffers->upscale_scratch,
                                     .logits = buffers->logits + first * GP_MASK_TOKENS * 16 * cells});
}
