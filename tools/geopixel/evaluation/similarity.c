#include "tools/geopixel/evaluation/similarity.h"

#include "kernels/base/memory.h"

#include <stdio.h>
#include <string.h>

bool gp_similarity_open(const char *bert, int threads, gp_similarity *similarity, gp_status *status) {
    const char *kind = bert != NULL ? "BERT, " : "shared words";
    size_t size = strlen(kind) + (bert != NULL ? strlen(bert) : 0) + 1;
    *similarity = (gp_similarity){.name = gp_allocate(size), .embeddings = json_object()};
    if (similarity->name == NULL || similarity->embeddings == NULL)
        return gp_fail(status, "no memory for phrases");
    snprintf(similarity->name, size, "%s%s", kind, bert != NULL ? bert : "");
    return bert != NULL ? gp_bert_open(bert, threads, &similarity->bert, status)
                        : gp_words_split(&similarity->vocabulary, "a an the", &similarity->articles, status);
}

/** The phrase's mean hidden state, computed once. Valid until the next call. */
static bool embedding(gp_similarity *s, const char *phrase, size_t *number, gp_status *status) {
    const size_t hidden = (size_t)gp_bert_hidden(s->bert);
    const json_t *known = json_object_get(s->embeddings, phrase);
    *number = known != NULL ? (size_t)json_integer_value(known) : s->phrases;
    if (known != NULL) return true;
    if (s->phrases == s->capacity) {
        size_t capacity = 2 * s->capacity + 64;
        float *wider =
            gp_grow(s->means, s->phrases * hidden * sizeof *wider, capacity * hidden * sizeof *wider);
        if (wider == NULL) return gp_fail(status, "no memory for %zu phrases", capacity);
        s->means = wider;
        s->capacity = capacity;
    }
    if (!gp_bert_embed(s->bert, phrase, s->means + s->phrases * hidden, status)) return false;
    if (json_object_set_new(s->embeddings, phrase, json_integer((json_int_t)s->phrases)) != 0)
        return gp_fail(status, "no memory for a phrase");
    s->phrases++;
    return true;
}

/** The phrase's words but for articles. */
static bool content(gp_similarity *s, const char *phrase, gp_words *words, gp_status *status) {
    const gp_words *articles = &s->articles;
    size_t kept = 0;
    bool done = gp_words_split(&s->vocabulary, phrase, words, status);
    for (size_t i = 0; done && i < words->count; i++) {
        bool article = false;
        for (size_t k = 0; k < articles->count; k++) article |= articles->numbers[k] == words->numbers[i];
        if (!article) words->numbers[kept++] = words->numbers[i];
    }
    words->count = kept;
    return done;
}

static bool shared_words(gp_similarity *s, const char *a, const char *b, double *value, gp_status *status) {
    gp_words left = {0}, right = {0};
    bool done = content(s, a, &left, status) && content(s, b, &right, status);
    const uint32_t *stem = s->vocabulary.stem;
    size_t common = 0;
    for (size_t i = 0; done && i < left.count; i++)
        for (size_t j = 0; j < right.count; j++) {
            if (right.numbers[j] == UINT32_MAX || stem[left.numbers[i]] != stem[right.numbers[j]]) continue;
            right.numbers[j] = UINT32_MAX; /* each once */
            common++;
            break;
        }
    *value = left.count + right.count == 0 ? 0 : 2.0 * (double)common / (double)(left.count + right.count);
    gp_free(left.numbers);
    gp_free(right.numbers);
    return done;
}

bool gp_similarity_of(gp_similarity *s, const char *a, const char *b, double *value, gp_status *status) {
    size_t left, right, hidden;
    if (s->bert == NULL) return shared_words(s, a, b, value, status);
    if (!embedding(s, a, &left, status) || !embedding(s, b, &right, status)) return false;
    hidden = (size_t)gp_bert_hidden(s->bert);
    *value = gp_bert_similarity(s->means + left * hidden, s->means + right * hidden, (int)hidden);
    return true;
}

void gp_similarity_close(gp_similarity *similarity) {
    gp_bert_close(similarity->bert);
    gp_free(similarity->articles.numbers);
    gp_vocabulary_free(&similarity->vocabulary);
    json_decref(similarity->embeddings);
    gp_free(similarity->means);
    gp_free(similarity->name);
    *similarity = (gp_similarity){0};
}
