#include "loaders/config/config.h"

#include "kernels/base/file.h"
#include "kernels/base/memory.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

enum {
    SIZE_MAX_VALUE = 1 << 20, /* of a width, a vocabulary, a picture: products of three stay within 64 bits */
    LAYERS_MAX = 1024,
    HEAD_DIM_MAX = 128, /* the widest that the attention operations take */
    GROUP_MAX = 64,     /* query heads a kv head */
};

/** The file being read: what stands in messages. */
typedef struct reader {
    const char *name;  /* of the file */
    const char *scope; /* "", "vision_config." or "grounding_config." */
    const json_t *object;
    gp_status *status;
} reader;

static bool read_language(const reader *in, gp_language_config *c);
static bool read_vision(const reader *in, gp_vision_config *c);
static bool read_grounding(const reader *in, gp_grounding_config *c);
static bool read_rope(const reader *in, gp_language_config *c);
static bool check_language(const reader *in, const gp_language_config *c);
static bool check_vision(const reader *in, const gp_vision_config *c);
static bool check_grounding(const reader *in, const gp_grounding_config *c);

bool gp_config_read(const char *folder, gp_config *config, gp_status *status) {
    if (!gp_folder_check(folder, status)) return false;
    char *path = gp_file_join(folder, "config.json");
    gp_mapping file;
    if (path == NULL) return gp_fail(status, "no memory for the path of %s/config.json", folder);
    bool done = gp_file_map(path, &file, status);
    if (done) {
        done = gp_config_parse((const char *)file.data, file.size, path, config, status);
        gp_file_unmap(&file);
    }
    gp_free(path);
    return done;
}

bool gp_config_parse(const char *text, size_t length, const char *name, gp_config *config,
                     gp_status *status) {
    json_error_t error;
    json_t *root = json_loadb(text != NULL ? text : "", length, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL)
        return gp_fail(status, "%s: line %d, column %d: %s", name, error.line, error.column, error.text);
    reader language = {name, "", root, status};
    reader vision = {name, "vision_config.", json_object_get(root, "vision_config"), status};
    reader grounding = {name, "grounding_config.", json_object_get(root, "grounding_config"), status};
    memset(config, 0, sizeof *config);
    bool done = json_is_object(root) || gp_fail(status, "%s: not a JSON object", name);
    const reader *const parts[2] = {&vision, &grounding};
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

/* ---- fields ---- */

/** A whole number in low … high; `fallback` where the field is absent or null, NULL making it an error. */
static bool read_int(const reader *in, const char *field, int low, int high, const int *fallback,
                     int *value) {
    const json_t *json = json_object_get(in->object, field);
    if (json == NULL || json_is_null(json)) {
        if (fallback == NULL) return gp_fail(in->status, "%s: %s%s is missing", in->name, in->scope, field);
        *value = *fallback;
        return true;
    }
    if (!json_is_integer(json))
        return gp_fail(in->status, "%s: %s%s is not a whole number", in->name, in->scope, field);
    json_int_t number = json_integer_value(json);
    if (number < low || number > high)
        return gp_fail(in->status, "%s: %s%s is %lld; %d to %d are possible", in->name, in->scope, field,
                       (long long)number, low, high);
    *value = (int)number;
    return true;
}

/** A finite number > 0; `fallback` as above. */
static bool read_positive(const reader *in, const char *field, const float *fallback, float *value) {
    const json_t *json = json_object_get(in->object, field);
    if (json == NULL || json_is_null(json)) {
        if (fallback == NULL) return gp_fail(in->status, "%s: %s%s is missing", in->name, in->scope, field);
        *value = *fallback;
        return true;
    }
    if (!json_is_number(json))
        return gp_fail(in->status, "%s: %s%s is not a number", in->name, in->scope, field);
    double number = json_number_value(json);
    if (!(number > 0 && number <= 1e30 && (float)number > 0))
        return gp_fail(in->status, "%s: %s%s is %g; a positive number is expected", in->name, in->scope,
                       field, number);
    *value = (float)number;
    return true;
}

/** Whole numbers in low … high, at most `most`; absent leaves the list as it is. */
static bool read_ints(const reader *in, const char *field, int low, int high, int most, int *values,
                      int *count) {
    const json_t *json = json_object_get(in->object, field);
    if (json == NULL || json_is_null(json)) return true;
    if (!json_is_array(json))
        return gp_fail(in->status, "%s: %s%s is not a list", in->name, in->scope, field);
    if (json_array_size(json) > (size_t)most)
        return gp_fail(in->status, "%s: %s%s has %zu entries; %d are the most", in->name, in->scope, field,
                       json_array_size(json), most);
    *count = (int)json_array_size(json);
    for (int i = 0; i < *count; i++) {
        const json_t *entry = json_array_get(json, (size_t)i);
        if (!json_is_integer(entry))
            return gp_fail(in->status, "%s: %s%s[%d] is not a whole number", in->name, in->scope, field, i);
        json_int_t number = json_integer_value(entry);
        if (number < low || number > high)
            return gp_fail(in->status, "%s: %s%s[%d] is %lld; %d to %d are possible", in->name, in->scope,
                           field, i, (long long)number, low, high);
        values[i] = (int)number;
    }
    return true;
}

/** A name that must be the one accepted, where it is there at all. */
static bool check_name(const reader *in, const char *field, const char *accepted) {
    const json_t *json = json_object_get(in->object, field);
    if (json == NULL || json_is_null(json)) return true;
    if (!json_is_string(json))
        return gp_fail(in->status, "%s: %s%s is not a text", in->name, in->scope, field);
    return strcmp(json_string_value(json), accepted) == 0 ||
           gp_fail(in->status, "%s: %s%s is \"%s\"; \"%s\" is the one known", in->name, in->scope, field,
                   json_string_value(json), accepted);
}

/* ---- parts ---- */

static bool read_language(const reader *in, gp_language_config *c) {
    static const int context = 16384, beginning = 1, end = 2, prompt_width = 256;
    return check_name(in, "hidden_act", "silu") &&
           read_int(in, "vocab_size", 1, 1 << 24, NULL, &c->vocab_size) &&
           read_int(in, "hidden_size", 1, SIZE_MAX_VALUE, NULL, &c->hidden_size) &&
           read_int(in, "intermediate_size", 1, SIZE_MAX_VALUE, NULL, &c->intermediate_size) &&
           read_int(in, "num_hidden_layers", 1, LAYERS_MAX, NULL, &c->num_hidden_layers) &&
           read_int(in, "num_attention_heads", 1, SIZE_MAX_VALUE, NULL, &c->num_attention_heads) &&
           read_int(in, "num_key_value_heads", 1, SIZE_MAX_VALUE, &c->num_attention_heads,
                    &c->num_key_value_heads) &&
           read_int(in, "max_length", 1, SIZE_MAX_VALUE, &context, &c->max_length) &&
           read_int(in, "max_position_embeddings", 1, SIZE_MAX_VALUE, &c->max_length,
                    &c->max_position_embeddings) &&
           read_positive(in, "rms_norm_eps", NULL, &c->rms_norm_eps) &&
           read_positive(in, "rope_theta", &(float){10000}, &c->rope_theta) && read_rope(in, c) &&
           read_int(in, "bos_token_id", 0, 1 << 24, &beginning, &c->bos_token_id) &&
           read_int(in, "eos_token_id", 0, 1 << 24, &end, &c->eos_token_id) &&
           read_int(in, "out_dim", 1, SIZE_MAX_VALUE, &prompt_width, &c->out_dim);
}

static bool read_rope(const reader *in, gp_language_config *c) {
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
    reader part = {in->name, "rope_scaling.", scaling, in->status};
    return read_positive(&part, "factor", c->rope_scaling_type == GP_ROPE_NONE ? &(float){1} : NULL,
                         &c->rope_scaling_factor);
}

static bool read_vision(const reader *in, gp_vision_config *c) {
    static const gp_vision_config official = {560, 14, 0, 0, 24, 16, 1e-5f};
    return check_name(in, "hidden_act", "quick_gelu") &&
           read_int(in, "image_size", 1, 1 << 14, &official.image_size, &c->image_size) &&
           read_int(in, "patch_size", 1, 1 << 14, &official.patch_size, &c->patch_size) &&
           read_int(in, "hidden_size", 1, SIZE_MAX_VALUE, &official.hidden_size, &c->hidden_size) &&
           read_int(in, "intermediate_size", 1, SIZE_MAX_VALUE, &official.intermediate_size,
                    &c->intermediate_size) &&
           read_int(in, "num_hidden_layers", 1, LAYERS_MAX, &official.num_hidden_layers,
                    &c->num_hidden_layers) &&
           read_int(in, "num_attention_heads", 1, SIZE_MAX_VALUE, &official.num_attention_heads,
                    &c->num_attention_heads) &&
           read_positive(in, "layer_norm_eps", &official.layer_norm_eps, &c->layer_norm_eps);
}

static bool read_grounding(const reader *in, gp_grounding_config *c) {
    static const gp_grounding_config official = {1024,         144,           2,     4, {2, 6, 36, 4}, 3,
                                                 {23, 33, 43}, {8, 4, 16, 8}, {7, 7}};
    *c = official;
    int windows = official.stage_count, spatial = 2;
    if (!read_int(in, "image_size", 1, 1 << 14, &official.image_size, &c->image_size) ||
        !read_int(in, "embed_dim", 1, SIZE_MAX_VALUE, &official.embed_dim, &c->embed_dim) ||
        !read_int(in, "num_heads", 1, SIZE_MAX_VALUE, &official.num_heads, &c->num_heads) ||
        !read_ints(in, "stages", 1, LAYERS_MAX, GP_STAGES_MAX, c->stages, &c->stage_count) ||
        !read_ints(in, "global_att_blocks", 0, LAYERS_MAX, GP_GLOBAL_BLOCKS_MAX, c->global_att_blocks,
                   &c->global_block_count) ||
        !read_ints(in, "window_spec", 1, 1 << 12, GP_STAGES_MAX, c->window_spec, &windows) ||
        !read_ints(in, "window_pos_embed_bkg_spatial_size", 1, 1 << 12, 2,
                   c->window_pos_embed_bkg_spatial_size, &spatial))
        return false;
    if (spatial != 2)
        return gp_fail(in->status, "%s: %swindow_pos_embed_bkg_spatial_size has %d entries; 2 are expected",
                       in->name, in->scope, spatial);
    return windows == c->stage_count || gp_fail(in->status, "%s: %swindow_spec has %d entries, stages has %d",
                                                in->name, in->scope, windows, c->stage_count);
}

/* ---- what must fit together ---- */

static bool check_divides(const reader *in, const char *part, int divisor, const char *whole, int number) {
    return number % divisor == 0 || gp_fail(in->status, "%s: %s%s, %d, does not divide %s, %d", in->name,
                                            in->scope, part, divisor, whole, number);
}

static bool check_head_dim(const reader *in, int head_dim) {
    return head_dim <= HEAD_DIM_MAX || gp_fail(in->status, "%s: %sheads are %d wide; %d is the most",
                                               in->name, in->scope, head_dim, HEAD_DIM_MAX);
}

static bool check_language(const reader *in, const gp_language_config *c) {
    if (!check_divides(in, "num_attention_heads", c->num_attention_heads, "hidden_size", c->hidden_size) ||
        !check_divides(in, "num_key_value_heads", c->num_key_value_heads, "num_attention_heads",
                       c->num_attention_heads) ||
        !check_head_dim(in, c->hidden_size / c->num_attention_heads) ||
        !check_divides(in, "half the width of the mask decoder's 8 heads", 16, "out_dim", c->out_dim) ||
        !check_head_dim(in, c->out_dim / 8))
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

static bool check_vision(const reader *in, const gp_vision_config *c) {
    if (c->hidden_size > 0 &&
        (!check_divides(in, "num_attention_heads", c->num_attention_heads, "hidden_size", c->hidden_size) ||
         !check_head_dim(in, c->hidden_size / c->num_attention_heads)))
        return false;
    if (!check_divides(in, "patch_size", c->patch_size, "image_size", c->image_size)) return false;
    return c->image_size / c->patch_size % 2 == 0 ||
           gp_fail(in->status,
                   "%s: %simage_size %d has %d patches of %d; the 2 x 2 merge needs an even number", in->name,
                   in->scope, c->image_size, c->image_size / c->patch_size, c->patch_size);
}

static bool check_grounding(const reader *in, const gp_grounding_config *c) {
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
    return check_divides(in, "the stages' reduction", fold, "image_size", c->image_size) &&
           check_divides(in, "num_heads", c->num_heads, "embed_dim", c->embed_dim) &&
           check_head_dim(in, c->embed_dim / c->num_heads);
}
