/**
 * attention, window_attention, paged_attention and decode_attention against a plain softmax in float64, on
 * every kind of backend. Pages are written by a linear's gp_rope_append, whose sums have one product each
 * that is not 0, so that they are exact and packed rows known to the bit; test_linear has others.
 *
 * Tolerance in f32: a score's error is below (d + 8)·u·S, S = Σ|q·k|·scale, u = 2^-24: d + 1 roundings of the
 * sum, 2 of the scale, and up to 5 of the rotated q and k. A weight's relative error then is that plus the 2
 * units of 2^x; a result is a mean of values of size <= 1 under such weights, summed in n + 16 roundings. The
 * inputs keep S <= 4·√d, so 2·((d + 8)·4·√d + n + 16)·u bounds every element; it is used as it stands. Where
 * operands are bf16, adders may cut instead of rounding: twice that.
 *
 * There, too, the weights are rounded before their product with v, which adds operand_unit·Σ p|v| (their sum,
 * which divides, is of the weights as they were), and the result is rounded once. Rotated keys are rounded as
 * they go to the cache; where f32's own error may decide to which neighbour, the reference takes one and
 * allows for the other: a weight is off by 2^x of what the score is off by, which is small.
 */
#include "tests/unit/kernels/backends.h"

enum { DIM_MAX = 128 };

/** A rotated head, as it is stored, and what each number may be off by where its rounding is in doubt. */
typedef struct rotated {
    float value[DIM_MAX], doubt[DIM_MAX];
} rotated;

/** One head's result for one query in f64, and the bound of its error. */
typedef struct result {
    double y[DIM_MAX], bound[DIM_MAX];
} result;

static double tolerance(const gp_backend *backend, int dim, int64_t keys) {
    double cut = backend->operand == GP_DTYPE_F32 ? 1 : 2;
    return cut * 2 * ((dim + 8) * 4 * sqrt(dim) + (double)keys + 16) * UNIT;
}

/** k[i], v[i] and doubt[i] (NULL: none) are key i's. */
static void reference(const gp_backend *backend, const float *q, const float *const *k, const float *const *v,
                      const float *const *doubt, int64_t keys, int dim, double scale, result *out) {
    double *weight = gp_allocate((size_t)keys * sizeof *weight), largest = -INFINITY, total = 0;
    double *off = gp_allocate((size_t)keys * sizeof *off); /* of the scores, by doubt */
    REQUIRE(weight != NULL && off != NULL, "no memory");
    for (int64_t i = 0; i < keys; i++) {
        weight[i] = off[i] = 0;
        for (int d = 0; d < dim; d++) {
            weight[i] += (double)q[d] * k[i][d] * scale;
            if (doubt != NULL) off[i] += fabs((double)q[d]) * doubt[i][d] * scale;
        }
        if (weight[i] > largest) largest = weight[i];
    }
    *out = (result){0};
    for (int64_t i = 0; i < keys; i++) {
        weight[i] = exp(weight[i] - largest);
        total += weight[i];
        for (int d = 0; d < dim; d++) out->y[d] += weight[i] * v[i][d];
    }
    for (int d = 0; d < dim; d++) {
        double y = out->y[d] /= total, magnitude = 0, doubts = 0;
        for (int64_t i = 0; i < keys; i++) {
            magnitude += weight[i] / total * fabs((double)v[i][d]);
            doubts += weight[i] / total * 1.2 * off[i] * (fabs((double)v[i][d]) + fabs(y));
        }
        double bound = tolerance(backend, dim, keys) + operand_unit(backend) * magnitude + doubts;
        out->bound[d] = bound + operand_unit(backend) * (fabs(y) + bound);
    }
    gp_free(weight);
    gp_free(off);
}

static void compare(const float *have, const result *want, int dim, const char *what,
                    const gp_backend *backend, int64_t row) {
    for (int d = 0; d < dim; d++)
        CHECK(fabs(have[d] - want->y[d]) <= want->bound[d],
              "%s on %s, row %lld, dim %d of %d: %.9g, not %.9g +- %.2g", what, backend->name, (long long)row,
              d, dim, (double)have[d], want->y[d], want->bound[d]);
}

static void test_sequences(uint64_t *seed, gp_backend **backends, int count, int64_t sequences,
                           int64_t queries, int64_t keys, int heads, int head_dim) {
    gp_backend *kind = backends[0];
    int dim = (int)width_for(kind, head_dim);
    int64_t q_stride = stride_for(seed, kind, heads * dim), kv_stride = stride_for(seed, kind, heads * dim);
    int64_t y_count = sequences * queries * heads * dim;
    float *q = random_operands(seed, kind, sequences * queries * q_stride, 2), *first = NULL;
    float *k = random_operands(seed, kind, sequences * keys * kv_stride, 2),
          *v = random_operands(seed, kind, sequences * keys * kv_stride, 1);
    float scale = 1 / sqrtf((float)dim);
    for (int i = 0; i < count; i++) {
        gp_backend *backend = backends[i];
        gp_attention attention = {.q = operands_on(backend, q, sequences * queries * q_stride),
                                  .k = operands_on(backend, k, sequences * keys * kv_stride),
                                  .v = operands_on(backend, v, sequences * keys * kv_stride),
                                  .q_stride = q_stride,
                                  .kv_stride = kv_stride,
                                  .sequences = sequences,
                                  .queries = queries,
                                  .keys = keys,
                                  .heads = heads,
                                  .head_dim = dim,
                                  .scale = scale,
                                  .y = operands_on(backend, NULL, y_count),
                                  .y_stride = heads * dim};
        backend->ops->attention(backend, &attention);
        float *have = operands_from(backend, attention.y, y_count);
        if (i == 0) first = have;
        CHECK(memcmp(first, have, (size_t)y_count * sizeof *have) == 0, "attention on %s differs from %s",
              backend->name, kind->name);
    }
    const float **kp = host_memory((size_t)keys * sizeof *kp), **vp = host_memory((size_t)keys * sizeof *vp);
    for (int64_t row = 0; row < sequences * queries; row += 1 + queries / 9) {
        for (int head = 0; head < heads; head++) {
            result want;
            for (int64_t key = 0; key < keys; key++) {
                kp[key] = k + (row / queries * keys + key) * kv_stride + head * dim;
                vp[key] = v + (row / queries * keys + key) * kv_stride + head * dim;
            }
            reference(kind, q + row * q_stride + head * dim, kp, vp, NULL, keys, dim, (double)scale, &want);
            compare(first + (row * heads + head) * dim, &want, dim, "attention", kind, row);
        }
    }
    release_memory();
}

/** The bits of one head do not depend on the others. `y` [rows, heads, dim] is what all gave. */
static void check_head_alone(uint64_t *seed, gp_backend *backend, gp_window_attention attention,
                             const float *qkv, const float *padding, const float *y, int64_t rows) {
    const int heads = attention.heads, dim = attention.head_dim, head = random_between(seed, 0, heads - 1);
    const int64_t positions = (int64_t)attention.height * attention.width;
    float *own = host_memory((size_t)(positions * 3 * dim) * sizeof *own),
          *own_padding = host_memory((size_t)(3 * dim) * sizeof *own_padding);
    for (int64_t i = 0; i < 3 * positions; i++) /* parts of positions */
        memcpy(own + i * dim, qkv + (i * heads + head) * dim, (size_t)dim * sizeof *own);
    for (int part = 0; part < 3; part++)
        memcpy(own_padding + part * dim, padding + (part * heads + head) * dim, (size_t)dim * sizeof *own);
    attention.heads = 1;
    attention.qkv = operands_on(backend, own, positions * 3 * dim);
    attention.padding = floats_on(backend, own_padding, 3 * dim);
    attention.y = operands_on(backend, NULL, rows * dim);
    backend->ops->window_attention(backend, &attention);
    const float *alone = operands_from(backend, attention.y, rows * dim);
    for (int64_t row = 0; row < rows; row++)
        CHECK(memcmp(alone + row * dim, y + (row * heads + head) * dim, (size_t)dim * sizeof *y) == 0,
              "window attention on %s, row %lld: head %d of %d differs from itself alone", backend->name,
              (long long)row, head, heads);
}

static void test_window(uint64_t *seed, gp_backend **backends, int count, int height, int width, int window,
                        bool pool, int heads, int head_dim) {
    gp_backend *kind = backends[0];
    int dim = (int)width_for(kind, head_dim);
    int64_t row = 3ll * heads * dim;
    int step = pool ? 2 : 1, side_y = window > 0 ? window : height, side_x = window > 0 ? window : width;
    int out_height = height / step, out_width = width / step;
    int64_t y_count = (int64_t)out_height * out_width * heads * dim;
    float *qkv = random_operands(seed, kind, height * width * row, 2),
          *padding = random_operands(seed, kind, row, 2), *first = NULL;
    float scale = 1 / sqrtf((float)dim);
    for (int i = 0; i < count; i++) {
        gp_backend *backend = backends[i];
        gp_window_attention attention = {.qkv = operands_on(backend, qkv, height * width * row),
                                         .padding = floats_on(backend, padding, row),
                                         .height = height,
                                         .width = width,
                                         .window = window,
                                         .pool = pool,
                                         .heads = heads,
                                         .head_dim = dim,
                                         .scale = scale,
                                         .y = operands_on(backend, NULL, y_count)};
        backend->ops->window_attention(backend, &attention);
        float *have = operands_from(backend, attention.y, y_count);
        if (i == 0) first = have;
        CHECK(memcmp(first, have, (size_t)y_count * sizeof *have) == 0,
              "window attention on %s differs from %s", backend->name, kind->name);
        if (heads > 1)
            check_head_alone(seed, backend, attention, qkv, padding, have, (int64_t)out_height * out_width);
    }
    int64_t keys = (int64_t)side_y * side_x;
    const float **kp = host_memory((size_t)keys * sizeof *kp), **vp = host_memory((size_t)keys * sizeof *vp);
    for (int y = 0; y < out_height; y++) {
        for (int x = 0; x < out_width; x++) {
            int head = random_between(seed, 0, heads - 1), top = y * step / side_y * side_y,
                left = x * step / side_x * side_x;
            for (int64_t key = 0; key < keys; key++) {
                int64_t ky = top + key / side_x, kx = left + key % side_x;
                const float *place = ky < height && kx < width ? qkv + (ky * width + kx) * row : padding;
                kp[key] = place + (heads + head) * dim;
                vp[key] = place + (2 * heads + head) * dim;
            }
            float q[DIM_MAX];
            for (int d = 0; d < dim; d++) {
                q[d] = -INFINITY;
                for (int dy = 0; dy < step; dy++)
                    for (int dx = 0; dx < step; dx++)
                        q[d] = fmaxf(q[d],
                                     qkv[((y * step + dy) * width + x * step + dx) * row + head * dim + d]);
            }
            result want;
            reference(kind, q, kp, vp, NULL, keys, dim, (double)scale, &want);
            compare(first + ((y * out_width + x) * heads + head) * (int64_t)dim, &want, dim,
                    "window attention", kind, y * out_width + x);
        }
    }
    release_memory();
}

/* ---- pages ---- */

/** One number of a rotated head: stored in f32, or rounded to an operand of which f32's four roundings may
 * make the other neighbour. */
static void store_rotated(const gp_backend *backend, double value, double magnitude, rotated *out, int i) {
    float low = round_to(backend->operand, (float)(value - 4 * UNIT * magnitude)),
          high = round_to(backend->operand, (float)(value + 4 * UNIT * magnitude));
    out->value[i] = round_to(backend->operand, (float)value);
    out->doubt[i] = backend->operand == GP_DTYPE_F32 ? 0 : high - low;
}

/** The turned q or k of one head in f64, as it is stored. */
static void rotate(const gp_backend *backend, const float *x, const float *cosine, const float *sine, int dim,
                   rotated *out) {
    for (int i = 0; i < dim / 2; i++) {
        double a = x[i], b = x[i + dim / 2], c = cosine[i], s = sine[i];
        store_rotated(backend, a * c - b * s, fabs(a * c) + fabs(b * s), out, i);
        store_rotated(backend, b * c + a * s, fabs(b * c) + fabs(a * s), out, i + dim / 2);
    }
}

/* Decoding backends may split the keys: 700 of them are several splits. MANY sequences are more than one
 * launch of prompts may take. PAGES: of both prompts. */
enum { POSITIONS = 700, PAGES = 2 * ((POSITIONS + GP_PAGE_TOKENS - 1) / GP_PAGE_TOKENS), MANY = 70 };

/** Packed rows, and the linear that makes them: each of its weight's rows has a single 1 or −1. */
typedef struct packed {
    const float *qkv; /* [rows, width], what it makes */
    gp_linear linear;
} packed;

static packed make_packed(uint64_t *seed, gp_backend *backend, int64_t rows, int64_t width) {
    enum { DEPTH = 72 };
    float *x = random_operands(seed, backend, rows * DEPTH, 2),
          *qkv = host_memory((size_t)(rows * width) * sizeof *qkv);
    gp_matrix weight = {gp_allocate_zeroed((size_t)(width * DEPTH), sizeof(float)), GP_DTYPE_F32, width,
                        DEPTH, DEPTH};
    REQUIRE(weight.data != NULL && kept_count < KEPT_MAX, "no memory, or too many matrices");
    float *entries = kept_memory[kept_count++] = (void *)(uintptr_t)weight.data;
    for (int64_t column = 0; column < width; column++) {
        int from = random_between(seed, 0, DEPTH - 1);
        float sign = random_between(seed, 0, 1) ? 1 : -1;
        entries[column * DEPTH + from] = sign;
        for (int64_t row = 0; row < rows; row++)
            qkv[row * width + column] = sign * x[row * DEPTH + from] + 0.0f; /* −0 + 0 = 0, as in a sum */
    }
    return (packed){
        qkv,
        {.x = operands_on(backend, x, rows * DEPTH), .rows = rows, .weight = place_matrix(backend, weight)}};
}

/** The rows' product and what it ends in. */
static void append_rows(gp_backend *backend, const packed *rows, const gp_rope_append *append) {
    gp_linear linear = rows->linear;
    linear.rope = append;
    backend->ops->linear(backend, &linear);
}

/** The same for sequences that may have rows in common: each for itself, its q forgotten. */
static void append_each(gp_backend *backend, const packed *rows, gp_rope_append append,
                        const gp_sequence *sequences, int count) {
    for (int i = 0; i < count; i++) {
        gp_sequence alone = sequences[i];
        packed own = *rows;
        own.linear.x = gp_operand_at(backend, own.linear.x, alone.first_row * rows->linear.weight.columns);
        own.linear.rows = alone.rows;
        alone.first_row = 0;
        append.sequences = &alone;
        append.sequence_count = 1;
        append_rows(backend, &own, &append);
    }
}

/** Two sequences in a packed batch, and what of them is in host memory. */
typedef struct paged {
    gp_backend *backend;
    int kv_heads, group, dim, lengths[2], first_row[2];
    float scale;
    packed rows;
    const float *q; /* as the operations have them */
    const float *cosine, *sine;
} paged;

/** y [kv_heads·group, dim] of one position of a sequence: one query of each kv head. */
static void check_position(const paged *p, uint64_t *seed, int s, int position, const float *y,
                           const char *what) {
    rotated *k = gp_allocate((size_t)(position + 1) * sizeof *k);
    const float *kp[POSITIONS], *vp[POSITIONS], *doubt[POSITIONS];
    REQUIRE(k != NULL, "no memory");
    for (int head = 0; head < p->kv_heads; head++) {
        int64_t row_width = (int64_t)(p->group + 2) * p->dim;
        for (int key = 0; key <= position; key++) {
            const float *x = p->rows.qkv + ((p->first_row[s] + key) * p->kv_heads + head) * row_width;
            rotate(p->backend, x + p->group * p->dim, p->cosine + key * p->dim / 2,
                   p->sine + key * p->dim / 2, p->dim, &k[key]);
            kp[key] = k[key].value;
            doubt[key] = k[key].doubt;
            vp[key] = x + (p->group + 1) * p->dim;
        }
        int i = random_between(seed, 0, p->group - 1);
        int64_t row = p->first_row[s] + position, at = (row * p->kv_heads + head) * p->group + i;
        result want;
        reference(p->backend, p->q + at * p->dim, kp, vp, doubt, position + 1, p->dim, (double)p->scale,
                  &want);
        compare(y + (head * p->group + i) * (int64_t)p->dim, &want, p->dim, what, p->backend, position);
    }
    gp_free(k);
}

/** The rotated queries themselves. */
static void check_queries(const paged *p) {
    for (int s = 0; s < 2; s++)
        for (int position = 0; position < p->lengths[s]; position++)
            for (int head = 0; head < p->kv_heads * p->group; head++) {
                int64_t row = p->first_row[s] + position;
                int64_t kv_row = row * p->kv_heads + head / p->group;
                const float *x = p->rows.qkv + (kv_row * (p->group + 2) + head % p->group) * p->dim;
                const float *have = p->q + (row * p->kv_heads * p->group + head) * p->dim;
                rotated want;
                rotate(p->backend, x, p->cosine + position * p->dim / 2, p->sine + position * p->dim / 2,
                       p->dim, &want);
                for (int d = 0; d < p->dim; d++) /* |x| <= 2: f32 is off by less than 4·u·4 */
                    CHECK(fabsf(have[d] - want.value[d]) <= want.doubt[d] + 16 * (float)UNIT,
                          "q of position %d on %s: %g, not %g", position, p->backend->name, (double)have[d],
                          (double)want.value[d]);
            }
}

/** Pages of two caches, to the byte. */
static void compare_pages(const paged *p, const void *have, const void *want, int pages) {
    gp_backend *backend = p->backend;
    size_t page_bytes = backend->ops->kv_page_bytes(p->kv_heads, p->dim);
    const char *here = from_backend(backend, have, (size_t)pages * page_bytes),
               *there = from_backend(backend, want, (size_t)pages * page_bytes);
    for (int i = 0; i < pages; i++)
        CHECK(memcmp(here + (size_t)i * page_bytes, there + (size_t)i * page_bytes, page_bytes) == 0,
              "%s: %d kv heads, group %d, dim %d: decoding steps leave page %d of %d as a prompt does not",
              backend->name, p->kv_heads, p->group, p->dim, i, pages);
}

/**
 * MANY decoding steps at once, of positions of both sequences; the first ones are at the ends of pages and of
 * splits. A step reads the prompt's full pages, the first PAGES of append.cache, and writes to a page of its
 * own after them, which holds the positions before the step's and is poison from there on. The operation has
 * to leave the bytes that a prompt of one row more leaves there, and all other pages as they were. Each
 * step gives the bits that it gives alone, whatever the positions that there may be. Some sequences between
 * have no row: nothing is read or written for them.
 */
static void check_decoding(const paged *p, uint64_t *seed, gp_rope_append append, const int32_t *page_list,
                           const float *whole_y) {
    gp_backend *backend = p->backend;
    int64_t width = (int64_t)p->kv_heads * p->group * p->dim;
    int64_t packed_width = (int64_t)p->kv_heads * (p->group + 2) * p->dim;
    const int ends[] = {p->lengths[0], p->lengths[1], 1, 64, 65, 128, 129, 300, 700};
    const int end_count = sizeof ends / sizeof *ends;
    const size_t cache_bytes = (PAGES + MANY) * backend->ops->kv_page_bytes(p->kv_heads, p->dim);
    gp_operand *all_rows = operands_on(backend, p->rows.qkv, p->rows.linear.rows * packed_width),
               *step_rows = operands_on(backend, NULL, MANY * packed_width),
               *y = operands_on(backend, NULL, (MANY + 1) * width),
               *alone_y = operands_on(backend, NULL, width);
    int of[MANY]; /* the sequence */
    int32_t lists[MANY][PAGES / 2];
    int32_t *pages = hand_out(backend, backend->ops->allocate(backend, sizeof lists));
    gp_sequence before[MANY], after[MANY], steps[MANY]; /* rows of a step's own page, and the step */
    for (int i = 0; i < MANY; i++) {
        int position = i < end_count ? ends[i] - 1 : POSITIONS;
        of[i] = i == 1 || (i > 1 && p->lengths[1] > p->lengths[0]);
        if (position >= p->lengths[of[i]]) position = random_between(seed, 0, p->lengths[of[i]] - 1);
        int full = position / GP_PAGE_TOKENS, begun = position % GP_PAGE_TOKENS;
        int row = p->first_row[of[i]] + position;
        for (int page = 0; page < PAGES / 2; page++)
            lists[i][page] = page < full ? page_list[of[i] * PAGES / 2 + page] : PAGES + i;
        before[i] = (gp_sequence){row - begun, begun, position - begun, pages + i * PAGES / 2};
        after[i] = (gp_sequence){row - begun, begun + 1, position - begun, pages + i * PAGES / 2};
        steps[i] = (gp_sequence){i, 1, position, pages + i * PAGES / 2};
        backend->ops->copy(backend, gp_operand_at(backend, step_rows, i * packed_width),
                           gp_operand_at(backend, all_rows, row * packed_width),
                           (size_t)packed_width * gp_dtype_size(backend->operand));
    }
    backend->ops->upload(backend, pages, lists, sizeof lists);
    gp_sequence listed[2 * MANY];
    for (int i = 0; i < MANY; i++) {
        listed[2 * i] = steps[i];
        listed[2 * i + 1] = (gp_sequence){MANY, 0, i % 2 == 0 ? -1 : POSITIONS - 1, NULL};
    }
    append_each(backend, &p->rows, append, before, MANY);
    gp_kv_layer cache = append.cache, wanted = append.cache;
    cache.pages = on_backend(backend, NULL, cache_bytes);
    wanted.pages = on_backend(backend, NULL, cache_bytes);
    backend->ops->copy(backend, cache.pages, append.cache.pages, cache_bytes);
    backend->ops->copy(backend, wanted.pages, append.cache.pages, cache_bytes);
    gp_decode_attention attention = {.qkv = step_rows,
                                     .sequences = on_backend(backend, listed, sizeof listed),
                                     .sequence_count = 2 * MANY,
                                     .positions = POSITIONS,
                                     .group = p->group,
                                     .cosine = append.cosine,
                                     .sine = append.sine,
                                     .cache = cache,
                                     .scale = p->scale,
                                     .y = y};
    backend->ops->decode_attention(backend, &attention);
    const void *begun_pages = append.cache.pages;
    append.cache = wanted;
    append_each(backend, &p->rows, append, after, MANY);
    compare_pages(p, cache.pages, wanted.pages, PAGES + MANY);
    const float *have = operands_from(backend, y, (MANY + 1) * width);
    for (int64_t i = MANY * width; i < (MANY + 1) * width; i++)
        CHECK(isnan(have[i]), "%s: a sequence without a row has %g", backend->name, (double)have[i]);
    for (int i = 0; i < MANY; i += i < end_count ? 1 : 7) {
        int position = steps[i].first_position;
        check_position(p, seed, of[i], position, have + i * width, "a decoding step's attention");
        CHECK(backend->operand != GP_DTYPE_F32 ||
                  memcmp(have + i * width, whole_y + (p->first_row[of[i]] + position) * width,
                         (size_t)width * sizeof *have) == 0,
              "on %s, which has one order, a decoding step differs", backend->name);
        int mark = handed_out_count;
        backend->ops->copy(backend, cache.pages, begun_pages, cache_bytes);
        gp_sequence single = {0, 1, position, steps[i].pages};
        attention.qkv = gp_operand_at(backend, step_rows, i * packed_width);
        attention.y = alone_y;
        attention.sequences = on_backend(backend, &single, sizeof single);
        attention.sequence_count = 1;
        attention.positions = random_between(seed, position + 1, 4 * POSITIONS);
        backend->ops->decode_attention(backend, &attention);
        CHECK(memcmp(have + i * width, operands_from(backend, alone_y, width),
                     (size_t)width * sizeof *have) == 0,
              "%s: a decoding step of %d among %d differs from itself alone", backend->name, position, MANY);
        release_memory_from(mark);
    }
}

/** Steps at the ends of pages of a long context, and as many sequences without a row. All full pages are one
 * and the same, so that the cache is small. */
static void test_long_steps(uint64_t *seed, gp_backend *backend) {
    enum { LONGEST = 4097, DIM = 64, TABLE = LONGEST / GP_PAGE_TOKENS + 1, PACKED = 3 * DIM };
    static const int lengths[] = {1, 63, 64, 65, 4095, 4096, LONGEST};
    enum { STEPS = sizeof lengths / sizeof *lengths, ANGLES = LONGEST * DIM / 2 };
    const packed prompt = make_packed(seed, backend, GP_PAGE_TOKENS, PACKED);
    const float *step_rows = random_operands(seed, backend, STEPS * PACKED, 2);
    float *cosine = host_memory(ANGLES * sizeof *cosine), *sine = random_floats(seed, ANGLES, 0);
    for (int i = 0; i < ANGLES; i++) cosine[i] = 1; /* turning is test_pages' */
    int32_t lists[STEPS + 1][TABLE] = {{0}};        /* page 0 is the shared one */
    for (int i = 0; i < STEPS; i++) lists[i][(lengths[i] - 1) / GP_PAGE_TOKENS] = 1 + i;
    const int32_t *pages = on_backend(backend, lists, sizeof lists);
    const size_t page_bytes = backend->ops->kv_page_bytes(1, DIM);
    gp_kv_layer cache = {on_backend(backend, NULL, (1 + STEPS) * page_bytes), 1, DIM};
    gp_sequence whole = {0, GP_PAGE_TOKENS, 0, pages + STEPS * TABLE}, steps[2 * STEPS];
    gp_rope_append append = {.qkv = operands_on(backend, NULL, GP_PAGE_TOKENS * PACKED),
                             .sequences = &whole,
                             .sequence_count = 1,
                             .group = 1,
                             .cosine = floats_on(backend, cosine, ANGLES),
                             .sine = floats_on(backend, sine, ANGLES),
                             .cache = cache,
                             .q = operands_on(backend, NULL, GP_PAGE_TOKENS * DIM)};
    append_rows(backend, &prompt, &append);
    for (int i = 0; i < STEPS; i++) {
        char *own = (char *)cache.pages + (size_t)(1 + i) * page_bytes;
        backend->ops->copy(backend, own, cache.pages, page_bytes);
        steps[i] = (gp_sequence){i, 1, lengths[i] - 1, pages + i * TABLE};
        steps[STEPS + i] = (gp_sequence){0};
    }
    gp_operand *y = operands_on(backend, NULL, STEPS * DIM);
    backend->ops->decode_attention(
        backend, &(gp_decode_attention){.qkv = operands_on(backend, step_rows, STEPS * PACKED),
                                        .sequences = on_backend(backend, steps, sizeof steps),
                                        .sequence_count = 2 * STEPS,
                                        .positions = 2 * LONGEST,
                                        .group = 1,
                                        .cosine = append.cosine,
                                        .sine = append.sine,
                                        .cache = cache,
                                        .scale = 0.125f,
                                        .y = y});
    const float *have = operands_from(backend, y, STEPS * DIM);
    const float **k = host_memory(LONGEST * sizeof *k), **v = host_memory(LONGEST * sizeof *v);
    for (int i = 0; i < STEPS; i++) {
        result want;
        for (int key = 0; key < lengths[i]; key++) {
            bool own = key == lengths[i] - 1;
            k[key] = (own ? step_rows + i * PACKED : prompt.qkv + key % GP_PAGE_TOKENS * PACKED) + DIM;
            v[key] = k[key] + DIM;
        }
        reference(backend, step_rows + i * PACKED, k, v, NULL, lengths[i], DIM, 0.125, &want);
        compare(have + i * DIM, &want, DIM, "a long step's attention", backend, lengths[i] - 1);
    }
    release_memory();
}

/** The same prompts in MANY pieces, all in one call. */
static void check_many_pieces(const paged *p, gp_rope_append append, gp_paged_attention attention,
                              const gp_sequence whole[2], const float *whole_y, int64_t y_count) {
    gp_backend *backend = p->backend;
    gp_sequence pieces[2 * MANY];
    int count = 0;
    for (int s = 0; s < 2; s++) {
        int step = (p->lengths[s] + MANY - 1) / MANY;
        for (int done = 0; done < p->lengths[s]; done += step)
            pieces[count++] = (gp_sequence){whole[s].first_row + done,
                                            p->lengths[s] - done < step ? p->lengths[s] - done : step, done,
                                            whole[s].pages};
    }
    append.cache.pages = attention.cache.pages =
        on_backend(backend, NULL, PAGES * backend->ops->kv_page_bytes(p->kv_heads, p->dim));
    attention.y = operands_on(backend, NULL, y_count);
    append.sequences = attention.sequences = pieces;
    append.sequence_count = attention.sequence_count = count;
    append_rows(backend, &p->rows, &append);
    backend->ops->paged_attention(backend, &attention);
    CHECK(memcmp(whole_y, operands_from(backend, attention.y, y_count), (size_t)y_count * sizeof *whole_y) ==
              0,
          "%s: %d pieces in one call differ from whole prompts", backend->name, count);
}

/** Two sequences of a packed batch against pages in a shuffled order; then the same cut into pieces. */
static void test_pages(uint64_t *seed, gp_backend *backend, int kv_heads, int group, int head_dim,
                       int longest) {
    int dim = (int)width_for(backend, head_dim);
    paged p = {.backend = backend,
               .kv_heads = kv_heads,
               .group = group,
               .dim = dim,
               .lengths = {longest, random_between(seed, 1, longest)},
               .scale = 1 / sqrtf((float)dim)};
    p.first_row[1] = p.lengths[0];
    int64_t width = (int64_t)kv_heads * (group + 2) * dim, rows = p.lengths[0] + p.lengths[1];
    int64_t y_count = rows * kv_heads * group * dim;
    p.rows = make_packed(seed, backend, rows, width);
    float *cosine = random_floats(seed, POSITIONS * dim / 2, 0),
          *sine = random_floats(seed, POSITIONS * dim / 2, 0);
    for (int i = 0; i < POSITIONS * dim / 2; i++) {
        double angle = 3 * random_float(seed);
        cosine[i] = (float)cos(angle);
        sine[i] = (float)sin(angle);
    }
    int32_t page_list[PAGES];
    for (int i = 0; i < PAGES; i++) page_list[i] = (i * 5 + 3) % PAGES;
    const int32_t *pages = on_backend(backend, page_list, sizeof page_list);
    size_t cache_bytes = (PAGES + MANY) * backend->ops->kv_page_bytes(kv_heads, dim);
    gp_sequence sequences[2] = {{0, p.lengths[0], 0, pages},
                                {p.lengths[0], p.lengths[1], 0, pages + PAGES / 2}};
    gp_rope_append append = {.qkv = operands_on(backend, NULL, rows * width),
                             .sequences = sequences,
                             .sequence_count = 2,
                             .group = group,
                             .cosine = floats_on(backend, cosine, POSITIONS * dim / 2),
                             .sine = floats_on(backend, sine, POSITIONS * dim / 2),
                             .cache = {on_backend(backend, NULL, cache_bytes), kv_heads, dim},
                             .q = operands_on(backend, NULL, y_count)};
    gp_paged_attention attention = {.q = append.q,
                                    .sequences = sequences,
                                    .sequence_count = 2,
                                    .group = group,
                                    .cache = append.cache,
                                    .scale = p.scale,
                                    .y = operands_on(backend, NULL, y_count)};
    append_rows(backend, &p.rows, &append);
    backend->ops->paged_attention(backend, &attention);
    const float *whole = operands_from(backend, attention.y, y_count);
    p.q = operands_from(backend, append.q, y_count);
    p.cosine = cosine;
    p.sine = sine;
    check_queries(&p);
    for (int s = 0; s < 2; s++)
        for (int position = 0; position < p.lengths[s]; position += random_between(seed, 1, 1 + position / 4))
            check_position(&p, seed, s, position,
                           whole + (p.first_row[s] + position) * kv_heads * group * (int64_t)dim,
                           "paged attention");
    check_decoding(&p, seed, append, page_list, whole);
    check_many_pieces(&p, append, attention, sequences, whole, y_count);

    /* Cut anywhere, down to one row at a time: the same bits. */
    append.cache.pages = attention.cache.pages = on_backend(backend, NULL, cache_bytes);
    attention.y = operands_on(backend, NULL, y_count);
    for (int s = 0; s < 2; s++) {
        for (int done = 0; done < p.lengths[s];) {
            int piece = random_between(seed, 1, 3) == 1 ? 1 : random_between(seed, 1, p.lengths[s] - done);
            gp_sequence part = {sequences[s].first_row + done, piece, done, sequences[s].pages};
            append.sequences = attention.sequences = &part;
            append.sequence_count = attention.sequence_count = 1;
            append_rows(backend, &p.rows, &append);
            backend->ops->paged_attention(backend, &attention);
            done += piece;
        }
    }
    CHECK(memcmp(whole, operands_from(backend, attention.y, y_count), (size_t)y_count * sizeof *whole) == 0,
          "%s: %d kv heads, group %d, dim %d: a prompt in pieces differs from the whole", backend->name,
          kv_heads, group, dim);
    release_memory();
}

static void test_all(uint64_t *seed, gp_backend **backends, int count) {
    test_sequences(seed, backends, count, EMULATED ? 1 : 2, 1601, 1601, 1, 64);
    /* The mask decoder's: tokens to image and back. */
    test_sequences(seed, backends, count, 3, 7, 1000, 8, 16);
    test_sequences(seed, backends, count, 2, 300, 7, 8, 16);
    test_sequences(seed, backends, count, 2, 7, 7, 8, 32);
    test_sequences(seed, backends, count, 1, 1, 1, 1, 128);
    /* Few queries and many keys, at both ends of both. */
    test_sequences(seed, backends, count, 2, 16, 256, 2, 32);
    test_sequences(seed, backends, count, 1, 1, 777, 1, 24);
    test_sequences(seed, backends, count, 1, 16, 255, 2, 16);
    test_sequences(seed, backends, count, 1, 17, 300, 2, 32);
    test_sequences(seed, backends, count, 1, 7, 1000, 1, 64);
    static const int dims[] = {8, 16, 32, 64, 72, 80, 96, 128};
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
        test_sequences(seed, backends, count, 1, 150, 140, 2, dims[i]);
        test_sequences(seed, backends, count, 2, 64, 65, 1, dims[i]);
    }
    for (int i = 0; i < 10; i++)
        test_sequences(seed, backends, count, random_between(seed, 1, 3), random_between(seed, 1, 120),
                       random_between(seed, 1, 200), random_between(seed, 1, 4),
                       random_between(seed, 1, 128));
    test_window(seed, backends, count, 16, 16, 8, false, 2, 72);
    test_window(seed, backends, count, 20, 13, 8, true, 2,
                72); /* windows that leave the map, odd width, pooled */
    for (int pool = 0; pool < 2; pool++) {
        test_window(seed, backends, count, 18, 15, 4, pool, 2, 72);
        test_window(seed, backends, count, 30, 21, 16, pool, 1, 72);
        test_window(seed, backends, count, 19, 16, 16, pool, 1, 128);
    }
    test_window(seed, backends, count, 32, 48, 16, false, 2, 72); /* windows that fill the map */
    test_window(seed, backends, count, 32, 32, 32, false, 1, 72);
    test_window(seed, backends, count, 16, 32, 16, false, 1, 80);
    test_window(seed, backends, count, 8, 8, 0, false, 1, 72); /* whole maps */
    test_window(seed, backends, count, 1, 65, 0, false, 1, 72);
    test_window(seed, backends, count, 13, 11, 0, false, 3, 72);
    test_window(seed, backends, count, 31, 23, 0, false, 1, 72);
    test_window(seed, backends, count, 12, 14, 0, true, 1, 36);
    for (int i = 0; i < 8; i++)
        test_window(seed, backends, count, random_between(seed, 2, 24), random_between(seed, 2, 24),
                    2 * random_between(seed, 1, 8), random_between(seed, 0, 1), random_between(seed, 1, 3),
                    random_between(seed, 1, 128));
    for (int i = 0; i < count; i++) {
        test_pages(seed, backends[i], 1, 4, 128, POSITIONS);
        test_pages(seed, backends[i], 2, 1, 64, 300);
        test_pages(seed, backends[i], 2, 3, 72, random_between(seed, 1, 200));
        test_pages(seed, backends[i], 1, 8, 32, random_between(seed, 1, 200));
        test_pages(seed, backends[i], 1, 20, 16, random_between(seed, 1, 130));
        test_pages(seed, backends[i], 2, random_between(seed, 1, 7), 2 * random_between(seed, 1, 64),
                   random_between(seed, 1, 200));
        test_long_steps(seed, backends[i]);
    }
}

int main(void) {
    return run_on_backends(test_all);
}
