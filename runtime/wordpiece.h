/**
 * BERT's tokenizer: a vocabulary of word pieces (vocab.txt), and text to ids as Hugging Face's BertTokenizer
 * gives them. Control characters go, words are parted at white space, punctuation and CJK characters, made
 * lower case and stripped of accents, then cut greedily into the longest pieces that the vocabulary has.
 */
#pragma once

#include "kernels/base/status.h"
#include "loaders/config/bert_config.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct gp_wordpiece gp_wordpiece;

/**
 * Reads FOLDER/vocab.txt, a piece a line, its id the line's number from 0 on; of a piece that is there twice
 * the last counts. `config` says how words are made and how many ids there may be. Fails naming the file:
 * where it cannot be read, holds more pieces than config->vocab_size, or lacks [UNK], [CLS] or [SEP]. Free
 * with gp_wordpiece_close.
 */
bool gp_wordpiece_open(const char *folder, const gp_bert_config *config, gp_wordpiece **wordpiece,
                       gp_status *status);

/** The same from the text of a vocabulary, which is copied; `name` stands in messages. What the fuzzer calls.
 */
bool gp_wordpiece_build(const char *text, size_t length, const char *name, const gp_bert_config *config,
                        gp_wordpiece **wordpiece, gp_status *status);

/**
 * [CLS], the text's pieces, [SEP]: at most `most` >= 2 ids, of a longer text its beginning. Names of special
 * tokens in the text are text like any other. `ids` [most] receives `count` ids below config->vocab_size.
 * Fails, naming the byte, where the text is not UTF-8, and where memory is out. Any thread may call it at any
 * time.
 */
bool gp_wordpiece_encode(const gp_wordpiece *wordpiece, const char *text, int32_t *ids, int most, int *count,
                         gp_status *status);

/** NULL is allowed. */
void gp_wordpiece_close(gp_wordpiece *wordpiece);
