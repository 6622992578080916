/**
 * attention, window_attention, rope_append and paged_attention against a plain softmax in float64, on every
 * instruction set and with several threads.
 *
 * Tolerance: a score's error is below (d + 8)·u·S, S = Σ|q·k|·scale, u = 2^-24: d + 1 roundings of the sum, 2
 * of the scale, and up to 5 of the rotated q and k. A weight's relative error then is that plus the 2 units
 * of 2^x; a result is a mean of values of size <= 1 under such weights, summed in n + 16 roundings. The
 * inputs keep S <= 4·√d, so 2·((d + 8)·4·√d + n + 16)·u bounds every element; it is used as it stands.
 */
#include "tests/unit/kernels/backends.h"

#define UNIT 0x1p-24

static double tolerance(int dim, int64_t keys) {
    return 2 * ((dim + 8) * 4 * sqrt(dim) + (double)keys + 16) * UNIT;
}

/** One head's result for one query in f64; k(i), v(i) start at k + i·stride. */
static void reference(const float *q, const float *const *k, const float *const *v, int64_t keys, int dim,
                      double scale, double *y) {
    double *weight = gp_allocate((size_t)keys * sizeof *weight), largest = -INFINITY, total = 0;
    REQUIRE(weight != NULL, "no memory");
    for (int64_t i = 0; i < keys; i++) {
        weight[i] = 0;
        for (int d = 0; d < dim; d++) weight[i] += (double)q[d] * k[i][d] * scale;
        if (weight[i] > largest) largest = weight[i];
    }
    for (int d = 0; d < dim; d++) y[d] = 0;
    for (int64_t i = 0; i < keys; i++) {
        double share = exp(weight[i] - largest);
        total += share;
        for (int d = 0; d < dim; d++) y[d] += share * v[i][d];
    }
    for (int d = 0; d < dim; d++) y[d] /= total;
    gp_free(weight);
}

static void compare(const float *have, const double *want, int dim, int64_t keys, const char *what,
                    const char *name, int64_t row) {
    for (int d = 0; d < dim; d++)
        CHECK(fabs(have[d] - want[d]) <= tolerance(dim, keys),
              "%s on %s, row %lld, dim %d of %d: %.9g, not %.9g", what, name, (long long)row, d, dim, have[d],
              want[d]);
}

static void test_sequences(uint64_t *seed, gp_backend **backends, int count, int64_t sequences,
                           int64_t queries, int64_t keys, int heads, int dim) {
    int64_t q_stride = heads * dim + random_between(seed, 0, 5),
            kv_stride = heads * dim + random_between(seed, 0, 5);
    float *q = random_floats(seed, sequences * queries * q_stride, 2);
    float *k = random_floats(seed, sequences * keys * kv_stride, 2),
          *v = random_floats(seed, sequences * keys * kv_stride, 1);
    gp_attention attention = {.q = q,
                              .k = k,
                              .v = v,
                              .q_stride = q_stride,
                              .kv_stride = kv_stride,
                              .sequences = sequences,
                              .queries = queries,
                              .keys = keys,
                              .heads = heads,
                              .head_dim = dim,
                              .scale = 1 / sqrtf((float)dim),
                              .y_stride = heads * dim};
    const float **kp = gp_allocate((size_t)keys * sizeof *kp), **vp = gp_allocate((size_t)keys * sizeof *vp);
    float *first = NULL;
    for (int i = 0; i < count; i++) {
        attention.y = poisoned_floats(sequences * queries * heads * dim);
        backends[i]->ops->attention(backends[i], &attention);
        if (first == NULL) {
            first = attention.y;
            continue;
        }
        CHECK(memcmp(first, attention.y, (size_t)(sequences * queries * heads * dim) * 4) == 0,
              "attention on %s differs from %s", backends[i]->name, backends[0]->name);
        gp_free(attention.y);
    }
    for (int64_t row = 0; row < sequences * queries; row += 1 + queries / 9) {
        for (int head = 0; head < heads; head++) {
            double want[128];
            for (int64_t key = 0; key < keys; key++) {
                kp[key] = k + (row / queries * keys + key) * kv_stride + head * dim;
                vp[key] = v + (row / queries * keys + key) * kv_stride + head * dim;
            }
            reference(q + row * q_stride + head * dim, kp, vp, keys, dim, attention.scale, want);
            compare(first + (row * heads + head) * dim, want, dim, keys, "attention", backends[0]->name, row);
        }
    }
    gp_free(first);
    gp_free(kp);
    gp_free(vp);
    gp_free(q);
    gp_free(k);
    gp_free(v);
}

static void test_window(uint64_t *seed, gp_backend **backends, int count, int height, int width, int window,
                        bool pool, int heads, int dim) {
    int64_t row = 3ll * heads * dim;
    int step = pool ? 2 : 1, side_y = window > 0 ? window : height, side_x = window > 0 ? window : width;
    int out_height = height / step, out_width = width / step;
    float *qkv = random_floats(seed, height * width * row, 2), *padding = random_floats(seed, row, 2);
    gp_window_attention attention = {.qkv = qkv,
                                     .padding = padding,
                                     .height = height,
                                     .width = width,
                                     .window = window,
                                     .pool = pool,
                                     .heads = heads,
                                     .head_dim = dim,
                                     .scale = 1 / sqrtf((float)dim)};
    int64_t keys = (int64_t)side_y * side_x;
    const float **kp = gp_allocate((size_t)keys * sizeof *kp), **vp = gp_allocate((size_t)keys * sizeof *vp);
    float *first = NULL;
    for (int i = 0; i < count; i++) {
        attention.y = poisoned_floats((int64_t)out_height * out_width * heads * dim);
        backends[i]->ops->window_attention(backends[i], &attention);
        if (first == NULL) {
            first = attention.y;
            continue;
        }
        CHECK(memcmp(first, attention.y, (size_t)out_height * (size_t)(out_width * heads * dim) * 4) == 0,
              "window attention on %s differs from %s", backends[i]->name, backends[0]->name);
        gp_free(attention.y);
    }
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
            float q[128];
            for (int d = 0; d < dim; d++) {
                q[d] = -INFINITY;
                for (int dy = 0; dy < step; dy++)
                    for (int dx = 0; dx < step; dx++)
                        q[d] = fmaxf(q[d],
                                     qkv[((y * step + dy) * width + x * step + dx) * row + head * dim + d]);
            }
            double want[128];
            reference(q, kp, vp, keys, dim, attention.scale, want);
            compare(first + ((y * out_width + x) * heads + head) * (int64_t)dim, want, dim, keys,
                    "window attention", backends[0]->name, y * out_width + x);
        }
    }
    gp_free(first);
    gp_free(kp);
    gp_free(vp);
    gp_free(qkv);
    gp_free(padding);
}

/** The turned q or k of one head in f64, stored as f32 like the operation's. */
static void rotate(const float *x, const float *cosine, const float *sine, int dim, float *y) {
    for (int i = 0; i < dim / 2; i++) {
        y[i] = (float)((double)x[i] * cosine[i] - (double)x[i + dim / 2] * sine[i]);
        y[i + dim / 2] = (float)((double)x[i + dim / 2] * cosine[i] + (double)x[i] * sine[i]);
    }
}

/** Two sequences of a packed batch against pages in a shuffled order; then the same cut into pieces. */
static void test_pages(uint64_t *seed, gp_backend *backend, int kv_heads, int group, int dim) {
    enum { POSITIONS = 200, PAGES = 12 };
    int lengths[2] = {random_between(seed, 1, POSITIONS), random_between(seed, 1, POSITIONS)};
    int64_t width = (int64_t)kv_heads * (group + 2) * dim, rows = lengths[0] + lengths[1];
    float *qkv = random_floats(seed, rows * width, 2);
    float *cosine = random_floats(seed, POSITIONS * dim / 2, 0),
          *sine = random_floats(seed, POSITIONS * dim / 2, 0);
    for (int i = 0; i < POSITIONS * dim / 2; i++) {
        double angle = 3 * random_float(seed);
        cosine[i] = (float)cos(angle);
        sine[i] = (float)sin(angle);
    }
    int32_t pages[PAGES];
    for (int i = 0; i < PAGES; i++) pages[i] = (i * 5 + 3) % PAGES;
    size_t page_bytes = backend->ops->kv_page_bytes(kv_heads, dim);
    float *cache = poisoned_floats((int64_t)(PAGES * page_bytes / sizeof(float)));
    float *q = poisoned_floats(rows * kv_heads * group * dim),
          *whole = poisoned_floats(rows * kv_heads * group * dim);
    gp_sequence sequences[2] = {{0, lengths[0], 0, pages}, {lengths[0], lengths[1], 0, pages + PAGES / 2}};
    gp_rope_append append = {.qkv = qkv,
                             .sequences = sequences,
                             .sequence_count = 2,
                             .group = group,
                             .cosine = cosine,
                             .sine = sine,
                             .cache = {cache, kv_heads, dim},
                             .q = q};
    gp_paged_attention attention = {.q = q,
                                    .sequences = sequences,
                                    .sequence_count = 2,
                                    .group = group,
                                    .cache = append.cache,
                                    .scale = 1 / sqrtf((float)dim),
                                    .y = whole};
    backend->ops->rope_append(backend, &append);
    backend->ops->paged_attention(backend, &attention);

    float *k = poisoned_floats(POSITIONS * dim);
    const float *kp[POSITIONS], *vp[POSITIONS];
    for (int s = 0; s < 2; s++) {
        for (int head = 0; head < kv_heads; head++) {
            for (int position = 0; position < lengths[s]; position++) {
                const float *x = qkv + ((sequences[s].first_row + position) * kv_heads + head) *
                                           (int64_t)(group + 2) * dim;
                rotate(x + group * dim, cosine + position * dim / 2, sine + position * dim / 2, dim,
                       k + position * dim);
                kp[position] = k + position * dim;
                vp[position] = x + (group + 1) * dim;
                int i = random_between(seed, 0, group - 1);
                float turned[128];
                double want[128];
                rotate(x + i * dim, cosine + position * dim / 2, sine + position * dim / 2, dim, turned);
                reference(turned, kp, vp, position + 1, dim, attention.scale, want);
                compare(whole +
                            (((sequences[s].first_row + position) * kv_heads + head) * (int64_t)group + i) *
                                dim,
                        want, dim, position + 1, "paged attention", backend->name, position);
            }
        }
    }

    /* Cut anywhere, down to one row at a time: the same bits. */
    float *pieces = poisoned_floats(rows * kv_heads * group * dim);
    for (size_t i = 0; i < PAGES * page_bytes / sizeof(float); i++) cache[i] = NAN;
    attention.y = pieces;
    for (int s = 0; s < 2; s++) {
        for (int done = 0; done < lengths[s];) {
            int piece = random_between(seed, 1, 3) == 1 ? 1 : random_between(seed, 1, lengths[s] - done);
            gp_sequence part = {sequences[s].first_row + done, piece, done, sequences[s].pages};
            append.sequences = attention.sequences = &part;
            append.sequence_count = attention.sequence_count = 1;
            backend->ops->rope_append(backend, &append);
            backend->ops->paged_attention(backend, &attention);
            done += piece;
        }
    }
    CHECK(memcmp(whole, pieces, (size_t)(rows * kv_heads * group * dim) * 4) == 0,
          "%s: %d kv heads, group %d, dim %d: a prompt in pieces differs from the whole", backend->name,
          kv_heads, group, dim);
    gp_free(pieces);
    gp_free(k);
    gp_free(whole);
    gp_free(q);
    gp_free(cache);
    gp_free(cosine);
    gp_free(sine);
    gp_free(qkv);
}

int main(void) {
    uint64_t seed = fresh_seed();
    gp_backend *backends[BACKENDS_MAX];
    int count = open_backends(backends);
    test_sequences(&seed, backends, count, 2, 1601, 1601, 1, 64);
    test_sequences(&seed, backends, count, 3, 7, 1000, 8,
                   16); /* the mask decoder's: tokens to image and back */
    test_sequences(&seed, backends, count, 2, 300, 7, 8, 16);
    test_sequences(&seed, backends, count, 1, 1, 1, 1, 128);
    for (int i = 0; i < 10; i++)
        test_sequences(&seed, backends, count, random_between(&seed, 1, 3), random_between(&seed, 1, 120),
                       random_between(&seed, 1, 200), random_between(&seed, 1, 4),
                       random_between(&seed, 1, 128));
    test_window(&seed, backends, count, 16, 16, 8, false, 2, 72);
    test_window(&seed, backends, count, 20, 13, 8, true, 2,
                72); /* windows that leave the map, odd width, pooled */
    test_window(&seed, backends, count, 13, 11, 0, false, 3, 72);
    test_window(&seed, backends, count, 12, 14, 0, true, 1, 36);
    for (int i = 0; i < 8; i++)
        test_window(&seed, backends, count, random_between(&seed, 2, 24), random_between(&seed, 2, 24),
                    2 * random_between(&seed, 1, 8), random_between(&seed, 0, 1), random_between(&seed, 1, 3),
                    random_between(&seed, 1, 128));
    for (int i = 0; i < count; i++) {
        test_pages(&seed, backends[i], 1, 4, 128);
        test_pages(&seed, backends[i], 4, 1, 64);
        test_pages(&seed, backends[i], 2, random_between(&seed, 1, 7), 2 * random_between(&seed, 1, 64));
    }
    close_backends(backends, count);
    return check_done();
}
