/**
 * Any bytes as the tokenizer's two json files and a text, parted by zero bytes, beside a model of a few
 * pieces: what is opened must encode and decode without harm, and a stream must give the same text as the
 * decoding at once.
 */
#include "kernels/base/memory.h"
#include "loaders/tokenizer/tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/** A protobuf field of kind 2 (bytes), shorter than 128. */
static size_t put_field(unsigned char *target, int field, const void *bytes, size_t length) {
    target[0] = (unsigned char)(field << 3 | 2);
    target[1] = (unsigned char)length;
    memcpy(target + 2, bytes, length);
    return length + 2;
}

/** A BPE model: <unk>, <s>, </s>, and some characters and merges. */
static size_t make_model(unsigned char *model) {
    static const struct {
        const char *text;
        unsigned char kind;
    } pieces[] = {{"<unk>", 2},
                  {"<s>", 3},
                  {"</s>", 3},
                  {"[UNUSED_TOKEN_145]", 4},
                  {"\xE2\x96\x81", 1},
                  {"a", 1},
                  {"b", 1},
                  {"'", 1},
                  {".", 1},
                  {"n", 1},
                  {"t", 1},
                  {"ab", 1},
                  {"\xE2\x96\x81"
                   "a",
                   1}};
    size_t at = 0;
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        unsigned char piece[64];
        size_t length = put_field(piece, 1, pieces[i].text, strlen(pieces[i].text));
        float score = pieces[i].kind == 1 ? -(float)i : 0;
        piece[length++] = 2 << 3 | 5;
        memcpy(piece + length, &score, 4), length += 4;
        piece[length++] = 3 << 3;
        piece[length++] = pieces[i].kind;
        at += put_field(model + at, 1, piece, length);
    }
    static const unsigned char trainer[] = {3 << 3, 2}, normalizer[] = {3 << 3, 0, 4 << 3, 0, 5 << 3, 1};
    at += put_field(model + at, 2, trainer, sizeof trainer);
    return at + put_field(model + at, 3, normalizer, sizeof normalizer);
}

static void use(const gp_tokenizer *tokenizer, const char *text, size_t length) {
    gp_token_ids ids;
    gp_status status = {0};
    char *whole = NULL;
    if (gp_tokenizer_encode(tokenizer, text, length, true, &ids, &status)) {
        if (!gp_tokenizer_decode(tokenizer, ids.ids, ids.count, &whole, &status)) abort();
        gp_text_stream *stream;
        if (!gp_text_stream_open(tokenizer, ids.count, &stream, &status)) abort();
        for (size_t i = 0; i < ids.count; i++) gp_text_stream_push(stream, ids.ids[i]);
        gp_text_stream_finish(stream);
        if (strstr(whole, "[UNUSED_TOKEN_145]") == NULL && strcmp(whole, gp_text_stream_text(stream)) != 0)
            abort();
        gp_text_stream_close(stream);
        gp_free(whole);
        gp_free(ids.ids);
    }
    gp_status_clear(&status);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    unsigned char model[1024];
    size_t model_size = make_model(model);
    const char *parts[3] = {(const char *)data, NULL, NULL};
    size_t lengths[3] = {size, 0, 0};
    for (int i = 0; i < 2 && parts[i] != NULL; i++) {
        const char *zero = lengths[i] > 0 ? memchr(parts[i], '\0', lengths[i]) : NULL;
        if (zero == NULL) break;
        parts[i + 1] = zero + 1;
        lengths[i + 1] = lengths[i] - (size_t)(zero - parts[i]) - 1;
        lengths[i] = (size_t)(zero - parts[i]);
    }
    gp_tokenizer *tokenizer;
    gp_status status = {0};
    if (gp_tokenizer_build(model, model_size, lengths[0] > 0 ? parts[0] : NULL, lengths[0],
                           lengths[1] > 0 ? parts[1] : NULL, lengths[1], "fuzzed", &tokenizer, &status)) {
        if (parts[2] != NULL) use(tokenizer, parts[2], lengths[2]);
        gp_tokenizer_close(tokenizer);
    } else if (!gp_failed(&status)) {
        abort();
    }
    gp_status_clear(&status);
    return 0;
}
