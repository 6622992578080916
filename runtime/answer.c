#include "runtime/answer.h"

#include <string.h>

#define OPEN  "<p>"
#define CLOSE "</p>"
#define SEG   "[SEG]"

static bool is_space(char byte) {
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

/** Code points before `end`: bytes that do not continue one. */
static size_t characters(const char *text, size_t end) {
    size_t count = 0;
    for (size_t i = 0; i < end; i++) count += ((unsigned char)text[i] & 0xC0) != 0x80;
    return count;
}

/** Whether `tag` ends at text + end. */
static bool ends_with(const char *text, size_t end, const char *tag) {
    size_t length = strlen(tag);
    return end >= length && memcmp(text + end - length, tag, length) == 0;
}

/** The phrase whose tags end right before text + end, if there is one. */
static bool phrase_before(const char *text, size_t end, gp_phrase *phrase) {
    while (end > 0 && is_space(text[end - 1])) end--;
    if (!ends_with(text, end, CLOSE)) return false;
    end -= strlen(CLOSE);
    size_t begin = end;
    while (begin > 0 && !ends_with(text, begin, OPEN)) {
        if (ends_with(text, begin, CLOSE) || ends_with(text, begin, SEG))
            return false; /* of an earlier one */
        begin--;
    }
    if (!ends_with(text, begin, OPEN)) return false;
    while (begin < end && is_space(text[begin])) begin++;
    while (end > begin && is_space(text[end - 1])) end--;
    phrase->byte_begin = begin;
    phrase->byte_end = end;
    phrase->begin = characters(text, begin);
    phrase->end = characters(text, end);
    return true;
}

size_t gp_find_phrases(const char *text, gp_phrase *phrases, size_t capacity) {
    size_t count = 0;
    int mask = 0;
    for (const char *seg = strstr(text, SEG); seg != NULL; seg = strstr(seg + strlen(SEG), SEG), mask++) {
        gp_phrase phrase = {.mask = mask};
        if (!phrase_before(text, (size_t)(seg - text), &phrase)) continue;
        if (count < capacity) phrases[count] = phrase;
        count++;
    }
    return count;
}
