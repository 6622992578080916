/**
 * The interpreter. Scalars become JSON as they are met; lists and dictionaries are chains of indices first,
 * for a pickle may go on filling what it has long put elsewhere, and become JSON when all is read: then a
 * value that holds itself is seen. Every opcode adds at most one node and one item, so that the pickle's own
 * bytes bound what is allocated.
 */
#include "tools/geopixel/evaluation/data_pickle.h"

#include "kernels/base/memory.h"
#include "tools/geopixel/evaluation/data_pickle_scalars.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { PROTOCOL_MAX = 5, DEPTH_MAX = 64, NAME_PRINTED_MAX = 100 };

#define NONE UINT32_MAX
#define MARK (UINT32_MAX - 1) /* on the stack in a node's place */

typedef enum kind { SCALAR, LIST, TUPLE, DICTIONARY } kind;

typedef struct node {
    kind kind;
    bool open;            /* being converted: met again, it holds itself */
    int height;           /* levels below it, once it is converted */
    json_t *made;         /* a SCALAR from the start, others once they are converted */
    uint32_t first, last; /* a chain of items; in a DICTIONARY keys and values take turns */
    size_t at;            /* the byte after its opcode */
} node;

typedef struct item {
    uint32_t value, next;
} item;

typedef struct machine {
    gp_pickle_bytes bytes;
    gp_array nodes, items, stack, memo; /* node, item, uint32_t, uint32_t */
    size_t memo_used;                   /* places of the memo that are set */
} machine;

static bool run(machine *m, uint32_t *result);
static json_t *convert(machine *m, uint32_t index, int depth);

json_t *gp_data_pickle_read(const unsigned char *data, size_t size, const char *path, gp_status *status) {
    machine m = {.bytes = {.data = data, .size = size, .end = size, .path = path, .status = status}};
    if (size >= MARK) {
        gp_fail(status, "%s: a pickle of %zu bytes; less than 4 GiB can be read", path, size);
        return NULL;
    }
    uint32_t result = NONE;
    json_t *value = run(&m, &result) ? json_incref(convert(&m, result, 0)) : NULL;
    for (size_t i = 0; i < m.nodes.count; i++) json_decref(((node *)m.nodes.data)[i].made);
    gp_free(m.nodes.data);
    gp_free(m.items.data);
    gp_free(m.stack.data);
    gp_free(m.memo.data);
    return value;
}

/* ---- memory ---- */

static bool out_of_memory(machine *m) {
    return gp_pickle_fail(&m->bytes, "no memory for it");
}

/** A place for one more element; NULL with the status set when memory is out. */
static void *extend(machine *m, gp_array *list, size_t size) {
    void *place = gp_array_add(list, size);
    if (place == NULL) out_of_memory(m);
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

/** A new node, pushed. Takes over `made`, which is NULL for what holds others. */
static bool push_new(machine *m, kind made_kind, json_t *made) {
    node *place = extend(m, &m->nodes, sizeof *place);
    if (place == NULL) {
        json_decref(made);
        return false;
    }
    *place = (node){.kind = made_kind, .made = made, .first = NONE, .last = NONE, .at = m->bytes.at};
    return push(m, (uint32_t)(m->nodes.count - 1));
}

static bool append(machine *m, uint32_t container, uint32_t value) {
    item *place = extend(m, &m->items, sizeof *place);
    if (place == NULL) return false;
    *place = (item){value, NONE};
    uint32_t index = (uint32_t)(m->items.count - 1);
    node *target = node_at(m, container);
    if (target->first == NONE)
        target->first = index;
    else
        ((item *)m->items.data)[target->last].next = index;
    target->last = index;
    return true;
}

/* ---- the stack ---- */

/** The value on top, which a mark is not. */
static bool top(machine *m, uint32_t *value) {
    if (m->stack.count == 0) return gp_pickle_fail(&m->bytes, "nothing is on its stack");
    *value = ((uint32_t *)m->stack.data)[m->stack.count - 1];
    return *value != MARK || gp_pickle_fail(&m->bytes, "a mark stands where a value should");
}

static bool pop(machine *m, uint32_t *value) {
    if (!top(m, value)) return false;
    m->stack.count--;
    return true;
}

/** Where the topmost mark stands. */
static bool find_mark(machine *m, size_t *mark) {
    for (size_t i = m->stack.count; i-- > 0;) {
        if (((uint32_t *)m->stack.data)[i] != MARK) continue;
        *mark = i;
        return true;
    }
    return gp_pickle_fail(&m->bytes, "no mark is on its stack");
}

/** What stands above `mark` goes into `container`, the mark goes too. */
static bool collect(machine *m, size_t mark, uint32_t container) {
    if (node_at(m, container)->kind == DICTIONARY && (m->stack.count - mark - 1) % 2 != 0)
        return gp_pickle_fail(&m->bytes, "a key without a value");
    for (size_t i = mark + 1; i < m->stack.count; i++)
        if (!append(m, container, ((uint32_t *)m->stack.data)[i])) return false;
    m->stack.count = mark;
    return true;
}

/** LIST, TUPLE, DICT: a new container of what stands above the mark. */
static bool push_collected(machine *m, kind wanted) {
    size_t mark;
    if (!find_mark(m, &mark) || !push_new(m, wanted, NULL)) return false;
    uint32_t made = ((uint32_t *)m->stack.data)[--m->stack.count];
    return collect(m, mark, made) && push(m, made);
}

/** TUPLE1 to TUPLE3: the `count` values on top. */
static bool push_tuple(machine *m, uint32_t count) {
    uint32_t values[3];
    for (uint32_t i = count; i-- > 0;)
        if (!pop(m, &values[i])) return false;
    if (!push_new(m, TUPLE, NULL)) return false;
    uint32_t tuple = (uint32_t)(m->nodes.count - 1);
    for (uint32_t i = 0; i < count; i++)
        if (!append(m, tuple, values[i])) return false;
    return true;
}

/** The container on top of the stack's first `count` values. */
static bool container_at(machine *m, size_t count, kind wanted, uint32_t *container) {
    *container = count > 0 ? ((uint32_t *)m->stack.data)[count - 1] : MARK;
    return (*container != MARK && node_at(m, *container)->kind == wanted) ||
           gp_pickle_fail(&m->bytes, "no %s to add to", wanted == LIST ? "list" : "dictionary");
}

/** APPENDS, SETITEMS: the container stands below the mark. */
static bool add_collected(machine *m, kind wanted) {
    size_t mark;
    uint32_t container;
    return find_mark(m, &mark) && container_at(m, mark, wanted, &container) && collect(m, mark, container);
}

/** APPEND, SETITEM: the container stands below the `count` values on top. */
static bool add(machine *m, kind wanted, size_t count) {
    uint32_t values[2], container;
    for (size_t i = count; i-- > 0;)
        if (!pop(m, &values[i])) return false;
    if (!container_at(m, m->stack.count, wanted, &container)) return false;
    for (size_t i = 0; i < count; i++)
        if (!append(m, container, values[i])) return false;
    return true;
}

/* ---- memo ---- */

static bool put_memo(machine *m, uint64_t index) {
    uint32_t value;
    if (!top(m, &value)) return false;
    /* Python numbers what it remembers, so that a number beyond the bytes is none of its. */
    if (index > m->bytes.size)
        return gp_pickle_fail(&m->bytes, "memo %llu in a pickle of %zu bytes", (unsigned long long)index,
                              m->bytes.size);
    while (m->memo.count <= index) {
        uint32_t *place = extend(m, &m->memo, sizeof *place);
        if (place == NULL) return false;
        *place = NONE;
    }
    uint32_t *place = (uint32_t *)m->memo.data + index;
    m->memo_used += *place == NONE;
    *place = value;
    return true;
}

static bool get_memo(machine *m, uint64_t index) {
    if (index >= m->memo.count || ((uint32_t *)m->memo.data)[index] == NONE)
        return gp_pickle_fail(&m->bytes, "memo %llu was never set", (unsigned long long)index);
    return push(m, ((uint32_t *)m->memo.data)[index]);
}

/* ---- opcodes ---- */

/** STACK_GLOBAL, whose names stand on the stack. */
static bool refuse_stack_global(machine *m) {
    const uint32_t *stack = m->stack.data;
    const char *names[2] = {"?", "?"};
    for (size_t i = 0; i < 2 && m->stack.count >= 2; i++) {
        uint32_t name = stack[m->stack.count - 2 + i];
        if (name != MARK && json_is_string(node_at(m, name)->made))
            names[i] = json_string_value(node_at(m, name)->made);
    }
    m->bytes.at--;
    return gp_pickle_fail(&m->bytes, "STACK_GLOBAL of %.*s.%.*s: only plain data is read", NAME_PRINTED_MAX,
                          names[0], NAME_PRINTED_MAX, names[1]);
}

/** One opcode but STOP. */
static bool step(machine *m, unsigned char opcode) {
    gp_pickle_bytes *bytes = &m->bytes;
    uint64_t number;
    uint32_t value;
    switch (opcode) {
    case 0x80: /* PROTO */
        return gp_pickle_number(bytes, 1, &number) &&
               (number <= PROTOCOL_MAX || gp_pickle_fail(bytes, "protocol %d; %d is the last that is known",
                                                         (int)number, PROTOCOL_MAX));
    case 0x95:
        return gp_pickle_frame(bytes);
    case '(':
        return push(m, MARK);
    case '0': /* POP, which takes a mark too */
        if (m->stack.count == 0) return gp_pickle_fail(bytes, "nothing is on its stack");
        m->stack.count--;
        return true;
    case '1': /* POP_MARK */
        return find_mark(m, &m->stack.count);
    case '2': /* DUP */
        return top(m, &value) && push(m, value);
    case ']':
        return push_new(m, LIST, NULL);
    case '}':
        return push_new(m, DICTIONARY, NULL);
    case ')':
        return push_new(m, TUPLE, NULL);
    case 'l':
    case 'd':
    case 't':
        return push_collected(m, opcode == 'l' ? LIST : opcode == 'd' ? DICTIONARY : TUPLE);
    case 0x85:
    case 0x86:
    case 0x87:
        return push_tuple(m, opcode - 0x84u);
    case 'a':
    case 's':
        return opcode == 'a' ? add(m, LIST, 1) : add(m, DICTIONARY, 2);
    case 'e':
    case 'u':
        return add_collected(m, opcode == 'e' ? LIST : DICTIONARY);
    case 'p':
        return gp_pickle_index_line(bytes, &number) && put_memo(m, number);
    case 'q':
    case 'r':
        return gp_pickle_number(bytes, opcode == 'q' ? 1 : 4, &number) && put_memo(m, number);
    case 0x94: /* MEMOIZE */
        return put_memo(m, m->memo_used);
    case 'g':
        return gp_pickle_index_line(bytes, &number) && get_memo(m, number);
    case 'h':
    case 'j':
        return gp_pickle_number(bytes, opcode == 'h' ? 1 : 4, &number) && get_memo(m, number);
    case 0x93:
        return refuse_stack_global(m);
    default:
        if (!gp_pickle_is_scalar(opcode)) return gp_pickle_refuse(bytes, opcode);
        json_t *made = gp_pickle_scalar(bytes, opcode);
        return made != NULL && push_new(m, SCALAR, made);
    }
}

static bool run(machine *m, uint32_t *result) {
    for (;;) {
        if (m->bytes.at == m->bytes.end) m->bytes.end = m->bytes.size;
        if (m->bytes.at == m->bytes.size) return gp_pickle_fail(&m->bytes, "it ends before its STOP");
        unsigned char opcode = m->bytes.data[m->bytes.at++];
        if (opcode == '.') break;
        if (!step(m, opcode)) return false;
    }
    if (!pop(m, result)) return false;
    if (m->stack.count > 0)
        return gp_pickle_fail(&m->bytes, "%zu values are left on its stack", m->stack.count);
    return m->bytes.at == m->bytes.size ||
           gp_pickle_fail(&m->bytes, "%zu bytes follow its STOP", m->bytes.size - m->bytes.at);
}

/* ---- JSON ---- */

/** The text of a dictionary's key; `digits` has room for a number's. */
static const char *key_text(machine *m, uint32_t index, char digits[24]) {
    const node *key = node_at(m, index);
    if (key->kind == SCALAR && json_is_integer(key->made)) {
        snprintf(digits, 24, "%lld", (long long)json_integer_value(key->made));
        return digits;
    }
    m->bytes.at = key->at;
    if (key->kind != SCALAR || !json_is_string(key->made))
        gp_pickle_fail(&m->bytes, "a key that is neither text nor a whole number");
    else if (strlen(json_string_value(key->made)) != json_string_length(key->made))
        gp_pickle_fail(&m->bytes, "a key with a zero byte");
    else
        return json_string_value(key->made);
    return NULL;
}

/** A value of the container `whole`, whose height it may raise. */
static json_t *convert_part(machine *m, node *whole, uint32_t part, int depth) {
    json_t *made = convert(m, part, depth + 1);
    int height = node_at(m, part)->height + 1;
    if (height > whole->height) whole->height = height;
    return made;
}

/** The entry whose key is the item `at`, into `made`; `at` becomes the next key's. */
static bool convert_entry(machine *m, node *whole, json_t *made, uint32_t *at, int depth) {
    item key = ((item *)m->items.data)[*at], value = ((item *)m->items.data)[key.next];
    char digits[24];
    *at = value.next;
    json_t *converted = convert_part(m, whole, value.value, depth);
    const char *text = converted != NULL ? key_text(m, key.value, digits) : NULL;
    if (text == NULL) return false;
    if (json_object_get(made, text) != NULL) {
        m->bytes.at = node_at(m, key.value)->at;
        return gp_pickle_fail(&m->bytes, "the key \"%.*s\" twice", NAME_PRINTED_MAX, text);
    }
    return json_object_set(made, text, converted) == 0 || out_of_memory(m);
}

/** The node as JSON, which the node owns; NULL with the status set. */
static json_t *convert(machine *m, uint32_t index, int depth) {
    node *source = node_at(m, index);
    m->bytes.at = source->at;
    /* What was converted elsewhere may be too high for this depth. */
    if (source->open || depth + source->height > DEPTH_MAX) {
        (void)(source->open ? gp_pickle_fail(&m->bytes, "a value that holds itself")
                            : gp_pickle_fail(&m->bytes, "more than %d levels", DEPTH_MAX));
        return NULL;
    }
    if (source->made != NULL) return source->made;
    source->open = true;
    json_t *made = source->kind == DICTIONARY ? json_object() : json_array();
    bool done = made != NULL || out_of_memory(m);
    uint32_t at = source->first;
    while (done && at != NONE) {
        if (source->kind == DICTIONARY) {
            done = convert_entry(m, source, made, &at, depth);
        } else {
            item link = ((item *)m->items.data)[at];
            json_t *converted = convert_part(m, source, link.value, depth);
            done = converted != NULL && (json_array_append(made, converted) == 0 || out_of_memory(m));
            at = link.next;
        }
    }
    if (!done) {
        json_decref(made);
        return NULL;
    }
    source->open = false;
    source->made = made;
    return made;
}
