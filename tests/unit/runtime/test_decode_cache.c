/**
 * test_decode_cache MODEL: the language model's cache. A prompt's hidden states are the same bits whether it
 * went through in one piece, in pieces of any length, one token at a time, beside another sequence, or from a
 * fork of a shared prefix: so decoding with the cache is the same as running the whole prefix again for every
 * token.
 */
#include "tests/unit/runtime/asking.h"

enum { LENGTH = 150 };

/** A model on a backend, with buffers and a cache of its own. */
typedef struct bench {
    const gp_model *model;
    gp_backend *backend;
    gp_language_buffers buffers;
    void *block;
    gp_kv_cache cache;
} bench;

/** Rows first … of `count` sequences' ids through the model; their final-norm rows to `out`, packed. */
static void forward(bench *b, int count, const int32_t *const *ids, const int *first, const int *rows,
                    gp_page_table *tables, float *out) {
    const gp_language *language = &b->model->language;
    const gp_ops *ops = b->backend->ops;
    gp_sequence sequences[2];
    int packed = 0;
    bool decode = true; /* of text rows one by one: on this backend, rows like any other */
    for (int s = 0; s < count; s++) {
        sequences[s] = (gp_sequence){packed, rows[s], first[s], tables[s].device_pages};
        uint8_t image_row[LENGTH];
        for (int i = 0; i < rows[s]; i++)
            image_row[i] = (first[s] + i) % 40 < 25; /* as if part were an image */
        ops->upload(b->backend, b->buffers.ids + packed, ids[s] + first[s],
                    (size_t)rows[s] * sizeof(int32_t));
        ops->upload(b->backend, b->buffers.image_row + packed, image_row, (size_t)rows[s]);
        packed += rows[s];
        decode = decode && rows[s] == 1 && image_row[0] == 0;
    }
    ops->embed(b->backend, &(gp_embed){language->embeddings, b->buffers.ids, packed, b->buffers.x});
    gp_language_forward(language, b->backend, &b->buffers, packed, sequences, count, &b->cache, decode);
    gp_language_final(language, b->backend, &b->buffers, 0, packed);
    ops->download(b->backend, out, b->buffers.final,
                  (size_t)packed * (size_t)language->config.hidden_size * sizeof *out);
}

int main(int count, char **arguments) {
    REQUIRE(count == 2, "usage: test_decode_cache MODEL");
    uint64_t seed = fresh_seed();
    gp_status status = {0};
    gp_engine *engine = open_engine(arguments[1], 3);
    bench b = {.model = gp_engine_model(engine)};
    b.backend = b.model->backend;
    const gp_language *language = &b.model->language;
    size_t hidden = (size_t)language->config.hidden_size;
    gp_arena measure = {0};
    gp_language_layout(language, b.backend, 2 * LENGTH, &measure, &b.buffers);
    gp_arena arena = {.block = b.block = b.backend->ops->allocate(b.backend, measure.peak),
                      .capacity = measure.peak};
    gp_language_layout(language, b.backend, 2 * LENGTH, &arena, &b.buffers);
    REQUIRE(arena.used <= arena.capacity, "the arena is what was measured");
    REQUIRE(gp_kv_cache_open(&b.cache, b.backend, language->config.num_hidden_layers,
                             language->config.num_key_value_heads, language->head_dim, 16, NULL, &status),
            "%s", status.message);
    gp_page_table tables[3];
    for (int i = 0; i < 3; i++)
        REQUIRE(gp_page_table_open(&tables[i], b.backend, 8, &status), "%s", status.message);
    int32_t ids[2][LENGTH];
    for (int i = 0; i < LENGTH; i++)
        for (int s = 0; s < 2; s++)
            ids[s][i] = (int32_t)(random_bits(&seed) % (uint64_t)language->config.vocab_size);
    float *whole = gp_allocate(LENGTH * hidden * sizeof *whole),
          *other = gp_allocate(2 * LENGTH * hidden * sizeof *other);

    REQUIRE(gp_page_table_reserve(&tables[0], &b.cache, LENGTH, &status), "%s", status.message);
    forward(&b, 1, (const int32_t *[]){ids[0]}, (int[]){0}, (int[]){LENGTH}, tables, whole);
    for (int way = 0; way < 4; way++) {
        gp_page_table_release(&tables[0], &b.cache);
        REQUIRE(gp_page_table_reserve(&tables[0], &b.cache, LENGTH, &status), "%s", status.message);
        for (int done = 0; done < LENGTH;) {
            int left = LENGTH - done, piece = way == 0 ? 1 : 1 + (int)(random_bits(&seed) % (uint64_t)left);
            forward(&b, 1, (const int32_t *[]){ids[0]}, (int[]){done}, (int[]){piece}, tables,
                    other + (size_t)done * hidden);
            done += piece;
        }
        CHECK(memcmp(whole, other, LENGTH * hidden * sizeof *whole) == 0, "%s differs from the whole prompt",
              way == 0 ? "token by token" : "in pieces");
    }

    REQUIRE(gp_page_table_reserve(&tables[1], &b.cache, LENGTH, &status), "%s", status.message);
    forward(&b, 2, (const int32_t *[]){ids[1], ids[0]}, (int[]){0, 0}, (int[]){70, LENGTH},
            (gp_page_table[]){tables[1], tables[0]}, other);
    CHECK(memcmp(whole, other + 70 * hidden, LENGTH * hidden * sizeof *whole) == 0,
          "beside another sequence it differs");

    gp_page_table_release(&tables[1], &b.cache);
    REQUIRE(gp_page_table_fork(&tables[0], &b.cache, 100, &tables[2], &status), "%s", status.message);
    REQUIRE(gp_page_table_reserve(&tables[2], &b.cache, LENGTH, &status), "%s", status.message);
    forward(&b, 1, (const int32_t *[]){ids[0]}, (int[]){100}, (int[]){LENGTH - 100}, &tables[2], other);
    CHECK(memcmp(whole + 100 * hidden, other, (LENGTH - 100) * hidden * sizeof *whole) == 0,
          "from a fork it differs");

    for (int i = 0; i < 3; i++) gp_page_table_close(&tables[i], &b.cache);
    gp_kv_cache_close(&b.cache);
    b.backend->ops->release(b.backend, b.block);
    gp_free(whole);
    gp_free(other);
    gp_engine_close(engine);
    return check_done();
}
