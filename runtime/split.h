/**
 * Tensor parallelism: which rows and columns of the language model's matrices each of `size` ranks has.
 * Attention is cut by heads, SwiGLU by its inner width, the logits by rows of the vocabulary. What does not
 * divide is padded with zeros, so that all ranks have the same sizes; padding adds nothing to any sum.
 */
#pragma once

#include "loaders/config/config.h"

#include <stdint.h>

/** One rank of a group. Zeros, or a size of 1: the model is whole. */
typedef struct gp_split {
    int rank, size;
} gp_split;

/** Rows or columns first … first + count − 1 of the whole, then `padding` of zeros. */
typedef struct gp_range {
    int64_t first, count, padding;
} gp_range;

enum { GP_PART_RANGES = 2 };

/** A rank's rows or columns of a matrix, in this order; ranges of nothing at the end are left out. */
typedef struct gp_part {
    gp_range ranges[GP_PART_RANGES];
} gp_part;

/** What a rank has of the language model. */
typedef struct gp_split_language {
    gp_split split;       /* size 1 at least */
    int kv_heads, group;  /* group: query heads a kv head */
    int64_t intermediate; /* a multiple of GP_OPERAND_ALIGNMENT where there are several ranks */
    int64_t logit_rows;   /* of the vocabulary, from rank·logit_rows on; a multiple of 8 likewise */
    gp_part qkv;          /* rows of wqkv [kv_heads, group + 2, head_dim] */
    gp_part heads;        /* columns of wo [hidden, kv_heads·group·head_dim] */
    gp_part inner;        /* rows of w1 and w3, columns of w2 */
    gp_part logits;       /* rows of the output matrix */
    gp_part embeddings;   /* rows of the embeddings: all on rank 0, none elsewhere */
} gp_split_language;

/**
 * The part of one rank. With kv heads for all, a rank has as many consecutive ones as the others, with all
 * their query heads. With fewer kv heads than ranks, size/kv_heads ranks share a kv head: each has its key
 * and value and some of its query heads; ranks that are left over have zeros alone.
 */
gp_split_language gp_split_of(const gp_language_config *config, gp_split split);

/** Rows or columns of a part, padding included. */
int64_t gp_part_size(const gp_part *part);
