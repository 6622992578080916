#include "runtime/split.h"

#include "kernels/ops.h"

static void split_heads(const gp_language_config *config, gp_split_language *part);
static gp_part slice(int64_t whole, int64_t width, int rank);
static int64_t share(int64_t whole, int size);

gp_split_language gp_split_of(const gp_language_config *config, gp_split split) {
    gp_split_language part = {.split = split.size > 1 ? split : (gp_split){0, 1}};
    const int rank = part.split.rank, size = part.split.size;
    part.intermediate = share(config->intermediate_size, size);
    part.logit_rows = share(config->vocab_size, size);
    part.inner = slice(config->intermediate_size, part.intermediate, rank);
    part.logits = slice(config->vocab_size, part.logit_rows, rank);
    part.embeddings.ranges[0].count = rank == 0 ? config->vocab_size : 0;
    split_heads(config, &part);
    return part;
}

int64_t gp_part_size(const gp_part *part) {
    int64_t size = 0;
    for (int i = 0; i < GP_PART_RANGES; i++) size += part->ranges[i].count + part->ranges[i].padding;
    return size;
}

static void split_heads(const gp_language_config *config, gp_split_language *part) {
    const int rank = part->split.rank, size = part->split.size, kv_heads = config->num_key_value_heads;
    const int64_t group = config->num_attention_heads / kv_heads;
    const int64_t head_dim = config->hidden_size / config->num_attention_heads;
    const int64_t packed = (group + 2) * head_dim; /* rows of wqkv a kv head */
    if (kv_heads >= size) {
        part->kv_heads = (kv_heads + size - 1) / size;
        part->group = (int)group;
        part->qkv = slice(kv_heads * packed, part->kv_heads * packed, rank);
        part->heads = slice(kv_heads * group * head_dim, part->kv_heads * group * head_dim, rank);
        return;
    }
    const int copies = size / kv_heads, kv_head = rank / copies;
    part->kv_heads = 1;
    part->group = (int)((group + copies - 1) / copies);
    const int64_t queries = part->group * head_dim;
    if (kv_head >= kv_heads) {
        part->qkv.ranges[0].padding = queries + 2 * head_dim;
        part->heads.ranges[0].padding = queries;
        return;
    }
    const int64_t first_query = kv_head * group * head_dim;
    gp_range own =
        slice(group * head_dim, queries, rank % copies).ranges[0]; /* of the kv head's query rows */
    part->heads.ranges[0] = (gp_range){first_query + own.first, own.count, own.padding};
    gp_range query_rows = {kv_head * packed + own.first, own.count, own.padding};
    const int64_t key_rows = kv_head * packed + group * head_dim;
    if (query_rows.first + query_rows.count == key_rows && query_rows.padding == 0) {
        query_rows.count += 2 * head_dim; /* the last queries stand before the key and value */
        part->qkv.ranges[0] = query_rows;
    } else {
        part->qkv.ranges[0] = query_rows;
        part->qkv.ranges[1] = (gp_range){key_rows, 2 * head_dim, 0};
    }
}

/** `width` of `whole` from rank·width on, zeros beyond its end. */
static gp_part slice(int64_t whole, int64_t width, int rank) {
    int64_t first = rank * width < whole ? rank * width : whole;
    int64_t count = whole - first < width ? whole - first : width;
    return (gp_part){{{first, count, width - count}}};
}

/** What each of `size` has of `whole`, at the alignment that rows of operands have. */
static int64_t share(int64_t whole, int size) {
    return size > 1 ? gp_operand_width((whole + size - 1) / size) : whole;
}
