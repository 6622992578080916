/** How like the right captions the predicted ones are: CIDEr as pycocoevalcap computes it, and METEOR's exact
 * and stem matching. */
#pragma once

#include "tools/geopixel/evaluation/words.h"

/**
 * CIDEr (Vedantam et al., arXiv 1411.5726) of a set, one right caption each: n-grams of 1 to 4 words weighted
 * by how rarely the right captions have them, clipped cosine, a Gaussian penalty (σ = 6) on the difference of
 * lengths, times 10; the mean over the set. NaN when memory is out.
 */
double gp_cider(const gp_words *predicted, const gp_words *right, size_t count);

/**
 * METEOR 1.5's score for English (Denkowski and Lavie 2014; α = 0.85, β = 0.2, γ = 0.6, δ = 0.75) over the
 * sums of a whole set, with exact matches (weight 1) and matches of stems (0.6): what meteor-1.5.jar gives
 * for
 * `-m "exact stem" -w "1.0 0.6"`, the order and the beam of its search included, but for function words, of
 * which our list is not METEOR's. Synonyms and paraphrases, for which METEOR needs its Java data, are not
 * matched: the figure is not METEOR's, and is lower where texts say the same in other words. NaN when memory
 * is out.
 */
double gp_meteor_exact_and_stem(const gp_vocabulary *vocabulary, const gp_words *predicted,
                                const gp_words *right, size_t count);
