/**
 * cuDNN's fused attention, by its graph of operations: S = q kᵀ, times the scale, causal mask, softmax
 * written out (largest, difference, power, sum, quotient, the last as bf16; a row's statistics), times v.
 * cuDNN 9 has engines that recognise this graph as a whole; the first that its heuristic offers and that
 * finalises is taken.
 */
#include "bench/kernels/library.h"
#include "kernels/base/memory.h"

#include <cudnn.h>
#include <float.h>
#include <math.h>
#include <stdio.h>

#define TEXT_OF(number) #number
#define TEXT(number)    TEXT_OF(number)

/* Every function that is used, by its declaration in cudnn.h. */
#define FUNCTIONS(X)                                                                                         \
    X(cudnnCreate)                                                                                           \
    X(cudnnDestroy)                                                                                          \
    X(cudnnSetStream)                                                                                        \
    X(cudnnGetVersion)                                                                                       \
    X(cudnnGetErrorString)                                                                                   \
    X(cudnnGetLastErrorString)                                                                               \
    X(cudnnBackendCreateDescriptor)                                                                          \
    X(cudnnBackendDestroyDescriptor)                                                                         \
    X(cudnnBackendSetAttribute)                                                                              \
    X(cudnnBackendGetAttribute)                                                                              \
    X(cudnnBackendFinalize)                                                                                  \
    X(cudnnBackendExecute)

#define MEMBER(name) __typeof__(name) *name;
#define NAME(name)   #name,
typedef union functions {
    struct {
        FUNCTIONS(MEMBER)
    };
    void *all[12];
} functions;
static const char *const names[] = {FUNCTIONS(NAME)};
enum {
    FUNCTION_COUNT = sizeof names / sizeof *names,
    DESCRIPTORS_MAX = 96,
    OPERATIONS_MAX = 16,
    CANDIDATES = 8
};
_Static_assert(sizeof(functions) == FUNCTION_COUNT * sizeof(void *), "one address a function");

/* Tensors that a launch binds to memory; those between operations have numbers beyond. */
enum { Q = 1, K, V, Y, SCALE, MASKED, BETWEEN = 100 };

typedef struct cudnn {
    gp_library base;
    functions call;
    cudnnHandle_t handle;
} cudnn;

typedef cudnnBackendDescriptor_t descriptor;

/** A plan, and while it is built: what was made for it, and the first error. */
typedef struct attention_plan {
    gp_plan base;
    gp_yardstick what;
    descriptor made[DESCRIPTORS_MAX];
    int made_count;
    descriptor operations[OPERATIONS_MAX];
    int operation_count;
    int64_t tensors; /* between operations */
    cudnnStatus_t error;
    const char *failed_at;
    descriptor plan;
    void *workspace;
    float scale, masked;
} attention_plan;

static const functions *calls(const attention_plan *p) {
    return &((const cudnn *)p->base.library)->call;
}

static void note(attention_plan *p, cudnnStatus_t error, const char *what) {
    if (p->error != CUDNN_STATUS_SUCCESS || error == CUDNN_STATUS_SUCCESS) return;
    p->error = error;
    p->failed_at = what;
}

static descriptor create(attention_plan *p, cudnnBackendDescriptorType_t type, const char *what) {
    descriptor made = NULL;
    if (p->made_count == DESCRIPTORS_MAX) note(p, CUDNN_STATUS_INTERNAL_ERROR, "too many descriptors");
    if (p->error != CUDNN_STATUS_SUCCESS) return NULL;
    note(p, calls(p)->cudnnBackendCreateDescriptor(type, &made), what);
    if (made != NULL) p->made[p->made_count++] = made;
    return made;
}

static void set(attention_plan *p, descriptor target, cudnnBackendAttributeName_t name,
                cudnnBackendAttributeType_t type, int64_t count, const void *values, const char *what) {
    if (p->error == CUDNN_STATUS_SUCCESS)
        note(p, calls(p)->cudnnBackendSetAttribute(target, name, type, count, values), what);
}

static void set_descriptor(attention_plan *p, descriptor target, cudnnBackendAttributeName_t name,
                           descriptor value, const char *what) {
    set(p, target, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value, what);
}

static void finalize(attention_plan *p, descriptor target, const char *what) {
    if (p->error == CUDNN_STATUS_SUCCESS) note(p, calls(p)->cudnnBackendFinalize(target), what);
}

/* ---- tensors: dimensions and strides are batch, head, row, column ---- */

typedef enum place { IN_MEMORY, BETWEEN_OPERATIONS, BY_VALUE } place;

static descriptor tensor(attention_plan *p, int64_t id, cudnnDataType_t type, const int64_t dimensions[4],
                         const int64_t strides[4], place where) {
    descriptor made = create(p, CUDNN_BACKEND_TENSOR_DESCRIPTOR, "a tensor");
    const int64_t alignment = 16;
    const bool is_virtual = where == BETWEEN_OPERATIONS, by_value = where == BY_VALUE;
    set(p, made, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id, "a tensor's number");
    set(p, made, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type, "a tensor's type");
    set(p, made, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment, "a tensor's alignment");
    set(p, made, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dimensions, "a tensor's dimensions");
    set(p, made, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides, "a tensor's strides");
    set(p, made, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual,
        "a tensor between operations");
    if (by_value)
        set(p, made, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &by_value, "a tensor by value");
    finalize(p, made, "a tensor");
    return made;
}

/** A result between operations: of the scores' shape, or of one number a row. */
static descriptor between(attention_plan *p, cudnnDataType_t type, bool one_a_row) {
    const int64_t heads = p->what.attention.heads, queries = p->what.attention.queries,
                  columns = one_a_row ? 1 : p->what.attention.keys;
    return tensor(p, BETWEEN + p->tensors++, type,
                  (int64_t[]){p->what.attention.sequences, heads, queries, columns},
                  (int64_t[]){heads * queries * columns, queries * columns, columns, 1}, BETWEEN_OPERATIONS);
}

static descriptor number(attention_plan *p, int64_t id) {
    const int64_t one[4] = {1, 1, 1, 1};
    return tensor(p, id, CUDNN_DATA_FLOAT, one, one, BY_VALUE);
}

/* ---- operations ---- */

static void add_operation(attention_plan *p, descriptor operation, const char *what) {
    finalize(p, operation, what);
    if (p->error == CUDNN_STATUS_SUCCESS) p->operations[p->operation_count++] = operation;
}

static void matmul(attention_plan *p, descriptor a, descriptor b, descriptor c, const char *what) {
    const cudnnDataType_t sums = CUDNN_DATA_FLOAT;
    descriptor kind = create(p, CUDNN_BACKEND_MATMUL_DESCRIPTOR, what);
    set(p, kind, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &sums, what);
    finalize(p, kind, what);
    descriptor operation = create(p, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, what);
    set_descriptor(p, operation, CUDNN_ATTR_OPERATION_MATMUL_DESC, kind, what);
    set_descriptor(p, operation, CUDNN_ATTR_OPERATION_MATMUL_ADESC, a, what);
    set_descriptor(p, operation, CUDNN_ATTR_OPERATION_MATMUL_BDESC, b, what);
    set_descriptor(p, operation, CUDNN_ATTR_OPERATION_MATMUL_CDESC, c, what);
    add_operation(p, operation, what);
}

/** y = mode(x, b, t); b and t may be NULL, axis is GEN_INDEX's. */
static descriptor pointwise(attention_plan *p, cudnnPointwiseMode_t mode, cudnnDataType_t math, int64_t axis,
                            descriptor x, descriptor b, descriptor t, descriptor y, const char *what) {
    descriptor kind = create(p, CUDNN_BACKEND_POINTWISE_DESCRIPTOR, what);
    set(p, kind, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode, what);
    set(p, kind, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &math, what);
    if (mode == CUDNN_POINTWISE_GEN_INDEX)
        set(p, kind, CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, 1, &axis, what);
    finalize(p, kind, what);
    descriptor operation = create(p, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, what);
    set_descriptor(p, operation, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, kind, what);
    set_descriptor(p, operation, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x, what);
    if (b != NULL) set_descriptor(p, operation, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b, what);
    if (t != NULL) set_descriptor(p, operation, CUDNN_ATTR_OPERATION_POINTWISE_TDESC, t, what);
    set_descriptor(p, operation, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y, what);
    add_operation(p, operation, what);
    return y;
}

/** One number a row of x. */
static descriptor reduce(attention_plan *p, cudnnReduceTensorOp_t operator, descriptor x, const char *what) {
    const cudnnDataType_t sums = CUDNN_DATA_FLOAT;
    descriptor y = between(p, CUDNN_DATA_FLOAT, true),
               kind = create(p, CUDNN_BACKEND_REDUCTION_DESCRIPTOR, what);
    set(p, kind, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, &operator, what);
    set(p, kind, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &sums, what);
    finalize(p, kind, what);
    descriptor operation = create(p, CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR, what);
    set_descriptor(p, operation, CUDNN_ATTR_OPERATION_REDUCTION_DESC, kind, what);
    set_descriptor(p, operation, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x, what);
    set_descriptor(p, operation, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, y, what);
    add_operation(p, operation, what);
    return y;
}

/* ---- the graph ---- */

static void describe_attention(attention_plan *p) {
    const int64_t n = p->what.attention.sequences, heads = p->what.attention.heads,
                  kv_heads = p->what.attention.kv_heads, queries = p->what.attention.queries,
                  keys = p->what.attention.keys, dim = p->what.attention.head_dim,
                  q_row = p->what.attention.q_stride, kv_row = p->what.attention.kv_stride,
                  y_row = p->what.attention.y_stride;
    const cudnnDataType_t bf16 = CUDNN_DATA_BFLOAT16, f32 = CUDNN_DATA_FLOAT;
    descriptor q = tensor(p, Q, bf16, (int64_t[]){n, heads, queries, dim},
                          (int64_t[]){queries * q_row, dim, q_row, 1}, IN_MEMORY);
    descriptor k = tensor(p, K, bf16, (int64_t[]){n, kv_heads, dim, keys},
                          (int64_t[]){keys * kv_row, dim, 1, kv_row}, IN_MEMORY);
    descriptor v = tensor(p, V, bf16, (int64_t[]){n, kv_heads, keys, dim},
                          (int64_t[]){keys * kv_row, dim, kv_row, 1}, IN_MEMORY);
    descriptor y = tensor(p, Y, bf16, (int64_t[]){n, heads, queries, dim},
                          (int64_t[]){queries * y_row, dim, y_row, 1}, IN_MEMORY);
    descriptor scores = between(p, f32, false);
    matmul(p, q, k, scores, "q kᵀ");
    scores = pointwise(p, CUDNN_POINTWISE_MUL, f32, 0, scores, number(p, SCALE), NULL, between(p, f32, false),
                       "the scale");
    if (p->what.attention.causal) {
        descriptor row = pointwise(p, CUDNN_POINTWISE_GEN_INDEX, f32, 2, scores, NULL, NULL,
                                   between(p, CUDNN_DATA_INT32, false), "the row's number");
        descriptor column = pointwise(p, CUDNN_POINTWISE_GEN_INDEX, f32, 3, scores, NULL, NULL,
                                      between(p, CUDNN_DATA_INT32, false), "the column's number");
        descriptor seen = pointwise(p, CUDNN_POINTWISE_CMP_GE, CUDNN_DATA_BOOLEAN, 0, row, column, NULL,
                                    between(p, CUDNN_DATA_BOOLEAN, false), "what a row sees");
        scores = pointwise(p, CUDNN_POINTWISE_BINARY_SELECT, f32, 0, scores, number(p, MASKED), seen,
                           between(p, f32, false), "the mask");
    }
    descriptor largest = reduce(p, CUDNN_REDUCE_TENSOR_MAX, scores, "the largest");
    descriptor less = pointwise(p, CUDNN_POINTWISE_SUB, f32, 0, scores, largest, NULL, between(p, f32, false),
                                "the difference");
    descriptor power =
        pointwise(p, CUDNN_POINTWISE_EXP, f32, 0, less, NULL, NULL, between(p, f32, false), "the power");
    descriptor sum = reduce(p, CUDNN_REDUCE_TENSOR_ADD, power, "the sum");
    /* What training would keep of a row belongs to the graph that engines know, though nobody reads it. */
    descriptor logarithm =
        pointwise(p, CUDNN_POINTWISE_LOG, f32, 0, sum, NULL, NULL, between(p, f32, true), "the logarithm");
    pointwise(p, CUDNN_POINTWISE_ADD, f32, 0, largest, logarithm, NULL, between(p, f32, true),
              "a row's statistics");
    descriptor weights =
        pointwise(p, CUDNN_POINTWISE_DIV, f32, 0, power, sum, NULL, between(p, bf16, false), "the quotient");
    matmul(p, weights, v, y, "the product with v");
}

/** The graph's first engine that finalises, and its workspace. */
static void choose(attention_plan *p) {
    const functions *call = calls(p);
    cudnnHandle_t handle = ((const cudnn *)p->base.library)->handle;
    const cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A;
    descriptor graph = create(p, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, "the graph");
    set(p, graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle, "the graph's handle");
    set(p, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, p->operation_count,
        p->operations, "the graph's operations");
    finalize(p, graph, "the graph");
    descriptor heuristic = create(p, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, "the heuristic"),
               candidates[CANDIDATES];
    set_descriptor(p, heuristic, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph, "the heuristic's graph");
    set(p, heuristic, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode, "the heuristic's mode");
    finalize(p, heuristic, "the heuristic");
    for (int i = 0; i < CANDIDATES; i++)
        candidates[i] = create(p, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, "an engine");
    int64_t count = 0, bytes = 0;
    if (p->error == CUDNN_STATUS_SUCCESS)
        note(p,
             call->cudnnBackendGetAttribute(heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                            CUDNN_TYPE_BACKEND_DESCRIPTOR, CANDIDATES, &count, candidates),
             "the heuristic's results");
    if (p->error == CUDNN_STATUS_SUCCESS && count == 0)
        note(p, CUDNN_STATUS_NOT_SUPPORTED, "no engine for the graph");
    for (int64_t i = 0; p->error == CUDNN_STATUS_SUCCESS && i < count; i++) {
        descriptor plan = create(p, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, "a plan");
        set(p, plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle, "the plan's handle");
        set_descriptor(p, plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, candidates[i], "the plan's engine");
        finalize(p, plan, "a plan");
        if (p->error == CUDNN_STATUS_SUCCESS) {
            p->plan = plan;
            break;
        }
        if (i + 1 < count) p->error = CUDNN_STATUS_SUCCESS; /* the next one */
    }
    int64_t got = 0;
    if (p->error == CUDNN_STATUS_SUCCESS)
        note(p,
             call->cudnnBackendGetAttribute(p->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                            CUDNN_TYPE_INT64, 1, &got, &bytes),
             "the plan's workspace");
    if (p->error == CUDNN_STATUS_SUCCESS && bytes > 0 &&
        cudaMalloc(&p->workspace, (size_t)bytes) != cudaSuccess) {
        cudaGetLastError();
        note(p, CUDNN_STATUS_ALLOC_FAILED, "the plan's workspace");
    }
}

/* ---- the library ---- */

static bool run(const gp_plan *plan, void *const *at) {
    attention_plan *p = (attention_plan *)(uintptr_t)plan;
    const functions *call = calls(p);
    const uint16_t *q = at[p->what.attention.q], *k = at[p->what.attention.k], *v = at[p->what.attention.v];
    const int64_t ids[] = {Q, K, V, Y, SCALE, MASKED}, count = p->what.attention.causal ? 6 : 5;
    const void *memory[] = {q + p->what.attention.q_offset,
                            k + p->what.attention.k_offset,
                            v + p->what.attention.v_offset,
                            at[p->what.attention.y],
                            &p->scale,
                            &p->masked};
    descriptor pack = NULL;
    cudnnStatus_t error = call->cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack);
    if (error == CUDNN_STATUS_SUCCESS)
        error = call->cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64,
                                               count, ids);
    if (error == CUDNN_STATUS_SUCCESS)
        error = call->cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS,
                                               CUDNN_TYPE_VOID_PTR, count, memory);
    if (error == CUDNN_STATUS_SUCCESS)
        error = call->cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR,
                                               1, &p->workspace);
    if (error == CUDNN_STATUS_SUCCESS) error = call->cudnnBackendFinalize(pack);
    if (error == CUDNN_STATUS_SUCCESS)
        error = call->cudnnBackendExecute(((const cudnn *)p->base.library)->handle, p->plan, pack);
    if (pack != NULL) call->cudnnBackendDestroyDescriptor(pack);
    return error == CUDNN_STATUS_SUCCESS;
}

static void free_plan(gp_plan *plan) {
    attention_plan *p = (attention_plan *)plan;
    while (p->made_count > 0) calls(p)->cudnnBackendDestroyDescriptor(p->made[--p->made_count]);
    cudaFree(p->workspace);
    gp_free(p);
}

static bool make_plan(gp_library *library, const gp_yardstick *yardstick, void *const *at, gp_plan **plan,
                      gp_status *status) {
    attention_plan *p = gp_allocate_zeroed(1, sizeof *p);
    if (p == NULL) return gp_fail(status, "no memory for a plan of %s", library->name);
    (void)at;
    p->base.library = library;
    p->what = *yardstick;
    p->scale = yardstick->attention.scale;
    p->masked = calls(p)->cudnnGetVersion() < 91000 ? -FLT_MAX : -INFINITY; /* older engines want it finite */
    describe_attention(p);
    choose(p);
    if (p->error != CUDNN_STATUS_SUCCESS) {
        char more[256] = "";
        calls(p)->cudnnGetLastErrorString(more, sizeof more);
        gp_fail(status, "%s: %s: %s %s", library->name, p->failed_at, calls(p)->cudnnGetErrorString(p->error),
                more);
        free_plan(&p->base);
        return false;
    }
    *plan = &p->base;
    return true;
}

static void close_library(gp_library *library) {
    cudnn *lib = (cudnn *)library;
    if (lib->handle != NULL) lib->call.cudnnDestroy(lib->handle);
    gp_free(lib);
}

bool gp_open_cudnn(cudaStream_t stream, gp_library **library, gp_status *status) {
    cudnn *lib = gp_allocate_zeroed(1, sizeof *lib);
    if (lib == NULL) return gp_fail(status, "no memory for cuDNN");
    lib->base.kind = GP_YARDSTICK_ATTENTION;
    lib->base.plan = make_plan;
    lib->base.run = run;
    lib->base.free_plan = free_plan;
    lib->base.close = close_library;
    if (!gp_load_functions("libcudnn.so." TEXT(CUDNN_MAJOR), names, lib->call.all, FUNCTION_COUNT, status)) {
        gp_free(lib);
        return false;
    }
    snprintf(lib->base.name, sizeof lib->base.name, "cuDNN %zu", lib->call.cudnnGetVersion());
    cudnnStatus_t error = lib->call.cudnnCreate(&lib->handle);
    if (error == CUDNN_STATUS_SUCCESS) error = lib->call.cudnnSetStream(lib->handle, stream);
    if (error != CUDNN_STATUS_SUCCESS) {
        gp_fail(status, "%s does not open: %s", lib->base.name, lib->call.cudnnGetErrorString(error));
        close_library(&lib->base);
        return false;
    }
    *library = &lib->base;
    return true;
}
