/**
 * The one error type. A function that can fail returns bool (true: done) and takes a gp_status as its last
 * argument; on failure the status holds a text that names the file, the field and the numbers.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

typedef struct gp_status {
    char *message; /* owned; NULL while nothing failed */
} gp_status;

#if defined(__GNUC__)
#define GP_PRINTF(format_index, first_argument) __attribute__((format(printf, format_index, first_argument)))
#else
#define GP_PRINTF(format_index, first_argument)
#endif

/**
 * Sets the message (printf format), replacing an earlier one, and returns false, so that callers write
 * `return gp_fail(status, "%s: …", path);`. `status` may be NULL: then only the false is used. Text of any
 * length is kept whole.
 */
bool gp_fail(gp_status *status, const char *format, ...) GP_PRINTF(2, 3);

/** Appends to the message (printf format); starts one when there is none. Returns false like gp_fail. */
bool gp_fail_more(gp_status *status, const char *format, ...) GP_PRINTF(2, 3);

/** Whether a message is set. */
static inline bool gp_failed(const gp_status *status) {
    return status->message != NULL;
}

/** Frees the message; the status can be used again. */
void gp_status_clear(gp_status *status);
