/** A case made ready on a backend: its buffers several times over, launches of it, and the check of what came
 * out. */
#pragma once

#include "bench/kernels/case.h"

enum { GP_SETS_MAX = 256 };

typedef struct gp_trial {
    gp_case chosen;
    gp_backend *backend;
    gp_work work; /* what the buffers hold, in host memory */
    int sets;     /* copies of all buffers, at addresses of their own */
    void *at[GP_SETS_MAX][GP_BUFFERS_MAX];
} gp_trial;

/**
 * Fills the case's inputs and puts them on the backend: at least two sets, as many as make `cold_bytes`
 * together (at most GP_SETS_MAX), so that launches of one set after the other find nothing of theirs in a
 * cache of a third of that. Fails where memory is out. Close it with gp_trial_close, failed or not.
 */
bool gp_trial_open(gp_trial *trial, const gp_case *chosen, gp_backend *backend, size_t cold_bytes,
                   uint64_t *seed, gp_status *status);
void gp_trial_close(gp_trial *trial);

/** Bytes of one set. */
size_t gp_trial_set_bytes(const gp_trial *trial);

/** Launches the case on a set; does not wait. */
void gp_trial_launch(const gp_trial *trial, int set);

/** What a set's launches gave is poisoned (0xFF), or what a sum began with. */
bool gp_trial_reset(const gp_trial *trial, int set, gp_status *status);

/** Checks what the last launch on a set left, by the case itself or by its yardstick. Fails only where memory
 * is out or the backend reports an error; what is wrong with the result stands in `findings`. */
bool gp_trial_check(const gp_trial *trial, int set, bool of_yardstick, uint64_t *seed, gp_findings *findings,
                    gp_status *status);

/** Launches two sets anew, the first and the last, and compares their results' bits: a difference is a race.
 */
bool gp_trial_same_bits(const gp_trial *trial, bool *same, gp_status *status);
