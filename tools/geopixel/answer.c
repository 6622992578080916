#include "tools/geopixel/answer.h"

#include "kernels/base/memory.h"

#include <string.h>

static void take_mask(gp_answer *answer, const gp_mask *mask) {
    size_t count = answer->mask_count;
    gp_answer_mask *grown = gp_grow(answer->masks, count * sizeof *grown, (count + 1) * sizeof *grown);
    if (grown == NULL) {
        answer->out_of_memory = true;
        return;
    }
    answer->masks = grown;
    grown[count] = (gp_answer_mask){.area = mask->area, .score = mask->score};
    if (gp_rle_copy(mask->runs, mask->run_count, mask->width, mask->height, &grown[count].rle))
        answer->mask_count++;
    else
        answer->out_of_memory = true;
}

static void take_result(gp_answer *answer, const gp_result *result) {
    answer->numbers = *result;
    answer->text = gp_copy_text(result->text);
    answer->token_ids = gp_allocate(result->token_count * sizeof *answer->token_ids);
    answer->phrases = gp_allocate_zeroed(result->phrase_count + 1, sizeof *answer->phrases);
    if (answer->text == NULL || answer->token_ids == NULL || answer->phrases == NULL) {
        answer->out_of_memory = true;
        return;
    }
    memcpy(answer->token_ids, result->token_ids, result->token_count * sizeof *answer->token_ids);
    answer->token_count = result->token_count;
    for (; answer->phrase_count < result->phrase_count; answer->phrase_count++) {
        gp_phrase *phrase = &answer->phrases[answer->phrase_count];
        *phrase = result->phrases[answer->phrase_count];
        phrase->text = gp_copy_text(phrase->text);
        if (phrase->text == NULL) {
            answer->out_of_memory = true;
            return;
        }
    }
}

void gp_answer_take(gp_answer *answer, const gp_event *event) {
    if (event->type == GP_EVENT_MASK)
        take_mask(answer, &event->mask);
    else if (event->type == GP_EVENT_DONE)
        take_result(answer, &event->result);
}

const gp_phrase *gp_answer_phrase(const gp_answer *answer, size_t mask) {
    for (size_t i = 0; i < answer->phrase_count; i++)
        if ((size_t)answer->phrases[i].mask == mask) return &answer->phrases[i];
    return NULL;
}

void gp_answer_clear(gp_answer *answer) {
    for (size_t i = 0; i < answer->phrase_count; i++) gp_free((char *)answer->phrases[i].text);
    for (size_t i = 0; i < answer->mask_count; i++) gp_rle_free(&answer->masks[i].rle);
    gp_free(answer->text);
    gp_free(answer->token_ids);
    gp_free(answer->phrases);
    gp_free(answer->masks);
    *answer = (gp_answer){0};
}
