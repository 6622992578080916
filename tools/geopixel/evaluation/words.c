#include "tools/geopixel/evaluation/words.h"

#include "kernels/base/memory.h"

#include <ctype.h>
#include <libstemmer.h>
#include <string.h>

/** Articles, prepositions, conjunctions, pronouns and auxiliaries. */
static const char *const function_words[] = {
    "a",     "an",   "the", "of",   "in",   "on",   "at",    "to",    "by",    "for",   "from",  "with",
    "and",   "or",   "but", "as",   "into", "over", "after", "up",    "out",   "about", "if",    "than",
    "is",    "are",  "was", "were", "be",   "been", "has",   "have",  "had",   "will",  "would", "can",
    "could", "may",  "do",  "does", "did",  "it",   "its",   "he",    "she",   "his",   "her",   "they",
    "their", "them", "we",  "you",  "i",    "this", "that",  "these", "those", "there", "which", "who",
    "what",  "when", "not", "no",   "so",   "also", "'s",
};

static const char *const clitics[] = {"n't", "'s", "'re", "'ve", "'ll", "'d", "'m"};

/** What stands for itself, and the Treebank's names of brackets, which pycocoevalcap, looking for them in
 * capitals, leaves in a caption. */
static const struct symbol {
    char sign;
    const char *word;
} symbols[] = {{'(', "-lrb-"}, {')', "-rrb-"}, {'[', "-lsb-"}, {']', "-rsb-"}, {'{', "-lcb-"},
               {'}', "-rcb-"}, {'%', "%"},     {'$', "$"},     {'&', "&"}};

static bool add_word(gp_vocabulary *vocabulary, const char *word, size_t length, gp_words *words,
                     gp_status *status);

char *gp_caption(const char *text) {
    char *caption = gp_allocate(strlen(text) + 1), *end = caption;
    if (caption == NULL) return NULL;
    for (const char *at = text; *at != '\0';) {
        const char *close = *at == '<' ? strchr(at, '>') : NULL;
        bool space = false;
        if (close != NULL) {
            at = close + 1;
        } else if (strncmp(at, "[SEG]", 5) == 0) {
            at += 5;
        } else if (isspace((unsigned char)*at)) {
            at++;
            space = true;
        } else {
            *end++ = *at++;
        }
        if (space && end > caption && end[-1] != ' ') *end++ = ' ';
    }
    if (end > caption && end[-1] == ' ') end--;
    *end = '\0';
    return caption;
}

static bool in_word(unsigned char c) {
    return isalnum(c) || c >= 0x80;
}

/** In place, to ASCII: U+2018 and U+2019 become apostrophes, other quotes, dashes and dots of U+2013 …
 * U+2026 blanks. */
static void plain_punctuation(char *text) {
    char *to = text;
    for (const char *at = text; *at != '\0';) {
        const unsigned char *byte = (const unsigned char *)at;
        if (byte[0] == 0xE2 && byte[1] == 0x80 && byte[2] >= 0x93 && byte[2] <= 0xA6) {
            *to++ = byte[2] == 0x98 || byte[2] == 0x99 ? '\'' : ' ';
            at += 3;
        } else {
            *to++ = *at++;
        }
    }
    *to = '\0';
}

/** The end of the word that begins at `at`: letters and digits, and one hyphen, apostrophe, slash, or in
 * numbers point, comma or colon, where it binds two. */
static const char *word_end(const char *at) {
    while (in_word((unsigned char)*at)) {
        at++;
        bool binds = *at == '-' || *at == '\'' || *at == '/';
        bool in_number = (*at == '.' || *at == ',' || *at == ':') && isdigit((unsigned char)at[-1]) &&
                         isdigit((unsigned char)at[1]);
        if ((binds || in_number) && in_word((unsigned char)at[1])) at++;
    }
    return at;
}

/** How many bytes at the word's end are a word of their own. */
static size_t clitic_length(const char *word, size_t length) {
    for (size_t i = 0; i < sizeof clitics / sizeof *clitics; i++) {
        size_t size = strlen(clitics[i]);
        if (length > size && memcmp(word + length - size, clitics[i], size) == 0) return size;
    }
    return length == 6 && memcmp(word, "cannot", 6) == 0 ? 3 : 0;
}

bool gp_words_split(gp_vocabulary *vocabulary, const char *text, gp_words *words, gp_status *status) {
    char *lower = gp_copy_text(text);
    bool done = lower != NULL;
    *words = (gp_words){.numbers = gp_allocate((strlen(text) + 1) * sizeof *words->numbers)};
    if (!done || words->numbers == NULL) done = gp_fail(status, "no memory for the words of a text");
    for (char *c = lower; done && *c != '\0'; c++) *c = (char)tolower((unsigned char)*c);
    if (done) plain_punctuation(lower);
    for (const char *at = lower; done && *at != '\0';) {
        const char *end = word_end(at);
        size_t length = (size_t)(end - at), tail = clitic_length(at, length);
        if (length > 0) done = add_word(vocabulary, at, length - tail, words, status);
        if (done && tail > 0) done = add_word(vocabulary, end - tail, tail, words, status);
        for (size_t i = 0; done && length == 0 && i < sizeof symbols / sizeof *symbols; i++)
            if (*at == symbols[i].sign)
                done = add_word(vocabulary, symbols[i].word, strlen(symbols[i].word), words, status);
        at = length > 0 ? end : at + 1;
    }
    gp_free(lower);
    if (!done) {
        gp_free(words->numbers);
        *words = (gp_words){0};
    }
    return done;
}

/** The number of `text` in `numbers`, the next one where it is new. */
static uint32_t numbered(json_t *numbers, const char *text, size_t length) {
    json_t *known = json_object_getn(numbers, text, length);
    uint32_t next = (uint32_t)json_object_size(numbers);
    if (known != NULL) return (uint32_t)json_integer_value(known);
    return json_object_setn_new_nocheck(numbers, text, length, json_integer(next)) == 0 ? next : UINT32_MAX;
}

static bool open_vocabulary(gp_vocabulary *v) {
    if (v->stemmer == NULL) v->stemmer = sb_stemmer_new("english", NULL);
    if (v->numbers == NULL) v->numbers = json_object();
    if (v->stems == NULL) v->stems = json_object();
    return v->stemmer != NULL && v->numbers != NULL && v->stems != NULL;
}

static bool widen(gp_vocabulary *v) {
    size_t capacity = 2 * v->capacity + 256;
    uint32_t *stem = gp_grow(v->stem, v->count * sizeof *v->stem, capacity * sizeof *v->stem);
    if (stem != NULL) v->stem = stem;
    bool *function = gp_grow(v->function, v->count * sizeof *v->function, capacity * sizeof *v->function);
    if (function != NULL) v->function = function;
    if (stem == NULL || function == NULL) return false;
    v->capacity = capacity;
    return true;
}

static bool add_word(gp_vocabulary *v, const char *word, size_t length, gp_words *words, gp_status *status) {
    if (!open_vocabulary(v)) return gp_fail(status, "no memory for a vocabulary");
    uint32_t number = numbered(v->numbers, word, length);
    if (number == v->count) {
        if (v->count == v->capacity && !widen(v)) return gp_fail(status, "no memory for %zu words", v->count);
        const sb_symbol *stem = sb_stemmer_stem(v->stemmer, (const sb_symbol *)word, (int)length);
        if (stem == NULL) return gp_fail(status, "no memory for a word's stem");
        v->stem[number] = numbered(v->stems, (const char *)stem, (size_t)sb_stemmer_length(v->stemmer));
        v->function[number] = false;
        for (size_t i = 0; i < sizeof function_words / sizeof *function_words; i++)
            if (strlen(function_words[i]) == length && memcmp(function_words[i], word, length) == 0)
                v->function[number] = true;
        v->count++;
    }
    if (number == UINT32_MAX || v->stem[number] == UINT32_MAX)
        return gp_fail(status, "no memory for %zu words", v->count);
    words->numbers[words->count++] = number;
    return true;
}

void gp_vocabulary_free(gp_vocabulary *vocabulary) {
    if (vocabulary->stemmer != NULL) sb_stemmer_delete(vocabulary->stemmer);
    json_decref(vocabulary->numbers);
    json_decref(vocabulary->stems);
    gp_free(vocabulary->stem);
    gp_free(vocabulary->function);
    *vocabulary = (gp_vocabulary){0};
}
