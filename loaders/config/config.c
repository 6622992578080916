#include "loaders/config/config.h"

#include "loaders/config/config_parts.h"

#include <string.h>

enum { GROUP_MAX = 64 }; /* query heads a kv head */

static bool read_language(const gp_config_reader *in, gp_language_config *c);
static bool read_vision(const gp_config_reader *in, gp_vision_config *c);
static bool read_grounding(const gp_config_reader *in, gp_grounding_config *c);
static bool read_rope(const gp_config_reader *in, gp_language_config *c);
static bool check_language(const gp_config_reader *in, const gp_language_config *c);
static bool check_vision(const gp_config_reader *in, const gp_vision_config *c);
static bool check_grounding(const gp_config_reader *in, const gp_grounding_config *c);

bool gp_config_read(const char *folder, gp_config *config, gp_status *status) {
    gp_config_file file;
    if (!gp_config_open(folder, "config.json", &file, status)) return false;
    bool done = gp_config_parse(file.text, file.length, file.path, config, status);
    gp_config_close(&file);
    return done;
}

bool gp_config_parse(const char *text, size_t length, const char *name, gp_config *config,
                     gp_status *status) {
    json_t *root = gp_config_load(text, length, name, status);
    if (root == NULL) return false;
    gp_config_reader language = {name, "", root, status};
    gp_config_reader vision = {name, "vision_config.", json_object_get(root, "vision_config"), status};
    gp_config_reader grounding = {name, "grounding_config.", json_object_get(root, "grounding_config"),
                                  status};
    memset(config, 0, sizeof *config);
    bool done = true;
    const gp_config_reader *const parts[2] = {&vision, &grounding};
    for (int i = 0; i < 2 && done; i++)
        if (parts[i]->object != NULL && !json_is_null(parts[i]->object) && !json_is_object(parts[i]->object))
            done = gp_fail(status, "%s: %.*s is not an object", name, (int)strlen(parts[i]->scope) - 1,
                           parts[i]->scope);
    done = done && read_language(&language, &config->language) && read_vision(&vision, &config->vision) &&
           read_grounding(&grounding, &config->grounding) && check_language(&language, &config->language) &&
           check_vision(&vision, &config->vision) && check_grounding(&grounding, &config->grounding);
    json_decref(root);
    return done;
}

void gp_config_official(gp_config *config) {
    static const char text[] =
        "{\"vocab_size\": 92547, \"hidden_size\": 4096, \"intermediate_size\": 14336,"
        " \"num_hidden_layers\": 32, \"num_attention_heads\": 32, \"num_key_value_heads\": 8,"
        " \"rms_norm_eps\": 1e-5, \"rope_theta\": 1000000}";
    gp_config_parse(text, sizeof text - 1, "GeoPixel-7B", config, NULL);
}

/* ---- parts ---- */

static bool read_language(const gp_config_reader *in, gp_language_config *c) {
    static const int context = 16384, beginning = 1, end = 2, prompt_width = 256;
    return gp_config_name(in, "hidden_act", "silu") &&
           gp_config_int(in, "vocab_size", 1, GP_CONFIG_VOCABULARY_MAX, NULL, &c->vocab_size) &&
           gp_config_int(in, "hidden_size", 1, GP_CONFIG_SIZE_MAX, NULL, &c->hidden_size) &&
           gp_config_int(in, "intermediate_size", 1, GP_CONFIG_SIZE_MAX, NULL, &c->intermediate_size) &&
           gp_config_int(in, "num_hidden_layers", 1, GP_CONFIG_LAYERS_MAX, NULL, &c->num_hidden_layers) &&
           gp_config_int(in, "num_attention_heads", 1, GP_CONFIG_SIZE_MAX, NULL, &c->num_attention_heads) &&
           gp_config_int(in, "num_key_value_heads", 1, GP_CONFIG_SIZE_MAX, &c->num_attention_heads,
                         &c->num_key_value_heads) &&
           gp_config_int(in, "max_length", 1, GP_CONFIG_SIZE_MAX, &context, &c->max_length) &&
           gp_config_int(in, "max_position_embeddings", 1, GP_CONFIG_SIZE_MAX, &c->max_length,
                         &c->max_position_embeddings) &&
           gp_config_positive(in, "rms_norm_eps", NULL, &c->rms_norm_eps) &&
           gp_config_positive(in, "rope_theta", &(float){10000}, &c->rope_theta) && read_rope(in, c) &&
           gp_config_int(in, "bos_token_id", 0, GP_CONFIG_VOCABULARY_MAX, &beginning, &c->bos_token_id) &&
           gp_config_int(in, "eos_token_id", 0, GP_CONFIG_VOCABULARY_MAX, &end, &c->eos_token_id) &&
           gp_config_int(in, "out_dim", 1, GP_CONFIG_SIZE_MAX, &prompt_width, &c->out_dim);
}

static bool read_rope(const gp_config_reader *in, gp_language_config *c) {
    const json_t *scaling = json_object_get(in->object, "rope_scaling");
    c->rope_scaling_type = GP_ROPE_NONE;
    c->rope_scaling_factor = 1;
    if (scaling == NULL || json_is_null(scaling)) return true;
    if (!json_is_object(scaling)) return gp_fail(in->status, "%s: rope_scaling is not an object", in->name);
    const json_t *type = json_object_get(scaling, "type");
    if (type == NULL) type = json_object_get(scaling, "rope_type");
    if (!json_is_string(type)) return gp_fail(in->status, "%s: rope_scaling.type is not a text", in->name);
    const char *text = json_string_value(type);
    if (strcmp(text, "linear") == 0)
        c->rope_scaling_type = GP_ROPE_LINEAR;
    else if (strcmp(text, "dynamic") == 0)
        c->rope_scaling_type = GP_ROPE_DYNAMIC;
    else if (strcmp(text, "default") != 0)
        return gp_fail(in->status, "%s: rope_scaling.type is \"%s\"; \"linear\" and \"dynamic\" are known",
                       in->name, text);
    gp_config_reader part = {in->name, "rope_scaling.", scaling, in->status};
    return gp_config_positive(&part, "factor", c->rope_scaling_type == GP_ROPE_NONE ? &(float){1} : NULL,
                              &c->rope_scaling_factor);
}

static bool read_vision(const gp_config_reader *in, gp_vision_config *c) {
    static const gp_vision_config official = {560, 14, 0, 0, 24, 16, 1e-5f};
    return gp_config_name(in, "hidden_act", "quick_gelu") &&
           gp_config_int(in, "image_size", 1, 1 << 14, &official.image_size, &c->image_size) &&
           gp_config_int(in, "patch_size", 1, 1 << 14, &official.patch_size, &c->patch_size) &&
           gp_config_int(in, "hidden_size", 1, GP_CONFIG_SIZE_MAX, &official.hidden_size, &c->hidden_size) &&
           gp_config_int(in, "intermediate_size", 1, GP_CONFIG_SIZE_MAX, &official.intermediate_size,
                         &c->intermediate_size) &&
           gp_config_int(in, "num_hidden_layers", 1, GP_CONFIG_LAYERS_MAX, &official.num_hidden_layers,
                         &c->num_hidden_layers) &&
           gp_config_int(in, "num_attention_heads", 1, GP_CONFIG_SIZE_MAX, &official.num_attention_heads,
                         &c->num_attention_heads) &&
           gp_config_positive(in, "layer_norm_eps", &official.layer_norm_eps, &c->layer_norm_eps);
}

static bool read_grounding(const gp_config_reader *in, gp_grounding_config *c) {
    static const gp_grounding_config official = {1024,         144,           2,     4, {2, 6, 36, 4}, 3,
                                                 {23, 33, 43}, {8, 4, 16, 8}, {7, 7}};
    *c = official;
    int windows = official.stage_count, spatial = 2;
    if (!gp_config_int(in, "image_size", 1, 1 << 14, &official.image_size, &c->image_size) ||
        !gp_config_int(in, "embed_dim", 1, GP_CONFIG_SIZE_MAX, &official.embed_dim, &c->embed_dim) ||
        !gp_config_int(in, "num_heads", 1, GP_CONFIG_SIZE_MAX, &official.num_heads, &c->num_heads) ||
        !gp_config_ints(in, "stages", 1, GP_CONFIG_LAYERS_MAX, GP_STAGES_MAX, c->stages, &c->stage_count) ||
        !gp_config_ints(in, "global_att_blocks", 0, GP_CONFIG_LAYERS_MAX, GP_GLOBAL_BLOCKS_MAX,
                        c->global_att_blocks, &c->global_block_count) ||
        !gp_config_ints(in, "window_spec", 1, 1 << 12, GP_STAGES_MAX, c->window_spec, &windows) ||
        !gp_config_ints(in, "window_pos_embed_bkg_spatial_size", 1, 1 << 12, 2,
                        c->window_pos_embed_bkg_spatial_size, &spatial))
        return false;
    if (spatial != 2)
        return gp_fail(in->status, "%s: %swindow_pos_embed_bkg_spatial_size has %d entries; 2 are expected",
                       in->name, in->scope, spatial);
    return windows == c->stage_count || gp_fail(in->status, "%s: %swindow_spec has %d entries, stages has %d",
                                                in->name, in->scope, windows, c->stage_count);
}

/* ---- what must fit together ---- */

static bool check_language(const gp_config_reader *in, const gp_language_config *c) {
    if (!gp_config_divides(in, "num_attention_heads", c->num_attention_heads, "hidden_size",
                           c->hidden_size) ||
        !gp_config_divides(in, "num_key_value_heads", c->num_key_value_heads, "num_attention_heads",
                           c->num_attention_heads) ||
        !gp_config_head_dim(in, c->hidden_size / c->num_attention_heads) ||
        !gp_config_divides(in, "half the width of the mask decoder's 8 heads", 16, "out_dim", c->out_dim) ||
        !gp_config_head_dim(in, c->out_dim / 8))
        return false;
    if (c->hidden_size / c->num_attention_heads % 2 != 0)
        return gp_fail(in->status, "%s: heads are %d wide; rotary positions need an even width", in->name,
                       c->hidden_size / c->num_attention_heads);
    if (c->num_attention_heads / c->num_key_value_heads > GROUP_MAX)
        return gp_fail(in->status, "%s: %d heads on %d kv heads; %d to one are the most", in->name,
                       c->num_attention_heads, c->num_key_value_heads, GROUP_MAX);
    if (c->eos_token_id >= c->vocab_size)
        return gp_fail(in->status, "%s: eos_token_id is %d; the vocabulary has %d", in->name, c->eos_token_id,
                       c->vocab_size);
    return true;
}

static bool check_vision(const gp_config_reader *in, const gp_vision_config *c) {
    if (c->hidden_size > 0 && (!gp_config_divides(in, "num_attention_heads", c->num_attention_heads,
                                                  "hidden_size", c->hidden_size) ||
                               !gp_config_head_dim(in, c->hidden_size / c->num_attention_heads)))
        return false;
    if (!gp_config_divides(in, "patch_size", c->patch_size, "image_size", c->image_size)) return false;
    return c->image_size / c->patch_size % 2 == 0 ||
           gp_fail(in->status,
                   "%s: %simage_size %d has %d patches of %d; the 2 x 2 merge needs an even number", in->name,
                   in->scope, c->image_size, c->image_size / c->patch_size, c->patch_size);
}

static bool check_grounding(const gp_config_reader *in, const gp_grounding_config *c) {
    int blocks = 0;
    if (c->stage_count < 3)
        return gp_fail(in->status, "%s: %sstages has %d entries; 3 at least are needed", in->name, in->scope,
                       c->stage_count);
    for (int i = 0; i < c->stage_count; i++) blocks += c->stages[i];
    for (int i = 0; i < c->global_block_count; i++)
        if (c->global_att_blocks[i] >= blocks)
            return gp_fail(in->status, "%s: %sglobal_att_blocks[%d] is %d; there are %d blocks", in->name,
                           in->scope, i, c->global_att_blocks[i], blocks);
    /* Maps halve exactly, or the neck's doubling would not meet them. 16: the mask decoder's grid is the
     * third map. */
    int fold = 4 << (c->stage_count - 1);
    if (fold < 16) fold = 16;
    return gp_config_divides(in, "the stages' reduction", fold, "image_size", c->image_size) &&
           gp_config_divides(in, "num_heads", c->num_heads, "embed_dim", c->embed_dim) &&
           gp_config_head_dim(in, c->embed_dim / c->num_heads);
}
