/**
 * norm, embed, add_rows, to_operand, patches, merge_tokens, max_pool, add_upsampled and mask_upsample against
 * float64 or against an index-by-index evaluation, on every kind of backend.
 *
 * Tolerances: operations that only move, compare or add two numbers must be equal (and rounded to nearest
 * where the output is an operand). A norm of n columns sums in n/16 + 4 roundings, twice, and multiplies a
 * few times: with |x| <= 1 and a variance of at least v, an element is off by less than (n/16 + 12)·u·(1 +
 * |y|)/√v, u = 2^-24; the rows below have v >= 0.05. Its operand is its f32 result rounded.
 */
#include "tests/unit/kernels/backends.h"

static double gelu(double x) {
    return x / 2 * (1 + erf(x / sqrt(2)));
}

static void norm_row(const float *x, int64_t columns, const float *weight, const float *bias, double epsilon,
                     bool rms, double *y) {
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < columns && !rms; i++) mean += x[i] / (double)columns;
    for (int64_t i = 0; i < columns; i++) variance += (x[i] - mean) * (x[i] - mean) / (double)columns;
    for (int64_t i = 0; i < columns; i++)
        y[i] = (x[i] - mean) / sqrt(variance + epsilon) * weight[i] + (bias != NULL ? bias[i] : 0);
}

/** Whether the operands are the f32 values rounded to nearest. */
static void check_rounded(const gp_backend *backend, const float *operands, const float *values,
                          int64_t count, const char *what) {
    for (int64_t i = 0; i < count; i++)
        CHECK(operands[i] == round_to(backend->operand, values[i]), "%s on %s, %lld: %g of %g", what,
              backend->name, (long long)i, (double)operands[i], (double)values[i]);
}

static void test_norm(uint64_t *seed, gp_backend *backend, int64_t rows, int64_t columns) {
    columns = width_for(backend, columns);
    int64_t count = rows * columns;
    float *x = random_floats(seed, count, 1), *weight = random_floats(seed, columns, 1);
    float *bias = random_floats(seed, columns, 1);
    double *want = host_memory((size_t)columns * sizeof *want);
    for (int64_t row = 0; row < rows; row++) { /* keeps the variance away from 0 */
        x[row * columns] = 1;
        if (columns > 1) x[row * columns + 1] = -1;
    }
    for (int kind = 0; kind < 3; kind++) {
        gp_norm norm = {.x = floats_on(backend, x, count),
                        .rows = rows,
                        .columns = columns,
                        .weight = floats_on(backend, weight, columns),
                        .bias = kind == 1 ? NULL : floats_on(backend, bias, columns),
                        .epsilon = 1e-5f,
                        .rms = kind == 1,
                        .activation = kind == 2 ? GP_ACTIVATION_GELU : GP_ACTIVATION_NONE,
                        .y = floats_on(backend, NULL, count),
                        .y_operand = operands_on(backend, NULL, count)};
        backend->ops->norm(backend, &norm);
        const float *y = floats_from(backend, norm.y, count),
                    *both = operands_from(backend, norm.y_operand, count);
        for (int64_t row = 0; row < rows; row++) {
            norm_row(x + row * columns, columns, weight, norm.rms ? NULL : bias, 1e-5f, norm.rms, want);
            for (int64_t i = 0; i < columns; i++) {
                double expected = kind == 2 ? gelu(want[i]) : want[i];
                double bound = ((double)columns / 16 + 12) * UNIT * (1 + fabs(want[i])) / sqrt(0.05);
                CHECK(fabs(y[row * columns + i] - expected) <= bound,
                      "%s norm kind %d [%lld, %lld of %lld]: %.9g, not %.9g", backend->name, kind,
                      (long long)row, (long long)i, (long long)columns, y[row * columns + i], expected);
            }
        }
        check_rounded(backend, both, y, count, "a norm's operands");
        norm.y = NULL; /* operands alone, then in place */
        norm.y_operand = operands_on(backend, NULL, count);
        backend->ops->norm(backend, &norm);
        const float *alone = operands_from(backend, norm.y_operand, count);
        CHECK(memcmp(alone, both, (size_t)count * sizeof *alone) == 0, "a norm's operands alone differ");
        norm.rows = 1; /* the last row without company */
        norm.x += (rows - 1) * columns;
        norm.y = floats_on(backend, NULL, columns);
        norm.y_operand = NULL;
        backend->ops->norm(backend, &norm);
        CHECK(memcmp(floats_from(backend, norm.y, columns), y + (rows - 1) * columns,
                     (size_t)columns * sizeof *y) == 0,
              "%s: a norm's row of %lld alone differs from itself among %lld", backend->name,
              (long long)columns, (long long)rows);
        if (kind == 0) { /* the same sums, whatever follows them */
            norm.activation = GP_ACTIVATION_RELU;
            backend->ops->norm(backend, &norm);
            const float *positive = floats_from(backend, norm.y, columns);
            for (int64_t i = 0; i < columns; i++)
                CHECK(positive[i] == fmaxf(y[(rows - 1) * columns + i], 0),
                      "%s: a norm of %lld has other sums before an activation", backend->name,
                      (long long)columns);
            norm.activation = GP_ACTIVATION_NONE;
        }
        norm.rows = rows;
        norm.x -= (rows - 1) * columns;
        norm.y = (float *)norm.x;
        backend->ops->norm(backend, &norm);
        CHECK(memcmp(floats_from(backend, norm.y, count), y, (size_t)count * sizeof *y) == 0,
              "a norm in place differs");
    }
    release_memory();
}

/** Every element by its index, whatever the backend; uniform in ±scale. */
static void test_random(uint64_t *seed, gp_backend *backend, int64_t rows, int64_t columns) {
    uint64_t own = random_bits(seed);
    float scale = 0.01f + fabsf(random_float(seed));
    gp_matrix matrix = {.rows = rows, .columns = columns};
    REQUIRE(backend->ops->place_random(backend, &matrix, scale, own), "no room on %s", backend->name);
    CHECK(matrix.dtype == GP_DTYPE_BF16 && matrix.rows == rows && matrix.columns == columns &&
              (size_t)(rows * matrix.stride) * 2 == backend->ops->placed_bytes(&matrix),
          "random weights at a stride of %lld", (long long)matrix.stride);
    const uint16_t *have = from_backend(backend, matrix.data, (size_t)(rows * matrix.stride) * sizeof *have);
    double sum = 0, squares = 0;
    for (int64_t row = 0; row < rows; row++)
        for (int64_t i = 0; i < matrix.stride; i++) {
            uint64_t x = own * 0xD1342543DE82EF95u + (uint64_t)(row * columns + i + 1) * 0x9E3779B97F4A7C15u;
            x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
            x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
            x ^= x >> 31;
            float unit = (float)(((double)(x >> 40) + 0.5) * 0x1p-23 - 1); /* exact */
            uint16_t bits = i < columns ? gp_f32_to_bf16(unit * scale) : 0;
            CHECK(have[row * matrix.stride + i] == bits, "random [%lld, %lld]: %g, not %g", (long long)row,
                  (long long)i, (double)gp_bf16_to_f32(have[row * matrix.stride + i]),
                  (double)gp_bf16_to_f32(bits));
            sum += (double)gp_bf16_to_f32(bits) / (double)scale;
            squares += pow((double)gp_bf16_to_f32(bits) / (double)scale, 2);
        }
    double count =
        (double)(rows * columns); /* the mean's deviation is √(1/3/n), that of the squares' √(4/45/n) */
    CHECK(fabs(sum / count) < 6 * sqrt(1 / count / 3) &&
              fabs(squares / count - 1.0 / 3) < 6 * sqrt(4 / count / 45) + 0x1p-8,
          "of %g random numbers the mean is %g, that of squares %g", count, sum / count, squares / count);
    backend->ops->release(backend, (void *)(uintptr_t)matrix.data);
    release_memory();
}

static void test_embed(uint64_t *seed, gp_backend *backend, gp_dtype dtype) {
    enum { VOCABULARY = 37, WIDTH = 19, ROWS = 5 };
    gp_matrix host = random_matrix(seed, dtype, VOCABULARY, WIDTH), table = place_matrix(backend, host);
    const double *exact = matrix_values(host, table.dtype);
    const int32_t ids[ROWS] = {0, 36, 5, 5, 12};
    float *y = floats_on(backend, NULL, ROWS * WIDTH);
    backend->ops->embed(backend, &(gp_embed){table, on_backend(backend, ids, sizeof ids), ROWS, y});
    const float *have = floats_from(backend, y, ROWS * WIDTH);
    for (int row = 0; row < ROWS; row++)
        for (int i = 0; i < WIDTH; i++)
            CHECK((double)have[row * WIDTH + i] == exact[ids[row] * WIDTH + i], "embed %d %d", row, i);
    release_memory();
}

/** y = x + addend, rows 0 and 1 again and again, into `give` of f32 (1) and operands (2); then x as operands.
 */
static void test_sums(uint64_t *seed, gp_backend *backend, int64_t rows, int64_t columns) {
    columns = width_for(backend, columns);
    int64_t count = rows * columns;
    const float *x = random_floats(seed, count, 1), *addend = random_floats(seed, 2 * columns, 1);
    float *want = host_memory((size_t)count * sizeof *want);
    for (int64_t i = 0; i < count; i++) want[i] = x[i] + addend[i / columns % 2 * columns + i % columns];
    for (int give = 1; give < 4; give++) {
        gp_add_rows add = {.x = floats_on(backend, x, count),
                           .addend = floats_on(backend, addend, 2 * columns),
                           .rows = rows,
                           .columns = columns,
                           .period = 2,
                           .y = give & 1 ? floats_on(backend, NULL, count) : NULL,
                           .y_operand = give & 2 ? operands_on(backend, NULL, count) : NULL};
        backend->ops->add_rows(backend, &add);
        if (give & 1)
            CHECK(memcmp(floats_from(backend, add.y, count), want, (size_t)count * sizeof *want) == 0,
                  "add_rows on %s", backend->name);
        if (give & 2)
            check_rounded(backend, operands_from(backend, add.y_operand, count), want, count, "add_rows");
    }
    gp_operand *y = operands_on(backend, NULL, count);
    backend->ops->to_operand(backend, &(gp_to_operand){floats_on(backend, x, count), count, y});
    check_rounded(backend, operands_from(backend, y, count), x, count, "to_operand");
    release_memory();
}

static void test_patches(uint64_t *seed, gp_backend *backend, int channels, int height, int width, int patch,
                         int stride, int padding) {
    int rows = (height + 2 * padding - patch) / stride + 1,
        columns = (width + 2 * padding - patch) / stride + 1;
    int64_t values = (int64_t)channels * patch * patch, y_stride = stride_for(seed, backend, values);
    const float *x = random_operands(seed, backend, (int64_t)channels * height * width, 1);
    gp_operand *y = operands_on(backend, NULL, rows * columns * y_stride);
    backend->ops->patches(backend,
                          &(gp_patches){floats_on(backend, x, (int64_t)channels * height * width), channels,
                                        height, width, patch, stride, padding, y, y_stride});
    const float *have = operands_from(backend, y, rows * columns * y_stride);
    for (int64_t at = 0; at < rows * columns * y_stride; at++) {
        int row = (int)(at / y_stride / columns), column = (int)(at / y_stride % columns);
        int i = (int)(at % y_stride), c = i / (patch * patch), dy = i / patch % patch, dx = i % patch;
        int sy = row * stride + dy - padding, sx = column * stride + dx - padding;
        bool inside = i < values && sy >= 0 && sy < height && sx >= 0 && sx < width;
        float want = inside ? x[(c * height + sy) * width + sx] : 0;
        CHECK(have[at] == want, "patch %d %d, value %d: %g, not %g", row, column, i, (double)have[at],
              (double)want);
    }
    release_memory();
}

/** By the definition: the token list is built in order. */
static void test_merge(uint64_t *seed, gp_backend *backend, int grid, int channels, int rows, int columns) {
    channels = (int)width_for(backend, channels);
    int side = grid / 2, width = 4 * channels, crop = 1 + grid * grid;
    int64_t tokens = (int64_t)(rows * columns + 1) * side * side + 1 + (rows + 1) * side;
    int64_t feature_count = (int64_t)(1 + rows * columns) * crop * channels;
    const float *features = random_operands(seed, backend, feature_count, 1);
    const float *row_end = random_operands(seed, backend, width, 1),
                *global_end = random_operands(seed, backend, width, 1);
    gp_operand *target = operands_on(backend, NULL, tokens * width);
    backend->ops->merge_tokens(backend,
                               &(gp_merge_tokens){floats_on(backend, features, feature_count), grid, channels,
                                                  rows, columns, floats_on(backend, row_end, width),
                                                  floats_on(backend, global_end, width), target});
    const float *y = operands_from(backend, target, tokens * width);
    int64_t token = 0;
    for (int map = 0; map < 2; map++) {
        int across = map == 0 ? 1 : columns, down = map == 0 ? 1 : rows;
        for (int my = 0; my < down * side; my++) {
            for (int mx = 0; mx < across * side; mx++, token++) {
                int view = map == 0 ? 0 : 1 + my / side * columns + mx / side;
                for (int part = 0; part < 4; part++) {
                    int py = 2 * (my % side) + part / 2, px = 2 * (mx % side) + part % 2;
                    const float *want = features + ((int64_t)view * crop + 1 + py * grid + px) * channels;
                    CHECK(memcmp(y + token * width + part * channels, want, (size_t)channels * 4) == 0,
                          "merged token %lld part %d", (long long)token, part);
                }
            }
            CHECK(memcmp(y + token++ * width, row_end, (size_t)width * 4) == 0, "row end of map %d row %d",
                  map, my);
        }
        if (map == 0) CHECK(memcmp(y + token++ * width, global_end, (size_t)width * 4) == 0, "global end");
    }
    CHECK(token == tokens, "%lld tokens, not %lld", (long long)token, (long long)tokens);
    release_memory();
}

static void test_maps(uint64_t *seed, gp_backend *backend, int height, int width, int channels) {
    int64_t count = (int64_t)height * width * channels,
            pooled_count = (int64_t)(height / 2) * (width / 2) * channels;
    const float *x = random_floats(seed, count, 1), *before = random_floats(seed, 4 * count, 1);
    const float *map = floats_on(backend, x, count);
    float *target = floats_on(backend, NULL, pooled_count), *sums = floats_on(backend, before, 4 * count);
    backend->ops->max_pool(backend, &(gp_max_pool){map, height, width, channels, target});
    const float *pooled = floats_from(backend, target, pooled_count);
    for (int row = 0; row < height / 2; row++)
        for (int column = 0; column < width / 2; column++)
            for (int c = 0; c < channels; c++) {
                float want = -INFINITY;
                for (int part = 0; part < 4; part++)
                    want =
                        fmaxf(want, x[((2 * row + part / 2) * width + 2 * column + part % 2) * channels + c]);
                CHECK(pooled[(row * (width / 2) + column) * channels + c] == want, "pool %d %d %d", row,
                      column, c);
            }
    backend->ops->add_upsampled(backend, &(gp_add_upsampled){map, height, width, channels, sums});
    const float *up = floats_from(backend, sums, 4 * count);
    for (int row = 0; row < 2 * height; row++)
        for (int column = 0; column < 2 * width; column++)
            for (int c = 0; c < channels; c++) {
                int64_t i = (int64_t)(row * 2 * width + column) * channels + c;
                CHECK(up[i] == before[i] + x[(row / 2 * width + column / 2) * channels + c], "upsample %d %d",
                      row, column);
            }
    release_memory();
}

/**
 * By the definition of a 2×2 deconvolution, pixel by pixel in f64. In f32: two linear layers of at most 64
 * and 16 terms (of n times as many, a bound n² times as large), a norm and two GELUs: the sums' bound
 * 70·u·Σ|x·w| with Σ <= 64·0.5, amplified by the norm's 1/√v <= 4.5, stays below 1e-3 for a pixel's channel,
 * and a logit is off by Σ|hyper| times that; the errors seen are some 100 times smaller, so the check also
 * holds the mean error below 1e-5 a channel. Where operands are bf16, the normed map is rounded before the
 * second linear and the pixels and the hypernetwork's rows before their product: a channel is off
 * by 1.13·unit·Σ|w·normed|, then by the roundings of the two factors.
 */
static void test_upsample(uint64_t *seed, gp_backend *backend, int masks, int grid, int channels) {
    int c1 = channels / 4, c0 = channels / 8, cells = grid * grid;
    int64_t x_count = (int64_t)masks * cells * channels, area = 16ll * cells;
    double unit = operand_unit(backend), total = 0, times = channels > 64 ? channels / 64.0 : 1;
    const float *x = random_operands(seed, backend, x_count, 1);
    gp_matrix host1 = random_matrix(seed, GP_DTYPE_BF16, 4 * c1, channels),
              host2 = random_matrix(seed, GP_DTYPE_F32, 4 * c0, c1);
    const float *bias1 = random_floats(seed, c1, 1), *bias2 = random_floats(seed, c0, 1);
    const float *skip1 = random_floats(seed, 4ll * cells * c1, 1),
                *skip0 = random_floats(seed, 16ll * cells * c0, 1);
    const float *norm_weight = random_floats(seed, c1, 1), *norm_bias = random_floats(seed, c1, 1);
    const float *hyper = random_floats(seed, 4ll * masks * c0, 1);
    gp_mask_upsample up = {
        .x = operands_on(backend, x, x_count),
        .masks = masks,
        .grid = grid,
        .channels = channels,
        .weight1 = place_matrix(backend, host1),
        .weight2 = place_matrix(backend, host2),
        .bias1 = floats_on(backend, bias1, c1),
        .bias2 = floats_on(backend, bias2, c0),
        .skip1 = floats_on(backend, skip1, 4ll * cells * c1),
        .skip0 = floats_on(backend, skip0, 16ll * cells * c0),
        .norm_weight = floats_on(backend, norm_weight, c1),
        .norm_bias = floats_on(backend, norm_bias, c1),
        .epsilon = 1e-6f,
        .hyper = floats_on(backend, hyper, 4ll * masks * c0),
        .scratch = on_backend(backend, NULL, backend->ops->mask_upsample_scratch(masks, grid, channels)),
        .logits = floats_on(backend, NULL, 4 * masks * area)};
    const double *w1 = matrix_values(host1, up.weight1.dtype), *w2 = matrix_values(host2, up.weight2.dtype);
    backend->ops->mask_upsample(backend, &up);
    const float *logits = floats_from(backend, up.logits, 4 * masks * area);
    gp_mask_upsample alone = up; /* the last mask by itself: the same bits */
    alone.masks = 1;
    alone.x = gp_operand_at(backend, up.x, (masks - 1ll) * cells * channels);
    alone.hyper += 4ll * (masks - 1) * c0;
    alone.logits = floats_on(backend, NULL, 4 * area);
    backend->ops->mask_upsample(backend, &alone);
    CHECK(memcmp(floats_from(backend, alone.logits, 4 * area), logits + 4 * (masks - 1) * area,
                 (size_t)(4 * area) * sizeof *logits) == 0,
          "%s: a mask of %d has other bits alone", backend->name, masks);
    for (int mask = 0; mask < masks; mask++)
        for (int y = 0; y < 4 * grid; y++)
            for (int px = 0; px < 4 * grid; px++) {
                int hy = y / 2, hx = px / 2;
                float half[64];
                double normed[64], pixel[64], off[64];
                for (int c = 0; c < c1; c++) {
                    double sum = bias1[c] + skip1[(hy * 2 * grid + hx) * c1 + c];
                    const double *w = w1 + ((2 * (hy % 2) + hx % 2) * c1 + c) * channels;
                    for (int k = 0; k < channels; k++)
                        sum += w[k] * x[((mask * grid + hy / 2) * grid + hx / 2) * channels + k];
                    half[c] = (float)sum;
                }
                norm_row(half, c1, norm_weight, norm_bias, 1e-6, false, normed);
                for (int c = 0; c < c0; c++) {
                    double sum = bias2[c] + skip0[(y * 4 * grid + px) * c0 + c], magnitude = 0;
                    for (int k = 0; k < c1; k++) {
                        double part = w2[((2 * (y % 2) + px % 2) * c0 + c) * c1 + k] * gelu(normed[k]);
                        sum += part;
                        magnitude += fabs(part);
                    }
                    pixel[c] = gelu(sum);
                    off[c] = 1e-3 * times * times + 1.13 * unit * magnitude;
                    off[c] += unit * (fabs(pixel[c]) + off[c]);
                }
                for (int k = 0; k < 4; k++) {
                    double want = 0, bound = 0, size = 0;
                    for (int c = 0; c < c0; c++) {
                        double factor = hyper[(mask * 4 + k) * c0 + c];
                        want += factor * pixel[c];
                        size += fabs(factor);
                        bound += fabs(factor) * (off[c] + unit * (fabs(pixel[c]) + off[c]));
                    }
                    double have = logits[(mask * 4 + k) * area + y * 4 * grid + px],
                           error = fabs(have - want);
                    CHECK(error <= bound, "logits %d of mask %d at %d, %d on %s: %g, not %g +- %.2g", k, mask,
                          y, px, backend->name, have, want, bound);
                    total += error / size;
                }
            }
    double mean = total / (4.0 * masks * (double)area);
    CHECK(mean < 1e-5 + 2 * unit, "mean error a channel %g on %s", mean, backend->name);
    release_memory();
}

static void test_all(uint64_t *seed, gp_backend **backends, int count) {
    for (int i = 0; i < count; i++) {
        gp_backend *backend = backends[i];
        for (int64_t columns = 2; columns < 40; columns += 5) test_norm(seed, backend, 3, columns);
        test_norm(seed, backend, 301, 72);
        /* The model's, which have kernels of their own. */
        static const int model_widths[] = {144, 256, 288, 576, 1024, 1152, 4096};
        for (size_t k = 0; k < sizeof model_widths / sizeof *model_widths; k++)
            test_norm(seed, backend, random_between(seed, 1, 41), model_widths[k]);
        test_norm(seed, backend, 2, 1536);
        test_norm(seed, backend, 3, 1540);
        test_norm(seed, backend, 2, 5000);
        test_random(seed, backend, random_between(seed, 1, 40), random_between(seed, 1, 300));
        test_random(seed, backend, 3, 64);
        for (gp_dtype dtype = GP_DTYPE_BF16; dtype <= GP_DTYPE_F32; dtype++) test_embed(seed, backend, dtype);
        test_sums(seed, backend, 5, 19);
        test_sums(seed, backend, 31, 136);
        test_patches(seed, backend, 3, 28, 42, 14, 14, 0);
        test_patches(seed, backend, 3, 32, 28, 7, 4, 3);
        test_merge(seed, backend, 4, 5, 2, 3);
        test_merge(seed, backend, 2, 1, 1, 1);
        test_merge(seed, backend, 8, 16, 3, 1);
        test_maps(seed, backend, 6, 9, 20);
        test_maps(seed, backend, 2, 2, 1);
        test_upsample(seed, backend, 2, 3, 64);
        test_upsample(seed, backend, 1, 5, 16);
        test_upsample(seed, backend, 3, 7, 256); /* SAM 2's width, which has a kernel of its own */
        test_upsample(seed, backend, 1, 3, 128);
        test_upsample(seed, backend, 3, 5, 40);  /* rows of odd widths */
        test_upsample(seed, backend, 2, 26, 64); /* several tasks a linear: threads meet */
    }
}

int main(void) {
    return run_on_backends(test_all);
}
