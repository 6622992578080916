/**
 * What a check found: results against f64, value by value and as a whole.
 *
 * Each value has a bound that cannot be exceeded whatever the rounding; the relative L2 error of all that
 * were compared has a tighter one, which random inputs keep: roundings of ~K steps do not all go one way, and
 * a part left out (a piece of k, a block of keys) is far above it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct gp_findings {
    int64_t compared;
    int64_t wrong;
    double difference, norm; /* sums of squares */
    double l2_bound;
    char first[240]; /* what was wrong first; empty: nothing */
} gp_findings;

/** Compares one value; NaN is wrong. `row` and `column` say where it is. */
void gp_compare(gp_findings *findings, double have, double want, double bound, int64_t row, int64_t column);

/** Notes something else that is wrong. */
void gp_wrong(gp_findings *findings, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** Every value was written: none is the poison's NaN. */
void gp_compare_written_bf16(gp_findings *findings, const uint16_t *values, int64_t count);
void gp_compare_written_f32(gp_findings *findings, const float *values, int64_t count);

/** ‖have − want‖/‖want‖ of all that was compared. */
double gp_findings_l2(const gp_findings *findings);

/** Whether all is right: something was compared, each value within its bound, all within l2_bound. */
bool gp_findings_right(gp_findings *findings);
