/**
 * The small part of pickle that torch state dicts are written in, read without executing anything:
 * dictionaries, tuples, numbers, texts, storages by persistent id, and torch's three rebuild functions, which
 * are recognised by name. Anything else is refused by name.
 */
#pragma once

#include "loaders/weights/checkpoint.h"

/** A storage that a pickle names: the archive keeps its bytes in data/KEY. */
typedef struct gp_pickle_storage {
    const char *key;
    gp_dtype dtype;
    int64_t count; /* elements, as the pickle says */
} gp_pickle_storage;

/** One tensor of the dictionary: a view of a storage. `name` and `storage.key` are valid during the call. */
typedef struct gp_pickle_tensor {
    const char *name;
    gp_pickle_storage storage;
    int64_t offset; /* in elements */
    int rank;
    int64_t shape[GP_TENSOR_RANK_MAX], stride[GP_TENSOR_RANK_MAX];
} gp_pickle_tensor;

typedef bool (*gp_pickle_sink)(void *user, const gp_pickle_tensor *tensor, gp_status *status);

/** Reads the pickle of `size` bytes at `data` and hands over every tensor of the dictionary it holds. */
bool gp_pickle_parse(const unsigned char *data, size_t size, const char *path, gp_pickle_sink sink,
                     void *user, gp_status *status);
