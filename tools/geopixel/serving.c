#include "tools/geopixel/serving.h"

#include "kernels/base/status.h"
#include "tools/geopixel/exit_codes.h"

#include <stdio.h>

bool gp_served_rank(const gp_engine_options *options, int *code) {
    gp_status status = {0};
    bool served = false, done = gp_serve_rank(options, &served, &status);
    if (!done) fprintf(stderr, "geopixel: %s\n", gp_failed(&status) ? status.message : "failed");
    if (!done || served) *code = done ? GP_EXIT_DONE : GP_EXIT_ERROR;
    gp_status_clear(&status);
    return !done || served;
}
