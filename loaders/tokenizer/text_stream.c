/**
 * Ids to text, token by token. Three layers: `joined` is settled text (runs cleaned up, added tokens set off
 * by spaces); `run` is the raw tail of the current run, which clean-up may still change; `bytes` are byte
 * pieces that do not make a character yet.
 *
 * What of the tail is certain is found by trying: a later token changes what stands before it only by
 * completing one of the clean-up's patterns, so the part that all completions leave alike is certain. To keep
 * the tail short, the run is settled in front of eight bytes without a space or an apostrophe: every pattern
 * begins with a space and is at most four bytes long, so none reaches across.
 */
#include "kernels/base/memory.h"
#include "loaders/tokenizer/tokenizer_parts.h"

#include <string.h>

#define MARK        "[UNUSED_TOKEN_145]" /* ends a turn; taken out of what the user reads */
#define REPLACEMENT "\xEF\xBF\xBD"       /* U+FFFD */

enum { BARRIER = 8, CONTINUATION_MAX = 8, UTF8_MAX = 4 }; /* bytes */

struct gp_text_stream {
    const gp_tokenizer *tokenizer;
    bool keep_marks;
    size_t capacity; /* of each text */
    size_t left;     /* tokens that may still come */
    char *joined, *run, *whole, *trial, *common;
    size_t joined_length, run_length;
    unsigned char bytes[UTF8_MAX];
    size_t byte_count;
    bool run_open; /* the last part is a run */
    size_t given;  /* bytes of the text that were given out */
};

static const char *give(gp_text_stream *stream, size_t end);
static void add_byte(gp_text_stream *stream, unsigned char byte);
static void flush_bytes(gp_text_stream *stream);
static void settle(gp_text_stream *stream);
static void end_run(gp_text_stream *stream);
static size_t certain_tail(gp_text_stream *stream);
static void render(gp_text_stream *stream, const char *tail, size_t tail_length);

/* ---- clean-up ---- */

static const struct {
    const char *from, *to;
} patterns[] = {{" .", "."},     {" ?", "?"},   {" !", "!"},   {" ,", ","},     {" ' ", "'"},
                {" n't", "n't"}, {" 'm", "'m"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};

size_t gp_clean_up(char *text, size_t length) {
    for (size_t p = 0; p < sizeof patterns / sizeof *patterns; p++) {
        size_t from = strlen(patterns[p].from), to = strlen(patterns[p].to), written = 0;
        for (size_t i = 0; i < length;) {
            if (length - i >= from && memcmp(text + i, patterns[p].from, from) == 0) {
                memcpy(text + written, patterns[p].to, to); /* never longer than what it replaces */
                written += to;
                i += from;
            } else {
                text[written++] = text[i++];
            }
        }
        length = written;
    }
    return length;
}

size_t gp_utf8_length(const char *text, size_t length) {
    const unsigned char *u = (const unsigned char *)text;
    if (length == 0) return 0;
    if (u[0] < 0x80) return 1;
    size_t bytes = u[0] >= 0xC2 && u[0] <= 0xDF   ? 2
                   : (u[0] & 0xF0) == 0xE0        ? 3
                   : u[0] >= 0xF0 && u[0] <= 0xF4 ? 4
                                                  : 0;
    if (bytes == 0 || length < bytes) return 0;
    for (size_t i = 1; i < bytes; i++)
        if ((u[i] & 0xC0) != 0x80) return 0;
    if (u[0] == 0xE0 && u[1] < 0xA0) return 0;  /* overlong */
    if (u[0] == 0xED && u[1] >= 0xA0) return 0; /* surrogates */
    if (u[0] == 0xF0 && u[1] < 0x90) return 0;  /* overlong */
    if (u[0] == 0xF4 && u[1] >= 0x90) return 0; /* beyond U+10FFFF */
    return bytes;
}

/* ---- stream ---- */

bool gp_text_stream_open(const gp_tokenizer *tokenizer, size_t max_tokens, gp_text_stream **out,
                         gp_status *status) {
    gp_text_stream *stream = gp_allocate_zeroed(1, sizeof *stream);
    if (stream == NULL) return gp_fail(status, "no memory for a text of %zu tokens", max_tokens);
    stream->tokenizer = tokenizer;
    stream->left = max_tokens;
    stream->capacity = max_tokens * (tokenizer->longest + 2) + 3 * UTF8_MAX + CONTINUATION_MAX + 1;
    char **const texts[] = {&stream->joined, &stream->run, &stream->whole, &stream->trial, &stream->common};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        *texts[i] = gp_allocate(stream->capacity);
        if (*texts[i] == NULL) {
            gp_text_stream_close(stream);
            return gp_fail(status, "no memory for a text of %zu tokens", max_tokens);
        }
        (*texts[i])[0] = '\0';
    }
    *out = stream;
    return true;
}

void gp_text_stream_close(gp_text_stream *stream) {
    if (stream == NULL) return;
    gp_free(stream->joined);
    gp_free(stream->run);
    gp_free(stream->whole);
    gp_free(stream->trial);
    gp_free(stream->common);
    gp_free(stream);
}

/** Takes one id without rendering; false when nothing stands for it. */
static bool take_id(gp_text_stream *stream, int32_t id) {
    if (id < 0 || id >= stream->tokenizer->vocabulary || stream->left == 0) return false;
    const gp_token *token = &stream->tokenizer->tokens[id];
    if (token->kind == GP_TOKEN_NONE) return false;
    stream->left--;
    if (token->kind == GP_TOKEN_SKIPPED) return true;
    if (token->kind == GP_TOKEN_ADDED) end_run(stream);
    if (!stream->run_open && stream->joined_length > 0) stream->joined[stream->joined_length++] = ' ';
    if (token->kind == GP_TOKEN_ADDED) {
        memcpy(stream->joined + stream->joined_length, token->text, token->length);
        stream->joined_length += token->length;
        return true;
    }
    stream->run_open = true;
    if (token->kind == GP_TOKEN_BYTE) {
        add_byte(stream, (unsigned char)token->text[0]);
        return true;
    }
    if (token->length > 0) flush_bytes(stream);
    memcpy(stream->run + stream->run_length, token->text, token->length);
    stream->run_length += token->length;
    settle(stream);
    return true;
}

const char *gp_text_stream_push(gp_text_stream *stream, int32_t id) {
    if (!take_id(stream, id)) return "";
    render(stream, stream->common, certain_tail(stream));
    size_t end = strlen(stream->whole);
    /* A tail that may become a mark is held back. */
    for (size_t part = sizeof MARK - 2; part > 0 && !stream->keep_marks; part--) {
        if (part > end || memcmp(stream->whole + end - part, MARK, part) != 0) continue;
        end -= part;
        break;
    }
    return give(stream, end);
}

const char *gp_text_stream_finish(gp_text_stream *stream) {
    end_run(stream);
    render(stream, "", 0);
    return give(stream, strlen(stream->whole));
}

/** The text as it would be if no token followed. */
const char *gp_text_stream_text(const gp_text_stream *stream) {
    return stream->whole;
}

/** What has become certain up to `end` of the rendered text; the text stays for gp_text_stream_text. */
static const char *give(gp_text_stream *stream, size_t end) {
    size_t from = stream->given < end ? stream->given : end;
    memcpy(stream->trial, stream->whole + from, end - from);
    stream->trial[end - from] = '\0';
    if (end > stream->given) stream->given = end;
    return stream->trial;
}

/** whole = joined + tail, marks taken out. */
static void render(gp_text_stream *stream, const char *tail, size_t tail_length) {
    char *whole = stream->whole;
    memcpy(whole, stream->joined, stream->joined_length);
    memcpy(whole + stream->joined_length, tail, tail_length);
    size_t length = stream->joined_length + tail_length, written = 0, mark = sizeof MARK - 1;
    for (size_t i = 0; i < length;) {
        if (!stream->keep_marks && length - i >= mark && memcmp(whole + i, MARK, mark) == 0)
            i += mark;
        else
            whole[written++] = whole[i++];
    }
    whole[written] = '\0';
}

/* ---- bytes ---- */

static void append_run(gp_text_stream *stream, const void *text, size_t length) {
    memcpy(stream->run + stream->run_length, text, length);
    stream->run_length += length;
}

/** Whether more bytes could make a character of these. */
static bool may_become_character(const unsigned char *bytes, size_t count) {
    size_t wanted = bytes[0] >= 0xC2 && bytes[0] <= 0xDF   ? 2
                    : (bytes[0] & 0xF0) == 0xE0            ? 3
                    : bytes[0] >= 0xF0 && bytes[0] <= 0xF4 ? 4
                                                           : 0;
    return count < wanted;
}

/** Whole characters go to the run, bytes that cannot become one as replacements; a zero, too: it would end a
 * C text. */
static void drain_bytes(gp_text_stream *stream, bool all) {
    while (stream->byte_count > 0) {
        size_t length = gp_utf8_length((const char *)stream->bytes, stream->byte_count),
               used = length > 0 ? length : 1;
        if (length == 0 && !all && may_become_character(stream->bytes, stream->byte_count)) return;
        if (length > 0 && stream->bytes[0] != 0)
            append_run(stream, stream->bytes, length);
        else
            append_run(stream, REPLACEMENT, sizeof REPLACEMENT - 1);
        stream->byte_count -= used;
        memmove(stream->bytes, stream->bytes + used, stream->byte_count);
    }
}

static void add_byte(gp_text_stream *stream, unsigned char byte) {
    stream->bytes[stream->byte_count++] = byte;
    drain_bytes(stream, false);
}

static void flush_bytes(gp_text_stream *stream) {
    drain_bytes(stream, true);
}

/* ---- runs ---- */

/** The first `length` bytes of the run, cleaned up, become settled text. */
static void settle_front(gp_text_stream *stream, size_t length) {
    char *target = stream->joined + stream->joined_length;
    memcpy(target, stream->run, length);
    stream->joined_length += gp_clean_up(target, length);
    stream->run_length -= length;
    memmove(stream->run, stream->run + length, stream->run_length);
}

static void settle(gp_text_stream *stream) {
    size_t plain = 0, cut = 0;
    for (size_t i = 0; i < stream->run_length; i++) {
        plain = stream->run[i] == ' ' || stream->run[i] == '\'' ? 0 : plain + 1;
        /* A byte that no pattern has is in no match either, and stays. */
        if (plain >= BARRIER || strchr(" .?!,'ntmsver", stream->run[i]) == NULL) cut = i + 1;
    }
    while (cut > 0 && cut < stream->run_length && ((unsigned char)stream->run[cut] & 0xC0) == 0x80) cut--;
    if (cut > 0) settle_front(stream, cut);
}

static void end_run(gp_text_stream *stream) {
    flush_bytes(stream);
    settle_front(stream, stream->run_length);
    stream->run_open = false;
}

/** Length of the certain part of the tail, which is left in `common`. */
static size_t certain_tail(gp_text_stream *stream) {
    /* What may complete a pattern, its apostrophe with or without the spaces that an earlier pattern takes
     * away. */
    static const char *const continuations[] = {
        "x",    ".",   "?",  "!",    ",",   "' x", " x",    "' ",   "n't",   "'t",    "t",    "'m",
        "m",    "'s",  "s",  "'ve",  "ve",  "e",   "'re",   "re",   "n ' t", " ' t",  "' t",  " t",
        " ' m", "' m", " m", " ' s", "' s", " s",  " ' ve", "' ve", " ve",   " ' re", "' re", " re"};
    size_t common = 0;
    for (size_t c = 0; c < sizeof continuations / sizeof *continuations; c++) {
        size_t more = strlen(continuations[c]);
        memcpy(stream->trial, stream->run, stream->run_length);
        memcpy(stream->trial + stream->run_length, continuations[c], more);
        size_t length = gp_clean_up(stream->trial, stream->run_length + more);
        if (c == 0) {
            memcpy(stream->common, stream->trial, length);
            common = length - 1; /* without the x */
            continue;
        }
        size_t same = 0;
        while (same < common && same < length && stream->trial[same] == stream->common[same]) same++;
        common = same;
    }
    while (common > 0 && common < stream->run_length &&
           ((unsigned char)stream->common[common] & 0xC0) == 0x80)
        common--;
    return common;
}

/* ---- the whole at once ---- */

bool gp_tokenizer_decode(const gp_tokenizer *tokenizer, const int32_t *ids, size_t count, char **text,
                         gp_status *status) {
    gp_text_stream *stream;
    if (!gp_text_stream_open(tokenizer, count, &stream, status)) return false;
    stream->keep_marks = true;
    for (size_t i = 0; i < count; i++) {
        if (take_id(stream, ids[i])) continue;
        gp_text_stream_close(stream);
        return gp_fail(status, "id %d stands for no token: the vocabulary has %d", ids[i],
                       tokenizer->vocabulary);
    }
    gp_text_stream_finish(stream);
    *text = gp_copy_text(stream->whole);
    gp_text_stream_close(stream);
    return *text != NULL || gp_fail(status, "no memory for the text of %zu ids", count);
}
