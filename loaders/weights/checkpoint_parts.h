/** What the weight readers share: how a parser hands over a tensor, and the checkpoint that collects them. */
#pragma once

#include "kernels/base/file.h"
#include "loaders/weights/checkpoint.h"

/**
 * Receives a tensor of a file being parsed; `name` is copied. Returns false, with the status set, to end the
 * parsing.
 */
typedef bool (*gp_tensor_sink)(void *user, const gp_tensor *tensor, gp_status *status);

/**
 * Reads the header of a safetensors file of `size` bytes at `data` and hands over its tensors. `path` stands
 * in messages. Checks that the tensors' bytes are those of their shapes and fill the data part without holes
 * or overlaps.
 */
bool gp_safetensors_parse(const unsigned char *data, size_t size, const char *path, gp_tensor_sink sink,
                          void *user, gp_status *status);

/** The text of `__metadata__` in a header that gp_safetensors_parse took; "{}" where there is none. A new
 * block for gp_free, or NULL when memory is out. */
char *gp_safetensors_metadata(const unsigned char *data, size_t size);

/**
 * Reads a file written by torch.save (1.6 and later: a zip with one pickle) of `size` bytes and hands over
 * the tensors of the dictionary in it. Nothing of the pickle is executed.
 */
bool gp_torch_file_parse(const unsigned char *data, size_t size, const char *path, gp_tensor_sink sink,
                         void *user, gp_status *status);
