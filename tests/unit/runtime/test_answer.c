/** Which phrase a [SEG] belongs to. */
#include "runtime/answer.h"
#include "tests/check.h"

/** `want`: "phrase@mask|…" in order. */
static void expect(const char *text, const char *want) {
    gp_phrase phrases[8];
    char have[400] = "";
    size_t count = gp_find_phrases(text, phrases, 8);
    for (size_t i = 0; i < count && i < 8; i++) {
        size_t length = strlen(have), bytes = phrases[i].byte_end - phrases[i].byte_begin, characters = 0;
        snprintf(have + length, sizeof have - length, "%s%.*s@%d", i > 0 ? "|" : "", (int)bytes,
                 text + phrases[i].byte_begin, phrases[i].mask);
        for (size_t at = 0; at < phrases[i].byte_begin; at++)
            characters += ((unsigned char)text[at] & 0xC0) != 0x80;
        CHECK(characters == phrases[i].begin && phrases[i].end >= phrases[i].begin,
              "\"%s\": begins at character %zu", text, phrases[i].begin);
    }
    CHECK(strcmp(have, want) == 0, "\"%s\": \"%s\", not \"%s\"", text, have, want);
}

int main(void) {
    expect("", "");
    expect("no mask at all <p> x </p>", "");
    expect("The <p> a bridge </p> [SEG] and <p> two cars </p> [SEG] here.", "a bridge@0|two cars@1");
    expect("[SEG] then <p>x</p>[SEG]", "x@1");
    expect("<p> a long bridge </p> [SEG] along the top left </p> [SEG] in", "a long bridge@0");
    expect("<p> outer <p> inner </p> [SEG]", "inner@0");
    expect("<p> x </p> word [SEG]", "");
    expect("<p> x </p> \n\t [SEG]", "x@0");
    expect("<p> a </p> y <p> z </p> [SEG]", "z@0");
    expect("x </p> [SEG]", "");
    expect("<p> [SEG] </p> [SEG]", "");
    expect("<p> </p> [SEG]", "@0");
    expect("\xE6\xA1\xA5 <p> \xE6\xA1\xA5\xE6\xA2\x81 </p> [SEG]", "\xE6\xA1\xA5\xE6\xA2\x81@0");
    gp_phrase one[1];
    CHECK(gp_find_phrases("<p>a</p>[SEG]<p>b</p>[SEG]", one, 1) == 2 && one[0].mask == 0,
          "more phrases than room are counted");
    return check_done();
}
