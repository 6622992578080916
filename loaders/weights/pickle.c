/**
 * The interpreter. Values are nodes of one array and refer to each other by index, so that a pickle can share
 * what it likes and nothing dangles; node, stack and memo counts are bounded by the pickle's own bytes, since
 * every opcode adds at most one of each.
 */
#include "loaders/weights/pickle.h"

#include "kernels/base/memory.h"

#include <stdio.h>
#include <string.h>

enum { NAME_LENGTH_MAX = 1024, MEMO_MAX = 1 << 24 };

typedef enum kind {
    NOTHING, /* None */
    BOOLEAN,
    INTEGER,
    FLOATING,
    TEXT,
    TUPLE,
    DICTIONARY,
    LIST,
    GLOBAL, /* a class or function by name */
    STORAGE,
    TENSOR,
    MARK,
} kind;

/** What the names that torch writes stand for. */
typedef enum meaning { REBUILD_TENSOR, REBUILD_PARAMETER, ORDERED_DICT, STORAGE_TYPE } meaning;

typedef struct node {
    kind kind;
    int64_t integer;  /* INTEGER, BOOLEAN; the meaning of a GLOBAL; elements of a STORAGE */
    gp_dtype dtype;   /* of a storage type, a STORAGE */
    const char *text; /* TEXT: `length` bytes of the pickle */
    size_t length;
    uint32_t first_item; /* TUPLE, LIST, DICTIONARY: a chain of items; NONE: empty */
    uint32_t last_item;
    uint32_t item_count;
    uint32_t a, b; /* TENSOR: its storage, and the tuple of arguments */
} node;

/** A link of a container's chain; in a dictionary keys and values take turns. */
typedef struct item {
    uint32_t value, next;
} item;

#define NONE UINT32_MAX

typedef struct machine {
    const unsigned char *data;
    size_t size, at;
    const char *path;
    gp_status *status;
    gp_array nodes, items, stack, memo; /* node, item, uint32_t, uint32_t */
} machine;

static bool run(machine *m, uint32_t *result);
static bool call(machine *m, uint32_t function, uint32_t arguments, uint32_t *result);
static bool find_global(machine *m, const char *module, size_t module_length, const char *name,
                        size_t name_length, uint32_t *result);
static bool load_storage(machine *m, uint32_t id, uint32_t *result);
static bool give_tensors(machine *m, uint32_t dictionary, gp_pickle_sink sink, void *user);

bool gp_pickle_parse(const unsigned char *data, size_t size, const char *path, gp_pickle_sink sink,
                     void *user, gp_status *status) {
    machine m = {.data = data, .size = size, .path = path, .status = status};
    uint32_t result = NONE;
    bool done = run(&m, &result) && give_tensors(&m, result, sink, user);
    gp_free(m.nodes.data);
    gp_free(m.items.data);
    gp_free(m.stack.data);
    gp_free(m.memo.data);
    return done;
}

/* ---- memory ---- */

/** A place for one more element; NULL with the status set when memory is out. */
static void *extend(machine *m, gp_array *list, size_t size) {
    void *place = gp_array_add(list, size);
    if (place == NULL) gp_fail(m->status, "%s: no memory for its pickle", m->path);
    return place;
}

static node *node_at(const machine *m, uint32_t index) {
    return (node *)m->nodes.data + index;
}

static bool push(machine *m, uint32_t value) {
    uint32_t *place = extend(m, &m->stack, sizeof *place);
    if (place != NULL) *place = value;
    return place != NULL;
}

/** A new node, pushed. */
static bool push_new(machine *m, node value) {
    node *place = extend(m, &m->nodes, sizeof *place);
    if (place == NULL) return false;
    *place = value;
    return push(m, (uint32_t)(m->nodes.count - 1));
}

static bool pop(machine *m, uint32_t *value) {
    if (m->stack.count == 0)
        return gp_fail(m->status, "%s: pickle, byte %zu: nothing is on its stack", m->path, m->at);
    *value = ((uint32_t *)m->stack.data)[--m->stack.count];
    return true;
}

static bool append(machine *m, uint32_t container, uint32_t value) {
    item *place = extend(m, &m->items, sizeof *place);
    if (place == NULL) return false;
    *place = (item){value, NONE};
    uint32_t index = (uint32_t)(m->items.count - 1);
    node *target = node_at(m, container);
    if (target->item_count++ == 0)
        target->first_item = index;
    else
        ((item *)m->items.data)[target->last_item].next = index;
    target->last_item = index;
    return true;
}

/** The value of item `position` of a container, or NONE. */
static uint32_t item_of(const machine *m, uint32_t container, uint32_t position) {
    const node *source = node_at(m, container);
    if (position >= source->item_count) return NONE;
    const item *at = (item *)m->items.data + source->first_item;
    while (position-- > 0) at = (item *)m->items.data + at->next;
    return at->value;
}

/** Everything above the topmost mark becomes items of `container`; the mark goes. */
static bool collect(machine *m, uint32_t container) {
    size_t mark = m->stack.count;
    const uint32_t *stack = m->stack.data;
    while (mark > 0 && node_at(m, stack[mark - 1])->kind != MARK) mark--;
    if (mark == 0) return gp_fail(m->status, "%s: pickle, byte %zu: no mark is on its stack", m->path, m->at);
    for (size_t i = mark; i < m->stack.count; i++)
        if (!append(m, container, ((uint32_t *)m->stack.data)[i])) return false;
    m->stack.count = mark - 1;
    return true;
}

/* ---- bytes ---- */

static bool take(machine *m, size_t count, const unsigned char **bytes) {
    if (count > m->size - m->at)
        return gp_fail(m->status, "%s: pickle, byte %zu: %zu bytes are announced, %zu are left", m->path,
                       m->at, count, m->size - m->at);
    *bytes = m->data + m->at;
    m->at += count;
    return true;
}

/** A little-endian number of `count` bytes, up to 8. */
static bool take_number(machine *m, size_t count, uint64_t *number) {
    const unsigned char *bytes;
    if (!take(m, count, &bytes)) return false;
    *number = 0;
    for (size_t i = 0; i < count; i++) *number |= (uint64_t)bytes[i] << (8 * i);
    return true;
}

/** Text up to a newline, which goes too. */
static bool take_line(machine *m, const char **text, size_t *length) {
    const unsigned char *end = memchr(m->data + m->at, '\n', m->size - m->at);
    if (end == NULL) return gp_fail(m->status, "%s: pickle, byte %zu: a line without an end", m->path, m->at);
    *text = (const char *)m->data + m->at;
    *length = (size_t)(end - (m->data + m->at));
    m->at += *length + 1;
    return true;
}

static bool push_text(machine *m, size_t length_bytes) {
    uint64_t length;
    const unsigned char *bytes;
    if (!take_number(m, length_bytes, &length) || length > SIZE_MAX || !take(m, (size_t)length, &bytes))
        return false;
    return push_new(m, (node){.kind = TEXT, .text = (const char *)bytes, .length = (size_t)length});
}

/** LONG1: a little-endian two's complement number of up to 8 bytes. */
static bool push_long(machine *m) {
    uint64_t length, number;
    if (!take_number(m, 1, &length)) return false;
    if (length > 8)
        return gp_fail(m->status, "%s: pickle, byte %zu: a number of %d bytes", m->path, m->at, (int)length);
    if (!take_number(m, (size_t)length, &number)) return false;
    if (length > 0 && length < 8 && number >> (8 * length - 1) != 0) number |= UINT64_MAX << (8 * length);
    return push_new(m, (node){.kind = INTEGER, .integer = (int64_t)number});
}

/* ---- memo ---- */

static bool put_memo(machine *m, uint64_t index) {
    if (m->stack.count == 0 || index > MEMO_MAX)
        return gp_fail(m->status, "%s: pickle, byte %zu: memo %llu cannot be set", m->path, m->at,
                       (unsigned long long)index);
    while (m->memo.count <= index) {
        uint32_t *place = extend(m, &m->memo, sizeof *place);
        if (place == NULL) return false;
        *place = NONE;
    }
    ((uint32_t *)m->memo.data)[index] = ((uint32_t *)m->stack.data)[m->stack.count - 1];
    return true;
}

static bool get_memo(machine *m, uint64_t index) {
    if (index >= m->memo.count || ((uint32_t *)m->memo.data)[index] == NONE)
        return gp_fail(m->status, "%s: pickle, byte %zu: memo %llu was never set", m->path, m->at,
                       (unsigned long long)index);
    return push(m, ((uint32_t *)m->memo.data)[index]);
}

/* ---- opcodes ---- */

/** `count` values from the stack as a tuple. */
static bool push_tuple(machine *m, uint32_t count) {
    if (m->stack.count < count)
        return gp_fail(m->status, "%s: pickle, byte %zu: a tuple of %u on a stack of %zu", m->path, m->at,
                       count, m->stack.count);
    uint32_t values[3];
    for (uint32_t i = 0; i < count; i++) values[i] = ((uint32_t *)m->stack.data)[m->stack.count - count + i];
    m->stack.count -= count;
    if (!push_new(m, (node){.kind = TUPLE})) return false;
    uint32_t tuple = (uint32_t)(m->nodes.count - 1);
    for (uint32_t i = 0; i < count; i++)
        if (!append(m, tuple, values[i])) return false;
    return true;
}

/** TUPLE: what is above the mark. */
static bool push_marked_tuple(machine *m) {
    node *place = extend(m, &m->nodes, sizeof *place);
    if (place == NULL) return false;
    *place = (node){.kind = TUPLE};
    uint32_t tuple = (uint32_t)(m->nodes.count - 1);
    return collect(m, tuple) && push(m, tuple);
}

/** The node on top after `popped` were taken off, which must be of a kind. */
static bool top(machine *m, kind wanted, const char *what, uint32_t *index) {
    if (m->stack.count == 0)
        return gp_fail(m->status, "%s: pickle, byte %zu: nothing is on its stack", m->path, m->at);
    *index = ((uint32_t *)m->stack.data)[m->stack.count - 1];
    return node_at(m, *index)->kind == wanted ||
           gp_fail(m->status, "%s: pickle, byte %zu: no %s", m->path, m->at, what);
}

/** SETITEMS, APPENDS: the container lies below the mark. */
static bool extend_container(machine *m, kind wanted, const char *what) {
    size_t mark = m->stack.count;
    while (mark > 0 && node_at(m, ((uint32_t *)m->stack.data)[mark - 1])->kind != MARK) mark--;
    if (mark < 2)
        return gp_fail(m->status, "%s: pickle, byte %zu: no %s below the mark", m->path, m->at, what);
    uint32_t container = ((uint32_t *)m->stack.data)[mark - 2];
    if (node_at(m, container)->kind != wanted)
        return gp_fail(m->status, "%s: pickle, byte %zu: no %s below the mark", m->path, m->at, what);
    if (wanted == DICTIONARY && (m->stack.count - mark) % 2 != 0)
        return gp_fail(m->status, "%s: pickle, byte %zu: a key without a value", m->path, m->at);
    return collect(m, container);
}

/** One opcode but STOP. */
static bool step(machine *m, unsigned char opcode) {
    uint64_t number;
    uint32_t a, b, result;
    const char *module, *name;
    size_t module_length, name_length;
    const unsigned char *bytes;
    switch (opcode) {
    case 0x80: /* PROTO */
        return take_number(m, 1, &number) &&
               ((number >= 2 && number <= 5) ||
                gp_fail(m->status, "%s: pickle protocol %d; 2 to 5 are known", m->path, (int)number));
    case 0x95: /* FRAME */
        return take(m, 8, &bytes);
    case '(':
        return push_new(m, (node){.kind = MARK});
    case 'N':
        return push_new(m, (node){.kind = NOTHING});
    case 0x88:
    case 0x89:
        return push_new(m, (node){.kind = BOOLEAN, .integer = opcode == 0x88});
    case 'K':
    case 'M':
        return take_number(m, opcode == 'K' ? 1 : 2, &number) &&
               push_new(m, (node){.kind = INTEGER, .integer = (int64_t)number});
    case 'J':
        return take_number(m, 4, &number) &&
               push_new(m, (node){.kind = INTEGER, .integer = (int32_t)(uint32_t)number});
    case 0x8A:
        return push_long(m);
    case 'G': /* a number with a fraction: kept by nothing that is read */
        return take(m, 8, &bytes) && push_new(m, (node){.kind = FLOATING});
    case 'X':
        return push_text(m, 4);
    case 0x8C:
        return push_text(m, 1);
    case 0x8D:
        return push_text(m, 8);
    case '}':
        return push_new(m, (node){.kind = DICTIONARY});
    case ']':
        return push_new(m, (node){.kind = LIST});
    case ')':
        return push_tuple(m, 0);
    case 0x85:
    case 0x86:
    case 0x87:
        return push_tuple(m, opcode - 0x84u);
    case 't':
        return push_marked_tuple(m);
    case 'q':
        return take_number(m, 1, &number) && put_memo(m, number);
    case 'r':
        return take_number(m, 4, &number) && put_memo(m, number);
    case 0x94: /* MEMOIZE */
        return put_memo(m, m->memo.count);
    case 'h':
        return take_number(m, 1, &number) && get_memo(m, number);
    case 'j':
        return take_number(m, 4, &number) && get_memo(m, number);
    case 'u':
        return extend_container(m, DICTIONARY, "dictionary");
    case 'e':
        return extend_container(m, LIST, "list");
    case 's':
        return pop(m, &b) && pop(m, &a) && top(m, DICTIONARY, "dictionary to set an item of", &result) &&
               append(m, result, a) && append(m, result, b);
    case 'a':
        return pop(m, &a) && top(m, LIST, "list to append to", &result) && append(m, result, a);
    case 'c':
        return take_line(m, &module, &module_length) && take_line(m, &name, &name_length) &&
               find_global(m, module, module_length, name, name_length, &result) && push(m, result);
    case 0x93: /* STACK_GLOBAL */
        if (!pop(m, &b) || !pop(m, &a)) return false;
        if (node_at(m, a)->kind != TEXT || node_at(m, b)->kind != TEXT)
            return gp_fail(m->status, "%s: pickle, byte %zu: a global without a name", m->path, m->at);
        return find_global(m, node_at(m, a)->text, node_at(m, a)->length, node_at(m, b)->text,
                           node_at(m, b)->length, &result) &&
               push(m, result);
    case 'Q': /* BINPERSID */
        return pop(m, &a) && load_storage(m, a, &result) && push(m, result);
    case 'R': /* REDUCE */
        return pop(m, &b) && pop(m, &a) && call(m, a, b, &result) && push(m, result);
    case 'b': /* BUILD: attributes (a state dict's _metadata): nothing that is read */
        return pop(m, &a);
    case '0':
        return pop(m, &a);
    default:
        return gp_fail(m->status,
                       "%s: pickle, byte %zu: opcode 0x%02x, which a state dict does not need: refused",
                       m->path, m->at - 1, opcode);
    }
}

static bool run(machine *m, uint32_t *result) {
    for (;;) {
        if (m->at >= m->size)
            return gp_fail(m->status, "%s: its pickle ends without a STOP at byte %zu", m->path, m->at);
        unsigned char opcode = m->data[m->at++];
        if (opcode == '.') return pop(m, result);
        if (!step(m, opcode)) return false;
    }
}

/* ---- names, storages, tensors ---- */

static bool find_global(machine *m, const char *module, size_t module_length, const char *name,
                        size_t name_length, uint32_t *result) {
    static const struct {
        const char *name;
        meaning meaning;
        gp_dtype dtype;
    } known[] = {
        {"torch._utils._rebuild_tensor_v2", REBUILD_TENSOR, GP_DTYPE_F32},
        {"torch._utils._rebuild_parameter", REBUILD_PARAMETER, GP_DTYPE_F32},
        {"collections.OrderedDict", ORDERED_DICT, GP_DTYPE_F32},
        {"torch.BFloat16Storage", STORAGE_TYPE, GP_DTYPE_BF16},
        {"torch.HalfStorage", STORAGE_TYPE, GP_DTYPE_F16},
        {"torch.FloatStorage", STORAGE_TYPE, GP_DTYPE_F32},
        {"torch.DoubleStorage", STORAGE_TYPE, GP_DTYPE_F64},
        {"torch.CharStorage", STORAGE_TYPE, GP_DTYPE_I8},
        {"torch.ByteStorage", STORAGE_TYPE, GP_DTYPE_U8},
        {"torch.ShortStorage", STORAGE_TYPE, GP_DTYPE_I16},
        {"torch.IntStorage", STORAGE_TYPE, GP_DTYPE_I32},
        {"torch.LongStorage", STORAGE_TYPE, GP_DTYPE_I64},
        {"torch.BoolStorage", STORAGE_TYPE, GP_DTYPE_BOOL},
    };
    char whole[256];
    snprintf(whole, sizeof whole, "%.*s.%.*s", (int)(module_length < 120 ? module_length : 120), module,
             (int)(name_length < 120 ? name_length : 120), name);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(whole, known[i].name) != 0) continue;
        node *place = extend(m, &m->nodes, sizeof *place);
        if (place == NULL) return false;
        *place = (node){.kind = GLOBAL, .integer = known[i].meaning, .dtype = known[i].dtype};
        *result = (uint32_t)(m->nodes.count - 1);
        return true;
    }
    return gp_fail(m->status, "%s: its pickle names %s, which a state dict does not need: refused", m->path,
                   whole);
}

/** ("storage", type, key, device, elements). */
static bool load_storage(machine *m, uint32_t id, uint32_t *result) {
    uint32_t parts[5];
    bool fits = node_at(m, id)->kind == TUPLE && node_at(m, id)->item_count == 5;
    for (uint32_t i = 0; fits && i < 5; i++) parts[i] = item_of(m, id, i);
    fits = fits && node_at(m, parts[0])->kind == TEXT && node_at(m, parts[0])->length == 7 &&
           memcmp(node_at(m, parts[0])->text, "storage", 7) == 0 && node_at(m, parts[1])->kind == GLOBAL &&
           node_at(m, parts[1])->integer == STORAGE_TYPE && node_at(m, parts[2])->kind == TEXT &&
           node_at(m, parts[4])->kind == INTEGER && node_at(m, parts[4])->integer >= 0;
    if (!fits)
        return gp_fail(m->status, "%s: pickle, byte %zu: a persistent id that is no storage", m->path, m->at);
    node *place = extend(m, &m->nodes, sizeof *place);
    if (place == NULL) return false;
    const node *key = node_at(m, parts[2]);
    *place = (node){.kind = STORAGE,
                    .dtype = node_at(m, parts[1])->dtype,
                    .text = key->text,
                    .length = key->length,
                    .integer = node_at(m, parts[4])->integer};
    *result = (uint32_t)(m->nodes.count - 1);
    return true;
}

static bool call(machine *m, uint32_t function, uint32_t arguments, uint32_t *result) {
    if (node_at(m, function)->kind != GLOBAL || node_at(m, arguments)->kind != TUPLE)
        return gp_fail(m->status, "%s: pickle, byte %zu: a call of what is no function", m->path, m->at);
    uint32_t count = node_at(m, arguments)->item_count, first = count > 0 ? item_of(m, arguments, 0) : NONE;
    node made = {.kind = DICTIONARY};
    switch ((meaning)node_at(m, function)->integer) {
    case ORDERED_DICT:
        if (count != 0)
            return gp_fail(m->status, "%s: pickle, byte %zu: an OrderedDict made of something", m->path,
                           m->at);
        break;
    case REBUILD_PARAMETER: /* (tensor, requires_grad, hooks): the tensor itself */
        if (first == NONE || node_at(m, first)->kind != TENSOR)
            return gp_fail(m->status, "%s: pickle, byte %zu: a parameter without a tensor", m->path, m->at);
        *result = first;
        return true;
    case REBUILD_TENSOR: /* (storage, offset, shape, strides, requires_grad, hooks) */
        if (count < 4 || node_at(m, first)->kind != STORAGE)
            return gp_fail(m->status, "%s: pickle, byte %zu: a tensor without a storage", m->path, m->at);
        made = (node){.kind = TENSOR, .a = first, .b = arguments};
        break;
    case STORAGE_TYPE:
        return gp_fail(m->status, "%s: pickle, byte %zu: a storage type called", m->path, m->at);
    }
    node *place = extend(m, &m->nodes, sizeof *place);
    if (place == NULL) return false;
    *place = made;
    *result = (uint32_t)(m->nodes.count - 1);
    return true;
}

/** A tuple of `*count` integers >= 0. */
static bool read_sizes(const machine *m, uint32_t tuple, int *count, int64_t *sizes) {
    const node *source = node_at(m, tuple);
    if (source->kind != TUPLE || source->item_count > GP_TENSOR_RANK_MAX) return false;
    *count = (int)source->item_count;
    for (uint32_t i = 0; i < source->item_count; i++) {
        const node *entry = node_at(m, item_of(m, tuple, i));
        if (entry->kind != INTEGER || entry->integer < 0) return false;
        sizes[i] = entry->integer;
    }
    return true;
}

static bool give_tensor(machine *m, const node *key, const node *value, gp_pickle_sink sink, void *user) {
    char name[NAME_LENGTH_MAX + 1], storage_key[NAME_LENGTH_MAX + 1];
    const node *storage = node_at(m, value->a);
    if (key->length > NAME_LENGTH_MAX || storage->length > NAME_LENGTH_MAX ||
        memchr(key->text, '\0', key->length) != NULL || memchr(storage->text, '\0', storage->length) != NULL)
        return gp_fail(m->status, "%s: a tensor's name of %zu bytes; %d without zeros are the most", m->path,
                       key->length, NAME_LENGTH_MAX);
    memcpy(name, key->text, key->length);
    name[key->length] = '\0';
    memcpy(storage_key, storage->text, storage->length);
    storage_key[storage->length] = '\0';
    gp_pickle_tensor tensor = {.name = name, .storage = {storage_key, storage->dtype, storage->integer}};
    const node *offset = node_at(m, item_of(m, value->b, 1));
    int strides = 0;
    if (offset->kind != INTEGER || offset->integer < 0 ||
        !read_sizes(m, item_of(m, value->b, 2), &tensor.rank, tensor.shape) ||
        !read_sizes(m, item_of(m, value->b, 3), &strides, tensor.stride) || strides != tensor.rank)
        return gp_fail(m->status, "%s: %s: its offset, shape or strides are not numbers that fit together",
                       m->path, name);
    tensor.offset = offset->integer;
    return sink(user, &tensor, m->status);
}

/** Entries that are no tensors (numbers, texts) are passed over. */
static bool give_tensors(machine *m, uint32_t dictionary, gp_pickle_sink sink, void *user) {
    if (node_at(m, dictionary)->kind != DICTIONARY)
        return gp_fail(m->status, "%s: its pickle holds no dictionary of tensors", m->path);
    const node *source = node_at(m, dictionary);
    uint32_t at = source->item_count > 0 ? source->first_item : NONE;
    while (at != NONE) {
        item key = ((item *)m->items.data)[at];
        if (key.next == NONE) break;
        item value = ((item *)m->items.data)[key.next];
        if (node_at(m, value.value)->kind == TENSOR) {
            if (node_at(m, key.value)->kind != TEXT)
                return gp_fail(m->status, "%s: a tensor whose name is no text", m->path);
            if (!give_tensor(m, node_at(m, key.value), node_at(m, value.value), sink, user)) return false;
        }
        at = value.next;
    }
    return true;
}
