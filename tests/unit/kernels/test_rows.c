/**
 * norm, embed, add_rows, patches, merge_tokens, max_pool, add_upsampled and mask_upsample against float64 or
 * against an index-by-index evaluation, on every instruction set and with several threads.
 *
 * Tolerances: operations that only move or compare numbers must be equal. A norm of n columns sums in n/16 +
 * 4 roundings, twice, and multiplies a few times: with |x| <= 1 and a variance of at least v, an element is
 * off by less than (n/16 + 12)·u·(1 + |y|)/√v, u = 2^-24; the rows below have v >= 0.05.
 */
#include "tests/unit/kernels/backends.h"

#define UNIT 0x1p-24

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

static void test_norm(uint64_t *seed, gp_backend *backend, int64_t rows, int64_t columns) {
    float *x = random_floats(seed, rows * columns, 1), *weight = random_floats(seed, columns, 1);
    float *bias = random_floats(seed, columns, 1), *y = poisoned_floats(rows * columns);
    double *want = gp_allocate((size_t)columns * sizeof *want);
    for (int kind = 0; kind < 3; kind++) {
        gp_norm norm = {x,
                        rows,
                        columns,
                        weight,
                        kind == 1 ? NULL : bias,
                        1e-5f,
                        kind == 1,
                        kind == 2 ? GP_ACTIVATION_GELU : GP_ACTIVATION_NONE,
                        y};
        for (int64_t row = 0; row < rows; row++) { /* keeps the variance away from 0 */
            x[row * columns] = 1;
            if (columns > 1) x[row * columns + 1] = -1;
        }
        for (int64_t i = 0; i < rows * columns; i++) y[i] = NAN;
        backend->ops->norm(backend, &norm);
        for (int64_t row = 0; row < rows; row++) {
            norm_row(x + row * columns, columns, weight, norm.bias, 1e-5f, norm.rms, want);
            for (int64_t i = 0; i < columns; i++) {
                double expected = kind == 2 ? gelu(want[i]) : want[i];
                double bound = ((double)columns / 16 + 12) * UNIT * (1 + fabs(want[i])) / sqrt(0.05);
                CHECK(fabs(y[row * columns + i] - expected) <= bound,
                      "%s norm kind %d [%lld, %lld of %lld]: %.9g, not %.9g", backend->name, kind,
                      (long long)row, (long long)i, (long long)columns, y[row * columns + i], expected);
            }
        }
        memcpy(y, x, (size_t)(rows * columns) * sizeof *y); /* in place */
        norm.x = y;
        backend->ops->norm(backend, &norm);
        norm_row(x, columns, weight, norm.bias, 1e-5f, norm.rms, want);
        CHECK(fabs(y[columns - 1] - (kind == 2 ? gelu(want[columns - 1]) : want[columns - 1])) < 1e-3,
              "norm in place");
    }
    gp_free(x);
    gp_free(weight);
    gp_free(bias);
    gp_free(y);
    gp_free(want);
}

static void test_embed(uint64_t *seed, gp_backend *backend, gp_dtype dtype) {
    enum { VOCABULARY = 37, WIDTH = 19 };
    double *exact;
    gp_matrix table = random_matrix(seed, dtype, VOCABULARY, WIDTH, &exact);
    int32_t ids[] = {0, 36, 5, 5, 12};
    float y[5 * WIDTH], sum[5 * WIDTH];
    backend->ops->embed(backend, &(gp_embed){table, ids, 5, y});
    for (int row = 0; row < 5; row++)
        for (int i = 0; i < WIDTH; i++)
            CHECK(y[row * WIDTH + i] == exact[ids[row] * WIDTH + i], "embed %d %d", row, i);
    backend->ops->add_rows(backend,
                           &(gp_add_rows){y, y, 5, WIDTH, 2, sum}); /* rows 0 and 1 again and again */
    for (int row = 0; row < 5; row++)
        for (int i = 0; i < WIDTH; i++)
            CHECK(sum[row * WIDTH + i] == y[row * WIDTH + i] + y[row % 2 * WIDTH + i], "add_rows %d %d", row,
                  i);
    gp_free(exact);
    gp_free((void *)table.data);
}

static void test_patches(uint64_t *seed, gp_backend *backend, int channels, int height, int width, int patch,
                         int stride, int padding) {
    int rows = (height + 2 * padding - patch) / stride + 1,
        columns = (width + 2 * padding - patch) / stride + 1;
    int64_t values = (int64_t)channels * patch * patch;
    float *x = random_floats(seed, (int64_t)channels * height * width, 1),
          *y = poisoned_floats(rows * columns * values);
    backend->ops->patches(backend, &(gp_patches){x, channels, height, width, patch, stride, padding, y});
    for (int row = 0; row < rows; row++)
        for (int column = 0; column < columns; column++)
            for (int c = 0; c < channels; c++)
                for (int dy = 0; dy < patch; dy++)
                    for (int dx = 0; dx < patch; dx++) {
                        int sy = row * stride + dy - padding, sx = column * stride + dx - padding;
                        bool inside = sy >= 0 && sy < height && sx >= 0 && sx < width;
                        float want = inside ? x[(c * height + sy) * width + sx] : 0;
                        float have = y[(row * columns + column) * values + (c * patch + dy) * patch + dx];
                        CHECK(have == want, "patch %d %d channel %d %d %d: %g, not %g", row, column, c, dy,
                              dx, have, want);
                    }
    gp_free(x);
    gp_free(y);
}

/** By the definition: the token list is built in order. */
static void test_merge(uint64_t *seed, gp_backend *backend, int grid, int channels, int rows, int columns) {
    int side = grid / 2, width = 4 * channels, crop = 1 + grid * grid;
    int64_t tokens = (int64_t)(rows * columns + 1) * side * side + 1 + (rows + 1) * side;
    float *features = random_floats(seed, (int64_t)(1 + rows * columns) * crop * channels, 1);
    float *row_end = random_floats(seed, width, 1), *global_end = random_floats(seed, width, 1);
    float *y = poisoned_floats(tokens * width);
    backend->ops->merge_tokens(
        backend, &(gp_merge_tokens){features, grid, channels, rows, columns, row_end, global_end, y});
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
    gp_free(features);
    gp_free(row_end);
    gp_free(global_end);
    gp_free(y);
}

static void test_maps(uint64_t *seed, gp_backend *backend, int height, int width, int channels) {
    float *x = random_floats(seed, (int64_t)height * width * channels, 1);
    float *pooled = poisoned_floats((int64_t)(height / 2) * (width / 2) * channels);
    backend->ops->max_pool(backend, &(gp_max_pool){x, height, width, channels, pooled});
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
    float *up = random_floats(seed, 4ll * height * width * channels, 1);
    float *before = gp_allocate((size_t)(4 * height * width * channels) * sizeof *before);
    REQUIRE(before != NULL, "no memory");
    memcpy(before, up, (size_t)(4 * height * width * channels) * sizeof *before);
    backend->ops->add_upsampled(backend, &(gp_add_upsampled){x, height, width, channels, up});
    for (int row = 0; row < 2 * height; row++)
        for (int column = 0; column < 2 * width; column++)
            for (int c = 0; c < channels; c++) {
                int64_t i = (int64_t)(row * 2 * width + column) * channels + c;
                CHECK(up[i] == before[i] + x[(row / 2 * width + column / 2) * channels + c], "upsample %d %d",
                      row, column);
            }
    gp_free(x);
    gp_free(pooled);
    gp_free(up);
    gp_free(before);
}

/**
 * By the definition of a 2×2 deconvolution, pixel by pixel in f64. Two linear layers of at most 64 and 16
 * terms, a norm and two GELUs: the sums' bound 70·u·Σ|x·w| with Σ <= 64·0.5, amplified by the norm's 1/√v
 * <= 4.5, stays below 1e-3; the errors seen are some 100 times smaller, so the check also holds the mean
 * error below 1e-5.
 */
static void test_upsample(uint64_t *seed, gp_backend *backend, int masks, int grid, int channels) {
    int c1 = channels / 4, c0 = channels / 8, cells = grid * grid;
    double *w1, *w2, total = 0;
    gp_mask_upsample up = {.masks = masks, .grid = grid, .channels = channels, .epsilon = 1e-6f};
    float *x = random_floats(seed, (int64_t)masks * cells * channels, 1);
    up.x = x;
    up.weight1 = random_matrix(seed, GP_DTYPE_BF16, 4 * c1, channels, &w1);
    up.weight2 = random_matrix(seed, GP_DTYPE_F32, 4 * c0, c1, &w2);
    float *bias1 = random_floats(seed, c1, 1), *bias2 = random_floats(seed, c0, 1);
    float *skip1 = random_floats(seed, 4ll * cells * c1, 1),
          *skip0 = random_floats(seed, 16ll * cells * c0, 1);
    float *norm_weight = random_floats(seed, c1, 1), *norm_bias = random_floats(seed, c1, 1);
    up.bias1 = bias1, up.bias2 = bias2, up.skip1 = skip1, up.skip0 = skip0;
    up.norm_weight = norm_weight, up.norm_bias = norm_bias;
    up.scratch = poisoned_floats(3ll * masks * cells * channels);
    up.y = poisoned_floats(16ll * masks * cells * c0);
    backend->ops->mask_upsample(backend, &up);
    for (int mask = 0; mask < masks; mask++)
        for (int y = 0; y < 4 * grid; y++)
            for (int px = 0; px < 4 * grid; px++) {
                int hy = y / 2, hx = px / 2;
                float half[64];
                double normed[64];
                for (int c = 0; c < c1; c++) {
                    double sum = bias1[c] + skip1[(hy * 2 * grid + hx) * c1 + c];
                    const double *w = w1 + ((2 * (hy % 2) + hx % 2) * c1 + c) * channels;
                    for (int k = 0; k < channels; k++)
                        sum += w[k] * x[((mask * grid + hy / 2) * grid + hx / 2) * channels + k];
                    half[c] = (float)sum;
                }
                norm_row(half, c1, norm_weight, norm_bias, 1e-6, false, normed);
                for (int c = 0; c < c0; c++) {
                    double sum = bias2[c] + skip0[(y * 4 * grid + px) * c0 + c];
                    for (int k = 0; k < c1; k++)
                        sum += w2[((2 * (y % 2) + px % 2) * c0 + c) * c1 + k] * gelu(normed[k]);
                    double have = up.y[((mask * 4ll * grid + y) * 4 * grid + px) * c0 + c],
                           error = fabs(have - gelu(sum));
                    CHECK(error < 1e-3, "upsample mask %d pixel %d %d channel %d: %g, not %g", mask, y, px, c,
                          have, gelu(sum));
                    total += error;
                }
            }
    CHECK(total / (16.0 * masks * cells * c0) < 1e-5, "mean error %g", total / (16.0 * masks * cells * c0));
    gp_free(x);
    gp_free(bias1);
    gp_free(bias2);
    gp_free(skip1);
    gp_free(skip0);
    gp_free(norm_weight);
    gp_free(norm_bias);
    gp_free(up.scratch);
    gp_free(up.y);
    gp_free(w1);
    gp_free(w2);
    gp_free((void *)up.weight1.data);
    gp_free((void *)up.weight2.data);
}

int main(void) {
    uint64_t seed = fresh_seed();
    gp_backend *backends[BACKENDS_MAX];
    int count = open_backends(backends);
    for (int i = 0; i < count; i++) {
        for (int64_t columns = 2; columns < 40; columns += 5) test_norm(&seed, backends[i], 3, columns);
        test_norm(&seed, backends[i], 301, 72);
        test_norm(&seed, backends[i], 5, 1152);
        for (gp_dtype dtype = GP_DTYPE_BF16; dtype <= GP_DTYPE_F32; dtype++)
            test_embed(&seed, backends[i], dtype);
        test_patches(&seed, backends[i], 3, 28, 42, 14, 14, 0);
        test_patches(&seed, backends[i], 3, 32, 28, 7, 4, 3);
        test_merge(&seed, backends[i], 4, 5, 2, 3);
        test_merge(&seed, backends[i], 2, 1, 1, 1);
        test_merge(&seed, backends[i], 8, 16, 3, 1);
        test_maps(&seed, backends[i], 6, 9, 20);
        test_maps(&seed, backends[i], 2, 2, 1);
        test_upsample(&seed, backends[i], 2, 3, 64);
        test_upsample(&seed, backends[i], 1, 5, 16);
        test_upsample(&seed, backends[i], 2, 26, 64); /* several tasks a linear: threads meet */
    }
    close_backends(backends, count);
    return check_done();
}
