#include "kernels/base/memory.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static atomic_size_t live_bytes, peak_bytes;
static _Atomic uint64_t allocations;

void *gp_allocate(size_t bytes) {
    if (bytes > SIZE_MAX - GP_ALIGNMENT) return NULL;
    size_t rounded = (bytes + GP_ALIGNMENT - 1) / GP_ALIGNMENT * GP_ALIGNMENT;
    void *memory = aligned_alloc(GP_ALIGNMENT, rounded > 0 ? rounded : GP_ALIGNMENT);
    if (memory == NULL) return NULL;
    size_t live = atomic_fetch_add(&live_bytes, malloc_usable_size(memory)) + malloc_usable_size(memory);
    size_t peak = atomic_load(&peak_bytes);
    while (live > peak && !atomic_compare_exchange_weak(&peak_bytes, &peak, live)) continue;
    atomic_fetch_add(&allocations, 1);
    return memory;
}

void *gp_allocate_zeroed(size_t count, size_t size) {
    if (size > 0 && count > SIZE_MAX / size) return NULL;
    void *memory = gp_allocate(count * size);
    if (memory != NULL) memset(memory, 0, count * size);
    return memory;
}

void *gp_grow(void *memory, size_t old_bytes, size_t new_bytes) {
    void *grown = gp_allocate(new_bytes);
    if (grown == NULL) return NULL;
    if (old_bytes > 0) memcpy(grown, memory, old_bytes);
    gp_free(memory);
    return grown;
}

void *gp_array_add(gp_array *array, size_t size) {
    if (array->count == array->capacity) {
        size_t larger = array->capacity > 0 ? 2 * array->capacity : 64;
        void *grown = gp_grow(array->data, array->count * size, larger * size);
        if (grown == NULL) return NULL;
        array->data = grown;
        array->capacity = larger;
    }
    return (char *)array->data + size * array->count++;
}

char *gp_copy_text(const char *text) {
    size_t bytes = strlen(text) + 1;
    char *copy = gp_allocate(bytes);
    if (copy != NULL) memcpy(copy, text, bytes);
    return copy;
}

void gp_free(void *memory) {
    if (memory == NULL) return;
    atomic_fetch_sub(&live_bytes, malloc_usable_size(memory));
    free(memory);
}

gp_memory_usage gp_memory_observe(void) {
    return (gp_memory_usage){.live_bytes = atomic_load(&live_bytes),
                             .peak_bytes = atomic_load(&peak_bytes),
                             .allocations = atomic_load(&allocations)};
}

void *gp_arena_take(gp_arena *arena, size_t count, size_t element_size) {
    size_t start = arena->used;
    if (element_size > 0 && count > (SIZE_MAX - GP_ALIGNMENT - start) / element_size) {
        arena->used = arena->peak = SIZE_MAX - GP_ALIGNMENT; /* no arena has this much: seen as too large */
        return NULL;
    }
    size_t bytes = (count * element_size + GP_ALIGNMENT - 1) / GP_ALIGNMENT * GP_ALIGNMENT;
    if (bytes > SIZE_MAX - GP_ALIGNMENT - start) bytes = SIZE_MAX - GP_ALIGNMENT - start;
    arena->used = start + bytes;
    if (arena->used > arena->peak) arena->peak = arena->used;
    if (arena->block == NULL || arena->used > arena->capacity) return NULL;
    return arena->block + start;
}
