/**
 * The KV cache on the CPU: rotary positions with the write to the pages, and causal attention that reads
 * them.
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

/** (a, b) → (a·cos − b·sin, b·cos + a·sin), target element i at i·stride. */
static void rotate(const float *x, const float *cosine, const float *sine, int dim, float *target,
                   int64_t stride) {
    int half = dim / 2;
    for (int i = 0; i < half; i++) {
        float a = x[i], b = x[i + half];
        target[i * stride] = a * cosine[i] - b * sine[i];
        target[(i + half) * stride] = b * cosine[i] + a * sine[i];
    }
}

static void append_row(void *argument, int64_t index, int thread) {
    (void)thread;
    const append_job *job = argument;
    const gp_rope_append *append = job->append;
    const gp_sequence *sequence = job->sequence;
    int dim = append->cache.head_dim, group = append->group, kv_heads = append->cache.kv_heads;
    int64_t row = sequence->first_row + index, position = sequence->first_position + index;
    const float *cosine = append->cosine + position * (dim / 2), *sine = append->sine + position * (dim / 2);
    int32_t page = sequence->pages[position / GP_PAGE_TOKENS];
    int64_t slot = position % GP_PAGE_TOKENS;
    for (int head = 0; head < kv_heads; head++) {
        const float *x = gp_cpu_values(append->qkv) + (row * kv_heads + head) * (group + 2) * dim;
        float *q = gp_cpu_target(append->q) + (row * kv_heads + head) * group * dim;
        for (int i = 0; i < group; i++) rotate(x + i * dim, cosine, sine, dim, q + i * dim, 1);
        float *keys = page_head(&append->cache, page, head);
        rotate(x + group * dim, cosine, sine, dim, keys + slot, GP_PAGE_TOKENS);
        float *values = keys + (int64_t)dim * GP_PAGE_TOKENS + slot * padded(dim);
        memset(values, 0, (size_t)padded(dim) * sizeof *values);
        memcpy(values, x + (group + 1) * dim, (size_t)dim * sizeof *values);
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
    int seen = sequence->first_position + last; /* keys that the last row sees */
    for (int key = 0; key < seen; key += GP_PAGE_TOKENS) {
        int valid[ATTEND_ROWS];
        for (int i = 0; i < state->rows; i++) {
            int own = sequence->first_position + first + i / group + 1 - key;
            valid[i] = own < 0 ? 0 : own < GP_PAGE_TOKENS ? own : GP_PAGE_TOKENS;
        }
        const float *keys = page_head(&attention->cache, sequence->pages[key / GP_PAGE_TOKENS], head);
        gp_attend_over(state, keys, GP_PAGE_TOKENS, keys + (int64_t)dim * GP_PAGE_TOKENS, padded(dim),
                       GP_PAGE_TOKENS, valid, key == 0);
    }
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
