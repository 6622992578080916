/**
 * One decoding step of several sequences: what is this step's own goes up as one record, the layers run, and
 * a token of each lies in backend memory. Where the backend records operations, they are recorded once for so
 * many rows and so many positions, rounded up, and replayed from then on; rows beyond the sequences are
 * nobody's.
 */
#pragma once

#include "runtime/request.h"

enum {
    GP_STEP_ROWS = 9,     /* numbers of rows that steps are rounded up to */
    GP_STEP_LENGTHS = 22, /* the same of positions: powers of two from 1024 on, up to 2^31 */
};

/**
 * Steps that were recorded. Zeros: none. Ranks record, replay and forget the same steps together, since a
 * collective operation is recorded in all of them or in none: the leader counts generations, and tells with
 * each step which it is of.
 */
typedef struct gp_recorded_steps {
    gp_recording *steps[GP_STEP_ROWS][GP_STEP_LENGTHS];
    const unsigned char *stage; /* where the buffers lay that are recorded, and */
    uint64_t moves;             /* run->cache->moves then */
    uint64_t told;              /* of the leader: gp_ranks_moves then */
    int32_t generation;
} gp_recorded_steps;

/**
 * The step's first `count` sequences, all at positions below `positions`; the record's others must be zeros.
 * `tables` are theirs: other ranks, which make the step too, are told what pages they have.
 * Tokens, hidden rows after the final norm and logits then lie in `buffers`, which are laid out in the stage
 * arena here. Fails where there is no memory for them, or for a recording.
 */
bool gp_decode_step(const gp_run *run, const gp_step *step, const gp_page_table *const *tables, int count,
                    int positions, gp_batch_buffers *buffers, gp_status *status);

/** The tokens of the first `rows` rows of buffers->logits, by buffers->step->choices. */
void gp_decode_choose(const gp_model *model, const gp_batch_buffers *buffers, int rows);

/** A worker's, before a step or a recording of that generation: forgets what was recorded in another. */
bool gp_decode_follow(const gp_run *run, int32_t generation, gp_status *status);

/** Records steps of all sizes, where the backend does: the stage arena and the cache are there, and will not
 * move; on all ranks. */
bool gp_decode_record_all(const gp_run *run, gp_status *status);

/** Waits for the device and forgets what was recorded. False where an operation had failed. */
bool gp_decode_forget(const gp_run *run, gp_status *status);
