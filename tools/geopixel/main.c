/** The program `geopixel`: a client of geopixel.h, one file a command. */
#include "runtime/geopixel.h"
#include "tools/geopixel/command_bench.h"
#include "tools/geopixel/command_chat.h"
#include "tools/geopixel/command_eval.h"
#include "tools/geopixel/command_inspect.h"
#include "tools/geopixel/command_plan.h"
#include "tools/geopixel/command_run.h"
#include "tools/geopixel/exit_codes.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name, *summary;
    int (*run)(int count, char **arguments);
} commands[] = {
    {"run", "ask about a picture; text to standard output, masks to files", gp_command_run},
    {"chat", "a conversation about a picture", gp_command_chat},
    {"eval", "how right a model's text and masks are on a data set", gp_command_eval},
    {"bench", "how many answers a machine gives, and how long one takes", gp_command_bench},
    {"plan", "the memory that requests need on a GPU, without one", gp_command_plan},
    {"inspect", "what a checkpoint, a weight file or a raster holds", gp_command_inspect},
};

static void print_help(FILE *to) {
    fputs("geopixel: text and pixel masks from satellite images\n\nusage: geopixel COMMAND [options]\n\n",
          to);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fputs("  --version  the program's version\n  --help     this text; geopixel COMMAND --help for a "
          "command's\n\n"
          "Describe a scene:\n  geopixel run scene.tif --model GeoPixel-7B --prompt \"Describe this image in "
          "detail.\"\n",
          to);
}

int main(int count, char **arguments) {
    if (count < 2) {
        print_help(stderr);
        return GP_EXIT_USAGE;
    }
    if (strcmp(arguments[1], "--help") == 0 || strcmp(arguments[1], "-h") == 0 ||
        strcmp(arguments[1], "help") == 0) {
        print_help(stdout);
        return GP_EXIT_DONE;
    }
    if (strcmp(arguments[1], "--version") == 0) {
        printf("geopixel %s\n", gp_version());
        return GP_EXIT_DONE;
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(arguments[1], commands[i].name) == 0) return commands[i].run(count - 2, arguments + 2);
    fprintf(stderr, "geopixel: \"%s\" is no command; geopixel --help lists them\n", arguments[1]);
    return GP_EXIT_USAGE;
}
