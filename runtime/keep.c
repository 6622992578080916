#include "runtime/keep.h"

#include "kernels/base/memory.h"

#include <string.h>

enum { IMAGE_ID = -1 }; /* stands for an image token: which one, its place among them tells */

/* Nothing is under way then: requests that had maps made end after the device was waited for, and an arena
 * that grows is released, which waits too. */
void gp_keep_forget(gp_keep *keep) {
    keep->source_known = keep->tokens_known = keep->maps_known = keep->maps_under_way = false;
    keep->forgotten++;
    gp_kept_release(&keep->last);
}

static bool same_division(const gp_division *a, const gp_division *b) {
    return a->width == b->width && a->height == b->height && a->columns == b->columns && a->rows == b->rows;
}

bool gp_keep_admits(const gp_keep *keep, const gp_division *division) {
    return keep->running == 0 || same_division(&keep->division, division);
}

bool gp_keep_knows_tokens(const gp_keep *keep, const gp_division *division) {
    return keep->tokens_known && same_division(&keep->division, division);
}

bool gp_keep_take_pages(gp_keep *first, const gp_keep *own) {
    gp_keep *oldest = NULL;
    for (gp_keep *keep = first; keep != NULL; keep = keep->next)
        if (keep != own && keep->last.table.count > 0 && (oldest == NULL || keep->used < oldest->used))
            oldest = keep;
    if (oldest != NULL) gp_kept_release(&oldest->last);
    return oldest != NULL;
}

bool gp_keep_prepare_picture(gp_keep *keep, const gp_model *model, int width, int height,
                             const gp_division *division, gp_status *status) {
    if (!same_division(&keep->division, division)) {
        keep->tokens_known = false;
        gp_kept_release(&keep->last);
    }
    keep->division = *division;
    gp_arena measure = {0};
    const int crops = division->columns * division->rows;
    gp_plan_seen(model, width, height, crops, division->image_tokens, &measure, &keep->seen);
    if (keep->arena.capacity < measure.peak) gp_keep_forget(keep);
    if (!gp_arena_renew(&keep->arena, model->backend, measure.peak, status)) return false;
    gp_plan_seen(model, width, height, crops, division->image_tokens, &keep->arena, &keep->seen);
    return true;
}

bool gp_keep_reserve(gp_keep *keep, gp_kv_cache *cache, size_t bytes, int32_t pages, gp_status *status) {
    return gp_arena_renew(&keep->arena, cache->backend, bytes, status) &&
           gp_kept_reserve(&keep->last, cache, pages, status);
}

void gp_keep_close(gp_keep *keep, gp_backend *backend) {
    gp_kept_close(&keep->last);
    if (keep->arena.block != NULL) backend->ops->release(backend, keep->arena.block);
    *keep = (gp_keep){0};
}

/* ---- sequences ---- */

/** The id at a position of the prompt: text, image tokens, text. */
static int32_t prompt_id(const gp_prompt *prompt, const gp_division *division, int64_t position) {
    int64_t before = (int64_t)prompt->before.count, image = division->image_tokens;
    if (position < before) return prompt->before.ids[position];
    return position < before + image ? IMAGE_ID : prompt->after.ids[position - before - image];
}

int64_t gp_kept_common(const gp_kept_sequence *sequence, const gp_prompt *prompt,
                       const gp_division *division) {
    int64_t last = (int64_t)(prompt->before.count + prompt->after.count) + division->image_tokens - 1;
    int64_t common = 0;
    while (common < sequence->id_count && common < last &&
           sequence->ids[common] == prompt_id(prompt, division, common))
        common++;
    return common;
}

int32_t gp_kept_missing_pages(const gp_keep *keep, int64_t common, int64_t tokens) {
    int32_t pages = gp_pages_for(tokens);
    int32_t there = keep->running == 0 ? keep->last.table.count : (int32_t)(common / GP_PAGE_TOKENS);
    return pages > there ? pages - there : 0;
}

bool gp_kept_reserve(gp_kept_sequence *sequence, gp_kv_cache *cache, int32_t pages, gp_status *status) {
    sequence->cache = cache;
    return gp_page_table_open(&sequence->table, cache->backend, pages, status);
}

static bool make_room(gp_kept_sequence *sequence, gp_kv_cache *cache, int64_t tokens, gp_status *status) {
    int32_t pages = gp_pages_for(tokens);
    sequence->cache = cache;
    if (sequence->table.pages == NULL && !gp_page_table_open(&sequence->table, cache->backend, pages, status))
        return false;
    if (sequence->id_capacity < tokens) {
        int32_t *ids =
            gp_grow(sequence->ids, (size_t)sequence->id_count * sizeof *ids, (size_t)tokens * sizeof *ids);
        if (ids == NULL) return gp_fail(status, "no memory for %lld tokens", (long long)tokens);
        sequence->ids = ids;
        sequence->id_capacity = tokens;
    }
    return gp_page_table_grow(&sequence->table, cache, pages, status);
}

static void swap(gp_kept_sequence *a, gp_kept_sequence *b) {
    gp_kept_sequence other = *a;
    *a = *b;
    *b = other;
}

bool gp_kept_begin(gp_kept_sequence *sequence, gp_keep *keep, gp_kv_cache *cache, int64_t common,
                   int64_t tokens, gp_status *status) {
    const bool takes_over = keep->running == 0;
    if (takes_over) swap(sequence, &keep->last);
    bool done = make_room(sequence, cache, tokens, status);
    if (done && !takes_over && common > 0) {
        done = gp_page_table_fork(&keep->last.table, cache, common, &sequence->table, status);
        if (done) memcpy(sequence->ids, keep->last.ids, (size_t)common * sizeof *sequence->ids);
    }
    done = done && gp_page_table_reserve(&sequence->table, cache, tokens, status);
    if (done)
        sequence->id_count = common;
    else if (takes_over)
        swap(sequence, &keep->last);
    else
        gp_kept_release(sequence);
    return done;
}

void gp_kept_prompt(gp_kept_sequence *sequence, const gp_prompt *prompt, const gp_division *division,
                    int64_t end) {
    for (; sequence->id_count < end; sequence->id_count++)
        sequence->ids[sequence->id_count] = prompt_id(prompt, division, sequence->id_count);
}

void gp_kept_token(gp_kept_sequence *sequence, int32_t id) {
    sequence->ids[sequence->id_count++] = id;
}

void gp_kept_share(const gp_kept_sequence *sequence, gp_keep *keep) {
    gp_kept_sequence *last = &keep->last;
    int64_t tokens =
        sequence->id_count / GP_PAGE_TOKENS * GP_PAGE_TOKENS; /* of full pages: nothing is copied */
    if (last->id_count >= tokens) return;
    gp_kept_release(last);
    if (tokens == 0 || !make_room(last, sequence->cache, tokens, NULL) ||
        !gp_page_table_fork(&sequence->table, sequence->cache, tokens, &last->table, NULL))
        return;
    memcpy(last->ids, sequence->ids, (size_t)tokens * sizeof *last->ids);
    last->id_count = tokens;
}

void gp_kept_end(gp_kept_sequence *sequence, gp_keep *keep, int64_t positions) {
    swap(sequence, &keep->last);
    gp_kept_release(sequence);
    if (keep->last.id_count > positions) keep->last.id_count = positions;
    if (keep->last.cache != NULL)
        gp_page_table_trim(&keep->last.table, keep->last.cache, keep->last.id_count);
}

void gp_kept_release(gp_kept_sequence *sequence) {
    if (sequence->cache != NULL) gp_page_table_release(&sequence->table, sequence->cache);
    sequence->id_count = 0;
}

void gp_kept_close(gp_kept_sequence *sequence) {
    if (sequence->table.pages != NULL) gp_page_table_close(&sequence->table, sequence->cache);
    gp_free(sequence->ids);
    *sequence = (gp_kept_sequence){0};
}

bool gp_arena_renew(gp_arena *arena, gp_backend *backend, size_t bytes, gp_status *status) {
    arena->used = 0;
    if (arena->capacity >= bytes) return true;
    backend->ops->release(backend, arena->block);
    *arena = (gp_arena){.block = backend->ops->allocate(backend, bytes), .capacity = bytes};
    if (arena->block != NULL) return true;
    *arena = (gp_arena){0};
    return gp_fail(status, "no memory for %.1f MiB of buffers", (double)bytes / 0x1p20);
}
