#include "tools/geopixel/asking.h"

#include "kernels/base/memory.h"
#include "tools/geopixel/interrupt.h"
#include "tools/geopixel/serving.h"

#include <stdio.h>
#include <string.h>

bool gp_asking_check(const gp_asking_options *options, gp_status *status) {
    if (options->model == NULL) return gp_fail(status, "--model is missing: the checkpoint's folder");
    if (options->quiet && options->verbose)
        return gp_fail(status, "--quiet and --verbose exclude each other");
    return gp_scene_check(&options->scene, status);
}

bool gp_asking_read_scene(const gp_asking *asking, const gp_scene_options *options, gp_scene *scene,
                          gp_status *status) {
    gp_status note = {0};
    bool done = gp_scene_read(options, scene, &note, status);
    for (const char *line = note.message; done && line != NULL;) {
        const char *end = strchr(line, '\n');
        if (!asking->options->quiet)
            fprintf(stderr, "geopixel: note: %.*s\n", (int)(end != NULL ? end - line : (long)strlen(line)),
                    line);
        line = end != NULL ? end + 1 : NULL;
    }
    gp_status_clear(&note);
    return done;
}

void gp_asking_tell_empty(const char *path) {
    fprintf(stderr, "geopixel: %s: all of its pixels are nodata: no answer, no masks\n", path);
}

static void on_warning(void *user, const char *line) {
    gp_asking *asking = user;
    if (!asking->options->quiet) gp_terminal_warn(&asking->terminal, line);
}

static void on_loading(void *user, uint64_t done, uint64_t total) {
    gp_asking *asking = user;
    gp_terminal_loading(&asking->terminal, done, total);
}

static gp_engine_options engine_options(const gp_asking_options *o) {
    return (gp_engine_options){.model = o->model,
                               .device = (gp_device)o->device,
                               .threads = (int)o->threads,
                               .replicas = (int)o->replicas,
                               .ranks = (int)o->ranks,
                               .requests = (int)o->together};
}

bool gp_asking_served(const gp_asking_options *options, int *code) {
    const gp_engine_options engine = engine_options(options);
    return gp_served_rank(&engine, code);
}

bool gp_asking_open(gp_asking *asking, gp_status *status) {
    gp_engine_options engine = engine_options(asking->options);
    gp_terminal_open(&asking->terminal, asking->options->quiet);
    gp_terminal_loading(&asking->terminal, 0, 1);
    engine.on_warning = on_warning;
    engine.on_loading = on_loading;
    engine.user = asking;
    asking->engine = gp_engine_open(&engine, status);
    return asking->engine != NULL;
}

static void on_event(void *user, const gp_event *event) {
    gp_question *question = user;
    gp_terminal *terminal = question->terminal;
    if (event->type == GP_EVENT_ERROR)
        question->failure = gp_copy_text(event->error);
    else if (event->type != GP_EVENT_TEXT && event->type != GP_EVENT_PROGRESS)
        gp_answer_take(&question->answer, event);
    else if (terminal == NULL)
        return;
    else if (event->type == GP_EVENT_TEXT)
        gp_terminal_text(terminal, event->text.text, event->text.length);
    else
        gp_terminal_progress(terminal, event->progress.stage, event->progress.done, event->progress.total);
}

bool gp_asking_submit(const gp_asking *asking, gp_request_options request, gp_question *question,
                      gp_status *status) {
    const gp_asking_options *o = asking->options;
    gp_question_clear(question);
    request.crops = (int)o->crops;
    request.max_crops = (int)o->max_crops;
    request.max_new_tokens = (int)o->max_new_tokens;
    request.sampling = (gp_sampling){(float)o->temperature, (float)o->top_p, (uint64_t)o->seed};
    request.on_event = on_event;
    request.user = question;
    question->request = gp_submit(asking->engine, &request, status);
    return question->request != NULL;
}

gp_event_type gp_asking_wait(gp_question *question, gp_status *status) {
    gp_interrupt_cancels(question->request);
    gp_event_type end = gp_request_wait(question->request);
    gp_interrupt_cancels(NULL);
    gp_request_release(question->request);
    question->request = NULL;
    if (end == GP_EVENT_ERROR)
        gp_fail(status, "%s", question->failure != NULL ? question->failure : "failed");
    if (end == GP_EVENT_DONE && question->answer.out_of_memory) {
        gp_fail(status, "no memory for the answer");
        return GP_EVENT_ERROR;
    }
    return end;
}

gp_event_type gp_asking_ask(gp_asking *asking, gp_request_options request, gp_status *status) {
    gp_question *question = &asking->question;
    question->terminal = &asking->terminal;
    return gp_asking_submit(asking, request, question, status) ? gp_asking_wait(question, status)
                                                               : GP_EVENT_ERROR;
}

void gp_question_clear(gp_question *question) {
    gp_answer_clear(&question->answer);
    gp_free(question->failure);
    question->failure = NULL;
}

bool gp_asking_end_text(gp_asking *asking, gp_status *status) {
    gp_terminal_end_text(&asking->terminal);
    gp_terminal_clear(&asking->terminal);
    return (ferror(stdout) == 0 && fflush(stdout) == 0) ||
           gp_fail(status, "standard output cannot be written");
}

void gp_asking_close(gp_asking *asking) {
    gp_engine_close(asking->engine);
    gp_question_clear(&asking->question);
    *asking = (gp_asking){0};
}
