/** The bytes of a pickle, read within their bounds, and the opcodes whose value is a scalar. */
#pragma once

#include "kernels/base/status.h"

#include <jansson.h>
#include <stdint.h>

typedef struct gp_pickle_bytes {
    const unsigned char *data;
    size_t size, at;
    size_t end;       /* of the frame that is read, or the size: no argument goes beyond it */
    const char *path; /* what messages name */
    gp_status *status;
} gp_pickle_bytes;

/** gp_fail whose message (printf format) begins with the path and the byte. */
bool gp_pickle_fail(const gp_pickle_bytes *bytes, const char *format, ...) GP_PRINTF(2, 3);

/** A little-endian number of `count` bytes, up to 8. */
bool gp_pickle_number(gp_pickle_bytes *bytes, size_t count, uint64_t *number);

/** Text up to a newline, which goes too. */
bool gp_pickle_line(gp_pickle_bytes *bytes, const char **text, size_t *length);

/** FRAME's argument, the bytes of the opcodes that follow: sets `end`. */
bool gp_pickle_frame(gp_pickle_bytes *bytes);

/** A line that is a number >= 0. */
bool gp_pickle_index_line(gp_pickle_bytes *bytes, uint64_t *number);

/** Whether the opcode's value is None, a truth value, a number, a text or bytes. */
bool gp_pickle_is_scalar(unsigned char opcode);

/** The value of such an opcode, whose argument is next; owned by the caller. NULL with the status set. */
json_t *gp_pickle_scalar(gp_pickle_bytes *bytes, unsigned char opcode);

/** Fails naming the opcode that was just read, which calls code or is no plain data. */
bool gp_pickle_refuse(gp_pickle_bytes *bytes, unsigned char opcode);
