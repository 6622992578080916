#include "runtime/prompt.h"

#include "kernels/base/memory.h"

#include <string.h>

#define IMAGE_MARK "<ImageHere>"
#define USER       "[UNUSED_TOKEN_146]user\n"
#define TURN       "[UNUSED_TOKEN_145]\n[UNUSED_TOKEN_146]assistant\n"
#define END        "[UNUSED_TOKEN_145]\n"

/** Appends at *end; the caller has made room. */
static void append(char **end, const char *text) {
    size_t length = strlen(text);
    memcpy(*end, text, length + 1);
    *end += length;
}

static char *conversation(const char *question, const gp_turn *history, size_t history_count) {
    size_t bytes = strlen(USER TURN) + strlen(question) + 1;
    for (size_t i = 0; i < history_count; i++)
        bytes += strlen(USER TURN END) + strlen(history[i].question) + strlen(history[i].answer);
    char *text = gp_allocate(bytes), *end = text;
    if (text == NULL) return NULL;
    for (size_t i = 0; i < history_count; i++) {
        append(&end, USER);
        append(&end, history[i].question);
        append(&end, TURN);
        append(&end, history[i].answer);
        append(&end, END);
    }
    append(&end, USER);
    append(&end, question);
    append(&end, TURN);
    return text;
}

bool gp_prompt_build(const gp_tokenizer *tokenizer, const char *question, const gp_turn *history,
                     size_t history_count, gp_prompt *prompt, gp_status *status) {
    *prompt = (gp_prompt){0};
    char *text = conversation(question, history, history_count);
    if (text == NULL) return gp_fail(status, "no memory for the prompt");
    const char *mark = strstr(text, IMAGE_MARK), *after = mark != NULL ? mark + strlen(IMAGE_MARK) : text;
    bool done = mark == NULL || strstr(after, IMAGE_MARK) == NULL;
    if (!done)
        gp_fail(status, "the prompt and its history have " IMAGE_MARK " more than once; there is one image");
    done = done && gp_tokenizer_encode(tokenizer, text, mark != NULL ? (size_t)(mark - text) : 0, true,
                                       &prompt->before, status);
    done = done && gp_tokenizer_encode(tokenizer, after, strlen(after), false, &prompt->after, status);
    gp_free(text);
    if (!done) gp_prompt_clear(prompt);
    return done;
}

void gp_prompt_clear(gp_prompt *prompt) {
    gp_free(prompt->before.ids);
    gp_free(prompt->after.ids);
    *prompt = (gp_prompt){0};
}
