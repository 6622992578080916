/** How alike two phrases are, for recall: by a BERT checkpoint, or by the words they share. */
#pragma once

#include "runtime/bert.h"
#include "tools/geopixel/evaluation/words.h"

/** Zeros to begin with; free with gp_similarity_close. */
typedef struct gp_similarity {
    gp_bert *bert; /* NULL: by words */
    char *name;    /* "BERT (DIR)" or "shared words" */
    gp_vocabulary vocabulary;
    gp_words articles;
    json_t *embeddings; /* phrase → its number in `means` */
    float *means;       /* [phrases, hidden] */
    size_t phrases, capacity;
} gp_similarity;

/** `bert` is a checkpoint's folder; NULL: by shared words. */
bool gp_similarity_open(const char *bert, int threads, gp_similarity *similarity, gp_status *status);

/**
 * Of two phrases, 0 … 1 (BERT: the cosine of the mean last hidden states, −1 … 1). By words: 2·c/(a + b) of a
 * and b words, c of them common by their stems; articles count for nothing.
 */
bool gp_similarity_of(gp_similarity *similarity, const char *a, const char *b, double *value,
                      gp_status *status);

void gp_similarity_close(gp_similarity *similarity);
