/** The paper's figures of a set of answers. A signal (interrupt.h) ends an evaluation, which then fails
 * without a reason. */
#pragma once

#include "tools/geopixel/evaluation/dataset.h"
#include "tools/geopixel/evaluation/predictions.h"
#include "tools/geopixel/evaluation/similarity.h"

/** Of the right masks of one kind, against all predicted masks. Shares are 0 … 1; where there is no such
 * mask, −1. */
typedef struct gp_mask_figures {
    size_t images, masks; /* pictures that have such masks; these */
    double ap50, miou, recall;
} gp_mask_figures;

/** Pictures by what their masks cover: one object each, several each, or both. */
typedef enum gp_picture_kind {
    GP_INSTANCES_ONLY,
    GP_SEMANTIC_ONLY,
    GP_MIXED,
    GP_PICTURE_KINDS
} gp_picture_kind;

typedef struct gp_picture_figures {
    size_t images, objects, phrases;
    double characters; /* of the mean right caption */
    double miou, recall;
} gp_picture_figures;

typedef struct gp_gcg_figures {
    size_t images;
    double cider,
        meteor; /* CIDEr as published, without × 100; METEOR with exact and stem matches alone, 0 … 1 */
    gp_mask_figures uni, multi, overall;
    gp_picture_figures kinds[GP_PICTURE_KINDS];
} gp_gcg_figures;

enum { GP_PRECISIONS = 5 };

typedef struct gp_refseg_figures {
    size_t questions, without_mask;
    double precision[GP_PRECISIONS]; /* at IoU 0.5, 0.6 … 0.9 */
    double overall_iou, miou;
} gp_refseg_figures;

/** Grounded conversation: every sample must have its prediction. */
bool gp_evaluate_gcg(const gp_dataset *dataset, const gp_predictions *predictions, gp_similarity *similarity,
                     gp_gcg_figures *figures, gp_status *status);

/** Referring segmentation: the first predicted mask of each answer; none is an empty one. */
bool gp_evaluate_refseg(const gp_dataset *dataset, const gp_predictions *predictions,
                        gp_refseg_figures *figures, gp_status *status);
