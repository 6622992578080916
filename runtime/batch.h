/**
 * What requests go through together: views of several pictures in one pass of the vision encoder, rows of
 * several prompts in one of the language model, one token of every answer in another (continuous batching;
 * Orca, OSDI 2022), [SEG]s of several answers in one of the mask decoder. A pass is bounded, so that none
 * keeps the others waiting. What a request gets is the same bits in any company: see kernels/ops.h.
 */
#pragma once

#include "runtime/request_state.h"

/**
 * Phase VISION, one pass: up to GP_VIEW_BATCH views, the first picture's before the second's. Whose picture
 * is through has its image tokens made and goes on to its next phase. count ≤ GP_VISION_PICTURES.
 */
void gp_batch_look(const gp_run *run, gp_request_state *const *requests, int count);

/**
 * Phase PREFILL, one pass: up to GP_PREFILL_ROWS rows, the first request's before the second's. Whose prompt
 * is through has its first token chosen and goes on to its next phase.
 */
void gp_batch_prefill(const gp_run *run, gp_request_state *const *requests, int count);

/** Phase DECODE, one pass: the last token of each, and the next one chosen. count ≤ GP_REQUESTS_MOST. */
void gp_batch_decode(const gp_run *run, gp_request_state *const *requests, int count);

/**
 * Requests whose answer has a [SEG], phase DECODE or MASKS (gp_plan_grounds_beside), or MASKS: the pictures
 * of the first that have no maps, up to run->groundings, are given to the grounding encoder on
 * GP_LANE_GROUND, where it runs beside what comes after on the main lane.
 */
void gp_batch_ground(const gp_run *run, gp_request_state *const *requests, int count);

/**
 * Phase MASKS: the phrases of those whose text has just ended and, where their maps are known, one pass of
 * the mask decoder of up to GP_MASK_BATCH [SEG]s, the first answer's before the second's. Who has all masks
 * is over. With ranks, up to run->groundings pictures go through the grounding encoder first.
 */
void gp_batch_draw(const gp_run *run, gp_request_state *const *requests, int count);
