#include "bench/kernels/list.h"

#include "bench/kernels/report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const char *const gp_list_gpus = "h200|h100|a100";

static const struct {
    const char *word, *name, *source;
    gp_ceiling ceiling;
} gpus[] = {
    {"h200",
     "NVIDIA H200",
     "measured on one, PyTorch: 8192³ bf16 on random data, a copy of 8.6 GB",
     {790e12, 4.3e12}},
    {"h100",
     "NVIDIA H100 80GB HBM3",
     "measured on one, PyTorch: 8192³ bf16 on random data, a copy",
     {798e12, 3.0e12}},
    {"a100", "NVIDIA A100 80GB", "by its datasheet, not measured", {312e12, 2.0e12}},
};

bool gp_list(int gpu, const char *only) {
    const gp_ceiling *ceiling = &gpus[gpu].ceiling;
    bool consistent = true;
    printf("# Least time of every kernel by arithmetic: %s\n", gpus[gpu].name);
    printf("%.0f TFLOP/s of bf16 products, %.1f TB/s of memory (%s). The larger of operations and bytes over "
           "these: a floor, and nothing that was measured on our kernels. Made by `kernels --list --gpu "
           "%s`.\n\n",
           ceiling->operations * 1e-12, ceiling->bytes * 1e-12, gpus[gpu].source, gpus[gpu].word);
    printf("| kernel | size | GFLOP | MB | bound by | µs at least |\n|---|---|---|---|---|---|\n");
    for (int i = 0; i < gp_family_count; i++)
        for (int index = 0; index < gp_families[i]->count; index++) {
            gp_case one = {gp_families[i], index, false};
            gp_cost cost = {.name = ""};
            one.family->cost(&one, &cost);
            if (only != NULL && strstr(cost.name, only) == NULL) continue;
            double floor = gp_floor_seconds(&cost, ceiling);
            if (!(cost.operations > 0 && cost.bytes > 0 && isfinite(floor) && floor > 0)) {
                fprintf(stderr, "%s, %s: %g operations and %g bytes are no cost\n", cost.name, cost.size,
                        cost.operations, cost.bytes);
                consistent = false;
            }
            bool products =
                cost.matrix && cost.operations / ceiling->operations > cost.bytes / ceiling->bytes;
            printf("| %s | %s | %.4g | %.4g | %s | %.2f |\n", cost.name, cost.size, cost.operations * 1e-9,
                   cost.bytes * 1e-6, products ? "products" : "bytes", floor * 1e6);
        }
    return consistent;
}
