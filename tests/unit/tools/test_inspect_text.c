/** Numbers as inspections print them: at the edges of their units by hand, and random ones read back. */
#include "tests/check.h"
#include "tools/geopixel/inspect_text.h"

static void check_text(const char *have, const char *want) {
    CHECK(strcmp(have, want) == 0, "\"%s\", not \"%s\"", have, want);
}

static void check_edges(void) {
    check_text(gp_short_bytes(0).text, "0 bytes");
    check_text(gp_short_bytes(1023).text, "1023 bytes");
    check_text(gp_short_bytes(1024).text, "1.00 KiB");
    check_text(gp_short_bytes(10 * 1024).text, "10.0 KiB");
    check_text(gp_short_bytes(17823479136).text, "16.6 GiB");
    check_text(gp_short_count(999).text, "999");
    check_text(gp_short_count(8911739568).text, "8.91 G");
    check_text(gp_short_whole(0).text, "0");
    check_text(gp_short_whole(999).text, "999");
    check_text(gp_short_whole(1000).text, "1,000");
    check_text(gp_short_whole(UINT64_MAX).text, "18,446,744,073,709,551,615");
    check_text(gp_short_shape(NULL, 0).text, "scalar");
    check_text(gp_short_shape((int64_t[]){3, -1, 0}, 3).text, "3 x any x 0");
    const int64_t largest[8] = {INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX,
                                INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX};
    CHECK(strlen(gp_short_shape(largest, 8).text) == 8 * 19 + 7 * 3, "eight sizes of 19 digits: %s",
          gp_short_shape(largest, 8).text);
}

/** Three figures at least are right; whole numbers lose nothing. */
static void check_random(uint64_t *state) {
    static const char *const units[] = {" bytes", " KiB", " MiB", " GiB", " TiB"};
    for (int i = 0; i < 2000; i++) {
        uint64_t number = (random_bits(state) | 1) >> (14 + random_bits(state) % 50);
        gp_short_text bytes = gp_short_bytes(number), whole = gp_short_whole(number);
        char *unit;
        double value = strtod(bytes.text, &unit);
        for (int k = 0; k < 5 && strcmp(unit, units[k]) != 0; k++) value *= 1024;
        CHECK(fabs(value - (double)number) <= 0.005 * (double)number, "%llu is \"%s\"",
              (unsigned long long)number, bytes.text);
        uint64_t back = 0;
        for (const char *at = whole.text; *at != '\0'; at++)
            if (*at != ',') back = 10 * back + (uint64_t)(*at - '0');
        CHECK(back == number, "%llu is \"%s\"", (unsigned long long)number, whole.text);
    }
}

static void check_json(void) {
    json_t *none = gp_json_text(NULL), *plain = gp_json_text("gr\xC3\xBCn"), *broken = gp_json_text("a\xFF");
    json_t *shape = gp_json_shape((int64_t[]){3, -1}, 2);
    json_t *numbers = gp_json_numbers((double[]){0.5, NAN, -INFINITY}, 3);
    CHECK(json_is_null(none), "no text is no null");
    check_text(json_string_value(plain), "gr\xC3\xBCn");
    check_text(json_string_value(broken), "a?");
    CHECK(json_integer_value(json_array_get(shape, 0)) == 3 && json_is_null(json_array_get(shape, 1)),
          "a size that may be any is no null");
    CHECK(json_real_value(json_array_get(numbers, 0)) == 0.5, "0.5 is another number");
    check_text(json_string_value(json_array_get(numbers, 1)), "nan");
    check_text(json_string_value(json_array_get(numbers, 2)), "-inf");
    json_decref(none);
    json_decref(plain);
    json_decref(broken);
    json_decref(shape);
    json_decref(numbers);
}

int main(void) {
    uint64_t state = fresh_seed();
    check_edges();
    check_random(&state);
    check_json();
    return check_done();
}
