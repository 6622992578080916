/** The expected numbers of a case's stages, and the errors of what was observed against them. */
#pragma once

#include "loaders/weights/checkpoint.h"

#include <stddef.h>
#include <stdint.h>

enum { STAGES_MAX = 64 };

/** One stage of stages.safetensors. */
typedef struct stage {
    const char *name;
    const float *want;   /* [rows, columns] */
    const int32_t *rows; /* which rows of the stage they are; NULL: all, in order */
    int64_t row_count, columns;
    double difference, norm; /* Σ (have − want)², Σ want² over the rows seen */
    int64_t seen;
} stage;

typedef struct stages {
    gp_checkpoint *file;
    stage list[STAGES_MAX];
    int count;
} stages;

/** Opens stages.safetensors; fails naming what is wrong with it. */
bool stages_open(stages *out, const char *path, gp_status *status);
void stages_close(stages *all);

/** Compares observed rows first_row … of a stage with those that the file has. Stages that it has not are
 * passed over. */
void stages_observe(stages *all, const char *name, const float *rows, int64_t first_row, int64_t row_count,
                    int64_t columns);

/** Relative L2 error of a stage; infinity when rows are missing. */
double stage_error(const stage *one);
