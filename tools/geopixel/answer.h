/** What a request's events leave behind: everything that the outputs are made of, in memory of its own. */
#pragma once

#include "runtime/geopixel.h"
#include "tools/geopixel/outputs/rle.h"

typedef struct gp_answer_mask {
    gp_rle rle;
    uint64_t area;
    float score;
} gp_answer_mask;

/** Strings and lists are owned; free with gp_answer_clear. */
typedef struct gp_answer {
    char *text;
    int32_t *token_ids;
    gp_phrase *phrases; /* texts owned */
    gp_answer_mask *masks;
    size_t token_count, phrase_count, mask_count;
    gp_result numbers; /* its pointers are of no use */
    bool out_of_memory;
} gp_answer;

/** Keeps what a mask or done event brings; other events are passed over. */
void gp_answer_take(gp_answer *answer, const gp_event *event);

/** The phrase of a mask, or NULL. */
const gp_phrase *gp_answer_phrase(const gp_answer *answer, size_t mask);

void gp_answer_clear(gp_answer *answer);
