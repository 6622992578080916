/** safetensors: 8 bytes of header length, a JSON header, then the tensors' bytes, without holes. */
#include "kernels/base/memory.h"
#include "loaders/weights/checkpoint_parts.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { LENGTH_BYTES = 8 };

/** Bytes of the data part that a tensor takes. */
typedef struct extent {
    uint64_t begin, end;
    const char *name;
} extent;

typedef struct file {
    const char *path;
    const unsigned char *data; /* the data part */
    uint64_t size;             /* of the data part */
    gp_status *status;
} file;

static bool read_tensor(const file *in, const char *name, const json_t *json, gp_tensor *tensor,
                        extent *place);
static bool check_places(const file *in, extent *places, size_t count);

bool gp_safetensors_parse(const unsigned char *data, size_t size, const char *path, gp_tensor_sink sink,
                          void *user, gp_status *status) {
    if (size < LENGTH_BYTES)
        return gp_fail(status, "%s: %zu bytes; a safetensors file begins with 8 bytes of header length", path,
                       size);
    uint64_t length = 0;
    for (int i = 0; i < LENGTH_BYTES; i++) length |= (uint64_t)data[i] << (8 * i);
    if (length > size - LENGTH_BYTES)
        return gp_fail(status, "%s: the header is %llu bytes long, the file %zu", path,
                       (unsigned long long)length, size);
    json_error_t error;
    json_t *header =
        json_loadb((const char *)data + LENGTH_BYTES, (size_t)length, JSON_REJECT_DUPLICATES, &error);
    if (header == NULL) return gp_fail(status, "%s: header, byte %d: %s", path, error.position, error.text);
    file in = {path, data + LENGTH_BYTES + length, size - LENGTH_BYTES - length, status};
    bool done = json_is_object(header) || gp_fail(status, "%s: the header is not a JSON object", path);
    extent *places = gp_allocate((json_object_size(header) + 1) * sizeof *places);
    if (places == NULL) done = gp_fail(status, "%s: no memory for its header", path);
    size_t count = 0;
    const char *name;
    json_t *json;
    json_object_foreach(header, name, json) {
        gp_tensor tensor = {.name = name, .file = path};
        if (!done) break;
        if (strcmp(name, "__metadata__") == 0) continue;
        done = read_tensor(&in, name, json, &tensor, &places[count]) && sink(user, &tensor, status);
        count++;
    }
    done = done && check_places(&in, places, count);
    gp_free(places);
    json_decref(header);
    return done;
}

char *gp_safetensors_metadata(const unsigned char *data, size_t size) {
    uint64_t length = 0;
    for (int i = 0; i < LENGTH_BYTES && size >= LENGTH_BYTES; i++) length |= (uint64_t)data[i] << (8 * i);
    json_t *header = size >= LENGTH_BYTES && length <= size - LENGTH_BYTES
                         ? json_loadb((const char *)data + LENGTH_BYTES, (size_t)length, 0, NULL)
                         : NULL;
    const json_t *metadata = json_object_get(header, "__metadata__");
    char *text = json_is_object(metadata) ? json_dumps(metadata, JSON_COMPACT) : NULL;
    char *copy = gp_copy_text(text != NULL ? text : "{}");
    free(text);
    json_decref(header);
    return copy;
}

static bool parse_dtype(const char *text, gp_dtype *dtype) {
    static const struct {
        const char *name;
        gp_dtype dtype;
    } names[] = {{"BF16", GP_DTYPE_BF16}, {"F16", GP_DTYPE_F16}, {"F32", GP_DTYPE_F32}, {"F64", GP_DTYPE_F64},
                 {"I8", GP_DTYPE_I8},     {"U8", GP_DTYPE_U8},   {"I16", GP_DTYPE_I16}, {"U16", GP_DTYPE_U16},
                 {"I32", GP_DTYPE_I32},   {"U32", GP_DTYPE_U32}, {"I64", GP_DTYPE_I64}, {"U64", GP_DTYPE_U64},
                 {"BOOL", GP_DTYPE_BOOL}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(text, names[i].name) != 0) continue;
        *dtype = names[i].dtype;
        return true;
    }
    return false;
}

/** shape, count and strides of row-major order; fails when the count leaves 62 bits. */
static bool read_shape(const file *in, const char *name, const json_t *json, gp_tensor *tensor) {
    if (!json_is_array(json)) return gp_fail(in->status, "%s: %s: its shape is not a list", in->path, name);
    if (json_array_size(json) > GP_TENSOR_RANK_MAX)
        return gp_fail(in->status, "%s: %s: %zu dimensions; %d are the most", in->path, name,
                       json_array_size(json), GP_TENSOR_RANK_MAX);
    tensor->rank = (int)json_array_size(json);
    tensor->count = 1;
    for (int i = 0; i < tensor->rank; i++) {
        const json_t *entry = json_array_get(json, (size_t)i);
        json_int_t size = json_is_integer(entry) ? json_integer_value(entry) : -1;
        if (size < 0) return gp_fail(in->status, "%s: %s: shape[%d] is not a size", in->path, name, i);
        tensor->shape[i] = size;
        if (__builtin_mul_overflow(tensor->count, size, &tensor->count) || tensor->count > INT64_MAX / 16)
            return gp_fail(in->status, "%s: %s: its shape has more elements than any file", in->path, name);
    }
    int64_t stride = 1;
    for (int i = tensor->rank - 1; i >= 0; i--) {
        tensor->stride[i] = stride;
        if (tensor->count > 0) stride *= tensor->shape[i];
    }
    return true;
}

static bool read_tensor(const file *in, const char *name, const json_t *json, gp_tensor *tensor,
                        extent *place) {
    const json_t *offsets = json_object_get(json, "data_offsets");
    const char *dtype = json_string_value(json_object_get(json, "dtype"));
    if (dtype == NULL) return gp_fail(in->status, "%s: %s: its dtype is missing", in->path, name);
    if (!parse_dtype(dtype, &tensor->dtype))
        return gp_fail(in->status, "%s: %s: dtype %s is not known", in->path, name, dtype);
    if (!read_shape(in, name, json_object_get(json, "shape"), tensor)) return false;
    json_int_t begin = -1, end = -1;
    if (json_is_array(offsets) && json_array_size(offsets) == 2) {
        if (json_is_integer(json_array_get(offsets, 0)))
            begin = json_integer_value(json_array_get(offsets, 0));
        if (json_is_integer(json_array_get(offsets, 1))) end = json_integer_value(json_array_get(offsets, 1));
    }
    if (begin < 0 || end < begin)
        return gp_fail(in->status, "%s: %s: data_offsets are not two rising numbers", in->path, name);
    if ((uint64_t)end > in->size)
        return gp_fail(in->status, "%s: %s: bytes %lld to %lld are beyond the file's %llu of data", in->path,
                       name, (long long)begin, (long long)end, (unsigned long long)in->size);
    uint64_t bytes = (uint64_t)tensor->count * gp_dtype_size(tensor->dtype);
    if (bytes != (uint64_t)(end - begin))
        return gp_fail(in->status, "%s: %s: %lld bytes of data; its shape and dtype %s need %llu", in->path,
                       name, (long long)(end - begin), dtype, (unsigned long long)bytes);
    tensor->data = in->data + begin;
    *place = (extent){(uint64_t)begin, (uint64_t)end, name};
    return true;
}

static int compare_extents(const void *a, const void *b) {
    const extent *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

/** The tensors follow each other and end with the file. */
static bool check_places(const file *in, extent *places, size_t count) {
    uint64_t at = 0;
    if (count > 0) qsort(places, count, sizeof *places, compare_extents);
    for (size_t i = 0; i < count; i++) {
        if (places[i].begin < at)
            return gp_fail(in->status, "%s: %s begins at byte %llu, inside %s, which ends at %llu", in->path,
                           places[i].name, (unsigned long long)places[i].begin, places[i - 1].name,
                           (unsigned long long)at);
        if (places[i].begin > at)
            return gp_fail(in->status, "%s: bytes %llu to %llu of the data belong to no tensor", in->path,
                           (unsigned long long)at, (unsigned long long)places[i].begin);
        at = places[i].end;
    }
    return at == in->size || gp_fail(in->status, "%s: the tensors end at byte %llu of %llu of data", in->path,
                                     (unsigned long long)at, (unsigned long long)in->size);
}
