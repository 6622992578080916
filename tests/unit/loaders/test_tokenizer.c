/**
 * The tokenizer against the goldens (the Hugging Face slow tokenizer's own ids and texts), for the small
 * model and, with the added tokens beside it, for InternLM2's; and the stream against the decoding at once,
 * on random ids that make every clean-up rule meet token borders.
 */
#include "kernels/base/memory.h"
#include "loaders/tokenizer/tokenizer_parts.h"
#include "tests/check.h"

#include <jansson.h>
#include <sys/stat.h>

static void check_ids(const gp_tokenizer *tokenizer, const char *text, bool bos, const json_t *want) {
    gp_token_ids have;
    gp_status status = {0};
    REQUIRE(gp_tokenizer_encode(tokenizer, text, strlen(text), bos, &have, &status), "\"%s\": %s", text,
            status.message);
    bool same = have.count == json_array_size(want);
    for (size_t i = 0; same && i < have.count; i++)
        same = have.ids[i] == json_integer_value(json_array_get(want, i));
    CHECK(same, "\"%s\"%s: the ids differ", text, bos ? " with BOS" : "");
    gp_free(have.ids);
}

/** The ids' text by gp_tokenizer_decode, and by a stream whose pieces are joined; they must agree but for
 * marks. */
static void check_text(const gp_tokenizer *tokenizer, const json_t *ids, const json_t *text) {
    size_t count = json_array_size(ids), length = json_string_length(text);
    int32_t *list = gp_allocate((count + 1) * sizeof *list);
    char *have = NULL, *want = gp_allocate(3 * length + 1), *end = want;
    gp_status status = {0};
    for (size_t i = 0; i < count; i++) list[i] = (int32_t)json_integer_value(json_array_get(ids, i));
    for (size_t i = 0; i < length; i++) { /* a zero would end a C text: U+FFFD stands for it */
        char byte = json_string_value(text)[i];
        if (byte == 0)
            end = (char *)memcpy(end, "\xEF\xBF\xBD", 3) + 3;
        else
            *end++ = byte;
    }
    *end = 0;
    REQUIRE(gp_tokenizer_decode(tokenizer, list, count, &have, &status), "%s", status.message);
    CHECK(strcmp(have, want) == 0, "decoded \"%s\", not \"%s\"", have, want);
    gp_free(have);
    gp_free(want);
    gp_free(list);
}

static void test_goldens(const gp_tokenizer *tokenizer, const char *path) {
    json_t *root = json_load_file(path, JSON_ALLOW_NUL, NULL);
    const json_t *encode = json_object_get(root, "encode"), *decode = json_object_get(root, "decode");
    REQUIRE(json_array_size(encode) > 10 && json_array_size(decode) > 0, "%s holds no cases", path);
    CHECK(gp_tokenizer_vocabulary(tokenizer) == json_integer_value(json_object_get(root, "vocabulary")),
          "a vocabulary of %d", gp_tokenizer_vocabulary(tokenizer));
    for (size_t i = 0; i < json_array_size(encode); i++) {
        const json_t *one = json_array_get(encode, i);
        const char *text = json_string_value(json_object_get(one, "text"));
        check_text(tokenizer, json_object_get(one, "ids"), json_object_get(one, "decoded"));
        if (text == NULL || strlen(text) != json_string_length(json_object_get(one, "text")))
            continue; /* a zero byte: not C's text */
        check_ids(tokenizer, text, false, json_object_get(one, "ids"));
        check_ids(tokenizer, text, true, json_object_get(one, "with_bos"));
    }
    for (size_t i = 0; i < json_array_size(decode); i++) {
        const json_t *one = json_array_get(decode, i), *text = json_object_get(one, "text");
        check_text(tokenizer, json_object_get(one, "ids"),
                   text != NULL ? text : json_object_get(one, "decoded"));
    }
    json_decref(root);
}

/** Takes every mark out of a text, in place. */
static void without_marks(char *text) {
    const char *mark = "[UNUSED_TOKEN_145]";
    for (char *at; (at = strstr(text, mark)) != NULL;)
        memmove(at, at + strlen(mark), strlen(at + strlen(mark)) + 1);
}

/** Ids that mean trouble: added tokens, bytes of half characters, spaces, apostrophes, the letters of the
 * patterns. */
static void test_stream(const gp_tokenizer *tokenizer, uint64_t *seed) {
    static const char *const names[] = {"[SEG]",  "<p>",    "</p>",   "<0xE2>", "<0x96>",
                                        "<0x81>", "<0xF0>", "<0x9F>", "<0xC3>", "<0x20>",
                                        "<0x27>", "▁",      "'",      ".",      ",",
                                        "n",      "t",      "s",      "v",      "e",
                                        "r",      "m",      "?",      "!",      "[UNUSED_TOKEN_145]",
                                        "</s>",   "a",      "the",    "▁the",   "▁image",
                                        "["};
    int32_t troubled[sizeof names / sizeof *names];
    int known = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int id = gp_tokenizer_id(tokenizer, names[i]);
        if (id >= 0) troubled[known++] = id;
    }
    CHECK(known > 15, "only %d of the pieces are known", known);
    for (int round = 0; round < 3000; round++) {
        int32_t ids[60];
        size_t count = 1 + random_bits(seed) % 60;
        for (size_t i = 0; i < count; i++)
            ids[i] = random_bits(seed) % 8 == 0
                         ? (int32_t)(random_bits(seed) % (uint64_t)gp_tokenizer_vocabulary(tokenizer))
                         : troubled[random_bits(seed) % (uint64_t)known];
        char *want = NULL, joined[60 * 300] = "";
        gp_text_stream *stream;
        gp_status status = {0};
        if (!gp_tokenizer_decode(tokenizer, ids, count, &want, &status)) { /* an id that nothing stands for */
            gp_status_clear(&status);
            continue;
        }
        without_marks(want);
        REQUIRE(gp_text_stream_open(tokenizer, count, &stream, &status), "%s", status.message);
        uint64_t allocations = gp_memory_observe().allocations;
        for (size_t i = 0; i <= count; i++) {
            const char *piece =
                i < count ? gp_text_stream_push(stream, ids[i]) : gp_text_stream_finish(stream);
            for (size_t at = 0, bytes; piece[at] != '\0'; at += bytes) {
                bytes = gp_utf8_length(piece + at, strlen(piece + at));
                REQUIRE(bytes > 0, "a piece is no UTF-8 at byte %zu", at);
            }
            strcat(joined, piece);
        }
        CHECK(gp_memory_observe().allocations == allocations, "the stream allocates");
        CHECK(strcmp(joined, want) == 0, "streamed \"%s\", not \"%s\"", joined, want);
        CHECK(strcmp(gp_text_stream_text(stream), want) == 0, "the whole is \"%s\", not \"%s\"",
              gp_text_stream_text(stream), want);
        gp_text_stream_close(stream);
        gp_free(want);
    }
}

/** Table-based decoding of ordinary pieces against sentencepiece's own, clean-up aside. */
static void test_pieces(const gp_tokenizer *tokenizer, uint64_t *seed) {
    for (int round = 0; round < 500; round++) {
        int32_t ids[20];
        char want[20 * 300], *have = NULL;
        gp_status status = {0};
        size_t count = 0;
        while (count < 20) {
            int32_t id =
                (int32_t)(random_bits(seed) % (uint64_t)gp_sentencepiece_count(tokenizer->processor));
            gp_token_kind kind = tokenizer->tokens[id].kind;
            size_t length;
            gp_piece_kind piece_kind;
            const char *piece = gp_sentencepiece_piece(tokenizer->processor, id, &length, &piece_kind);
            bool zero = (kind == GP_TOKEN_BYTE && tokenizer->tokens[id].text[0] == 0) ||
                        memchr(piece, 0, length) != NULL; /* it ends a C text */
            if ((kind == GP_TOKEN_TEXT || kind == GP_TOKEN_BYTE) && !zero) ids[count++] = id;
        }
        REQUIRE(gp_sentencepiece_decode(tokenizer->processor, ids, count, want, sizeof want),
                "sentencepiece does not decode");
        want[gp_clean_up(want, strlen(want))] = '\0';
        REQUIRE(gp_tokenizer_decode(tokenizer, ids, count, &have, &status), "%s", status.message);
        CHECK(strcmp(have, want) == 0, "\"%s\", sentencepiece \"%s\"", have, want);
        gp_free(have);
    }
}

static void copy_file(const char *from, const char *folder, const char *name) {
    char path[4200], block[65536];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *in = fopen(from, "rb"), *out = fopen(path, "wb");
    REQUIRE(in != NULL && out != NULL, "cannot copy %s", from);
    for (size_t got; (got = fread(block, 1, sizeof block, in)) > 0;) fwrite(block, 1, got, out);
    fclose(in);
    fclose(out);
}

static void write_text(const char *folder, const char *name, const char *text) {
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *out = fopen(path, "wb");
    REQUIRE(out != NULL, "cannot write %s", path);
    fputs(text, out);
    fclose(out);
}

static void test_refusals(const char *model) {
    static const struct {
        const char *file, *text, *word;
    } cases[] = {
        {"added_tokens.json", "{\"[SEG]\": 700, \"<p>\": 700}", "700"},
        {"added_tokens.json", "{\"[SEG]\": -1}", "-1"},
        {"added_tokens.json", "{\"[SEG]\": \"x\"}", "[SEG]"},
        {"added_tokens.json", "{\"\": 800}", "without text"},
        {"added_tokens.json", "{\"[SEG]\": 700", "line"},
        {"special_tokens_map.json", "{\"bos_token\": \"<nothing>\"}", "<nothing>"},
        {"special_tokens_map.json", "[]", "object"},
        {"tokenizer.model", "no model", "tokenizer.model"},
        {"tokenizer.model", "", "tokenizer.model"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *folder = scratch_folder();
        gp_tokenizer *tokenizer;
        gp_status status = {0};
        copy_file(model, folder, "tokenizer.model");
        write_text(folder, cases[i].file, cases[i].text);
        bool opened = gp_tokenizer_open(folder, &tokenizer, &status);
        CHECK(!opened && strstr(status.message, cases[i].word) != NULL &&
                  strstr(status.message, cases[i].file) != NULL,
              "%s: %s", cases[i].text, opened ? "taken" : status.message);
        gp_status_clear(&status);
    }
    gp_tokenizer *tokenizer;
    gp_status status = {0};
    CHECK(!gp_tokenizer_open("/nonexistent", &tokenizer, &status) &&
              strstr(status.message, "/nonexistent") != NULL,
          "%s", status.message);
    gp_status_clear(&status);
}

int main(void) {
    uint64_t seed = fresh_seed();
    gp_tokenizer *tokenizer;
    gp_status status = {0};
    char small[4096], large[4096];
    snprintf(small, sizeof small, "%s", shared_or_skip("goldens/checkpoint"));
    snprintf(large, sizeof large, "%s", shared_or_skip("tokenizer/tokenizer.model"));
    REQUIRE(gp_tokenizer_open(small, &tokenizer, &status), "%s", status.message);
    test_goldens(tokenizer, shared_or_skip("goldens/tokenizer-small.json"));
    test_stream(tokenizer, &seed);
    test_pieces(tokenizer, &seed);
    gp_token_ids ids;
    CHECK(!gp_tokenizer_encode(tokenizer, "a\xFF", 2, false, &ids, &status) &&
              strstr(status.message, "byte 1") != NULL,
          "%s", status.message);
    int32_t unknown = 100000;
    char *text = NULL;
    CHECK(!gp_tokenizer_decode(tokenizer, &unknown, 1, &text, &status) &&
              strstr(status.message, "100000") != NULL,
          "%s", status.message);
    gp_status_clear(&status);
    gp_tokenizer_close(tokenizer);

    char folder[4096];
    snprintf(folder, sizeof folder, "%s", scratch_folder());
    copy_file(large, folder, "tokenizer.model");
    write_text(folder, "added_tokens.json", "{\"[SEG]\": 92544, \"<p>\": 92545, \"</p>\": 92546}");
    write_text(folder, "special_tokens_map.json",
               "{\"bos_token\": \"<s>\", \"eos_token\": {\"content\": \"</s>\"}, \"unk_token\": \"<unk>\", "
               "\"pad_token\": \"</s>\"}");
    REQUIRE(gp_tokenizer_open(folder, &tokenizer, &status), "%s", status.message);
    test_goldens(tokenizer, shared_or_skip("goldens/tokenizer-internlm2.json"));
    test_stream(tokenizer, &seed);
    test_pieces(tokenizer, &seed);
    gp_tokenizer_close(tokenizer);
    char small_model[4200];
    snprintf(small_model, sizeof small_model, "%s/tokenizer.model", small);
    test_refusals(small_model);
    return check_done();
}
