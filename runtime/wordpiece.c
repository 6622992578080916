#include "runtime/wordpiece.h"

#include "kernels/base/file.h"
#include "kernels/base/memory.h"

#include <stdlib.h>
#include <string.h>
#include <unicase.h>
#include <unictype.h>
#include <uninorm.h>
#include <unistr.h>

enum {
    LOWER_MAX = 3,                   /* code points that one becomes in lower case, by Unicode's stability */
    WORD_MAX = 100,                  /* code points of a word; longer ones are unknown, as BERT has it */
    BYTES_MAX = 2 + 4 * WORD_MAX + 1 /* of a piece that can match, with ## before it */
};

typedef struct piece {
    const char *text; /* in gp_wordpiece.text, not terminated */
    size_t length;
} piece;

struct gp_wordpiece {
    char *text; /* the vocabulary */
    piece *pieces;
    int32_t count;
    int32_t *slots; /* ids by hash, open addressing; −1: free */
    size_t slot_mask;
    int32_t unknown, first, last; /* [UNK], [CLS], [SEP] */
    bool lower_case, strip_accents, split_chinese;
};

/** Where pieces go. */
typedef struct output {
    int32_t *ids;
    int most, count;
} output;

static bool read_pieces(gp_wordpiece *wordpiece, size_t length, const char *name, int vocab_size,
                        gp_status *status);
static bool hash_pieces(gp_wordpiece *wordpiece);
static int32_t find(const gp_wordpiece *wordpiece, const char *text, size_t length);
static bool find_special(const gp_wordpiece *wordpiece, const char *text, const char *name, int32_t *id,
                         gp_status *status);
static bool encode_text(const gp_wordpiece *wordpiece, const char *text, size_t length, output *out);
static size_t clean(const gp_wordpiece *wordpiece, const uint32_t *text, size_t length, uint32_t *cleaned);
static bool encode_word(const gp_wordpiece *wordpiece, const uint32_t *word, size_t length, output *out);
static void encode_part(const gp_wordpiece *wordpiece, const uint32_t *part, size_t length, output *out);

/* ---- the vocabulary ---- */

bool gp_wordpiece_open(const char *folder, const gp_bert_config *config, gp_wordpiece **wordpiece,
                       gp_status *status) {
    *wordpiece = NULL;
    if (!gp_folder_check(folder, status)) return false;
    char *path = gp_file_join(folder, "vocab.txt");
    gp_mapping file;
    if (path == NULL) return gp_fail(status, "no memory for the path of %s/vocab.txt", folder);
    bool done = gp_file_map(path, &file, status);
    if (done) {
        done = gp_wordpiece_build((const char *)file.data, file.size, path, config, wordpiece, status);
        gp_file_unmap(&file);
    }
    gp_free(path);
    return done;
}

bool gp_wordpiece_build(const char *text, size_t length, const char *name, const gp_bert_config *config,
                        gp_wordpiece **wordpiece, gp_status *status) {
    gp_wordpiece *new = gp_allocate_zeroed(1, sizeof *new);
    *wordpiece = NULL;
    if (new != NULL) new->text = gp_allocate(length);
    if (new == NULL || new->text == NULL) {
        gp_wordpiece_close(new);
        return gp_fail(status, "%s: no memory for %zu bytes", name, length);
    }
    if (length > 0) memcpy(new->text, text, length);
    new->lower_case = config->do_lower_case;
    new->strip_accents = config->strip_accents;
    new->split_chinese = config->tokenize_chinese_chars;
    bool done = read_pieces(new, length, name, config->vocab_size, status) &&
                (hash_pieces(new) || gp_fail(status, "%s: no memory for %d pieces", name, new->count)) &&
                find_special(new, "[UNK]", name, &new->unknown, status) &&
                find_special(new, "[CLS]", name, &new->first, status) &&
                find_special(new, "[SEP]", name, &new->last, status);
    if (!done) {
        gp_wordpiece_close(new);
        return false;
    }
    *wordpiece = new;
    return true;
}

void gp_wordpiece_close(gp_wordpiece *wordpiece) {
    if (wordpiece == NULL) return;
    gp_free(wordpiece->text);
    gp_free(wordpiece->pieces);
    gp_free(wordpiece->slots);
    gp_free(wordpiece);
}

/** The lines of the text, without what ends them. */
static bool read_pieces(gp_wordpiece *wordpiece, size_t length, const char *name, int vocab_size,
                        gp_status *status) {
    const char *at = wordpiece->text, *end = at + length;
    int64_t lines = 0;
    for (const char *c = at; c < end; c++) lines += *c == '\n';
    if (length > 0 && end[-1] != '\n') lines++;
    if (lines > vocab_size)
        return gp_fail(status, "%s: holds %lld pieces; config.json's vocab_size is %d", name,
                       (long long)lines, vocab_size);
    wordpiece->pieces = gp_allocate_zeroed((size_t)lines, sizeof *wordpiece->pieces);
    if (wordpiece->pieces == NULL)
        return gp_fail(status, "%s: no memory for %lld pieces", name, (long long)lines);
    while (at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at)), *next = stop != NULL ? stop + 1 : end;
        if (stop == NULL) stop = end;
        if (stop > at && stop[-1] == '\r') stop--;
        wordpiece->pieces[wordpiece->count++] = (piece){at, (size_t)(stop - at)};
        at = next;
    }
    return true;
}

/** FNV-1a. */
static uint64_t hash(const char *text, size_t length) {
    uint64_t value = 0xcbf29ce484222325u;
    for (size_t i = 0; i < length; i++) value = (value ^ (unsigned char)text[i]) * 0x100000001b3u;
    return value;
}

/** The slot that has the piece, or where it would go. */
static int32_t *slot_of(const gp_wordpiece *wordpiece, const char *text, size_t length) {
    size_t at = hash(text, length) & wordpiece->slot_mask;
    for (;; at = (at + 1) & wordpiece->slot_mask) {
        int32_t *slot = &wordpiece->slots[at];
        if (*slot < 0) return slot;
        const piece *held = &wordpiece->pieces[*slot];
        if (held->length == length && memcmp(held->text, text, length) == 0) return slot;
    }
}

static bool hash_pieces(gp_wordpiece *wordpiece) {
    size_t slots = 16;
    while (slots < 2 * (size_t)wordpiece->count) slots *= 2;
    wordpiece->slots = gp_allocate(slots * sizeof *wordpiece->slots);
    if (wordpiece->slots == NULL) return false;
    wordpiece->slot_mask = slots - 1;
    for (size_t i = 0; i < slots; i++) wordpiece->slots[i] = -1;
    for (int32_t id = 0; id < wordpiece->count; id++)
        *slot_of(wordpiece, wordpiece->pieces[id].text, wordpiece->pieces[id].length) = id;
    return true;
}

/** The piece's id, or −1. */
static int32_t find(const gp_wordpiece *wordpiece, const char *text, size_t length) {
    return *slot_of(wordpiece, text, length);
}

static bool find_special(const gp_wordpiece *wordpiece, const char *text, const char *name, int32_t *id,
                         gp_status *status) {
    *id = find(wordpiece, text, strlen(text));
    return *id >= 0 || gp_fail(status, "%s: %s is not among its %d pieces", name, text, wordpiece->count);
}

/* ---- text to ids ---- */

static void put(output *out, int32_t id) {
    if (out->count < out->most) out->ids[out->count++] = id;
}

bool gp_wordpiece_encode(const gp_wordpiece *wordpiece, const char *text, int32_t *ids, int most, int *count,
                         gp_status *status) {
    size_t length = strlen(text);
    output out = {ids, most - 1, 0}; /* the last is kept for [SEP] */
    *count = 0;
    const uint8_t *wrong = u8_check((const uint8_t *)text, length);
    if (wrong != NULL)
        return gp_fail(status, "a text of %zu bytes is not UTF-8 at byte %zu", length,
                       (size_t)(wrong - (const uint8_t *)text));
    put(&out, wordpiece->first);
    if (!encode_text(wordpiece, text, length, &out))
        return gp_fail(status, "no memory for the tokens of a text of %zu bytes", length);
    out.most++;
    put(&out, wordpiece->last);
    *count = out.count;
    return true;
}

static bool is_space(uint32_t c) {
    return c == '\t' || c == '\n' || c == '\r' || uc_is_general_category_withtable(c, UC_CATEGORY_MASK_Z);
}

/** Valid UTF-8 to pieces; false when memory is out. */
static bool encode_text(const gp_wordpiece *wordpiece, const char *text, size_t length, output *out) {
    if (length == 0) return true;
    size_t wide_length = 0, normal_length = 0;
    uint32_t *wide = u8_to_u32((const uint8_t *)text, length, NULL, &wide_length);
    uint32_t *cleaned = gp_allocate(3 * length * sizeof *cleaned), *normal = NULL;
    bool done = wide != NULL && cleaned != NULL;
    size_t cleaned_length = done ? clean(wordpiece, wide, wide_length, cleaned) : 0;
    if (done && cleaned_length > 0) {
        normal = u32_normalize(UNINORM_NFC, cleaned, cleaned_length, NULL, &normal_length);
        done = normal != NULL;
    }
    for (size_t at = 0; at < normal_length && done && out->count < out->most;) {
        size_t end = at;
        while (end < normal_length && !is_space(normal[end])) end++;
        if (end > at) done = encode_word(wordpiece, normal + at, end - at, out);
        at = end + 1;
    }
    free(wide);
    free(normal);
    gp_free(cleaned);
    return done;
}

/** Whether BERT writes it apart: the blocks of ideographs, without Hangul, Hiragana and Katakana. */
static bool is_chinese(uint32_t c) {
    static const uint32_t blocks[][2] = {{0x4E00, 0x9FFF},   {0x3400, 0x4DBF},   {0x20000, 0x2A6DF},
                                         {0x2A700, 0x2B73F}, {0x2B740, 0x2B81F}, {0x2B820, 0x2CEAF},
                                         {0xF900, 0xFAFF},   {0x2F800, 0x2FA1F}};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        if (c >= blocks[i][0] && c <= blocks[i][1]) return true;
    return false;
}

/** Drops control, unassigned and replacement characters, and puts spaces around ideographs; `cleaned`
 * [3·length]. */
static size_t clean(const gp_wordpiece *wordpiece, const uint32_t *text, size_t length, uint32_t *cleaned) {
    size_t count = 0;
    for (size_t i = 0; i < length; i++) {
        uint32_t c = text[i];
        if (is_space(c)) {
            cleaned[count++] = c;
        } else if (c == 0xFFFD || uc_is_general_category_withtable(c, UC_CATEGORY_MASK_C)) {
            continue;
        } else if (wordpiece->split_chinese && is_chinese(c)) {
            cleaned[count++] = ' ';
            cleaned[count++] = c;
            cleaned[count++] = ' ';
        } else {
            cleaned[count++] = c;
        }
    }
    return count;
}

/** All of ASCII that is neither letter nor digit counts, though Unicode has some of it among symbols. */
static bool is_punctuation(uint32_t c) {
    if (c < 128) return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || c >= 123;
    return uc_is_general_category_withtable(c, UC_CATEGORY_MASK_P);
}

/** A copy of the word in lower case, for gp_free; NULL when memory is out. BertTokenizer asks for each
 * character by itself, so that a sigma that ends a word does not become a final one. */
static uint32_t *lower_case(const uint32_t *word, size_t *length) {
    uint32_t *lower = gp_allocate(*length * LOWER_MAX * sizeof *lower);
    size_t count = 0;
    for (size_t i = 0; i < *length && lower != NULL; i++) {
        size_t room = LOWER_MAX;
        uint32_t *mapped = u32_tolower(word + i, 1, NULL, NULL, lower + count, &room);
        if (mapped != lower + count) {
            free(mapped);
            gp_free(lower);
            return NULL;
        }
        count += room;
    }
    *length = count;
    return lower;
}

/** A word without spaces: case and accents, then its parts between punctuation. False when memory is out. */
static bool encode_word(const gp_wordpiece *wordpiece, const uint32_t *word, size_t length, output *out) {
    uint32_t *lower = NULL, *parted = NULL;
    if (wordpiece->lower_case) {
        word = lower = lower_case(word, &length);
        if (lower == NULL) return false;
    }
    if (wordpiece->strip_accents && length > 0) {
        size_t parted_length = 0, kept = 0;
        parted = u32_normalize(UNINORM_NFD, word, length, NULL, &parted_length);
        if (parted == NULL) {
            gp_free(lower);
            return false;
        }
        for (size_t i = 0; i < parted_length; i++)
            if (!uc_is_general_category_withtable(parted[i], UC_CATEGORY_MASK_Mn)) parted[kept++] = parted[i];
        word = parted;
        length = kept;
    }
    for (size_t at = 0; at < length;) {
        size_t end = at;
        while (end < length && !is_punctuation(word[end])) end++;
        if (end == at) end++;
        encode_part(wordpiece, word + at, end - at, out);
        at = end;
    }
    gp_free(lower);
    free(parted);
    return true;
}

/** A part's longest pieces from its beginning on; [UNK] for the whole where some of it is no piece. */
static void encode_part(const gp_wordpiece *wordpiece, const uint32_t *part, size_t length, output *out) {
    int32_t ids[WORD_MAX];
    char bytes[BYTES_MAX] = "##";
    size_t place[WORD_MAX + 1], count = 0; /* place: where each code point's bytes begin */
    if (length > WORD_MAX) {
        put(out, wordpiece->unknown);
        return;
    }
    place[0] = 2;
    for (size_t i = 0; i < length; i++)
        place[i + 1] = place[i] + (size_t)u8_uctomb((uint8_t *)bytes + place[i], part[i], 4);
    for (size_t at = 0; at < length;) {
        int32_t id = -1;
        size_t end = length;
        char *start = bytes + place[at];
        if (at > 0) { /* its own bytes before are in pieces already */
            start -= 2;
            memcpy(start, "##", 2);
        }
        for (; end > at; end--) {
            id = find(wordpiece, start, (size_t)(bytes + place[end] - start));
            if (id >= 0) break;
        }
        if (id < 0) {
            put(out, wordpiece->unknown);
            return;
        }
        ids[count++] = id;
        at = end;
    }
    for (size_t i = 0; i < count; i++) put(out, ids[i]);
}
