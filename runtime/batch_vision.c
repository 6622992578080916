/** Pictures of several requests through the vision encoder. */
#include "runtime/batch.h"

static void look_at(const gp_run *run, gp_request_state **requests, const int *views, int count, int total);
static void finish(gp_request_state *s);

void gp_batch_look(const gp_run *run, gp_request_state *const *requests, int count) {
    gp_request_state *taking[GP_VISION_PICTURES];
    const int most = GP_VIEW_BATCH * run->model->language.split.size;
    int views[GP_VISION_PICTURES], total = 0, taken = 0;
    for (; taken < count && total < most; taken++) {
        const gp_vision_picture *picture = &requests[taken]->picture;
        int left = gp_vision_views(picture->rows, picture->columns) - picture->encoded;
        taking[taken] = requests[taken];
        views[taken] = left < most - total ? left : most - total;
        total += views[taken];
    }
    look_at(run, taking, views, taken, total);
}

/** The next views of each, `total` in all. */
static void look_at(const gp_run *run, gp_request_state **requests, const int *views, int count, int total) {
    const gp_vision *vision = &run->model->vision;
    gp_backend *backend = run->model->backend;
    gp_vision_picture *pictures[GP_VISION_PICTURES];
    gp_vision_buffers buffers;
    gp_arena measure = {0};
    const int ranks = run->model->language.split.size;
    gp_vision_layout(vision, backend, total, ranks, &measure, &buffers);
    if (!gp_run_use_stage(run, measure.peak, requests, count)) return;
    gp_vision_layout(vision, backend, total, ranks, run->stage, &buffers);
    if (run->ranks != NULL) gp_ranks_look(run->ranks, total);
    for (int i = 0; i < count; i++) pictures[i] = &requests[i]->picture;
    gp_vision_encode(vision, backend, pictures, views, count, &buffers, run->observer);
    if (!gp_run_ranks_there(run, requests, count)) return;
    for (int i = 0; i < count; i++) {
        gp_request_state *s = requests[i];
        int all = gp_vision_views(s->picture.rows, s->picture.columns);
        if (!gp_request_step(s, s->picture.encoded, all))
            gp_request_stop(s, GP_OUTCOME_CANCELLED);
        else if (s->picture.encoded == all)
            finish(s);
    }
}

/** Image tokens of a picture whose views are through, in the place of their features. */
static void finish(gp_request_state *s) {
    const gp_vision *vision = &s->model->vision;
    gp_vision_merge_buffers buffers;
    gp_arena measure = {0};
    gp_vision_layout_merge(vision, s->backend, s->division.image_tokens, &measure, &buffers);
    if (!gp_run_use_stage(s->run, measure.peak, &s, 1)) return;
    gp_vision_layout_merge(vision, s->backend, s->division.image_tokens, s->run->stage, &buffers);
    gp_vision_merge(vision, s->backend, &s->picture, &buffers, s->run->observer, s->keep->seen.image_tokens);
    s->keep->tokens_known = true;
    gp_request_begin(s, GP_STAGE_PREFILL);
    s->phase = GP_PHASE_PREFILL;
}
