/** What follows the texts of several requests: phrases, the grounding encoder, masks. */
#include "kernels/base/memory.h"
#include "runtime/answer.h"
#include "runtime/batch.h"

#include <string.h>

/** A request's part of a pass through the mask decoder. */
typedef struct part {
    gp_request_state *request;
    int masks;
} part;

static void end_text(gp_request_state *s);
static void observe_view(gp_request_state *s);
static bool grounds_beside(const gp_run *run);
static void find_phrases(gp_request_state *s);
static bool begin_masks(gp_request_state *s);
static void wait_for_maps(const gp_run *run, const part *parts, int count);
static void decode(const gp_run *run, const part *parts, int count, int masks);
static void draw_mask(gp_request_state *s, const gp_mask_buffers *buffers, int in_batch, int index);

void gp_batch_draw(const gp_run *run, gp_request_state *const *requests, int count) {
    part parts[GP_MASK_BATCH];
    int taken = 0, masks = 0;
    for (int i = 0; i < count; i++)
        if (!requests[i]->ended) end_text(requests[i]);
    if (!grounds_beside(run)) gp_batch_ground(run, requests, count);
    for (int i = 0; i < count && masks < GP_MASK_BATCH; i++) {
        gp_request_state *s = requests[i];
        if (s->phase != GP_PHASE_MASKS || !s->keep->maps_known || !begin_masks(s)) continue;
        int left = s->seg_count - s->drawn, room = GP_MASK_BATCH - masks;
        parts[taken] = (part){s, left < room ? left : room};
        masks += parts[taken++].masks;
    }
    if (taken == 0) return;
    wait_for_maps(run, parts, taken);
    decode(run, parts, taken, masks);
}

/* ---- texts ---- */

/** A step of the grounding encoder while the text goes on, whose own progress the caller is told then. */
static bool still_asked(void *user, int done, int total) {
    const gp_request_state *s = user;
    (void)done;
    (void)total;
    return !atomic_load(&s->question->cancelled);
}

static gp_grounding_picture picture_of(gp_request_state *s) {
    const gp_image *image = &s->options->image;
    return (gp_grounding_picture){.pixels = s->keep->seen.source,
                                  .width = image->width,
                                  .height = image->height,
                                  .stride = 3 * (size_t)image->width,
                                  .maps = &s->keep->seen.maps,
                                  .step = s->ended ? gp_request_step : still_asked,
                                  .user = s};
}

/** Without masks the grounding branch is not run, and the request is over: an observer sees its input alone.
 * Where it has run already, that is told now. */
static void end_text(gp_request_state *s) {
    const int blocks = s->model->grounding.block_count;
    s->ended = true;
    gp_request_begin(s, GP_STAGE_GROUNDING);
    find_phrases(s);
    if (s->seg_count == 0) {
        if (s->run->observer != NULL && !s->keep->maps_known) observe_view(s);
        if (s->phase != GP_PHASE_OVER) gp_request_stop(s, GP_OUTCOME_DONE);
    } else if (s->grounded && !gp_request_step(s, blocks, blocks)) {
        gp_request_stop(s, GP_OUTCOME_CANCELLED);
    }
}

/** The phrases of the whole text, with texts of their own. Out of memory, those that found room. */
static void find_phrases(gp_request_state *s) {
    const char *text = gp_text_stream_text(s->stream);
    if (s->seg_count == 0) return;
    s->phrases = gp_allocate_zeroed((size_t)s->seg_count, sizeof *s->phrases);
    if (s->phrases == NULL) return;
    size_t found = gp_find_phrases(text, s->phrases, (size_t)s->seg_count);
    if (found > (size_t)s->seg_count) found = (size_t)s->seg_count;
    for (; s->phrase_count < found; s->phrase_count++) {
        gp_phrase *phrase = &s->phrases[s->phrase_count];
        size_t length = phrase->byte_end - phrase->byte_begin;
        char *copy = gp_allocate(length + 1);
        if (copy == NULL) return;
        memcpy(copy, text + phrase->byte_begin, length);
        copy[length] = '\0';
        phrase->text = copy;
    }
}

/* ---- grounding ---- */

static bool grounds_beside(const gp_run *run) {
    return gp_plan_grounds_beside(run->model, run->model->backend);
}

/** Whether another one of the list has the same picture. */
static bool is_among(const gp_request_state *s, gp_request_state *const *requests, int count) {
    for (int i = 0; i < count; i++)
        if (requests[i]->keep == s->keep) return true;
    return false;
}

/**
 * Room for so many pictures of up to width × height, on the lane that the encoder runs on, after everything
 * that the main lane was given until now, the pictures' rows among it. False where the requests fail.
 */
static bool begin_grounding(const gp_run *run, int pictures, int width, int height,
                            gp_request_state *const *requests, int count, gp_grounding_buffers *buffers) {
    const gp_grounding *grounding = &run->model->grounding;
    gp_backend *backend = run->model->backend;
    const bool beside = grounds_beside(run);
    gp_arena measure = {0}, *arena = beside ? run->ground_stage : run->stage;
    gp_status status = {0};
    gp_grounding_layout(grounding, backend, pictures, width, height, &measure, buffers);
    bool done = beside ? gp_arena_renew(arena, backend, measure.peak, &status)
                       : gp_run_reserve_stage(run, measure.peak, &status);
    if (!done) gp_requests_fail(requests, count, &status);
    gp_status_clear(&status);
    if (!done) return false;
    gp_grounding_layout(grounding, backend, pictures, width, height, arena, buffers);
    if (!beside) return true;
    backend->ops->use_lane(backend, GP_LANE_GROUND);
    backend->ops->wait_for_lane(backend, GP_LANE_MAIN);
    return true;
}

static void end_grounding(const gp_run *run) {
    run->model->backend->ops->use_lane(run->model->backend, GP_LANE_MAIN);
}

static void observe_view(gp_request_state *s) {
    gp_grounding_picture picture = picture_of(s);
    gp_grounding_buffers buffers;
    if (!begin_grounding(s->run, s->run->groundings, picture.width, picture.height, &s, 1, &buffers)) return;
    gp_grounding_view(&s->model->grounding, s->backend, &picture, &buffers, buffers.pixels, s->run->observer);
    end_grounding(s->run);
}

/**
 * Pictures that have no maps, or none any more: a session forgets them where one of its requests fails. A
 * stage of its own, in a request whose text goes on, for its clock alone.
 *
 * What the lane works on stays as long as it does: the arena is its own and in order, and is released, where
 * it grows, after all lanes; a picture's rows and maps are the keep's, which other requests get, and a
 * session gives back, when those that had maps made are over; and nobody is over, cancelled or not, before
 * all lanes were waited for.
 */
void gp_batch_ground(const gp_run *run, gp_request_state *const *requests, int count) {
    gp_request_state *taking[GP_REQUESTS_MOST];
    gp_grounding_picture pictures[GP_REQUESTS_MOST];
    gp_grounding_buffers buffers;
    int taken = 0, width = 0, height = 0;
    for (int i = 0; i < count && taken < run->groundings; i++) {
        gp_request_state *s = requests[i];
        if (s->phase == GP_PHASE_OVER || s->keep->maps_known || is_among(s, taking, taken)) continue;
        pictures[taken] = picture_of(s);
        if (pictures[taken].width > width) width = pictures[taken].width;
        if (pictures[taken].height > height) height = pictures[taken].height;
        if (s->current != GP_STAGE_GROUNDING) gp_request_begin(s, GP_STAGE_GROUNDING);
        taking[taken++] = s;
    }
    if (taken == 0 || !begin_grounding(run, run->groundings, width, height, taking, taken, &buffers)) return;
    if (run->ranks != NULL) gp_ranks_ground(run->ranks, taken, width, height);
    gp_grounding_encode(&run->model->grounding, run->model->backend, pictures, taken, &buffers,
                        run->observer);
    end_grounding(run);
    if (!gp_run_ranks_there(run, taking, taken)) return;
    for (int i = 0; i < taken; i++) {
        gp_request_state *s = taking[i];
        s->keep->maps_known = pictures[i].encoded;
        s->keep->maps_under_way = grounds_beside(run);
        s->grounded = !s->ended;
        if (!pictures[i].encoded)
            gp_request_stop(s, GP_OUTCOME_CANCELLED);
        else if (!s->ended)
            gp_request_begin(s, GP_STAGE_DECODE);
    }
}

/* ---- masks ---- */

/** The first time, makes room for a mask; where there is none, the request fails. */
static bool begin_masks(gp_request_state *s) {
    const gp_image *image = &s->options->image;
    if (s->current != GP_STAGE_MASKS) gp_request_begin(s, GP_STAGE_MASKS);
    if (s->mask.arena.block != NULL) return true;
    gp_observe(s->run->observer, s->backend, "seg_hidden", s->kept.seg_hidden, 0, s->seg_count,
               s->model->config.language.hidden_size);
    bool done =
        gp_mask_picture_open(&s->mask, 4 * s->model->masks.grid, image->width, image->height, &s->status);
    if (!done) gp_request_stop(s, GP_OUTCOME_FAILED);
    return done;
}

/** The main lane's next operations read the maps of these. */
static void wait_for_maps(const gp_run *run, const part *parts, int count) {
    bool under_way = false;
    for (int i = 0; i < count; i++) {
        gp_keep *keep = parts[i].request->keep;
        under_way = under_way || keep->maps_under_way;
        keep->maps_under_way = false;
    }
    if (under_way) run->model->backend->ops->wait_for_lane(run->model->backend, GP_LANE_GROUND);
}

/** The next masks of each, `masks` in all. */
static void decode(const gp_run *run, const part *parts, int count, int masks) {
    const gp_mask_decoder *decoder = &run->model->masks;
    gp_backend *backend = run->model->backend;
    gp_request_state *requests[GP_MASK_BATCH];
    gp_mask_part decoded[GP_MASK_BATCH];
    gp_mask_buffers buffers;
    gp_arena measure = {0};
    for (int i = 0; i < count; i++) {
        gp_request_state *s = requests[i] = parts[i].request;
        decoded[i] =
            (gp_mask_part){.hidden = s->kept.seg_hidden + (int64_t)s->drawn * decoder->language_width,
                           .masks = parts[i].masks,
                           .first = s->drawn,
                           .maps = &s->keep->seen.maps};
    }
    gp_mask_layout(decoder, backend, masks, &measure, &buffers);
    if (!gp_run_use_stage(run, measure.peak, requests, count)) return;
    gp_mask_layout(decoder, backend, masks, run->stage, &buffers);
    gp_mask_decode(decoder, backend, decoded, count, &buffers, run->observer);
    for (int i = 0, first = 0; i < count; first += parts[i++].masks) {
        gp_request_state *s = requests[i];
        for (int k = 0; k < parts[i].masks && s->phase == GP_PHASE_MASKS; k++) {
            draw_mask(s, &buffers, first + k, s->drawn++);
            if (!gp_request_step(s, s->drawn, s->seg_count))
                gp_request_stop(s, GP_OUTCOME_CANCELLED);
            else if (s->drawn == s->seg_count)
                gp_request_stop(s, GP_OUTCOME_DONE);
        }
    }
}

/** One mask of a decoded batch to the caller. */
static void draw_mask(gp_request_state *s, const gp_mask_buffers *buffers, int in_batch, int index) {
    const gp_ops *ops = s->backend->ops;
    int side = 4 * s->model->masks.grid;
    gp_mask mask = {.index = index};
    int32_t chosen;
    ops->download(s->backend, &chosen, buffers->chosen + in_batch, sizeof chosen);
    ops->download(s->backend, &mask.stability, buffers->stability + in_batch, sizeof mask.stability);
    ops->download(s->backend, &mask.score, buffers->iou + in_batch * GP_MASK_TOKENS + chosen,
                  sizeof mask.score);
    mask.chosen = chosen;
    const float *logits = buffers->logits + (int64_t)(in_batch * GP_MASK_TOKENS + chosen) * side * side;
    gp_observe(s->run->observer, s->backend, "mask_logits", logits, (int64_t)index * side, side, side);
    gp_mask_picture_draw(&s->mask, s->backend, logits, &s->kept.drawing, &mask);
    for (size_t i = 0; i < s->phrase_count; i++)
        if (s->phrases[i].mask == index) mask.phrase = &s->phrases[i];
    s->options->on_event(s->options->user, &(gp_event){.type = GP_EVENT_MASK, .mask = mask});
}
