/**
 * The decoder's attention over pages: the packed QKV product that ends in rope and the pages, prompts of
 * 4,096 positions, and decoding steps of 1, 8 and 64 sequences at that length; 32 heads over 8 of keys and
 * values, width 128.
 *
 * Operations of a prompt 2·positions²·width·heads (causal: half the square), of a step 4·length·width·heads.
 * Bytes: q and y once, keys and values once; of the product x, W, its result and the tables once. Prompts'
 * yardstick is cuDNN's causal attention on rows that are not in pages; cuDNN's steps over pages are no part
 * of it. The product's is cuBLASLt's, which leaves packed rows and turns nothing; linear/llm-wqkv is ours
 * without this end.
 */
#include "bench/kernels/case.h"
#include "bench/kernels/reference.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { GROUP = 4, HEAD_DIM = 128, HALF = HEAD_DIM / 2, HIDDEN = 4096, CONTEXT = 4096, SEQUENCES_MAX = 64 };

typedef struct shape {
    int sequences, length, kv_heads;
} shape;

static const shape products[] = {{1, CONTEXT, 8}, {64, CONTEXT / 64, 8}},
                   prompts[] = {{1, CONTEXT, 8}, {4, 1024, 8}},
                   steps[] = {{1, CONTEXT, 8}, {8, CONTEXT, 8}, {64, CONTEXT, 8}};

enum { QKV, COSINE, SINE, LIST, PAGES, Q, Y, KEYS, VALUES, STEPS, X, W };

static shape smaller(const gp_case *c, shape s) {
    if (!c->small) return s;
    return (shape){(int)gp_smaller(s.sequences, 3), (int)gp_smaller(s.length, 150), 2};
}

static int pages_of(const shape *s) {
    return (s->length + GP_PAGE_TOKENS - 1) / GP_PAGE_TOKENS;
}

static int64_t q_width(const shape *s) {
    return (int64_t)s->kv_heads * GROUP * HEAD_DIM;
}

/** Pages of all sequences in a shuffled order: page i of sequence s is list[s·pages + i]. */
static void fill_list(const shape *s, uint64_t *seed, gp_work *work) {
    int count = s->sequences * pages_of(s);
    int32_t *list = gp_work_input(work, LIST, (size_t)count * sizeof *list);
    if (list == NULL) return;
    for (int i = 0; i < count; i++) list[i] = i;
    for (int i = count - 1; i > 0; i--) {
        int other = (int)gp_random_below(seed, i + 1);
        int32_t swapped = list[i];
        list[i] = list[other];
        list[other] = swapped;
    }
}

static size_t page_bytes(const gp_backend *backend, const shape *s) {
    return (size_t)(s->sequences * pages_of(s)) * backend->ops->kv_page_bytes(s->kv_heads, HEAD_DIM);
}

/** Key (part 0) or value (part 1) of a position: inside a page each kv head has its keys, then its values
 * (kernels/cuda/pages.cuh). */
static uint16_t *stored(const shape *s, const gp_work *work, void *pages, int sequence, int position,
                        int head, int part) {
    const int32_t *list = work->buffers[LIST].host;
    int64_t page = list[sequence * pages_of(s) + position / GP_PAGE_TOKENS];
    return (uint16_t *)pages +
           (((page * s->kv_heads + head) * 2 + part) * GP_PAGE_TOKENS + position % GP_PAGE_TOKENS) * HEAD_DIM;
}

/** `sequences` [SEQUENCES_MAX] as the operations have them: whole prompts, or their last positions. */
static void list_sequences(const shape *s, void *const *at, bool last, gp_sequence *sequences) {
    for (int i = 0; i < s->sequences; i++)
        sequences[i] = (gp_sequence){last ? i : i * s->length, last ? 1 : s->length, last ? s->length - 1 : 0,
                                     (const int32_t *)at[LIST] + i * pages_of(s)};
}

static void size_text(const shape *s, gp_cost *cost) {
    snprintf(cost->size, sizeof cost->size, "%d x %d positions, %d heads over %d of %d", s->sequences,
             s->length, s->kv_heads * GROUP, s->kv_heads, HEAD_DIM);
}

/* ---- the product ---- */

static shape product_shape(const gp_case *c) {
    return smaller(c, products[c->index]);
}

static int64_t depth_of(const gp_case *c) {
    return c->small ? 200 : HIDDEN;
}

static int64_t packed_width(const shape *s) {
    return (int64_t)s->kv_heads * (GROUP + 2) * HEAD_DIM;
}

static void product_cost(const gp_case *c, gp_cost *cost) {
    shape s = product_shape(c);
    double rows = (double)s.sequences * s.length, width = (double)packed_width(&s),
           depth = (double)depth_of(c);
    snprintf(cost->name, sizeof cost->name, "linear/llm-wqkv-rope");
    size_text(&s, cost);
    cost->operations = 2 * rows * width * depth + 3 * rows * s.kv_heads * (GROUP + 1) * HEAD_DIM;
    cost->matrix = true;
    cost->bytes = 2 * (rows * depth + width * depth + rows * width) + 8.0 * s.length * HALF;
}

static void product_fill(const gp_case *c, const gp_backend *backend, uint64_t *seed, gp_work *work) {
    shape s = product_shape(c);
    int64_t rows = (int64_t)s.sequences * s.length, angles = (int64_t)s.length * HALF, depth = depth_of(c);
    gp_work_bf16(work, X, rows * depth, 1, seed);
    gp_work_bf16(work, W, packed_width(&s) * depth, 3 / sqrtf((float)depth), seed); /* results near 1 */
    float *cosine = gp_work_input(work, COSINE, (size_t)angles * sizeof *cosine),
          *sine = gp_work_f32(work, SINE, angles, 3, seed);
    for (int64_t i = 0; cosine != NULL && sine != NULL && i < angles; i++) {
        double angle = (double)sine[i];
        cosine[i] = (float)cos(angle);
        sine[i] = (float)sin(angle);
    }
    fill_list(&s, seed, work);
    gp_work_output(work, PAGES, page_bytes(backend, &s));
    gp_work_output(work, Q, (size_t)(rows * q_width(&s)) * sizeof(uint16_t));
    gp_work_library_output(work, QKV, (size_t)(rows * packed_width(&s)) * sizeof(uint16_t));
    work->yardstick.kind = GP_YARDSTICK_PRODUCT;
    work->yardstick.product.rows = rows;
    work->yardstick.product.columns = work->yardstick.product.y_stride = packed_width(&s);
    work->yardstick.product.depth = work->yardstick.product.x_stride = work->yardstick.product.w_stride =
        depth;
    work->yardstick.product.x = X;
    work->yardstick.product.w = W;
    work->yardstick.product.y = QKV;
    work->yardstick.product.residual = -1;
}

static void product_launch(const gp_case *c, gp_backend *backend, void *const *at) {
    shape s = product_shape(c);
    gp_sequence sequences[SEQUENCES_MAX];
    list_sequences(&s, at, false, sequences);
    backend->ops->linear(backend,
                         &(gp_linear){.x = at[X],
                                      .rows = (int64_t)s.sequences * s.length,
                                      .weight = gp_placed(at[W], packed_width(&s), depth_of(c)),
                                      .rope = &(gp_rope_append){.qkv = at[QKV],
                                                                .sequences = sequences,
                                                                .sequence_count = s.sequences,
                                                                .group = GROUP,
                                                                .cosine = at[COSINE],
                                                                .sine = at[SINE],
                                                                .cache = {at[PAGES], s.kv_heads, HEAD_DIM},
                                                                .q = at[Q]}});
}

/** Both sums of a pair of a head, and their turned values; the yardstick's are not turned. A sum's error
 * comes with cos and sin, and two products and a sum round 3 times. */
static void product_check(const gp_case *c, const gp_work *work, void *const *results, bool of_yardstick,
                          uint64_t *seed, gp_findings *findings) {
    shape s = product_shape(c);
    const int64_t depth = depth_of(c), row_count = (int64_t)s.sequences * s.length;
    const uint16_t *x = work->buffers[X].host, *w = work->buffers[W].host, *q = results[Q],
                   *packed = results[QKV];
    int64_t rows[GP_SAMPLES], pairs[GP_SAMPLES];
    findings->l2_bound = gp_sum_l2(depth) + GP_UNIT_BF16;
    if (!of_yardstick) gp_compare_written_bf16(findings, q, row_count * q_width(&s));
    int count = gp_sample_indices(seed, row_count, rows);
    for (int i = 0; i < count; i++) {
        const int64_t row = rows[i];
        const int sequence = (int)(row / s.length), position = (int)(row % s.length);
        int pair_count = gp_sample_indices(seed, packed_width(&s) / 2, pairs);
        for (int j = 0; j < pair_count; j++) {
            const int head = (int)(pairs[j] / HALF), kv_head = head / (GROUP + 2), slot = head % (GROUP + 2),
                      at = (int)(pairs[j] % HALF);
            const bool turned = !of_yardstick && slot <= GROUP;
            const float *cosines = work->buffers[COSINE].host, *sines = work->buffers[SINE].host;
            const double cosine = turned ? (double)cosines[(int64_t)position * HALF + at] : 1,
                         sine = turned ? (double)sines[(int64_t)position * HALF + at] : 0;
            const uint16_t *have =
                of_yardstick   ? packed + row * packed_width(&s) + head * HEAD_DIM
                : slot < GROUP ? q + row * q_width(&s) + (kv_head * GROUP + slot) * HEAD_DIM
                               : stored(&s, work, results[PAGES], sequence, position, kv_head, slot - GROUP);
            double sums[2], bounds[2];
            for (int part = 0; part < 2; part++) {
                double magnitude = 0;
                sums[part] =
                    gp_dot_bf16(x + row * depth, w + ((int64_t)head * HEAD_DIM + at + part * HALF) * depth,
                                depth, &magnitude);
                bounds[part] = gp_sum_bound(depth, magnitude);
            }
            for (int part = 0; part < 2; part++) {
                double want = sums[part] * cosine + (part == 0 ? -1 : 1) * sums[1 - part] * sine;
                double bound = bounds[part] * fabs(cosine) + bounds[1 - part] * fabs(sine);
                bound += 3 * GP_UNIT_F32 * (fabs(sums[0]) + fabs(sums[1]) + bounds[0] + bounds[1]);
                gp_compare(findings, (double)gp_bf16_to_f32(have[at + part * HALF]), want,
                           bound + GP_UNIT_BF16 * (fabs(want) + bound), row,
                           head * HEAD_DIM + at + part * HALF);
            }
        }
    }
}

const gp_family gp_family_rope = {sizeof products / sizeof *products, product_cost, product_fill,
                                  product_launch, product_check};

/* ---- attention: of whole prompts, and of their last positions alone ---- */

static shape prompt_shape(const gp_case *c) {
    return smaller(c, prompts[c->index]);
}
static shape step_shape(const gp_case *c) {
    return smaller(c, steps[c->index]);
}

static double kv_bytes(const shape *s) {
    return 2.0 * 2 * s->sequences * s->length * s->kv_heads * HEAD_DIM;
}

static void prompt_cost(const gp_case *c, gp_cost *cost) {
    shape s = prompt_shape(c);
    double length = s.length, width = (double)q_width(&s);
    snprintf(cost->name, sizeof cost->name, "paged_attention/prompt");
    size_text(&s, cost);
    cost->operations = 4 * s.sequences * (length * (length + 1) / 2) * width;
    cost->matrix = true;
    cost->bytes = 2.0 * 2 * s.sequences * length * width + kv_bytes(&s);
}

static void step_cost(const gp_case *c, gp_cost *cost) {
    shape s = step_shape(c);
    double width = (double)q_width(&s);
    snprintf(cost->name, sizeof cost->name, "decode_attention/llm");
    size_text(&s, cost);
    cost->operations = 4.0 * s.sequences * s.length * width;
    cost->matrix = true;
    cost->bytes = 2.0 * 2 * s.sequences * width + kv_bytes(&s);
}

static void attention_fill(const shape *s, const gp_backend *backend, int64_t rows, uint64_t *seed,
                           gp_work *work) {
    fill_list(s, seed, work);
    gp_work_bf16(work, PAGES, (int64_t)(page_bytes(backend, s) / sizeof(uint16_t)), 1, seed);
    gp_work_output(work, Y, (size_t)(rows * q_width(s)) * sizeof(uint16_t));
}

/** Keys and values once more as plain rows, for the yardstick. */
static void fill_plain_rows(const shape *s, gp_work *work) {
    int64_t width = (int64_t)s->kv_heads * HEAD_DIM, rows = (int64_t)s->sequences * s->length;
    uint16_t *plain[2];
    for (int part = 0; part < 2; part++)
        plain[part] = gp_work_input(work, part == 0 ? KEYS : VALUES, (size_t)(rows * width) * sizeof **plain);
    if (work->failed) return;
    for (int64_t row = 0; row < rows; row++)
        for (int head = 0; head < s->kv_heads; head++)
            for (int part = 0; part < 2; part++)
                memcpy(plain[part] + row * width + head * HEAD_DIM,
                       stored(s, work, work->buffers[PAGES].host, (int)(row / s->length),
                              (int)(row % s->length), head, part),
                       HEAD_DIM * sizeof **plain);
}

static void prompt_fill(const gp_case *c, const gp_backend *backend, uint64_t *seed, gp_work *work) {
    shape s = prompt_shape(c);
    attention_fill(&s, backend, (int64_t)s.sequences * s.length, seed, work);
    gp_work_bf16(work, Q, (int64_t)s.sequences * s.length * q_width(&s), 2, seed);
    if (work->failed) return;
    fill_plain_rows(&s, work);
    work->yardstick.kind = GP_YARDSTICK_ATTENTION;
    work->yardstick.attention.sequences = s.sequences;
    work->yardstick.attention.queries = work->yardstick.attention.keys = s.length;
    work->yardstick.attention.q_stride = work->yardstick.attention.y_stride = q_width(&s);
    work->yardstick.attention.kv_stride = (int64_t)s.kv_heads * HEAD_DIM;
    work->yardstick.attention.heads = s.kv_heads * GROUP;
    work->yardstick.attention.kv_heads = s.kv_heads;
    work->yardstick.attention.head_dim = HEAD_DIM;
    work->yardstick.attention.causal = true;
    work->yardstick.attention.scale = 1 / sqrtf(HEAD_DIM);
    work->yardstick.attention.q = Q;
    work->yardstick.attention.k = KEYS;
    work->yardstick.attention.v = VALUES;
    work->yardstick.attention.y = Y;
}

static const uint16_t *step_row(const gp_work *work, const shape *s, int64_t sequence, int head) {
    const uint16_t *qkv = work->buffers[QKV].host;
    return qkv + (sequence * s->kv_heads + head) * (GROUP + 2) * HEAD_DIM;
}

/** The steps' sequences, which have addresses in them. */
static void step_settle(const gp_case *c, gp_backend *backend, void *const *at) {
    shape s = step_shape(c);
    gp_sequence sequences[SEQUENCES_MAX];
    list_sequences(&s, at, true, sequences);
    backend->ops->upload(backend, at[STEPS], sequences, (size_t)s.sequences * sizeof *sequences);
}

/** Angles are 0, so that what a step writes is what the check expects in the pages; turning is the product's.
 */
static void step_fill(const gp_case *c, const gp_backend *backend, uint64_t *seed, gp_work *work) {
    shape s = step_shape(c);
    int64_t angles = (int64_t)s.length * HALF;
    attention_fill(&s, backend, s.sequences, seed, work);
    gp_work_bf16(work, QKV, (int64_t)s.sequences * s.kv_heads * (GROUP + 2) * HEAD_DIM, 1, seed);
    float *cosine = gp_work_input(work, COSINE, (size_t)angles * sizeof *cosine),
          *sine = gp_work_input(work, SINE, (size_t)angles * sizeof *sine);
    gp_work_input(work, STEPS, (size_t)s.sequences * sizeof(gp_sequence));
    work->settle = step_settle;
    if (work->failed) return;
    for (int64_t i = 0; i < angles; i++) {
        cosine[i] = 1;
        sine[i] = 0;
    }
    for (int sequence = 0; sequence < s.sequences; sequence++)
        for (int head = 0; head < s.kv_heads; head++)
            for (int part = 0; part < 2; part++)
                memcpy(stored(&s, work, work->buffers[PAGES].host, sequence, s.length - 1, head, part),
                       step_row(work, &s, sequence, head) + (GROUP + part) * HEAD_DIM,
                       HEAD_DIM * sizeof(uint16_t));
}

static void prompt_launch(const gp_case *c, gp_backend *backend, void *const *at) {
    shape s = prompt_shape(c);
    gp_sequence sequences[SEQUENCES_MAX];
    list_sequences(&s, at, false, sequences);
    backend->ops->paged_attention(backend, &(gp_paged_attention){.q = at[Q],
                                                                 .sequences = sequences,
                                                                 .sequence_count = s.sequences,
                                                                 .group = GROUP,
                                                                 .cache = {at[PAGES], s.kv_heads, HEAD_DIM},
                                                                 .scale = 1 / sqrtf(HEAD_DIM),
                                                                 .y = at[Y]});
}
static void step_launch(const gp_case *c, gp_backend *backend, void *const *at) {
    shape s = step_shape(c);
    backend->ops->decode_attention(backend, &(gp_decode_attention){.qkv = at[QKV],
                                                                   .sequences = at[STEPS],
                                                                   .sequence_count = s.sequences,
                                                                   .positions = s.length,
                                                                   .group = GROUP,
                                                                   .cosine = at[COSINE],
                                                                   .sine = at[SINE],
                                                                   .cache = {at[PAGES], s.kv_heads, HEAD_DIM},
                                                                   .scale = 1 / sqrtf(HEAD_DIM),
                                                                   .y = at[Y]});
}

static void attention_check(const shape *s, bool decode, const gp_work *work, const uint16_t *y,
                            uint64_t *seed, gp_findings *findings) {
    const int64_t per_sequence = decode ? 1 : s->length, width = q_width(s);
    const uint16_t *q = decode ? NULL : work->buffers[Q].host;
    const uint16_t **key = gp_pointers(s->length), **value = gp_pointers(s->length);
    int64_t rows[GP_SAMPLES];
    findings->l2_bound = GP_ATTENDED_L2;
    gp_compare_written_bf16(findings, y, s->sequences * per_sequence * width);
    int count = gp_sample_indices(seed, s->sequences * per_sequence, rows);
    for (int i = 0; i < count; i++)
        for (int kv_head = 0; kv_head < s->kv_heads; kv_head++) { /* one query of each group */
            int sequence = (int)(rows[i] / per_sequence);
            int position = decode ? s->length - 1 : (int)(rows[i] % per_sequence);
            int64_t of_group = gp_random_below(seed, GROUP), column = (kv_head * GROUP + of_group) * HEAD_DIM;
            const uint16_t *own = decode ? step_row(work, s, sequence, kv_head) + of_group * HEAD_DIM
                                         : q + rows[i] * width + column;
            float query[HEAD_DIM];
            gp_attended want;
            for (int j = 0; j <= position; j++) {
                key[j] = stored(s, work, work->buffers[PAGES].host, sequence, j, kv_head, 0);
                value[j] = stored(s, work, work->buffers[PAGES].host, sequence, j, kv_head, 1);
            }
            for (int d = 0; d < HEAD_DIM; d++) query[d] = gp_bf16_to_f32(own[d]);
            gp_attend(query, key, value, position + 1, HEAD_DIM, 1 / sqrt(HEAD_DIM), &want);
            gp_compare_attended(findings, y + rows[i] * width + column, &want, HEAD_DIM, rows[i], column);
        }
    gp_pointers_free(key);
    gp_pointers_free(value);
}

static void prompt_check(const gp_case *c, const gp_work *work, void *const *results, bool of_yardstick,
                         uint64_t *seed, gp_findings *findings) {
    shape s = prompt_shape(c);
    (void)of_yardstick; /* does the very same */
    attention_check(&s, false, work, results[Y], seed, findings);
}
static void step_check(const gp_case *c, const gp_work *work, void *const *results, bool of_yardstick,
                       uint64_t *seed, gp_findings *findings) {
    shape s = step_shape(c);
    (void)of_yardstick;
    attention_check(&s, true, work, results[Y], seed, findings);
}

const gp_family gp_family_prefill = {sizeof prompts / sizeof *prompts, prompt_cost, prompt_fill,
                                     prompt_launch, prompt_check};
const gp_family gp_family_decode = {sizeof steps / sizeof *steps, step_cost, step_fill, step_launch,
                                    step_check};
