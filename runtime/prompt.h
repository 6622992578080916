/** The prompt's text and tokens: turns in InternLM2's chat form, the image where `<ImageHere>` stands (spec:
 * model.md, 3). */
#pragma once

#include "loaders/tokenizer/tokenizer.h"
#include "runtime/geopixel.h"

/** Tokens before and after the image. Free with gp_prompt_clear. */
typedef struct gp_prompt {
    gp_token_ids before, after;
} gp_prompt;

/**
 * Tokens of the conversation. Without `<ImageHere>` the image comes before everything; with more than one it
 * fails, since there is one image.
 */
bool gp_prompt_build(const gp_tokenizer *tokenizer, const char *question, const gp_turn *history,
                     size_t history_count, gp_prompt *prompt, gp_status *status);

void gp_prompt_clear(gp_prompt *prompt);
