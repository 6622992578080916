/** safetensors and torch files: what they hold against the goldens, and every refusal with its words. */
#include "kernels/base/memory.h"
#include "loaders/weights/checkpoint.h"
#include "tests/check.h"

#include <stdarg.h>
#include <sys/stat.h>

static char folder[4096];

static const char *path_of(const char *name) {
    static char path[4][4200];
    static int turn;
    char *out = path[turn++ % 4];
    snprintf(out, sizeof path[0], "%s/%s", folder, name);
    return out;
}

static void write_bytes(const char *name, const void *bytes, size_t size) {
    FILE *out = fopen(path_of(name), "wb");
    REQUIRE(out != NULL && fwrite(bytes, 1, size, out) == size, "cannot write %s", name);
    fclose(out);
}

/** A safetensors file: length, header, `data` bytes of rising numbers. */
static void write_safetensors(const char *name, const char *header, size_t data) {
    static unsigned char file[1 << 16];
    size_t length = strlen(header);
    for (int i = 0; i < 8; i++) file[i] = (unsigned char)(length >> (8 * i));
    memcpy(file + 8, header, length);
    for (size_t i = 0; i < data; i++) file[8 + length + i] = (unsigned char)i;
    write_bytes(name, file, 8 + length + data);
}

/** The file must be refused with both words in the message, and its name. */
static void refuse_file(const char *name, const char *word, const char *other) {
    gp_checkpoint *checkpoint;
    gp_status status = {0};
    bool opened = gp_checkpoint_open_file(path_of(name), &checkpoint, &status);
    CHECK(!opened && strstr(status.message, name) != NULL && strstr(status.message, word) != NULL &&
              strstr(status.message, other) != NULL,
          "%s, \"%s\", \"%s\": %s", name, word, other, opened ? "taken" : status.message);
    if (opened) gp_checkpoint_close(checkpoint);
    gp_status_clear(&status);
}

static void test_safetensors(void) {
    gp_checkpoint *checkpoint;
    gp_status status = {0};
    write_safetensors("good.safetensors",
                      "{\"__metadata__\":{\"format\":\"pt\"},\"b\":{\"dtype\":\"BF16\",\"shape\":[2,3],"
                      "\"data_offsets\":[0,12]},"
                      "\"empty\":{\"dtype\":\"F32\",\"shape\":[0,4],\"data_offsets\":[12,12]},\"one\":{"
                      "\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[12,16]}}",
                      16);
    REQUIRE(gp_checkpoint_open_file(path_of("good.safetensors"), &checkpoint, &status), "%s", status.message);
    const gp_tensor *b = gp_checkpoint_find(checkpoint, "b"),
                    *empty = gp_checkpoint_find(checkpoint, "empty");
    CHECK(gp_checkpoint_count(checkpoint) == 3 && b != NULL && empty != NULL &&
              gp_checkpoint_find(checkpoint, "c") == NULL,
          "names");
    CHECK(b->rank == 2 && b->shape[1] == 3 && b->count == 6 && b->dtype == GP_DTYPE_BF16, "b");
    CHECK(empty->count == 0 && gp_checkpoint_find(checkpoint, "one")->rank == 0,
          "no elements, no dimensions");
    const unsigned char *bytes = gp_checkpoint_read(checkpoint, b, &status);
    CHECK(bytes != NULL && bytes[0] == 0 && bytes[11] == 11 && (uintptr_t)bytes % 2 == 0,
          "aligned, whatever the header's length");
    CHECK(gp_checkpoint_read(checkpoint, b, &status) == bytes, "the same again");
    gp_checkpoint_close(checkpoint);

    static const struct {
        const char *header;
        size_t data;
        const char *word, *other;
    } bad[] = {
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":"
         "[2],\"data_offsets\":[4,12]}}",
         12, "b begins at byte 4", "a"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 4, "beyond", "8"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 12, "0 to 4", "no tensor"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 12, "8", "12"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8, "8 bytes", "12"},
        {"{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[8],\"data_offsets\":[0,8]}}", 8, "F8_E4M3", "a"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8, "shape[0]", "a"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,16],\"data_offsets\":[0,8]}}", 8,
         "more elements", "a"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,2],\"data_offsets\":[0,8]}}", 8,
         "9 dimensions", "8"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, "data_offsets", "a"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", 8, "data_offsets", "a"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":\"2\",\"data_offsets\":[0,8]}}", 8, "shape", "a"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"a\":{\"dtype\":\"F32\",\"shape\":"
         "[2],\"data_offsets\":[0,8]}}",
         8, "header", "uplicate"},
        {"{\"a\":7}", 0, "a", "dtype"},
        {"[]", 0, "not a JSON object", ""},
        {"{\"a\":", 0, "header", ""},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_safetensors("bad.safetensors", bad[i].header, bad[i].data);
        refuse_file("bad.safetensors", bad[i].word, bad[i].other);
    }
    write_bytes("bad.safetensors", "\x05", 1);
    refuse_file("bad.safetensors", "1 bytes", "");
    write_bytes("bad.safetensors", "\xFF\xFF\0\0\0\0\0\0{}", 10);
    refuse_file("bad.safetensors", "65535", "10");
    write_bytes("bad.safetensors", "\0\0\0\0\0\0\0\x80{}", 10);
    refuse_file("bad.safetensors", "9223372036854775808", "10");
    write_bytes("bad.safetensors", "", 0);
    refuse_file("bad.safetensors", "0 bytes", "");
    refuse_file("absent.safetensors", "No such file", "");
}

/** The folder must be refused. */
static void refuse_folder(const char *word, const char *other) {
    gp_checkpoint *checkpoint;
    gp_status status = {0};
    bool opened = gp_checkpoint_open(folder, &checkpoint, &status);
    CHECK(!opened && strstr(status.message, word) != NULL && strstr(status.message, other) != NULL,
          "\"%s\", \"%s\": %s", word, other, opened ? "taken" : status.message);
    if (opened) gp_checkpoint_close(checkpoint);
    gp_status_clear(&status);
}

static void test_folders(void) {
    gp_checkpoint *checkpoint;
    gp_status status = {0};
    snprintf(folder, sizeof folder, "%s", scratch_folder());
    refuse_folder("no weights", folder);
    const char *a = "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
               *b = "{\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}";
    write_safetensors("one.safetensors", a, 4);
    write_safetensors("two.safetensors", b, 4);
    const char *index = "model.safetensors.index.json";
    static const struct {
        const char *text, *word, *other;
    } bad[] = {
        {"{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"three.safetensors\"}}", "three.safetensors",
         "No such file"},
        {"{\"weight_map\":{\"a\":\"one.safetensors\",\"c\":\"two.safetensors\"}}", "c", "two.safetensors"},
        {"{\"weight_map\":{\"a\":\"two.safetensors\",\"b\":\"one.safetensors\"}}", "index.json",
         "does not hold"},
        {"{\"weight_map\":{\"a\":\"../one.safetensors\"}}", "a", "index.json"},
        {"{\"weight_map\":{\"a\":\"\"}}", "a", "index.json"},
        {"{\"weight_map\":[]}", "weight_map", "index.json"},
        {"{", "line", "index.json"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_bytes(index, bad[i].text, strlen(bad[i].text));
        refuse_folder(bad[i].word, bad[i].other);
    }
    const char *good = "{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"two.safetensors\"}}";
    write_bytes(index, good, strlen(good));
    REQUIRE(gp_checkpoint_open(folder, &checkpoint, &status), "%s", status.message);
    CHECK(gp_checkpoint_count(checkpoint) == 2 &&
              strstr(gp_checkpoint_find(checkpoint, "b")->file, "two") != NULL,
          "two shards");
    gp_checkpoint_close(checkpoint);
    write_safetensors("two.safetensors", a, 4); /* the same name twice */
    const char *twice = "{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"two.safetensors\"}}";
    write_bytes(index, twice, strlen(twice));
    refuse_folder("a", "two.safetensors");
}

/* ---- torch ---- */

/** Every tensor of the file equals the goldens' f32 values. */
static void compare_torch(const char *path, const gp_checkpoint *want, gp_checkpoint *want_file) {
    gp_checkpoint *have;
    gp_status status = {0};
    REQUIRE(gp_checkpoint_open_file(path, &have, &status), "%s", status.message);
    for (size_t i = 0; i < gp_checkpoint_count(want); i++) {
        const gp_tensor *expected = gp_checkpoint_tensor(want, i),
                        *found = gp_checkpoint_find(have, expected->name);
        CHECK(found != NULL, "%s lacks %s", path, expected->name);
        if (found == NULL) continue;
        CHECK(found->rank == expected->rank && found->count == expected->count, "%s: shape", expected->name);
        const float *values = gp_checkpoint_read(want_file, expected, &status);
        const unsigned char *bytes = gp_checkpoint_read(have, found, &status);
        if (found->dtype > GP_DTYPE_F32)
            continue; /* integers and truth values are described, not computed with */
        float *wide = gp_allocate((size_t)found->count * sizeof *wide);
        gp_convert_to_f32(bytes, found->dtype, (size_t)found->count, wide);
        for (int64_t k = 0; k < found->count; k++)
            CHECK(wide[k] == values[k], "%s: %s[%lld] is %g, not %g", path, expected->name, (long long)k,
                  (double)wide[k], (double)values[k]);
        gp_free(wide);
    }
    gp_checkpoint_close(have);
}

static void refuse_torch(const char *path, const char *word) {
    gp_checkpoint *checkpoint;
    gp_status status = {0};
    bool opened = gp_checkpoint_open_file(path, &checkpoint, &status);
    CHECK(!opened && strstr(status.message, word) != NULL && strstr(status.message, path) != NULL, "%s: %s",
          path, opened ? "taken" : status.message);
    if (opened) gp_checkpoint_close(checkpoint);
    gp_status_clear(&status);
}

static void test_torch(void) {
    const char *base = getenv("GEOPIXEL_SHARED");
    char root[4096], path[4200];
    snprintf(root, sizeof root, "%s/goldens/torch", base != NULL ? base : "../shared");
    snprintf(path, sizeof path, "%s/tiny_expected.safetensors", root);
    if (access(path, R_OK) != 0) {
        printf("not compared with torch's files: %s is not there\n", path);
        return;
    }
    gp_checkpoint *want;
    gp_status status = {0};
    REQUIRE(gp_checkpoint_open_file(path, &want, &status), "%s", status.message);
    CHECK(gp_checkpoint_count(want) > 5, "%zu tensors", gp_checkpoint_count(want));
    static const char *const good[] = {"tiny.bin", "tiny_plain_dict.bin"};
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", root, good[i]);
        compare_torch(path, want, want);
    }
    gp_checkpoint_close(want);
    static const char *const bad[][2] = {
        {"legacy.bin", "1.6"}, {"truncated.bin", "cut off"}, {"foreign_global.bin", "refused"}};
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", root, bad[i][0]);
        refuse_torch(path, bad[i][1]);
    }
}

/** A zip of one stored entry, its numbers to be spoilt. */
static size_t make_zip(unsigned char *file, const char *name, const char *content, size_t size) {
    size_t length = strlen(name), at = 0;
    unsigned char local[30] = {'P', 'K', 3, 4}, entry[46] = {'P', 'K', 1, 2}, end[22] = {'P', 'K', 5, 6};
    local[26] = entry[28] = (unsigned char)length;
    local[18] = local[22] = entry[20] = entry[24] = (unsigned char)size;
    memcpy(file, local, 30), memcpy(file + 30, name, length), memcpy(file + 30 + length, content, size);
    at = 30 + length + size;
    end[10] = 1, end[16] = (unsigned char)at;
    memcpy(file + at, entry, 46), memcpy(file + at + 46, name, length);
    memcpy(file + at + 46 + length, end, 22);
    return at + 46 + length + 22;
}

static void test_zip(void) {
    unsigned char file[512];
    static const struct {
        const char *pickle;
        size_t size;
        const char *word;
    } pickles[] = {{"\x80\x02}.", 4, NULL},
                   {"\x80\x02", 2, "STOP"},
                   {"\x80\x09}.", 4, "protocol 9"},
                   {"\x80\x02"
                    "cos\nsystem\n.",
                    14, "os.system"},
                   {"\x80\x02i.", 4, "opcode 0x69"},
                   {"\x80\x02].", 4, "no dictionary"},
                   {"\x80\x02.", 3, "stack"},
                   {"\x80\x02}h\x05.", 6, "memo 5"},
                   {"\x80\x02X\xFF\xFF\xFF\xFF.", 8, "4294967295"},
                   {"\x80\x02}(K\x01u.", 7, "without a value"},
                   {"\x80\x02}u.", 5, "mark"}};
    for (size_t i = 0; i < sizeof pickles / sizeof *pickles; i++) {
        size_t size = make_zip(file, "x/data.pkl", pickles[i].pickle, pickles[i].size);
        write_bytes("w.bin", file, size);
        if (pickles[i].word != NULL) {
            refuse_file("w.bin", pickles[i].word, "");
            continue;
        }
        gp_checkpoint *checkpoint;
        gp_status status = {0};
        REQUIRE(gp_checkpoint_open_file(path_of("w.bin"), &checkpoint, &status), "%s", status.message);
        CHECK(gp_checkpoint_count(checkpoint) == 0, "an empty dictionary");
        gp_checkpoint_close(checkpoint);
    }
    size_t size = make_zip(file, "x/data.pkl", "\x80\x02}.", 4), directory = 30 + 10 + 4;
    static const struct {
        size_t at;
        unsigned char value;
        const char *word;
    } spoilt[] = {{10, 8, "compressed"},   {8, 1, "encrypted"},        {20, 9, "compressed"},
                  {24, 200, "compressed"}, {42, 99, "not at byte 99"}, {0, 'Q', "directory"}};
    for (size_t i = 0; i < sizeof spoilt / sizeof *spoilt; i++) {
        unsigned char kept = file[directory + spoilt[i].at];
        file[directory + spoilt[i].at] = spoilt[i].value;
        write_bytes("w.bin", file, size);
        refuse_file("w.bin", spoilt[i].word, "");
        file[directory + spoilt[i].at] = kept;
    }
    write_bytes("w.bin", file, size - 22);
    refuse_file("w.bin", "cut off", "");
    size = make_zip(file, "x/other", "abcd", 4);
    write_bytes("w.bin", file, size);
    refuse_file("w.bin", "data.pkl", "");
}

int main(void) {
    snprintf(folder, sizeof folder, "%s", scratch_folder());
    test_safetensors();
    test_zip();
    test_torch();
    test_folders();
    return check_done();
}
