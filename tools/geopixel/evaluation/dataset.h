/** What is evaluated: pictures or questions with the text and the masks that are right. Two formats are read
 * into one form: GeoPixelD's JSON and RRSIS-D's folder. */
#pragma once

#include "kernels/base/status.h"
#include "tools/geopixel/outputs/rle.h"

#include <jansson.h>

/** One phrase and its mask. */
typedef struct gp_target {
    char *phrase;
    json_t *mask; /* as the file has it: COCO run lengths {size, counts}, or a list of rings */
    int objects;  /* that the mask covers */
} gp_target;

typedef struct gp_sample {
    char *id;           /* unique in the set */
    char *image;        /* path */
    char *prompt;       /* what the model is asked */
    char *text;         /* the right answer with its tags; of RRSIS-D the expression */
    int width, height;  /* of the picture; 0: the file does not say */
    gp_target *targets; /* in the order of the text's [SEG]s */
    size_t target_count;
} gp_sample;

/** Owned; free with gp_dataset_free. */
typedef struct gp_dataset {
    char *path;
    gp_sample *samples;
    size_t count, capacity;
} gp_dataset;

/** GeoPixelD: a list of {id, conversations, image, polygons or segmentation}. Paths in it are looked for in
 * `images` (NULL: the file's own folder). A text whose [SEG]s are not as many as its masks is refused. */
bool gp_geopixeld_read(const char *path, const char *images, gp_dataset *dataset, gp_status *status);

/** RRSIS-D: `folder` holds instances.json and refs(unc).p; of them the references of `split` ("val", "test"
 * …), one sample a sentence. Pictures are looked for in `images` (NULL: folder/../images/rrsisd/JPEGImages,
 * as published, or folder/JPEGImages). */
bool gp_rrsisd_read(const char *folder, const char *split, const char *images, gp_dataset *dataset,
                    gp_status *status);

/** Room for one more sample, zeroed; NULL when memory is out. */
gp_sample *gp_dataset_add(gp_dataset *dataset, gp_status *status);

/** The target's mask at the picture's size. Fails where the file's mask has another, or is malformed. */
bool gp_target_mask(const gp_dataset *dataset, const gp_sample *sample, size_t target, int width, int height,
                    gp_rle *mask, gp_status *status);

void gp_dataset_free(gp_dataset *dataset);
