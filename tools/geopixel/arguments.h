/**
 * The one command-line parser: a command is a table of options, from which parsing, checks and --help all
 * come.
 * `--name value` and `--name=value`; one letter for those that have one; `--` ends the options.
 */
#pragma once

#include "kernels/base/status.h"

#include <stddef.h>

typedef enum gp_option_kind {
    GP_OPTION_FLAG,   /* bool: true when given */
    GP_OPTION_TEXT,   /* const char * */
    GP_OPTION_WHOLE,  /* long long, in low … high */
    GP_OPTION_NUMBER, /* double, in low … high */
    GP_OPTION_CHOICE, /* int: index into the words of `choices`, which '|' separates */
} gp_option_kind;

typedef struct gp_option {
    const char *name; /* without the dashes */
    char letter;      /* 0: none */
    gp_option_kind kind;
    const char *value; /* what stands for its value in --help; the words of a choice */
    const char *help;
    void *target; /* the kind's type; keeps its value where the option is not given */
    double low, high;
} gp_option;

typedef struct gp_command {
    const char *name;            /* "run" */
    const char *summary;         /* one line */
    const char *operand;         /* "SCENE"; NULL: none */
    const char *const *examples; /* lines "what for", "command", …, NULL */
    const gp_option *options;
    size_t option_count;
} gp_command;

/**
 * Reads `count` arguments behind the command's name. `operand` receives the one operand (NULL where it is
 * missing). `help` is set when --help was asked for; nothing else is checked then. Fails with a text for the
 * user.
 */
bool gp_arguments_parse(const gp_command *command, int count, char **arguments, const char **operand,
                        bool *help, gp_status *status);

/** The command's --help on standard output. */
void gp_arguments_help(const gp_command *command);
