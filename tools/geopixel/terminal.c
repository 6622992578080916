#include "tools/geopixel/terminal.h"

#include "kernels/base/clock.h"
#include "tools/geopixel/palette.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t line_mutex = PTHREAD_MUTEX_INITIALIZER; /* of the progress line: engines warn */
static const char *const tags[] = {"<p>", "</p>", "[SEG]"};

void gp_terminal_open(gp_terminal *terminal, bool quiet) {
    const char *term = getenv("TERM"), *depth = getenv("COLORTERM"), *none = getenv("NO_COLOR");
    bool able = term != NULL && strcmp(term, "dumb") != 0;
    *terminal = (gp_terminal){.out = stdout, .line_ended = true};
    if (isatty(STDOUT_FILENO) && able && (none == NULL || none[0] == '\0'))
        terminal->colours =
            depth != NULL && (strstr(depth, "truecolor") != NULL || strstr(depth, "24bit") != NULL)
                ? GP_COLOURS_TRUE
                : GP_COLOURS_256;
    terminal->progress = !quiet && able && isatty(STDERR_FILENO);
    terminal->shares = isatty(STDOUT_FILENO) && isatty(STDERR_FILENO);
}

/* ---- answer ---- */

static void begin_colour(gp_terminal *terminal) {
    gp_colour colour = gp_palette(terminal->masks);
    if (terminal->colours == GP_COLOURS_TRUE) {
        fprintf(terminal->out, "\033[1;38;2;%d;%d;%dm", colour.red, colour.green, colour.blue);
    } else { /* the 6 × 6 × 6 cube of 256 colours */
        int cube = 16 + 36 * ((colour.red * 5 + 127) / 255) + 6 * ((colour.green * 5 + 127) / 255) +
                   (colour.blue * 5 + 127) / 255;
        fprintf(terminal->out, "\033[1;38;5;%dm", cube);
    }
}

static void take_tag(gp_terminal *terminal, int tag) {
    if (tag == 2) {
        terminal->masks++;
    } else {
        if (terminal->in_phrase) fputs("\033[0m", terminal->out);
        terminal->in_phrase = tag == 0;
        if (terminal->in_phrase) {
            if (terminal->spaces > 0 && terminal->text_shown) fputc(' ', terminal->out);
            terminal->spaces = 0;
            begin_colour(terminal);
        }
    }
    terminal->tag_passed = true;
}

/** Spaces are held until what follows them is known: around a tag that goes, one is left, and none before a
 * full stop. */
static void put_byte(gp_terminal *terminal, char byte) {
    if (((unsigned char)byte < 32 && byte != '\n' && byte != '\t') || byte == 127)
        byte = '?'; /* no escape sequences */
    if (byte == ' ') {
        terminal->spaces++;
        return;
    }
    if (terminal->tag_passed) {
        bool joins = strchr(".,;:!?)\n", byte) != NULL || !terminal->text_shown;
        bool opened = terminal->in_phrase && terminal->spaces <= 1; /* the space inside the tag */
        terminal->spaces = terminal->spaces > 0 && !joins && !opened;
    }
    for (; terminal->spaces > 0; terminal->spaces--) fputc(' ', terminal->out);
    terminal->tag_passed = false;
    terminal->text_shown = true;
    fputc(byte, terminal->out);
}

static void release_held(gp_terminal *terminal, int count) {
    for (int i = 0; i < count; i++) put_byte(terminal, terminal->held[i]);
    terminal->held_length -= count;
    memmove(terminal->held, terminal->held + count, (size_t)terminal->held_length);
}

/** Adds a byte to what is held; a whole tag is taken, what can be none is let go. */
static void hold_byte(gp_terminal *terminal, char byte) {
    terminal->held[terminal->held_length++] = byte;
    while (terminal->held_length > 0) {
        bool may_be = false;
        for (int tag = 0; tag < 3; tag++) {
            size_t length = strlen(tags[tag]);
            if ((size_t)terminal->held_length > length ||
                memcmp(terminal->held, tags[tag], (size_t)terminal->held_length) != 0)
                continue;
            if ((size_t)terminal->held_length == length) {
                terminal->held_length = 0;
                take_tag(terminal, tag);
                return;
            }
            may_be = true;
        }
        if (may_be) return;
        release_held(terminal, 1);
    }
}

void gp_terminal_text(gp_terminal *terminal, const char *text, size_t length) {
    if (terminal->shares) gp_terminal_clear(terminal);
    if (length == 0) return;
    terminal->line_ended = false;
    if (terminal->colours == GP_COLOURS_NONE) {
        fwrite(text, 1, length, terminal->out);
    } else {
        for (size_t i = 0; i < length; i++) hold_byte(terminal, text[i]);
    }
    fflush(terminal->out);
}

void gp_terminal_end_text(gp_terminal *terminal) {
    if (terminal->line_ended) return;
    if (terminal->shares) gp_terminal_clear(terminal);
    release_held(terminal, terminal->held_length);
    if (terminal->in_phrase) fputs("\033[0m", terminal->out);
    terminal->in_phrase = false;
    fputc('\n', terminal->out);
    fflush(terminal->out);
    terminal->line_ended = true;
}

/* ---- progress ---- */

void gp_terminal_note(gp_terminal *terminal, const char *text) {
    if (!terminal->progress || (terminal->shares && !terminal->line_ended)) return;
    pthread_mutex_lock(&line_mutex);
    fprintf(stderr, "\r\033[K%s", text);
    fflush(stderr);
    terminal->line_shown = true;
    pthread_mutex_unlock(&line_mutex);
}

static void take_off(gp_terminal *terminal) {
    if (!terminal->line_shown) return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    terminal->line_shown = false;
}

void gp_terminal_clear(gp_terminal *terminal) {
    pthread_mutex_lock(&line_mutex);
    take_off(terminal);
    pthread_mutex_unlock(&line_mutex);
}

void gp_terminal_warn(gp_terminal *terminal, const char *line) {
    pthread_mutex_lock(&line_mutex);
    take_off(terminal);
    fprintf(stderr, "geopixel: warning: %s\n", line);
    pthread_mutex_unlock(&line_mutex);
}

void gp_terminal_progress(gp_terminal *terminal, gp_stage stage, int done, int total) {
    char line[120];
    switch (stage) {
    case GP_STAGE_VISION:
        snprintf(line, sizeof line, "encoding crops %d/%d", done, total);
        break;
    case GP_STAGE_PREFILL:
        snprintf(line, sizeof line, "prefill %d/%d tokens", done, total);
        break;
    case GP_STAGE_DECODE:
        if (done == 1) terminal->decode_start = gp_clock_seconds();
        terminal->tokens = done;
        terminal->decode_seconds = gp_clock_seconds() - terminal->decode_start;
        if (done < 2) return;
        snprintf(line, sizeof line, "answering, %d tokens, %.1f tokens/s", done,
                 (done - 1) / (terminal->decode_seconds + 1e-9));
        break;
    case GP_STAGE_GROUNDING:
        if (done == 1) gp_terminal_end_text(terminal);
        snprintf(line, sizeof line, "grounding %d/%d blocks", done, total);
        break;
    case GP_STAGE_MASKS:
        snprintf(line, sizeof line, "masks %d/%d", done, total);
        break;
    default:
        snprintf(line, sizeof line, "preparing");
    }
    gp_terminal_note(terminal, line);
}

void gp_terminal_loading(gp_terminal *terminal, uint64_t done, uint64_t total) {
    static const char full[] = "####################", empty[] = "....................";
    const int width = (int)sizeof full - 1;
    int percent = total > 0 ? (int)((double)done / (double)total * 100) : 100;
    if (percent == terminal->loaded && terminal->line_shown) return;
    char line[80];
    int filled = percent * width / 100;
    snprintf(line, sizeof line, "loading the model [%.*s%.*s] %d %%", filled, full, width - filled, empty,
             percent);
    terminal->loaded = percent;
    gp_terminal_note(terminal, line);
}

void gp_terminal_summary(gp_terminal *terminal) {
    if (!terminal->progress || terminal->tokens < 2) return;
    gp_terminal_clear(terminal);
    fprintf(stderr, "%d tokens, %.1f tokens/s\n", terminal->tokens,
            (terminal->tokens - 1) / (terminal->decode_seconds + 1e-9));
}
