/**
 * attention over packed sequences: the vision tower's ten views, and the mask decoder's three kinds for one
 * mask and for eight. Operations 4·queries·keys·width a sequence; bytes: q, k, v and y once. The yardstick is
 * cuDNN's fused attention.
 */
#include "bench/kernels/case.h"
#include "bench/kernels/reference.h"

#include <math.h>
#include <stdio.h>

typedef struct shape {
    const char *what;
    int64_t sequences, queries, keys;
    int heads, head_dim;
    bool packed; /* q, k and v lie side by side in rows three times as wide, as in the vision tower */
} shape;

static const shape shapes[] = {
    {"vit", 10, 1601, 1601, 16, 64, true},
    {"decoder-self", 1, 7, 7, 8, 32, false},
    {"decoder-self", 8, 7, 7, 8, 32, false},
    {"decoder-tokens-to-image", 1, 7, 4096, 8, 16, false},
    {"decoder-tokens-to-image", 8, 7, 4096, 8, 16, false},
    {"decoder-image-to-tokens", 1, 4096, 7, 8, 16, false},
    {"decoder-image-to-tokens", 8, 4096, 7, 8, 16, false},
};

enum { Q, K, V, Y };

static shape shape_of(const gp_case *c) {
    shape s = shapes[c->index];
    if (c->small) {
        s.sequences = gp_smaller(s.sequences, 2);
        s.queries = gp_smaller(s.queries, 150);
        s.keys = gp_smaller(s.keys, s.packed ? 150 : 300);
        s.heads = s.heads < 2 ? s.heads : 2;
    }
    return s;
}

static int64_t width_of(const shape *s) {
    return (int64_t)s->heads * s->head_dim;
}

static void cost(const gp_case *c, gp_cost *cost) {
    shape s = shape_of(c);
    double width = (double)width_of(&s), sequences = (double)s.sequences;
    snprintf(cost->name, sizeof cost->name, "attention/%s", s.what);
    snprintf(cost->size, sizeof cost->size, "%lld x %lld x %lld, %d heads of %d", (long long)s.sequences,
             (long long)s.queries, (long long)s.keys, s.heads, s.head_dim);
    cost->operations = 4 * sequences * (double)s.queries * (double)s.keys * width;
    cost->matrix = true;
    cost->bytes = 2 * sequences * width * (2.0 * (double)s.queries + 2.0 * (double)s.keys);
}

static void fill(const gp_case *c, const gp_backend *backend, uint64_t *seed, gp_work *work) {
    shape s = shape_of(c);
    int64_t width = width_of(&s);
    (void)backend;
    if (s.packed) {
        gp_work_bf16(work, Q, s.sequences * s.queries * 3 * width, 1, seed);
    } else {
        gp_work_bf16(work, Q, s.sequences * s.queries * width, 2, seed);
        gp_work_bf16(work, K, s.sequences * s.keys * width, 2, seed);
        gp_work_bf16(work, V, s.sequences * s.keys * width, 1, seed);
    }
    gp_work_output(work, Y, (size_t)(s.sequences * s.queries * width) * sizeof(uint16_t));
    work->yardstick.kind = GP_YARDSTICK_ATTENTION;
    work->yardstick.attention.sequences = s.sequences;
    work->yardstick.attention.queries = s.queries;
    work->yardstick.attention.keys = s.keys;
    work->yardstick.attention.q_stride = work->yardstick.attention.kv_stride = s.packed ? 3 * width : width;
    work->yardstick.attention.y_stride = width;
    work->yardstick.attention.heads = work->yardstick.attention.kv_heads = s.heads;
    work->yardstick.attention.head_dim = s.head_dim;
    work->yardstick.attention.scale = 1 / sqrtf((float)s.head_dim);
    work->yardstick.attention.q = Q;
    work->yardstick.attention.k = s.packed ? Q : K;
    work->yardstick.attention.v = s.packed ? Q : V;
    work->yardstick.attention.y = Y;
    work->yardstick.attention.k_offset = s.packed ? width : 0;
    work->yardstick.attention.v_offset = s.packed ? 2 * width : 0;
}

static void launch(const gp_case *c, gp_backend *backend, void *const *at) {
    shape s = shape_of(c);
    int64_t width = width_of(&s), stride = s.packed ? 3 * width : width;
    backend->ops->attention(backend,
                            &(gp_attention){.q = at[Q],
                                            .k = s.packed ? gp_operand_at(backend, at[Q], width) : at[K],
                                            .v = s.packed ? gp_operand_at(backend, at[Q], 2 * width) : at[V],
                                            .q_stride = stride,
                                            .kv_stride = stride,
                                            .sequences = s.sequences,
                                            .queries = s.queries,
                                            .keys = s.keys,
                                            .heads = s.heads,
                                            .head_dim = s.head_dim,
                                            .scale = 1 / sqrtf((float)s.head_dim),
                                            .y = at[Y],
                                            .y_stride = width});
}

static void check(const gp_case *c, const gp_work *work, void *const *results, bool of_yardstick,
                  uint64_t *seed, gp_findings *findings) {
    shape s = shape_of(c);
    int64_t width = width_of(&s), stride = s.packed ? 3 * width : width, rows[GP_SAMPLES];
    const uint16_t *q = work->buffers[Q].host, *k = s.packed ? q + width : work->buffers[K].host,
                   *v = s.packed ? q + 2 * width : work->buffers[V].host, *y = results[Y];
    const uint16_t **key = gp_pointers(s.keys), **value = gp_pointers(s.keys);
    (void)of_yardstick; /* does the very same */
    findings->l2_bound = GP_ATTENDED_L2;
    gp_compare_written_bf16(findings, y, s.sequences * s.queries * width);
    int row_count = gp_sample_indices(seed, s.sequences * s.queries, rows);
    for (int i = 0; i < row_count; i++)
        for (int head = 0; head < s.heads; head++) {
            float query[GP_HEAD_DIM_MAX];
            gp_attended want;
            int64_t row = rows[i], first = row / s.queries * s.keys, column = (int64_t)head * s.head_dim;
            for (int64_t j = 0; j < s.keys; j++) {
                key[j] = k + (first + j) * stride + column;
                value[j] = v + (first + j) * stride + column;
            }
            for (int d = 0; d < s.head_dim; d++) query[d] = gp_bf16_to_f32(q[row * stride + column + d]);
            gp_attend(query, key, value, s.keys, s.head_dim, 1 / sqrt(s.head_dim), &want);
            gp_compare_attended(findings, y + row * width + column, &want, s.head_dim, row, column);
        }
    gp_pointers_free(key);
    gp_pointers_free(value);
}

const gp_family gp_family_attention = {sizeof shapes / sizeof *shapes, cost, fill, launch, check};
