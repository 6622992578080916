/**
 * Files of torch.save: a zip whose entries are stored, not packed, so that tensors can be mapped where they
 * stand. NAME/data.pkl describes the tensors, NAME/data/KEY are the bytes of the storages.
 */
#include "kernels/base/memory.h"
#include "loaders/weights/checkpoint_parts.h"
#include "loaders/weights/pickle.h"

#include <string.h>

enum {
    END_BYTES = 22, /* end of central directory, without its comment */
    COMMENT_MAX = 65535,
    LOCATOR_BYTES = 20,   /* zip64 end locator */
    END64_BYTES = 56,     /* zip64 end of central directory */
    DIRECTORY_BYTES = 46, /* a central directory entry, without its texts */
    LOCAL_BYTES = 30,     /* a local header, without its texts */
    ENTRIES_MAX = 1 << 20,
};

#define END_SIGNATURE       0x06054B50u
#define LOCATOR_SIGNATURE   0x07064B50u
#define END64_SIGNATURE     0x06064B50u
#define DIRECTORY_SIGNATURE 0x02014B50u
#define LOCAL_SIGNATURE     0x04034B50u

/** A stored entry. */
typedef struct entry {
    const char *name; /* not terminated */
    size_t name_length;
    const unsigned char *data;
    uint64_t size;
} entry;

typedef struct archive {
    const unsigned char *data;
    size_t size;
    const char *path;
    gp_status *status;
    entry *entries;
    size_t count;
    const char *prefix; /* of data.pkl, with its slash */
    size_t prefix_length;
    gp_tensor_sink sink;
    void *user;
} archive;

static bool read_directory(archive *zip);
static bool check_byte_order(const archive *zip);
static const entry *find_entry(const archive *zip, const char *folder, const char *name);
static bool place_tensor(void *user, const gp_pickle_tensor *view, gp_status *status);

bool gp_torch_file_parse(const unsigned char *data, size_t size, const char *path, gp_tensor_sink sink,
                         void *user, gp_status *status) {
    static const unsigned char legacy_magic[] = {0x80, 0x02, 0x8A, 0x0A, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20};
    if (size >= sizeof legacy_magic && memcmp(data, legacy_magic, sizeof legacy_magic) == 0)
        return gp_fail(status,
                       "%s: written in torch's format before 1.6, which is not read: load it with torch and "
                       "save it again",
                       path);
    archive zip = {.data = data, .size = size, .path = path, .status = status, .sink = sink, .user = user};
    const entry *pickle = NULL;
    bool done = read_directory(&zip);
    for (size_t i = 0; done && i < zip.count && pickle == NULL; i++) {
        static const char wanted[] = "/data.pkl";
        const entry *at = &zip.entries[i];
        size_t length = sizeof wanted - 1;
        if (at->name_length <= length || memcmp(at->name + at->name_length - length, wanted, length) != 0)
            continue;
        pickle = at;
        zip.prefix = at->name;
        zip.prefix_length = at->name_length - length + 1;
    }
    if (done && pickle == NULL)
        done = gp_fail(status, "%s: a zip without data.pkl: not a file of torch.save", path);
    done = done && check_byte_order(&zip) &&
           gp_pickle_parse(pickle->data, (size_t)pickle->size, path, place_tensor, &zip, status);
    gp_free(zip.entries);
    return done;
}

/* ---- zip ---- */

static uint64_t number(const unsigned char *bytes, int count) {
    uint64_t value = 0;
    for (int i = count - 1; i >= 0; i--) value = value << 8 | bytes[i];
    return value;
}

/** Whether `count` bytes stand at `offset`. */
static bool inside(const archive *zip, uint64_t offset, uint64_t count) {
    return offset <= zip->size && count <= zip->size - offset;
}

/** The central directory: where it begins and how many entries it has. */
static bool find_directory(const archive *zip, uint64_t *offset, uint64_t *count) {
    if (zip->size < END_BYTES)
        return gp_fail(zip->status, "%s: %zu bytes: neither safetensors nor a file of torch.save", zip->path,
                       zip->size);
    size_t last = zip->size - END_BYTES, first = last > COMMENT_MAX ? last - COMMENT_MAX : 0, at = last + 1;
    while (at > first && number(zip->data + at - 1, 4) != END_SIGNATURE) at--;
    if (at == first)
        return gp_fail(zip->status,
                       "%s: not a zip, or cut off: its directory, which stands at the end, is missing",
                       zip->path);
    const unsigned char *end = zip->data + at - 1;
    *count = number(end + 10, 2);
    *offset = number(end + 16, 4);
    size_t end_at = at - 1;
    if (*count != 0xFFFF && *offset != 0xFFFFFFFF) return true;
    if (end_at < LOCATOR_BYTES || number(end - LOCATOR_BYTES, 4) != LOCATOR_SIGNATURE)
        return true; /* they are what they are */
    uint64_t end64 = number(end - LOCATOR_BYTES + 8, 8);
    if (!inside(zip, end64, END64_BYTES) || number(zip->data + end64, 4) != END64_SIGNATURE)
        return gp_fail(zip->status, "%s: zip: its 64-bit directory end is not at byte %llu", zip->path,
                       (unsigned long long)end64);
    *count = number(zip->data + end64 + 32, 8);
    *offset = number(zip->data + end64 + 48, 8);
    return true;
}

/** Sizes and offset that do not fit 32 bits stand in an extra field, in this order, those alone. */
static bool read_extra(const archive *zip, const unsigned char *extra, size_t length, uint64_t *packed,
                       uint64_t *size, uint64_t *local) {
    uint64_t *const wide[3] = {size, packed, local};
    for (size_t at = 0; at + 4 <= length;) {
        uint64_t id = number(extra + at, 2), bytes = number(extra + at + 2, 2);
        if (bytes > length - at - 4) break;
        const unsigned char *field = extra + at + 4;
        uint64_t used = 0;
        for (int i = 0; id == 1 && i < 3; i++) {
            if (*wide[i] != 0xFFFFFFFF) continue;
            if (used + 8 > bytes)
                return gp_fail(zip->status, "%s: zip: a 64-bit field is cut off", zip->path);
            *wide[i] = number(field + used, 8);
            used += 8;
        }
        at += 4 + bytes;
    }
    return true;
}

static bool read_directory(archive *zip) {
    uint64_t at = 0, count = 0;
    if (!find_directory(zip, &at, &count)) return false;
    if (count > ENTRIES_MAX)
        return gp_fail(zip->status, "%s: zip: %llu entries; %d are the most", zip->path,
                       (unsigned long long)count, ENTRIES_MAX);
    zip->entries = gp_allocate_zeroed((size_t)count + 1, sizeof *zip->entries);
    if (zip->entries == NULL)
        return gp_fail(zip->status, "%s: no memory for %llu entries", zip->path, (unsigned long long)count);
    for (uint64_t i = 0; i < count; i++) {
        if (!inside(zip, at, DIRECTORY_BYTES) || number(zip->data + at, 4) != DIRECTORY_SIGNATURE)
            return gp_fail(zip->status, "%s: zip: entry %llu of %llu is not at byte %llu of its directory",
                           zip->path, (unsigned long long)i, (unsigned long long)count,
                           (unsigned long long)at);
        const unsigned char *head = zip->data + at;
        uint64_t flags = number(head + 8, 2), method = number(head + 10, 2), packed = number(head + 20, 4);
        uint64_t size = number(head + 24, 4), local = number(head + 42, 4);
        uint64_t name_length = number(head + 28, 2), extra = number(head + 30, 2),
                 comment = number(head + 32, 2);
        if (!inside(zip, at, DIRECTORY_BYTES + name_length + extra + comment))
            return gp_fail(zip->status, "%s: zip: entry %llu runs out of the file", zip->path,
                           (unsigned long long)i);
        const char *name = (const char *)head + DIRECTORY_BYTES;
        if (!read_extra(zip, head + DIRECTORY_BYTES + name_length, (size_t)extra, &packed, &size, &local))
            return false;
        if ((flags & 1) != 0 || method != 0 || packed != size)
            return gp_fail(zip->status, "%s: zip: %.*s is %s; torch stores its entries as they are",
                           zip->path, (int)name_length, name, (flags & 1) != 0 ? "encrypted" : "compressed");
        if (!inside(zip, local, LOCAL_BYTES) || number(zip->data + local, 4) != LOCAL_SIGNATURE)
            return gp_fail(zip->status, "%s: zip: %.*s is not at byte %llu", zip->path, (int)name_length,
                           name, (unsigned long long)local);
        uint64_t start =
            local + LOCAL_BYTES + number(zip->data + local + 26, 2) + number(zip->data + local + 28, 2);
        if (!inside(zip, start, size))
            return gp_fail(zip->status, "%s: zip: %.*s, %llu bytes at %llu, runs out of the file's %zu",
                           zip->path, (int)name_length, name, (unsigned long long)size,
                           (unsigned long long)start, zip->size);
        zip->entries[zip->count++] = (entry){name, (size_t)name_length, zip->data + start, size};
        at += DIRECTORY_BYTES + name_length + extra + comment;
    }
    return true;
}

/** PREFIX/FOLDER+NAME, or NULL. */
static const entry *find_entry(const archive *zip, const char *folder, const char *name) {
    size_t a = strlen(folder), b = strlen(name);
    for (size_t i = 0; i < zip->count; i++) {
        const entry *at = &zip->entries[i];
        if (at->name_length != zip->prefix_length + a + b) continue;
        if (memcmp(at->name, zip->prefix, zip->prefix_length) == 0 &&
            memcmp(at->name + zip->prefix_length, folder, a) == 0 &&
            memcmp(at->name + zip->prefix_length + a, name, b) == 0)
            return at;
    }
    return NULL;
}

static bool check_byte_order(const archive *zip) {
    const entry *order = find_entry(zip, "", "byteorder");
    if (order == NULL || (order->size == 6 && memcmp(order->data, "little", 6) == 0)) return true;
    return gp_fail(zip->status, "%s: its byte order is \"%.*s\"; little is read", zip->path,
                   (int)(order->size < 16 ? order->size : 16), (const char *)order->data);
}

/* ---- tensors ---- */

static bool place_tensor(void *user, const gp_pickle_tensor *view, gp_status *status) {
    const archive *zip = user;
    const entry *storage = find_entry(zip, "data/", view->storage.key);
    if (storage == NULL)
        return gp_fail(status, "%s: %s: its storage data/%s is missing", zip->path, view->name,
                       view->storage.key);
    gp_tensor tensor = {
        .name = view->name, .file = zip->path, .dtype = view->storage.dtype, .rank = view->rank, .count = 1};
    int64_t elements = (int64_t)(storage->size / gp_dtype_size(tensor.dtype)), last = view->offset;
    if (view->storage.count > elements)
        return gp_fail(status, "%s: %s: its storage has %lld elements, data/%s only %lld", zip->path,
                       view->name, (long long)view->storage.count, view->storage.key, (long long)elements);
    bool fits = true;
    for (int i = 0; i < view->rank; i++) {
        int64_t reach = 0;
        tensor.shape[i] = view->shape[i];
        /* The stride of a dimension of one is never walked, and may be any number. */
        tensor.stride[i] = view->shape[i] > 1 ? view->stride[i] : 0;
        fits = fits && !__builtin_mul_overflow(tensor.count, view->shape[i], &tensor.count);
        if (view->shape[i] > 1)
            fits = fits && !__builtin_mul_overflow(view->shape[i] - 1, view->stride[i], &reach) &&
                   !__builtin_add_overflow(last, reach, &last);
    }
    /* A view may repeat elements, but one of more elements than 62 bits hold is no tensor. */
    fits = fits && tensor.count <= INT64_MAX / 16 && (tensor.count == 0 || last < view->storage.count);
    if (!fits)
        return gp_fail(status, "%s: %s: its view leaves its storage of %lld elements", zip->path, view->name,
                       (long long)view->storage.count);
    tensor.data = storage->data;
    if (tensor.count > 0) tensor.data += (size_t)view->offset * gp_dtype_size(tensor.dtype);
    return zip->sink(zip->user, &tensor, status);
}
