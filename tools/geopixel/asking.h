/** What the commands that ask a model have in common: their options, the engine, and what is seen and kept of
 * an answer while it comes. */
#pragma once

#include "tools/geopixel/answer.h"
#include "tools/geopixel/arguments.h"
#include "tools/geopixel/scene.h"
#include "tools/geopixel/terminal.h"

/** What the command line says. */
typedef struct gp_asking_options {
    gp_scene_options scene;
    const char *model;
    long long crops, max_crops, max_new_tokens, seed, threads, ranks;
    long long together, replicas; /* of gp_engine_options: requests and replicas */
    double temperature, top_p;
    int device; /* gp_device */
    bool quiet, verbose;
} gp_asking_options;

#define GP_ASKING_DEFAULTS                                                                                   \
    { .crops = 9, .max_new_tokens = 300, .top_p = 1, .device = GP_DEVICE_AUTO }

/** The entries of a command's table of options, the scene's excepted; `o` is a gp_asking_options *. */
/* clang-format off */
#define GP_ASKING_MODEL(o)                                                                                    \
    {"model", 'm', GP_OPTION_TEXT, "DIR", "the checkpoint: a folder in the Hugging Face layout", &(o)->model, 0, 0}
#define GP_ASKING_OPTIONS(o)                                                                                  \
    {"crops", 0, GP_OPTION_WHOLE, "P", "crops that the divider plans for (9); 1 is quickest", &(o)->crops, 1, 10000}, \
    {"max-crops", 0, GP_OPTION_WHOLE, "N", "never more crops than this, whatever the picture's size", &(o)->max_crops, 1, 10000}, \
    {"max-new-tokens", 0, GP_OPTION_WHOLE, "N", "the answer's longest (300)", &(o)->max_new_tokens, 1, 1 << 20}, \
    {"temperature", 0, GP_OPTION_NUMBER, "T", "0: always the likeliest token (0)", &(o)->temperature, 0, 100}, \
    {"top-p", 0, GP_OPTION_NUMBER, "P", "draw from the likeliest tokens of this share (1)", &(o)->top_p, 0.0001, 1}, \
    {"seed", 0, GP_OPTION_WHOLE, "S", "the same seed, the same answer (0)", &(o)->seed, 0, 9e15}, \
    {"threads", 0, GP_OPTION_WHOLE, "N", "CPU threads (all that this process may use)", &(o)->threads, 1, 1024}, \
    {"device", 0, GP_OPTION_CHOICE, "auto|cpu|cuda", "where to compute (auto)", &(o)->device, 0, 0}, \
    {"tp", 0, GP_OPTION_WHOLE, "N", "devices that the model is spread over (1)", &(o)->ranks, 1, GP_RANKS_MOST}, \
    {"quiet", 'q', GP_OPTION_FLAG, NULL, "no progress and no warnings", &(o)->quiet, 0, 0}, \
    {"verbose", 'v', GP_OPTION_FLAG, NULL, "memory by plan and time a stage, on standard error", &(o)->verbose, 0, 0}
/* clang-format on */

/** One question, under way between gp_asking_submit and gp_asking_wait. Free with gp_question_clear. */
typedef struct gp_question {
    gp_terminal *terminal; /* where text and progress are shown; NULL: nowhere */
    gp_request *request;
    gp_answer answer; /* of use where it ended well */
    char *failure;
} gp_question;

/** The engine and the question that is asked of it alone. Zeros but for `options` before gp_asking_open. */
typedef struct gp_asking {
    const gp_asking_options *options;
    gp_terminal terminal;
    gp_engine *engine;
    gp_question question;
} gp_asking;

/** Whether the options hold together: a model, not quiet and verbose at once, a scene that can be read. */
bool gp_asking_check(const gp_asking_options *options, gp_status *status);

/** Reads the scene; what is worth a word is told on standard error. */
bool gp_asking_read_scene(const gp_asking *asking, const gp_scene_options *options, gp_scene *scene,
                          gp_status *status);

/** Says that nothing is there to be seen: what a model says of nothing would be made up, so it is not asked.
 */
void gp_asking_tell_empty(const char *path);

/** gp_served_rank with these options. */
bool gp_asking_served(const gp_asking_options *options, int *code);

/** Opens the engine. */
bool gp_asking_open(gp_asking *asking, gp_status *status);

/**
 * Asks and waits; text and progress are shown meanwhile, and a signal cancels. `request` names picture,
 * prompt and history; the rest comes from the options. Where GP_EVENT_ERROR is returned, `status` tells why.
 */
gp_event_type gp_asking_ask(gp_asking *asking, gp_request_options request, gp_status *status);

/** The same in two, for several questions at a time: `question` stays where it is until the wait is over. */
bool gp_asking_submit(const gp_asking *asking, gp_request_options request, gp_question *question,
                      gp_status *status);
gp_event_type gp_asking_wait(gp_question *question, gp_status *status);

/** Frees the answer; the question is not under way. */
void gp_question_clear(gp_question *question);

/** Ends the answer on the screen; fails where standard output cannot be written. */
bool gp_asking_end_text(gp_asking *asking, gp_status *status);

void gp_asking_close(gp_asking *asking);
