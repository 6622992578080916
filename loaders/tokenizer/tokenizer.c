/** Opening, and text to ids. */
#include "kernels/base/file.h"
#include "kernels/base/memory.h"
#include "loaders/tokenizer/tokenizer_parts.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ID_MAX = 1 << 24, MODEL_BYTES_MAX = 1 << 28 };

#define SPACE_SIGN "\xE2\x96\x81"   /* U+2581, a space in a piece */
#define UNKNOWN    " \xE2\x81\x87 " /* what sentencepiece prints for an unknown piece */

static bool make_table(gp_tokenizer *tokenizer, const char *folder, gp_status *status);
static bool check_spaces(const gp_tokenizer *tokenizer, const char *folder, gp_status *status);
static bool add_token(gp_tokenizer *tokenizer, const char *text, int64_t id, bool special, const char *name,
                      gp_status *status);

/* ---- opening ---- */

/** FOLDER/NAME mapped; absent ones stay empty when `optional`. */
static bool map_part(const char *folder, const char *name, bool optional, gp_mapping *mapping,
                     gp_status *status) {
    *mapping = (gp_mapping){0};
    if (optional && !gp_file_exists(folder, name)) return true;
    char *path = gp_file_join(folder, name);
    if (path == NULL) return gp_fail(status, "no memory for %s/%s", folder, name);
    bool done = gp_file_map(path, mapping, status);
    gp_free(path);
    return done;
}

bool gp_tokenizer_open(const char *folder, gp_tokenizer **tokenizer, gp_status *status) {
    gp_mapping model = {0}, added = {0}, special = {0};
    bool done = map_part(folder, "tokenizer.model", false, &model, status) &&
                map_part(folder, "added_tokens.json", true, &added, status) &&
                map_part(folder, "special_tokens_map.json", true, &special, status) &&
                gp_tokenizer_build(model.data, model.size, (const char *)added.data, added.size,
                                   (const char *)special.data, special.size, folder, tokenizer, status);
    gp_file_unmap(&model);
    gp_file_unmap(&added);
    gp_file_unmap(&special);
    return done;
}

static int compare_lengths(const void *a, const void *b) {
    const gp_added_token *x = a, *y = b;
    return x->length > y->length ? -1 : x->length < y->length;
}

bool gp_tokenizer_build(const void *model, size_t model_size, const char *added, size_t added_size,
                        const char *special, size_t special_size, const char *folder, gp_tokenizer **out,
                        gp_status *status) {
    char message[512] = "", name[4096];
    if (model == NULL || model_size == 0 || model_size > MODEL_BYTES_MAX)
        return gp_fail(status, "%s/tokenizer.model: %zu bytes are no sentencepiece model", folder,
                       model_size);
    gp_tokenizer *tokenizer = gp_allocate_zeroed(1, sizeof *tokenizer);
    if (tokenizer == NULL) return gp_fail(status, "no memory for a tokenizer");
    tokenizer->processor = gp_sentencepiece_open(model, model_size, message, sizeof message);
    bool done = tokenizer->processor != NULL ||
                gp_fail(status, "%s/tokenizer.model: no sentencepiece model: %s", folder, message);
    snprintf(name, sizeof name, "%s/added_tokens.json", folder);
    done =
        done && (added == NULL || gp_tokenizer_read_added(tokenizer, added, added_size, name, false, status));
    snprintf(name, sizeof name, "%s/special_tokens_map.json", folder);
    done = done &&
           (special == NULL || gp_tokenizer_read_added(tokenizer, special, special_size, name, true, status));
    if (done && tokenizer->added_count > 0)
        qsort(tokenizer->added, tokenizer->added_count, sizeof *tokenizer->added, compare_lengths);
    done = done && make_table(tokenizer, folder, status) && check_spaces(tokenizer, folder, status);
    if (!done) {
        gp_tokenizer_close(tokenizer);
        return false;
    }
    *out = tokenizer;
    return true;
}

void gp_tokenizer_close(gp_tokenizer *tokenizer) {
    if (tokenizer == NULL) return;
    gp_sentencepiece_close(tokenizer->processor);
    for (size_t i = 0; i < tokenizer->added_count; i++) gp_free(tokenizer->added[i].text);
    gp_free(tokenizer->added);
    gp_free(tokenizer->tokens);
    gp_free(tokenizer->texts);
    gp_free(tokenizer);
}

bool gp_tokenizer_read_added(gp_tokenizer *tokenizer, const char *text, size_t length, const char *name,
                             bool special, gp_status *status) {
    json_error_t error;
    json_t *root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL) return gp_fail(status, "%s: line %d: %s", name, error.line, error.text);
    bool done = json_is_object(root) || gp_fail(status, "%s: not a JSON object", name);
    const char *key;
    json_t *value;
    json_object_foreach(root, key, value) {
        if (!done) break;
        if (special) { /* role: token, or role: {"content": token}; lists name tokens that are no roles of
                          their own */
            const char *token =
                json_string_value(json_is_object(value) ? json_object_get(value, "content") : value);
            if (token == NULL) continue;
            int id = gp_sentencepiece_id(tokenizer->processor, token);
            for (size_t i = 0; i < tokenizer->added_count && id < 0; i++)
                if (strcmp(tokenizer->added[i].text, token) == 0) id = tokenizer->added[i].id;
            if (id < 0)
                done = gp_fail(status, "%s: %s: \"%s\" is no token of the model", name, key, token);
            else
                done = add_token(tokenizer, token, id, true, name, status);
        } else {
            if (!json_is_integer(value))
                done = gp_fail(status, "%s: the id of \"%s\" is not a whole number", name, key);
            else
                done = add_token(tokenizer, key, json_integer_value(value), false, name, status);
        }
    }
    json_decref(root);
    return done;
}

/** Adds a token, or marks one that is there as special. */
static bool add_token(gp_tokenizer *tokenizer, const char *text, int64_t id, bool special, const char *name,
                      gp_status *status) {
    if (text[0] == '\0') return gp_fail(status, "%s: a token without text", name);
    if (id < 0 || id >= ID_MAX)
        return gp_fail(status, "%s: the id of \"%s\" is %lld; 0 to %d are possible", name, text,
                       (long long)id, ID_MAX - 1);
    for (size_t i = 0; i < tokenizer->added_count; i++) {
        gp_added_token *own = &tokenizer->added[i];
        bool same_text = strcmp(own->text, text) == 0;
        if (same_text && own->id == id) {
            own->special = own->special || special;
            return true;
        }
        if (own->id == id || same_text)
            return gp_fail(status, "%s: \"%s\" has id %lld; \"%s\" has %d", name, text, (long long)id,
                           own->text, own->id);
    }
    gp_added_token *grown = gp_grow(tokenizer->added, tokenizer->added_count * sizeof *grown,
                                    (tokenizer->added_count + 1) * sizeof *grown);
    if (grown == NULL) return gp_fail(status, "no memory for added tokens");
    tokenizer->added = grown;
    char *copy = gp_copy_text(text);
    if (copy == NULL) return gp_fail(status, "no memory for added tokens");
    grown[tokenizer->added_count++] = (gp_added_token){copy, strlen(copy), (int32_t)id, special};
    return true;
}

/** The byte that a piece "<0x4A>" stands for. */
static bool parse_byte(const char *piece, size_t length, unsigned char *byte) {
    unsigned value;
    if (length != 6 || sscanf(piece, "<0x%2X>", &value) != 1) return false;
    *byte = (unsigned char)value;
    return true;
}

/** Copies a piece with spaces for their signs and U+FFFD for zeros, which would end a C text; returns its
 * length. */
static size_t copy_piece(const char *piece, size_t length, char *target) {
    size_t written = 0;
    for (size_t i = 0; i < length;) {
        if (length - i >= 3 && memcmp(piece + i, SPACE_SIGN, 3) == 0) {
            target[written++] = ' ';
            i += 3;
        } else if (piece[i] == '\0') {
            memcpy(target + written, "\xEF\xBF\xBD", 3);
            written += 3;
            i++;
        } else {
            target[written++] = piece[i++];
        }
    }
    return written;
}

/** What each id stands for in a decoded text. */
static bool make_table(gp_tokenizer *tokenizer, const char *folder, gp_status *status) {
    int pieces = gp_sentencepiece_count(tokenizer->processor);
    tokenizer->vocabulary = pieces;
    for (size_t i = 0; i < tokenizer->added_count; i++)
        if (tokenizer->added[i].id >= tokenizer->vocabulary)
            tokenizer->vocabulary = tokenizer->added[i].id + 1;
    size_t bytes = 0, length;
    gp_piece_kind kind;
    for (int id = 0; id < pieces; id++) {
        gp_sentencepiece_piece(tokenizer->processor, id, &length, &kind);
        bytes += 3 * length + sizeof UNKNOWN; /* should all of it be zeros: see copy_piece */
    }
    tokenizer->tokens = gp_allocate((size_t)tokenizer->vocabulary * sizeof *tokenizer->tokens);
    tokenizer->texts = gp_allocate(bytes + 1);
    if (tokenizer->tokens == NULL || tokenizer->texts == NULL)
        return gp_fail(status, "no memory for %d tokens", pieces);
    for (int id = 0; id < tokenizer->vocabulary; id++)
        tokenizer->tokens[id] = (gp_token){.kind = GP_TOKEN_NONE};
    char *end = tokenizer->texts;
    for (int id = 0; id < pieces; id++) {
        const char *piece = gp_sentencepiece_piece(tokenizer->processor, id, &length, &kind);
        gp_token token = {.kind = GP_TOKEN_TEXT, .text = end};
        unsigned char byte = 0;
        if (kind == GP_PIECE_BYTE) {
            if (!parse_byte(piece, length, &byte))
                return gp_fail(status, "%s/tokenizer.model: byte piece %d is \"%s\"", folder, id, piece);
            token.kind = GP_TOKEN_BYTE;
            *end = (char)byte;
            token.length = 1;
        } else if (kind == GP_PIECE_UNKNOWN) {
            token.length = sizeof UNKNOWN - 1;
            memcpy(end, UNKNOWN, token.length);
        } else if (kind == GP_PIECE_TEXT) {
            token.length = (uint32_t)copy_piece(piece, length, end);
        } /* control pieces are empty texts */
        end += token.length;
        tokenizer->tokens[id] = token;
    }
    for (size_t i = 0; i < tokenizer->added_count; i++) {
        const gp_added_token *own = &tokenizer->added[i];
        tokenizer->tokens[own->id] =
            (gp_token){own->special ? GP_TOKEN_SKIPPED : GP_TOKEN_ADDED, (uint32_t)own->length, own->text};
    }
    tokenizer->longest = 3;
    for (int id = 0; id < tokenizer->vocabulary; id++)
        if (tokenizer->tokens[id].length > tokenizer->longest)
            tokenizer->longest = tokenizer->tokens[id].length;
    return true;
}

/** InternLM2's model takes a leading space as it is; one that adds or drops spaces would be decoded wrongly.
 */
static bool check_spaces(const gp_tokenizer *tokenizer, const char *folder, gp_status *status) {
    int pieces = gp_sentencepiece_count(tokenizer->processor);
    for (int id = 0; id < pieces; id++) {
        const gp_token *token = &tokenizer->tokens[id];
        char text[256];
        if (token->kind != GP_TOKEN_TEXT || token->length < 2 || token->length >= sizeof text ||
            token->text[0] != ' ')
            continue;
        if (!gp_sentencepiece_decode(tokenizer->processor, &(int32_t){id}, 1, text, sizeof text) ||
            text[0] != ' ')
            return gp_fail(
                status,
                "%s/tokenizer.model: it adds or drops spaces (add_dummy_prefix, remove_extra_whitespaces), "
                "which InternLM2's does not",
                folder);
        return true;
    }
    return true;
}

int gp_tokenizer_vocabulary(const gp_tokenizer *tokenizer) {
    return tokenizer->vocabulary;
}

int gp_tokenizer_id(const gp_tokenizer *tokenizer, const char *piece) {
    for (size_t i = 0; i < tokenizer->added_count; i++)
        if (strcmp(tokenizer->added[i].text, piece) == 0) return tokenizer->added[i].id;
    return gp_sentencepiece_id(tokenizer->processor, piece);
}

int gp_tokenizer_bos(const gp_tokenizer *tokenizer) {
    return gp_sentencepiece_bos(tokenizer->processor);
}

/* ---- encoding ---- */

/** Ids under construction. */
typedef struct id_list {
    int32_t *ids;
    size_t count, capacity;
} id_list;

static bool append_id(void *user, int32_t id) {
    id_list *list = user;
    if (list->count == list->capacity) {
        size_t larger = list->capacity > 0 ? 2 * list->capacity : 64;
        int32_t *grown = gp_grow(list->ids, list->count * sizeof *grown, larger * sizeof *grown);
        if (grown == NULL) return false;
        list->ids = grown;
        list->capacity = larger;
    }
    list->ids[list->count++] = id;
    return true;
}

/** Bytes of the white space (as Python's str.strip sees it) at text[0]; 0 for other characters. */
static size_t space_length(const char *text, size_t length) {
    size_t bytes = gp_utf8_length(text, length);
    const unsigned char *u = (const unsigned char *)text;
    if (bytes == 1) return (u[0] >= 0x09 && u[0] <= 0x0D) || (u[0] >= 0x1C && u[0] <= 0x20);
    uint32_t code = bytes == 2   ? (u[0] & 0x1Fu) << 6 | (u[1] & 0x3Fu)
                    : bytes == 3 ? (u[0] & 0x0Fu) << 12 | (u[1] & 0x3Fu) << 6 | (u[2] & 0x3Fu)
                                 : 0;
    bool space = code == 0x85 || code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) ||
                 code == 0x2028 || code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
    return space ? bytes : 0;
}

/** Moves *begin behind leading white space. */
static void strip_left(const char *text, size_t *begin, size_t end) {
    size_t bytes;
    while (*begin < end && (bytes = space_length(text + *begin, end - *begin)) > 0) *begin += bytes;
}

static void strip_right(const char *text, size_t begin, size_t *end) {
    while (*end > begin) {
        size_t start = *end - 1;
        while (start > begin && ((unsigned char)text[start] & 0xC0) == 0x80) start--;
        if (space_length(text + start, *end - start) != *end - start) return;
        *end = start;
    }
}

/** The added token at text[0], the longest first; NULL when there is none. */
static const gp_added_token *added_at(const gp_tokenizer *tokenizer, const char *text, size_t length) {
    for (size_t i = 0; i < tokenizer->added_count; i++) {
        const gp_added_token *own = &tokenizer->added[i];
        if (own->length <= length && memcmp(text, own->text, own->length) == 0) return own;
    }
    return NULL;
}

/** A part between added tokens, stripped on the sides that touch one. */
static bool encode_part(const gp_tokenizer *tokenizer, const char *text, size_t begin, size_t end,
                        bool after_added, bool before_added, id_list *list, gp_status *status) {
    char message[512] = "";
    if (after_added) strip_left(text, &begin, end);
    if (before_added) strip_right(text, begin, &end);
    if (begin == end) return true;
    return gp_sentencepiece_encode(tokenizer->processor, text + begin, end - begin, append_id, list, message,
                                   sizeof message) ||
           gp_fail(status, "sentencepiece cannot encode %zu bytes: %s", end - begin, message);
}

bool gp_tokenizer_encode(const gp_tokenizer *tokenizer, const char *text, size_t length, bool bos,
                         gp_token_ids *ids, gp_status *status) {
    id_list list = {0};
    *ids = (gp_token_ids){0};
    bool done = true, after_added = false;
    for (size_t at = 0, bytes; at < length && done; at += bytes) {
        bytes = gp_utf8_length(text + at, length - at);
        if (bytes == 0)
            done = gp_fail(status, "byte %zu of the text, 0x%02x, is not UTF-8", at, (unsigned char)text[at]);
    }
    if (done && bos)
        done = append_id(&list, gp_tokenizer_bos(tokenizer)) || gp_fail(status, "no memory for ids");
    size_t begin = 0;
    for (size_t at = 0; at < length && done;) {
        const gp_added_token *own = added_at(tokenizer, text + at, length - at);
        if (own == NULL) {
            at++;
            continue;
        }
        done = encode_part(tokenizer, text, begin, at, after_added, true, &list, status) &&
               (append_id(&list, own->id) || gp_fail(status, "no memory for ids"));
        at += own->length;
        begin = at;
        after_added = true;
    }
    done = done && encode_part(tokenizer, text, begin, length, after_added, false, &list, status);
    if (!done) {
        gp_free(list.ids);
        return false;
    }
    *ids = (gp_token_ids){list.ids, list.count};
    return true;
}
