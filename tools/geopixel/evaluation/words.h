/** Texts to words, as caption metrics count them, and words to numbers. */
#pragma once

#include "kernels/base/status.h"

#include <jansson.h>
#include <stdint.h>

/** Words by number: the same word, the same number, across all texts of a set. Zeros to begin with; free with
 * gp_vocabulary_free. */
typedef struct gp_vocabulary {
    json_t *numbers; /* word → number */
    json_t *stems;   /* stem → number, numbers of their own */
    uint32_t *stem;  /* of each word */
    bool *function;  /* whether the word only binds others: "the", "of" */
    size_t count, capacity;
    void *stemmer; /* libstemmer's English one */
} gp_vocabulary;

/** Numbers of words; free with gp_free(numbers). */
typedef struct gp_words {
    uint32_t *numbers;
    size_t count;
} gp_words;

/** The answer as a caption: without <…> tags and [SEG], runs of white space as one blank, trimmed. Free with
 * gp_free; NULL when memory is out. */
char *gp_caption(const char *text);

/**
 * Words after the Penn Treebank's custom, lower-cased, without punctuation: n't, 's and the like stand apart,
 * so do the halves of cannot, words joined by a hyphen or a slash stay together, numbers keep the points,
 * commas and colons inside them, %, $ and & are words, brackets -lrb- and the like, typographic quotes,
 * dashes and dots count as plain ones. What Stanford's tokenizer, which pycocoevalcap runs, does beyond that
 * (abbreviations with their point, gonna, '90s, numbers that begin with a point, addresses) is not done.
 */
bool gp_words_split(gp_vocabulary *vocabulary, const char *text, gp_words *words, gp_status *status);

void gp_vocabulary_free(gp_vocabulary *vocabulary);
