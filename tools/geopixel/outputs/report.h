/** The answer as JSON, and the numbers that -v prints. */
#pragma once

#include "kernels/base/status.h"
#include "tools/geopixel/answer.h"

#include <stdio.h>

/** What was asked, for the report; `device` is NULL where no model was needed. */
typedef struct gp_report_context {
    const char *image, *model, *device, *prompt;
    int width, height;
} gp_report_context;

/** Writes the JSON document; `path` stands in messages. */
bool gp_report_json(FILE *stream, const gp_answer *answer, const gp_report_context *context, const char *path,
                    gp_status *status);

/** Memory by plan beside what the system saw, and seconds a stage, on standard error. */
void gp_report_numbers(const gp_answer *answer, const gp_report_context *context);
