#include "tools/geopixel/command_chat.h"

#include "kernels/base/memory.h"
#include "tools/geopixel/asking.h"
#include "tools/geopixel/exit_codes.h"
#include "tools/geopixel/interrupt.h"
#include "tools/geopixel/lines.h"
#include "tools/geopixel/outputs/outputs.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/** A conversation under way. */
typedef struct chat {
    gp_asking_options options;
    gp_status status;
    gp_asking asking;
    char *path; /* of the picture; NULL: none yet */
    gp_scene scene;
    gp_session *session;
    gp_turn *turns; /* texts owned */
    size_t turn_count;
    gp_answer last;      /* what /save writes */
    char *last_question; /* NULL: there is none */
    bool failed, ended;
} chat;

static bool parse(chat *c, int count, char **arguments, bool *help);
static int converse(chat *c);
static void take_line(chat *c, const char *line);
static void run_command(chat *c, const char *line);
static void open_image(chat *c, const char *path);
static void save(chat *c, const char *name);
static void ask(chat *c, const char *question);
static void forget_turns(chat *c);
static void note(const chat *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void report(chat *c);
static void clean_up(chat *c);

static const char *const examples[] = {
    "Talk about a scene",
    "geopixel chat --model GeoPixel-7B --image scene.tif",
    "Questions from a file, one a line, and the last answer's masks",
    "(cat questions.txt; echo /save ships) | geopixel chat --model GeoPixel-7B --image scene.tif",
    NULL,
};

static const char help_text[] = "/image FILE  look at another picture; a new conversation begins\n"
                                "/save NAME   write the last answer to NAME.png, NAME.tif, NAME.geojson and "
                                "NAME.json\n"
                                "/clear       begin a new conversation about the same picture\n"
                                "/help        this text\n"
                                "/quit        end; so does Ctrl-D. Ctrl-C stops an answer\n"
                                "//TEXT       ask \"/TEXT\"; anything else is a question\n";

int gp_command_chat(int count, char **arguments) {
    chat c = {.options = GP_ASKING_DEFAULTS};
    bool help = false;
    int code = GP_EXIT_ERROR;
    if (!parse(&c, count, arguments, &help) || (!help && !gp_asking_check(&c.options, &c.status))) {
        fprintf(stderr, "geopixel chat: %s\nTry geopixel chat --help.\n", c.status.message);
        code = GP_EXIT_USAGE;
    } else if (help) {
        code = GP_EXIT_DONE;
    } else if (!gp_asking_served(&c.options, &code)) {
        code = converse(&c);
    }
    clean_up(&c);
    return code;
}

static bool parse(chat *c, int count, char **arguments, bool *help) {
    gp_asking_options *o = &c->options;
    const char *operand;
    const gp_option options[] = {
        GP_ASKING_MODEL(o),
        {"image", 'i', GP_OPTION_TEXT, "SCENE", "the picture to begin with", &o->scene.path, 0, 0},
        GP_SCENE_OPTIONS(&o->scene),
        GP_ASKING_OPTIONS(o),
    };
    const gp_command command = {"chat",  "a conversation about a picture", NULL, examples,
                                options, sizeof options / sizeof *options};
    if (!gp_arguments_parse(&command, count, arguments, &operand, help, &c->status)) return false;
    if (!*help) return true;
    gp_arguments_help(&command);
    printf("\nIn the conversation:\n%s", help_text);
    return true;
}

/** The whole conversation; returns the exit code. From a pipe, a line that could not be obeyed shows in it.
 */
static int converse(chat *c) {
    c->asking.options = &c->options;
    gp_interrupt_watch();
    if (c->options.scene.path != NULL) open_image(c, c->options.scene.path);
    if (c->failed) return GP_EXIT_ERROR;
    bool opened = gp_asking_open(&c->asking, &c->status);
    gp_terminal_clear(&c->asking.terminal);
    if (!opened) {
        report(c);
        return GP_EXIT_ERROR;
    }
    gp_lines_open();
    bool edited = gp_lines_edited(), interrupted = false;
    if (edited) note(c, "%s; /help lists the commands", gp_engine_device(c->asking.engine));
    while (!c->ended && !interrupted) {
        const char *line = NULL;
        gp_line_event event = gp_lines_next(&line, &c->status);
        if (event == GP_LINE) take_line(c, line);
        if (event == GP_LINE_UNUSABLE) report(c);
        if (event == GP_LINE_END) break;
        if (gp_interrupted()) interrupted = !edited || !gp_interrupt_forget();
    }
    gp_lines_close();
    if (interrupted) {
        fprintf(stderr, "geopixel: interrupted\n");
        return GP_EXIT_INTERRUPTED;
    }
    return c->failed && (!edited || ferror(stdout) != 0) ? GP_EXIT_ERROR : GP_EXIT_DONE;
}

static void take_line(chat *c, const char *line) {
    line += strspn(line, " \t");
    if (line[0] == '\0') return;
    if (line[0] == '/' && line[1] != '/')
        run_command(c, line);
    else
        ask(c, line[0] == '/' ? line + 1 : line);
}

/* ---- commands ---- */

static void run_command(chat *c, const char *line) {
    size_t length = strcspn(line, " \t");
    char *rest = gp_copy_text(line + length + strspn(line + length, " \t"));
    if (rest == NULL) {
        gp_fail(&c->status, "no memory for a line");
        report(c);
        return;
    }
    for (size_t end = strlen(rest); end > 0 && (rest[end - 1] == ' ' || rest[end - 1] == '\t');)
        rest[--end] = '\0';
    const struct {
        const char *name, *operand;
    } commands[] = {
        {"/image", "FILE"}, {"/save", "NAME"}, {"/clear", NULL}, {"/help", NULL}, {"/quit", NULL}};
    size_t which = 0, count = sizeof commands / sizeof *commands;
    while (which < count &&
           (strlen(commands[which].name) != length || strncmp(line, commands[which].name, length) != 0))
        which++;
    if (which == count)
        gp_fail(&c->status, "%.*s is no command; /help lists them, and //TEXT asks \"/TEXT\"",
                length < 40 ? (int)length : 40, line);
    else if (commands[which].operand != NULL && rest[0] == '\0')
        gp_fail(&c->status, "%s needs a name: %s %s", commands[which].name, commands[which].name,
                commands[which].operand);
    else if (commands[which].operand == NULL && rest[0] != '\0')
        gp_fail(&c->status, "%s takes nothing behind it", commands[which].name);
    if (gp_failed(&c->status)) {
        report(c);
    } else if (which == 0) {
        open_image(c, rest);
    } else if (which == 1) {
        save(c, rest);
    } else if (which == 2) {
        forget_turns(c);
    } else if (which == 3) {
        fputs(help_text, gp_lines_edited() ? stdout : stderr);
    } else {
        c->ended = true;
    }
    gp_free(rest);
}

/** The picture that was there stays where the new one cannot be read. */
static void open_image(chat *c, const char *path) {
    gp_scene scene = {0};
    gp_scene_options options = c->options.scene;
    options.path = path;
    char *copy = gp_copy_text(path);
    if (copy == NULL) {
        gp_fail(&c->status, "no memory for a name");
        report(c);
        return;
    }
    if (!gp_asking_read_scene(&c->asking, &options, &scene, &c->status)) {
        gp_free(copy);
        report(c);
        return;
    }
    gp_session_close(c->session);
    c->session = NULL;
    forget_turns(c);
    gp_answer_clear(&c->last);
    gp_free(c->last_question);
    c->last_question = NULL;
    gp_scene_clear(&c->scene);
    c->scene = scene;
    gp_free(c->path);
    c->path = copy;
    note(c, "%s: %d x %d pixels", path, scene.image.width, scene.image.height);
}

/** Four files, or none. */
static void save(chat *c, const char *name) {
    static const char *const endings[] = {".png", ".tif", ".geojson", ".json"};
    enum { COUNT = sizeof endings / sizeof *endings };
    char *paths[COUNT] = {0};
    gp_outputs outputs = {0};
    bool done = c->last_question != NULL || gp_fail(&c->status, "there is no answer to save yet");
    for (size_t i = 0; i < COUNT && done; i++) {
        size_t bytes = strlen(name) + strlen(endings[i]) + 1;
        paths[i] = gp_allocate(bytes);
        done = paths[i] != NULL || gp_fail(&c->status, "no memory for a name");
        if (done) snprintf(paths[i], bytes, "%s%s", name, endings[i]);
    }
    if (done) {
        gp_output_options options = {
            .overlay = paths[0], .masks = paths[1], .geojson = paths[2], .json = paths[3]};
        gp_report_context context = {.image = c->path,
                                     .model = c->options.model,
                                     .device = gp_engine_device(c->asking.engine),
                                     .prompt = c->last_question,
                                     .width = c->scene.image.width,
                                     .height = c->scene.image.height};
        gp_output_source source = {&c->last, &context, &c->scene.georeference, &c->scene.image};
        done = gp_outputs_check(&options, (const char *const[]){c->path}, 1, &c->status) &&
               gp_outputs_open(&outputs, &options, &c->status) &&
               gp_outputs_write(&outputs, &source, &c->status) && gp_outputs_commit(&outputs, &c->status);
        gp_outputs_discard(&outputs);
    }
    if (done)
        note(c, "wrote %s, %s, %s and %s", paths[0], paths[1], paths[2], paths[3]);
    else
        report(c);
    for (size_t i = 0; i < COUNT; i++) gp_free(paths[i]);
}

/* ---- questions ---- */

/** The answer becomes the last one, question and text a turn. */
static bool remember(chat *c, const char *question) {
    gp_turn turn = {gp_copy_text(question), gp_copy_text(c->asking.question.answer.text)};
    char *copy = gp_copy_text(question);
    gp_turn *turns = gp_grow(c->turns, c->turn_count * sizeof turn, (c->turn_count + 1) * sizeof turn);
    if (turns != NULL) c->turns = turns;
    if (turns == NULL || turn.question == NULL || turn.answer == NULL || copy == NULL) {
        gp_free(copy);
        gp_free((char *)turn.question);
        gp_free((char *)turn.answer);
        return gp_fail(&c->status, "no memory for turn %zu", c->turn_count + 1);
    }
    c->turns[c->turn_count++] = turn;
    gp_answer_clear(&c->last);
    c->last = c->asking.question.answer;
    c->asking.question.answer = (gp_answer){0};
    gp_free(c->last_question);
    c->last_question = copy;
    return true;
}

static void ask(chat *c, const char *question) {
    bool done = c->path != NULL || gp_fail(&c->status, "there is no picture yet: /image FILE opens one");
    if (done && c->scene.empty) {
        gp_asking_tell_empty(c->path);
        return;
    }
    if (done && c->session == NULL) {
        gp_image image = {c->scene.image.width, c->scene.image.height, 0, c->scene.image.pixels};
        c->session = gp_session_open(c->asking.engine, &image, &c->status);
        done = c->session != NULL;
    }
    gp_event_type end = GP_EVENT_ERROR;
    gp_terminal_open(&c->asking.terminal, c->options.quiet);
    if (done) {
        gp_request_options request = {
            .session = c->session, .prompt = question, .history = c->turns, .history_count = c->turn_count};
        end = gp_asking_ask(&c->asking, request, &c->status);
    }
    bool written = gp_asking_end_text(&c->asking, end == GP_EVENT_ERROR ? NULL : &c->status);
    c->ended = !written;
    if (end == GP_EVENT_DONE && written && remember(c, question)) {
        gp_terminal_summary(&c->asking.terminal);
        if (c->options.verbose)
            gp_report_numbers(&c->last, &(gp_report_context){.image = c->path,
                                                             .model = c->options.model,
                                                             .device = gp_engine_device(c->asking.engine),
                                                             .prompt = question,
                                                             .width = c->scene.image.width,
                                                             .height = c->scene.image.height});
    } else if (end == GP_EVENT_CANCELLED && written) {
        note(c, "stopped; the question is not part of the conversation");
    } else {
        report(c);
    }
}

static void forget_turns(chat *c) {
    for (size_t i = 0; i < c->turn_count; i++) {
        gp_free((char *)c->turns[i].question);
        gp_free((char *)c->turns[i].answer);
    }
    c->turn_count = 0;
}

/* ---- words beside the answers ---- */

static void note(const chat *c, const char *format, ...) {
    if (c->options.quiet) return;
    va_list arguments;
    va_start(arguments, format);
    fputs("geopixel: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

/** Tells what went wrong, and the conversation goes on. */
static void report(chat *c) {
    fprintf(stderr, "geopixel: %s\n", gp_failed(&c->status) ? c->status.message : "failed");
    gp_status_clear(&c->status);
    c->failed = true;
}

static void clean_up(chat *c) {
    gp_session_close(c->session);
    gp_asking_close(&c->asking);
    forget_turns(c);
    gp_free(c->turns);
    gp_answer_clear(&c->last);
    gp_free(c->last_question);
    gp_scene_clear(&c->scene);
    gp_free(c->path);
    gp_status_clear(&c->status);
}
