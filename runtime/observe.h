/**
 * A hook that shows each stage's numbers to the parity tests, under the names of the goldens. Without an
 * observer nothing here costs anything, and nothing is computed that the answer does not need.
 */
#pragma once

#include "kernels/base/memory.h"
#include "kernels/ops.h"

typedef struct gp_observer {
    /** Rows first_row … of stage `stage`, [row_count, columns] in host memory, valid during the call. */
    void (*rows)(void *user, const char *stage, const float *rows, int64_t first_row, int64_t row_count,
                 int64_t columns);
    /** Integers: "text_ids.0" (before the image), "text_ids.1" (after it), "chosen". */
    void (*integers)(void *user, const char *name, const int32_t *values, size_t count);
    /** The divided picture, [height, width, 3] in host memory, valid during the call. */
    void (*divided)(void *user, const uint8_t *pixels, int width, int height, int columns, int rows);
    void *user;
} gp_observer;

/** Shows backend rows to the observer, if there is one. Out of memory, it shows nothing. */
static inline void gp_observe(const gp_observer *observer, gp_backend *backend, const char *stage,
                              const float *rows, int64_t first_row, int64_t row_count, int64_t columns) {
    if (observer == NULL || observer->rows == NULL) return;
    size_t bytes = (size_t)(row_count * columns) * sizeof(float);
    float *host = gp_allocate(bytes);
    if (host == NULL) return;
    backend->ops->download(backend, host, rows, bytes);
    observer->rows(observer->user, stage, host, first_row, row_count, columns);
    gp_free(host);
}

/** Shows the divided picture, [height, width, 3] in backend memory. Out of memory, it shows nothing. */
static inline void gp_observe_divided(const gp_observer *observer, gp_backend *backend, const uint8_t *pixels,
                                      int width, int height, int columns, int rows) {
    if (observer == NULL || observer->divided == NULL) return;
    size_t bytes = 3 * (size_t)width * (size_t)height;
    uint8_t *host = gp_allocate(bytes);
    if (host == NULL) return;
    backend->ops->download(backend, host, pixels, bytes);
    observer->divided(observer->user, host, width, height, columns, rows);
    gp_free(host);
}
