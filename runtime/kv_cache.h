/**
 * The paged KV cache: pages of GP_PAGE_TOKENS positions, each standing for the same positions in every layer,
 * counted by how many sequences use them (PagedAttention, arXiv 2309.06180). A sequence holds a table of
 * pages; two sequences share a prefix by sharing its full pages.
 */
#pragma once

#include "kernels/ops.h"

/** Where other ranks hold their kv heads of the same pages: told before the cache's own pages change. */
typedef struct gp_kv_mirror {
    bool (*use_pages)(void *user, int32_t pages, gp_status *status); /* so many are there */
    void (*copy_page)(void *user, int32_t from, int32_t to);
    void *user;
} gp_kv_mirror;

typedef struct gp_kv_cache {
    gp_backend *backend;
    int layers, kv_heads, head_dim;
    size_t page_bytes; /* of one layer */
    int32_t page_count, free_count;
    int32_t page_limit;  /* never more than these; 0: as many as memory has */
    void **layer_pages;  /* [layers] backend memory of page_count pages each */
    int32_t *free_pages; /* the last free_count… a stack */
    int32_t *references; /* [page_count] */
    gp_kv_mirror mirror; /* zeros: there is none */
} gp_kv_cache;

/** A sequence's pages, in the order of its positions. */
typedef struct gp_page_table {
    int32_t *pages;        /* host */
    int32_t *device_pages; /* the same in backend memory, for gp_sequence */
    int32_t count, capacity;
} gp_page_table;

/** Pages that `tokens` positions need. */
static inline int32_t gp_pages_for(int64_t tokens) {
    return (int32_t)((tokens + GP_PAGE_TOKENS - 1) / GP_PAGE_TOKENS);
}

/** Bytes of `pages` pages over all layers. */
uint64_t gp_kv_cache_bytes(const gp_backend *backend, int layers, int kv_heads, int head_dim, int32_t pages);

bool gp_kv_cache_open(gp_kv_cache *cache, gp_backend *backend, int layers, int kv_heads, int head_dim,
                      int32_t page_count, const gp_kv_mirror *mirror, gp_status *status);
void gp_kv_cache_close(gp_kv_cache *cache);

/** Makes an open cache hold `page_count` pages, where it holds fewer; what is written stays. On failure it is
 * as it was. */
bool gp_kv_cache_grow(gp_kv_cache *cache, int32_t page_count, gp_status *status);

/** Makes at least `pages` free, growing where the limit allows it. False, and nothing said, where they have
 * to be waited for; fails with the numbers without memory. */
bool gp_kv_cache_provide(gp_kv_cache *cache, int32_t pages, gp_status *status);

/** What the page `from` holds, to the page `to`, in all layers; here and in the mirror. */
void gp_kv_cache_copy_page(const gp_kv_cache *cache, int32_t from, int32_t to);

/** A table for at most `capacity` pages. */
bool gp_page_table_open(gp_page_table *table, gp_backend *backend, int32_t capacity, gp_status *status);

/** Makes an open table hold `capacity` pages, where it holds fewer; on failure it is as it was. */
bool gp_page_table_grow(gp_page_table *table, const gp_kv_cache *cache, int32_t capacity, gp_status *status);

/** Gives its pages back, then frees the table. */
void gp_page_table_close(gp_page_table *table, gp_kv_cache *cache);

/** Makes room for `tokens` positions; fails with the numbers, changing nothing, when the cache has too few
 * free pages. */
bool gp_page_table_reserve(gp_page_table *table, gp_kv_cache *cache, int64_t tokens, gp_status *status);

/**
 * `fork` (empty, opened) gets the first `tokens` positions of `table`: full pages are shared, a page begun is
 * copied, so that both can go on writing.
 */
bool gp_page_table_fork(const gp_page_table *table, gp_kv_cache *cache, int64_t tokens, gp_page_table *fork,
                        gp_status *status);

/** Gives pages back that hold none of the first `tokens` positions. */
void gp_page_table_trim(gp_page_table *table, gp_kv_cache *cache, int64_t tokens);

/** Gives all pages back; the table is empty. */
void gp_page_table_release(gp_page_table *table, gp_kv_cache *cache);

/** One layer, for the operations. */
static inline gp_kv_layer gp_kv_cache_layer(const gp_kv_cache *cache, int layer) {
    return (gp_kv_layer){cache->layer_pages[layer], cache->kv_heads, cache->head_dim};
}
