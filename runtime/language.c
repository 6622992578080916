#include "runtime/language.h"

#include "kernels/base/memory.h"

#include <math.h>

enum { USUAL_RANK = 256 }; /* GeoPixel-7B's */

static gp_lora_linear bind_lora(gp_language *language, gp_binder *binder, int64_t out,
                                const gp_part *out_part, int64_t in, const gp_part *in_part, int layer,
                                const char *name);
static void bind_rope(gp_language *language, gp_binder *binder);
static gp_partial_lora lora_of(const gp_lora_linear *linear, const gp_language_buffers *buffers,
                               gp_operand *scratch);
static void attention(const gp_language *language, const gp_language_layer *layer, gp_kv_layer cache,
                      gp_backend *backend, const gp_language_buffers *buffers, int64_t rows,
                      const gp_sequence *sequences, int sequence_count, int decode);
static void feed_forward(const gp_language *language, const gp_language_layer *layer, gp_backend *backend,
                         const gp_language_buffers *buffers, int64_t rows, bool decode);
static const float *own_residual(const gp_language *language, const gp_language_buffers *buffers);
static void sum_over_ranks(const gp_language *language, const gp_language_buffers *buffers, int64_t rows);

bool gp_language_bind(gp_language *language, const gp_config *config, gp_binder *binder, gp_status *status) {
    const gp_language_config *c = &config->language;
    int64_t hidden = c->hidden_size, intermediate = c->intermediate_size;
    const gp_split_language part = gp_split_of(c, binder->split);
    language->config = *c;
    language->split = part.split;
    language->head_dim = c->hidden_size / c->num_attention_heads;
    language->kv_heads = part.kv_heads;
    language->group = part.group;
    language->intermediate = part.intermediate;
    language->logit_rows = part.logit_rows;
    language->positions = c->max_length;
    language->layers = gp_allocate_zeroed((size_t)c->num_hidden_layers, sizeof *language->layers);
    if (language->layers == NULL) return gp_fail(status, "no memory for %d layers", c->num_hidden_layers);
    binder->block = GP_BLOCK_LANGUAGE;
    language->embeddings =
        gp_bind_part(binder, c->vocab_size, &part.embeddings, hidden, NULL, "model.tok_embeddings.weight");
    language->output = gp_bind_part(binder, c->vocab_size, &part.logits, hidden, NULL, "output.weight");
    language->norm.weight = gp_bind_vector(binder, hidden, "model.norm.weight");
    int64_t packed = (int64_t)(c->num_attention_heads + 2 * c->num_key_value_heads) * language->head_dim;
    for (int i = 0; i < c->num_hidden_layers; i++) {
        gp_language_layer *layer = &language->layers[i];
        layer->attention_norm.weight =
            gp_bind_vector(binder, hidden, "model.layers.%d.attention_norm.weight", i);
        layer->ffn_norm.weight = gp_bind_vector(binder, hidden, "model.layers.%d.ffn_norm.weight", i);
        layer->wqkv = bind_lora(language, binder, packed, &part.qkv, hidden, NULL, i, "attention.wqkv");
        layer->wo = bind_lora(language, binder, hidden, NULL, hidden, &part.heads, i, "attention.wo");
        layer->w1 =
            bind_lora(language, binder, intermediate, &part.inner, hidden, NULL, i, "feed_forward.w1");
        layer->w3 =
            bind_lora(language, binder, intermediate, &part.inner, hidden, NULL, i, "feed_forward.w3");
        layer->w2 =
            bind_lora(language, binder, hidden, NULL, intermediate, &part.inner, i, "feed_forward.w2");
    }
    bind_rope(language, binder);
    return true;
}

void gp_language_free(gp_language *language) {
    gp_free(language->layers);
    language->layers = NULL;
}

/** W and its LoRA, cut alike: B's rows as W's, A's columns as W's. */
static gp_lora_linear bind_lora(gp_language *language, gp_binder *binder, int64_t out,
                                const gp_part *out_part, int64_t in, const gp_part *in_part, int layer,
                                const char *name) {
    gp_lora_linear linear;
    linear.weight =
        gp_bind_part(binder, out, out_part, in, in_part, "model.layers.%d.%s.weight", layer, name);
    binder->block = GP_BLOCK_PARTIAL_LORA;
    linear.a = gp_bind_part(binder, GP_ANY(USUAL_RANK), NULL, in, in_part,
                            "model.layers.%d.%s.Plora_A.weight", layer, name);
    int64_t rank = linear.a.data != NULL ? linear.a.rows : GP_ANY(USUAL_RANK);
    linear.b =
        gp_bind_part(binder, out, out_part, rank, NULL, "model.layers.%d.%s.Plora_B.weight", layer, name);
    binder->block = GP_BLOCK_LANGUAGE;
    if (linear.b.columns > language->rank) language->rank = linear.b.columns;
    return linear;
}

/**
 * cos and sin of position·theta^(−2i/d), rounded where the official code rounds: the inverse frequencies, the
 * positions and their product are f32. At position 4,000 an angle is off by up to 1e-4 that way, which an
 * exact table would not be.
 */
static void bind_rope(gp_language *language, gp_binder *binder) {
    int half = language->head_dim / 2;
    const gp_language_config *c = &language->config;
    float factor = c->rope_scaling_type == GP_ROPE_LINEAR ? c->rope_scaling_factor : 1.0f;
    size_t count = (size_t)language->positions * (size_t)half;
    float *cosine = gp_binder_derive(binder, count), *sine = gp_binder_derive(binder, count);
    for (int i = 0; i < half && cosine != NULL && sine != NULL; i++) {
        float exponent = (float)(2 * i) / (float)language->head_dim;
        float frequency = 1.0f / (float)pow((double)c->rope_theta, (double)exponent);
        for (int position = 0; position < language->positions; position++) {
            float angle = (float)position / factor * frequency;
            cosine[(size_t)position * (size_t)half + (size_t)i] = (float)cos((double)angle);
            sine[(size_t)position * (size_t)half + (size_t)i] = (float)sin((double)angle);
        }
    }
    language->cosine = gp_binder_place(binder, cosine, count);
    language->sine = gp_binder_place(binder, sine, count);
    gp_free(cosine);
    gp_free(sine);
}

void gp_language_layout(const gp_language *language, const gp_backend *backend, int64_t rows, gp_arena *arena,
                        gp_language_buffers *buffers) {
    const gp_language_config *c = &language->config;
    size_t n = (size_t)rows, hidden = (size_t)c->hidden_size, rank = (size_t)gp_operand_width(language->rank);
    size_t packed = (size_t)(language->kv_heads * (language->group + 2) * language->head_dim);
    size_t heads = (size_t)(language->kv_heads * language->group * language->head_dim);
    buffers->rows = rows;
    buffers->x = gp_arena_take(arena, n * hidden, sizeof(float));
    buffers->image_row = gp_arena_take(arena, n, 1);
    buffers->ids = gp_arena_take(arena, n, sizeof(int32_t));
    buffers->normed = gp_take_operands(arena, backend, n * hidden);
    buffers->lora1 = gp_take_operands(arena, backend, n * rank);
    buffers->lora2 = gp_take_operands(arena, backend, n * rank);
    size_t mark =
        gp_arena_mark(arena); /* attention's buffers, the feed-forward's and the final rows take turns */
    buffers->qkv = gp_take_operands(arena, backend, n * packed);
    buffers->q = gp_take_operands(arena, backend, n * heads);
    buffers->attended = gp_take_operands(arena, backend, n * heads);
    size_t end = gp_arena_mark(arena);
    gp_arena_rewind(arena, mark);
    buffers->hidden = gp_take_operands(arena, backend, n * (size_t)language->intermediate);
    end = gp_arena_mark(arena) > end ? gp_arena_mark(arena) : end;
    gp_arena_rewind(arena, mark);
    buffers->final = gp_arena_take(arena, n * hidden, sizeof(float));
    buffers->final_operand = gp_take_twin(arena, backend, buffers->final, n * hidden);
    if (gp_arena_mark(arena) < end)
        gp_arena_rewind(arena, end); /* what the caller takes next stands beside all */
}

void gp_language_forward(const gp_language *language, gp_backend *backend, const gp_language_buffers *buffers,
                         int64_t rows, const gp_sequence *sequences, int sequence_count,
                         const gp_kv_cache *cache, int decode) {
    for (int i = 0; i < language->config.num_hidden_layers; i++) {
        attention(language, &language->layers[i], gp_kv_cache_layer(cache, i), backend, buffers, rows,
                  sequences, sequence_count, decode);
        feed_forward(language, &language->layers[i], backend, buffers, rows, decode > 0);
    }
}

static void attention(const gp_language *language, const gp_language_layer *layer, gp_kv_layer cache,
                      gp_backend *backend, const gp_language_buffers *buffers, int64_t rows,
                      const gp_sequence *sequences, int sequence_count, int decode) {
    const gp_ops *ops = backend->ops;
    int hidden = language->config.hidden_size;
    float scale = 1.0f / sqrtf((float)language->head_dim);
    /* Decoded rows are text: no LoRA for them. */
    gp_partial_lora qkv_lora = lora_of(&layer->wqkv, buffers, buffers->lora1);
    gp_partial_lora out_lora = lora_of(&layer->wo, buffers, buffers->lora1);
    gp_apply_norm(backend, &layer->attention_norm, buffers->x, rows, hidden, language->config.rms_norm_eps,
                  NULL, buffers->normed);
    gp_linear qkv = {.x = buffers->normed, .rows = rows, .weight = layer->wqkv.weight};
    if (decode > 0) {
        qkv.decode = true;
        qkv.y_operand = buffers->qkv;
        ops->linear(backend, &qkv);
        ops->decode_attention(backend, &(gp_decode_attention){.qkv = buffers->qkv,
                                                              .sequences = sequences,
                                                              .sequence_count = sequence_count,
                                                              .positions = decode,
                                                              .group = language->group,
                                                              .cosine = language->cosine,
                                                              .sine = language->sine,
                                                              .cache = cache,
                                                              .scale = scale,
                                                              .y = buffers->attended});
    } else {
        qkv.lora = &qkv_lora;
        qkv.rope = &(gp_rope_append){.qkv = buffers->qkv,
                                     .sequences = sequences,
                                     .sequence_count = sequence_count,
                                     .group = language->group,
                                     .cosine = language->cosine,
                                     .sine = language->sine,
                                     .cache = cache,
                                     .q = buffers->q};
        ops->linear(backend, &qkv);
        ops->paged_attention(backend, &(gp_paged_attention){.q = buffers->q,
                                                            .sequences = sequences,
                                                            .sequence_count = sequence_count,
                                                            .group = language->group,
                                                            .cache = cache,
                                                            .scale = scale,
                                                            .y = buffers->attended});
    }
    ops->linear(backend, &(gp_linear){.x = buffers->attended,
                                      .rows = rows,
                                      .weight = layer->wo.weight,
                                      .lora = decode > 0 ? NULL : &out_lora,
                                      .residual = own_residual(language, buffers),
                                      .decode = decode > 0,
                                      .y = buffers->x});
    sum_over_ranks(language, buffers, rows);
}

static void feed_forward(const gp_language *language, const gp_language_layer *layer, gp_backend *backend,
                         const gp_language_buffers *buffers, int64_t rows, bool decode) {
    const gp_ops *ops = backend->ops;
    gp_partial_lora lora1 = lora_of(&layer->w1, buffers, buffers->lora1);
    gp_partial_lora lora3 = lora_of(&layer->w3, buffers, buffers->lora2);
    gp_partial_lora lora2 = lora_of(&layer->w2, buffers, buffers->lora1);
    gp_apply_norm(backend, &layer->ffn_norm, buffers->x, rows, language->config.hidden_size,
                  language->config.rms_norm_eps, NULL, buffers->normed);
    ops->linear_swiglu(backend, &(gp_linear_swiglu){.x = buffers->normed,
                                                    .rows = rows,
                                                    .w1 = layer->w1.weight,
                                                    .w3 = layer->w3.weight,
                                                    .lora1 = decode ? NULL : &lora1,
                                                    .lora3 = decode ? NULL : &lora3,
                                                    .decode = decode,
                                                    .y = buffers->hidden});
    ops->linear(backend, &(gp_linear){.x = buffers->hidden,
                                      .rows = rows,
                                      .weight = layer->w2.weight,
                                      .lora = decode ? NULL : &lora2,
                                      .residual = own_residual(language, buffers),
                                      .decode = decode,
                                      .y = buffers->x});
    sum_over_ranks(language, buffers, rows);
}

/** The residual stream goes into the sum over ranks once, by rank 0. */
static const float *own_residual(const gp_language *language, const gp_language_buffers *buffers) {
    return language->split.rank == 0 ? buffers->x : NULL;
}

/** x of each rank is what its heads, or its inner columns, add to the residual stream. */
static void sum_over_ranks(const gp_language *language, const gp_language_buffers *buffers, int64_t rows) {
    gp_communicator *communicator = language->communicator;
    if (communicator != NULL)
        communicator->ops->all_reduce(communicator, buffers->x,
                                      (size_t)rows * (size_t)language->config.hidden_size);
}

void gp_language_share_rows(const gp_language *language, const gp_language_buffers *buffers, int64_t rows,
                            bool decode) {
    gp_communicator *communicator = language->communicator;
    size_t hidden = (size_t)language->config.hidden_size;
    communicator->ops->group_begin(communicator);
    communicator->ops->broadcast(communicator, buffers->x, (size_t)rows * hidden * sizeof(float), 0);
    if (!decode) communicator->ops->broadcast(communicator, buffers->image_row, (size_t)rows, 0);
    communicator->ops->group_end(communicator);
}

static gp_partial_lora lora_of(const gp_lora_linear *linear, const gp_language_buffers *buffers,
                               gp_operand *scratch) {
    return (gp_partial_lora){linear->a, linear->b, buffers->image_row, scratch};
}

void gp_language_final(const gp_language *language, gp_backend *backend, const gp_language_buffers *buffers,
                       int64_t first_row, int64_t rows) {
    int hidden = language->config.hidden_size;
    gp_apply_norm(backend, &language->norm, buffers->x + first_row * hidden, rows, hidden,
                  language->config.rms_norm_eps, buffers->final, buffers->final_operand);
}

void gp_language_logits(const gp_language *language, gp_backend *backend, const gp_language_buffers *buffers,
                        int64_t rows, bool decode, float *logits) {
    gp_communicator *communicator = language->communicator;
    const int64_t own = language->logit_rows, stride = gp_language_logit_stride(language);
    backend->ops->linear(backend, &(gp_linear){.x = buffers->final_operand,
                                               .rows = rows,
                                               .weight = language->output,
                                               .decode = decode,
                                               .y = logits + language->split.rank * own,
                                               .y_stride = stride});
    if (communicator == NULL) return;
    communicator->ops->group_begin(communicator);
    for (int64_t row = 0; row < rows; row++) // [size, logit_rows] each
        communicator->ops->all_gather(communicator, logits + row * stride, (size_t)own * sizeof *logits);
    communicator->ops->group_end(communicator);
}
