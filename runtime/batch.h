/**
 * The language model's share of requests, many at once: rows of several prompts in one pass, one token of
 * every answer in another (continuous batching; Orca, OSDI 2022). What a request gets is the same bits in any
 * company: see kernels/ops.h.
 */
#pragma once

#include "runtime/request_state.h"

/**
 * Phase PREFILL, one pass: up to GP_PREFILL_ROWS rows, the first request's before the second's. Whose prompt
 * is through has its first token chosen and goes on to its next phase.
 */
void gp_batch_prefill(const gp_run *run, gp_request_state *const *requests, int count);

/** Phase DECODE, one pass: the last token of each, and the next one chosen. count ≤ GP_REQUESTS_MOST. */
void gp_batch_decode(const gp_run *run, gp_request_state *const *requests, int count);
