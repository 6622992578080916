#include "tools/geopixel/arguments.h"

#include "kernels/base/number.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_LENGTH_MAX = 40, HELP_COLUMN = 28 };

static const gp_option *find_option(const gp_command *command, const char *name, size_t length,
                                    gp_status *status);
static bool set_option(const gp_option *option, const char *value, gp_status *status);

bool gp_arguments_parse(const gp_command *command, int count, char **arguments, const char **operand,
                        bool *help, gp_status *status) {
    bool options_ended = false;
    *operand = NULL;
    *help = false;
    for (int i = 0; i < count; i++) {
        const char *argument = arguments[i];
        if (strcmp(argument, "--help") == 0 && !options_ended) {
            *help = true;
            return true;
        }
        if (strcmp(argument, "--") == 0 && !options_ended) {
            options_ended = true;
            continue;
        }
        if (argument[0] != '-' || argument[1] == '\0' || options_ended) {
            if (command->operand == NULL || *operand != NULL)
                return gp_fail(status, "\"%s\": %s takes %s", argument, command->name,
                               command->operand != NULL ? "one file" : "no file");
            *operand = argument;
            continue;
        }
        const char *equals = strchr(argument, '='), *value = NULL;
        size_t length = equals != NULL ? (size_t)(equals - argument) : strlen(argument);
        const gp_option *option = find_option(command, argument, length, status);
        if (option == NULL) return false;
        if (option->kind == GP_OPTION_FLAG) {
            if (equals != NULL) return gp_fail(status, "--%s takes no value", option->name);
        } else {
            value = equals != NULL ? equals + 1 : i + 1 < count ? arguments[++i] : NULL;
            if (value == NULL)
                return gp_fail(status, "--%s needs a value: --%s %s", option->name, option->name,
                               option->value);
        }
        if (!set_option(option, value, status)) return false;
    }
    return true;
}

/** Edits that turn one name into the other (Levenshtein). */
static int distance(const char *a, size_t a_length, const char *b) {
    int row[NAME_LENGTH_MAX + 1];
    int width = (int)strlen(b);
    for (int j = 0; j <= width; j++) row[j] = j;
    for (size_t i = 1; i <= a_length; i++) {
        int corner = row[0];
        row[0] = (int)i;
        for (int j = 1; j <= width; j++) {
            int change = corner + (a[i - 1] != b[j - 1]);
            corner = row[j];
            if (row[j] + 1 < change) change = row[j] + 1;
            if (row[j - 1] + 1 < change) change = row[j - 1] + 1;
            row[j] = change;
        }
    }
    return row[width];
}

static const gp_option *find_option(const gp_command *command, const char *argument, size_t length,
                                    gp_status *status) {
    bool longer = argument[1] == '-';
    const char *name = argument + (longer ? 2 : 1);
    size_t name_length = length - (longer ? 2 : 1);
    const gp_option *nearest = NULL;
    int least = 3; /* a name further away is no misspelling */
    for (size_t i = 0; i < command->option_count; i++) {
        const gp_option *option = &command->options[i];
        if (longer ? strlen(option->name) == name_length && memcmp(option->name, name, name_length) == 0
                   : name_length == 1 && option->letter == name[0])
            return option;
        int edits =
            longer && name_length <= NAME_LENGTH_MAX ? distance(name, name_length, option->name) : least;
        if (edits < least) {
            least = edits;
            nearest = option;
        }
    }
    gp_fail(status, "%.*s is no option of %s", (int)length, argument, command->name);
    if (nearest != NULL) gp_fail_more(status, "; did you mean --%s?", nearest->name);
    return NULL;
}

/** The number of the word among those of `words`, or −1. */
static int find_choice(const char *words, const char *word) {
    int index = 0;
    for (const char *at = words; *at != '\0'; index++) {
        size_t length = strcspn(at, "|");
        if (strlen(word) == length && memcmp(at, word, length) == 0) return index;
        at += length + (at[length] == '|');
    }
    return -1;
}

static bool set_option(const gp_option *option, const char *value, gp_status *status) {
    char *end;
    errno = 0;
    switch (option->kind) {
    case GP_OPTION_FLAG:
        *(bool *)option->target = true;
        return true;
    case GP_OPTION_TEXT:
        *(const char **)option->target = value;
        return true;
    case GP_OPTION_CHOICE:
        *(int *)option->target = find_choice(option->value, value);
        return *(int *)option->target >= 0 ||
               gp_fail(status, "--%s \"%s\": %s are the choices", option->name, value, option->value);
    case GP_OPTION_WHOLE: {
        long long number = strtoll(value, &end, 10);
        if (value[0] == '\0' || *end != '\0' || errno != 0 || (double)number < option->low ||
            (double)number > option->high)
            return gp_fail(status, "--%s \"%s\": a whole number from %.0f to %.0f is expected", option->name,
                           value, option->low, option->high);
        *(long long *)option->target = number;
        return true;
    }
    case GP_OPTION_NUMBER: {
        double number = 0;
        const char *rest = value;
        if (!gp_parse_number(&rest, &number) || *rest != '\0' ||
            !(number >= option->low && number <= option->high))
            return gp_fail(status, "--%s \"%s\": a number from %g to %g is expected", option->name, value,
                           option->low, option->high);
        *(double *)option->target = number;
        return true;
    }
    }
    return false;
}

void gp_arguments_help(const gp_command *command) {
    printf("geopixel %s: %s\n\nusage: geopixel %s%s%s [options]\n\n", command->name, command->summary,
           command->name, command->operand != NULL ? " " : "",
           command->operand != NULL ? command->operand : "");
    for (size_t i = 0; i < command->option_count; i++) {
        const gp_option *option = &command->options[i];
        char left[80], letter[8] = "";
        if (option->letter != 0) snprintf(letter, sizeof letter, "-%c, ", option->letter);
        snprintf(left, sizeof left, "%s--%s%s%s", letter, option->name, option->value != NULL ? " " : "",
                 option->value != NULL ? option->value : "");
        printf("  %-*s %s\n", HELP_COLUMN, left, option->help);
    }
    printf("  %-*s this text\n", HELP_COLUMN, "--help");
    for (int i = 0; command->examples != NULL && command->examples[i] != NULL; i += 2)
        printf("\n%s:\n  %s\n", command->examples[i], command->examples[i + 1]);
}
