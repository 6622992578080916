/**
 * What a person sees while it works: the answer on standard output, each phrase in its mask's colour where
 * that is a terminal, and one line of progress on standard error, never mixed into the answer.
 */
#pragma once

#include "runtime/geopixel.h"

#include <stdio.h>

typedef enum gp_colour_mode { GP_COLOURS_NONE, GP_COLOURS_256, GP_COLOURS_TRUE } gp_colour_mode;

typedef struct gp_terminal {
    FILE *out;
    gp_colour_mode colours; /* NONE: the text as it is, tags included */
    bool progress;          /* the progress line is wanted */
    bool shares;            /* answer and progress go to the same terminal */
    bool line_shown;        /* the progress line stands on the screen */
    bool text_shown, line_ended;

    /* The answer's tags, on a terminal. */
    char held[8]; /* the beginning of what may be a tag */
    int held_length, spaces, masks;
    bool tag_passed, in_phrase;
    int loaded;                          /* percent of the model that the progress line shows */
    double decode_start, decode_seconds; /* from the first token on */
    int tokens;
} gp_terminal;

/** Looks at standard output and error, TERM, COLORTERM and NO_COLOR. */
void gp_terminal_open(gp_terminal *terminal, bool quiet);

/** The next piece of the answer. */
void gp_terminal_text(gp_terminal *terminal, const char *text, size_t length);

/** The end of the answer, or of all: what was held is shown, colours are reset, a line that was begun is
 * ended. */
void gp_terminal_end_text(gp_terminal *terminal);

/** Rewrites the progress line. */
void gp_terminal_progress(gp_terminal *terminal, gp_stage stage, int done, int total);

/** A bar of what is loaded of the model's bytes, on the progress line: gp_engine_options' on_loading. */
void gp_terminal_loading(gp_terminal *terminal, uint64_t done, uint64_t total);

/** The progress line with a text of one's own. */
void gp_terminal_note(gp_terminal *terminal, const char *text);

/** How fast the answer came, as the last line of progress. */
void gp_terminal_summary(gp_terminal *terminal);

/** A line on standard error beside the progress line, "geopixel: warning: …"; from any thread. */
void gp_terminal_warn(gp_terminal *terminal, const char *line);

/** Takes the progress line off the screen. This and gp_terminal_note: from any thread. */
void gp_terminal_clear(gp_terminal *terminal);
