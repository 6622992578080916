/**
 * config.json of a GeoPixel checkpoint: every size and constant of the model that tensor shapes do not say.
 * Fields keep the names of the file. `vision_config` and `grounding_config` are GeoPixel-7B's where absent.
 */
#pragma once

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stddef.h>

#define GP_STAGES_MAX        8
#define GP_GLOBAL_BLOCKS_MAX 64

typedef enum gp_rope_scaling { GP_ROPE_NONE, GP_ROPE_LINEAR, GP_ROPE_DYNAMIC } gp_rope_scaling;

/** The language model (InternLM2 with partial LoRA). */
typedef struct gp_language_config {
    int vocab_size;
    int hidden_size;
    int intermediate_size;
    int num_hidden_layers;
    int num_attention_heads;
    int num_key_value_heads;
    int max_length; /* the context: image tokens, text and answer together */
    int max_position_embeddings;
    float rms_norm_eps;
    float rope_theta;
    gp_rope_scaling rope_scaling_type;
    float rope_scaling_factor;
    int bos_token_id, eos_token_id;
    int out_dim; /* width of the mask decoder's prompt embedding */
} gp_language_config;

/** The CLIP vision tower. */
typedef struct gp_vision_config {
    int image_size; /* of a crop, in pixels */
    int patch_size;
    int hidden_size;       /* 0: not said; the tensors do */
    int intermediate_size; /* likewise */
    int num_hidden_layers;
    int num_attention_heads;
    float layer_norm_eps;
} gp_vision_config;

/** The SAM2 Hiera trunk. */
typedef struct gp_grounding_config {
    int image_size;
    int embed_dim;
    int num_heads;
    int stage_count;
    int stages[GP_STAGES_MAX]; /* blocks a stage */
    int global_block_count;
    int global_att_blocks[GP_GLOBAL_BLOCKS_MAX];
    int window_spec[GP_STAGES_MAX]; /* window side a stage */
    int window_pos_embed_bkg_spatial_size[2];
} gp_grounding_config;

typedef struct gp_config {
    gp_language_config language;
    gp_vision_config vision;
    gp_grounding_config grounding;
} gp_config;

/** GeoPixel-7B's, for plans without a checkpoint. */
void gp_config_official(gp_config *config);

/**
 * Reads `folder`/config.json. Fails naming the file, the field, what stands there and what is accepted: wrong
 * types, sizes that are not positive or do not divide (heads into widths, patches into crops, an odd patch
 * grid), unknown rope types, unknown activations (hidden_act of both towers), numbers out of range.
 */
bool gp_config_read(const char *folder, gp_config *config, gp_status *status);

/** The same from the text of a config.json; `name` stands in messages. What the fuzzer calls. */
bool gp_config_parse(const char *text, size_t length, const char *name, gp_config *config, gp_status *status);
