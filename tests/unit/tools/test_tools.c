/** The program's parts: run lengths, command line, coloured text, output files. */
#include "kernels/base/memory.h"
#include "tests/unit/tools/encode.h"
#include "tools/geopixel/arguments.h"
#include "tools/geopixel/outputs/output_file.h"
#include "tools/geopixel/terminal.h"
#include "tools/geopixel/workload.h"

#include <dirent.h>
#include <jansson.h>
#include <math.h>

/* ---- run lengths ---- */

/** COCO's text to bytes, written from its definition: groups of five bits, lowest first; from the third run
 * on, differences. */
static void decode_text(const char *text, int width, int height, uint8_t *pixels) {
    int64_t runs[100000];
    int count = 0;
    size_t at = 0;
    while (*text != '\0') {
        int64_t value = 0;
        int group = 0, byte;
        do {
            byte = *text++ - 48;
            value |= (int64_t)(byte & 31) << (5 * group++);
        } while ((byte & 32) != 0);
        if ((byte & 16) != 0) value -= (int64_t)1 << (5 * group);
        runs[count] = value + (count > 2 ? runs[count - 2] : 0);
        for (int64_t k = 0; k < runs[count]; k++, at++)
            pixels[(int)at % height * width + (int)at / height] = count % 2 == 1;
        count++;
    }
    CHECK(at == (size_t)width * (size_t)height, "the runs fill %zu of %d pixels", at, width * height);
}

static void test_rle(uint64_t *seed) {
    static uint8_t pixels[200 * 200], again[200 * 200];
    for (int round = 0; round < 200; round++) {
        int width = 1 + (int)(random_bits(seed) % 200), height = 1 + (int)(random_bits(seed) % 200),
            density = (int)(random_bits(seed) % 5);
        uint8_t value = 0;
        for (int i = 0; i < width * height; i++) { /* from noise to long runs, all 0 and all 1 among them */
            if (density == 0)
                value = round % 2 == 0;
            else if (random_bits(seed) % (uint64_t)(density * density * density * 4 - 3) == 0)
                value = !value;
            pixels[i] = value;
        }
        gp_rle rle = encode(pixels, width, height);
        gp_rle_decode(&rle, again);
        CHECK(memcmp(pixels, again, (size_t)(width * height)) == 0, "%d x %d: runs", width, height);
        char *text = gp_rle_text(&rle);
        memset(again, 0xAA, sizeof again);
        decode_text(text, width, height, again);
        CHECK(memcmp(pixels, again, (size_t)(width * height)) == 0, "%d x %d: text", width, height);
        gp_free(text);
        gp_rle_free(&rle);
    }
}

/** The goldens' masks: their text to pixels and back is the same text. */
static void test_rle_goldens(void) {
    const char *base = getenv("GEOPIXEL_SHARED");
    char path[4096];
    snprintf(path, sizeof path, "%s/goldens/cases/square-two-masks/case.json",
             base != NULL ? base : "../shared");
    json_t *root = json_load_file(path, 0, NULL);
    if (root == NULL) {
        printf("not compared with COCO's texts: %s is not there\n", path);
        return;
    }
    const json_t *masks = json_object_get(root, "masks");
    CHECK(json_array_size(masks) > 0, "no masks");
    for (size_t i = 0; i < json_array_size(masks); i++) {
        const json_t *mask = json_array_get(masks, i), *size = json_object_get(mask, "size");
        int height = (int)json_integer_value(json_array_get(size, 0)),
            width = (int)json_integer_value(json_array_get(size, 1));
        uint8_t *pixels = gp_allocate((size_t)width * (size_t)height);
        decode_text(json_string_value(json_object_get(mask, "counts")), width, height, pixels);
        gp_rle rle = encode(pixels, width, height);
        char *text = gp_rle_text(&rle);
        CHECK(strcmp(text, json_string_value(json_object_get(mask, "counts"))) == 0, "mask %zu", i);
        gp_free(text);
        gp_rle_free(&rle);
        gp_free(pixels);
    }
    json_decref(root);
}

/* ---- command line ---- */

typedef struct parsed {
    const char *text, *operand;
    long long whole;
    double number;
    int choice;
    bool flag, help;
} parsed;

static bool parse(parsed *p, gp_status *status, int count, char **arguments) {
    const gp_option options[] = {{"text", 't', GP_OPTION_TEXT, "T", "", &p->text, 0, 0},
                                 {"whole", 0, GP_OPTION_WHOLE, "N", "", &p->whole, 1, 100},
                                 {"number", 0, GP_OPTION_NUMBER, "X", "", &p->number, 0, 1},
                                 {"device", 0, GP_OPTION_CHOICE, "auto|cpu|cuda", "", &p->choice, 0, 0},
                                 {"quiet", 'q', GP_OPTION_FLAG, NULL, "", &p->flag, 0, 0}};
    const gp_command command = {"do", "", "FILE", NULL, options, sizeof options / sizeof *options};
    return gp_arguments_parse(&command, count, arguments, &p->operand, &p->help, status);
}

#define LINE(...) (char *[]){__VA_ARGS__}, sizeof((char *[]){__VA_ARGS__}) / sizeof(char *)

static void accept(char **arguments, size_t count, parsed want) {
    parsed have = {0};
    gp_status status = {0};
    CHECK(parse(&have, &status, (int)count, arguments), "%s", status.message);
    gp_status_clear(&status);
    CHECK(have.whole == want.whole && have.number == want.number && have.choice == want.choice &&
              have.flag == want.flag && have.help == want.help,
          "%s", arguments[0]);
    CHECK((have.text == NULL) == (want.text == NULL) &&
              (want.text == NULL || strcmp(have.text, want.text) == 0),
          "text %s", have.text);
    CHECK((have.operand == NULL) == (want.operand == NULL) &&
              (want.operand == NULL || strcmp(have.operand, want.operand) == 0),
          "operand %s", have.operand);
}

static void refuse(char **arguments, size_t count, const char *word) {
    parsed have = {0};
    gp_status status = {0};
    bool taken = parse(&have, &status, (int)count, arguments);
    CHECK(!taken && strstr(status.message, word) != NULL, "%s: %s", arguments[0],
          taken ? "taken" : status.message);
    gp_status_clear(&status);
}

static void test_arguments(void) {
    accept(LINE("a.tif", "--text", "x", "--whole=7", "--number", "0.5", "-q"),
           (parsed){.operand = "a.tif", .text = "x", .whole = 7, .number = 0.5, .flag = true});
    accept(LINE("--device=cuda", "-t", "--whole"), (parsed){.choice = 2, .text = "--whole"});
    accept(LINE("--", "--text"), (parsed){.operand = "--text"});
    accept(LINE("-"), (parsed){.operand = "-"});
    accept(LINE("--whole=3", "--help", "--unknown"), (parsed){.whole = 3, .help = true});
}

static void test_usage_errors(void) {
    refuse(LINE("--texx", "1"), "--text");
    refuse(LINE("--entirely-else"), "no option");
    refuse(LINE("a", "b"), "one file");
    refuse(LINE("--text"), "needs a value");
    refuse(LINE("--quiet=1"), "no value");
    refuse(LINE("--whole", "101"), "101");
    refuse(LINE("--whole", "5x"), "5x");
    refuse(LINE("--whole", ""), "whole number");
    refuse(LINE("--whole", "99999999999999999999"), "99999999999999999999");
    refuse(LINE("--number", "nan"), "nan");
    refuse(LINE("--number", "1.01"), "1.01");
    refuse(LINE("--device", "gpu"), "auto|cpu|cuda");
    refuse(LINE("-x"), "-x");
}

/* ---- coloured text ---- */

/** The answer cut into pieces of `size` bytes, as a terminal shows it; colours as {k} and {}. */
static void expect_colours(const char *text, const char *want) {
    for (size_t size = 1; size <= strlen(text) + 1; size += 1 + size / 3) {
        char *have = NULL, shown[1000] = "";
        size_t length = 0;
        gp_terminal terminal = {
            .out = open_memstream(&have, &length), .colours = GP_COLOURS_TRUE, .line_ended = true};
        for (size_t at = 0; at < strlen(text); at += size)
            gp_terminal_text(&terminal, text + at, strlen(text) - at < size ? strlen(text) - at : size);
        gp_terminal_end_text(&terminal);
        fclose(terminal.out);
        int colours = 0;
        for (const char *c = have; *c != '\0'; c++) {
            size_t end = strlen(shown);
            if (*c != '\033') {
                shown[end] = *c;
                continue;
            }
            bool reset = c[2] == '0';
            snprintf(shown + end, sizeof shown - end, reset ? "{}" : "{%d}", colours);
            colours += !reset;
            while (*c != 'm') c++;
        }
        CHECK(strcmp(shown, want) == 0, "in pieces of %zu: \"%s\", not \"%s\"", size, shown, want);
        free(have);
    }
}

static void test_terminal(void) {
    expect_colours("No masks here.", "No masks here.\n");
    expect_colours("The <p> long bridge </p> [SEG] and <p> two cars </p> [SEG] here.",
                   "The {0}long bridge{} and {1}two cars{} here.\n");
    expect_colours("At the end: <p> a car </p> [SEG] .", "At the end: {0}a car{}.\n");
    expect_colours("<p> first </p> [SEG], then", "{0}first{}, then\n");
    expect_colours("[SEG] alone, a < b and <q> too", "alone, a < b and <q> too\n");
    expect_colours("no \033[2J escapes", "no ?[2J escapes\n");
    expect_colours("two  spaces stay", "two  spaces stay\n");
    expect_colours("cut off in <p> a phr", "cut off in {0}a phr{}\n");
    char *have = NULL;
    size_t length = 0;
    gp_terminal plain = {.out = open_memstream(&have, &length), .line_ended = true};
    gp_terminal_text(&plain, "a <p> b </p> [SEG]", 18);
    gp_terminal_end_text(&plain);
    fclose(plain.out);
    CHECK(strcmp(have, "a <p> b </p> [SEG]\n") == 0, "piped, the text stays as it is: %s", have);
    free(have);
}

/* ---- output files ---- */

static int files_in(const char *folder) {
    int count = 0;
    DIR *list = opendir(folder);
    for (struct dirent *entry; (entry = readdir(list)) != NULL;) count += entry->d_name[0] != '.';
    closedir(list);
    return count;
}

static void test_outputs(void) {
    const char *folder = scratch_folder();
    char path[4200];
    gp_output_file output;
    gp_status status = {0};
    snprintf(path, sizeof path, "%s/out.txt", folder);
    REQUIRE(gp_output_open(&output, path, &status), "%s", status.message);
    fputs("hello", output.stream);
    CHECK(access(path, F_OK) != 0, "it appears before it is complete");
    CHECK(gp_output_commit(&output, &status) && access(path, R_OK) == 0 && files_in(folder) == 1,
          "it appears");
    REQUIRE(gp_output_open(&output, path, &status), "%s", status.message);
    fputs("other", output.stream);
    gp_output_discard(&output);
    CHECK(files_in(folder) == 1, "nothing of what was discarded stays");
    REQUIRE(gp_output_open(&output, path, &status), "%s", status.message);
    gp_output_remove_all();
    CHECK(files_in(folder) == 1, "a signal removes what is begun");
    gp_output_discard(&output);
    CHECK(!gp_output_open(&output, "/nonexistent/folder/out.txt", &status) &&
              strstr(status.message, "/nonexistent/folder/out.txt") != NULL,
          "%s", status.message);
    CHECK(!gp_output_open(&output, folder, &status) && strstr(status.message, "regular") != NULL, "%s",
          status.message);
    CHECK(gp_output_same(path, path) && !gp_output_same(path, NULL) && !gp_output_same("/a", "/b"),
          "the same file");
    char other[4300];
    snprintf(other, sizeof other, "%s/./new.txt", folder);
    snprintf(path, sizeof path, "%s/new.txt", folder);
    CHECK(gp_output_same(path, other), "the same place, spelled twice, before there is a file");
    snprintf(other, sizeof other, "%s/old.txt", folder);
    CHECK(!gp_output_same(path, other), "two places");
    gp_status_clear(&status);
}

static void test_percentiles(void) {
    double values[] = {4, 1, 3, 2}, one[] = {7};
    CHECK(fabs(gp_percentile(values, 4, 0.5) - 2.5) < 1e-12 &&
              fabs(gp_percentile(values, 4, 0.9) - 3.7) < 1e-12 && gp_percentile(values, 4, 1) == 4 &&
              gp_percentile(values, 4, 0) == 1,
          "numpy says 2.5, 3.7, 4 and 1");
    CHECK(gp_percentile(one, 1, 0.99) == 7, "of one value");
}

int main(void) {
    uint64_t seed = fresh_seed();
    test_rle(&seed);
    test_rle_goldens();
    test_arguments();
    test_usage_errors();
    test_terminal();
    test_outputs();
    test_percentiles();
    return check_done();
}
