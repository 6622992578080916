/**
 * bert_embed FOLDER THREADS: embeds texts as a test asks. Each line of standard input is a text's bytes in
 * hexadecimal; its answer is a line of JSON: ids, the mean of the last states, and the similarity with the
 * text before, or {"error": …}. A folder that cannot be opened is one such line and exit code 1.
 */
#include "kernels/base/memory.h"
#include "loaders/config/bert_config.h"
#include "runtime/bert.h"
#include "runtime/wordpiece.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print(json_t *object) {
    char *text = json_dumps(object, JSON_COMPACT);
    puts(text);
    fflush(stdout);
    free(text);
    json_decref(object);
}

static void print_error(gp_status *status) {
    print(json_pack("{s:s}", "error", status->message));
    gp_status_clear(status);
}

/** The line's bytes in place, terminated. */
static void from_hexadecimal(char *line) {
    size_t length = strspn(line, "0123456789abcdef") / 2;
    for (size_t i = 0; i < length; i++) {
        char digits[3] = {line[2 * i], line[2 * i + 1], '\0'};
        line[i] = (char)strtol(digits, NULL, 16);
    }
    line[length] = '\0';
}

int main(int argc, char **argv) {
    gp_bert_config config;
    gp_wordpiece *wordpiece = NULL;
    gp_bert *bert = NULL;
    gp_status status = {0};
    if (argc != 3) return 2;
    if (!gp_bert_open(argv[1], atoi(argv[2]), &bert, &status) ||
        !gp_bert_config_read(argv[1], &config, &status) ||
        !gp_wordpiece_open(argv[1], &config, &wordpiece, &status)) {
        print_error(&status);
        return 1;
    }
    int hidden = gp_bert_hidden(bert), count = 0;
    int32_t *ids = gp_allocate((size_t)config.max_position_embeddings * sizeof *ids);
    float *mean = gp_allocate_zeroed((size_t)hidden, sizeof *mean),
          *before = gp_allocate_zeroed((size_t)hidden, sizeof *before);
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, stdin) > 0) {
        from_hexadecimal(line);
        if (!gp_wordpiece_encode(wordpiece, line, ids, config.max_position_embeddings, &count, &status) ||
            !gp_bert_embed(bert, line, mean, &status)) {
            print_error(&status);
            continue;
        }
        json_t *id_list = json_array(), *mean_list = json_array();
        for (int i = 0; i < count; i++) json_array_append_new(id_list, json_integer(ids[i]));
        for (int i = 0; i < hidden; i++) json_array_append_new(mean_list, json_real(mean[i]));
        print(json_pack("{s:o, s:o, s:f}", "ids", id_list, "mean", mean_list, "similarity",
                        gp_bert_similarity(mean, before, hidden)));
        memcpy(before, mean, (size_t)hidden * sizeof *mean);
    }
    free(line);
    gp_free(ids);
    gp_free(mean);
    gp_free(before);
    gp_wordpiece_close(wordpiece);
    gp_bert_close(bert);
    return 0;
}
