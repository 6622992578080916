/** The lines of a conversation: edited and remembered on a terminal, as they are from a pipe. */
#pragma once

#include "kernels/base/status.h"

#include <stdbool.h>

typedef enum gp_line_event {
    GP_LINE,             /* a line */
    GP_LINE_UNUSABLE,    /* one that is too long or has a zero byte; status tells */
    GP_LINE_INTERRUPTED, /* Ctrl-C or SIGTERM came while nothing was running */
    GP_LINE_END,         /* end of input, Ctrl-D */
} gp_line_event;

/** Sets up editing where standard input and output are a terminal. One at a time. */
void gp_lines_open(void);

/** Whether the lines are edited by a person. */
bool gp_lines_edited(void);

/**
 * Waits for the next line; it is without its newline and valid until the next call. Between calls the
 * terminal is as it was before, so that an answer is printed plainly.
 */
gp_line_event gp_lines_next(const char **line, gp_status *status);

/** Keeps the history in $XDG_STATE_HOME/geopixel/history or ~/.local/state/geopixel/history. */
void gp_lines_close(void);
