/**
 * The one allocator and the one arena. Everything of our own that is allocated goes through gp_allocate, so
 * that planned and observed memory can be compared; what libraries allocate does not.
 */
#pragma once

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Every allocation and every arena buffer starts at a multiple of this (a cache line, an AVX-512 vector). */
#define GP_ALIGNMENT 64

/** `bytes` of uninitialised memory aligned to GP_ALIGNMENT (one byte when 0), or NULL. Free with gp_free. */
void *gp_allocate(size_t bytes);

/** gp_allocate for `count` elements of `size` bytes, set to zero; NULL on overflow too. */
void *gp_allocate_zeroed(size_t count, size_t size);

/**
 * A copy of the first `old_bytes` of `memory` in a block of `new_bytes` >= old_bytes; frees `memory`. NULL,
 * with `memory` untouched, when it cannot be had.
 */
void *gp_grow(void *memory, size_t old_bytes, size_t new_bytes);

/** A copy of the text (terminated), or NULL. */
char *gp_copy_text(const char *text);

/** Frees what gp_allocate gave; NULL is allowed. */
void gp_free(void *memory);

/** A list that grows. Zeros are an empty one; its data are freed with gp_free. */
typedef struct gp_array {
    void *data;
    size_t count, capacity; /* elements */
} gp_array;

/** The place of one more element of `size` bytes, uninitialised; others may have moved. NULL, with the list
 * as it was, when memory is out. */
void *gp_array_add(gp_array *array, size_t size);

/** Bytes that gp_allocate has out now, and their largest sum since the program began. */
typedef struct gp_memory_usage {
    size_t live_bytes;
    size_t peak_bytes;
    uint64_t allocations; /* calls since the program began */
} gp_memory_usage;

gp_memory_usage gp_memory_observe(void);

/**
 * A block handed out from its start. The same layout function first runs over an arena without a block, which
 * only measures, then over one of the measured size; so a plan and its buffers cannot differ.
 */
typedef struct gp_arena {
    unsigned char *block; /* NULL: measuring, every buffer is NULL */
    size_t capacity;      /* of the block in bytes */
    size_t used;
    size_t peak; /* the largest `used` so far */
} gp_arena;

/**
 * The next `count` elements of `element_size` bytes, uninitialised. NULL while measuring. Asking a real arena
 * for more than it was measured for is a bug of the caller: it returns NULL and `used` exceeds `capacity`.
 */
void *gp_arena_take(gp_arena *arena, size_t count, size_t element_size);

/** Where the arena stands, for gp_arena_rewind: what was taken in between is given back. */
static inline size_t gp_arena_mark(const gp_arena *arena) {
    return arena->used;
}
static inline void gp_arena_rewind(gp_arena *arena, size_t mark) {
    arena->used = mark;
}
