#include "tools/geopixel/evaluation/matching.h"

#include "kernels/base/memory.h"

#include <float.h>
#include <math.h>
#include <stdint.h>

/** What COCO takes for 0.5. */
static const double HALF = 0.5;

void gp_overlaps(const gp_rle *predicted, size_t predicted_count, const gp_rle *right, size_t right_count,
                 double *overlaps) {
    for (size_t i = 0; i < predicted_count; i++) {
        uint64_t area = gp_rle_area(&predicted[i]);
        for (size_t j = 0; j < right_count; j++) {
            uint64_t common = gp_rle_common(&predicted[i], &right[j]);
            uint64_t either = area + gp_rle_area(&right[j]) - common;
            overlaps[i * right_count + j] = either == 0 ? 0 : (double)common / (double)either;
        }
    }
}

size_t gp_pairs(const double *overlaps, size_t predicted, size_t right, const bool *counted, gp_pair *pairs) {
    bool *taken = gp_allocate_zeroed(predicted + right + 1, sizeof *taken);
    size_t count = 0;
    if (taken == NULL) return SIZE_MAX;
    while (true) {
        gp_pair best = {0};
        for (size_t i = 0; i < predicted; i++)
            for (size_t j = 0; j < right; j++)
                if (!taken[i] && !taken[predicted + j] && counted[j] &&
                    overlaps[i * right + j] > best.overlap)
                    best = (gp_pair){i, j, overlaps[i * right + j]};
        if (best.overlap <= 0) break;
        taken[best.predicted] = taken[predicted + best.right] = true;
        pairs[count++] = best;
    }
    gp_free(taken);
    return count;
}

bool gp_precision_add(gp_precision *p, const double *overlaps, size_t predicted, size_t right,
                      const bool *counted) {
    const size_t more = predicted < GP_PRECISION_MOST ? predicted : GP_PRECISION_MOST;
    if (p->predictions + more > p->capacity) {
        size_t capacity = 2 * p->capacity + GP_PRECISION_MOST;
        bool *wider = gp_grow(p->hit, p->predictions * sizeof *p->hit, capacity * sizeof *p->hit);
        if (wider == NULL) return false;
        p->hit = wider;
        p->capacity = capacity;
    }
    bool *taken = gp_allocate_zeroed(right + 1, sizeof *taken);
    if (taken == NULL) return false;
    for (size_t i = 0; i < more; i++) {
        double least = HALF;
        size_t match = SIZE_MAX;
        for (size_t j = 0; j < right; j++) {
            if (taken[j] || !counted[j] || overlaps[i * right + j] < least) continue;
            least = overlaps[i * right + j]; /* of equals, the last */
            match = j;
        }
        if (match != SIZE_MAX) taken[match] = true;
        p->hit[p->predictions++] = match != SIZE_MAX;
    }
    for (size_t j = 0; j < right; j++) p->right += counted[j];
    gp_free(taken);
    return true;
}

double gp_precision_average(const gp_precision *p) {
    double sum = 0;
    if (p->right == 0) return -1;
    double *precision = gp_allocate((p->predictions + 1) * sizeof *precision);
    double *recall = gp_allocate((p->predictions + 1) * sizeof *recall);
    if (precision != NULL && recall != NULL) {
        double hits = 0;
        for (size_t i = 0; i < p->predictions; i++) {
            hits += p->hit[i];
            precision[i] = hits / ((double)(i + 1) + DBL_EPSILON);
            recall[i] = hits / (double)p->right;
        }
        for (size_t i = p->predictions; i-- > 1;)
            if (precision[i] > precision[i - 1]) precision[i - 1] = precision[i];
        for (size_t step = 0, at = 0; step <= 100; step++) {
            while (at < p->predictions && recall[at] < (double)step * 0.01) at++;
            if (at < p->predictions) sum += precision[at];
        }
    }
    bool lost = precision == NULL || recall == NULL;
    gp_free(precision);
    gp_free(recall);
    return lost ? NAN : sum / 101;
}

void gp_precision_free(gp_precision *precision) {
    gp_free(precision->hit);
    *precision = (gp_precision){0};
}
