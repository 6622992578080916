/** The one clock. */
#pragma once

#include <time.h>

/** Seconds since some moment, never going back. */
static inline double gp_clock_seconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}
