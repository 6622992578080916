/**
 * A replica on several devices: rank 0, the leader, runs requests; the others, its workers, hold their parts
 * of the language model's matrices and of its keys and values, and do with them what the leader says
 * (tensor parallelism; Megatron-LM, arXiv 1909.08053). Rank r's part is runtime/split.h's. Workers
 * (worker.h) are threads of this process, each with a backend of its own, or where a launcher started as many
 * processes, these (processes.h).
 *
 * The sums over ranks are made in their order, whatever stands beside them, so that a request gets the same
 * bits in any company with the same number of ranks.
 */
#pragma once

#include "runtime/kv_cache.h"
#include "runtime/plan.h"

#include <stdatomic.h>
#include <unistd.h>

typedef struct gp_ranks gp_ranks;

/**
 * Starts the workers of the engine's `replica`-th replica: options->ranks − 1 of them, which open their
 * backends and parts of the model. The options and what they point to stay until gp_ranks_join. Used by one
 * thread, the leader's.
 */
bool gp_ranks_start(const gp_engine_options *options, int replica, gp_ranks **ranks, gp_status *status);

/** Elements of the largest sum over ranks. */
static inline size_t gp_ranks_largest_sum(const gp_language *language) {
    return (size_t)GP_PREFILL_ROWS * (size_t)language->config.hidden_size;
}

/** Waits until all workers are ready, and makes one group of them and the leader's backend. `model` is the
 * leader's part; its language model sums over the group from then on. `requests`: the most that a pass will
 * be of. Fails with what the first could not do. */
bool gp_ranks_join(gp_ranks *ranks, gp_model *model, int requests, gp_status *status);

/** The GPU, or the share of the CPU, of the leader of the engine's `replica`-th replica. */
int gp_ranks_device(const gp_ranks *ranks, int replica);

/** Ends the workers and waits for them. NULL is allowed. */
void gp_ranks_close(gp_ranks *ranks);

/** Whether all ranks are there and their group works; fails with what does not, from then on for ever.
 * From any thread. */
bool gp_ranks_check(gp_ranks *ranks, gp_status *status);

/** The leader cannot do its part of what it has told: nobody waits for it any more. */
void gp_ranks_give_up(gp_ranks *ranks);

/** Makes every worker's stage arena hold so many bytes. */
bool gp_ranks_use_stage(gp_ranks *ranks, size_t bytes, gp_status *status);

/** Makes every worker's cache hold so many pages. */
bool gp_ranks_use_pages(gp_ranks *ranks, int32_t pages, gp_status *status);

/** How often one of these two made workers have other memory: their buffers move at no other time. */
uint64_t gp_ranks_moves(const gp_ranks *ranks);

/** Every worker copies what one page has to another, after what it was told before. */
void gp_ranks_copy_page(gp_ranks *ranks, int32_t from, int32_t to);

/** Rows of prompts that go through the language model together. */
typedef struct gp_pass {
    int64_t rows;
    const gp_sequence *sequences;       /* [sequence_count] */
    const gp_page_table *const *tables; /* [sequence_count] */
    int sequence_count;
    const int32_t *finals; /* [final_count] rows whose logits are wanted */
    int final_count;
} gp_pass;

/**
 * Tells the workers of a pass and gives them buffers' x and image_row. The leader then calls
 * gp_language_forward, and final and logits for each of `finals`, as they do.
 */
void gp_ranks_pass(gp_ranks *ranks, const gp_pass *pass, const gp_language *language,
                   const gp_language_buffers *buffers);

/** Tells the workers of the decoding step that the leader makes next; the first `count` sequences of `step`
 * have these tables, and what is recorded of it is of that generation (gp_recorded_steps). */
void gp_ranks_step(gp_ranks *ranks, const gp_step *step, const gp_page_table *const *tables, int count,
                   int positions, int32_t generation);

/** Tells the workers of the views that the leader gives to gp_vision_encode next. */
void gp_ranks_look(gp_ranks *ranks, int views);

/** Tells the workers of the pictures that it gives to gp_grounding_encode, for which it has laid out buffers
 * of that width and height. */
void gp_ranks_ground(gp_ranks *ranks, int pictures, int width, int height);

/** Tells the workers to record decoding steps, as the leader does next. */
void gp_ranks_record(gp_ranks *ranks, int32_t generation);

/** The communicator, waited for while it is being joined, where it is stored as soon as it can be ended; NULL
 * where there is none. For a watch's thread. */
static inline gp_communicator *gp_communicator_when_joined(const _Atomic(gp_communicator *) *communicator,
                                                           const atomic_bool *joining) {
    while (atomic_load(communicator) == NULL && atomic_load(joining)) usleep(1000);
    return atomic_load(communicator);
}

/** Waits for all devices, the leader's too; fails where one of them did since the last time. */
bool gp_ranks_wait(gp_ranks *ranks, gp_status *status);
