/**
 * BERT, so that an evaluation can ask how alike two phrases are: a text's embedding is the mean of the last
 * layer's states over all of its tokens, [CLS] and [SEP] among them, and two are compared by their cosine.
 * Runs on the CPU, over kernels/ops.h like the model itself.
 */
#pragma once

#include "kernels/base/status.h"

#include <stdbool.h>

typedef struct gp_bert gp_bert;

/**
 * Opens a BERT in a Hugging Face folder: config.json, vocab.txt, tokenizer_config.json where there is one,
 * and weights as gp_checkpoint_open finds them, whose names may begin with "bert." and may call the norms'
 * weights gamma and beta. What the folder has beyond the encoder (pooler, heads) is not read. `threads` as
 * for gp_backend_open_cpu. Fails naming the file, the field or the tensors, and the numbers; nothing is left
 * open then. Free with gp_bert_close.
 */
bool gp_bert_open(const char *folder, int threads, gp_bert **bert, gp_status *status);

/** hidden_size: the numbers of an embedding. */
int gp_bert_hidden(const gp_bert *bert);

/**
 * The embedding of a text (UTF-8, terminated): `mean` receives gp_bert_hidden numbers. Of a text longer than
 * the model's positions, its beginning. The same text gives the same bits always, so that callers may keep
 * embeddings. Fails where the text is not UTF-8 and where memory is out. One thread at a time.
 */
bool gp_bert_embed(gp_bert *bert, const char *text, float *mean, gp_status *status);

/** The cosine of the angle between two embeddings of `hidden` numbers, in −1 … 1; 0 where one is zero. */
double gp_bert_similarity(const float *a, const float *b, int hidden);

/** NULL is allowed. */
void gp_bert_close(gp_bert *bert);
