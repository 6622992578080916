#include "tools/geopixel/evaluation/figures.h"

#include "kernels/base/memory.h"
#include "tools/geopixel/evaluation/caption_scores.h"
#include "tools/geopixel/evaluation/matching.h"
#include "tools/geopixel/interrupt.h"

#include <math.h>
#include <string.h>

static const double TRUE_OVERLAP = 0.5, TRUE_SIMILARITY = 0.5;

/** One picture's masks and how they overlap. */
typedef struct picture {
    const gp_sample *sample;
    const json_t *prediction;
    gp_rle *predicted, *right;
    size_t predicted_count, right_count;
    double *overlaps; /* [predicted, right] */
    bool *counted;    /* [right] */
    gp_pair *pairs;
} picture;

/** What a kind of right masks adds up to. */
typedef struct tally {
    gp_precision precision;
    size_t images, masks, hits;
    double sum; /* of the pictures' mean overlaps */
} tally;

static bool open_picture(const gp_dataset *dataset, const gp_predictions *predictions, size_t sample,
                         picture *p, gp_status *status);
static void close_picture(picture *p);

/* ---- grounded conversation ---- */

static const char *predicted_phrase(const picture *p, size_t mask) {
    const char *phrase = json_string_value(json_array_get(json_object_get(p->prediction, "phrases"), mask));
    return phrase != NULL ? phrase : "";
}

/** Adds the picture's `counted` masks to the tally, and gives their mean overlap and hits. */
static bool tally_picture(tally *t, picture *p, gp_similarity *similarity, double *mean, size_t *hits,
                          gp_status *status) {
    size_t count = gp_pairs(p->overlaps, p->predicted_count, p->right_count, p->counted, p->pairs), masks = 0;
    double sum = 0;
    *hits = 0;
    if (count == SIZE_MAX ||
        !gp_precision_add(&t->precision, p->overlaps, p->predicted_count, p->right_count, p->counted))
        return gp_fail(status, "no memory for a picture's masks");
    for (size_t j = 0; j < p->right_count; j++) masks += p->counted[j];
    for (size_t i = 0; i < count; i++) {
        const gp_pair *pair = &p->pairs[i];
        double alike = 0;
        sum += pair->overlap;
        if (pair->overlap < TRUE_OVERLAP) continue;
        if (!gp_similarity_of(similarity, predicted_phrase(p, pair->predicted),
                              p->sample->targets[pair->right].phrase, &alike, status))
            return false;
        *hits += alike >= TRUE_SIMILARITY;
    }
    *mean = count > 0 ? sum / (double)count : 0;
    if (masks == 0) return true;
    t->images++;
    t->masks += masks;
    t->hits += *hits;
    t->sum += *mean;
    return true;
}

static gp_mask_figures figures_of(const tally *t) {
    if (t->masks == 0) return (gp_mask_figures){.ap50 = -1, .miou = -1, .recall = -1};
    return (gp_mask_figures){.images = t->images,
                             .masks = t->masks,
                             .ap50 = gp_precision_average(&t->precision),
                             .miou = t->sum / (double)t->images,
                             .recall = (double)t->hits / (double)t->masks};
}

/** Where the sample's picture belongs; NULL: it has no masks. */
static gp_picture_figures *figures_for(gp_gcg_figures *figures, const gp_sample *sample) {
    size_t uni = 0;
    for (size_t j = 0; j < sample->target_count; j++) uni += sample->targets[j].objects == 1;
    if (sample->target_count == 0) return NULL;
    return &figures->kinds[uni == sample->target_count ? GP_INSTANCES_ONLY
                           : uni == 0                  ? GP_SEMANTIC_ONLY
                                                       : GP_MIXED];
}

static bool tally_kinds(tally tallies[3], gp_gcg_figures *figures, picture *p, gp_similarity *similarity,
                        gp_status *status) {
    gp_picture_figures *f = figures_for(figures, p->sample);
    size_t hits = 0;
    double mean = 0;
    for (int kind = 0; kind < 3; kind++) { /* uni-target, multi-target, all */
        for (size_t j = 0; j < p->right_count; j++)
            p->counted[j] = kind == 2 || (p->sample->targets[j].objects > 1) == (kind == 1);
        if (!tally_picture(&tallies[kind], p, similarity, &mean, &hits, status)) return false;
    }
    if (f == NULL) return true;
    for (size_t j = 0; j < p->right_count; j++) f->objects += (size_t)p->sample->targets[j].objects;
    f->images++;
    f->phrases += p->right_count;
    f->miou += mean;
    f->recall += (double)hits;
    return true;
}

/** Of UTF-8: the bytes that do not go on with another's. */
static size_t characters_of(const char *text) {
    size_t count = 0;
    for (; *text != '\0'; text++) count += ((unsigned char)*text & 0xC0) != 0x80;
    return count;
}

/** The picture's two captions as words. */
static bool take_captions(const picture *p, gp_vocabulary *vocabulary, gp_words *said, gp_words *meant,
                          gp_picture_figures *f, gp_status *status) {
    char *captions[] = {gp_caption(json_string_value(json_object_get(p->prediction, "text"))),
                        gp_caption(p->sample->text)};
    bool done = captions[0] != NULL && captions[1] != NULL;
    if (!done) gp_fail(status, "no memory for a caption");
    done = done && gp_words_split(vocabulary, captions[0], said, status) &&
           gp_words_split(vocabulary, captions[1], meant, status);
    if (done && f != NULL) f->characters += (double)characters_of(captions[1]);
    gp_free(captions[0]);
    gp_free(captions[1]);
    return done;
}

bool gp_evaluate_gcg(const gp_dataset *dataset, const gp_predictions *predictions, gp_similarity *similarity,
                     gp_gcg_figures *figures, gp_status *status) {
    tally tallies[3] = {0};
    gp_vocabulary vocabulary = {0};
    gp_words *said = gp_allocate_zeroed(dataset->count + 1, sizeof *said),
             *meant = gp_allocate_zeroed(dataset->count + 1, sizeof *meant);
    bool done = said != NULL && meant != NULL;
    *figures = (gp_gcg_figures){.images = dataset->count};
    if (!done) gp_fail(status, "no memory for %zu captions", dataset->count);
    for (size_t i = 0; done && i < dataset->count; i++) {
        picture p = {0};
        done = !gp_interrupted() && open_picture(dataset, predictions, i, &p, status) &&
               tally_kinds(tallies, figures, &p, similarity, status) &&
               take_captions(&p, &vocabulary, &said[i], &meant[i], figures_for(figures, p.sample), status);
        close_picture(&p);
    }
    if (done) {
        figures->uni = figures_of(&tallies[0]);
        figures->multi = figures_of(&tallies[1]);
        figures->overall = figures_of(&tallies[2]);
        figures->cider = gp_cider(said, meant, dataset->count);
        figures->meteor = gp_meteor_exact_and_stem(&vocabulary, said, meant, dataset->count);
        for (int kind = 0; kind < GP_PICTURE_KINDS; kind++) {
            gp_picture_figures *f = &figures->kinds[kind];
            f->characters = f->images > 0 ? f->characters / (double)f->images : -1;
            f->miou = f->images > 0 ? f->miou / (double)f->images : -1;
            f->recall = f->phrases > 0 ? f->recall / (double)f->phrases : -1;
        }
        if (isnan(figures->cider) || isnan(figures->meteor) || isnan(figures->overall.ap50) ||
            isnan(figures->uni.ap50) || isnan(figures->multi.ap50))
            done = gp_fail(status, "no memory for the figures");
    }
    for (size_t i = 0; said != NULL && meant != NULL && i < dataset->count; i++) {
        gp_free(said[i].numbers);
        gp_free(meant[i].numbers);
    }
    for (int kind = 0; kind < 3; kind++) gp_precision_free(&tallies[kind].precision);
    gp_free(said);
    gp_free(meant);
    gp_vocabulary_free(&vocabulary);
    return done;
}

/* ---- referring segmentation ---- */

bool gp_evaluate_refseg(const gp_dataset *dataset, const gp_predictions *predictions,
                        gp_refseg_figures *figures, gp_status *status) {
    double common = 0, either = 0, count = (double)dataset->count;
    *figures = (gp_refseg_figures){.questions = dataset->count};
    for (size_t i = 0; i < dataset->count; i++) {
        picture p = {0};
        bool done = !gp_interrupted() && open_picture(dataset, predictions, i, &p, status);
        if (done && p.right_count == 0)
            done = gp_fail(status, "%s: sample %s has no mask", dataset->path, dataset->samples[i].id);
        if (done) {
            double right = (double)gp_rle_area(&p.right[0]), predicted = 0, both = 0;
            figures->without_mask += p.predicted_count == 0;
            if (p.predicted_count > 0) {
                predicted = (double)gp_rle_area(&p.predicted[0]);
                both = (double)gp_rle_common(&p.predicted[0], &p.right[0]);
            }
            double overlap = right + predicted > 0 ? both / (right + predicted - both) : 0;
            for (int k = 0; k < GP_PRECISIONS; k++) figures->precision[k] += overlap >= (5 + k) / 10.0;
            figures->miou += overlap;
            common += both;
            either += right + predicted - both;
        }
        close_picture(&p);
        if (!done) return false;
    }
    for (int k = 0; k < GP_PRECISIONS; k++) figures->precision[k] /= count;
    figures->miou /= count;
    figures->overall_iou = either > 0 ? common / either : 0;
    return true;
}

/* ---- a picture ---- */

static bool predicted_masks(const gp_predictions *predictions, picture *p, int width, int height,
                            gp_status *status) {
    const json_t *masks = json_object_get(p->prediction, "masks");
    for (size_t i = 0; i < json_array_size(masks); i++) {
        const json_t *mask = json_array_get(masks, i), *size = json_object_get(mask, "size");
        const char *counts = json_string_value(json_object_get(mask, "counts"));
        gp_status inner = {0};
        bool done = counts != NULL || gp_fail(&inner, "no counts");
        if (done && (json_integer_value(json_array_get(size, 0)) != height ||
                     json_integer_value(json_array_get(size, 1)) != width))
            done = gp_fail(&inner, "not of the size [%d, %d] that the prediction states", height, width);
        done = done && gp_rle_parse(counts, width, height, &p->predicted[i], &inner);
        if (!done)
            gp_fail(status, "%s: id %s: mask %zu: %s", predictions->path, p->sample->id, i, inner.message);
        gp_status_clear(&inner);
        if (!done) return false;
        p->predicted_count++;
    }
    return true;
}

static bool open_picture(const gp_dataset *dataset, const gp_predictions *predictions, size_t sample,
                         picture *p, gp_status *status) {
    p->sample = &dataset->samples[sample];
    p->prediction = gp_predictions_find(predictions, p->sample->id);
    if (p->prediction == NULL)
        return gp_fail(status, "%s: no prediction for id %s", predictions->path, p->sample->id);
    const json_t *size = json_object_get(p->prediction, "size");
    const int height = (int)json_integer_value(json_array_get(size, 0)),
              width = (int)json_integer_value(json_array_get(size, 1));
    const size_t most = json_array_size(json_object_get(p->prediction, "masks")),
                 right = p->sample->target_count;
    if (p->sample->width > 0 && (p->sample->width != width || p->sample->height != height))
        return gp_fail(status, "%s: id %s: of a picture of [%d, %d]; the data say [%d, %d]",
                       predictions->path, p->sample->id, height, width, p->sample->height, p->sample->width);
    p->predicted = gp_allocate_zeroed(most + 1, sizeof *p->predicted);
    p->right = gp_allocate_zeroed(right + 1, sizeof *p->right);
    p->overlaps = gp_allocate_zeroed(most * right + 1, sizeof *p->overlaps);
    p->counted = gp_allocate_zeroed(right + 1, sizeof *p->counted);
    p->pairs = gp_allocate_zeroed((most < right ? most : right) + 1, sizeof *p->pairs);
    if (p->predicted == NULL || p->right == NULL || p->overlaps == NULL || p->counted == NULL ||
        p->pairs == NULL)
        return gp_fail(status, "no memory for the masks of %s", p->sample->id);
    if (!predicted_masks(predictions, p, width, height, status)) return false;
    for (; p->right_count < right; p->right_count++)
        if (!gp_target_mask(dataset, p->sample, p->right_count, width, height, &p->right[p->right_count],
                            status))
            return false;
    gp_overlaps(p->predicted, p->predicted_count, p->right, p->right_count, p->overlaps);
    return true;
}

static void close_picture(picture *p) {
    for (size_t i = 0; i < p->predicted_count; i++) gp_rle_free(&p->predicted[i]);
    for (size_t i = 0; i < p->right_count; i++) gp_rle_free(&p->right[i]);
    gp_free(p->predicted);
    gp_free(p->right);
    gp_free(p->overlaps);
    gp_free(p->counted);
    gp_free(p->pairs);
}
