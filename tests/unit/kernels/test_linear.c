/**
 * linear and linear_swiglu against float64, on every kind of backend; packed QKV is test_qkv.c's.
 *
 * Tolerance, element by element: that of the sums (products.h). Activations have slopes of at most 1.13 and
 * are themselves within 4 units in the last place; the bounds are added up below. An output that is an
 * operand is rounded once more.
 */
#include "tests/unit/kernels/products.h"

static double activate(gp_activation activation, double x) {
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

/** What one linear gave: f32, operands or both, as f32 in host memory. */
typedef struct outputs {
    float *y, *y_operand;
} outputs;

enum { GIVE_F32 = 1, GIVE_OPERAND = 2 };

/** Runs it with outputs of its own and reads them. */
static outputs run_linear(gp_backend *backend, gp_linear linear, int give) {
    int64_t count = linear.rows * linear.y_stride;
    if (give & GIVE_F32) linear.y = floats_on(backend, NULL, count);
    if (give & GIVE_OPERAND) linear.y_operand = operands_on(backend, NULL, count);
    backend->ops->linear(backend, &linear);
    return (outputs){give & GIVE_F32 ? floats_from(backend, linear.y, count) : NULL,
                     give & GIVE_OPERAND ? operands_from(backend, linear.y_operand, count) : NULL};
}

static bool same_row(const outputs *a, int64_t row_a, const outputs *b, int64_t row_b, int64_t columns,
                     int64_t stride) {
    size_t bytes = (size_t)columns * sizeof(float);
    return (a->y == NULL || memcmp(a->y + row_a * stride, b->y + row_b * stride, bytes) == 0) &&
           (a->y_operand == NULL ||
            memcmp(a->y_operand + row_a * stride, b->y_operand + row_b * stride, bytes) == 0);
}

typedef enum way {
    DRAWN,
    PLAIN, /* operands alone are wanted, without a residual, not as a decoding step */
    STEP,  /* a decoding step without an addition */
} way;

static void test_linear(uint64_t *seed, gp_backend **backends, int backend_count, int64_t rows,
                        int64_t columns, int64_t depth, way how) {
    gp_backend *kind = backends[0];
    gp_dtype dtype = (gp_dtype)random_between(seed, 0, 2);
    int64_t x_stride = stride_for(seed, kind, depth), y_stride = stride_for(seed, kind, columns);
    float *x = random_operands(seed, kind, rows * x_stride, 2), *bias = random_floats(seed, columns, 1);
    float *residual = random_floats(seed, rows * columns, 1);
    gp_matrix host_weight = random_matrix(seed, dtype, columns, depth);
    double *w = matrix_values(host_weight, place_matrix(kind, host_weight).dtype);
    uint8_t *image_row = random_rows(seed, rows);
    lora_case lora = make_lora(seed, kind, dtype, depth, columns);
    bool with_bias = flip(seed), with_residual = flip(seed);
    bool decode = how == STEP || (how == DRAWN && flip(seed)), with_lora = how != STEP && flip(seed);
    int give = random_between(seed, GIVE_F32, GIVE_F32 | GIVE_OPERAND);
    if (how == PLAIN) with_residual = false, give = GIVE_OPERAND;
    gp_activation activation = (gp_activation)random_between(seed, 0, 4);
    int64_t alone = random_between(seed, 0, (int)rows - 1);
    if (kind->operand != GP_DTYPE_F32)
        for (int64_t row = 0; row < rows; row++) /* as patches leaves it */
            for (int64_t pad = depth; pad < x_stride; pad++) x[row * x_stride + pad] = 0;
    outputs first = {0};
    for (int i = 0; i < backend_count; i++) {
        gp_backend *backend = backends[i];
        int mark = handed_out_count;
        gp_partial_lora own = place_lora(&lora, backend, rows, image_row);
        gp_linear linear = {.x = operands_on(backend, x, rows * x_stride),
                            .rows = rows,
                            .x_stride = x_stride,
                            .weight = place_matrix(backend, host_weight),
                            .bias = with_bias ? floats_on(backend, bias, columns) : NULL,
                            .lora = with_lora ? &own : NULL,
                            .activation = activation,
                            .residual = with_residual ? floats_on(backend, residual, rows * columns) : NULL,
                            .decode = decode,
                            .y_stride = y_stride};
        outputs have = run_linear(backend, linear, give);
        if (i == 0) first = have;
        for (int64_t row = 0; row < rows; row++) {
            CHECK(same_row(&first, row, &have, row, columns, y_stride),
                  "%s differs from %s in row %lld of %lld x %lld x %lld", backend->name, kind->name,
                  (long long)row, (long long)rows, (long long)columns, (long long)depth);
            for (int64_t pad = row * y_stride + columns; pad < (row + 1) * y_stride; pad++)
                CHECK((have.y == NULL || isnan(have.y[pad])) &&
                          (have.y_operand == NULL || isnan(have.y_operand[pad])),
                      "%s wrote beyond row %lld", backend->name, (long long)row);
        }
        /* A row alone has the bits that it had among the others. */
        linear.x = gp_operand_at(backend, linear.x, alone * x_stride);
        linear.rows = 1;
        own.image_row += alone;
        if (with_residual) linear.residual += alone * columns;
        outputs one = run_linear(backend, linear, give);
        CHECK(same_row(&one, 0, &first, alone, columns, y_stride), "%s: row %lld of %lld differs when alone",
              backend->name, (long long)alone, (long long)rows);
        if (i > 0) release_memory_from(mark);
    }
    for (int64_t row = 0; row < rows; row++) {
        for (int64_t column = row % 7; column < columns; column += 1 + columns / 40) {
            double magnitude = 0, want = dot(x + row * x_stride, w + column * depth, depth, &magnitude);
            double bound = bound_of(kind, depth, magnitude);
            if (with_bias) want += bias[column];
            if (with_lora && image_row[row])
                want += lora_value(kind, &lora, x + row * x_stride, depth, column, &bound);
            bound += 2 * UNIT * fabs(want);
            want = activate(activation, want);
            bound = 1.13 * bound + 8 * UNIT * (fabs(want) + 1);
            if (with_residual) want += residual[row * columns + column];
            bound += UNIT * fabs(want);
            for (int part = GIVE_F32; part <= GIVE_OPERAND; part++) {
                if (!(give & part)) continue;
                double have = (part == GIVE_F32 ? first.y : first.y_operand)[row * y_stride + column];
                double allowed = part == GIVE_F32 ? bound : bound + operand_unit(kind) * (fabs(want) + bound);
                CHECK(fabs(have - want) <= allowed,
                      "%s [%lld, %lld] of %lld x %lld x %lld %s activation %d: %.9g, not %.9g +- %.2g",
                      kind->name, (long long)row, (long long)column, (long long)rows, (long long)columns,
                      (long long)depth, gp_dtype_name(dtype), activation, have, want, allowed);
            }
        }
    }
    release_memory();
}

static void test_swiglu(uint64_t *seed, gp_backend **backends, int backend_count, int64_t rows,
                        int64_t columns, int64_t depth, way how) {
    gp_backend *kind = backends[0];
    columns = width_for(kind, columns);
    depth = width_for(kind, depth);
    float *x = random_operands(seed, kind, rows * depth, 1), *first = NULL;
    gp_matrix host_w1 = random_matrix(seed, GP_DTYPE_BF16, columns, depth),
              host_w3 = random_matrix(seed, GP_DTYPE_BF16, columns, depth);
    double *w1 = matrix_values(host_w1, GP_DTYPE_BF16), *w3 = matrix_values(host_w3, GP_DTYPE_BF16);
    uint8_t *image_row = random_rows(seed, rows);
    lora_case lora1 = make_lora(seed, kind, GP_DTYPE_BF16, depth, columns);
    lora_case lora3 = make_lora(seed, kind, GP_DTYPE_BF16, depth, columns);
    bool decode = how == STEP || flip(seed), with_lora = how != STEP && flip(seed);
    int64_t alone = random_between(seed, 0, (int)rows - 1);
    for (int i = 0; i < backend_count; i++) {
        gp_backend *backend = backends[i];
        gp_partial_lora own1 = place_lora(&lora1, backend, rows, image_row),
                        own3 = place_lora(&lora3, backend, rows, image_row);
        gp_linear_swiglu linear = {.x = operands_on(backend, x, rows * depth),
                                   .rows = rows,
                                   .w1 = place_matrix(backend, host_w1),
                                   .w3 = place_matrix(backend, host_w3),
                                   .lora1 = with_lora ? &own1 : NULL,
                                   .lora3 = with_lora ? &own3 : NULL,
                                   .decode = decode,
                                   .y = operands_on(backend, NULL, rows * columns)};
        backend->ops->linear_swiglu(backend, &linear);
        float *have = operands_from(backend, linear.y, rows * columns);
        if (i == 0) first = have;
        CHECK(memcmp(first, have, (size_t)(rows * columns) * sizeof *have) == 0,
              "swiglu on %s differs from %s", backend->name, kind->name);
        linear.x = gp_operand_at(backend, linear.x, alone * depth);
        linear.rows = 1;
        linear.y = operands_on(backend, NULL, columns);
        own1.image_row += alone;
        own3.image_row += alone;
        backend->ops->linear_swiglu(backend, &linear);
        float *one = operands_from(backend, linear.y, columns);
        CHECK(memcmp(first + alone * columns, one, (size_t)columns * sizeof *one) == 0,
              "swiglu on %s: row %lld of %lld differs when alone", backend->name, (long long)alone,
              (long long)rows);
    }
    for (int64_t row = 0; row < rows; row++) {
        for (int64_t column = row % 5; column < columns; column += 1 + columns / 20) {
            double m1 = 0, m3 = 0, a = dot(x + row * depth, w1 + column * depth, depth, &m1);
            double b = dot(x + row * depth, w3 + column * depth, depth, &m3);
            double bound1 = bound_of(kind, depth, m1), bound3 = bound_of(kind, depth, m3);
            if (with_lora && image_row[row]) {
                a += lora_value(kind, &lora1, x + row * depth, depth, column, &bound1);
                b += lora_value(kind, &lora3, x + row * depth, depth, column, &bound3);
            }
            double silu = a / (1 + exp(-a)), want = silu * b, have = first[row * columns + column];
            double bound =
                1.1 * bound1 * (fabs(b) + bound3) + fabs(silu) * bound3 + 12 * UNIT * (fabs(want) + 1);
            bound += operand_unit(kind) * (fabs(want) + bound);
            CHECK(fabs(have - want) <= bound, "swiglu %s [%lld, %lld]: %.9g, not %.9g +- %.2g", kind->name,
                  (long long)row, (long long)column, have, want, bound);
        }
    }
    release_memory();
}

/**
 * Activations alone: products of 0, so that a bias is what they are given, as f32. A fine sweep of where they
 * bend, magnitudes to 2^99 (from 2^103 on the CPU's x·σ(x) shows that its σ never is below 2^-127), what is
 * no number.
 */
static void test_activations(uint64_t *seed, gp_backend **backends, int backend_count) {
    enum { FINE = 40000, LARGE = 2000, COUNT = FINE + 2 * LARGE + 3 };
    int64_t stride = gp_operand_width(8);
    float *bias = host_memory(COUNT * sizeof *bias), *x = random_operands(seed, backends[0], stride, 1);
    for (int i = 0; i < FINE; i++) bias[i] = 32.0f * ((float)i + random_float(seed)) / FINE - 16;
    for (int i = 0; i < 2 * LARGE; i++)
        bias[FINE + i] = ldexpf(1.5f + random_float(seed) / 2, i / 2 * 222 / LARGE - 124) * (i % 2 ? -1 : 1);
    bias[COUNT - 3] = NAN, bias[COUNT - 2] = INFINITY, bias[COUNT - 1] = -INFINITY;
    for (int64_t k = 0; k < stride; k++) x[k] = 0;
    gp_matrix host_weight = random_matrix(seed, GP_DTYPE_BF16, COUNT, 8);
    for (int i = 0; i < backend_count; i++) {
        gp_backend *backend = backends[i];
        gp_linear linear = {.x = operands_on(backend, x, stride),
                            .rows = 1,
                            .x_stride = stride,
                            .weight = place_matrix(backend, host_weight),
                            .bias = floats_on(backend, bias, COUNT),
                            .y_stride = COUNT};
        for (int activation = GP_ACTIVATION_NONE; activation <= GP_ACTIVATION_SIGMOID; activation++) {
            linear.activation = (gp_activation)activation;
            linear.decode = random_between(seed, 0, 1);
            outputs have = run_linear(backend, linear, GIVE_F32);
            for (int at = 0; at < COUNT - 3; at++) {
                double want = activate(linear.activation, bias[at]);
                CHECK(fabs(have.y[at] - want) <= 8 * UNIT * (fabs(want) + 1),
                      "%s: activation %d of %.9g: %.9g, not %.9g", backend->name, activation,
                      (double)bias[at], (double)have.y[at], want);
            }
            /* The CPU's σ takes no such numbers: its exponential has bounds. max(NaN, 0) and −∞ · 0 may be
             * either. */
            bool bounded = backend->operand == GP_DTYPE_F32 && activation >= GP_ACTIVATION_QUICK_GELU;
            if (bounded) continue;
            double above = have.y[COUNT - 2], below = have.y[COUNT - 1];
            CHECK(activation == GP_ACTIVATION_RELU || isnan(have.y[COUNT - 3]),
                  "%s: activation %d of NaN: %g", backend->name, activation, (double)have.y[COUNT - 3]);
            CHECK(above == (activation == GP_ACTIVATION_SIGMOID ? 1 : (double)INFINITY),
                  "%s: activation %d of infinity: %g", backend->name, activation, above);
            CHECK(activation == GP_ACTIVATION_NONE ? below == -(double)INFINITY
                                                   : isnan(below) || fabs(below) <= 8 * UNIT,
                  "%s: activation %d of -infinity: %g", backend->name, activation, below);
        }
    }
    release_memory();
}

static void test_all(uint64_t *seed, gp_backend **backends, int count) {
    static const int64_t shapes[][3] = {{1, 1, 1},     {1, 703, 512}, {13, 16, 256}, {12, 32, 257},
                                        {25, 33, 72},  {97, 129, 48}, {401, 40, 31}, {7, 300, 1030},
                                        {2, 128, 512}, {64, 17, 5},   {300, 260, 64}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        test_linear(seed, backends, count, shapes[i][0], shapes[i][1], shapes[i][2], DRAWN);
    static const int64_t widths[] = {144,  432,  770,  1022, 1024,
                                     1152, 1280, 1548, 1728, 2052}; /* tiles differ by width */
    for (size_t i = 0; i < 2 * sizeof widths / sizeof *widths; i++)
        test_linear(seed, backends, count, random_between(seed, 1, 140), widths[i / 2],
                    random_between(seed, 1, 100), i % 2 == 0 ? PLAIN : DRAWN);
    test_linear(seed, backends, count, random_between(seed, 1, 140), 1024, random_between(seed, 1024, 1100),
                PLAIN);
    for (int i = 0; i < 20; i++)
        test_linear(seed, backends, count, random_between(seed, 1, 130), random_between(seed, 1, 200),
                    random_between(seed, 1, 75) * (i % 2 == 0 ? 8 : 1), i % 4 == 0 ? PLAIN : DRAWN);
    test_activations(seed, backends, count);
    for (int i = 0; i < 2; i++)
        test_swiglu(seed, backends, count, random_between(seed, 1, 60), 1032, 40, DRAWN);
    for (int i = 0; i < 6; i++)
        test_swiglu(seed, backends, count, random_between(seed, 1, 60), random_between(seed, 1, 150),
                    random_between(seed, 1, 300), DRAWN);
    /* Decoding steps: more rows, and sums along k of several lengths in a row. */
    static const int64_t steps[][3] = {{9, 140, 1100},  {16, 128, 64},   {17, 65, 513},
                                       {33, 150, 1030}, {64, 256, 1536}, {65, 127, 250}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        test_linear(seed, backends, count, steps[i][0], steps[i][1], steps[i][2], STEP);
        test_swiglu(seed, backends, count, steps[i][0], steps[i][1], steps[i][2], STEP);
    }
    test_swiglu(seed, backends, count, 33, 32800, 8, STEP); /* more columns than CUDA takes at a time */
}

int main(void) {
    return run_on_backends(test_all);
}
