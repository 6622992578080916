#include "tools/geopixel/inspect_text.h"

#include "kernels/base/memory.h"

#include <math.h>
#include <stdio.h>

/** `number` with the largest unit that leaves a whole before the point: three figures, four below 10 of them.
 */
static gp_short_text with_unit(uint64_t number, double step, const char *const *units, int unit_count) {
    gp_short_text out;
    double value = (double)number;
    int unit = 0;
    for (; value >= step && unit < unit_count - 1; unit++) value /= step;
    snprintf(out.text, sizeof out.text,
             unit == 0    ? "%.0f%s"
             : value < 10 ? "%.2f%s"
                          : "%.1f%s",
             value, units[unit]);
    return out;
}

gp_short_text gp_short_bytes(uint64_t bytes) {
    static const char *const units[] = {" bytes", " KiB", " MiB", " GiB", " TiB"};
    return with_unit(bytes, 1024, units, 5);
}

gp_short_text gp_short_count(uint64_t count) {
    static const char *const units[] = {"", " k", " M", " G", " T"};
    return with_unit(count, 1000, units, 5);
}

gp_short_text gp_short_whole(uint64_t number) {
    char digits[24];
    gp_short_text out;
    int length = snprintf(digits, sizeof digits, "%llu", (unsigned long long)number), at = 0;
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0) out.text[at++] = ',';
        out.text[at++] = digits[i];
    }
    out.text[at] = '\0';
    return out;
}

gp_short_text gp_short_shape(const int64_t *shape, int rank) {
    gp_short_text out = {"scalar"};
    size_t length = 0;
    for (int i = 0; i < rank; i++) { /* eight sizes of 20 digits fit */
        char size[24] = "any";
        if (shape[i] >= 0) snprintf(size, sizeof size, "%lld", (long long)shape[i]);
        length +=
            (size_t)snprintf(out.text + length, sizeof out.text - length, "%s%s", i > 0 ? " x " : "", size);
    }
    return out;
}

void gp_print_text(const char *text) {
    for (; *text != '\0'; text++) putchar((unsigned char)*text < ' ' || *text == 127 ? '?' : *text);
}

json_t *gp_json_text(const char *text) {
    if (text == NULL) return json_null();
    json_t *string = json_string(text); /* jansson takes UTF-8 alone */
    if (string != NULL) return string;
    char *plain = gp_copy_text(text);
    if (plain == NULL) return NULL;
    for (char *at = plain; *at != '\0'; at++)
        if ((unsigned char)*at > 127) *at = '?';
    string = json_string(plain);
    gp_free(plain);
    return string;
}

json_t *gp_json_number(double number) {
    if (isnan(number)) return json_string("nan");
    if (isinf(number)) return json_string(number > 0 ? "inf" : "-inf");
    return json_real(number);
}

json_t *gp_json_numbers(const double *numbers, int count) {
    json_t *list = json_array();
    for (int i = 0; i < count; i++) json_array_append_new(list, gp_json_number(numbers[i]));
    return list;
}

json_t *gp_json_shape(const int64_t *shape, int rank) {
    json_t *sizes = json_array();
    for (int i = 0; i < rank; i++)
        json_array_append_new(sizes, shape[i] < 0 ? json_null() : json_integer(shape[i]));
    return sizes;
}

bool gp_json_print(json_t *document) {
    bool written =
        document != NULL && json_dumpf(document, stdout, JSON_INDENT(1)) == 0 && putchar('\n') != EOF;
    json_decref(document);
    return written;
}
