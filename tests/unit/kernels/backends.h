/** CPU backends for the kernel tests: every instruction set that this processor has, with several threads. */
#pragma once

#include "kernels/base/memory.h"
#include "kernels/ops.h"
#include "tests/check.h"

enum { BACKENDS_MAX = 6 };

/** Opens avx512 and avx2 (where present; else the one there is) with 1, 2 and 3 threads; returns how many. */
static inline int open_backends(gp_backend *backends[BACKENDS_MAX]) {
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
    REQUIRE(count > 0, "no backend opens");
    return count;
}

static inline void close_backends(gp_backend **backends, int count) {
    for (int i = 0; i < count; i++) gp_backend_close(backends[i]);
}

/** `count` floats, uniform in [-scale, scale). */
static inline float *random_floats(uint64_t *seed, int64_t count, float scale) {
    float *values = gp_allocate((size_t)count * sizeof *values);
    REQUIRE(values != NULL, "no memory");
    for (int64_t i = 0; i < count; i++) values[i] = scale * random_float(seed);
    return values;
}

/** `count` floats of NaN: an operation must write them all. */
static inline float *poisoned_floats(int64_t count) {
    float *values = gp_allocate((size_t)count * sizeof *values);
    REQUIRE(values != NULL, "no memory");
    for (int64_t i = 0; i < count; i++) values[i] = NAN;
    return values;
}

/** A random matrix in `dtype`, with what it holds as f64 in `exact`. Free both with gp_free. */
static inline gp_matrix random_matrix(uint64_t *seed, gp_dtype dtype, int64_t rows, int64_t columns,
                                      double **exact) {
    int64_t count = rows * columns;
    unsigned char *data = gp_allocate((size_t)count * gp_dtype_size(dtype));
    float *wide = gp_allocate((size_t)count * sizeof *wide);
    *exact = gp_allocate((size_t)count * sizeof **exact);
    REQUIRE(data != NULL && wide != NULL && *exact != NULL, "no memory");
    for (int64_t i = 0; i < count; i++) {
        float value = random_float(seed);
        uint16_t bits = gp_f32_to_bf16(value);
        if (dtype == GP_DTYPE_F16) bits = (uint16_t)(random_bits(seed) & 0x83FF) | 0x3400; /* ±0.25 … ±0.5 */
        if (dtype == GP_DTYPE_F32)
            memcpy(data + 4 * i, &value, 4);
        else
            memcpy(data + 2 * i, &bits, 2);
    }
    gp_convert_to_f32(data, dtype, (size_t)count, wide);
    for (int64_t i = 0; i < count; i++) (*exact)[i] = wide[i];
    gp_free(wide);
    return (gp_matrix){data, dtype, rows, columns};
}

static inline int random_between(uint64_t *seed, int low, int high) {
    return low + (int)(random_bits(seed) % (uint64_t)(high - low + 1));
}
