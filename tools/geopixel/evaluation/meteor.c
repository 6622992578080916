#include "kernels/base/memory.h"
#include "tools/geopixel/evaluation/caption_scores.h"

#include <math.h>
#include <string.h>

static const double ALPHA = 0.85, BETA = 0.20, GAMMA = 0.60, DELTA = 0.75;
static const double EXACT = 1.0, STEM = 0.6; /* weights of a match */
enum { BEAM = 40 };

/** What the score is made of, summed over a set. Matched words by kind of word, weighted; `words` on both
 * sides. */
typedef struct sums {
    double content[2], function[2]; /* weighted matches: of predicted and of right words */
    double content_words[2], function_words[2];
    double matches, chunks;
} sums;

/** A way to pair the first words of the right caption with those of the prediction. */
typedef struct pairing {
    size_t exact, chunks, distance; /* chunks that have ended */
    size_t last;                    /* the predicted word of the word before, +1; 0: it has none */
    size_t parent;                  /* among the pairings of the word before */
    size_t predicted;               /* what this word is paired with, +1 */
    uint8_t *taken;                 /* predicted words, one byte each */
} pairing;

/** More exact matches, then fewer chunks, then shorter distances. METEOR means to compare weights, but keeps
 * their sum as a whole number, in which a match of stems is lost. */
static bool better(const pairing *a, const pairing *b) {
    if (a->exact != b->exact) return a->exact > b->exact;
    if (a->chunks != b->chunks) return a->chunks < b->chunks;
    return a->distance < b->distance;
}

/** Keeps the best BEAM of what is offered, best first, of equals the one that came first. */
static void offer(pairing *kept, size_t *count, const pairing *one) {
    if (*count == BEAM && !better(one, &kept[BEAM - 1])) return;
    size_t at = *count < BEAM ? (*count)++ : BEAM - 1;
    for (; at > 0 && better(one, &kept[at - 1]); at--) kept[at] = kept[at - 1];
    kept[at] = *one;
}

/** How much it is worth that these words are paired; 0: they are not alike. */
static double match_weight(const gp_vocabulary *v, uint32_t a, uint32_t b) {
    return a == b ? EXACT : v->stem[a] == v->stem[b] ? STEM : 0;
}

/** The predicted words that a word of the right caption may be paired with. */
typedef struct choices {
    size_t *words; /* those that are equal, then those with its stem */
    size_t exact, count;
    bool forced; /* the two words have none but each other: they are paired */
} choices;

static void find_choices(const gp_vocabulary *v, const gp_words *predicted, const gp_words *right,
                         uint32_t word, choices *c) {
    size_t rivals = 0;
    c->count = 0;
    for (size_t i = 0; i < predicted->count; i++)
        if (predicted->numbers[i] == word) c->words[c->count++] = i;
    c->exact = c->count;
    for (size_t i = 0; i < predicted->count; i++)
        if (match_weight(v, predicted->numbers[i], word) == STEM) c->words[c->count++] = i;
    for (size_t j = 0; j < right->count; j++) rivals += match_weight(v, right->numbers[j], word) > 0;
    c->forced = c->count == 1 && rivals == 1;
}

/** The pairings that go on from `path` at the right caption's word `at`. As in METEOR, the distance of a pair
 * that is not forced is counted only for the ways that are tried after it. */
static void extend(const choices *c, size_t at, pairing path, pairing *to, size_t *count) {
    for (size_t k = 0; k < c->count; k++) {
        const size_t i = c->words[k], distance = i > at ? i - at : at - i;
        if (path.taken[i]) continue;
        pairing one = path;
        one.distance += c->forced ? distance : 0;
        one.exact += k < c->exact;
        one.chunks += path.last > 0 && path.last != i;
        one.last = one.predicted = i + 1;
        offer(to, count, &one);
        path.distance += distance;
    }
    if (c->forced) return;
    path.chunks += path.last > 0;
    path.last = path.predicted = 0;
    offer(to, count, &path);
}

/** Adds what the pairing that ends as number `k` of the last step is made of. */
static void add_pairs(const gp_vocabulary *v, const gp_words *predicted, const gp_words *right,
                      const pairing *steps, size_t k, sums *s) {
    size_t matches = 0, chunks = 0, next = 0; /* what the word behind is paired with, +1 */
    for (size_t j = right->count; j > 0; j--) {
        const pairing *one = &steps[j * BEAM + k];
        k = one->parent;
        if (one->predicted > 0) {
            uint32_t a = predicted->numbers[one->predicted - 1], b = right->numbers[j - 1];
            double weight = match_weight(v, a, b);
            *(v->function[a] ? &s->function[0] : &s->content[0]) += weight;
            *(v->function[b] ? &s->function[1] : &s->content[1]) += weight;
            matches++;
            chunks += next != one->predicted + 1;
        }
        next = one->predicted;
    }
    bool whole = matches == predicted->count && matches == right->count && chunks == 1;
    s->matches += (double)matches;
    s->chunks += whole ? 0 : (double)chunks; /* METEOR does not punish what matches from end to end */
}

static bool align(const gp_vocabulary *v, const gp_words *predicted, const gp_words *right, sums *s) {
    const size_t n = right->count, m = predicted->count;
    pairing *steps = gp_allocate_zeroed((n + 1) * BEAM, sizeof *steps);
    uint8_t *taken = gp_allocate_zeroed((n + 1) * BEAM * (m + 1), 1);
    choices c = {.words = gp_allocate((m + 1) * sizeof *c.words)};
    size_t count = 1, best = 0;
    if (steps == NULL || taken == NULL || c.words == NULL) {
        gp_free(c.words);
        gp_free(steps);
        gp_free(taken);
        return false;
    }
    steps[0].taken = taken;
    for (size_t j = 0; j < n; j++) {
        pairing *from = steps + j * BEAM, *to = from + BEAM;
        size_t next = 0;
        find_choices(v, predicted, right, right->numbers[j], &c);
        for (size_t k = 0; k < count; k++) {
            pairing path = from[k];
            path.parent = k;
            extend(&c, j, path, to, &next);
        }
        count = next;
        for (size_t k = 0; k < count; k++) {
            uint8_t *own = taken + ((j + 1) * BEAM + k) * (m + 1);
            memcpy(own, from[to[k].parent].taken, m);
            if (to[k].predicted > 0) own[to[k].predicted - 1] = 1;
            to[k].taken = own;
        }
    }
    pairing *last = steps + n * BEAM;
    for (size_t k = 0; k < count; k++) {
        last[k].chunks += last[k].last > 0;
        if (better(&last[k], &last[best])) best = k;
    }
    add_pairs(v, predicted, right, steps, best, s);
    gp_free(c.words);
    gp_free(steps);
    gp_free(taken);
    return true;
}

static double share(const sums *s, int side) {
    double all = DELTA * s->content_words[side] + (1 - DELTA) * s->function_words[side];
    return all == 0 ? 0 : (DELTA * s->content[side] + (1 - DELTA) * s->function[side]) / all;
}

double gp_meteor_exact_and_stem(const gp_vocabulary *vocabulary, const gp_words *predicted,
                                const gp_words *right, size_t count) {
    sums s = {0};
    for (size_t i = 0; i < count; i++) {
        const gp_words *sides[] = {&predicted[i], &right[i]};
        if (!align(vocabulary, sides[0], sides[1], &s)) return NAN;
        for (int side = 0; side < 2; side++)
            for (size_t k = 0; k < sides[side]->count; k++)
                *(vocabulary->function[sides[side]->numbers[k]] ? &s.function_words[side]
                                                                : &s.content_words[side]) += 1;
    }
    double precision = share(&s, 0), recall = share(&s, 1);
    if (precision == 0 || recall == 0) return 0;
    double mean = precision * recall / (ALPHA * precision + (1 - ALPHA) * recall);
    return (1 - GAMMA * pow(s.chunks / s.matches, BETA)) * mean;
}
