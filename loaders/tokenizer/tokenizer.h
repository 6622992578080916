/**
 * The tokenizer of a checkpoint: sentencepiece BPE plus added tokens, by the rules of the Hugging Face slow
 * tokenizer (transformers 4.33), and the decoding that a user reads.
 */
#pragma once

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct gp_tokenizer gp_tokenizer;

/**
 * Reads tokenizer.model, added_tokens.json and special_tokens_map.json in `folder` (the two json files may be
 * absent). Fails naming the file and what is wrong with it; added ids must be distinct and non-negative.
 * Free with gp_tokenizer_close.
 */
bool gp_tokenizer_open(const char *folder, gp_tokenizer **tokenizer, gp_status *status);

void gp_tokenizer_close(gp_tokenizer *tokenizer);

/** One more than the largest id, added tokens included. */
int gp_tokenizer_vocabulary(const gp_tokenizer *tokenizer);

/** The id of an added token, a special token or a piece, spelled exactly; -1 when there is none. */
int gp_tokenizer_id(const gp_tokenizer *tokenizer, const char *piece);

int gp_tokenizer_bos(const gp_tokenizer *tokenizer);

/** The ids of a text. `ids` is owned by the caller after success: free with gp_free. */
typedef struct gp_token_ids {
    int32_t *ids;
    size_t count;
} gp_token_ids;

/**
 * Tokens of `length` bytes of UTF-8: added and special tokens are split out first (longest first, white space
 * on their sides stripped by Python's str.strip), the rest goes through sentencepiece. `bos` puts the
 * beginning-of-sentence id in front, even of nothing.
 */
bool gp_tokenizer_encode(const gp_tokenizer *tokenizer, const char *text, size_t length, bool bos,
                         gp_token_ids *ids, gp_status *status);

/**
 * The decoding of `count` ids as the official program prints it before [UNUSED_TOKEN_145] is taken out:
 * special tokens skipped, runs of pieces decoded by sentencepiece's rules (bytes joined, each invalid one
 * and each zero, which would end a C text, U+FFFD) and cleaned up, runs and added tokens joined by one space.
 * Ids that nothing stands for fail with the id. `text` is owned by the caller after success: free with
 * gp_free.
 */
bool gp_tokenizer_decode(const gp_tokenizer *tokenizer, const int32_t *ids, size_t count, char **text,
                         gp_status *status);

/**
 * A decoding that grows token by token. What it has given out never changes afterwards: no half character,
 * and nothing that a later token's clean-up could still alter. [UNUSED_TOKEN_145] is taken out.
 */
typedef struct gp_text_stream gp_text_stream;

/** A stream for at most `max_tokens` tokens; it allocates here and never again. Free with
 * gp_text_stream_close. */
bool gp_text_stream_open(const gp_tokenizer *tokenizer, size_t max_tokens, gp_text_stream **stream,
                         gp_status *status);
void gp_text_stream_close(gp_text_stream *stream);

/**
 * Adds one id and returns the text that became certain (UTF-8, terminated, possibly empty; valid until the
 * next call). Ids that nothing stands for add nothing; ids beyond max_tokens are ignored.
 */
const char *gp_text_stream_push(gp_text_stream *stream, int32_t id);

/** What was still held back; the stream then holds the whole text. */
const char *gp_text_stream_finish(gp_text_stream *stream);

/** After gp_text_stream_finish: the whole text. Valid as long as the stream. */
const char *gp_text_stream_text(const gp_text_stream *stream);
