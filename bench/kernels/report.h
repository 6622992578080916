/** What a run of the bench says: a line a case on standard output, and a JSON file that is whole after every
 * case. */
#pragma once

#include "bench/kernels/case.h"
#include "bench/kernels/timing.h"

/** What a GPU does at most. 0: not known. */
typedef struct gp_ceiling {
    double operations; /* a second, of bf16 products */
    double bytes;      /* a second, read and written */
} gp_ceiling;

/** Seconds that the case takes at least at that ceiling; the larger of its two terms. 0 where it is not
 * known. */
double gp_floor_seconds(const gp_cost *cost, const gp_ceiling *ceiling);

/** What came of a case. */
typedef struct gp_outcome {
    gp_cost cost;
    gp_findings findings;
    bool right;
    char problem[320]; /* why it is not right, or was not measured; empty: nothing */
    bool timed;
    gp_timing timing;
    const char *library; /* what it was compared with; NULL: nothing */
    gp_timing library_timing;
    char library_problem[320]; /* why it was not compared; empty: it was, or there is none */
    int sets;
} gp_outcome;

typedef struct gp_report {
    const char *path; /* of the JSON; NULL: none */
    char device[128];
    char libraries[2][320]; /* names, or why they are missing */
    gp_ceiling ceiling;
    gp_outcome *outcomes;
    int count, capacity;
} gp_report;

/** The head of the table. */
void gp_report_begin(const gp_report *report);

/** Adds a case: prints its line, writes the JSON anew. */
bool gp_report_add(gp_report *report, const gp_outcome *outcome, gp_status *status);

/** How many cases were not right or not measured. */
int gp_report_failures(const gp_report *report);
void gp_report_free(gp_report *report);
