/** Pages: every page is free or used, never both; shared ones live as long as their last user; forks do not
 * see each other's writes. */
#include "kernels/base/memory.h"
#include "runtime/kv_cache.h"
#include "tests/check.h"

enum { PAGES = 12, TABLES = 5 };

/** References counted from the tables themselves. */
static void check_counts(const gp_kv_cache *cache, gp_page_table *tables) {
    int32_t want[PAGES] = {0}, used = 0;
    for (int t = 0; t < TABLES; t++)
        for (int32_t i = 0; i < tables[t].count; i++) want[tables[t].pages[i]]++;
    for (int32_t page = 0; page < PAGES; page++) {
        CHECK(cache->references[page] == want[page], "page %d has %d references, not %d", page,
              cache->references[page], want[page]);
        used += want[page] > 0;
        bool free = false;
        for (int32_t i = 0; i < cache->free_count; i++) free = free || cache->free_pages[i] == page;
        CHECK(free == (want[page] == 0), "page %d", page);
    }
    CHECK(cache->free_count == PAGES - used, "%d pages are free, %d used", cache->free_count, used);
}

int main(void) {
    uint64_t seed = fresh_seed();
    gp_backend *backend;
    gp_status status = {0};
    gp_kv_cache cache;
    gp_page_table tables[TABLES];
    REQUIRE(gp_backend_open_cpu(1, &backend, &status), "%s", status.message);
    REQUIRE(gp_kv_cache_open(&cache, backend, 2, 1, 8, PAGES, NULL, &status), "%s", status.message);
    CHECK(gp_kv_cache_bytes(backend, 2, 1, 8, PAGES) == 2 * PAGES * cache.page_bytes, "bytes");
    for (int t = 0; t < TABLES; t++)
        REQUIRE(gp_page_table_open(&tables[t], backend, PAGES, &status), "%s", status.message);
    CHECK(gp_pages_for(0) == 0 && gp_pages_for(1) == 1 && gp_pages_for(64) == 1 && gp_pages_for(65) == 2,
          "pages for tokens");

    for (int round = 0; round < 5000; round++) {
        int t = (int)(random_bits(&seed) % TABLES), other = (int)(random_bits(&seed) % TABLES);
        int32_t free_before = cache.free_count, count_before = tables[t].count;
        int64_t amount = (int64_t)(random_bits(&seed) % 500);
        switch (random_bits(&seed) % 3) {
        case 0:
            if (!gp_page_table_reserve(&tables[t], &cache, amount, &status))
                CHECK(cache.free_count == free_before && tables[t].count == count_before &&
                          strstr(status.message, "free") != NULL,
                      "a refusal changed something: %s", status.message);
            break;
        case 1:
            gp_page_table_release(&tables[t], &cache);
            break;
        default:
            if (t != other && tables[other].count == 0 && tables[t].count > 0)
                gp_page_table_fork(&tables[t], &cache, amount % (64 * tables[t].count + 1), &tables[other],
                                   &status);
        }
        gp_status_clear(&status);
        check_counts(&cache, tables);
    }

    for (int t = 0; t < TABLES; t++) gp_page_table_release(&tables[t], &cache);
    REQUIRE(gp_page_table_reserve(&tables[0], &cache, 100, &status), "%s", status.message);
    for (int layer = 0; layer < 2; layer++) memset(cache.layer_pages[layer], 7, PAGES * cache.page_bytes);
    REQUIRE(gp_page_table_fork(&tables[0], &cache, 100, &tables[1], &status), "%s", status.message);
    CHECK(tables[1].pages[0] == tables[0].pages[0] && tables[1].pages[1] != tables[0].pages[1],
          "full pages are shared, a page begun is copied");
    char *layer = cache.layer_pages[1];
    memset(layer + (size_t)tables[1].pages[1] * cache.page_bytes, 9, cache.page_bytes);
    CHECK(layer[(size_t)tables[0].pages[1] * cache.page_bytes] == 7, "the fork wrote into the original");
    CHECK(!gp_page_table_reserve(&tables[2], &cache, 64 * PAGES + 1, &status) &&
              strstr(status.message, "13") != NULL,
          "%s", status.message);
    int32_t first = tables[0].pages[0];
    REQUIRE(gp_kv_cache_grow(&cache, PAGES + 5, &status) &&
                gp_page_table_grow(&tables[0], &cache, PAGES + 5, &status),
            "%s", status.message);
    layer = cache.layer_pages[1];
    CHECK(tables[0].pages[0] == first && tables[0].device_pages[0] == first &&
              layer[(size_t)(first + 1) * cache.page_bytes - 1] == 7,
          "what was written before growing is there");
    gp_page_table_release(&tables[1], &cache);
    CHECK(gp_page_table_reserve(&tables[0], &cache, 64 * (PAGES + 5), &status), "%s", status.message);
    memset(layer + (size_t)(PAGES + 4) * cache.page_bytes, 1, cache.page_bytes);
    gp_page_table_release(&tables[0], &cache);
    CHECK(cache.free_count == PAGES + 5, "%d pages are free of %d", cache.free_count, PAGES + 5);
    for (int t = 0; t < TABLES; t++) gp_page_table_close(&tables[t], &cache);
    CHECK(cache.free_count == PAGES + 5, "all pages come back: %d", cache.free_count);
    gp_kv_cache_close(&cache);
    gp_status_clear(&status);
    gp_backend_close(backend);
    return check_done();
}
