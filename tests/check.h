/** What the C tests share: checks that say what was found, ../shared or a skip, random numbers, scratch
 * folders. */
#pragma once

#include <ftw.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHECK_PRINTED_MAX = 20 }; /* failures that are printed; all are counted */

static int check_failures;

/** CHECK(condition, format, …): counts and prints a failure, and goes on. */
#define CHECK(condition, ...)                                                                                \
    do {                                                                                                     \
        if (!(condition) && check_failures++ < CHECK_PRINTED_MAX) {                                          \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition);                                  \
            fprintf(stderr, __VA_ARGS__);                                                                    \
            fputc('\n', stderr);                                                                             \
        }                                                                                                    \
    } while (0)

/** CHECK for what the rest of the test cannot do without: ends the test. */
#define REQUIRE(condition, ...)                                                                              \
    do {                                                                                                     \
        int failures_before = check_failures;                                                                \
        CHECK(condition, __VA_ARGS__);                                                                       \
        if (check_failures > failures_before) exit(1);                                                       \
    } while (0)

/** The last line of main: prints the verdict and gives the exit code. */
static inline int check_done(void) {
    if (check_failures > 0) fprintf(stderr, "%d checks failed\n", check_failures);
    return check_failures > 0;
}

/** ../shared/`name` in a static buffer; where it is absent the test says so and ends as skipped (77). */
static inline const char *shared_or_skip(const char *name) {
    static char path[4][4096];
    static int turn;
    char *out = path[turn++ % 4];
    const char *folder = getenv("GEOPIXEL_SHARED");
    snprintf(out, sizeof path[0], "%s/%s", folder != NULL ? folder : "../shared", name);
    if (access(out, R_OK) != 0) {
        printf("skipped: %s is not there\n", out);
        exit(77);
    }
    return out;
}

/** xorshift64*: the same numbers everywhere. State must not be 0. */
static inline uint64_t random_bits(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 2685821657736338717ull;
}

/** Uniform in [-1, 1). */
static inline float random_float(uint64_t *state) {
    return (float)((double)(random_bits(state) >> 11) * 0x1p-52 - 1.0);
}

/** Seed for a test's random inputs: fresh at every run, printed, and set again by GEOPIXEL_TEST_SEED. */
static inline uint64_t fresh_seed(void) {
    const char *given = getenv("GEOPIXEL_TEST_SEED");
    uint64_t seed = 0;
    if (given != NULL) {
        seed = strtoull(given, NULL, 0);
    } else {
        FILE *random = fopen("/dev/urandom", "rb");
        if (random == NULL || fread(&seed, sizeof seed, 1, random) != 1) seed = 1;
        if (random != NULL) fclose(random);
    }
    if (seed == 0) seed = 1;
    printf("seed: GEOPIXEL_TEST_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

/** Relative L2 error of `have` against `want`. NaN anywhere gives infinity. */
static inline double relative_error(const float *have, const double *want, size_t count) {
    double difference = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        if (isnan(have[i])) return INFINITY;
        difference += (have[i] - want[i]) * (have[i] - want[i]);
        norm += want[i] * want[i];
    }
    if (norm > 0) return sqrt(difference / norm);
    return difference > 0 ? INFINITY : 0;
}

/* The scratch folders of this test, removed when it ends. */
static char scratch_folders[64][4096];
static int scratch_count;

static inline int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *walk) {
    (void)info, (void)kind, (void)walk;
    return remove(path);
}

static inline void remove_scratch(void) {
    while (scratch_count > 0) nftw(scratch_folders[--scratch_count], remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/** A new empty folder below the temporary one; it goes when the test ends. */
static inline const char *scratch_folder(void) {
    const char *base = getenv("TMPDIR");
    REQUIRE(scratch_count < 64, "a test with more than 64 folders");
    char *path = scratch_folders[scratch_count];
    snprintf(path, sizeof scratch_folders[0], "%s/geopixel-test-XXXXXX", base != NULL ? base : "/tmp");
    REQUIRE(mkdtemp(path) != NULL, "mkdtemp %s", path);
    if (scratch_count++ == 0) atexit(remove_scratch);
    return path;
}

/** The file `name` of one folder, as a link in another. */
static inline void link_file(const char *from_folder, const char *to_folder, const char *name) {
    char from[8300], to[8300], real[4096];
    REQUIRE(realpath(from_folder, real) != NULL, "%s", from_folder);
    snprintf(from, sizeof from, "%s/%s", real, name);
    snprintf(to, sizeof to, "%s/%s", to_folder, name);
    REQUIRE(symlink(from, to) == 0, "cannot link %s", to);
}
