/** Answers to a set's questions in a file, one JSON object a line, so that an evaluation that was stopped
 * goes on where it was:
 * {"id", "size": [height, width], "text", "phrases": [text or null], "masks": [{"size", "counts"}]}, and,
 * where this program wrote it, "model" and "crops". A JSON list of such objects is read too. */
#pragma once

#include "kernels/base/status.h"

#include <jansson.h>

typedef struct gp_predictions {
    char *path;
    json_t *by_id;
    FILE *stream; /* where more are appended; NULL: nothing is */
} gp_predictions;

/**
 * Reads the file. Two answers to one id, or anything malformed, is refused by line. With `append`, a file
 * that is not there is made, a last line that was cut off (it has no end) is taken away, and others can be
 * added; without, the file must be there. Free with gp_predictions_close.
 */
bool gp_predictions_open(const char *path, bool append, gp_predictions *predictions, gp_status *status);

/** The answer to that question, or NULL. Borrowed. */
const json_t *gp_predictions_find(const gp_predictions *predictions, const char *id);

/** Takes the object over, and writes it behind the others, complete before this returns. */
bool gp_predictions_add(gp_predictions *predictions, json_t *prediction, gp_status *status);

/** Whether all that name a model and crops name these; else fails and says how they differ. */
bool gp_predictions_agree(const gp_predictions *predictions, const char *model, int crops, gp_status *status);

void gp_predictions_close(gp_predictions *predictions);
