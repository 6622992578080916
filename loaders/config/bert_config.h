/**
 * config.json and tokenizer_config.json of a BERT in a Hugging Face folder. Fields keep the names of the
 * files.
 */
#pragma once

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct gp_bert_config {
    int vocab_size;
    int hidden_size;
    int intermediate_size;
    int num_hidden_layers;
    int num_attention_heads;
    int max_position_embeddings;
    int type_vocab_size;
    float layer_norm_eps;
    /* tokenizer_config.json; all true where it is not there */
    bool do_lower_case;
    bool strip_accents; /* where it is not said: do_lower_case */
    bool tokenize_chinese_chars;
} gp_bert_config;

/**
 * Reads `folder`/config.json, and `folder`/tokenizer_config.json where there is one. Fails naming the file,
 * the field, what stands there and what is accepted: sizes that are missing, out of range or do not divide,
 * activations other than "gelu", position embeddings other than "absolute", models other than "bert".
 */
bool gp_bert_config_read(const char *folder, gp_bert_config *config, gp_status *status);

/** config.json alone, from its text; `name` stands in messages. What the fuzzer calls. */
bool gp_bert_config_parse(const char *text, size_t length, const char *name, gp_bert_config *config,
                          gp_status *status);

/** tokenizer_config.json alone, from its text. */
bool gp_bert_config_parse_tokenizer(const char *text, size_t length, const char *name, gp_bert_config *config,
                                    gp_status *status);
