#include "tools/geopixel/lines.h"

#include "kernels/base/memory.h"
#include "tools/geopixel/interrupt.h"

#include <editline/readline.h>
#include <errno.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#define PROMPT "geopixel> "

enum { LINE_BYTES_MAX = 1 << 20, HISTORY_LINES = 1000, PATH_BYTES = 4096 };

/* libedit's callbacks have no user pointer, and there is one terminal. */
static bool edited, line_done;
static struct termios modes_before;
static char *edited_line; /* libedit's, to be freed; NULL: the end */
static char *buffer;      /* what was read from a pipe */
static size_t capacity, held, taken;
static bool pipe_ended;

static gp_line_event next_edited(const char **line);
static gp_line_event next_piped(const char **line, gp_status *status);
static bool history_path(char path[PATH_BYTES], bool make);

void gp_lines_open(void) {
    char path[PATH_BYTES];
    edited = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    if (!edited) return;
    tcgetattr(STDIN_FILENO, &modes_before);
    /* libedit takes what is typed for characters of the locale; ours are UTF-8. */
    if (setlocale(LC_CTYPE, "") == NULL || MB_CUR_MAX == 1) setlocale(LC_CTYPE, "C.UTF-8");
    rl_catch_signals = 0;
    rl_readline_name = "geopixel";
    using_history();
    stifle_history(HISTORY_LINES);
    if (history_path(path, false)) read_history(path);
    /* Ctrl-C throws away what was typed and not yet read, and it could do so after input was seen and before
     * it is read, which then waits with the signal blocked. Without that flush, input that was seen stays. */
    rl_parse_and_bind("setty -d +noflsh");
}

bool gp_lines_edited(void) {
    return edited;
}

gp_line_event gp_lines_next(const char **line, gp_status *status) {
    return edited ? next_edited(line) : next_piped(line, status);
}

/** Waits until standard input can be read. The caller has blocked the signals, which come in `waiting` alone:
 * none is missed between the look and the wait. */
static gp_line_event wait_for_input(const sigset_t *waiting) {
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    while (!gp_interrupted()) {
        if (ppoll(&input, 1, NULL, waiting) > 0) return (input.revents & POLLIN) != 0 ? GP_LINE : GP_LINE_END;
        if (errno != EINTR) return GP_LINE_END;
    }
    return GP_LINE_INTERRUPTED;
}

static void block_signals(sigset_t *before) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, before);
}

/* ---- a terminal ---- */

static void take_line(char *line) {
    edited_line = line;
    line_done = true;
}

static gp_line_event next_edited(const char **line) {
    sigset_t before;
    gp_line_event event = GP_LINE;
    free(edited_line);
    edited_line = NULL;
    line_done = false;
    block_signals(&before);
    rl_callback_handler_install(PROMPT, take_line);
    while (!line_done && event == GP_LINE) {
        event = wait_for_input(&before);
        if (event == GP_LINE) rl_callback_read_char();
    }
    rl_callback_handler_remove();
    tcsetattr(STDIN_FILENO, TCSADRAIN, &modes_before); /* libedit's own way back clears some */
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (event == GP_LINE && edited_line == NULL) event = GP_LINE_END;
    if (event != GP_LINE) {
        fputs(event == GP_LINE_END ? "\n" : "^C\n", stdout);
        fflush(stdout);
        return event;
    }
    if (edited_line[0] != '\0') add_history(edited_line);
    *line = edited_line;
    return GP_LINE;
}

/* ---- a pipe ---- */

/** The next bytes into the buffer's end. */
static gp_line_event read_more(void) {
    sigset_t before;
    block_signals(&before);
    gp_line_event event = wait_for_input(&before);
    if (event == GP_LINE) {
        ssize_t count = read(STDIN_FILENO, buffer + held, capacity - 1 - held);
        if (count > 0) held += (size_t)count;
        pipe_ended = count <= 0;
    } else if (event == GP_LINE_END) {
        pipe_ended = true; /* what came before the end counts */
        event = GP_LINE;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return event;
}

/** The last line counts without a newline too. Of a line that is too long the rest is passed over. */
static gp_line_event next_piped(const char **line, gp_status *status) {
    bool too_long = false;
    if (buffer == NULL) {
        buffer = gp_allocate(LINE_BYTES_MAX);
        if (buffer == NULL) return GP_LINE_END;
        capacity = LINE_BYTES_MAX;
    }
    memmove(buffer, buffer + taken, held - taken);
    held -= taken;
    taken = 0;
    char *end;
    while ((end = memchr(buffer, '\n', held)) == NULL && !pipe_ended) {
        if (held == capacity - 1) {
            too_long = true;
            held = 0;
        }
        gp_line_event event = read_more();
        if (event != GP_LINE) return event;
    }
    if (end == NULL && held == 0 && !too_long) return GP_LINE_END;
    if (end == NULL) end = buffer + held;
    taken = (size_t)(end - buffer) + (end < buffer + held);
    *end = '\0';
    if (too_long) {
        gp_fail(status, "a line has more than %d bytes", LINE_BYTES_MAX - 2);
        return GP_LINE_UNUSABLE;
    }
    if (strlen(buffer) != (size_t)(end - buffer)) {
        gp_fail(status, "a line has a zero byte, its %zuth", strlen(buffer) + 1);
        return GP_LINE_UNUSABLE;
    }
    if (end > buffer && end[-1] == '\r') end[-1] = '\0';
    *line = buffer;
    return GP_LINE;
}

/* ---- history ---- */

/** False where there is no home or a folder cannot be made. */
static bool history_path(char path[PATH_BYTES], bool make) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int length;
    if (state != NULL && state[0] == '/')
        length = snprintf(path, PATH_BYTES, "%s/geopixel/history", state);
    else if (home != NULL && home[0] == '/')
        length = snprintf(path, PATH_BYTES, "%s/.local/state/geopixel/history", home);
    else
        return false;
    if (length < 0 || length >= PATH_BYTES) return false;
    for (char *slash = strchr(path + 1, '/'); make && slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        bool there = mkdir(path, 0700) == 0 || errno == EEXIST;
        *slash = '/';
        if (!there) return false;
    }
    return true;
}

void gp_lines_close(void) {
    char path[PATH_BYTES];
    if (edited && history_path(path, true)) {
        mode_t mask = umask(077);
        write_history(path);
        umask(mask);
    }
    free(edited_line);
    edited_line = NULL;
    gp_free(buffer);
    buffer = NULL;
    capacity = held = taken = 0;
    pipe_ended = edited = false;
}
