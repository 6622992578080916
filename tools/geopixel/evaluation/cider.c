#include "kernels/base/memory.h"
#include "tools/geopixel/evaluation/caption_scores.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST = 4 };
static const double SIGMA = 6;

/** Up to four words; words that are not there are 0, others their number + 1. */
typedef struct gram {
    uint32_t words[LONGEST];
} gram;

/** A caption's n-grams in order, each once, with how often it has them. */
typedef struct caption {
    gram *grams;
    double *weights;
    int *lengths;
    size_t count;
    double norm[LONGEST];
    double pairs; /* how many 2-grams, which pycocoevalcap takes for the caption's length */
} caption;

static int compare(const void *a, const void *b) {
    const gram *left = a, *right = b;
    for (int i = 0; i < LONGEST; i++)
        if (left->words[i] != right->words[i]) return left->words[i] < right->words[i] ? -1 : 1;
    return 0;
}

static int length_of(const gram *g) {
    int length = 0;
    while (length < LONGEST && g->words[length] != 0) length++;
    return length;
}

/** `weights` become the counts. */
static bool count_grams(const gp_words *words, caption *c) {
    size_t most = LONGEST * words->count + 1, all = 0;
    *c = (caption){.grams = gp_allocate_zeroed(most, sizeof *c->grams),
                   .weights = gp_allocate_zeroed(most, sizeof *c->weights),
                   .lengths = gp_allocate_zeroed(most, sizeof *c->lengths)};
    if (c->grams == NULL || c->weights == NULL || c->lengths == NULL) return false;
    for (size_t i = 0; i < words->count; i++)
        for (size_t n = 1; n <= LONGEST && i + n <= words->count; n++, all++)
            for (size_t k = 0; k < n; k++) c->grams[all].words[k] = words->numbers[i + k] + 1;
    qsort(c->grams, all, sizeof *c->grams, compare);
    for (size_t i = 0; i < all; i++) {
        if (c->count == 0 || compare(&c->grams[i], &c->grams[c->count - 1]) != 0) {
            c->grams[c->count] = c->grams[i];
            c->lengths[c->count++] = length_of(&c->grams[i]);
        }
        c->weights[c->count - 1]++;
    }
    return true;
}

static void free_captions(caption *captions, size_t count) {
    for (size_t i = 0; captions != NULL && i < count; i++) {
        gp_free(captions[i].grams);
        gp_free(captions[i].weights);
        gp_free(captions[i].lengths);
    }
    gp_free(captions);
}

/** All right captions' n-grams, sorted: a run is as long as there are captions that have it. */
static gram *all_grams(const caption *right, size_t count, size_t *total) {
    *total = 0;
    for (size_t i = 0; i < count; i++) *total += right[i].count;
    gram *all = gp_allocate((*total + 1) * sizeof *all);
    if (all == NULL) return NULL;
    for (size_t i = 0, at = 0; i < count; at += right[i++].count)
        memcpy(all + at, right[i].grams, right[i].count * sizeof *all);
    qsort(all, *total, sizeof *all, compare);
    return all;
}

/** The first of `all` that is not below `g`. */
static size_t lower_bound(const gram *all, size_t total, const gram *g, int least) {
    size_t low = 0, high = total;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare(&all[middle], g) < least)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/** Counts to weights: times the logarithm of how rare the n-gram is. */
static void weigh(caption *c, const gram *all, size_t total, double log_captions) {
    for (size_t i = 0; i < c->count; i++) {
        const gram *g = &c->grams[i];
        double having = (double)(lower_bound(all, total, g, 1) - lower_bound(all, total, g, 0));
        if (c->lengths[i] == 2) c->pairs += c->weights[i];
        c->weights[i] *= log_captions - log(having > 1 ? having : 1);
        c->norm[c->lengths[i] - 1] += c->weights[i] * c->weights[i];
    }
    for (int n = 0; n < LONGEST; n++) c->norm[n] = sqrt(c->norm[n]);
}

static double similarity(const caption *predicted, const caption *right) {
    double products[LONGEST] = {0}, sum = 0, difference = predicted->pairs - right->pairs;
    for (size_t i = 0, j = 0; i < predicted->count && j < right->count;) {
        int order = compare(&predicted->grams[i], &right->grams[j]);
        if (order == 0) {
            double least =
                predicted->weights[i] < right->weights[j] ? predicted->weights[i] : right->weights[j];
            products[right->lengths[j] - 1] += least * right->weights[j];
        }
        i += order <= 0;
        j += order >= 0;
    }
    for (int n = 0; n < LONGEST; n++) {
        double norms = predicted->norm[n] * right->norm[n];
        sum += (norms != 0 ? products[n] / norms : products[n]) *
               exp(-difference * difference / (2 * SIGMA * SIGMA));
    }
    return sum / LONGEST * 10;
}

double gp_cider(const gp_words *predicted, const gp_words *right, size_t count) {
    caption *said = gp_allocate_zeroed(count + 1, sizeof *said),
            *meant = gp_allocate_zeroed(count + 1, sizeof *meant);
    bool done = said != NULL && meant != NULL;
    size_t total = 0;
    double sum = 0;
    for (size_t i = 0; done && i < count; i++)
        done = count_grams(&predicted[i], &said[i]) && count_grams(&right[i], &meant[i]);
    gram *all = done ? all_grams(meant, count, &total) : NULL;
    for (size_t i = 0; all != NULL && i < count; i++) {
        weigh(&said[i], all, total, log((double)count));
        weigh(&meant[i], all, total, log((double)count));
        sum += similarity(&said[i], &meant[i]);
    }
    done = all != NULL;
    gp_free(all);
    free_captions(said, count);
    free_captions(meant, count);
    return done ? sum / (double)count : NAN;
}
