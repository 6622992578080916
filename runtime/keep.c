#include "runtime/keep.h"

#include "kernels/base/memory.h"

enum { IMAGE_ID = -1 }; /* stands for an image token: which one, its place among them tells */

static int32_t prompt_id(const gp_keep *keep, const gp_prompt *prompt, int64_t position);

void gp_keep_forget(gp_keep *keep) {
    keep->source_known = keep->tokens_known = keep->maps_known = false;
    keep->id_count = 0;
    if (keep->cache != NULL) gp_page_table_release(&keep->table, keep->cache);
}

bool gp_keep_prepare_picture(gp_keep *keep, const gp_model *model, int width, int height,
                             const gp_division *division, gp_status *status) {
    const gp_division *old = &keep->division;
    if (keep->tokens_known && (old->width != division->width || old->height != division->height ||
                               old->columns != division->columns || old->rows != division->rows)) {
        keep->tokens_known = false;
        keep->id_count = 0;
    }
    keep->division = *division;
    gp_arena measure = {0};
    gp_plan_seen(model, width, height, division->image_tokens, &measure, &keep->seen);
    if (keep->arena.capacity < measure.peak) gp_keep_forget(keep);
    if (!gp_arena_renew(&keep->arena, model->backend, measure.peak, status)) return false;
    gp_plan_seen(model, width, height, division->image_tokens, &keep->arena, &keep->seen);
    return true;
}

int32_t gp_keep_missing_pages(const gp_keep *keep, int64_t tokens) {
    int32_t pages = gp_pages_for(tokens);
    return pages > keep->table.count ? pages - keep->table.count : 0;
}

bool gp_keep_prepare_sequence(gp_keep *keep, gp_kv_cache *cache, int64_t tokens, gp_status *status) {
    int32_t pages = gp_pages_for(tokens);
    keep->cache = cache;
    if (keep->table.pages == NULL && !gp_page_table_open(&keep->table, cache->backend, pages, status))
        return false;
    if (keep->id_capacity < tokens) {
        int32_t *ids = gp_grow(keep->ids, (size_t)keep->id_count * sizeof *ids, (size_t)tokens * sizeof *ids);
        if (ids == NULL) return gp_fail(status, "no memory for %lld tokens", (long long)tokens);
        keep->ids = ids;
        keep->id_capacity = tokens;
    }
    return gp_page_table_grow(&keep->table, cache, pages, status) &&
           gp_page_table_reserve(&keep->table, cache, tokens, status);
}

/** The id at a position of the prompt: text, image tokens, text. */
static int32_t prompt_id(const gp_keep *keep, const gp_prompt *prompt, int64_t position) {
    int64_t before = (int64_t)prompt->before.count, image = keep->division.image_tokens;
    if (position < before) return prompt->before.ids[position];
    return position < before + image ? IMAGE_ID : prompt->after.ids[position - before - image];
}

int64_t gp_keep_common(gp_keep *keep, const gp_prompt *prompt) {
    int64_t last = (int64_t)(prompt->before.count + prompt->after.count) + keep->division.image_tokens - 1;
    int64_t common = 0;
    while (common < keep->id_count && common < last && keep->ids[common] == prompt_id(keep, prompt, common))
        common++;
    keep->id_count = common;
    return common;
}

void gp_keep_prompt(gp_keep *keep, const gp_prompt *prompt, int64_t end) {
    for (; keep->id_count < end; keep->id_count++)
        keep->ids[keep->id_count] = prompt_id(keep, prompt, keep->id_count);
}

void gp_keep_token(gp_keep *keep, int32_t id) {
    keep->ids[keep->id_count++] = id;
}

void gp_keep_close(gp_keep *keep, gp_backend *backend) {
    if (keep->table.pages != NULL) gp_page_table_close(&keep->table, keep->cache);
    if (keep->arena.block != NULL) backend->ops->release(backend, keep->arena.block);
    gp_free(keep->ids);
    *keep = (gp_keep){0};
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
