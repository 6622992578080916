/** A whole model: what its folder holds, bound and ready to run on a backend. */
#pragma once

#include "loaders/tokenizer/tokenizer.h"
#include "runtime/geopixel.h"
#include "runtime/grounding.h"
#include "runtime/language.h"
#include "runtime/mask_decoder.h"
#include "runtime/vision.h"

typedef struct gp_model {
    gp_backend *backend; /* not owned */
    gp_checkpoint *checkpoint;
    gp_config config;
    gp_tokenizer *tokenizer;
    int seg_token; /* the id of [SEG] */
    gp_vision vision;
    gp_language language;
    gp_grounding grounding;
    gp_mask_decoder masks;
    void **owned; /* converted tensors in backend memory */
    size_t owned_count;
    void **owned_host; /* host memory that placed matrices are of */
    size_t owned_host_count;
    uint64_t weight_bytes, placed_bytes, converted_bytes; /* as gp_binder counts them */
} gp_model;

/**
 * Opens the options' model: configuration, tokenizer, and every tensor the forward pass needs, or random ones
 * (dummy_weights); of the language model the part that `split` says. `unexpected` receives the names of
 * tensors that nobody knows (empty when there are none). On failure nothing is left open.
 */
bool gp_model_open(gp_model *model, const gp_engine_options *options, gp_backend *backend, gp_split split,
                   gp_status *unexpected, gp_status *status);
void gp_model_close(gp_model *model);

/** The part of the above that reads the configuration. `folder` NULL: GeoPixel-7B's. `dummy_weights`: as in
 * gp_engine_options, and in the folder's stead where it is not NULL. */
bool gp_model_read_config(const char *folder, const char *dummy_weights, gp_config *config,
                          gp_status *status);

/** From now on the model is one rank's of the group, on which it works together with the others. */
void gp_model_share(gp_model *model, gp_communicator *communicator);

/** The part of the above that reads the tokenizer; gp_model_close frees it. model->config is read already. */
bool gp_model_open_tokenizer(gp_model *model, const char *folder, gp_status *status);

/** Whether the backend can compute with rows so wide; fails with the width. The model is bound, dry or not.
 */
bool gp_model_check_widths(const gp_model *model, gp_status *status);

/**
 * The part that binds: asks `binder` for every tensor of model->config. Problems with tensors are in the
 * binder; fails where the configuration itself does not hold. The caller clears the binder, gp_model_close
 * frees the rest.
 */
bool gp_model_bind(gp_model *model, gp_binder *binder, gp_status *status);
