/**
 * test_split FOLDER: the parts of the language model that ranks have, of a model in FOLDER or in its
 * checkpoint/. For 1 to 8 ranks every row and column of the whole is where the rule says, padding is zeros,
 * products of parts concatenate or add up to the whole's, one run is the file's own bytes, and a dry binder
 * counts what the real one does.
 */
#include "kernels/base/memory.h"
#include "runtime/language.h"
#include "tests/check.h"

static uint64_t state;

/** A bound language model, and the binder that holds its memory. */
typedef struct bound {
    gp_binder binder;
    gp_language language;
} bound;

static bound bind(gp_checkpoint *checkpoint, gp_backend *backend, const gp_config *config, gp_split split,
                  bool dry) {
    bound made = {.binder = {.checkpoint = checkpoint, .backend = backend, .dry = dry, .split = split}};
    gp_status status = {0};
    REQUIRE(gp_language_bind(&made.language, config, &made.binder, &status), "%s", status.message);
    REQUIRE(made.binder.problem_count == 0, "%s", made.binder.problems.message);
    return made;
}

static void release(bound *made) {
    gp_binder *binder = &made->binder;
    for (size_t i = 0; i < binder->owned_count; i++)
        binder->backend->ops->release(binder->backend, binder->owned[i]);
    for (size_t i = 0; i < binder->owned_host_count; i++) gp_free(binder->owned_host[i]);
    gp_binder_clear(binder);
    gp_language_free(&made->language);
}

/* ---- the rule, an index at a time: which of the whole's an index of a part is, or −1 for padding ---- */

typedef enum axis { WHOLE, QKV, HEADS, INNER, LOGITS } axis;

static int64_t rounded(int64_t whole, int size) {
    int64_t share = (whole + size - 1) / size;
    return size == 1 ? whole : (share + 7) / 8 * 8;
}

/** The kv head and the query head in it that local query head `query` of local kv head `head` is; false: of
 * padding. */
static bool find_head(const gp_language_config *c, gp_split split, int head, int query, int *kv_head,
                      int *whole_query) {
    int kv_heads = c->num_key_value_heads, group = c->num_attention_heads / kv_heads;
    if (kv_heads >= split.size) {
        *kv_head = split.rank * ((kv_heads + split.size - 1) / split.size) + head;
        *whole_query = query;
    } else {
        int copies = split.size / kv_heads;
        *kv_head = split.rank / copies;
        *whole_query = split.rank % copies * ((group + copies - 1) / copies) + query;
    }
    return *kv_head < kv_heads;
}

static int64_t local_index(const gp_language *part, axis kind, int64_t index) {
    const gp_language_config *c = &part->config;
    const int group = c->num_attention_heads / c->num_key_value_heads, d = part->head_dim;
    int kv_head, query;
    int64_t at = index;
    switch (kind) {
    case WHOLE:
        return index;
    case QKV: {
        int slot = (int)(index / d % (part->group + 2)), head = (int)(index / d / (part->group + 2));
        bool is_query = slot < part->group;
        if (!find_head(c, part->split, head, is_query ? slot : 0, &kv_head, &query)) return -1;
        if (is_query && query >= group) return -1;
        int whole_slot = is_query ? query : slot - part->group + group;
        return ((int64_t)kv_head * (group + 2) + whole_slot) * d + index % d;
    }
    case HEADS: {
        int slot = (int)(index / d % part->group), head = (int)(index / d / part->group);
        if (!find_head(c, part->split, head, slot, &kv_head, &query) || query >= group) return -1;
        return ((int64_t)kv_head * group + query) * d + index % d;
    }
    case INNER:
        at += part->split.rank * rounded(c->intermediate_size, part->split.size);
        return at < c->intermediate_size ? at : -1;
    case LOGITS:
        at += part->split.rank * rounded(c->vocab_size, part->split.size);
        return at < c->vocab_size ? at : -1;
    }
    return -1;
}

/* ---- matrices ---- */

static const unsigned char *place_of(const gp_matrix *matrix, int64_t row, int64_t column) {
    return (const unsigned char *)matrix->data +
           (size_t)(row * matrix->stride + column) * gp_dtype_size(matrix->dtype);
}

static float value(const gp_matrix *matrix, int64_t row, int64_t column) {
    float wide;
    gp_convert_to_f32(place_of(matrix, row, column), matrix->dtype, 1, &wide);
    return wide;
}

/** Elements are the whole's, to the bit, or zeros; what needs no padding is the whole's own memory. */
static void check_part(const gp_language *language, const gp_matrix *part, axis rows, axis columns,
                       const gp_matrix *whole, const char *name, int *row_seen) {
    const size_t size = gp_dtype_size(whole->dtype);
    const gp_split split = language->split;
    static const unsigned char zeros[4];
    bool one_run = true;
    REQUIRE(part->data != NULL && part->dtype == whole->dtype && part->stride >= part->columns, "%s", name);
    for (int64_t row = 0; row < part->rows; row++) {
        int64_t from_row = local_index(language, rows, row);
        one_run = one_run && from_row >= 0 && from_row == local_index(language, rows, 0) + row;
        if (from_row >= 0) row_seen[from_row]++;
        for (int64_t column = 0; column < part->columns; column++) {
            int64_t from_column = local_index(language, columns, column);
            bool padding = from_row < 0 || from_column < 0;
            one_run =
                one_run && from_column >= 0 && from_column == local_index(language, columns, 0) + column;
            REQUIRE(padding || (from_row < whole->rows && from_column < whole->columns), "%s", name);
            CHECK(memcmp(place_of(part, row, column),
                         padding ? zeros : place_of(whole, from_row, from_column), size) == 0,
                  "%s of rank %d of %d: [%lld, %lld] is %g", name, split.rank, split.size, (long long)row,
                  (long long)column, (double)value(part, row, column));
        }
    }
    if (one_run)
        CHECK(part->data ==
                  place_of(whole, local_index(language, rows, 0), local_index(language, columns, 0)),
              "%s of rank %d of %d is a copy", name, split.rank, split.size);
}

/** y [rows] += x Wᵀ. */
static void product(const gp_matrix *weight, const double *x, double *y) {
    for (int64_t row = 0; row < weight->rows; row++)
        for (int64_t k = 0; k < weight->columns; k++) y[row] += (double)value(weight, row, k) * x[k];
}

/* ---- a matrix of all ranks ---- */

typedef enum which { WEIGHT, LORA_A, LORA_B, OUTPUT } which;

/** A matrix of the layer's linear at `offset`, or the output matrix. */
static const gp_matrix *choose(const gp_language *language, int layer, size_t offset, which what) {
    const gp_lora_linear *linear = (const void *)((const char *)&language->layers[layer] + offset);
    return what == OUTPUT   ? &language->output
           : what == WEIGHT ? &linear->weight
           : what == LORA_A ? &linear->a
                            : &linear->b;
}

static void check_matrix(const bound *whole, const bound *ranks, int size, size_t offset, int layer,
                         which what, axis rows, axis columns, const char *name) {
    const gp_language_config *c = &whole->language.config;
    const gp_matrix *all = choose(&whole->language, layer, offset, what);
    int *seen = calloc((size_t)all->rows, sizeof *seen);
    double *x = calloc((size_t)all->columns, sizeof *x), *want = calloc((size_t)all->rows, sizeof *want);
    double *have = calloc((size_t)all->rows, sizeof *have);
    REQUIRE(seen != NULL && x != NULL && want != NULL && have != NULL, "no memory");
    for (int64_t k = 0; k < all->columns; k++) x[k] = (double)random_float(&state);
    product(all, x, want);
    for (int rank = 0; rank < size; rank++) {
        const gp_language *language = &ranks[rank].language;
        const gp_matrix *part = choose(language, layer, offset, what);
        check_part(language, part, rows, columns, all, name, seen);
        double *own = calloc((size_t)part->columns, sizeof *own), *y = calloc((size_t)part->rows, sizeof *y);
        REQUIRE(own != NULL && y != NULL, "no memory");
        for (int64_t k = 0; k < part->columns; k++) {
            int64_t from = local_index(language, columns, k);
            own[k] = from >= 0 ? x[from] : (double)random_float(&state); /* padding takes no part */
        }
        product(part, own, y);
        for (int64_t row = 0; row < part->rows; row++) {
            int64_t from = local_index(language, rows, row);
            if (from < 0)
                CHECK(y[row] == 0, "%s: a padded row gives %g", name, y[row]);
            else if (columns == WHOLE)
                have[from] = y[row];
            else
                have[from] += y[row];
        }
        free(own);
        free(y);
    }
    int group = c->num_attention_heads / c->num_key_value_heads;
    int copies = size > c->num_key_value_heads ? size / c->num_key_value_heads : 1;
    for (int64_t row = 0; row < all->rows; row++) {
        double magnitude = 0;
        for (int64_t k = 0; k < all->columns; k++) magnitude += fabs((double)value(all, row, k) * x[k]);
        CHECK(fabs(have[row] - want[row]) <= 1e-15 * (double)all->columns * magnitude,
              "%s row %lld: %.17g, not %.17g", name, (long long)row, have[row], want[row]);
        bool shared = rows == QKV && row / whole->language.head_dim % (group + 2) >= group;
        int times = rows == WHOLE ? size : shared ? copies : 1;
        CHECK(seen[row] == times, "%s row %lld: %d times, not %d", name, (long long)row, seen[row], times);
    }
    free(seen);
    free(x);
    free(want);
    free(have);
}

static void check_size(gp_checkpoint *checkpoint, gp_backend *backend, const gp_config *config,
                       const bound *whole, int size) {
    static const struct {
        size_t offset;
        axis rows, columns;
        const char *name;
    } linears[] = {{offsetof(gp_language_layer, wqkv), QKV, WHOLE, "wqkv"},
                   {offsetof(gp_language_layer, wo), WHOLE, HEADS, "wo"},
                   {offsetof(gp_language_layer, w1), INNER, WHOLE, "w1"},
                   {offsetof(gp_language_layer, w3), INNER, WHOLE, "w3"},
                   {offsetof(gp_language_layer, w2), WHOLE, INNER, "w2"}};
    bound ranks[8];
    const gp_language *all = &whole->language;
    for (int rank = 0; rank < size; rank++) {
        gp_split split = {rank, size};
        ranks[rank] = bind(checkpoint, backend, config, split, false);
        bound dry = bind(checkpoint, backend, config, split, true);
        const gp_language *part = &ranks[rank].language, *sized = &dry.language;
        const gp_binder *real = &ranks[rank].binder, *counted = &dry.binder;
        CHECK(real->weight_bytes == counted->weight_bytes && real->placed_bytes == counted->placed_bytes &&
                  real->converted_bytes == counted->converted_bytes,
              "a dry binder counts %llu, not %llu bytes", (unsigned long long)counted->placed_bytes,
              (unsigned long long)real->placed_bytes);
        CHECK(part->kv_heads == sized->kv_heads && part->group == sized->group &&
                  part->intermediate == sized->intermediate && part->logit_rows == sized->logit_rows &&
                  part->rank == sized->rank && part->rank == all->rank,
              "a dry binder has other sizes");
        CHECK(part->kv_heads == ranks[0].language.kv_heads && part->group == ranks[0].language.group &&
                  part->intermediate == ranks[0].language.intermediate &&
                  part->logit_rows == ranks[0].language.logit_rows,
              "rank %d of %d has other sizes than rank 0", rank, size);
        CHECK(part->layers[0].wqkv.weight.rows ==
                      (int64_t)part->kv_heads * (part->group + 2) * part->head_dim &&
                  part->layers[0].wo.weight.columns ==
                      (int64_t)part->kv_heads * part->group * part->head_dim &&
                  part->layers[0].w1.weight.rows == part->intermediate &&
                  part->layers[0].w2.weight.columns == part->intermediate &&
                  part->output.rows == part->logit_rows,
              "matrices of rank %d of %d are not as large as it says", rank, size);
        CHECK(size == 1 || (part->intermediate % 8 == 0 && part->logit_rows % 8 == 0), "%lld and %lld rows",
              (long long)part->intermediate, (long long)part->logit_rows);
        CHECK(rank == 0 ? part->embeddings.data == all->embeddings.data &&
                              part->embeddings.rows == config->language.vocab_size
                        : part->embeddings.data == NULL,
              "embeddings of rank %d", rank);
        CHECK(size > 1 || (real->owned_host_count == 0 && real->placed_bytes == whole->binder.placed_bytes),
              "one rank is not the whole");
        release(&dry);
    }
    for (int layer = 0; layer < config->language.num_hidden_layers; layer++) {
        for (size_t i = 0; i < sizeof linears / sizeof *linears; i++) {
            axis rows = linears[i].rows, columns = linears[i].columns;
            check_matrix(whole, ranks, size, linears[i].offset, layer, WEIGHT, rows, columns,
                         linears[i].name);
            check_matrix(whole, ranks, size, linears[i].offset, layer, LORA_A, WHOLE, columns, "a LoRA's A");
            check_matrix(whole, ranks, size, linears[i].offset, layer, LORA_B, rows, WHOLE, "a LoRA's B");
        }
    }
    check_matrix(whole, ranks, size, 0, 0, OUTPUT, LOGITS, WHOLE, "output");
    for (int rank = 0; rank < size; rank++) release(&ranks[rank]);
}

int main(int argc, char **argv) {
    REQUIRE(argc == 2, "usage: test_split FOLDER");
    char folder[4096];
    static const int sizes[] = {1, 2, 3, 4, 8};
    gp_config config;
    gp_checkpoint *checkpoint = NULL;
    gp_backend *backend = NULL;
    gp_status status = {0};
    snprintf(folder, sizeof folder, "%s/checkpoint", argv[1]);
    if (access(folder, R_OK) != 0) snprintf(folder, sizeof folder, "%s", argv[1]);
    state = fresh_seed();
    size_t before = gp_memory_observe().live_bytes;
    REQUIRE(gp_config_read(folder, &config, &status) && gp_checkpoint_open(folder, &checkpoint, &status) &&
                gp_backend_open_cpu(1, &backend, &status),
            "%s", status.message);
    bound whole = bind(checkpoint, backend, &config, (gp_split){0}, false);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        check_size(checkpoint, backend, &config, &whole, sizes[i]);
    release(&whole);
    gp_backend_close(backend);
    gp_checkpoint_close(checkpoint);
    CHECK(gp_memory_observe().live_bytes == before, "%zu bytes are left",
          gp_memory_observe().live_bytes - before);
    return check_done();
}
