/**
 * Operations that move rows and maps: sums with a repeated row, embeddings, patches, the 2×2 merge, pooling,
 * up-sampling. Bytes: what goes in and what comes out, once. They compare, copy or add two numbers, so
 * results must be equal (and rounded to nearest where they are operands).
 */
#include "bench/kernels/case.h"
#include "bench/kernels/reference.h"

#include <math.h>
#include <stdio.h>

/** The same number: rounded where it is an operand. */
static void same_bf16(gp_findings *findings, uint16_t have, float want, int64_t row, int64_t column) {
    gp_compare(findings, (double)gp_bf16_to_f32(have), (double)gp_bf16_to_f32(gp_f32_to_bf16(want)), 0, row,
               column);
}
static void same_f32(gp_findings *findings, float have, float want, int64_t row, int64_t column) {
    gp_compare(findings, (double)have, (double)want, 0, row, column);
}

/* ---- add_rows: the decoder's image and positions, of eight masks ---- */

enum { ADD_X, ADD_ADDEND, ADD_Y };
typedef struct add_shape {
    int64_t rows, columns, period;
} add_shape;

static add_shape add_of(const gp_case *c) {
    return c->small ? (add_shape){84, 64, 28} : (add_shape){8 * 4096, 256, 4096};
}

static void add_cost(const gp_case *c, gp_cost *cost) {
    add_shape s = add_of(c);
    double values = (double)s.rows * (double)s.columns;
    snprintf(cost->name, sizeof cost->name, "add_rows/decoder-image");
    snprintf(cost->size, sizeof cost->size, "%lld x %lld, period %lld", (long long)s.rows,
             (long long)s.columns, (long long)s.period);
    cost->operations = values;
    cost->bytes = 6 * values + 4 * (double)(s.period * s.columns);
}

static void add_fill(const gp_case *c, const gp_backend *backend, uint64_t *seed, gp_work *work) {
    add_shape s = add_of(c);
    (void)backend;
    gp_work_f32(work, ADD_X, s.rows * s.columns, 1, seed);
    gp_work_f32(work, ADD_ADDEND, s.period * s.columns, 1, seed);
    gp_work_output(work, ADD_Y, (size_t)(s.rows * s.columns) * sizeof(uint16_t));
}

static void add_launch(const gp_case *c, gp_backend *backend, void *const *at) {
    add_shape s = add_of(c);
    backend->ops->add_rows(backend, &(gp_add_rows){.x = at[ADD_X],
                                                   .addend = at[ADD_ADDEND],
                                                   .rows = s.rows,
                                                   .columns = s.columns,
                                                   .period = s.period,
                                                   .y_operand = at[ADD_Y]});
}

static void add_check(const gp_case *c, const gp_work *work, void *const *results, bool of_yardstick,
                      uint64_t *seed, gp_findings *findings) {
    add_shape s = add_of(c);
    const float *x = work->buffers[ADD_X].host, *addend = work->buffers[ADD_ADDEND].host;
    int64_t rows[GP_SAMPLES];
    (void)of_yardstick;
    gp_compare_written_bf16(findings, results[ADD_Y], s.rows * s.columns);
    int count = gp_sample_indices(seed, s.rows, rows);
    for (int i = 0; i < count; i++)
        for (int64_t j = 0; j < s.columns; j++)
            same_bf16(findings, ((const uint16_t *)results[ADD_Y])[rows[i] * s.columns + j],
                      x[rows[i] * s.columns + j] + addend[rows[i] % s.period * s.columns + j], rows[i], j);
}

const gp_family gp_family_add_rows = {1, add_cost, add_fill, add_launch, add_check};

/* ---- embed: a prompt's tokens from a table of 92,547 ---- */

enum { EMBED_TABLE, EMBED_IDS, EMBED_Y };
typedef struct embed_shape {
    int64_t rows, columns, vocabulary;
} embed_shape;

static embed_shape embed_of(const gp_case *c) {
    return c->small ? (embed_shape){19, 72, 100} : (embed_shape){4096, 4096, 92547};
}

static void embed_cost(const gp_case *c, gp_cost *cost) {
    embed_shape s = embed_of(c);
    snprintf(cost->name, sizeof cost->name, "embed/llm");
    snprintf(cost->size, sizeof cost->size, "%lld x %lld of %lld", (long long)s.rows, (long long)s.columns,
             (long long)s.vocabulary);
    cost->operations = (double)(s.rows * s.columns); /* conversions */
    cost->bytes = 6.0 * (double)(s.rows * s.columns) + 4 * (double)s.rows;
}

static void embed_fill(const gp_case *c, const gp_backend *backend, uint64_t *seed, gp_work *work) {
    embed_shape s = embed_of(c);
    (void)backend;
    gp_work_bf16(work, EMBED_TABLE, s.vocabulary * s.columns, 1, seed);
    int32_t *ids = gp_work_input(work, EMBED_IDS, (size_t)s.rows * sizeof *ids);
    for (int64_t i = 0; ids != NULL && i < s.rows; i++) ids[i] = (int32_t)gp_random_below(seed, s.vocabulary);
    gp_work_output(work, EMBED_Y, (size_t)(s.rows * s.columns) * sizeof(float));
}

static void embed_launch(const gp_case *c, gp_backend *backend, void *const *at) {
    embed_shape s = embed_of(c);
    backend->ops->embed(backend, &(gp_embed){gp_placed(at[EMBED_TABLE], s.vocabulary, s.columns),
                                             at[EMBED_IDS], s.rows, at[EMBED_Y]});
}

static void embed_check(const gp_case *c, const gp_work *work, void *const *results, bool of_yardstick,
                        uint64_t *seed, gp_findings *findings) {
    embed_shape s = embed_of(c);
    const uint16_t *table = work->buffers[EMBED_TABLE].host;
    const int32_t *ids = work->buffers[EMBED_IDS].host;
    int64_t rows[GP_SAMPLES];
    (void)of_yardstick;
    gp_compare_written_f32(findings, results[EMBED_Y], s.rows * s.columns);
    int count = gp_sample_indices(seed, s.rows, rows);
    for (int i = 0; i < count; i++)
        for (int64_t j = 0; j < s.columns; j++)
            same_f32(findings, ((const float *)results[EMBED_Y])[rows[i] * s.columns + j],
                     gp_bf16_to_f32(table[ids[rows[i]] * s.columns + j]), rows[i], j);
}

const gp_family gp_family_embed = {1, embed_cost, embed_fill, embed_launch, embed_check};

/* ---- patches ---- */

enum { PATCH_X, PATCH_Y, CHANNELS = 3 };
typedef struct patch_shape {
    const char *what;
    int side, patch, stride, padding;
} patch_shape;
static const patch_shape patch_shapes[] = {{"vit", 560, 14, 14, 0}, {"hiera", 1024, 7, 4, 3}};

static patch_shape patch_of(const gp_case *c) {
    patch_shape s = patch_shapes[c->index];
    if (c->small) s.side = 4 * s.patch;
    return s;
}

static int patches_across(const patch_shape *s) {
    return (s->side + 2 * s->padding - s->patch) / s->stride + 1;
}
static int64_t patch_values(const patch_shape *s) {
    return (int64_t)CHANNELS * s->patch * s->patch;
}

static void patch_cost(const gp_case *c, gp_cost *cost) {
    patch_shape s = patch_of(c);
    double rows = (double)patches_across(&s) * patches_across(&s);
    snprintf(cost->name, sizeof cost->name, "patches/%s", s.what);
    snprintf(cost->size, sizeof cost->size, "%d x %d by %d, every %d", s.side, s.side, s.patch, s.stride);
    cost->operations = rows * (double)patch_values(&s); /* conversions */
    cost->bytes = 4.0 * CHANNELS * s.side * s.side + 2 * rows * (double)gp_operand_width(patch_values(&s));
}

static void patch_fill(const gp_case *c, const gp_backend *backend, uint64_t *seed, gp_work *work) {
    patch_shape s = patch_of(c);
    int64_t rows = (int64_t)patches_across(&s) * patches_across(&s);
    (void)backend;
    gp_work_f32(work, PATCH_X, (int64_t)CHANNELS * s.side * s.side, 1, seed);
    gp_work_output(work, PATCH_Y, (size_t)(rows * gp_operand_width(patch_values(&s))) * sizeof(uint16_t));
}

static void patch_launch(const gp_case *c, gp_backend *backend, void *const *at) {
    patch_shape s = patch_of(c);
    backend->ops->patches(backend, &(gp_patches){at[PATCH_X], CHANNELS, s.side, s.side, s.patch, s.stride,
                                                 s.padding, at[PATCH_Y], gp_operand_width(patch_values(&s))});
}

static void patch_check(const gp_case *c, const gp_work *work, void *const *results, bool of_yardstick,
                        uint64_t *seed, gp_findings *findings) {
    patch_shape s = patch_of(c);
    const float *x = work->buffers[PATCH_X].host;
    const int across = patches_across(&s), area = s.patch * s.patch;
    const int64_t width = gp_operand_width(patch_values(&s));
    int64_t rows[GP_SAMPLES];
    (void)of_yardstick;
    gp_compare_written_bf16(findings, results[PATCH_Y], (int64_t)across * across * width);
    int count = gp_sample_indices(seed, (int64_t)across * across, rows);
    for (int i = 0; i < count; i++)
        for (int64_t j = 0; j < width; j++) {
            int channel = (int)(j / area),
                y = (int)(rows[i] / across) * s.stride + (int)(j % area) / s.patch - s.padding;
            int px = (int)(rows[i] % across) * s.stride + (int)(j % s.patch) - s.padding;
            bool inside = channel < CHANNELS && y >= 0 && y < s.side && px >= 0 && px < s.side;
            same_bf16(findings, ((const uint16_t *)results[PATCH_Y])[rows[i] * width + j],
                      inside ? x[((int64_t)channel * s.side + y) * s.side + px] : 0, rows[i], j);
        }
}

const gp_family gp_family_patches = {sizeof patch_shapes / sizeof *patch_shapes, patch_cost, patch_fill,
                                     patch_launch, patch_check};

/* ---- merge_tokens: nine crops and the global view ---- */

enum { MERGE_FEATURES, MERGE_ROW_END, MERGE_GLOBAL_END, MERGE_Y };
typedef struct merge_shape {
    int grid, channels, rows, columns;
} merge_shape;

static merge_shape merge_of(const gp_case *c) {
    return c->small ? (merge_shape){4, 24, 2, 3} : (merge_shape){40, 1024, 3, 3};
}
static int64_t merge_tokens(const merge_shape *s) {
    int64_t side = s->grid / 2;
    return (int64_t)(s->rows * s->columns + 1) * side * side + 1 + (s->rows + 1) * side;
}
static int64_t merge_features(const merge_shape *s) {
    return (int64_t)(1 + s->rows * s->columns) * (1 + s->grid * s->grid) * s->channels;
}

static void merge_cost(const gp_case *c, gp_cost *cost) {
    merge_shape s = merge_of(c);
    double tokens = (double)merge_tokens(&s);
    snprintf(cost->name, sizeof cost->name, "merge_tokens/vit");
    snprintf(cost->size, sizeof cost->size, "%d views to %lld x %d", 1 + s.rows * s.columns,
             (long long)merge_tokens(&s), 4 * s.channels);
    cost->operations = tokens * 4 * s.channels; /* conversions */
    cost->bytes = 4.0 * (double)merge_features(&s) + 2 * tokens * 4 * s.channels + 2 * 16.0 * s.channels;
}

static void merge_fill(const gp_case *c, const gp_backend *backend, uint64_t *seed, gp_work *work) {
    merge_shape s = merge_of(c);
    (void)backend;
    gp_work_f32(work, MERGE_FEATURES, merge_features(&s), 1, seed);
    gp_work_f32(work, MERGE_ROW_END, 4 * s.channels, 1, seed);
    gp_work_f32(work, MERGE_GLOBAL_END, 4 * s.channels, 1, seed);
    gp_work_output(work, MERGE_Y, (size_t)(merge_tokens(&s) * 4 * s.channels) * sizeof(uint16_t));
}

static void merge_launch(const gp_case *c, gp_backend *backend, void *const *at) {
    merge_shape s = merge_of(c);
    backend->ops->merge_tokens(backend,
                               &(gp_merge_tokens){at[MERGE_FEATURES], s.grid, s.channels, s.rows, s.columns,
                                                  at[MERGE_ROW_END], at[MERGE_GLOBAL_END], at[MERGE_Y]});
}

/** By the definition, all tokens in order. */
static void merge_check(const gp_case *c, const gp_work *work, void *const *results, bool of_yardstick,
                        uint64_t *seed, gp_findings *findings) {
    merge_shape s = merge_of(c);
    const int side = s.grid / 2, width = 4 * s.channels;
    const float *features = work->buffers[MERGE_FEATURES].host, *row_end = work->buffers[MERGE_ROW_END].host,
                *global_end = work->buffers[MERGE_GLOBAL_END].host;
    const uint16_t *y = results[MERGE_Y];
    int64_t token = 0;
    (void)of_yardstick, (void)seed;
    for (int map = 0; map < 2; map++) {
        int across = map == 0 ? 1 : s.columns, down = map == 0 ? 1 : s.rows;
        for (int my = 0; my < down * side; my++) {
            for (int mx = 0; mx < across * side; mx++, token++) {
                int view = map == 0 ? 0 : 1 + my / side * s.columns + mx / side;
                for (int j = 0; j < width; j++) {
                    int part = j / s.channels, py = 2 * (my % side) + part / 2,
                        px = 2 * (mx % side) + part % 2;
                    int64_t row = (int64_t)view * (1 + s.grid * s.grid) + 1 + py * s.grid + px;
                    same_bf16(findings, y[token * width + j], features[row * s.channels + j % s.channels],
                              token, j);
                }
            }
            for (int j = 0; j < width; j++) same_bf16(findings, y[token * width + j], row_end[j], token, j);
            token++;
        }
        for (int j = 0; map == 0 && j < width; j++)
            same_bf16(findings, y[token * width + j], global_end[j], token, j);
        token += map == 0;
    }
    if (token != merge_tokens(&s))
        gp_wrong(findings, "%lld tokens by the definition, %lld counted", (long long)token,
                 (long long)merge_tokens(&s));
}

const gp_family gp_family_merge = {1, merge_cost, merge_fill, merge_launch, merge_check};

/* ---- max_pool and add_upsampled: between the grounding encoder's stages, and in its neck ---- */

enum { MAP_X, MAP_Y };
typedef struct map_shape {
    int side, channels;
} map_shape;

static map_shape pool_of(const gp_case *c) {
    static const map_shape shapes[] = {{256, 288}, {128, 576}, {64, 1152}};
    return c->small ? (map_shape){14, 40} : shapes[c->index];
}

static void pool_cost(const gp_case *c, gp_cost *cost) {
    map_shape s = pool_of(c);
    double values = (double)s.side * s.side * s.channels;
    snprintf(cost->name, sizeof cost->name, "max_pool/hiera%d", c->index + 2);
    snprintf(cost->size, sizeof cost->size, "%d x %d x %d", s.side, s.side, s.channels);
    cost->operations = values;
    cost->bytes = 5 * values;
}

static void pool_fill(const gp_case *c, const gp_backend *backend, uint64_t *seed, gp_work *work) {
    map_shape s = pool_of(c);
    int64_t values = (int64_t)s.side * s.side * s.channels;
    (void)backend;
    gp_work_f32(work, MAP_X, values, 1, seed);
    gp_work_output(work, MAP_Y, (size_t)(values / 4) * sizeof(float));
}

static void pool_launch(const gp_case *c, gp_backend *backend, void *const *at) {
    map_shape s = pool_of(c);
    backend->ops->max_pool(backend, &(gp_max_pool){at[MAP_X], s.side, s.side, s.channels, at[MAP_Y]});
}

static void pool_check(const gp_case *c, const gp_work *work, void *const *results, bool of_yardstick,
                       uint64_t *seed, gp_findings *findings) {
    map_shape s = pool_of(c);
    const float *x = work->buffers[MAP_X].host;
    const int out = s.side / 2;
    int64_t cells[GP_SAMPLES];
    (void)of_yardstick;
    gp_compare_written_f32(findings, results[MAP_Y], (int64_t)out * out * s.channels);
    int count = gp_sample_indices(seed, (int64_t)out * out, cells);
    for (int i = 0; i < count; i++)
        for (int channel = 0; channel < s.channels; channel++) {
            float want = -INFINITY;
            for (int part = 0; part < 4; part++) {
                int64_t cell = (2 * (cells[i] / out) + part / 2) * s.side + 2 * (cells[i] % out) + part % 2;
                want = fmaxf(want, x[cell * s.channels + channel]);
            }
            same_f32(findings, ((const float *)results[MAP_Y])[cells[i] * s.channels + channel], want,
                     cells[i], channel);
        }
}

const gp_family gp_family_pool = {3, pool_cost, pool_fill, pool_launch, pool_check};

static map_shape upsampled_of(const gp_case *c) {
    return c->small ? (map_shape){7, 40} : (map_shape){32, 256};
}

static void upsampled_cost(const gp_case *c, gp_cost *cost) {
    map_shape s = upsampled_of(c);
    double values = (double)s.side * s.side * s.channels;
    snprintf(cost->name, sizeof cost->name, "add_upsampled/neck");
    snprintf(cost->size, sizeof cost->size, "%d x %d x %d", s.side, s.side, s.channels);
    cost->operations = 4 * values;
    cost->bytes = 4 * (1 + 2 * 4) * values;
}

static void upsampled_fill(const gp_case *c, const gp_backend *backend, uint64_t *seed, gp_work *work) {
    map_shape s = upsampled_of(c);
    int64_t values = (int64_t)s.side * s.side * s.channels;
    (void)backend;
    gp_work_f32(work, MAP_X, values, 1, seed);
    gp_work_f32(work, MAP_Y, 4 * values, 1, seed);
    work->buffers[MAP_Y].role = GP_BUFFER_SUM;
}

static void upsampled_launch(const gp_case *c, gp_backend *backend, void *const *at) {
    map_shape s = upsampled_of(c);
    backend->ops->add_upsampled(backend,
                                &(gp_add_upsampled){at[MAP_X], s.side, s.side, s.channels, at[MAP_Y]});
}

static void upsampled_check(const gp_case *c, const gp_work *work, void *const *results, bool of_yardstick,
                            uint64_t *seed, gp_findings *findings) {
    map_shape s = upsampled_of(c);
    const float *x = work->buffers[MAP_X].host, *before = work->buffers[MAP_Y].host, *y = results[MAP_Y];
    const int out = 2 * s.side;
    (void)of_yardstick, (void)seed;
    for (int64_t cell = 0; cell < (int64_t)out * out; cell++)
        for (int channel = 0; channel < s.channels; channel++) {
            int64_t at = cell * s.channels + channel, from = cell / out / 2 * s.side + cell % out / 2;
            same_f32(findings, y[at], before[at] + x[from * s.channels + channel], cell, channel);
        }
}

const gp_family gp_family_upsampled = {1, upsampled_cost, upsampled_fill, upsampled_launch, upsampled_check};
