#include "tools/geopixel/evaluation/tables.h"

static const char *const kind_names[GP_PICTURE_KINDS] = {"instances only", "semantic only", "mixed"};

/** A share in percent, or a dash. */
static void print_share(FILE *to, double share) {
    if (share < 0)
        fprintf(to, "  %6s", "-");
    else
        fprintf(to, "  %6.1f", 100 * share);
}

static void print_masks(FILE *to, const char *name, const gp_mask_figures *f) {
    fprintf(to, "%-14s  %8zu  %7zu", name, f->images, f->masks);
    print_share(to, f->ap50);
    print_share(to, f->miou);
    print_share(to, f->recall);
    fputc('\n', to);
}

void gp_print_gcg(FILE *to, const gp_gcg_figures *figures, const char *similarity) {
    fprintf(
        to,
        "grounded conversation, %zu pictures\nCIDEr %.1f   METEOR, exact and stem matches alone, %.1f\n\n",
        figures->images, 100 * figures->cider, 100 * figures->meteor);
    fprintf(to, "%-14s  %8s  %7s  %6s  %6s  %6s\n", "masks", "pictures", "masks", "AP50", "mIoU", "recall");
    print_masks(to, "uni-target", &figures->uni);
    print_masks(to, "multi-target", &figures->multi);
    print_masks(to, "overall", &figures->overall);
    fprintf(to, "\n%-14s  %8s  %7s  %7s  %10s  %6s  %6s\n", "pictures with", "pictures", "objects", "phrases",
            "characters", "mIoU", "recall");
    for (int kind = 0; kind < GP_PICTURE_KINDS; kind++) {
        const gp_picture_figures *f = &figures->kinds[kind];
        fprintf(to, "%-14s  %8zu  %7zu  %7zu", kind_names[kind], f->images, f->objects, f->phrases);
        if (f->images > 0)
            fprintf(to, "  %10.0f", f->characters);
        else
            fprintf(to, "  %10s", "-");
        print_share(to, f->miou);
        print_share(to, f->recall);
        fputc('\n', to);
    }
    fprintf(to, "\nrecall: IoU and likeness of the phrases (%s) at least 0.5\n", similarity);
}

void gp_print_refseg(FILE *to, const gp_refseg_figures *figures) {
    fprintf(to, "referring segmentation, %zu questions, %zu answered without a mask\n\n", figures->questions,
            figures->without_mask);
    fprintf(to, "  P@0.5   P@0.6   P@0.7   P@0.8   P@0.9    oIoU    mIoU\n");
    for (int k = 0; k < GP_PRECISIONS; k++)
        fprintf(to, "%s%6.1f", k > 0 ? "  " : " ", 100 * figures->precision[k]);
    fprintf(to, "  %6.1f  %6.1f\n", 100 * figures->overall_iou, 100 * figures->miou);
}

static json_t *share_json(double share) {
    return share < 0 ? json_null() : json_real(share);
}

static json_t *masks_json(const gp_mask_figures *f) {
    return json_pack("{s:I,s:I,s:o,s:o,s:o}", "pictures", (json_int_t)f->images, "masks",
                     (json_int_t)f->masks, "AP50", share_json(f->ap50), "mIoU", share_json(f->miou), "recall",
                     share_json(f->recall));
}

json_t *gp_gcg_json(const gp_gcg_figures *figures, const char *similarity) {
    json_t *kinds = json_object();
    for (int kind = 0; kind < GP_PICTURE_KINDS; kind++) {
        const gp_picture_figures *f = &figures->kinds[kind];
        json_object_set_new(kinds, kind_names[kind],
                            json_pack("{s:I,s:I,s:I,s:o,s:o,s:o}", "pictures", (json_int_t)f->images,
                                      "objects", (json_int_t)f->objects, "phrases", (json_int_t)f->phrases,
                                      "characters", share_json(f->characters), "mIoU", share_json(f->miou),
                                      "recall", share_json(f->recall)));
    }
    return json_pack("{s:s,s:I,s:f,s:f,s:o,s:o,s:o,s:o,s:s}", "task", "gcg", "pictures",
                     (json_int_t)figures->images, "CIDEr", figures->cider, "METEOR, exact and stem",
                     figures->meteor, "uni-target", masks_json(&figures->uni), "multi-target",
                     masks_json(&figures->multi), "overall", masks_json(&figures->overall),
                     "pictures by masks", kinds, "phrase likeness", similarity);
}

json_t *gp_refseg_json(const gp_refseg_figures *figures) {
    json_t *root =
        json_pack("{s:s,s:I,s:I,s:f,s:f}", "task", "refseg", "questions", (json_int_t)figures->questions,
                  "without mask", (json_int_t)figures->without_mask, "oIoU", figures->overall_iou, "mIoU",
                  figures->miou);
    for (int k = 0; k < GP_PRECISIONS; k++) {
        char name[8];
        snprintf(name, sizeof name, "P@0.%d", 5 + k);
        json_object_set_new(root, name, json_real(figures->precision[k]));
    }
    return root;
}
