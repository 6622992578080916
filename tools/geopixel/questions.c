#include "tools/geopixel/questions.h"

#include "kernels/base/clock.h"
#include "kernels/base/memory.h"
#include "tools/geopixel/interrupt.h"

#include <stdio.h>
#include <string.h>

enum { AHEAD = 8 }; /* questions beyond those that are worked on, at most */

/** What is computed of a picture serves all questions about it that follow each other. */
typedef struct picture {
    gp_scene scene;
    gp_session *session; /* NULL where nothing is to be seen */
    int users;           /* questions that are not over, and one while it is the latest */
} picture;

typedef struct asked {
    const gp_sample *sample;
    picture *picture;
    gp_question question; /* its request is NULL where nothing is to be seen */
} asked;

/** Questions in the set's order, in a ring. */
typedef struct questions {
    gp_asking *asking;
    const gp_dataset *dataset;
    gp_predictions *predictions;
    gp_status *status;
    asked *ring;
    size_t capacity, begun, over;
    size_t next;           /* sample of the set */
    picture *latest;       /* NULL: none */
    const char *latest_of; /* its file */
} questions;

static bool ask_next(questions *q);
static bool take_oldest(questions *q);
static void show_progress(const questions *q, size_t before, size_t left, double start);
static void leave(picture *p);

bool gp_questions_ask(gp_asking *asking, const gp_dataset *dataset, gp_predictions *predictions,
                      gp_status *status) {
    const gp_asking_options *o = asking->options;
    const size_t together = (size_t)(o->together > 0 ? o->together : 1),
                 replicas = (size_t)(o->replicas > 0 ? o->replicas : 1);
    questions q = {.asking = asking,
                   .dataset = dataset,
                   .predictions = predictions,
                   .status = status,
                   .capacity =
                       together * replicas + (together * replicas < AHEAD ? together * replicas : AHEAD)};
    size_t left = 0;
    for (size_t i = 0; i < dataset->count; i++)
        left += gp_predictions_find(predictions, dataset->samples[i].id) == NULL;
    if (left == 0) return true;
    if (!gp_asking_open(asking, status)) return false;
    q.ring = gp_allocate_zeroed(q.capacity, sizeof *q.ring);
    if (q.ring == NULL) return gp_fail(status, "no memory for %zu questions", q.capacity);
    const double start = gp_clock_seconds();
    bool done = true;
    while (q.over < q.begun || (done && q.begun < left)) {
        while (done && q.begun < left && q.begun - q.over < q.capacity && !gp_interrupted())
            done = ask_next(&q);
        show_progress(&q, dataset->count - left, left - q.over, start);
        done = (q.over == q.begun || take_oldest(&q)) && done && !gp_interrupted();
    }
    leave(q.latest);
    gp_free(q.ring);
    gp_terminal_clear(&asking->terminal);
    return done;
}

/* ---- asking ---- */

static void leave(picture *p) {
    if (p == NULL || --p->users > 0) return;
    gp_session_close(p->session);
    gp_scene_clear(&p->scene);
    gp_free(p);
}

/** Makes it the latest. */
static bool look_at(questions *q, const char *image) {
    const gp_scene_options where = {.path = image};
    if (q->latest != NULL && strcmp(q->latest_of, image) == 0) return true;
    leave(q->latest);
    q->latest_of = image;
    q->latest = gp_allocate_zeroed(1, sizeof *q->latest);
    if (q->latest == NULL) return gp_fail(q->status, "no memory for a picture");
    q->latest->users = 1;
    if (!gp_asking_read_scene(q->asking, &where, &q->latest->scene, q->status)) return false;
    if (q->latest->scene.empty) {
        gp_asking_tell_empty(image);
        return true;
    }
    const gp_rgb_image *rgb = &q->latest->scene.image;
    q->latest->session =
        gp_session_open(q->asking->engine, &(gp_image){rgb->width, rgb->height, 0, rgb->pixels}, q->status);
    return q->latest->session != NULL;
}

static bool ask_next(questions *q) {
    while (gp_predictions_find(q->predictions, q->dataset->samples[q->next].id) != NULL) q->next++;
    asked *one = &q->ring[q->begun % q->capacity];
    one->sample = &q->dataset->samples[q->next];
    if (!look_at(q, one->sample->image)) return false;
    const gp_request_options request = {.session = q->latest->session, .prompt = one->sample->prompt};
    if (request.session != NULL && !gp_asking_submit(q->asking, request, &one->question, q->status))
        return false;
    one->picture = q->latest;
    one->picture->users++;
    q->next++;
    q->begun++;
    return true;
}

/* ---- answers ---- */

static json_t *prediction_of(const questions *q, const asked *one) {
    const gp_answer *answer = &one->question.answer;
    const gp_rgb_image *image = &one->picture->scene.image;
    json_t *masks = json_array(), *phrases = json_array();
    bool done = true;
    for (size_t i = 0; i < answer->mask_count && done; i++) {
        const gp_phrase *phrase = gp_answer_phrase(answer, i);
        done = json_array_append_new(masks, gp_rle_json(&answer->masks[i].rle)) == 0 &&
               json_array_append_new(phrases, phrase != NULL ? json_string(phrase->text) : json_null()) == 0;
    }
    if (!done) {
        json_decref(masks);
        json_decref(phrases);
        return NULL;
    }
    return json_pack("{s:s,s:[i,i],s:s,s:o,s:o,s:s,s:i}", "id", one->sample->id, "size", image->height,
                     image->width, "text", answer->text != NULL ? answer->text : "", "phrases", phrases,
                     "masks", masks, "model", q->asking->options->model, "crops",
                     (int)q->asking->options->crops);
}

/** Waits for it and keeps its answer. The first failure is the one that is told. */
static bool take_oldest(questions *q) {
    asked *one = &q->ring[q->over % q->capacity];
    gp_status failure = {0};
    gp_event_type end = GP_EVENT_DONE;
    if (one->question.request != NULL) {
        for (size_t i = q->over; gp_interrupted() && i < q->begun; i++)
            if (q->ring[i % q->capacity].question.request != NULL)
                gp_request_cancel(q->ring[i % q->capacity].question.request);
        end = gp_asking_wait(&one->question, &failure);
    }
    bool done = end == GP_EVENT_DONE;
    if (end == GP_EVENT_ERROR && !gp_failed(q->status))
        gp_fail(q->status, "%s: sample %s: %s", q->dataset->path, one->sample->id, failure.message);
    if (done && !gp_predictions_add(q->predictions, prediction_of(q, one), &failure)) {
        if (!gp_failed(q->status)) gp_fail(q->status, "%s", failure.message);
        done = false;
    }
    gp_status_clear(&failure);
    gp_question_clear(&one->question);
    leave(one->picture);
    q->over++;
    return done;
}

static void show_progress(const questions *q, size_t before, size_t left, double start) {
    char line[96];
    double each = q->over > 0 ? (gp_clock_seconds() - start) / (double)q->over : 0;
    int size = snprintf(line, sizeof line, "%zu of %zu questions", before + q->over, q->dataset->count);
    if (q->over > 0)
        snprintf(line + size, sizeof line - (size_t)size, ", %.1f s each, %.0f min left", each,
                 each * (double)left / 60);
    gp_terminal_note(&q->asking->terminal, line);
}
