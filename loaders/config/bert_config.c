#include "loaders/config/bert_config.h"

#include "loaders/config/config_parts.h"

bool gp_bert_config_read(const char *folder, gp_bert_config *config, gp_status *status) {
    gp_config_file file;
    if (!gp_config_open(folder, "config.json", &file, status)) return false;
    bool done = gp_bert_config_parse(file.text, file.length, file.path, config, status);
    gp_config_close(&file);
    if (!done || !gp_file_exists(folder, "tokenizer_config.json")) return done;
    if (!gp_config_open(folder, "tokenizer_config.json", &file, status)) return false;
    done = gp_bert_config_parse_tokenizer(file.text, file.length, file.path, config, status);
    gp_config_close(&file);
    return done;
}

bool gp_bert_config_parse(const char *text, size_t length, const char *name, gp_bert_config *config,
                          gp_status *status) {
    static const int kinds = 2;
    *config = (gp_bert_config){.do_lower_case = true, .strip_accents = true, .tokenize_chinese_chars = true};
    json_t *root = gp_config_load(text, length, name, status);
    if (root == NULL) return false;
    gp_config_reader in = {name, "", root, status};
    /* Two positions at least: [CLS] and [SEP]. */
    bool done =
        gp_config_name(&in, "model_type", "bert") && gp_config_name(&in, "hidden_act", "gelu") &&
        gp_config_name(&in, "position_embedding_type", "absolute") &&
        gp_config_int(&in, "vocab_size", 1, GP_CONFIG_VOCABULARY_MAX, NULL, &config->vocab_size) &&
        gp_config_int(&in, "hidden_size", 1, GP_CONFIG_SIZE_MAX, NULL, &config->hidden_size) &&
        gp_config_int(&in, "intermediate_size", 1, GP_CONFIG_SIZE_MAX, NULL, &config->intermediate_size) &&
        gp_config_int(&in, "num_hidden_layers", 1, GP_CONFIG_LAYERS_MAX, NULL, &config->num_hidden_layers) &&
        gp_config_int(&in, "num_attention_heads", 1, GP_CONFIG_SIZE_MAX, NULL,
                      &config->num_attention_heads) &&
        gp_config_int(&in, "max_position_embeddings", 2, GP_CONFIG_SIZE_MAX, NULL,
                      &config->max_position_embeddings) &&
        gp_config_int(&in, "type_vocab_size", 1, GP_CONFIG_SIZE_MAX, &kinds, &config->type_vocab_size) &&
        gp_config_positive(&in, "layer_norm_eps", &(float){1e-12f}, &config->layer_norm_eps) &&
        gp_config_divides(&in, "num_attention_heads", config->num_attention_heads, "hidden_size",
                          config->hidden_size) &&
        gp_config_head_dim(&in, config->hidden_size / config->num_attention_heads);
    json_decref(root);
    return done;
}

bool gp_bert_config_parse_tokenizer(const char *text, size_t length, const char *name, gp_bert_config *config,
                                    gp_status *status) {
    json_t *root = gp_config_load(text, length, name, status);
    if (root == NULL) return false;
    gp_config_reader in = {name, "", root, status};
    bool done = gp_config_flag(&in, "do_lower_case", true, &config->do_lower_case) &&
                gp_config_flag(&in, "strip_accents", config->do_lower_case, &config->strip_accents) &&
                gp_config_flag(&in, "tokenize_chinese_chars", true, &config->tokenize_chinese_chars);
    json_decref(root);
    return done;
}
