/**
 * Model weights in a Hugging Face folder, mapped into memory: model.safetensors, sharded safetensors with an
 * index, pytorch_model.bin, or its shards with an index. Nothing is converted and nothing is read before it
 * is asked for; bytes from the file are checked before they are believed.
 */
#pragma once

#include "kernels/base/dtype.h"
#include "kernels/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GP_TENSOR_RANK_MAX 8

/** One tensor as a file describes it. Names, and the data it stands for, live as long as the checkpoint. */
typedef struct gp_tensor {
    const char *name;
    const char *file; /* path of the file that holds it */
    gp_dtype dtype;
    int rank;
    int64_t shape[GP_TENSOR_RANK_MAX];
    int64_t stride[GP_TENSOR_RANK_MAX]; /* in elements; torch files may hold views */
    const unsigned char *data;          /* the first element, inside the mapping; may be unaligned */
    int64_t count;                      /* elements: the product of shape */
} gp_tensor;

typedef struct gp_checkpoint gp_checkpoint;

/**
 * Opens the weights in `folder`. Prefers, in this order, model.safetensors, model.safetensors.index.json,
 * pytorch_model.bin, pytorch_model.bin.index.json. Fails, naming the file and the numbers, on anything
 * malformed: overlapping or outside offsets, sizes that disagree with shape and dtype, shards that an index
 * names and the folder lacks, a tensor whose shard does not hold it, names that occur twice.
 * Free with gp_checkpoint_close.
 */
bool gp_checkpoint_open(const char *folder, gp_checkpoint **checkpoint, gp_status *status);

/** The same for one weight file, by content: safetensors, or a torch file. */
bool gp_checkpoint_open_file(const char *path, gp_checkpoint **checkpoint, gp_status *status);

/** The tensor of that name, or NULL. */
const gp_tensor *gp_checkpoint_find(const gp_checkpoint *checkpoint, const char *name);

size_t gp_checkpoint_count(const gp_checkpoint *checkpoint);

/** Tensor `index` < gp_checkpoint_count, in the files' order. */
const gp_tensor *gp_checkpoint_tensor(const gp_checkpoint *checkpoint, size_t index);

/**
 * The tensor's elements, contiguous in row-major order and aligned to their size: inside the mapping when
 * they already are, else in a copy that the checkpoint owns and gives again to the next caller. NULL with
 * `status` set when the copy cannot be had. Not safe to call from two threads at once.
 */
const void *gp_checkpoint_read(gp_checkpoint *checkpoint, const gp_tensor *tensor, gp_status *status);

/** One weight file. */
typedef struct gp_weight_file {
    const char *path;   /* as in gp_tensor.file; lives as long as the checkpoint */
    const char *format; /* "safetensors" or "torch" */
    size_t bytes;
} gp_weight_file;

size_t gp_checkpoint_file_count(const gp_checkpoint *checkpoint);

/** File `index` < gp_checkpoint_file_count, in the order of opening. */
gp_weight_file gp_checkpoint_file(const gp_checkpoint *checkpoint, size_t index);

/**
 * What a safetensors file says of itself (`__metadata__`), a JSON object as text: "{}" where it says nothing.
 * A new block for gp_free, or NULL when memory is out.
 */
char *gp_checkpoint_metadata(const gp_checkpoint *checkpoint, size_t index);

/** Whether the file is one that gp_checkpoint_open_file would take for weights, by its first bytes or by the
 * ending of its name. Fails naming the file where it cannot be read. */
bool gp_weight_file_recognise(const char *path, bool *weights, gp_status *status);

/** Bytes of all files mapped. */
size_t gp_checkpoint_mapped_bytes(const gp_checkpoint *checkpoint);

/** Unmaps; every pointer got from the checkpoint ends. NULL is allowed. */
void gp_checkpoint_close(gp_checkpoint *checkpoint);
