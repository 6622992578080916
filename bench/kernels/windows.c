/**
 * window_attention: the grounding encoder's eight kinds at its 1024² input. Operations
 * 4·queries·keys·head_dim a window and head; bytes: qkv and y once. No library has it: windows would first
 * have to be cut out, which is work that this operation leaves out.
 */
#include "bench/kernels/case.h"
#include "bench/kernels/reference.h"

#include <math.h>
#include <stdio.h>

enum { HEAD_DIM = 72 };

typedef struct shape {
    const char *what;
    int side, window, heads;
    bool pool;
} shape;

static const shape shapes[] = {
    {"hiera1", 256, 8, 2, false},      {"hiera2-pool", 256, 8, 4, true}, {"hiera2", 128, 4, 4, false},
    {"hiera3-pool", 128, 4, 8, true},  {"hiera3", 64, 16, 8, false},     {"hiera3-global", 64, 0, 8, false},
    {"hiera4-pool", 64, 16, 16, true}, {"hiera4", 32, 8, 16, false},
};

enum { QKV, PADDING, Y };

static shape shape_of(const gp_case *c) {
    shape s = shapes[c->index];
    if (c->small) {
        s.side = s.window > 0 ? s.window + s.window / 2 : 20; /* windows that leave the map, too */
        s.heads = 2;
    }
    return s;
}

/** Positions across a window. */
static int reach(const shape *s) {
    return s->window > 0 ? s->window : s->side;
}

static void cost(const gp_case *c, gp_cost *cost) {
    shape s = shape_of(c);
    int across = (s.side + reach(&s) - 1) / reach(&s);
    double keys = (double)reach(&s) * reach(&s), queries = s.pool ? keys / 4 : keys,
           windows = (double)across * across;
    double cells = (double)s.side * s.side, width = s.heads * HEAD_DIM;
    snprintf(cost->name, sizeof cost->name, "window_attention/%s", s.what);
    snprintf(cost->size, sizeof cost->size, "%d x %d in %d x %d, %d heads of %d", s.side, s.side, reach(&s),
             reach(&s), s.heads, HEAD_DIM);
    cost->operations = 4 * windows * queries * keys * width;
    cost->matrix = true;
    cost->bytes = 2 * cells * 3 * width + 4 * 3 * width + 2 * (s.pool ? cells / 4 : cells) * width;
}

static void fill(const gp_case *c, const gp_backend *backend, uint64_t *seed, gp_work *work) {
    shape s = shape_of(c);
    int64_t row = 3ll * s.heads * HEAD_DIM, cells = (int64_t)s.side * s.side;
    (void)backend;
    gp_work_bf16(work, QKV, cells * row, 1, seed);
    float *padding = gp_work_f32(work, PADDING, row, 1, seed);
    for (int64_t i = 0; padding != NULL && i < row; i++) /* what the kernel rounds is exact */
        padding[i] = gp_bf16_to_f32(gp_f32_to_bf16(padding[i]));
    gp_work_output(work, Y,
                   (size_t)((s.pool ? (int64_t)(s.side / 2) * (s.side / 2) : cells) * s.heads * HEAD_DIM) *
                       sizeof(uint16_t));
}

static void launch(const gp_case *c, gp_backend *backend, void *const *at) {
    shape s = shape_of(c);
    backend->ops->window_attention(backend, &(gp_window_attention){.qkv = at[QKV],
                                                                   .padding = at[PADDING],
                                                                   .height = s.side,
                                                                   .width = s.side,
                                                                   .window = s.window,
                                                                   .pool = s.pool,
                                                                   .heads = s.heads,
                                                                   .head_dim = HEAD_DIM,
                                                                   .scale = 1 / sqrtf(HEAD_DIM),
                                                                   .y = at[Y]});
}

static void check(const gp_case *c, const gp_work *work, void *const *results, bool of_yardstick,
                  uint64_t *seed, gp_findings *findings) {
    shape s = shape_of(c);
    const int step = s.pool ? 2 : 1, out = s.side / step, across = reach(&s);
    const int64_t row = 3ll * s.heads * HEAD_DIM, width = (int64_t)s.heads * HEAD_DIM,
                  keys = (int64_t)across * across;
    const uint16_t *qkv = work->buffers[QKV].host, *y = results[Y];
    const float *padding = work->buffers[PADDING].host;
    const uint16_t **key = gp_pointers(keys), **value = gp_pointers(keys);
    uint16_t outside[3 * 16 * HEAD_DIM]; /* the row beyond the map; at most 16 heads */
    int64_t places[GP_SAMPLES];
    (void)of_yardstick;
    for (int64_t i = 0; i < row; i++) outside[i] = gp_f32_to_bf16(padding[i]);
    findings->l2_bound = GP_ATTENDED_L2;
    gp_compare_written_bf16(findings, y, (int64_t)out * out * width);
    int count = gp_sample_indices(seed, (int64_t)out * out, places);
    for (int i = 0; i < count; i++)
        for (int head = 0; head < s.heads; head++) {
            int py = (int)(places[i] / out) * step, px = (int)(places[i] % out) * step;
            int top = py / across * across, left = px / across * across;
            int64_t column = (int64_t)head * HEAD_DIM;
            float query[GP_HEAD_DIM_MAX];
            gp_attended want;
            for (int64_t j = 0; j < keys; j++) {
                int64_t ky = top + j / across, kx = left + j % across;
                const uint16_t *place = ky < s.side && kx < s.side ? qkv + (ky * s.side + kx) * row : outside;
                key[j] = place + width + column;
                value[j] = place + 2 * width + column;
            }
            for (int d = 0; d < HEAD_DIM; d++) {
                query[d] = -INFINITY;
                for (int part = 0; part < step * step; part++) {
                    int64_t cell = (int64_t)(py + part / step) * s.side + px + part % step;
                    query[d] = fmaxf(query[d], gp_bf16_to_f32(qkv[cell * row + column + d]));
                }
            }
            gp_attend(query, key, value, keys, HEAD_DIM, 1 / sqrt(HEAD_DIM), &want);
            gp_compare_attended(findings, y + places[i] * width + column, &want, HEAD_DIM, places[i], column);
        }
    gp_pointers_free(key);
    gp_pointers_free(value);
}

const gp_family gp_family_window = {sizeof shapes / sizeof *shapes, cost, fill, launch, check};
