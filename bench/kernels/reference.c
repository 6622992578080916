#include "bench/kernels/reference.h"

#include "kernels/base/memory.h"
#include "tests/check.h"

enum { BLOCK = 1048573 /* prime */ };

double gp_dot_bf16(const uint16_t *a, const uint16_t *b, int64_t count, double *magnitude) {
    double sum = 0, size = 0;
    for (int64_t i = 0; i < count; i++) {
        double product = (double)gp_bf16_to_f32(a[i]) * (double)gp_bf16_to_f32(b[i]);
        sum += product;
        size += fabs(product);
    }
    *magnitude += size;
    return sum;
}

double gp_activate(gp_activation activation, double x) {
    switch (activation) {
    case GP_ACTIVATION_RELU:
        return x > 0 ? x : 0;
    case GP_ACTIVATION_GELU:
        return x / 2 * (1 + erf(x / sqrt(2)));
    case GP_ACTIVATION_QUICK_GELU:
        return x / (1 + exp(-1.702 * x));
    case GP_ACTIVATION_SIGMOID:
        return 1 / (1 + exp(-x));
    case GP_ACTIVATION_NONE:
        break;
    }
    return x;
}

void gp_attend(const float *q, const uint16_t *const *k, const uint16_t *const *v, int64_t keys, int dim,
               double scale, gp_attended *out) {
    double *weight = gp_allocate((size_t)keys * sizeof *weight), largest = -INFINITY, total = 0, most = 0;
    REQUIRE(weight != NULL, "no memory for %lld scores", (long long)keys);
    for (int64_t i = 0; i < keys; i++) {
        double score = 0, magnitude = 0;
        for (int d = 0; d < dim; d++) {
            double product = (double)q[d] * (double)gp_bf16_to_f32(k[i][d]) * scale;
            score += product;
            magnitude += fabs(product);
        }
        weight[i] = score;
        largest = fmax(largest, score);
        most = fmax(most, magnitude);
    }
    memset(out, 0, sizeof *out);
    double magnitude[GP_HEAD_DIM_MAX] = {0};
    for (int64_t i = 0; i < keys; i++) {
        weight[i] = exp(weight[i] - largest);
        total += weight[i];
        for (int d = 0; d < dim; d++) {
            double value = (double)gp_bf16_to_f32(v[i][d]);
            out->y[d] += weight[i] * value;
            magnitude[d] += weight[i] * fabs(value);
        }
    }
    /* Twice a weight's error, since it is in the sum that divides too; values are at most 1. */
    double sums = 2 * 2 * ((dim + 8) * most + (double)keys + 16) * GP_UNIT_F32;
    for (int d = 0; d < dim; d++) {
        double y = out->y[d] /= total, bound = sums + GP_UNIT_BF16 * magnitude[d] / total;
        out->bound[d] = bound + GP_UNIT_BF16 * (fabs(y) + bound);
    }
    gp_free(weight);
}

void gp_compare_attended(gp_findings *findings, const uint16_t *have, const gp_attended *want, int dim,
                         int64_t row, int64_t column) {
    for (int d = 0; d < dim; d++)
        gp_compare(findings, (double)gp_bf16_to_f32(have[d]), want->y[d], want->bound[d], row, column + d);
}

const uint16_t **gp_pointers(int64_t count) {
    const uint16_t **list = gp_allocate((size_t)count * sizeof *list);
    REQUIRE(list != NULL, "no memory for %lld pointers", (long long)count);
    return list;
}

void gp_pointers_free(const uint16_t **list) {
    gp_free((void *)list);
}

int gp_sample_indices(uint64_t *seed, int64_t size, int64_t *out) {
    const int64_t edges[] = {0, 63, 64, 127, 128, size - 129, size - 65, size - 1};
    int count = 0;
    if (size <= GP_SAMPLES) {
        for (int64_t i = 0; i < size; i++) out[count++] = i;
        return count;
    }
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++)
        if (edges[i] >= 0 && edges[i] < size) out[count++] = edges[i];
    while (count < GP_SAMPLES) out[count++] = gp_random_below(seed, size);
    for (int i = 1; i < count; i++) /* rising, so that memory is gone over once */
        for (int j = i; j > 0 && out[j] < out[j - 1]; j--) {
            int64_t swapped = out[j];
            out[j] = out[j - 1];
            out[j - 1] = swapped;
        }
    return count;
}

uint64_t gp_fresh_seed(void) {
    return fresh_seed();
}

int64_t gp_random_below(uint64_t *seed, int64_t limit) {
    return (int64_t)(random_bits(seed) % (uint64_t)limit);
}

/** Fills what is behind the first block with copies of it. */
static void repeat_block(void *values, int64_t count, size_t size) {
    for (int64_t done = BLOCK; done < count; done += BLOCK) {
        int64_t here = count - done < BLOCK ? count - done : BLOCK;
        memcpy((char *)values + (size_t)done * size, values, (size_t)here * size);
    }
}

void gp_random_bf16(uint64_t *seed, uint16_t *values, int64_t count, float scale) {
    for (int64_t i = 0; i < count && i < BLOCK; i++) values[i] = gp_f32_to_bf16(scale * random_float(seed));
    repeat_block(values, count, sizeof *values);
}

void gp_random_f32(uint64_t *seed, float *values, int64_t count, float scale) {
    for (int64_t i = 0; i < count && i < BLOCK; i++) values[i] = scale * random_float(seed);
    repeat_block(values, count, sizeof *values);
}

void gp_random_bytes(uint64_t *seed, uint8_t *values, int64_t count) {
    for (int64_t i = 0; i < count && i < BLOCK; i++) values[i] = (uint8_t)random_bits(seed);
    repeat_block(values, count, sizeof *values);
}
