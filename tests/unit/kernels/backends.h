/**
 * What the kernel tests share: the backends that they run on, memory of a backend that need not be the
 * host's, random numbers in the format that a backend multiplies, and how far results may be off.
 *
 * Tolerances. Every test states the error of its sums where they are f32, which is all there is on a backend
 * whose operands are f32. Where operands are bf16, inputs are rounded before the test (random_operands), so
 * that they are exact, and what is rounded afterwards is allowed for: 8 bits of significand, to nearest, are
 * off by at most 2^-8 of the value (half of the last place, 2^-7 of the power of two below it). An output
 * that is an operand may be off by that, and so may a number on the way that a product reads (operand_unit).
 */
#pragma once

#include "kernels/base/memory.h"
#include "kernels/ops.h"
#include "tests/check.h"

enum { BACKENDS_MAX = 6, MEMORY_MAX = 256, KEPT_MAX = 4096 };

#define UNIT 0x1p-24 /* f32: half of the last place, relative */

/* ---- backends ---- */

/** avx512 and avx2 (where present; else the one there is) with 1, 2 and 3 threads; returns how many. */
static inline int open_cpu_backends(gp_backend *backends[BACKENDS_MAX]) {
    int count = 0;
    for (int isa = 0; isa < 2; isa++) {
        setenv("GEOPIXEL_ISA", isa == 0 ? "avx512" : "avx2", 1);
        for (int threads = 1; threads <= 3; threads++) {
            gp_status status = {0};
            if (gp_backend_open_cpu(threads, &backends[count], &status))
                count++;
            else
                printf("not tested: %s\n", status.message);
            gp_status_clear(&status);
        }
    }
    REQUIRE(count > 0, "no CPU backend opens");
    return count;
}

/** The GPU: a real one, or the emulator's where the test is linked with it. None: the test ends as skipped.
 */
static inline int open_gpu_backends(gp_backend *backends[BACKENDS_MAX]) {
    gp_status status = {0};
    if (gp_backend_open_cuda(0, &backends[0], &status)) return 1;
    printf("skipped: %s\n", status.message);
    exit(77);
}

#ifdef GP_TEST_SIMT
enum { EMULATED = 1 }; /* sizes are smaller: a gigaflop takes seconds */
#else
enum { EMULATED = 0 };
#endif

/**
 * Kinds of backends. Those of one kind have to give the same bits; between kinds only tolerances hold. A kind
 * that this machine lacks opens none.
 */
static int (*const backend_kinds[])(gp_backend *backends[BACKENDS_MAX]) = {
#ifdef GP_TEST_CUDA
    open_gpu_backends,
#else
    open_cpu_backends,
#endif
};
enum { BACKEND_KINDS = sizeof backend_kinds / sizeof *backend_kinds };

/** Host memory that a backend may look at until it is closed: that of placed matrices. */
static void *kept_memory[KEPT_MAX];
static int kept_count;

/** Opens kind after kind and runs the tests on its backends; the last line of main. */
static inline int run_on_backends(void (*test)(uint64_t *seed, gp_backend **backends, int count)) {
    uint64_t seed = fresh_seed();
    for (int kind = 0; kind < BACKEND_KINDS; kind++) {
        gp_backend *backends[BACKENDS_MAX];
        int count = backend_kinds[kind](backends);
        if (count > 0) test(&seed, backends, count);
        for (int i = 0; i < count; i++) gp_backend_close(backends[i]);
        while (kept_count > 0) gp_free(kept_memory[--kept_count]);
    }
    return check_done();
}

/* ---- memory ---- */

/** What was handed out since the last release_memory; backend NULL: host memory. */
static struct {
    gp_backend *backend;
    void *memory;
} handed_out[MEMORY_MAX];
static int handed_out_count;

static inline void *hand_out(gp_backend *backend, void *memory) {
    REQUIRE(memory != NULL && handed_out_count < MEMORY_MAX, "no memory, or too many buffers in one test");
    handed_out[handed_out_count].backend = backend;
    handed_out[handed_out_count++].memory = memory;
    return memory;
}

/** Frees what the functions below gave, but the first `mark` of them. */
static inline void release_memory_from(int mark) {
    while (handed_out_count > mark) {
        gp_backend *backend = handed_out[--handed_out_count].backend;
        if (backend != NULL)
            backend->ops->release(backend, handed_out[handed_out_count].memory);
        else
            gp_free(handed_out[handed_out_count].memory);
    }
}
static inline void release_memory(void) {
    release_memory_from(0);
}

static inline void *host_memory(size_t bytes) {
    return hand_out(NULL, gp_allocate(bytes));
}

/** Backend memory with a copy of host bytes, or of 0xFF where `host` is NULL: NaN in f32 and bf16, so that
 * what an operation leaves out is seen. */
static inline void *on_backend(gp_backend *backend, const void *host, size_t bytes) {
    void *memory = hand_out(backend, backend->ops->allocate(backend, bytes));
    void *poison = host == NULL ? gp_allocate(bytes) : NULL;
    REQUIRE(host != NULL || poison != NULL, "no memory");
    if (poison != NULL) memset(poison, 0xFF, bytes);
    backend->ops->upload(backend, memory, host != NULL ? host : poison, bytes);
    gp_free(poison);
    return memory;
}

/** A host copy of backend memory. */
static inline void *from_backend(gp_backend *backend, const void *memory, size_t bytes) {
    void *host = host_memory(bytes);
    backend->ops->download(backend, host, memory, bytes);
    return host;
}

static inline float *floats_on(gp_backend *backend, const float *values, int64_t count) {
    return on_backend(backend, values, (size_t)count * sizeof *values);
}
static inline float *floats_from(gp_backend *backend, const float *memory, int64_t count) {
    return from_backend(backend, memory, (size_t)count * sizeof *memory);
}

/* ---- operands ---- */

/** The largest relative error of a number rounded to the backend's operands: 0 where they are f32, whose
 * roundings the tests count themselves. */
static inline double operand_unit(const gp_backend *backend) {
    return backend->operand == GP_DTYPE_F32 ? 0 : 0x1p-8;
}

/** The value to the nearest of `dtype`. */
static inline float round_to(gp_dtype dtype, float value) {
    return dtype == GP_DTYPE_BF16 ? gp_bf16_to_f32(gp_f32_to_bf16(value)) : value;
}

/** A width or a stride as the backend's operands need it: f32's may be any. */
static inline int64_t width_for(const gp_backend *backend, int64_t width) {
    return backend->operand == GP_DTYPE_F32 ? width : gp_operand_width(width);
}

/** Operands in backend memory, rounded from `values`; NULL for poison. */
static inline gp_operand *operands_on(gp_backend *backend, const float *values, int64_t count) {
    if (backend->operand == GP_DTYPE_F32 || values == NULL)
        return on_backend(backend, values, (size_t)count * gp_dtype_size(backend->operand));
    uint16_t *bits = gp_allocate((size_t)count * sizeof *bits);
    REQUIRE(bits != NULL, "no memory");
    for (int64_t i = 0; i < count; i++) bits[i] = gp_f32_to_bf16(values[i]);
    gp_operand *memory = on_backend(backend, bits, (size_t)count * sizeof *bits);
    gp_free(bits);
    return memory;
}

/** Operands as f32, which holds all of them exactly. */
static inline float *operands_from(gp_backend *backend, const gp_operand *memory, int64_t count) {
    size_t bytes = (size_t)count * gp_dtype_size(backend->operand);
    float *values = host_memory((size_t)count * sizeof *values);
    void *raw = gp_allocate(bytes);
    REQUIRE(raw != NULL, "no memory");
    backend->ops->download(backend, raw, memory, bytes);
    gp_convert_to_f32(raw, backend->operand, (size_t)count, values);
    gp_free(raw);
    return values;
}

/** A random stride for rows so wide. */
static inline int64_t stride_for(uint64_t *seed, const gp_backend *backend, int64_t width) {
    int64_t more = (int64_t)(random_bits(seed) % 4);
    return backend->operand == GP_DTYPE_F32 ? width + more
                                            : gp_operand_width(width) + more * GP_OPERAND_ALIGNMENT;
}

/* ---- random numbers ---- */

static inline int random_between(uint64_t *seed, int low, int high) {
    return low + (int)(random_bits(seed) % (uint64_t)(high - low + 1));
}

/** `count` host floats, uniform in [-scale, scale). */
static inline float *random_floats(uint64_t *seed, int64_t count, float scale) {
    float *values = host_memory((size_t)count * sizeof *values);
    for (int64_t i = 0; i < count; i++) values[i] = scale * random_float(seed);
    return values;
}

/** The same, rounded to the backend's operands: the exact values of what operands_on makes of them. */
static inline float *random_operands(uint64_t *seed, const gp_backend *backend, int64_t count, float scale) {
    float *values = random_floats(seed, count, scale);
    for (int64_t i = 0; i < count; i++) values[i] = round_to(backend->operand, values[i]);
    return values;
}

/** A random matrix in host memory, as a checkpoint has it, for place_matrix: now and then some columns of a
 * wider one, whose others are NaN. */
static inline gp_matrix random_matrix(uint64_t *seed, gp_dtype dtype, int64_t rows, int64_t columns) {
    int64_t stride = columns + (random_between(seed, 0, 2) == 0 ? random_between(seed, 1, 40) : 0);
    size_t bytes = (size_t)(rows * stride) * gp_dtype_size(dtype);
    unsigned char *data = gp_allocate(bytes);
    REQUIRE(data != NULL && kept_count < KEPT_MAX, "no memory, or too many matrices");
    kept_memory[kept_count++] = data;
    memset(data, 0xFF, bytes);
    for (int64_t i = 0; i < rows * columns; i++) {
        int64_t at = i / columns * stride + i % columns;
        float value = random_float(seed);
        uint16_t bits = gp_f32_to_bf16(value);
        if (dtype == GP_DTYPE_F16) bits = (uint16_t)(random_bits(seed) & 0x83FF) | 0x3400; /* ±0.25 … ±0.5 */
        if (dtype == GP_DTYPE_F32)
            memcpy(data + 4 * at, &value, 4);
        else
            memcpy(data + 2 * at, &bits, 2);
    }
    return (gp_matrix){data, dtype, rows, columns, stride};
}

static inline gp_matrix place_matrix(gp_backend *backend, gp_matrix matrix) {
    REQUIRE(backend->ops->place(backend, &matrix), "no room for a matrix on %s", backend->name);
    CHECK(matrix.stride >= matrix.columns, "a stride of %lld on %s", (long long)matrix.stride, backend->name);
    return matrix;
}

/** What a matrix of random_matrix holds in f64, [rows, columns], rounded to the dtype that it was placed in.
 */
static inline double *matrix_values(gp_matrix host, gp_dtype placed) {
    size_t columns = (size_t)host.columns;
    double *exact = host_memory((size_t)host.rows * columns * sizeof *exact);
    float *wide = gp_allocate(columns * sizeof *wide);
    REQUIRE(wide != NULL, "no memory");
    for (size_t row = 0; row < (size_t)host.rows; row++) {
        gp_convert_to_f32((const char *)host.data + row * (size_t)host.stride * gp_dtype_size(host.dtype),
                          host.dtype, columns, wide);
        for (size_t i = 0; i < columns; i++) exact[row * columns + i] = (double)round_to(placed, wide[i]);
    }
    gp_free(wide);
    return exact;
}
