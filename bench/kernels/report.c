#include "bench/kernels/report.h"

#include "kernels/base/memory.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

double gp_floor_seconds(const gp_cost *cost, const gp_ceiling *ceiling) {
    if (ceiling->bytes <= 0 || (cost->matrix && ceiling->operations <= 0)) return 0;
    double moving = cost->bytes / ceiling->bytes,
           multiplying = cost->matrix ? cost->operations / ceiling->operations : 0;
    return moving > multiplying ? moving : multiplying;
}

/** Whether products are what the case is made of, rather than bytes; by the bytes' own where the ceiling is
 * not known. */
static bool bound_by_products(const gp_cost *cost, const gp_ceiling *ceiling) {
    return cost->matrix && ceiling->operations > 0 && ceiling->bytes > 0 &&
           cost->operations / ceiling->operations > cost->bytes / ceiling->bytes;
}

/* ---- the table ---- */

void gp_report_begin(const gp_report *report) {
    printf("%s\n", report->device);
    for (int i = 0; i < 2; i++) printf("yardstick: %s\n", report->libraries[i]);
    printf("ceilings measured: copy %.0f GB/s, bf16 products %.0f TFLOP/s (0: not measured)\n",
           report->ceiling.bytes * 1e-9, report->ceiling.operations * 1e-12);
    printf(
        "rate: of the larger of the two terms; ceiling: floor by arithmetic at the measured ceilings / time; "
        "ratio: the\n"
        "library's time / ours in turns (above 1: faster than it); check: relative L2 error against f64\n\n");
    printf("%-36s %-44s %10s %15s %8s %17s  %s\n", "kernel", "size", "µs", "rate", "ceiling", "ratio",
           "check");
}

static void print_line(const gp_report *report, const gp_outcome *o) {
    char rate[32] = "-", share[16] = "-", ratio[32] = "-", time[16] = "-", check[32];
    if (o->timed) {
        bool products = bound_by_products(&o->cost, &report->ceiling);
        double floor = gp_floor_seconds(&o->cost, &report->ceiling);
        snprintf(time, sizeof time, "%.2f", o->timing.median * 1e6);
        snprintf(rate, sizeof rate, "%.1f %s",
                 (products ? o->cost.operations * 1e-12 : o->cost.bytes * 1e-9) / o->timing.median,
                 products ? "TFLOP/s" : "GB/s");
        if (floor > 0) snprintf(share, sizeof share, "%.1f %%", 100 * floor / o->timing.median);
        if (o->library != NULL)
            snprintf(ratio, sizeof ratio, "%.2f %.*s", o->library_timing.median / o->timing.median,
                     (int)strcspn(o->library, " "), o->library); /* without its version */
    }
    snprintf(check, sizeof check, o->right ? "ok %.1e" : "FAILED %.1e", gp_findings_l2(&o->findings));
    printf("%-36s %-44s %9s %15s %8s %17s  %s\n", o->cost.name, o->cost.size, time, rate, share, ratio,
           check);
    if (o->problem[0] != '\0') printf("    %s\n", o->problem);
    if (o->library_problem[0] != '\0') printf("    not compared: %s\n", o->library_problem);
    fflush(stdout);
}

/* ---- the JSON ---- */

static void put_text(FILE *file, const char *name, const char *text) {
    fprintf(file, "\"%s\": \"", name);
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '"' || *c == '\\')
            fprintf(file, "\\%c", *c);
        else
            fputc((unsigned char)*c < 0x20 ? ' ' : *c, file);
    }
    fputc('"', file);
}

static void put_timing(FILE *file, const char *name, const gp_timing *timing) {
    fprintf(file,
            ", \"%s\": {\"median_us\": %.4f, \"lower_us\": %.4f, \"upper_us\": %.4f, \"calls\": %d, "
            "\"replays\": %d}",
            name, timing->median * 1e6, timing->lower * 1e6, timing->upper * 1e6, timing->calls,
            timing->replays);
}

static void put_outcome(FILE *file, const gp_report *report, const gp_outcome *o) {
    double l2 = gp_findings_l2(&o->findings);
    fputc('{', file);
    put_text(file, "kernel", o->cost.name);
    fputs(", ", file);
    put_text(file, "size", o->cost.size);
    fprintf(file,
            ", \"operations\": %.0f, \"bytes\": %.0f, \"floor_us\": %.4f, \"right\": %s, \"compared\": %lld",
            o->cost.operations, o->cost.bytes, gp_floor_seconds(&o->cost, &report->ceiling) * 1e6,
            o->right ? "true" : "false", (long long)o->findings.compared);
    if (l2 < 1e30) fprintf(file, ", \"relative_l2\": %.3e", l2); /* NaN and infinity are no JSON */
    if (o->timed) put_timing(file, "time", &o->timing);
    if (o->timed) fprintf(file, ", \"sets\": %d", o->sets);
    if (o->timed && o->library != NULL) {
        fputs(", ", file);
        put_text(file, "library", o->library);
        put_timing(file, "library_time", &o->library_timing);
    }
    if (o->problem[0] != '\0') {
        fputs(", ", file);
        put_text(file, "problem", o->problem);
    }
    if (o->library_problem[0] != '\0') {
        fputs(", ", file);
        put_text(file, "not_compared", o->library_problem);
    }
    fputc('}', file);
}

/** Beside the target, then in its place: what is there is whole, however the program ends. */
static bool write_json(const gp_report *report, gp_status *status) {
    char aside[4096];
    if (report->path == NULL) return true;
    if (snprintf(aside, sizeof aside, "%s.part", report->path) >= (int)sizeof aside)
        return gp_fail(status, "%s: the name is too long", report->path);
    FILE *file = fopen(aside, "w");
    if (file == NULL) return gp_fail(status, "%s: %s", aside, strerror(errno));
    fputs("{", file);
    put_text(file, "device", report->device);
    fputs(", \"yardsticks\": [\"", file);
    for (int i = 0; i < 2; i++) {
        for (const char *c = report->libraries[i]; *c != '\0'; c++)
            fputc(*c == '"' || *c == '\\' || (unsigned char)*c < 0x20 ? '\'' : *c, file);
        fputs(i == 0 ? "\", \"" : "\"], ", file);
    }
    fprintf(file, "\"copy_gb_per_s\": %.1f, \"bf16_tflop_per_s\": %.1f, \"cases\": [",
            report->ceiling.bytes * 1e-9, report->ceiling.operations * 1e-12);
    for (int i = 0; i < report->count; i++) {
        fputs(i == 0 ? "\n" : ",\n", file);
        put_outcome(file, report, &report->outcomes[i]);
    }
    fputs("\n]}\n", file);
    bool written = !ferror(file);
    written = fclose(file) == 0 && written;
    if (!written || rename(aside, report->path) != 0)
        return gp_fail(status, "%s: %s", report->path, strerror(errno));
    return true;
}

bool gp_report_add(gp_report *report, const gp_outcome *outcome, gp_status *status) {
    if (report->count == report->capacity) {
        int capacity = report->capacity == 0 ? 64 : 2 * report->capacity;
        gp_outcome *grown = gp_grow(report->outcomes, (size_t)report->count * sizeof *grown,
                                    (size_t)capacity * sizeof *grown);
        if (grown == NULL) return gp_fail(status, "no memory for %d results", capacity);
        report->outcomes = grown;
        report->capacity = capacity;
    }
    report->outcomes[report->count++] = *outcome;
    print_line(report, outcome);
    return write_json(report, status);
}

int gp_report_failures(const gp_report *report) {
    int failures = 0;
    for (int i = 0; i < report->count; i++)
        failures += !report->outcomes[i].right || !report->outcomes[i].timed;
    return failures;
}

void gp_report_free(gp_report *report) {
    gp_free(report->outcomes);
    report->outcomes = NULL;
    report->count = report->capacity = 0;
}
