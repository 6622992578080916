/** cuBLASLt's product of bf16 with sums in f32, the fastest of what its heuristic offers. */
#include "bench/kernels/library.h"
#include "kernels/base/memory.h"

#include <cublasLt.h>
#include <stdio.h>

#define TEXT_OF(number) #number
#define TEXT(number)    TEXT_OF(number)

/* Every function that is used, by its declaration in cublasLt.h. */
#define FUNCTIONS(X)                                                                                         \
    X(cublasLtCreate)                                                                                        \
    X(cublasLtDestroy)                                                                                       \
    X(cublasLtGetVersion)                                                                                    \
    X(cublasLtGetStatusString)                                                                               \
    X(cublasLtMatmulDescCreate)                                                                              \
    X(cublasLtMatmulDescDestroy)                                                                             \
    X(cublasLtMatmulDescSetAttribute)                                                                        \
    X(cublasLtMatrixLayoutCreate)                                                                            \
    X(cublasLtMatrixLayoutDestroy)                                                                           \
    X(cublasLtMatmulPreferenceCreate)                                                                        \
    X(cublasLtMatmulPreferenceDestroy)                                                                       \
    X(cublasLtMatmulPreferenceSetAttribute)                                                                  \
    X(cublasLtMatmulAlgoGetHeuristic)                                                                        \
    X(cublasLtMatmul)

#define MEMBER(name) __typeof__(name) *name;
#define NAME(name)   #name,
typedef union functions {
    struct {
        FUNCTIONS(MEMBER)
    };
    void *all[14];
} functions;
static const char *const names[] = {FUNCTIONS(NAME)};
enum { FUNCTION_COUNT = sizeof names / sizeof *names, CANDIDATES = 8, TIMED_RUNS = 5 };
_Static_assert(sizeof(functions) == FUNCTION_COUNT * sizeof(void *), "one address a function");

static const size_t workspace_bytes = (size_t)64 << 20;

typedef struct cublaslt {
    gp_library base;
    functions call;
    cublasLtHandle_t handle;
    cudaStream_t stream;
    void *workspace;
} cublaslt;

typedef struct product_plan {
    gp_plan base;
    gp_yardstick what;
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t w, x, y, c;
    cublasLtMatmulAlgo_t algorithm;
} product_plan;

static void close_library(gp_library *library) {
    cublaslt *lt = (cublaslt *)library;
    if (lt->handle != NULL) lt->call.cublasLtDestroy(lt->handle);
    cudaFree(lt->workspace);
    gp_free(lt);
}

static void free_plan(gp_plan *plan) {
    product_plan *p = (product_plan *)plan;
    const functions *call = &((cublaslt *)plan->library)->call;
    cublasLtMatrixLayout_t layouts[] = {p->w, p->x, p->y, p->c};
    for (int i = 0; i < 4; i++)
        if (layouts[i] != NULL) call->cublasLtMatrixLayoutDestroy(layouts[i]);
    if (p->operation != NULL) call->cublasLtMatmulDescDestroy(p->operation);
    gp_free(p);
}

/** Column-major as the library counts: yᵀ [columns, rows] = W · xᵀ, W and x each transposed by how they lie.
 */
static cublasStatus_t multiply(const product_plan *p, const cublasLtMatmulAlgo_t *algorithm,
                               void *const *at) {
    const cublaslt *lt = (const cublaslt *)p->base.library;
    const float one = 1, zero = 0;
    bool sums = p->what.product.residual >= 0;
    return lt->call.cublasLtMatmul(
        lt->handle, p->operation, &one, at[p->what.product.w], p->w, at[p->what.product.x], p->x,
        sums ? &one : &zero, at[sums ? p->what.product.residual : p->what.product.y], p->c,
        at[p->what.product.y], p->y, algorithm, lt->workspace, workspace_bytes, lt->stream);
}

static bool run(const gp_plan *plan, void *const *at) {
    const product_plan *p = (const product_plan *)plan;
    return multiply(p, &p->algorithm, at) == CUBLAS_STATUS_SUCCESS;
}

/** Seconds of a few runs after one; infinite where the candidate is refused. */
static double time_candidate(const product_plan *p, const cublasLtMatmulAlgo_t *algorithm, void *const *at) {
    cudaStream_t stream = ((const cublaslt *)p->base.library)->stream;
    cudaEvent_t events[2] = {NULL, NULL};
    float milliseconds = INFINITY;
    bool done = cudaEventCreate(&events[0]) == cudaSuccess && cudaEventCreate(&events[1]) == cudaSuccess &&
                multiply(p, algorithm, at) == CUBLAS_STATUS_SUCCESS &&
                cudaEventRecord(events[0], stream) == cudaSuccess;
    for (int i = 0; done && i < TIMED_RUNS; i++) done = multiply(p, algorithm, at) == CUBLAS_STATUS_SUCCESS;
    done = done && cudaEventRecord(events[1], stream) == cudaSuccess &&
           cudaEventSynchronize(events[1]) == cudaSuccess &&
           cudaEventElapsedTime(&milliseconds, events[0], events[1]) == cudaSuccess;
    for (int i = 0; i < 2; i++)
        if (events[i] != NULL) cudaEventDestroy(events[i]);
    return done ? (double)milliseconds : (double)INFINITY;
}

static bool choose(product_plan *p, void *const *at, gp_status *status) {
    const cublaslt *lt = (const cublaslt *)p->base.library;
    cublasLtMatmulPreference_t preference = NULL;
    cublasLtMatmulHeuristicResult_t candidates[CANDIDATES];
    int count = 0;
    double best = INFINITY;
    cublasStatus_t error = lt->call.cublasLtMatmulPreferenceCreate(&preference);
    if (error == CUBLAS_STATUS_SUCCESS)
        error = lt->call.cublasLtMatmulPreferenceSetAttribute(
            preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace_bytes, sizeof workspace_bytes);
    if (error == CUBLAS_STATUS_SUCCESS)
        error = lt->call.cublasLtMatmulAlgoGetHeuristic(lt->handle, p->operation, p->w, p->x, p->c, p->y,
                                                        preference, CANDIDATES, candidates, &count);
    if (preference != NULL) lt->call.cublasLtMatmulPreferenceDestroy(preference);
    for (int i = 0; error == CUBLAS_STATUS_SUCCESS && i < count; i++) {
        double seconds = time_candidate(p, &candidates[i].algo, at);
        if (seconds >= best) continue;
        best = seconds;
        p->algorithm = candidates[i].algo;
    }
    if (error != CUBLAS_STATUS_SUCCESS)
        return gp_fail(status, "%s: %s", lt->base.name, lt->call.cublasLtGetStatusString(error));
    return isfinite(best) || gp_fail(status, "%s: none of %d ways to do it ran", lt->base.name, count);
}

static bool make_plan(gp_library *library, const gp_yardstick *yardstick, void *const *at, gp_plan **plan,
                      gp_status *status) {
    const cublaslt *lt = (const cublaslt *)library;
    product_plan *p = gp_allocate_zeroed(1, sizeof *p);
    if (p == NULL) return gp_fail(status, "no memory for a plan of %s", library->name);
    p->base.library = library;
    p->what = *yardstick;
    const cudaDataType_t in = CUDA_R_16BF, out = yardstick->product.y_is_f32 ? CUDA_R_32F : CUDA_R_16BF;
    const uint64_t rows = (uint64_t)yardstick->product.rows, columns = (uint64_t)yardstick->product.columns,
                   depth = (uint64_t)yardstick->product.depth;
    const cublasOperation_t transposed = CUBLAS_OP_T;
    const struct {
        cublasLtMatrixLayout_t *layout;
        cudaDataType_t type;
        uint64_t high, wide;
        int64_t stride;
    } matrices[] = {
        {&p->w, in, depth, columns, yardstick->product.w_stride},
        {&p->x, in, depth, rows, yardstick->product.x_stride},
        {&p->y, out, columns, rows, yardstick->product.y_stride},
        {&p->c, out, columns, rows,
         yardstick->product.residual >= 0 ? yardstick->product.columns : yardstick->product.y_stride}};
    cublasStatus_t error = lt->call.cublasLtMatmulDescCreate(&p->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (error == CUBLAS_STATUS_SUCCESS)
        error = lt->call.cublasLtMatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_TRANSA,
                                                        &transposed, sizeof transposed);
    for (int i = 0; error == CUBLAS_STATUS_SUCCESS && i < 4; i++)
        error = lt->call.cublasLtMatrixLayoutCreate(matrices[i].layout, matrices[i].type, matrices[i].high,
                                                    matrices[i].wide, matrices[i].stride);
    bool made = error == CUBLAS_STATUS_SUCCESS
                    ? choose(p, at, status)
                    : gp_fail(status, "%s: %s", library->name, lt->call.cublasLtGetStatusString(error));
    if (made)
        *plan = &p->base;
    else
        free_plan(&p->base);
    return made;
}

bool gp_open_cublaslt(cudaStream_t stream, gp_library **library, gp_status *status) {
    cublaslt *lt = gp_allocate_zeroed(1, sizeof *lt);
    if (lt == NULL) return gp_fail(status, "no memory for cuBLASLt");
    lt->base.kind = GP_YARDSTICK_PRODUCT;
    lt->base.plan = make_plan;
    lt->base.run = run;
    lt->base.free_plan = free_plan;
    lt->base.close = close_library;
    lt->stream = stream;
    if (!gp_load_functions("libcublasLt.so." TEXT(CUBLAS_VER_MAJOR), names, lt->call.all, FUNCTION_COUNT,
                           status)) {
        gp_free(lt);
        return false;
    }
    size_t version = lt->call.cublasLtGetVersion();
    snprintf(lt->base.name, sizeof lt->base.name, "cuBLASLt %zu", version);
    if (lt->call.cublasLtCreate(&lt->handle) != CUBLAS_STATUS_SUCCESS ||
        cudaMalloc(&lt->workspace, workspace_bytes) != cudaSuccess) {
        gp_fail(status, "%s does not open on this GPU, or %zu bytes of workspace are not to be had",
                lt->base.name, workspace_bytes);
        close_library(&lt->base);
        return false;
    }
    *library = &lt->base;
    return true;
}
