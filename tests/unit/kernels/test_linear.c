/**
 * linear and linear_swiglu against float64, on every instruction set and with several threads.
 *
 * Tolerance, element by element: a sum of K products in blocks of 256 has at most 256 + K/256 roundings on
 * any path, each of relative size u = 2^-24, so |error| <= (min(K, 256) + K/256 + 2)·u·Σ|x·w|. Activations
 * have slopes of at most 1.13 and are themselves within 4 units in the last place; the bounds are added up
 * below.
 */
#include "tests/unit/kernels/backends.h"

#define UNIT 0x1p-24

static double bound_of(int64_t depth, double magnitude) {
    return ((double)(depth < 256 ? depth : 256) + (double)depth / 256 + 2) * UNIT * magnitude;
}

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

/** Σ and Σ|·| of x [row] by w [column] in f64. */
static double dot(const float *x, const double *w, int64_t depth, double *magnitude) {
    double sum = 0;
    for (int64_t k = 0; k < depth; k++) {
        sum += (double)x[k] * w[k];
        *magnitude += fabs((double)x[k] * w[k]);
    }
    return sum;
}

typedef struct lora_case {
    gp_partial_lora lora;
    double *a, *b;
    int64_t rank;
} lora_case;

static lora_case make_lora(uint64_t *seed, gp_dtype dtype, int64_t rows, int64_t depth, int64_t columns,
                           const uint8_t *image_row) {
    lora_case made = {.rank = random_between(seed, 1, 300)};
    made.lora = (gp_partial_lora){.a = random_matrix(seed, dtype, made.rank, depth, &made.a),
                                  .b = random_matrix(seed, dtype, columns, made.rank, &made.b),
                                  .image_row = image_row,
                                  .scratch = poisoned_floats(rows * made.rank)};
    return made;
}

static void free_lora(lora_case *made) {
    gp_free((void *)made->lora.a.data);
    gp_free((void *)made->lora.b.data);
    gp_free(made->lora.scratch);
    gp_free(made->a);
    gp_free(made->b);
}

/** The LoRA's addition to one element in f64, and the bound of its error. */
static double lora_value(const lora_case *made, const float *x, int64_t depth, int64_t column,
                         double *bound) {
    double sum = 0;
    for (int64_t r = 0; r < made->rank; r++) {
        double magnitude = 0, s = dot(x, made->a + r * depth, depth, &magnitude);
        double b = made->b[column * made->rank + r];
        sum += s * b;
        *bound += bound_of(depth, magnitude) * fabs(b) + bound_of(made->rank, fabs(s * b));
    }
    return sum;
}

static uint8_t *random_rows(uint64_t *seed, int64_t rows) {
    uint8_t *image_row = gp_allocate((size_t)rows);
    REQUIRE(image_row != NULL, "no memory");
    int kind = random_between(seed, 0, 3); /* none, all, one run, any */
    int64_t first = random_between(seed, 0, (int)rows - 1), end = random_between(seed, (int)first, (int)rows);
    for (int64_t i = 0; i < rows; i++)
        image_row[i] = kind == 0   ? 0
                       : kind == 1 ? 1
                       : kind == 2 ? i >= first && i < end
                                   : random_bits(seed) >> 63;
    return image_row;
}

static void test_linear(uint64_t *seed, gp_backend **backends, int backend_count, int64_t rows,
                        int64_t columns, int64_t depth) {
    gp_dtype dtype = (gp_dtype)random_between(seed, 0, 2);
    int64_t x_stride = depth + random_between(seed, 0, 3), y_stride = columns + random_between(seed, 0, 3);
    float *x = random_floats(seed, rows * x_stride, 2), *bias = random_floats(seed, columns, 1);
    float *residual = random_floats(seed, rows * columns, 1);
    double *w;
    gp_matrix weight = random_matrix(seed, dtype, columns, depth, &w);
    uint8_t *image_row = random_rows(seed, rows);
    lora_case lora = make_lora(seed, dtype, rows, depth, columns, image_row);
    bool with_bias = random_between(seed, 0, 1), with_lora = random_between(seed, 0, 1);
    bool with_residual = random_between(seed, 0, 1);
    gp_linear linear = {.x = x,
                        .rows = rows,
                        .x_stride = x_stride,
                        .weight = weight,
                        .bias = with_bias ? bias : NULL,
                        .lora = with_lora ? &lora.lora : NULL,
                        .activation = (gp_activation)random_between(seed, 0, 4),
                        .residual = with_residual ? residual : NULL,
                        .y_stride = y_stride};
    float *first = NULL;
    for (int i = 0; i < backend_count; i++) {
        linear.y = poisoned_floats(rows * y_stride);
        backends[i]->ops->linear(backends[i], &linear);
        if (first == NULL) first = linear.y;
        for (int64_t row = 0; row < rows; row++) {
            CHECK(memcmp(first + row * y_stride, linear.y + row * y_stride, (size_t)columns * 4) == 0,
                  "%s differs from %s in row %lld of %lld x %lld x %lld", backends[i]->name,
                  backends[0]->name, (long long)row, (long long)rows, (long long)columns, (long long)depth);
            for (int64_t pad = columns; pad < y_stride; pad++)
                CHECK(isnan(linear.y[row * y_stride + pad]), "written beyond row %lld", (long long)row);
        }
        if (linear.y != first) gp_free(linear.y);
    }
    for (int64_t row = 0; row < rows; row++) {
        for (int64_t column = row % 7; column < columns; column += 1 + columns / 40) {
            double magnitude = 0, want = dot(x + row * x_stride, w + column * depth, depth, &magnitude);
            double bound = bound_of(depth, magnitude);
            if (with_bias) want += bias[column];
            if (with_lora && image_row[row])
                want += lora_value(&lora, x + row * x_stride, depth, column, &bound);
            bound += 2 * UNIT * fabs(want);
            want = activate(linear.activation, want);
            bound = 1.13 * bound + 8 * UNIT * (fabs(want) + 1);
            if (with_residual) want += residual[row * columns + column];
            bound += UNIT * fabs(want);
            CHECK(fabs(first[row * y_stride + column] - want) <= bound,
                  "[%lld, %lld] of %lld x %lld x %lld %s activation %d: %.9g, not %.9g +- %.2g",
                  (long long)row, (long long)column, (long long)rows, (long long)columns, (long long)depth,
                  gp_dtype_name(dtype), linear.activation, first[row * y_stride + column], want, bound);
        }
    }
    /* A row alone has the bits that it had among the others. */
    int64_t alone = random_between(seed, 0, (int)rows - 1);
    gp_partial_lora own = lora.lora;
    own.image_row += alone;
    gp_linear one = linear;
    one.x += alone * x_stride;
    one.rows = 1;
    if (one.residual != NULL) one.residual += alone * columns;
    if (one.lora != NULL) one.lora = &own;
    one.y = poisoned_floats(y_stride);
    backends[0]->ops->linear(backends[0], &one);
    CHECK(memcmp(one.y, first + alone * y_stride, (size_t)columns * 4) == 0,
          "row %lld of %lld differs when alone", (long long)alone, (long long)rows);
    gp_free(one.y);
    gp_free(first);
    free_lora(&lora);
    gp_free(image_row);
    gp_free(x);
    gp_free(bias);
    gp_free(residual);
    gp_free(w);
    gp_free((void *)weight.data);
}

static void test_swiglu(uint64_t *seed, gp_backend **backends, int backend_count, int64_t rows,
                        int64_t columns, int64_t depth) {
    float *x = random_floats(seed, rows * depth, 1);
    double *w1, *w3;
    gp_linear_swiglu linear = {.x = x, .rows = rows};
    linear.w1 = random_matrix(seed, GP_DTYPE_BF16, columns, depth, &w1);
    linear.w3 = random_matrix(seed, GP_DTYPE_BF16, columns, depth, &w3);
    uint8_t *image_row = random_rows(seed, rows);
    lora_case lora1 = make_lora(seed, GP_DTYPE_BF16, rows, depth, columns, image_row);
    lora_case lora3 = make_lora(seed, GP_DTYPE_BF16, rows, depth, columns, image_row);
    linear.lora1 = &lora1.lora;
    linear.lora3 = &lora3.lora;
    for (int i = 0; i < backend_count; i++) {
        linear.y = poisoned_floats(rows * columns);
        backends[i]->ops->linear_swiglu(backends[i], &linear);
        for (int64_t row = 0; row < rows; row++) {
            for (int64_t column = row % 5; column < columns; column += 1 + columns / 20) {
                double m1 = 0, m3 = 0, a = dot(x + row * depth, w1 + column * depth, depth, &m1);
                double b = dot(x + row * depth, w3 + column * depth, depth, &m3);
                double bound1 = bound_of(depth, m1), bound3 = bound_of(depth, m3);
                if (image_row[row]) {
                    a += lora_value(&lora1, x + row * depth, depth, column, &bound1);
                    b += lora_value(&lora3, x + row * depth, depth, column, &bound3);
                }
                double silu = a / (1 + exp(-a)), want = silu * b;
                double bound =
                    1.1 * bound1 * (fabs(b) + bound3) + fabs(silu) * bound3 + 12 * UNIT * (fabs(want) + 1);
                CHECK(fabs(linear.y[row * columns + column] - want) <= bound,
                      "swiglu %s [%lld, %lld]: %.9g, not %.9g", backends[i]->name, (long long)row,
                      (long long)column, linear.y[row * columns + column], want);
            }
        }
        gp_free(linear.y);
    }
    free_lora(&lora1);
    free_lora(&lora3);
    gp_free(image_row);
    gp_free(x);
    gp_free(w1);
    gp_free(w3);
    gp_free((void *)linear.w1.data);
    gp_free((void *)linear.w3.data);
}

int main(void) {
    uint64_t seed = fresh_seed();
    gp_backend *backends[BACKENDS_MAX];
    int count = open_backends(backends);
    static const int64_t shapes[][3] = {{1, 1, 1},     {1, 703, 512}, {13, 16, 256}, {12, 32, 257},
                                        {25, 33, 72},  {97, 129, 48}, {401, 40, 31}, {7, 300, 1030},
                                        {2, 128, 512}, {64, 17, 5}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        test_linear(&seed, backends, count, shapes[i][0], shapes[i][1], shapes[i][2]);
    for (int i = 0; i < 20; i++)
        test_linear(&seed, backends, count, random_between(&seed, 1, 130), random_between(&seed, 1, 200),
                    random_between(&seed, 1, 600));
    for (int i = 0; i < 6; i++)
        test_swiglu(&seed, backends, count, random_between(&seed, 1, 60), random_between(&seed, 1, 150),
                    random_between(&seed, 1, 300));
    close_backends(backends, count);
    return check_done();
}
