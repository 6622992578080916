#include "kernels/base/memory.h"
#include "tools/geopixel/evaluation/caption_scores.h"

#include <math.h>
#include <string.h>

static const double ALPHA = 0.85, BETA = 0.20, GAMMA = 0.60, DELTA = 0.75;
/* Weights of a match in tenths: whole, so that sums in another order are equal where they should be. */
enum { EXACT = 10, STEM = 6, BEAM = 40 };

/** What the score is made of, summed over a set. Matched words by kind of word, weighted; `words` on both
 * sides. */
typedef struct sums {
    double content[2], function[2]; /* weighted matches: of predicted and of right words */
    double content_words[2], function_words[2];
    double matches, chunks;
} sums;

/** A way to pair the first words of a prediction with those of the right caption. */
typedef struct pairing {
    size_t weight, matches, chunks, distance;
    size_t last;    /* the right word that the word before is paired with, +1; 0: with none */
    size_t parent;  /* among the pairings of the word before */
    size_t right;   /* what this word is paired with, +1 */
    uint8_t *taken; /* right words, one byte each */
} pairing;

/** More weight, then fewer chunks, then shorter distances. */
static bool better(const pairing *a, const pairing *b) {
    if (a->weight != b->weight) return a->weight > b->weight;
    if (a->chunks != b->chunks) return a->chunks < b->chunks;
    return a->distance < b->distance;
}

/** Keeps the best BEAM of what is offered, best first. */
static void offer(pairing *kept, size_t *count, const pairing *one) {
    if (*count == BEAM && !better(one, &kept[BEAM - 1])) return;
    size_t at = *count < BEAM ? (*count)++ : BEAM - 1;
    for (; at > 0 && better(one, &kept[at - 1]); at--) kept[at] = kept[at - 1];
    kept[at] = *one;
}

/** How much it is worth that these words are paired; 0: they are not alike. */
static size_t match_weight(const gp_vocabulary *v, uint32_t a, uint32_t b) {
    return a == b ? EXACT : v->stem[a] == v->stem[b] ? STEM : 0;
}

static bool align(const gp_vocabulary *v, const gp_words *predicted, const gp_words *right, sums *s) {
    const size_t n = predicted->count, m = right->count;
    pairing *steps = gp_allocate_zeroed((n + 1) * BEAM, sizeof *steps);
    uint8_t *taken = gp_allocate_zeroed((n + 1) * BEAM * (m + 1), 1);
    size_t count = 1;
    if (steps == NULL || taken == NULL) {
        gp_free(steps);
        gp_free(taken);
        return false;
    }
    steps[0].taken = taken;
    for (size_t i = 0; i < n; i++) {
        pairing *from = steps + i * BEAM, *to = from + BEAM;
        size_t next = 0;
        for (size_t k = 0; k < count; k++) {
            pairing none = from[k];
            none.parent = k;
            none.right = none.last = 0;
            offer(to, &next, &none);
            for (size_t j = 0; j < m; j++) {
                size_t weight =
                    from[k].taken[j] ? 0 : match_weight(v, predicted->numbers[i], right->numbers[j]);
                if (weight == 0) continue;
                pairing one = from[k];
                one.weight += weight;
                one.matches++;
                one.chunks += from[k].last == 0 || from[k].last != j;
                one.distance += i * m > j * n ? i * m - j * n : j * n - i * m;
                one.parent = k;
                one.right = one.last = j + 1;
                offer(to, &next, &one);
            }
        }
        count = next;
        for (size_t k = 0; k < count; k++) {
            uint8_t *own = taken + ((i + 1) * BEAM + k) * (m + 1);
            memcpy(own, from[to[k].parent].taken, m);
            if (to[k].right > 0) own[to[k].right - 1] = 1;
            to[k].taken = own;
        }
    }
    const pairing *found = &steps[n * BEAM];
    bool whole = found->matches == n && found->matches == m && found->chunks == 1;
    s->matches += (double)found->matches;
    s->chunks += whole ? 0 : (double)found->chunks; /* METEOR does not punish what matches from end to end */
    for (size_t i = n, k = 0; i > 0; i--) {
        const pairing *one = &steps[i * BEAM + k];
        if (one->right > 0) {
            uint32_t a = predicted->numbers[i - 1], b = right->numbers[one->right - 1];
            double weight = (double)match_weight(v, a, b) / EXACT;
            *(v->function[a] ? &s->function[0] : &s->content[0]) += weight;
            *(v->function[b] ? &s->function[1] : &s->content[1]) += weight;
        }
        k = one->parent;
    }
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
