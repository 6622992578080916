#include "kernels/base/memory.h"
#include "loaders/weights/checkpoint_parts.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

/** One weight file. */
typedef struct weight_file {
    char *path;
    gp_mapping mapping;
    bool torch; /* else safetensors */
} weight_file;

/** A tensor with what the checkpoint knows of it. */
typedef struct entry {
    gp_tensor tensor; /* its name is owned */
    void *copy;       /* contiguous elements, once they were asked for; NULL where the mapping has them */
} entry;

struct gp_checkpoint {
    weight_file *files;
    size_t file_count;
    entry **entries; /* each allocated apart, so that tensors stay where they are */
    size_t count, capacity;
    uint32_t *table; /* open addressing: index + 1, 0 is empty */
    size_t table_size;
};

static bool open_index(gp_checkpoint *checkpoint, const char *folder, const char *name, gp_status *status);
static bool add_file(gp_checkpoint *checkpoint, const char *path, gp_status *status);
static bool is_torch(const gp_mapping *mapping, const char *path);
static bool has_ending(const char *path, const char *ending);
static bool add_tensor(void *user, const gp_tensor *tensor, gp_status *status);
static uint32_t *slot_of(const gp_checkpoint *checkpoint, const char *name);
static bool grow_table(gp_checkpoint *checkpoint);
static bool is_contiguous(const gp_tensor *tensor);

bool gp_checkpoint_open(const char *folder, gp_checkpoint **out, gp_status *status) {
    static const struct {
        const char *name;
        bool index;
    } forms[] = {{"model.safetensors", false},
                 {"model.safetensors.index.json", true},
                 {"pytorch_model.bin", false},
                 {"pytorch_model.bin.index.json", true}};
    if (!gp_folder_check(folder, status)) return false;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (!gp_file_exists(folder, forms[i].name)) continue;
        char *path = gp_file_join(folder, forms[i].name);
        gp_checkpoint *checkpoint = gp_allocate_zeroed(1, sizeof *checkpoint);
        bool done = path != NULL && checkpoint != NULL;
        if (!done)
            gp_fail(status, "no memory for a checkpoint");
        else if (forms[i].index)
            done = open_index(checkpoint, folder, forms[i].name, status);
        else
            done = add_file(checkpoint, path, status);
        gp_free(path);
        if (!done) {
            gp_checkpoint_close(checkpoint);
            return false;
        }
        *out = checkpoint;
        return true;
    }
    return gp_fail(
        status,
        "%s: no weights: none of model.safetensors, model.safetensors.index.json, pytorch_model.bin and "
        "pytorch_model.bin.index.json is there",
        folder);
}

bool gp_checkpoint_open_file(const char *path, gp_checkpoint **out, gp_status *status) {
    gp_checkpoint *checkpoint = gp_allocate_zeroed(1, sizeof *checkpoint);
    if (checkpoint == NULL) return gp_fail(status, "no memory for a checkpoint");
    if (!add_file(checkpoint, path, status)) {
        gp_checkpoint_close(checkpoint);
        return false;
    }
    *out = checkpoint;
    return true;
}

void gp_checkpoint_close(gp_checkpoint *checkpoint) {
    if (checkpoint == NULL) return;
    for (size_t i = 0; i < checkpoint->count; i++) {
        gp_free((char *)checkpoint->entries[i]->tensor.name);
        gp_free(checkpoint->entries[i]->copy);
        gp_free(checkpoint->entries[i]);
    }
    for (size_t i = 0; i < checkpoint->file_count; i++) {
        gp_file_unmap(&checkpoint->files[i].mapping);
        gp_free(checkpoint->files[i].path);
    }
    gp_free(checkpoint->files);
    gp_free(checkpoint->entries);
    gp_free(checkpoint->table);
    gp_free(checkpoint);
}

const gp_tensor *gp_checkpoint_find(const gp_checkpoint *checkpoint, const char *name) {
    if (checkpoint->table_size == 0) return NULL;
    uint32_t index = *slot_of(checkpoint, name);
    return index > 0 ? &checkpoint->entries[index - 1]->tensor : NULL;
}

size_t gp_checkpoint_count(const gp_checkpoint *checkpoint) {
    return checkpoint->count;
}

const gp_tensor *gp_checkpoint_tensor(const gp_checkpoint *checkpoint, size_t index) {
    return &checkpoint->entries[index]->tensor;
}

size_t gp_checkpoint_file_count(const gp_checkpoint *checkpoint) {
    return checkpoint->file_count;
}

gp_weight_file gp_checkpoint_file(const gp_checkpoint *checkpoint, size_t index) {
    const weight_file *file = &checkpoint->files[index];
    return (gp_weight_file){file->path, file->torch ? "torch" : "safetensors", file->mapping.size};
}

char *gp_checkpoint_metadata(const gp_checkpoint *checkpoint, size_t index) {
    const weight_file *file = &checkpoint->files[index];
    return file->torch ? gp_copy_text("{}") : gp_safetensors_metadata(file->mapping.data, file->mapping.size);
}

bool gp_weight_file_recognise(const char *path, bool *weights, gp_status *status) {
    gp_mapping mapping;
    if (!gp_file_map(path, &mapping, status)) return false;
    /* A header of 2^48 bytes and more is none, so what begins otherwise may be anything. */
    bool header = mapping.size > 8 && mapping.data[8] == '{' && mapping.data[6] == 0 && mapping.data[7] == 0;
    *weights = header || is_torch(&mapping, path) || has_ending(path, ".safetensors");
    gp_file_unmap(&mapping);
    return true;
}

size_t gp_checkpoint_mapped_bytes(const gp_checkpoint *checkpoint) {
    size_t bytes = 0;
    for (size_t i = 0; i < checkpoint->file_count; i++) bytes += checkpoint->files[i].mapping.size;
    return bytes;
}

const void *gp_checkpoint_read(gp_checkpoint *checkpoint, const gp_tensor *tensor, gp_status *status) {
    entry *own = checkpoint->entries[*slot_of(checkpoint, tensor->name) - 1];
    size_t size = gp_dtype_size(tensor->dtype);
    if (is_contiguous(tensor) && (uintptr_t)tensor->data % size == 0) return tensor->data;
    if (own->copy != NULL) return own->copy;
    own->copy = gp_allocate((size_t)tensor->count * size);
    if (own->copy == NULL) {
        gp_fail(status, "%s: no memory for a copy of %s, %lld elements", tensor->file, tensor->name,
                (long long)tensor->count);
        return NULL;
    }
    int64_t at[GP_TENSOR_RANK_MAX] = {0}, offset = 0; /* the position of the next element */
    for (int64_t i = 0; i < tensor->count; i++) {
        memcpy((char *)own->copy + (size_t)i * size, tensor->data + (size_t)offset * size, size);
        for (int d = tensor->rank - 1; d >= 0; d--) {
            offset += tensor->stride[d];
            if (++at[d] < tensor->shape[d]) break;
            offset -= tensor->shape[d] * tensor->stride[d];
            at[d] = 0;
        }
    }
    return own->copy;
}

static bool is_contiguous(const gp_tensor *tensor) {
    int64_t stride = 1;
    for (int i = tensor->rank - 1; i >= 0; i--) {
        if (tensor->shape[i] > 1 && tensor->stride[i] != stride) return tensor->count <= 1;
        stride *= tensor->count > 0 ? tensor->shape[i] : 1;
    }
    return true;
}

/* ---- files ---- */

static bool add_file(gp_checkpoint *checkpoint, const char *path, gp_status *status) {
    weight_file *grown = gp_grow(checkpoint->files, checkpoint->file_count * sizeof *grown,
                                 (checkpoint->file_count + 1) * sizeof *grown);
    char *copy = gp_copy_text(path);
    if (grown != NULL) checkpoint->files = grown;
    if (grown == NULL || copy == NULL) {
        gp_free(copy);
        return gp_fail(status, "no memory for %s", path);
    }
    weight_file *file = &checkpoint->files[checkpoint->file_count];
    *file = (weight_file){.path = copy};
    if (!gp_file_map(path, &file->mapping, status)) {
        gp_free(copy);
        return false;
    }
    checkpoint->file_count++;
    const gp_mapping *mapping = &file->mapping;
    file->torch = is_torch(mapping, path);
    return file->torch
               ? gp_torch_file_parse(mapping->data, mapping->size, copy, add_tensor, checkpoint, status)
               : gp_safetensors_parse(mapping->data, mapping->size, copy, add_tensor, checkpoint, status);
}

static bool has_ending(const char *path, const char *ending) {
    const char *point = strrchr(path, '.');
    return point != NULL && strcmp(point, ending) == 0;
}

/** A zip, or a pickle as before torch 1.6; as the length of a safetensors header either would be absurd. */
static bool is_torch(const gp_mapping *mapping, const char *path) {
    if (mapping->size >= 4 &&
        (memcmp(mapping->data, "PK\3\4", 4) == 0 || memcmp(mapping->data, "\x80\x02\x8A\x0A", 4) == 0))
        return true;
    bool header = mapping->size > 8 && mapping->data[8] == '{'; /* safetensors, whatever the file is called */
    return !header && has_ending(path, ".bin");
}

static bool is_plain_name(const char *name) {
    return name[0] != '\0' && strchr(name, '/') == NULL && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/** The number of the file of that name among those opened, or file_count. */
static size_t find_file(const gp_checkpoint *checkpoint, const char *path) {
    size_t i = 0;
    while (i < checkpoint->file_count && strcmp(checkpoint->files[i].path, path) != 0) i++;
    return i;
}

/** Every file that the weight map names, then every tensor in the file that the map says. */
static bool open_shards(gp_checkpoint *checkpoint, const char *folder, const char *index, const json_t *map,
                        gp_status *status) {
    const char *name;
    json_t *json;
    json_object_foreach((json_t *)map, name, json) {
        const char *shard = json_string_value(json);
        if (shard == NULL || !is_plain_name(shard))
            return gp_fail(status, "%s: weight_map: %s: its file is not a name in the folder", index, name);
        char *path = gp_file_join(folder, shard);
        if (path == NULL) return gp_fail(status, "no memory for %s", shard);
        bool done =
            find_file(checkpoint, path) < checkpoint->file_count || add_file(checkpoint, path, status);
        if (done) {
            const gp_tensor *tensor = gp_checkpoint_find(checkpoint, name);
            if (tensor == NULL || strcmp(tensor->file, path) != 0)
                done = gp_fail(status, "%s: weight_map: %s is said to be in %s, which does not hold it",
                               index, name, shard);
        }
        gp_free(path);
        if (!done) return false;
    }
    return true;
}

static bool open_index(gp_checkpoint *checkpoint, const char *folder, const char *name, gp_status *status) {
    char *path = gp_file_join(folder, name);
    gp_mapping file;
    if (path == NULL) return gp_fail(status, "no memory for %s", name);
    bool done = gp_file_map(path, &file, status);
    if (done) {
        json_error_t error;
        json_t *root = json_loadb(file.data != NULL ? (const char *)file.data : "", file.size,
                                  JSON_REJECT_DUPLICATES, &error);
        const json_t *map = json_object_get(root, "weight_map");
        if (root == NULL)
            done = gp_fail(status, "%s: line %d: %s", path, error.line, error.text);
        else if (!json_is_object(map) || json_object_size(map) == 0)
            done = gp_fail(status, "%s: weight_map is missing, empty or not an object", path);
        else
            done = open_shards(checkpoint, folder, path, map, status);
        json_decref(root);
        gp_file_unmap(&file);
    }
    gp_free(path);
    return done;
}

/* ---- tensors ---- */

static bool add_tensor(void *user, const gp_tensor *tensor, gp_status *status) {
    gp_checkpoint *checkpoint = user;
    if (checkpoint->count == checkpoint->capacity) {
        size_t larger = checkpoint->capacity > 0 ? 2 * checkpoint->capacity : 256;
        entry **grown =
            gp_grow(checkpoint->entries, checkpoint->count * sizeof *grown, larger * sizeof *grown);
        if (grown == NULL) return gp_fail(status, "%s: no memory for %zu tensors", tensor->file, larger);
        checkpoint->entries = grown;
        checkpoint->capacity = larger;
    }
    if (2 * checkpoint->count >= checkpoint->table_size && !grow_table(checkpoint))
        return gp_fail(status, "%s: no memory for %zu tensors", tensor->file, checkpoint->count);
    uint32_t *slot = slot_of(checkpoint, tensor->name);
    if (*slot != 0)
        return gp_fail(status, "%s: %s stands in %s, too", tensor->file, tensor->name,
                       checkpoint->entries[*slot - 1]->tensor.file);
    entry *own = gp_allocate_zeroed(1, sizeof *own);
    char *name = gp_copy_text(tensor->name);
    if (own == NULL || name == NULL) {
        gp_free(own);
        gp_free(name);
        return gp_fail(status, "%s: no memory for %s", tensor->file, tensor->name);
    }
    own->tensor = *tensor;
    own->tensor.name = name;
    checkpoint->entries[checkpoint->count++] = own;
    *slot = (uint32_t)checkpoint->count;
    return true;
}

/** FNV-1a. */
static uint64_t hash(const char *name) {
    uint64_t value = 14695981039346656037ull;
    for (; *name != '\0'; name++) value = (value ^ (unsigned char)*name) * 1099511628211ull;
    return value;
}

/** Where `name` stands in the table, or the empty slot where it would. */
static uint32_t *slot_of(const gp_checkpoint *checkpoint, const char *name) {
    size_t at = (size_t)hash(name) & (checkpoint->table_size - 1);
    while (checkpoint->table[at] != 0 &&
           strcmp(checkpoint->entries[checkpoint->table[at] - 1]->tensor.name, name) != 0)
        at = (at + 1) & (checkpoint->table_size - 1);
    return &checkpoint->table[at];
}

static bool grow_table(gp_checkpoint *checkpoint) {
    size_t larger = checkpoint->table_size > 0 ? 2 * checkpoint->table_size : 512;
    uint32_t *table = gp_allocate_zeroed(larger, sizeof *table);
    if (table == NULL) return false;
    gp_free(checkpoint->table);
    checkpoint->table = table;
    checkpoint->table_size = larger;
    for (size_t i = 0; i < checkpoint->count; i++)
        *slot_of(checkpoint, checkpoint->entries[i]->tensor.name) = (uint32_t)(i + 1);
    return true;
}
