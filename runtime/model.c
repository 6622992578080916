#include "runtime/model.h"

#include "kernels/base/memory.h"

#include <string.h>

static bool measure(const gp_model *model, const char *folder, gp_split split, uint64_t *bytes,
                    gp_status *status);
static bool bind_all(gp_model *model, const gp_engine_options *options, gp_split split, uint64_t bytes,
                     gp_status *unexpected, gp_status *status);

bool gp_model_open(gp_model *model, const gp_engine_options *options, gp_backend *backend, gp_split split,
                   gp_status *unexpected, gp_status *status) {
    const char *folder = options->model, *dummy = options->dummy_weights;
    uint64_t bytes = 0;
    *model = (gp_model){.backend = backend};
    bool done = gp_model_read_config(folder, dummy, &model->config, status) &&
                gp_model_open_tokenizer(model, folder, status) &&
                (dummy != NULL || gp_checkpoint_open(folder, &model->checkpoint, status)) &&
                measure(model, folder, split, &bytes, status) &&
                bind_all(model, options, split, bytes, unexpected, status) &&
                gp_model_check_widths(model, status);
    if (!done) gp_model_close(model);
    return done;
}

void gp_model_close(gp_model *model) {
    gp_vision_free(&model->vision);
    gp_language_free(&model->language);
    gp_grounding_free(&model->grounding);
    for (size_t i = 0; i < model->owned_count; i++)
        model->backend->ops->release(model->backend, model->owned[i]);
    gp_free(model->owned);
    for (size_t i = 0; i < model->owned_host_count; i++) gp_free(model->owned_host[i]);
    gp_free(model->owned_host);
    gp_tokenizer_close(model->tokenizer);
    gp_checkpoint_close(model->checkpoint);
    *model = (gp_model){0};
}

bool gp_model_read_config(const char *folder, const char *dummy_weights, gp_config *config,
                          gp_status *status) {
    if (dummy_weights != NULL) folder = strcmp(dummy_weights, "7b") == 0 ? NULL : dummy_weights;
    if (folder != NULL) return gp_config_read(folder, config, status);
    gp_config_official(config);
    return true;
}

void gp_model_share(gp_model *model, gp_communicator *communicator) {
    model->language.communicator = communicator;
    model->vision.communicator = communicator;
    model->grounding.communicator = communicator;
}

bool gp_model_open_tokenizer(gp_model *model, const char *folder, gp_status *status) {
    if (!gp_tokenizer_open(folder, &model->tokenizer, status)) return false;
    model->seg_token = gp_tokenizer_id(model->tokenizer, "[SEG]");
    if (model->seg_token < 0)
        return gp_fail(status, "%s: the tokenizer has no [SEG] among its added tokens", folder);
    int vocabulary = gp_tokenizer_vocabulary(model->tokenizer), size = model->config.language.vocab_size;
    if (vocabulary > size)
        return gp_fail(status, "%s: the tokenizer has ids up to %d; config.json's vocab_size is %d", folder,
                       vocabulary - 1, size);
    return true;
}

bool gp_model_bind(gp_model *model, gp_binder *binder, gp_status *status) {
    bool done = gp_vision_bind(&model->vision, &model->config, binder, status) &&
                gp_language_bind(&model->language, &model->config, binder, status) &&
                gp_grounding_bind(&model->grounding, &model->config, binder, status) &&
                gp_mask_decoder_bind(&model->masks, &model->config, binder);
    model->owned = binder->owned;
    model->owned_count = binder->owned_count;
    model->owned_host = binder->owned_host;
    model->owned_host_count = binder->owned_host_count;
    model->weight_bytes = binder->weight_bytes;
    model->placed_bytes = binder->placed_bytes;
    model->converted_bytes = binder->converted_bytes;
    binder->owned = binder->owned_host = NULL;
    return done;
}

/** Bytes of the matrices that will be placed; what is wrong with a tensor is said before any is read. */
static bool measure(const gp_model *model, const char *folder, gp_split split, uint64_t *bytes,
                    gp_status *status) {
    gp_model sized = {.backend = model->backend, .config = model->config};
    gp_binder binder = {
        .checkpoint = model->checkpoint, .backend = model->backend, .dry = true, .split = split};
    bool done = gp_model_bind(&sized, &binder, status) && gp_binder_finish(&binder, folder, NULL, status);
    *bytes = binder.weight_bytes;
    gp_binder_clear(&binder);
    gp_model_close(&sized);
    return done;
}

static bool bind_all(gp_model *model, const gp_engine_options *options, gp_split split, uint64_t bytes,
                     gp_status *unexpected, gp_status *status) {
    gp_binder binder = {.checkpoint = model->checkpoint,
                        .backend = model->backend,
                        .random = model->checkpoint == NULL,
                        .split = split,
                        .on_placed = options->on_loading,
                        .user = options->user,
                        .total_bytes = bytes};
    bool done = gp_model_bind(model, &binder, status) &&
                gp_binder_finish(&binder, options->model, unexpected, status);
    model->backend->ops->end_placing(model->backend);
    gp_binder_clear(&binder);
    return done;
}

/** Whether a row so wide ends where the next may start. */
static bool check_width(const gp_model *model, int64_t width, const char *what, gp_status *status) {
    return width % GP_OPERAND_ALIGNMENT == 0 ||
           gp_fail(status, "%s is %lld wide; on %s, rows have to be multiples of %d wide", what,
                   (long long)width, model->backend->name, GP_OPERAND_ALIGNMENT);
}

/* Rows of operands have to start at multiples of GP_OPERAND_ALIGNMENT, which f32 does not need. */
bool gp_model_check_widths(const gp_model *model, gp_status *status) {
    if (model->backend->operand == GP_DTYPE_F32) return true;
    const gp_language *language = &model->language;
    int64_t heads = (int64_t)language->kv_heads * (language->group + 2);
    bool done =
        check_width(model, model->vision.config.hidden_size, "the vision tower", status) &&
        check_width(model, model->vision.config.intermediate_size, "the vision tower's MLP", status) &&
        check_width(model, language->config.hidden_size, "the language model", status) &&
        check_width(model, heads * language->head_dim, "the language model's attention", status) &&
        check_width(model, language->intermediate, "the language model's MLP", status) &&
        check_width(model, model->grounding.config.embed_dim, "the grounding encoder", status) &&
        check_width(model, model->masks.width / 2, "the mask decoder's attention", status);
    for (int i = 0; i < model->grounding.block_count && done; i++)
        done = check_width(model, model->grounding.blocks[i].fc1.weight.rows,
                           "a block's MLP in the grounding encoder", status);
    for (int i = 0; i < GP_DECODER_LAYERS && done; i++)
        done = check_width(model, model->masks.layers[i].fc1.weight.rows, "the mask decoder's MLP", status);
    return done;
}
