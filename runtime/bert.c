#include "runtime/bert.h"

#include "runtime/layers.h"
#include "runtime/wordpiece.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct bert_layer {
    gp_affine q, k, v, out, up, down;
    gp_norm_weights attention_norm, norm;
} bert_layer;

/** Backend memory for a text of as many tokens as the model has positions. */
typedef struct bert_buffers {
    int32_t *ids;
    float *x;              /* [tokens, hidden] the residual stream */
    gp_operand *x_operand; /* the same for products */
    gp_operand *qkv;       /* [tokens, 3, hidden] */
    gp_operand *attended;  /* [tokens, hidden] */
    gp_operand *inner;     /* [tokens, intermediate] */
} bert_buffers;

struct gp_bert {
    gp_bert_config config;
    gp_wordpiece *wordpiece;
    gp_backend *backend;
    gp_checkpoint *checkpoint;
    gp_matrix words;        /* [vocabulary, hidden] */
    const float *positions; /* [positions, hidden], the embedding of the first type of token added */
    gp_norm_weights norm;
    bert_layer *layers;
    gp_arena arena;
    bert_buffers buffers;
    int32_t *ids;  /* [positions] */
    float *states; /* [positions, hidden] of a text, in host memory */
    void **owned, **owned_host;
    size_t owned_count, owned_host_count;
};

/** What names of tensors are made of. */
typedef struct binding {
    gp_binder binder;
    const char *prefix; /* "bert." or "" */
} binding;

static bool bind(gp_bert *bert, const char *folder, gp_status *status);
static void bind_embeddings(gp_bert *bert, binding *from);
static void bind_layer(gp_bert *bert, binding *from, int index);
static bool take_buffers(gp_bert *bert, gp_status *status);
static void encode(gp_bert *bert, int tokens);
static void encode_layer(gp_bert *bert, const bert_layer *layer, int tokens);

bool gp_bert_open(const char *folder, int threads, gp_bert **bert, gp_status *status) {
    gp_bert *new = gp_allocate_zeroed(1, sizeof *new);
    *bert = NULL;
    if (new == NULL) return gp_fail(status, "%s: no memory for a BERT", folder);
    bool done = gp_bert_config_read(folder, &new->config, status) &&
                gp_wordpiece_open(folder, &new->config, &new->wordpiece, status) &&
                gp_checkpoint_open(folder, &new->checkpoint, status) &&
                gp_backend_open_cpu(threads, &new->backend, status) && bind(new, folder, status) &&
                take_buffers(new, status);
    if (!done) {
        gp_bert_close(new);
        return false;
    }
    *bert = new;
    return true;
}

int gp_bert_hidden(const gp_bert *bert) {
    return bert->config.hidden_size;
}

void gp_bert_close(gp_bert *bert) {
    if (bert == NULL) return;
    for (size_t i = 0; i < bert->owned_count; i++) bert->backend->ops->release(bert->backend, bert->owned[i]);
    for (size_t i = 0; i < bert->owned_host_count; i++) gp_free(bert->owned_host[i]);
    gp_free(bert->owned);
    gp_free(bert->owned_host);
    if (bert->arena.block != NULL) bert->backend->ops->release(bert->backend, bert->arena.block);
    gp_free(bert->layers);
    gp_free(bert->ids);
    gp_free(bert->states);
    gp_backend_close(bert->backend);
    gp_checkpoint_close(bert->checkpoint);
    gp_wordpiece_close(bert->wordpiece);
    gp_free(bert);
}

/* ---- weights ---- */

static bool bind(gp_bert *bert, const char *folder, gp_status *status) {
    binding from = {.binder = {.checkpoint = bert->checkpoint, .backend = bert->backend}, .prefix = ""};
    if (gp_checkpoint_find(bert->checkpoint, "bert.embeddings.word_embeddings.weight") != NULL)
        from.prefix = "bert.";
    bert->layers = gp_allocate_zeroed((size_t)bert->config.num_hidden_layers, sizeof *bert->layers);
    if (bert->layers == NULL)
        return gp_fail(status, "%s: no memory for %d layers", folder, bert->config.num_hidden_layers);
    bind_embeddings(bert, &from);
    for (int i = 0; i < bert->config.num_hidden_layers; i++) bind_layer(bert, &from, i);
    gp_status unexpected = {0};
    bert->backend->ops->end_placing(bert->backend);
    bool done = gp_binder_finish(&from.binder, folder, &unexpected, status);
    gp_status_clear(&unexpected); /* poolers and heads: an embedding needs none */
    bert->owned = from.binder.owned;
    bert->owned_count = from.binder.owned_count;
    bert->owned_host = from.binder.owned_host;
    bert->owned_host_count = from.binder.owned_host_count;
    from.binder.owned = from.binder.owned_host = NULL;
    gp_binder_clear(&from.binder);
    return done;
}

/** A LayerNorm, whose weights the checkpoints of TensorFlow's time call gamma and beta. */
static gp_norm_weights bind_norm(binding *from, int width, const char *name) {
    char gamma[160];
    snprintf(gamma, sizeof gamma, "%s%s.gamma", from->prefix, name);
    bool old = gp_checkpoint_find(from->binder.checkpoint, gamma) != NULL;
    const float *weight =
        gp_bind_vector(&from->binder, width, "%s%s.%s", from->prefix, name, old ? "gamma" : "weight");
    return (gp_norm_weights){
        weight, gp_bind_vector(&from->binder, width, "%s%s.%s", from->prefix, name, old ? "beta" : "bias")};
}

static void bind_embeddings(gp_bert *bert, binding *from) {
    const gp_bert_config *c = &bert->config;
    int64_t hidden = c->hidden_size, count = c->max_position_embeddings;
    gp_binder *binder = &from->binder;
    bert->words =
        gp_bind_matrix(binder, c->vocab_size, hidden, "%sembeddings.word_embeddings.weight", from->prefix);
    float *positions = gp_bind_host(binder, 2, (int64_t[]){count, hidden},
                                    "%sembeddings.position_embeddings.weight", from->prefix);
    float *kinds = gp_bind_host(binder, 2, (int64_t[]){c->type_vocab_size, hidden},
                                "%sembeddings.token_type_embeddings.weight", from->prefix);
    if (positions != NULL && kinds != NULL) {
        for (int64_t i = 0; i < count * hidden; i++) positions[i] += kinds[i % hidden];
        bert->positions = gp_binder_place(binder, positions, (size_t)(count * hidden));
    }
    gp_free(positions);
    gp_free(kinds);
    bert->norm = bind_norm(from, c->hidden_size, "embeddings.LayerNorm");
}

static void bind_layer(gp_bert *bert, binding *from, int index) {
    int hidden = bert->config.hidden_size, inner = bert->config.intermediate_size;
    bert_layer *layer = &bert->layers[index];
    char name[128];
    const struct {
        gp_affine *part;
        int out, in;
        const char *name;
    } parts[] = {
        {&layer->q, hidden, hidden, "attention.self.query"},
        {&layer->k, hidden, hidden, "attention.self.key"},
        {&layer->v, hidden, hidden, "attention.self.value"},
        {&layer->out, hidden, hidden, "attention.output.dense"},
        {&layer->up, inner, hidden, "intermediate.dense"},
        {&layer->down, hidden, inner, "output.dense"},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        snprintf(name, sizeof name, "%sencoder.layer.%d.%s", from->prefix, index, parts[i].name);
        *parts[i].part = gp_bind_affine(&from->binder, parts[i].out, parts[i].in, name);
    }
    snprintf(name, sizeof name, "encoder.layer.%d.attention.output.LayerNorm", index);
    layer->attention_norm = bind_norm(from, hidden, name);
    snprintf(name, sizeof name, "encoder.layer.%d.output.LayerNorm", index);
    layer->norm = bind_norm(from, hidden, name);
}

/* ---- the forward pass ---- */

static void layout(const gp_bert *bert, gp_arena *arena, bert_buffers *buffers) {
    const gp_backend *backend = bert->backend;
    size_t tokens = (size_t)bert->config.max_position_embeddings, hidden = (size_t)bert->config.hidden_size;
    buffers->ids = gp_arena_take(arena, tokens, sizeof *buffers->ids);
    buffers->x = gp_arena_take(arena, tokens * hidden, sizeof *buffers->x);
    buffers->x_operand = gp_take_twin(arena, backend, buffers->x, tokens * hidden);
    buffers->qkv = gp_take_operands(arena, backend, tokens * 3 * hidden);
    buffers->attended = gp_take_operands(arena, backend, tokens * hidden);
    buffers->inner = gp_take_operands(arena, backend, tokens * (size_t)bert->config.intermediate_size);
}

static bool take_buffers(gp_bert *bert, gp_status *status) {
    size_t tokens = (size_t)bert->config.max_position_embeddings, hidden = (size_t)bert->config.hidden_size;
    layout(bert, &bert->arena, &bert->buffers);
    size_t bytes = bert->arena.peak;
    bert->arena = (gp_arena){.block = bert->backend->ops->allocate(bert->backend, bytes), .capacity = bytes};
    bert->ids = gp_allocate_zeroed(tokens, sizeof *bert->ids);
    bert->states = gp_allocate_zeroed(tokens * hidden, sizeof *bert->states);
    if (bert->arena.block == NULL || bert->ids == NULL || bert->states == NULL)
        return gp_fail(status, "no memory for texts of %zu tokens: %.1f MiB", tokens, (double)bytes / 0x1p20);
    layout(bert, &bert->arena, &bert->buffers);
    return true;
}

bool gp_bert_embed(gp_bert *bert, const char *text, float *mean, gp_status *status) {
    int hidden = bert->config.hidden_size, tokens = 0;
    gp_backend *backend = bert->backend;
    if (!gp_wordpiece_encode(bert->wordpiece, text, bert->ids, bert->config.max_position_embeddings, &tokens,
                             status))
        return false;
    backend->ops->upload(backend, bert->buffers.ids, bert->ids, (size_t)tokens * sizeof *bert->ids);
    encode(bert, tokens);
    backend->ops->download(backend, bert->states, bert->buffers.x,
                           (size_t)tokens * (size_t)hidden * sizeof *bert->states);
    if (!backend->ops->finish(backend, status)) return false;
    for (int i = 0; i < hidden; i++) {
        double sum = 0;
        for (int token = 0; token < tokens; token++) sum += bert->states[(size_t)token * (size_t)hidden + i];
        mean[i] = (float)(sum / tokens);
    }
    return true;
}

/** buffers.ids to the last layer's states in buffers.x. */
static void encode(gp_bert *bert, int tokens) {
    const bert_buffers *b = &bert->buffers;
    gp_backend *backend = bert->backend;
    int hidden = bert->config.hidden_size;
    backend->ops->embed(backend, &(gp_embed){bert->words, b->ids, tokens, b->x});
    gp_apply_sum(backend, b->x, bert->positions, tokens, hidden, tokens, b->x, NULL);
    gp_apply_norm(backend, &bert->norm, b->x, tokens, hidden, bert->config.layer_norm_eps, b->x,
                  b->x_operand);
    for (int i = 0; i < bert->config.num_hidden_layers; i++) encode_layer(bert, &bert->layers[i], tokens);
}

/** Norms stand behind the sums, not before the products. */
static void encode_layer(gp_bert *bert, const bert_layer *layer, int tokens) {
    const bert_buffers *b = &bert->buffers;
    gp_backend *backend = bert->backend;
    int hidden = bert->config.hidden_size, heads = bert->config.num_attention_heads;
    float epsilon = bert->config.layer_norm_eps;
    const gp_affine *projections[3] = {&layer->q, &layer->k, &layer->v};
    for (int i = 0; i < 3; i++)
        backend->ops->linear(backend, &(gp_linear){.x = b->x_operand,
                                                   .rows = tokens,
                                                   .weight = projections[i]->weight,
                                                   .bias = projections[i]->bias,
                                                   .y_operand = gp_operand_at(backend, b->qkv, i * hidden),
                                                   .y_stride = 3 * hidden});
    backend->ops->attention(backend, &(gp_attention){.q = b->qkv,
                                                     .k = gp_operand_at(backend, b->qkv, hidden),
                                                     .v = gp_operand_at(backend, b->qkv, 2 * hidden),
                                                     .q_stride = 3 * hidden,
                                                     .kv_stride = 3 * hidden,
                                                     .sequences = 1,
                                                     .queries = tokens,
                                                     .keys = tokens,
                                                     .heads = heads,
                                                     .head_dim = hidden / heads,
                                                     .scale = 1.0f / sqrtf((float)(hidden / heads)),
                                                     .y = b->attended,
                                                     .y_stride = hidden});
    gp_apply_affine(backend, &layer->out, b->attended, tokens, GP_ACTIVATION_NONE, b->x, b->x, NULL);
    gp_apply_norm(backend, &layer->attention_norm, b->x, tokens, hidden, epsilon, b->x, b->x_operand);
    gp_apply_affine(backend, &layer->up, b->x_operand, tokens, GP_ACTIVATION_GELU, NULL, NULL, b->inner);
    gp_apply_affine(backend, &layer->down, b->inner, tokens, GP_ACTIVATION_NONE, b->x, b->x, NULL);
    gp_apply_norm(backend, &layer->norm, b->x, tokens, hidden, epsilon, b->x, b->x_operand);
}

double gp_bert_similarity(const float *a, const float *b, int hidden) {
    double product = 0, a_square = 0, b_square = 0;
    for (int i = 0; i < hidden; i++) {
        product += (double)a[i] * b[i];
        a_square += (double)a[i] * a[i];
        b_square += (double)b[i] * b[i];
    }
    if (!(a_square > 0 && b_square > 0)) return 0;
    double cosine = product / sqrt(a_square * b_square);
    return cosine > 1 ? 1 : cosine < -1 ? -1 : cosine;
}
