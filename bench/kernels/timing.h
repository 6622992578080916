/** What a measurement gives. */
#pragma once

/** Seconds a call: the median of the replays, and their quartiles. */
typedef struct gp_timing {
    double median, lower, upper;
    int calls, replays; /* calls a replay */
} gp_timing;
