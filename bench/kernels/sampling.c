/**
 * sample: the next tokens of rows of 92,547 logits, the largest and a draw from the most likely. Bytes: the
 * logits once. The draw reads them some thirty times more, from L2, in a block a row: its floor here is what
 * no version gets below.
 */
#include "bench/kernels/case.h"
#include "bench/kernels/reference.h"
#include "kernels/base/memory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { LOGITS, CHOICES, ORDER, TOKENS, ROWS_MAX = 64 };

typedef struct shape {
    const char *what;
    int rows, count;
    float temperature, top_p;
    double uniform; /* of the first row */
} shape;

static const shape shapes[] = {{"greedy", 1, 92547, 0, 1, 0},
                               {"top-p", 1, 92547, 0.8f, 0.9f, 0.618},
                               {"top-p", ROWS_MAX, 92547, 0.8f, 0.9f, 0.618}};

static shape shape_of(const gp_case *c) {
    shape s = shapes[c->index];
    if (c->small) s.count = 1500;
    if (c->small) s.rows = (int)gp_smaller(s.rows, 3);
    return s;
}

static double uniform_of(const shape *s, int row) {
    return s->uniform * (ROWS_MAX - row) / ROWS_MAX;
}

static void cost(const gp_case *c, gp_cost *cost) {
    shape s = shape_of(c);
    snprintf(cost->name, sizeof cost->name, "sample/%s", s.what);
    snprintf(cost->size, sizeof cost->size, "%d x %d", s.rows, s.count);
    cost->operations = (double)s.rows * s.count; /* comparisons, at least */
    cost->bytes = s.rows * (4.0 * s.count + 20);
}

static void fill(const gp_case *c, const gp_backend *backend, uint64_t *seed, gp_work *work) {
    shape s = shape_of(c);
    (void)backend;
    gp_work_f32(work, LOGITS, (int64_t)s.rows * s.count, 8, seed);
    gp_token_choice *choices = gp_work_input(work, CHOICES, (size_t)s.rows * sizeof *choices);
    for (int row = 0; choices != NULL && row < s.rows; row++)
        choices[row] = (gp_token_choice){uniform_of(&s, row), s.temperature, s.top_p};
    gp_work_scratch(work, ORDER, (size_t)s.rows * (size_t)s.count * sizeof(int32_t));
    gp_work_output(work, TOKENS, (size_t)s.rows * sizeof(int32_t));
}

static void launch(const gp_case *c, gp_backend *backend, void *const *at) {
    shape s = shape_of(c);
    backend->ops->sample(backend,
                         &(gp_sample){at[LOGITS], s.rows, s.count, 0, at[CHOICES], at[ORDER], at[TOKENS]});
}

typedef struct entry {
    float logit;
    int32_t token;
} entry;

/** Falling, the first of equals first. */
static int by_logit(const void *a, const void *b) {
    const entry *x = a, *y = b;
    if (x->logit != y->logit) return x->logit < y->logit ? 1 : -1;
    return x->token < y->token ? -1 : 1;
}

/**
 * The token's interval of cumulated shares has to hold what `uniform` asks for. Weights in f32 are off by
 * some 2^-22, so the set may end one token earlier or later: what is asked for is off by that token's share
 * and 2^-18.
 */
static void check_row(shape s, const float *logits, double uniform, int32_t token, gp_findings *findings) {
    int32_t want = -1;
    entry *entries = gp_allocate((size_t)s.count * sizeof *entries);
    if (entries == NULL) {
        gp_wrong(findings, "no memory for %d logits", s.count);
        return;
    }
    for (int i = 0; i < s.count; i++) entries[i] = (entry){logits[i], i};
    qsort(entries, (size_t)s.count, sizeof *entries, by_logit);
    if (s.temperature <= 0) {
        want = entries[0].token;
    } else {
        double total = 0, kept = 0, last = 0, seen = 0;
        for (int i = 0; i < s.count; i++)
            total += exp(((double)entries[i].logit - (double)entries[0].logit) / (double)s.temperature);
        for (int i = 0; i < s.count && kept < (double)s.top_p; i++) {
            last = exp(((double)entries[i].logit - (double)entries[0].logit) / (double)s.temperature) / total;
            kept += last;
        }
        double doubt = last + 0x1p-18, low = uniform * kept - doubt, high = uniform * kept + doubt;
        for (int i = 0; i < s.count; i++) {
            double share =
                exp(((double)entries[i].logit - (double)entries[0].logit) / (double)s.temperature) / total;
            bool asked_for = seen <= high && seen + share >= low;
            if (asked_for && (want < 0 || entries[i].token == token)) want = entries[i].token;
            seen += share;
        }
    }
    gp_compare(findings, token, want, 0, 0, 0);
    gp_free(entries);
}

static void check(const gp_case *c, const gp_work *work, void *const *results, bool of_yardstick,
                  uint64_t *seed, gp_findings *findings) {
    shape s = shape_of(c);
    const float *logits = work->buffers[LOGITS].host;
    const int32_t *tokens = results[TOKENS];
    (void)of_yardstick, (void)seed;
    for (int row = 0; row < s.rows; row++)
        check_row(s, logits + (size_t)row * (size_t)s.count, uniform_of(&s, row), tokens[row], findings);
}

const gp_family gp_family_sample = {sizeof shapes / sizeof *shapes, cost, fill, launch, check};
