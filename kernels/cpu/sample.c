/** The choice of the next token: the largest logit, or a draw from the most likely ones. */
#include "kernels/cpu/cpu.h"

#include <math.h>

static void sample_row(void *argument, int64_t row, int thread);
static int32_t largest(const float *logits, int count);
static void sort_by_logit(const float *logits, int32_t *order, int count);

void GP_CPU(sample)(gp_backend *backend, const gp_sample *sample) {
    gp_sample job = *sample;
    gp_parallel_for(backend, sample->rows, sample_row, &job);
}

static void sample_row(void *argument, int64_t row, int thread) {
    (void)thread;
    const gp_sample *sample = argument;
    const gp_token_choice *choice = &sample->choices[row];
    const float *logits = sample->logits + row * (sample->stride > 0 ? sample->stride : sample->count);
    int32_t best = largest(logits, sample->count), *token = sample->tokens + row;
    *token = best;
    if (choice->temperature <= 0) return;
    int32_t *order = sample->order + row * sample->count;
    for (int32_t i = 0; i < sample->count; i++) order[i] = i;
    sort_by_logit(logits, order, sample->count);
    double scale = 1.0 / (double)choice->temperature, total = 0, kept = 0, passed = 0;
    for (int i = 0; i < sample->count; i++)
        total += exp(((double)logits[order[i]] - (double)logits[best]) * scale);
    int set = 0;
    while (set < sample->count && (set == 0 || kept < (double)choice->top_p * total))
        kept += exp(((double)logits[order[set++]] - (double)logits[best]) * scale);
    for (int i = 0; i < set; i++) {
        passed += exp(((double)logits[order[i]] - (double)logits[best]) * scale);
        *token = order[i];
        if (passed > choice->uniform * kept) break;
    }
}

static int32_t largest(const float *logits, int count) {
    int32_t best = 0;
    for (int32_t i = 1; i < count; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

/** Whether token a comes before token b: more likely, or as likely and smaller. */
static bool before(const float *logits, int32_t a, int32_t b) {
    return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
}

/** Heap sort: in place, without recursion and without memory, which the C library's sort may ask for. */
static void sort_by_logit(const float *logits, int32_t *order, int count) {
    for (int start = count / 2 - 1, end = count; end > 1;) {
        int root;
        if (start >= 0) {
            root = start--;
        } else {
            int32_t swap = order[0];
            order[0] = order[--end];
            order[end] = swap;
            root = 0;
        }
        for (int child; (child = 2 * root + 1) < end; root = child) {
            if (child + 1 < end && before(logits, order[child], order[child + 1])) child++;
            if (!before(logits, order[root], order[child])) break;
            int32_t swap = order[root];
            order[root] = order[child];
            order[child] = swap;
        }
    }
}
