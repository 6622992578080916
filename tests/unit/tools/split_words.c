/** The words of each line of standard input as captions are counted, joined by blanks. */
#include "kernels/base/memory.h"
#include "tests/check.h"
#include "tools/geopixel/evaluation/words.h"

int main(void) {
    gp_vocabulary vocabulary = {0};
    gp_status status = {0};
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    while ((length = getline(&line, &room, stdin)) > 0) {
        gp_words words;
        if (line[length - 1] == '\n') line[length - 1] = '\0';
        REQUIRE(gp_words_split(&vocabulary, line, &words, &status), "%s", status.message);
        for (size_t i = 0; i < words.count; i++) {
            const char *word;
            json_t *number;
            json_object_foreach(vocabulary.numbers, word, number) {
                if (json_integer_value(number) != words.numbers[i]) continue;
                printf("%s%s", i > 0 ? " " : "", word);
            }
        }
        putchar('\n');
        gp_free(words.numbers);
    }
    free(line);
    gp_vocabulary_free(&vocabulary);
    CHECK(gp_memory_observe().live_bytes == 0, "%zu bytes are left", gp_memory_observe().live_bytes);
    return check_done();
}
