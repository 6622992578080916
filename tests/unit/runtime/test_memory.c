/**
 * test_memory MODEL: what is planned is what is used. Decoding allocates nothing between its first and its
 * last piece of text, neither through our allocator nor through malloc, which this program counts; and the
 * process's peak is the plan's sum, the pages that any process with these libraries has, and a margin.
 */
#include "tests/unit/runtime/asking.h"

#include <pthread.h>
#include <stdatomic.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

static _Atomic uint64_t calls;

#ifndef SANITIZED
/* glibc's own, behind the names that every library calls. */
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t),
    *__libc_memalign(size_t, size_t);
void *malloc(size_t size) {
    atomic_fetch_add(&calls, 1);
    return __libc_malloc(size);
}
void *calloc(size_t count, size_t size) {
    atomic_fetch_add(&calls, 1);
    return __libc_calloc(count, size);
}
void *realloc(void *memory, size_t size) {
    atomic_fetch_add(&calls, 1);
    return __libc_realloc(memory, size);
}
void *aligned_alloc(size_t alignment, size_t size) {
    atomic_fetch_add(&calls, 1);
    return __libc_memalign(alignment, size);
}
#endif

/** Calls at the first and the last piece of text. */
typedef struct counts {
    heard all;
    uint64_t first, last, first_own, last_own;
    size_t pieces;
} counts;

static void count_event(void *user, const gp_event *event) {
    counts *c = user;
    if (event->type == GP_EVENT_TEXT) {
        c->last = atomic_load(&calls);
        c->last_own = gp_memory_observe().allocations;
        if (c->pieces++ == 0) {
            c->first = c->last;
            c->first_own = c->last_own;
        }
    }
    hear(&c->all, event);
}

/** A number of /proc/self/status in bytes. */
static double system_bytes(const char *field) {
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    double kilobytes = 0;
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, field, strlen(field)) == 0) kilobytes = strtod(line + strlen(field) + 1, NULL);
    if (file != NULL) fclose(file);
    return kilobytes * 1024;
}

int main(int count, char **arguments) {
    REQUIRE(count == 2, "usage: test_memory MODEL");
    gp_image image = test_picture(200, 150);
    double before = system_bytes("VmRSS");
    gp_engine *engine = open_engine(arguments[1], 2);
    static counts c;
    gp_status status = {0};
    gp_request_options options = {.image = image,
                                  .prompt = "Describe the scene.",
                                  .max_new_tokens = 100,
                                  .on_event = count_event,
                                  .user = &c};
    uint64_t start = atomic_load(&calls);
    gp_request *request = gp_submit(engine, &options, &status);
    REQUIRE(request != NULL, "%s", status.message);
    gp_request_release(request);
    REQUIRE(c.all.final == GP_EVENT_DONE && c.pieces > 2, "%zu pieces: %s", c.pieces, c.all.error);
    CHECK(c.last_own == c.first_own, "%d allocations of our own while decoding",
          (int)(c.last_own - c.first_own));
#ifdef SANITIZED
    printf("malloc is not counted and the peak not compared: the sanitizer has both\n");
    (void)start;
    (void)before;
#else
    CHECK(atomic_load(&calls) > start, "the counter counts nothing");
    CHECK(c.last == c.first, "%d calls of malloc while decoding", (int)(c.last - c.first));
    const gp_memory_plan *plan = &c.all.memory;
    double planned =
        (double)(plan->weights + plan->converted + plan->kv_cache + plan->activations + plan->workspace);
    double peak = system_bytes("VmHWM") - before;
    /* Weights that share a page with another's count a page twice, small lists and texts are not planned, and
     * parts of buffers that a small picture leaves empty are never touched: 15 % and 8 MiB either way. */
    printf("planned %.1f MiB, the system saw %.1f MiB more than before\n", planned / 0x1p20, peak / 0x1p20);
    CHECK(peak <= 1.15 * planned + 8 * 0x1p20, "the peak is %.1f MiB, the plan %.1f", peak / 0x1p20,
          planned / 0x1p20);
    CHECK(peak >= 0.85 * planned - 8 * 0x1p20, "the peak is %.1f MiB, the plan %.1f", peak / 0x1p20,
          planned / 0x1p20);
#endif
    gp_engine_close(engine);
    gp_free((void *)image.pixels);
    return check_done();
}
