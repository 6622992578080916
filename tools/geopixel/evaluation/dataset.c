#include "tools/geopixel/evaluation/dataset.h"

#include "kernels/base/memory.h"

gp_sample *gp_dataset_add(gp_dataset *dataset, gp_status *status) {
    if (dataset->count == dataset->capacity) {
        size_t larger = dataset->capacity > 0 ? 2 * dataset->capacity : 64;
        gp_sample *grown = gp_grow(dataset->samples, dataset->count * sizeof *grown, larger * sizeof *grown);
        if (grown == NULL) {
            gp_fail(status, "%s: no memory for %zu samples", dataset->path, larger);
            return NULL;
        }
        dataset->samples = grown;
        dataset->capacity = larger;
    }
    gp_sample *sample = &dataset->samples[dataset->count++];
    *sample = (gp_sample){0};
    return sample;
}

void gp_dataset_free(gp_dataset *dataset) {
    for (size_t i = 0; i < dataset->count; i++) {
        gp_sample *sample = &dataset->samples[i];
        for (size_t k = 0; k < sample->target_count; k++) {
            gp_free(sample->targets[k].phrase);
            json_decref(sample->targets[k].mask);
        }
        gp_free(sample->targets);
        gp_free(sample->id);
        gp_free(sample->image);
        gp_free(sample->prompt);
        gp_free(sample->text);
    }
    gp_free(dataset->samples);
    gp_free(dataset->path);
    *dataset = (gp_dataset){0};
}
