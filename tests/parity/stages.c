#include "tests/parity/stages.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static stage *find(stages *all, const char *name) {
    for (int i = 0; i < all->count; i++)
        if (strcmp(all->list[i].name, name) == 0) return &all->list[i];
    return NULL;
}

bool stages_open(stages *out, const char *path, gp_status *status) {
    *out = (stages){0};
    if (!gp_checkpoint_open_file(path, &out->file, status)) return false;
    for (size_t i = 0; i < gp_checkpoint_count(out->file); i++) {
        const gp_tensor *tensor = gp_checkpoint_tensor(out->file, i), *rows;
        char rows_name[300];
        size_t length = strlen(tensor->name);
        if (length > 5 && strcmp(tensor->name + length - 5, ".rows") == 0) continue;
        if (tensor->dtype != GP_DTYPE_F32 || tensor->rank < 1 || tensor->count == 0) continue;
        if (out->count == STAGES_MAX) return gp_fail(status, "%s: more than %d stages", path, STAGES_MAX);
        stage *one = &out->list[out->count++];
        *one = (stage){.name = tensor->name, .columns = tensor->shape[tensor->rank - 1]};
        one->row_count = tensor->count / one->columns;
        one->want = gp_checkpoint_read(out->file, tensor, status);
        snprintf(rows_name, sizeof rows_name, "%s.rows", tensor->name);
        rows = gp_checkpoint_find(out->file, rows_name);
        if (rows != NULL && (rows->dtype != GP_DTYPE_I32 || rows->count != one->row_count))
            return gp_fail(status, "%s: %s: %lld rows are named, %lld are there", path, rows_name,
                           (long long)rows->count, (long long)one->row_count);
        if (rows != NULL) one->rows = gp_checkpoint_read(out->file, rows, status);
        if (one->want == NULL || (rows != NULL && one->rows == NULL)) return false;
    }
    return true;
}

void stages_close(stages *all) {
    gp_checkpoint_close(all->file);
    *all = (stages){0};
}

void stages_observe(stages *all, const char *name, const float *rows, int64_t first_row, int64_t row_count,
                    int64_t columns) {
    stage *one = find(all, name);
    if (one == NULL) return;
    for (int64_t i = 0; i < one->row_count; i++) {
        int64_t row = one->rows != NULL ? one->rows[i] : i;
        if (row < first_row || row >= first_row + row_count || columns != one->columns) continue;
        const float *have = rows + (row - first_row) * columns, *want = one->want + i * columns;
        for (int64_t c = 0; c < columns; c++) {
            double difference = (double)have[c] - (double)want[c];
            one->difference += difference * difference;
            one->norm += (double)want[c] * (double)want[c];
        }
        one->seen++;
    }
}

double stage_error(const stage *one) {
    if (one->seen != one->row_count || isnan(one->difference)) return INFINITY;
    if (one->norm > 0) return sqrt(one->difference / one->norm);
    return one->difference > 0 ? INFINITY : 0;
}
