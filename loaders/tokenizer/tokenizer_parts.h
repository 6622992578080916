/** What the tokenizer's files share. */
#pragma once

#include "loaders/tokenizer/sentencepiece_shim.h"
#include "loaders/tokenizer/tokenizer.h"

/** What a token of sentencepiece's is when it is decoded. */
typedef enum gp_token_kind {
    GP_TOKEN_TEXT,  /* `text` */
    GP_TOKEN_BYTE,  /* the byte text[0] */
    GP_TOKEN_ADDED, /* set off by spaces */
    GP_TOKEN_SKIPPED,
    GP_TOKEN_NONE, /* no token has this id */
} gp_token_kind;

typedef struct gp_token {
    gp_token_kind kind;
    uint32_t length;
    const char *text; /* spaces where the model has its own sign for them */
} gp_token;

/** A token that is split out before sentencepiece sees the text. */
typedef struct gp_added_token {
    char *text;
    size_t length;
    int32_t id;
    bool special; /* skipped when decoding */
} gp_added_token;

struct gp_tokenizer {
    gp_sentencepiece *processor;
    gp_added_token *added; /* longest first */
    size_t added_count;
    gp_token *tokens; /* [vocabulary] */
    int vocabulary;
    char *texts;    /* what `tokens` point into, but for added ones */
    size_t longest; /* bytes that a token may add to a text, a replaced byte's three included */
};

/** Adds the tokens of one json file; see tokenizer.h. `name` stands in messages. */
bool gp_tokenizer_read_added(gp_tokenizer *tokenizer, const char *text, size_t length, const char *name,
                             bool special, gp_status *status);

/** The tokenizer of a model and two json texts (NULL: absent). What gp_tokenizer_open and the fuzzer call. */
bool gp_tokenizer_build(const void *model, size_t model_size, const char *added, size_t added_size,
                        const char *special, size_t special_size, const char *folder,
                        gp_tokenizer **tokenizer, gp_status *status);

/** Length of the UTF-8 character at text[0] of `length` bytes; 0 when it is none (cut off, overlong, a
 * surrogate, …). */
size_t gp_utf8_length(const char *text, size_t length);

/** Transformers' clean-up of `length` bytes in place; returns the new length. */
size_t gp_clean_up(char *text, size_t length);
