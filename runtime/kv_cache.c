#include "runtime/kv_cache.h"

#include "kernels/base/memory.h"

static void upload_pages(gp_page_table *table, const gp_kv_cache *cache, int32_t first);

uint64_t gp_kv_cache_bytes(const gp_backend *backend, int layers, int kv_heads, int head_dim, int32_t pages) {
    return (uint64_t)layers * (uint64_t)pages * backend->ops->kv_page_bytes(kv_heads, head_dim);
}

bool gp_kv_cache_open(gp_kv_cache *cache, gp_backend *backend, int layers, int kv_heads, int head_dim,
                      int32_t page_count, const gp_kv_mirror *mirror, gp_status *status) {
    *cache = (gp_kv_cache){.backend = backend,
                           .layers = layers,
                           .kv_heads = kv_heads,
                           .head_dim = head_dim,
                           .page_bytes = backend->ops->kv_page_bytes(kv_heads, head_dim),
                           .page_count = page_count,
                           .free_count = page_count};
    if (mirror != NULL) cache->mirror = *mirror;
    if (cache->mirror.use_pages != NULL && !cache->mirror.use_pages(cache->mirror.user, page_count, status)) {
        *cache = (gp_kv_cache){0};
        return false;
    }
    cache->layer_pages = gp_allocate_zeroed((size_t)layers, sizeof *cache->layer_pages);
    cache->free_pages = gp_allocate_zeroed((size_t)page_count, sizeof *cache->free_pages);
    cache->references = gp_allocate_zeroed((size_t)page_count, sizeof *cache->references);
    bool done = cache->layer_pages != NULL && cache->free_pages != NULL && cache->references != NULL;
    for (int i = 0; i < layers && done; i++) {
        cache->layer_pages[i] = backend->ops->allocate(backend, (size_t)page_count * cache->page_bytes);
        done = cache->layer_pages[i] != NULL;
    }
    if (!done) {
        gp_kv_cache_close(cache);
        return gp_fail(status, "no memory for a KV cache of %d pages in %d layers: %.1f MiB", page_count,
                       layers,
                       (double)gp_kv_cache_bytes(backend, layers, kv_heads, head_dim, page_count) / 0x1p20);
    }
    for (int32_t i = 0; i < page_count; i++) cache->free_pages[i] = page_count - 1 - i;
    return true;
}

void gp_kv_cache_close(gp_kv_cache *cache) {
    for (int i = 0; i < cache->layers && cache->layer_pages != NULL; i++)
        cache->backend->ops->release(cache->backend, cache->layer_pages[i]);
    gp_free(cache->layer_pages);
    gp_free(cache->free_pages);
    gp_free(cache->references);
    *cache = (gp_kv_cache){0};
}

/** A host list of page numbers, longer; false, with the list as it was, without memory. */
static bool grow_list(int32_t **list, int32_t old_count, int32_t count) {
    int32_t *grown = gp_grow(*list, (size_t)old_count * sizeof **list, (size_t)count * sizeof **list);
    if (grown != NULL) *list = grown;
    return grown != NULL;
}

bool gp_kv_cache_grow(gp_kv_cache *cache, int32_t page_count, gp_status *status) {
    gp_backend *backend = cache->backend;
    int32_t old_count = cache->page_count;
    if (page_count <= old_count) return true;
    if (cache->mirror.use_pages != NULL && !cache->mirror.use_pages(cache->mirror.user, page_count, status))
        return false;
    bool done = grow_list(&cache->free_pages, old_count, page_count) &&
                grow_list(&cache->references, old_count, page_count);
    for (int i = 0; i < cache->layers && done;
         i++) { /* a layer at a time: the old ones are not all there twice */
        void *pages = backend->ops->allocate(backend, (size_t)page_count * cache->page_bytes);
        done = pages != NULL;
        if (!done) break; /* layers that are longer already do no harm */
        backend->ops->copy(backend, pages, cache->layer_pages[i], (size_t)old_count * cache->page_bytes);
        backend->ops->release(backend, cache->layer_pages[i]);
        cache->layer_pages[i] = pages;
    }
    if (!done)
        return gp_fail(status, "no memory for a KV cache of %d pages in %d layers, %d until now: %.1f MiB",
                       page_count, cache->layers, old_count,
                       (double)((uint64_t)cache->layers * (uint64_t)page_count * cache->page_bytes) / 0x1p20);
    for (int32_t page = page_count - 1; page >= old_count; page--) {
        cache->free_pages[cache->free_count++] = page;
        cache->references[page] = 0;
    }
    cache->page_count = page_count;
    return true;
}

bool gp_kv_cache_provide(gp_kv_cache *cache, int32_t pages, gp_status *status) {
    int32_t wanted = cache->page_count + pages - cache->free_count;
    if (cache->free_count >= pages) return true;
    if (cache->page_limit > 0) return false; /* all were allocated when it was opened */
    /* By half at least: growing copies, and with every request it would copy all of them each time. */
    int32_t ample = cache->page_count + cache->page_count / 2;
    if (ample > wanted && gp_kv_cache_grow(cache, ample, NULL)) return true;
    return gp_kv_cache_grow(cache, wanted, status);
}

bool gp_page_table_open(gp_page_table *table, gp_backend *backend, int32_t capacity, gp_status *status) {
    *table = (gp_page_table){.capacity = capacity};
    table->pages = gp_allocate((size_t)capacity * sizeof *table->pages);
    table->device_pages = backend->ops->allocate(backend, (size_t)capacity * sizeof *table->device_pages);
    if (table->pages != NULL && table->device_pages != NULL) return true;
    gp_free(table->pages);
    backend->ops->release(backend, table->device_pages);
    *table = (gp_page_table){0};
    return gp_fail(status, "no memory for a table of %d pages", capacity);
}

bool gp_page_table_grow(gp_page_table *table, const gp_kv_cache *cache, int32_t capacity, gp_status *status) {
    gp_backend *backend = cache->backend;
    if (capacity <= table->capacity) return true;
    int32_t *device = backend->ops->allocate(backend, (size_t)capacity * sizeof *device);
    if (device == NULL || !grow_list(&table->pages, table->capacity, capacity)) {
        backend->ops->release(backend, device);
        return gp_fail(status, "no memory for a table of %d pages", capacity);
    }
    backend->ops->release(backend, table->device_pages);
    table->device_pages = device;
    table->capacity = capacity;
    upload_pages(table, cache, 0);
    return true;
}

void gp_page_table_close(gp_page_table *table, gp_kv_cache *cache) {
    if (table->pages == NULL) return;
    gp_page_table_release(table, cache);
    gp_free(table->pages);
    cache->backend->ops->release(cache->backend, table->device_pages);
    *table = (gp_page_table){0};
}

bool gp_page_table_reserve(gp_page_table *table, gp_kv_cache *cache, int64_t tokens, gp_status *status) {
    int32_t needed = gp_pages_for(tokens), first = table->count;
    if (needed > table->capacity)
        return gp_fail(status, "%lld positions need %d pages; the table holds %d", (long long)tokens, needed,
                       table->capacity);
    if (needed - first > cache->free_count)
        return gp_fail(status, "%lld positions need %d more pages; %d of %d are free", (long long)tokens,
                       needed - first, cache->free_count, cache->page_count);
    while (table->count < needed) {
        int32_t page = cache->free_pages[--cache->free_count];
        cache->references[page] = 1;
        table->pages[table->count++] = page;
    }
    upload_pages(table, cache, first);
    return true;
}

bool gp_page_table_fork(const gp_page_table *table, gp_kv_cache *cache, int64_t tokens, gp_page_table *fork,
                        gp_status *status) {
    int32_t full = (int32_t)(tokens / GP_PAGE_TOKENS), needed = gp_pages_for(tokens);
    if (needed > table->count || needed > fork->capacity)
        return gp_fail(status,
                       "a fork of %lld positions needs %d pages; %d are written, the fork's table holds %d",
                       (long long)tokens, needed, table->count, fork->capacity);
    if (needed > full && cache->free_count == 0)
        return gp_fail(status, "a fork needs one page for itself; none of %d is free", cache->page_count);
    for (int32_t i = 0; i < full; i++) {
        fork->pages[i] = table->pages[i];
        cache->references[table->pages[i]]++;
    }
    fork->count = full;
    upload_pages(fork, cache, 0);
    if (needed == full) return true;
    if (!gp_page_table_reserve(fork, cache, tokens, status)) return false;
    gp_kv_cache_copy_page(cache, table->pages[full], fork->pages[full]);
    return true;
}

void gp_kv_cache_copy_page(const gp_kv_cache *cache, int32_t from, int32_t to) {
    const size_t bytes = cache->page_bytes;
    if (cache->mirror.copy_page != NULL) cache->mirror.copy_page(cache->mirror.user, from, to);
    for (int layer = 0; layer < cache->layers; layer++) {
        char *pages = cache->layer_pages[layer];
        cache->backend->ops->copy(cache->backend, pages + (size_t)to * bytes, pages + (size_t)from * bytes,
                                  bytes);
    }
}

void gp_page_table_trim(gp_page_table *table, gp_kv_cache *cache, int64_t tokens) {
    while (table->count > gp_pages_for(tokens)) {
        int32_t page = table->pages[--table->count];
        if (--cache->references[page] == 0) cache->free_pages[cache->free_count++] = page;
    }
}

void gp_page_table_release(gp_page_table *table, gp_kv_cache *cache) {
    gp_page_table_trim(table, cache, 0);
}

static void upload_pages(gp_page_table *table, const gp_kv_cache *cache, int32_t first) {
    cache->backend->ops->upload(cache->backend, table->device_pages + first, table->pages + first,
                                (size_t)(table->count - first) * sizeof *table->pages);
}
