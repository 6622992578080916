#include "tools/geopixel/evaluation/data_pickle_scalars.h"

#include "kernels/base/memory.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FLOAT_LENGTH_MAX = 63, PRINTED_MAX = 40 };

bool gp_pickle_fail(const gp_pickle_bytes *bytes, const char *format, ...) {
    char message[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    /* what is quoted of a pickle may be any bytes, a terminal's commands among them */
    for (char *c = message; *c != '\0'; c++)
        if (*c < ' ' || *c > '~') *c = '?';
    return gp_fail(bytes->status, "%s: pickle, byte %zu: %s", bytes->path, bytes->at, message);
}

/* ---- bytes ---- */

static bool take(gp_pickle_bytes *bytes, uint64_t count, const unsigned char **taken) {
    if (count > bytes->end - bytes->at)
        return gp_pickle_fail(bytes, "%llu bytes are announced, %zu are left", (unsigned long long)count,
                              bytes->end - bytes->at);
    *taken = bytes->data + bytes->at;
    bytes->at += (size_t)count;
    return true;
}

bool gp_pickle_number(gp_pickle_bytes *bytes, size_t count, uint64_t *number) {
    const unsigned char *taken;
    if (!take(bytes, count, &taken)) return false;
    *number = 0;
    for (size_t i = 0; i < count; i++) *number |= (uint64_t)taken[i] << (8 * i);
    return true;
}

bool gp_pickle_line(gp_pickle_bytes *bytes, const char **text, size_t *length) {
    const unsigned char *start = bytes->data + bytes->at;
    const unsigned char *end = bytes->at < bytes->end ? memchr(start, '\n', bytes->end - bytes->at) : NULL;
    if (end == NULL) return gp_pickle_fail(bytes, "a line without an end");
    *text = (const char *)start;
    *length = (size_t)(end - start);
    bytes->at += *length + 1;
    return true;
}

bool gp_pickle_frame(gp_pickle_bytes *bytes) {
    uint64_t length;
    if (!gp_pickle_number(bytes, 8, &length)) return false;
    if (bytes->end < bytes->size) return gp_pickle_fail(bytes, "a frame within a frame");
    if (length > bytes->size - bytes->at)
        return gp_pickle_fail(bytes, "a frame of %llu bytes, %zu are left", (unsigned long long)length,
                              bytes->size - bytes->at);
    bytes->end = bytes->at + (size_t)length;
    return true;
}

/** A decimal number with an optional sign, of 64 bits. Python takes one that begins with 0 for octal. */
static bool parse_whole(const gp_pickle_bytes *bytes, const char *text, size_t length, int64_t *number) {
    bool negative = length > 0 && *text == '-';
    size_t at = length > 0 && (*text == '-' || *text == '+');
    uint64_t value = 0, most = (uint64_t)INT64_MAX + negative;
    bool fits = at + 1 == length || (at < length && text[at] != '0');
    for (; fits && at < length; at++) {
        uint64_t digit = (uint64_t)text[at] - '0';
        fits = text[at] >= '0' && text[at] <= '9' && value <= (most - digit) / 10;
        value = value * 10 + digit;
    }
    if (!fits)
        return gp_pickle_fail(bytes, "\"%.*s\" is no whole number of 64 bits",
                              (int)(length < PRINTED_MAX ? length : PRINTED_MAX), text);
    *number = negative ? (int64_t)(0 - value) : (int64_t)value;
    return true;
}

bool gp_pickle_index_line(gp_pickle_bytes *bytes, uint64_t *number) {
    const char *text;
    size_t length;
    int64_t parsed;
    if (!gp_pickle_line(bytes, &text, &length) || !parse_whole(bytes, text, length, &parsed)) return false;
    *number = (uint64_t)parsed;
    return parsed >= 0 || gp_pickle_fail(bytes, "memo %lld", (long long)parsed);
}

/** What jansson made, or why it did not. */
static json_t *made_of(const gp_pickle_bytes *bytes, json_t *made) {
    if (made == NULL) gp_pickle_fail(bytes, "no memory for it");
    return made;
}

/* ---- numbers ---- */

/** INT: Python writes its truth values as the lines 00 and 01. */
static json_t *whole_line(gp_pickle_bytes *bytes, unsigned char opcode) {
    const char *text;
    size_t length;
    int64_t number;
    if (!gp_pickle_line(bytes, &text, &length)) return NULL;
    if (opcode == 'I' && length == 2 && text[0] == '0' && (text[1] == '0' || text[1] == '1'))
        return made_of(bytes, json_boolean(text[1] == '1'));
    if (opcode == 'L' && length > 0 && text[length - 1] == 'L') length--;
    if (!parse_whole(bytes, text, length, &number)) return NULL;
    if (opcode == 'I' && length == 2 && (number == 0 || number == 1)) {
        gp_pickle_fail(bytes,
                       "the INT \"%.2s\" is a truth value to one of Python's readers, a number to the other",
                       text);
        return NULL;
    }
    return made_of(bytes, json_integer(number));
}

/** LONG1, LONG4: a little-endian two's complement number whose length comes first. */
static json_t *whole_bytes(gp_pickle_bytes *bytes, size_t length_bytes) {
    uint64_t length, number;
    if (!gp_pickle_number(bytes, length_bytes, &length)) return NULL;
    if (length > 8) {
        gp_pickle_fail(bytes, "a whole number of %llu bytes; 8 are the most", (unsigned long long)length);
        return NULL;
    }
    if (!gp_pickle_number(bytes, (size_t)length, &number)) return NULL;
    if (length > 0 && length < 8 && number >> (8 * length - 1) != 0) number |= UINT64_MAX << (8 * length);
    return made_of(bytes, json_integer((int64_t)number));
}

static json_t *finite_number(const gp_pickle_bytes *bytes, double number) {
    if (isfinite(number)) return made_of(bytes, json_real(number));
    gp_pickle_fail(bytes, "a number that is not finite");
    return NULL;
}

/** FLOAT: Python's repr of it. */
static json_t *float_line(gp_pickle_bytes *bytes) {
    char copy[FLOAT_LENGTH_MAX + 1], *end = copy;
    const char *text;
    size_t length;
    if (!gp_pickle_line(bytes, &text, &length)) return NULL;
    double number = 0;
    if (length > 0 && length <= FLOAT_LENGTH_MAX && memchr(text, '\0', length) == NULL) {
        memcpy(copy, text, length);
        copy[length] = '\0';
        /* strtod knows more than Python writes: hexadecimal numbers, blanks, nan(...) */
        if (strspn(copy, "+-.0123456789eE") == length || strspn(copy, "+-infa") == length)
            number = strtod(copy, &end);
    }
    if (end != copy && *end == '\0') return finite_number(bytes, number);
    gp_pickle_fail(bytes, "\"%.*s\" is no number", (int)(length < PRINTED_MAX ? length : PRINTED_MAX), text);
    return NULL;
}

/** BINFLOAT: a double, its highest byte first. */
static json_t *float_bytes(gp_pickle_bytes *bytes) {
    const unsigned char *taken;
    if (!take(bytes, 8, &taken)) return NULL;
    uint64_t bits = 0;
    for (int i = 0; i < 8; i++) bits = bits << 8 | taken[i];
    double number;
    memcpy(&number, &bits, sizeof number);
    return finite_number(bytes, number);
}

/* ---- texts ---- */

static json_t *text_of(const gp_pickle_bytes *bytes, const char *text, size_t length) {
    json_t *made = json_stringn(text, length);
    if (made == NULL) gp_pickle_fail(bytes, "a text of %zu bytes that is not UTF-8", length);
    return made;
}

static json_t *text_bytes(gp_pickle_bytes *bytes, size_t length_bytes) {
    uint64_t length;
    const unsigned char *taken;
    if (!gp_pickle_number(bytes, length_bytes, &length) || !take(bytes, length, &taken)) return NULL;
    return text_of(bytes, (const char *)taken, (size_t)length);
}

/** A hexadecimal number of `digits` digits. */
static bool parse_hexadecimal(const char *text, size_t digits, uint32_t *number) {
    *number = 0;
    for (size_t i = 0; i < digits; i++) {
        char c = text[i];
        uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                                : 16;
        if (digit == 16) return false;
        *number = *number << 4 | digit;
    }
    return true;
}

/** A character as UTF-8; gives its length, 0 for what is none. */
static size_t put_character(uint32_t character, char *out) {
    if (character < 0x80) {
        out[0] = (char)character;
        return 1;
    }
    size_t length = character < 0x800 ? 2 : character < 0x10000 ? 3 : 4;
    if (character > 0x10FFFF) return 0;
    for (size_t i = length; i-- > 1; character >>= 6) out[i] = (char)(0x80 | (character & 0x3F));
    out[0] = (char)((0xF00u >> length & 0xFF) | character);
    return length;
}

/** STRING: a byte string's repr, in quotes. `out` has room for its length. */
static bool decode_repr(const char *text, size_t length, char *out, size_t *out_length) {
    static const char named[] = "\\\\''\"\"n\nr\rt\t";
    if (length < 2 || (*text != '\'' && *text != '"') || text[length - 1] != *text) return false;
    for (size_t i = 1; i < length - 1; i++) {
        uint32_t byte = (unsigned char)text[i];
        if (byte == '\\') {
            if (++i == length - 1) return false;
            const char *known = NULL;
            for (const char *pair = named; *pair != '\0' && known == NULL; pair += 2)
                if (*pair == text[i]) known = pair;
            if (known != NULL) {
                byte = (unsigned char)known[1];
            } else {
                if (text[i] != 'x' || length - 1 - (i + 1) < 2 || !parse_hexadecimal(text + i + 1, 2, &byte))
                    return false;
                i += 2;
            }
        }
        out[(*out_length)++] = (char)byte;
    }
    return true;
}

/** UNICODE: Latin-1 with \uXXXX and \UXXXXXXXX. `out` has room for twice its length. */
static bool decode_escapes(const char *text, size_t length, char *out, size_t *out_length) {
    for (size_t i = 0; i < length; i++) {
        uint32_t character = (unsigned char)text[i];
        if (character == '\\' && i + 1 < length && (text[i + 1] == 'u' || text[i + 1] == 'U')) {
            size_t digits = text[i + 1] == 'u' ? 4 : 8;
            if (length - (i + 2) < digits || !parse_hexadecimal(text + i + 2, digits, &character))
                return false;
            i += 1 + digits;
        } else if (character == '\\' && i + 1 < length) {
            /* a backslash takes the next character with it, so that one after it escapes nothing */
            out[(*out_length)++] = '\\';
            character = (unsigned char)text[++i];
        }
        size_t put = put_character(character, out + *out_length);
        if (put == 0) return false;
        *out_length += put;
    }
    return true;
}

static json_t *text_line(gp_pickle_bytes *bytes, unsigned char opcode) {
    const char *text;
    size_t length, decoded_length = 0;
    if (!gp_pickle_line(bytes, &text, &length)) return NULL;
    char *decoded = gp_allocate(2 * length + 4);
    if (decoded == NULL) return made_of(bytes, NULL);
    json_t *made = NULL;
    if (opcode == 'S' ? decode_repr(text, length, decoded, &decoded_length)
                      : decode_escapes(text, length, decoded, &decoded_length))
        made = text_of(bytes, decoded, decoded_length);
    else
        gp_pickle_fail(bytes, "a text of %zu bytes that is not as Python writes it", length);
    gp_free(decoded);
    return made;
}

/* ---- opcodes ---- */

bool gp_pickle_is_scalar(unsigned char opcode) {
    static const unsigned char scalars[] = {'N', 0x88, 0x89, 'I', 'J', 'K', 'M',  'L',  0x8A, 0x8B, 'F',
                                            'G', 'S',  'T',  'U', 'V', 'X', 0x8C, 0x8D, 'B',  'C',  0x8E};
    return memchr(scalars, opcode, sizeof scalars) != NULL;
}

json_t *gp_pickle_scalar(gp_pickle_bytes *bytes, unsigned char opcode) {
    uint64_t number;
    switch (opcode) {
    case 'N':
        return made_of(bytes, json_null());
    case 0x88:
    case 0x89:
        return made_of(bytes, json_boolean(opcode == 0x88));
    case 'I':
    case 'L':
        return whole_line(bytes, opcode);
    case 'J':
        if (!gp_pickle_number(bytes, 4, &number)) return NULL;
        return made_of(bytes, json_integer((int32_t)(uint32_t)number));
    case 'K':
    case 'M':
        if (!gp_pickle_number(bytes, opcode == 'K' ? 1 : 2, &number)) return NULL;
        return made_of(bytes, json_integer((json_int_t)number));
    case 0x8A:
        return whole_bytes(bytes, 1);
    case 0x8B:
        return whole_bytes(bytes, 4);
    case 'F':
        return float_line(bytes);
    case 'G':
        return float_bytes(bytes);
    case 'S':
    case 'V':
        return text_line(bytes, opcode);
    case 'C':
    case 'U':
    case 0x8C:
        return text_bytes(bytes, 1);
    case 'B':
    case 'T':
    case 'X':
        return text_bytes(bytes, 4);
    default: /* BINUNICODE8, BINBYTES8 */
        return text_bytes(bytes, 8);
    }
}

bool gp_pickle_refuse(gp_pickle_bytes *bytes, unsigned char opcode) {
    static const unsigned char opcodes[] = {'c',  'i',  'R',  'b',  'o',  'P',  'Q',  0x81, 0x82,
                                            0x83, 0x84, 0x8F, 0x90, 0x91, 0x92, 0x96, 0x97, 0x98};
    static const char *const names[] = {
        "GLOBAL",    "INST",      "REDUCE",    "BUILD",      "OBJ",         "PERSID",
        "BINPERSID", "NEWOBJ",    "EXT1",      "EXT2",       "EXT4",        "EMPTY_SET",
        "ADDITEMS",  "FROZENSET", "NEWOBJ_EX", "BYTEARRAY8", "NEXT_BUFFER", "READONLY_BUFFER"};
    const unsigned char *known = memchr(opcodes, opcode, sizeof opcodes);
    const char *module, *symbol;
    size_t module_length, symbol_length;
    gp_pickle_bytes ahead = *bytes;
    ahead.status = NULL;
    bytes->at--; /* the opcode's own place */
    if (known == NULL) return gp_pickle_fail(bytes, "0x%02x is no opcode", opcode);
    const char *name = names[known - opcodes];
    if ((opcode == 'c' || opcode == 'i') && gp_pickle_line(&ahead, &module, &module_length) &&
        gp_pickle_line(&ahead, &symbol, &symbol_length))
        return gp_pickle_fail(bytes, "%s of %.*s.%.*s: only plain data is read", name,
                              (int)(module_length < PRINTED_MAX ? module_length : PRINTED_MAX), module,
                              (int)(symbol_length < PRINTED_MAX ? symbol_length : PRINTED_MAX), symbol);
    return gp_pickle_fail(bytes, "%s: only plain data is read", name);
}
