/**
 * Any bytes as a BERT's config.json, its tokenizer_config.json, its vocabulary and a text, parted by zero
 * bytes: what is taken must keep its promises, and every text that is UTF-8 must become ids of the
 * vocabulary between [CLS] and [SEP]. Configurations that are refused give way to a fixed one, so that
 * vocabulary and text are tried all the same.
 */
#include "runtime/wordpiece.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PARTS = 4, IDS_MAX = 24 };

static void configure(const char *const *parts, const size_t *lengths, gp_bert_config *config) {
    gp_status status = {0};
    bool read = gp_bert_config_parse(parts[0], lengths[0], "fuzzed", config, &status);
    if (read == gp_failed(&status)) abort();
    gp_status_clear(&status);
    if (read &&
        (config->vocab_size < 1 || config->max_position_embeddings < 2 || config->num_attention_heads < 1 ||
         config->hidden_size < 1 || config->hidden_size % config->num_attention_heads != 0 ||
         config->hidden_size / config->num_attention_heads > 128))
        abort();
    if (!read) *config = (gp_bert_config){.vocab_size = 64, .do_lower_case = true, .strip_accents = true};
    read = gp_bert_config_parse_tokenizer(parts[1], lengths[1], "fuzzed", config, &status);
    if (read == gp_failed(&status)) abort();
    gp_status_clear(&status);
}

static void encode(const gp_wordpiece *wordpiece, const gp_bert_config *config, const char *text,
                   size_t length) {
    int32_t whole[IDS_MAX], begun[2 + IDS_MAX / 2];
    int count, begun_count;
    gp_status status = {0};
    char *terminated = malloc(length + 1);
    if (terminated == NULL) return;
    memcpy(terminated, text, length);
    terminated[length] = '\0';
    if (gp_wordpiece_encode(wordpiece, terminated, whole, IDS_MAX, &count, &status)) {
        if (count < 2 || count > IDS_MAX) abort();
        for (int i = 0; i < count; i++)
            if (whole[i] < 0 || whole[i] >= config->vocab_size) abort();
        int most = 2 + IDS_MAX / 2;
        if (!gp_wordpiece_encode(wordpiece, terminated, begun, most, &begun_count, &status)) abort();
        if (begun_count != (count < most ? count : most) || begun[begun_count - 1] != whole[count - 1] ||
            memcmp(begun, whole, (size_t)(begun_count - 1) * sizeof *begun) != 0)
            abort();
    } else if (!gp_failed(&status)) {
        abort();
    }
    gp_status_clear(&status);
    free(terminated);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *parts[PARTS], *at = (const char *)data;
    size_t lengths[PARTS], left = size;
    for (int i = 0; i < PARTS; i++) {
        const char *zero = left > 0 ? memchr(at, '\0', left) : NULL;
        parts[i] = at;
        lengths[i] = zero != NULL ? (size_t)(zero - at) : left;
        size_t step = lengths[i] + (zero != NULL);
        at = step > 0 ? at + step : at;
        left -= step;
    }
    gp_bert_config config;
    gp_wordpiece *wordpiece;
    gp_status status = {0};
    configure((const char *const *)parts, lengths, &config);
    if (gp_wordpiece_build(parts[2], lengths[2], "fuzzed", &config, &wordpiece, &status)) {
        encode(wordpiece, &config, parts[3], lengths[3]);
        gp_wordpiece_close(wordpiece);
    } else if (!gp_failed(&status)) {
        abort();
    }
    gp_status_clear(&status);
    return 0;
}
