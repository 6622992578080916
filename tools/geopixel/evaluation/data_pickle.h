/**
 * Pickles of plain data as JSON, read without executing anything: lists, tuples (as lists), dictionaries,
 * texts, bytes, numbers, True, False and None, in protocols 0 to 5. Whatever would name or call code is
 * refused.
 */
#pragma once

#include "kernels/base/status.h"

#include <jansson.h>

/**
 * The value that the pickle of `size` bytes at `data` holds, owned by the caller; NULL with the status set,
 * which names `path` and the byte. Keys are texts or whole numbers (then their decimal text), and none twice;
 * texts and bytes are UTF-8; whole numbers have 64 bits, others are finite. Parts that the pickle shares are
 * shared in the result, so that it must be read only.
 */
json_t *gp_data_pickle_read(const unsigned char *data, size_t size, const char *path, gp_status *status);
