/**
 * Files of torch.save, built here byte by byte, so that they are tested where the goldens are absent: views
 * of random storages against plain indexing, the zip's forms, shards, and views that leave their storage.
 */
#include "kernels/base/memory.h"
#include "loaders/weights/checkpoint.h"
#include "tests/check.h"

enum { FILE_MAX = 1 << 16, STORAGE_MAX = 2048 };

/** Bytes that grow. */
typedef struct bytes {
    unsigned char data[FILE_MAX];
    size_t count;
} bytes;

/** A file to be built: one tensor "w" of floats, a view of storage "0". */
typedef struct plan {
    int rank;
    int64_t shape[GP_TENSOR_RANK_MAX], stride[GP_TENSOR_RANK_MAX];
    int stride_count; /* strides written; `rank` in a sound file */
    int64_t offset, announced;
    size_t stored; /* floats in the entry data/0 */
    int protocol;
    bool zip64;
    const char *byte_order;
    const char *storage_entry;
    const char *tensor;
    size_t padding;            /* bytes before the first entry, which shift every storage */
    uint64_t directory_offset; /* in place of the true one when not 0; needs zip64 */
    uint64_t entry_size;       /* of data/0, in place of the true one when not 0 */
} plan;

static char folder[4096];
static float storage[STORAGE_MAX];
static bytes file;

static void put(bytes *out, const void *data, size_t count) {
    REQUIRE(count <= FILE_MAX - out->count, "a test file of more than %d bytes", FILE_MAX);
    memcpy(out->data + out->count, data, count);
    out->count += count;
}

static void put_text(bytes *out, const char *text) {
    put(out, text, strlen(text));
}

/** Little-endian. */
static void put_number(bytes *out, uint64_t number, int count) {
    for (int i = 0; i < count; i++) put(out, &(unsigned char){(unsigned char)(number >> (8 * i))}, 1);
}

static void put_zeros(bytes *out, int count) {
    for (int i = 0; i < count; i++) put_number(out, 0, 1);
}

/* ---- pickle ---- */

static void pickle_text(bytes *out, const char *text, int protocol) {
    bool is_short = protocol >= 4;
    put(out, is_short ? "\x8C" : "X", 1);
    put_number(out, strlen(text), is_short ? 1 : 4);
    put_text(out, text);
}

static void pickle_global(bytes *out, const char *module, const char *name, int protocol) {
    if (protocol >= 4) {
        pickle_text(out, module, protocol);
        pickle_text(out, name, protocol);
        put(out, "\x93", 1);
        return;
    }
    put_text(out, "c");
    put_text(out, module);
    put_text(out, "\n");
    put_text(out, name);
    put_text(out, "\n");
}

static void pickle_integer(bytes *out, int64_t value) {
    put(out, "\x8A\x08", 2);
    put_number(out, (uint64_t)value, 8);
}

static void pickle_sizes(bytes *out, const int64_t *sizes, int count) {
    put(out, "(", 1);
    for (int i = 0; i < count; i++) pickle_integer(out, sizes[i]);
    put(out, "t", 1);
}

/** {"w": _rebuild_tensor_v2(storage, offset, shape, strides, False, OrderedDict())} */
static void pickle(bytes *out, const plan *p) {
    out->count = 0;
    put_number(out, 0x80, 1);
    put_number(out, (uint64_t)p->protocol, 1);
    put_text(out, "}");
    pickle_text(out, p->tensor, p->protocol);
    pickle_global(out, "torch._utils", "_rebuild_tensor_v2", p->protocol);
    put_text(out, "((");
    pickle_text(out, "storage", p->protocol);
    pickle_global(out, "torch", "FloatStorage", p->protocol);
    pickle_text(out, "0", p->protocol);
    pickle_text(out, "cpu", p->protocol);
    pickle_integer(out, p->announced);
    put_text(out, "tQ");
    pickle_integer(out, p->offset);
    pickle_sizes(out, p->shape, p->rank);
    pickle_sizes(out, p->stride, p->stride_count);
    put(out, "\x89", 1);
    pickle_global(out, "collections", "OrderedDict", p->protocol);
    put_text(out, ")RtRs.");
}

/* ---- zip ---- */

/** A stored entry, its directory record going to `directory`. */
static void put_entry(bytes *out, bytes *directory, const plan *p, const char *name, const void *data,
                      size_t size, uint64_t announced) {
    size_t at = out->count;
    put_text(out, "PK\3\4");
    put_zeros(out, 14);
    put_number(out, size, 4);
    put_number(out, size, 4);
    put_number(out, strlen(name), 2);
    put_number(out, 0, 2);
    put_text(out, name);
    put(out, data, size);
    put_text(directory, "PK\1\2");
    put_zeros(directory, 16);
    put_number(directory, p->zip64 ? 0xFFFFFFFF : announced, 4);
    put_number(directory, p->zip64 ? 0xFFFFFFFF : announced, 4);
    put_number(directory, strlen(name), 2);
    put_number(directory, p->zip64 ? 28 : 0, 2);
    put_zeros(directory, 10);
    put_number(directory, p->zip64 ? 0xFFFFFFFF : at, 4);
    put_text(directory, name);
    if (!p->zip64) return;
    put_number(directory, 1, 2);
    put_number(directory, 24, 2);
    put_number(directory, announced, 8);
    put_number(directory, announced, 8);
    put_number(directory, at, 8);
}

static void build(const plan *p) {
    static bytes directory, content;
    uint64_t size = p->stored * sizeof *storage, entries = p->byte_order != NULL ? 3 : 2;
    pickle(&content, p);
    file.count = directory.count = 0;
    put_entry(&file, &directory, p, "x/data.pkl", content.data, content.count, content.count);
    if (p->byte_order != NULL)
        put_entry(&file, &directory, p, "x/byteorder", p->byte_order, strlen(p->byte_order),
                  strlen(p->byte_order));
    for (size_t i = 0; i < p->padding; i++) put_number(&file, 0xAA, 1);
    put_entry(&file, &directory, p, p->storage_entry, storage, (size_t)size,
              p->entry_size != 0 ? p->entry_size : size);
    uint64_t start = p->directory_offset != 0 ? p->directory_offset : file.count, end = file.count;
    put(&file, directory.data, directory.count);
    if (p->zip64) {
        end = file.count;
        put_text(&file, "PK\6\6");
        put_number(&file, 44, 8);
        put_zeros(&file, 12);
        put_number(&file, entries, 8);
        put_number(&file, entries, 8);
        put_number(&file, directory.count, 8);
        put_number(&file, start, 8);
        put_text(&file, "PK\6\7");
        put_number(&file, 0, 4);
        put_number(&file, end, 8);
        put_number(&file, 1, 4);
    }
    put_text(&file, "PK\5\6");
    put_number(&file, 0, 4);
    put_number(&file, p->zip64 ? 0xFFFF : entries, 2);
    put_number(&file, p->zip64 ? 0xFFFF : entries, 2);
    put_number(&file, directory.count, 4);
    put_number(&file, p->zip64 ? 0xFFFFFFFF : start, 4);
    put_number(&file, 0, 2);
}

static const char *write_file(const char *name) {
    static char path[4200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *out = fopen(path, "wb");
    REQUIRE(out != NULL && fwrite(file.data, 1, file.count, out) == file.count, "cannot write %s", path);
    fclose(out);
    return path;
}

/* ---- tests ---- */

/** A sound file: a [2, 3] view, not contiguous, of a storage of 16. */
static plan sound(void) {
    return (plan){.rank = 2,
                  .shape = {2, 3},
                  .stride = {1, 4},
                  .stride_count = 2,
                  .offset = 5,
                  .announced = 16,
                  .stored = 16,
                  .protocol = 2,
                  .storage_entry = "x/data/0",
                  .tensor = "w"};
}

/** Reads the file of the plan; every element must be the storage's, found by plain indexing. */
static void accept(const plan *p, const char *what) {
    gp_checkpoint *checkpoint;
    gp_status status = {0};
    build(p);
    bool opened = gp_checkpoint_open_file(write_file("w.bin"), &checkpoint, &status);
    CHECK(opened, "%s: %s", what, status.message);
    gp_status_clear(&status);
    if (!opened) return;
    const gp_tensor *tensor = gp_checkpoint_find(checkpoint, p->tensor);
    REQUIRE(tensor != NULL && tensor->rank == p->rank && tensor->dtype == GP_DTYPE_F32, "%s: %s", what,
            p->tensor);
    const float *have = gp_checkpoint_read(checkpoint, tensor, &status);
    REQUIRE(have != NULL, "%s: %s", what, status.message);
    CHECK((uintptr_t)have % sizeof *have == 0, "%s: not aligned", what);
    int64_t count = 1;
    for (int i = 0; i < p->rank; i++) {
        CHECK(tensor->shape[i] == p->shape[i], "%s: shape[%d]", what, i);
        count *= p->shape[i];
    }
    CHECK(tensor->count == count, "%s: %lld elements", what, (long long)tensor->count);
    for (int64_t i = 0; i < count; i++) {
        int64_t rest = i, from = p->offset;
        for (int d = p->rank - 1; d >= 0; d--) {
            if (p->shape[d] > 1) from += rest % p->shape[d] * p->stride[d];
            rest /= p->shape[d];
        }
        CHECK(memcmp(&have[i], &storage[from], sizeof *have) == 0, "%s: element %lld", what, (long long)i);
    }
    gp_checkpoint_close(checkpoint);
}

/** The file of the plan must be refused with its name and `word` in the message. */
static void refuse(const plan *p, const char *word) {
    gp_checkpoint *checkpoint;
    gp_status status = {0};
    build(p);
    bool opened = gp_checkpoint_open_file(write_file("w.bin"), &checkpoint, &status);
    CHECK(!opened && strstr(status.message, "w.bin") != NULL && strstr(status.message, word) != NULL,
          "\"%s\": %s", word, opened ? "taken" : status.message);
    if (opened) gp_checkpoint_close(checkpoint);
    gp_status_clear(&status);
}

/** Views of any rank, offset, strides and padding that fit the storage, in both zip and pickle forms. */
static void test_views(uint64_t *seed) {
    for (int round = 0; round < 300; round++) {
        plan p = sound();
        int64_t reach = 0;
        char what[64];
        p.rank = p.stride_count = (int)(random_bits(seed) % (GP_TENSOR_RANK_MAX + 1));
        for (int i = 0; i < p.rank; i++) {
            p.shape[i] = (int64_t)(random_bits(seed) % 16 == 0 ? 0 : 1 + random_bits(seed) % 3);
            p.stride[i] = (int64_t)(random_bits(seed) % 40); /* 0: the same element again */
            if (p.shape[i] > 1) reach += (p.shape[i] - 1) * p.stride[i];
        }
        p.offset = (int64_t)(random_bits(seed) % 100);
        p.announced = p.offset + reach + 1; /* the last element is the storage's last */
        p.stored = (size_t)p.announced + random_bits(seed) % 3;
        p.protocol = 2 + (int)(random_bits(seed) % 3);
        p.zip64 = random_bits(seed) % 2 == 0;
        p.byte_order = random_bits(seed) % 2 == 0 ? "little" : NULL;
        p.padding = random_bits(seed) % 8;
        snprintf(what, sizeof what, "round %d, rank %d", round, p.rank);
        accept(&p, what);
    }
}

static void test_bounds(void) {
    plan p = sound();
    accept(&p, "sound");
    p = sound(), p.announced = p.stored = 15, accept(&p, "its last element is the storage's last");
    p = sound(), p.announced = 14, refuse(&p, "leaves its storage of 14");
    p = sound(), p.announced = 17, refuse(&p, "17 elements");
    p = sound(), p.offset = 16, refuse(&p, "leaves its storage");
    p = sound(), p.offset = INT64_MAX, refuse(&p, "leaves its storage");
    p = sound(), p.offset = -1, refuse(&p, "w: its offset");
    p = sound(), p.stride[1] = -1, refuse(&p, "w: its offset");
    p = sound(), p.stride[1] = INT64_MAX, refuse(&p, "leaves its storage");
    p = sound(), p.shape[0] = -2, refuse(&p, "w: its offset");
    p = sound(), p.shape[0] = INT64_MAX, p.stride[0] = 0, refuse(&p, "leaves its storage");
    p = sound(), p.stride_count = 1, refuse(&p, "w: its offset");
    p = sound(), p.announced = -1, refuse(&p, "no storage");
    p = sound(), p.announced = INT64_MAX, refuse(&p, "elements");
    p = sound(), p.storage_entry = "x/data/1", refuse(&p, "data/0 is missing");
    /* The stride of a dimension of one is not walked, however large. */
    p = sound(), p.shape[1] = 1, p.stride[0] = 4, p.stride[1] = INT64_MAX;
    accept(&p, "a huge stride of a dimension of one");
}

static void test_zip_forms(void) {
    plan p = sound();
    p.byte_order = "big", refuse(&p, "byte order is \"big\"");
    p = sound(), p.entry_size = 60000, refuse(&p, "60000 bytes");
    p = sound(), p.zip64 = true, p.entry_size = UINT64_MAX - 8, refuse(&p, "x/data/0");
    /* Offsets whose addresses wrap around must be refused before an address is made of them. */
    p = sound(), p.zip64 = true, p.directory_offset = UINT64_MAX - 63, refuse(&p, "of its directory");
    p = sound(), p.zip64 = true, p.directory_offset = 1ull << 63, refuse(&p, "of its directory");
}

/** Two .bin shards: both read; refused when they hold the same tensor. */
static void test_shards(void) {
    static const char index[] = "{\"weight_map\":{\"a\":\"one.bin\",\"b\":\"two.bin\"}}";
    gp_checkpoint *checkpoint;
    gp_status status = {0};
    plan p = sound();
    file.count = 0;
    put_text(&file, index);
    write_file("pytorch_model.bin.index.json");
    p.tensor = "a", build(&p), write_file("one.bin");
    p.tensor = "b", build(&p), write_file("two.bin");
    REQUIRE(gp_checkpoint_open(folder, &checkpoint, &status), "%s", status.message);
    CHECK(gp_checkpoint_count(checkpoint) == 2, "%zu tensors", gp_checkpoint_count(checkpoint));
    gp_checkpoint_close(checkpoint);
    p.tensor = "a", build(&p), write_file("two.bin");
    bool opened = gp_checkpoint_open(folder, &checkpoint, &status);
    CHECK(!opened && strstr(status.message, "two.bin: a stands in") != NULL &&
              strstr(status.message, "one.bin, too") != NULL,
          "%s", opened ? "taken" : status.message);
    if (opened) gp_checkpoint_close(checkpoint);
    gp_status_clear(&status);
}

int main(void) {
    uint64_t seed = fresh_seed();
    snprintf(folder, sizeof folder, "%s", scratch_folder());
    for (size_t i = 0; i < STORAGE_MAX; i++) storage[i] = random_float(&seed);
    test_views(&seed);
    test_bounds();
    test_zip_forms();
    test_shards();
    CHECK(gp_memory_observe().live_bytes == 0, "%zu bytes are left", gp_memory_observe().live_bytes);
    return check_done();
}
