/**
 * The KV cache on the CPU: rotary positions with the write to the pages, causal attention that reads them,
 * and decoding steps, which do both.
 *
 * Inside a page each kv head has its keys as [head_dim, GP_PAGE_TOKENS] (what the score product wants: no
 * packing at every step), then its values as [GP_PAGE_TOKENS, head_dim rounded up to 16]. A page is one block
 * of attend.h, so a position meets the same sums whether it was decoded alone or prefilled among thousands.
 */
#include "kernels/cpu/attend.h"
#include "kernels/cpu/cpu.h"

_Static_assert(sizeof(gp_attend) <= GP_CPU_SCRATCH_BYTES, "a thread's scratch holds an attention task");

static int64_t padded(int head_dim) {
    return (head_dim + 15) / 16 * 16;
}

/** Floats of one kv head in a page. */
static int64_t head_floats(int head_dim) {
    return GP_PAGE_TOKENS * (head_dim + padded(head_dim));
}

size_t GP_CPU(kv_page_bytes)(int kv_heads, int head_dim) {
    return (size_t)(kv_heads * head_floats(head_dim)) * sizeof(float);
}

/** Where a page keeps kv head `head`: keys there, values head_dim·GP_PAGE_TOKENS floats further. */
static float *page_head(const gp_kv_layer *cache, int32_t page, int head) {
    return (float *)cache->pages + ((int64_t)page * cache->kv_heads + head) * head_floats(cache->head_dim);
}

/* ---- rope and append ---- */

typedef struct append_job {
    const gp_rope_append *append;
    const gp_sequence *sequence;
} append_job;

/** A position's halves of the tables. */
typedef struct angles {
    const float *cosine, *sine;
} angles;

static angles angles_of(const float *cosine, const float *sine, int64_t position, int dim) {
    return (angles){cosine + position * (dim / 2), sine + position * (dim / 2)};
}

/** (a, b) → (a·cos − b·sin, b·cos + a·sin), target element i at i·stride. */
static void rotate(const float *x, angles at, int dim, float *target, int64_t stride) {
    int half = dim / 2;
    for (int i = 0; i < half; i++) {
        float a = x[i], b = x[i + half];
        target[i * stride] = a * at.cosine[i] - b * at.sine[i];
        target[(i + half) * stride] = b * at.cosine[i] + a * at.sine[i];
    }
}

/** kv [2, head_dim], a position's k, not yet turned, and v of one kv head, to its page. */
static void write_position(const gp_kv_layer *cache, const int32_t *pages, int64_t position, int head,
                           const float *kv, angles at) {
    int dim = cache->head_dim;
    int64_t slot = position % GP_PAGE_TOKENS;
    float *keys = page_head(cache, pages[position / GP_PAGE_TOKENS], head);
    rotate(kv, at, dim, keys + slot, GP_PAGE_TOKENS);
    float *values = keys + (int64_t)dim * GP_PAGE_TOKENS + slot * padded(dim);
    memset(values, 0, (size_t)padded(dim) * sizeof *values);
    memcpy(values, kv + dim, (size_t)dim * sizeof *values);
}

static void append_row(void *argument, int64_t index, int thread) {
    (void)thread;
    const append_job *job = argument;
    const gp_rope_append *append = job->append;
    const gp_sequence *sequence = job->sequence;
    int dim = append->cache.head_dim, group = append->group, kv_heads = append->cache.kv_heads;
    int64_t row = sequence->first_row + index, position = sequence->first_position + index;
    angles at = angles_of(append->cosine, append->sine, position, dim);
    for (int head = 0; head < kv_heads; head++) {
        const float *x = gp_cpu_values(append->qkv) + (row * kv_heads + head) * (group + 2) * dim;
        float *q = gp_cpu_target(append->q) + (row * kv_heads + head) * group * dim;
        for (int i = 0; i < group; i++) rotate(x + i * dim, at, dim, q + i * dim, 1);
        write_position(&append->cache, sequence->pages, position, head, x + group * dim, at);
    }
}

void GP_CPU(rope_append)(gp_backend *backend, const gp_rope_append *append) {
    for (int i = 0; i < append->sequence_count; i++) {
        append_job job = {append, &append->sequences[i]};
        gp_parallel_for(backend, append->sequences[i].rows, append_row, &job);
    }
}

/* ---- attention ---- */

typedef struct attention_job {
    gp_backend *backend;
    const gp_paged_attention *attention;
    const gp_sequence *sequence;
    int positions; /* of the sequence a task: their `group` query rows fill a chunk */
    int64_t chunks;
} attention_job;

/** The state's rows, `group` of each position from `position` on, against one kv head's pages. */
static void over_pages(gp_attend *state, const gp_kv_layer *cache, const int32_t *pages, int head,
                       int position, int group) {
    int dim = cache->head_dim, seen = position + (state->rows - 1) / group + 1; /* keys of the last row */
    for (int key = 0; key < seen; key += GP_PAGE_TOKENS) {
        int valid[ATTEND_ROWS];
        for (int i = 0; i < state->rows; i++) {
            int own = position + i / group + 1 - key;
            valid[i] = own < 0 ? 0 : own < GP_PAGE_TOKENS ? own : GP_PAGE_TOKENS;
        }
        const float *keys = page_head(cache, pages[key / GP_PAGE_TOKENS], head);
        gp_attend_over(state, keys, GP_PAGE_TOKENS, keys + (int64_t)dim * GP_PAGE_TOKENS, padded(dim),
                       GP_PAGE_TOKENS, valid, key == 0);
    }
}

/** One kv head and a run of positions of one sequence. */
static void run_positions(void *argument, int64_t index, int thread) {
    const attention_job *job = argument;
    const gp_paged_attention *attention = job->attention;
    const gp_sequence *sequence = job->sequence;
    gp_attend *state = gp_cpu_scratch(job->backend, thread);
    int dim = attention->cache.head_dim, group = attention->group, kv_heads = attention->cache.kv_heads;
    int head = (int)(index / job->chunks);
    /* The longest chunks first, so that threads end together: later positions see more keys. */
    int first = (int)(job->chunks - 1 - index % job->chunks) * job->positions;
    int last = first + job->positions < sequence->rows ? first + job->positions : sequence->rows;
    gp_attend_start(state, dim);
    for (int row = first; row < last; row++) {
        const float *q = gp_cpu_values(attention->q) +
                         ((int64_t)(sequence->first_row + row) * kv_heads + head) * group * dim;
        for (int i = 0; i < group; i++) gp_attend_query(state, q + i * dim, attention->scale);
    }
    over_pages(state, &attention->cache, sequence->pages, head, sequence->first_position + first, group);
    for (int i = 0; i < state->rows; i++) {
        int64_t row = sequence->first_row + first + i / group;
        gp_attend_result(state, i,
                         gp_cpu_target(attention->y) + ((row * kv_heads + head) * group + i % group) * dim);
    }
}

void GP_CPU(paged_attention)(gp_backend *backend, const gp_paged_attention *attention) {
    for (int i = 0; i < attention->sequence_count; i++) {
        attention_job job = {backend, attention, &attention->sequences[i], ATTEND_ROWS / attention->group, 0};
        job.chunks = (attention->sequences[i].rows + job.positions - 1) / job.positions;
        gp_parallel_for(backend, attention->cache.kv_heads * job.chunks, run_positions, &job);
    }
}

/* ---- decoding steps ---- */

typedef struct decode_job {
    gp_backend *backend;
    const gp_decode_attention *attention;
} decode_job;

/** One kv head of one sequence: its new position to the page, then the group's queries over all pages. */
static void decode_head(void *argument, int64_t index, int thread) {
    const decode_job *job = argument;
    const gp_decode_attention *attention = job->attention;
    gp_attend *state = gp_cpu_scratch(job->backend, thread);
    int dim = attention->cache.head_dim, group = attention->group, kv_heads = attention->cache.kv_heads;
    const gp_sequence *sequence = &attention->sequences[index / kv_heads];
    int head = (int)(index % kv_heads), position = sequence->first_position;
    if (sequence->rows == 0) return;
    int64_t kv_row = (int64_t)sequence->first_row * kv_heads + head;
    const float *x = gp_cpu_values(attention->qkv) + kv_row * (group + 2) * dim;
    angles at = angles_of(attention->cosine, attention->sine, position, dim);
    write_position(&attention->cache, sequence->pages, position, head, x + group * dim, at);
    gp_attend_start(state, dim);
    for (int i = 0; i < group; i++) {
        float q[ATTEND_DIM];
        rotate(x + i * dim, at, dim, q, 1);
        gp_attend_query(state, q, attention->scale);
    }
    over_pages(state, &attention->cache, sequence->pages, head, position, group);
    for (int i = 0; i < group; i++)
        gp_attend_result(state, i, gp_cpu_target(attention->y) + (kv_row * group + i) * dim);
}

void GP_CPU(decode_attention)(gp_backend *backend, const gp_decode_attention *attention) {
    decode_job job = {backend, attention};
    gp_parallel_for(backend, (int64_t)attention->sequence_count * attention->cache.kv_heads, decode_head,
                    &job);
}
