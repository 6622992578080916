/**
 * What is computed of a picture and of a conversation about it, and kept for the next question: the buffers
 * of the picture, and the keys and values of a sequence with the tokens that they were computed of. A session
 * has one of its own; requests without a session share one, which each of them forgets first.
 */
#pragma once

#include "runtime/kv_cache.h"
#include "runtime/plan.h"
#include "runtime/prompt.h"

/** Used on the engine's thread alone. Zeros are an empty one. */
typedef struct gp_keep {
    gp_arena arena;
    gp_seen_buffers seen; /* in the arena */
    bool source_known, tokens_known, maps_known;
    gp_division division; /* that the image tokens are of */

    gp_kv_cache *cache; /* everybody's; NULL before the first sequence */
    gp_page_table table;
    int32_t *ids;     /* [id_capacity], host; owned */
    int64_t id_count; /* positions whose keys and values are in the cache */
    int64_t id_capacity;
} gp_keep;

/** Nothing is known any more; pages are given back, other memory stays. */
void gp_keep_forget(gp_keep *keep);

/**
 * Makes room for a picture of width × height, so divided. What is known stays, but for what another division
 * or moved buffers make worthless.
 */
bool gp_keep_prepare_picture(gp_keep *keep, const gp_model *model, int width, int height,
                             const gp_division *division, gp_status *status);

/** Pages that a sequence of `tokens` positions needs beside those that it has. */
int32_t gp_keep_missing_pages(const gp_keep *keep, int64_t tokens);

/** Makes room for a sequence of `tokens` positions; the cache must have the missing pages free. */
bool gp_keep_prepare_sequence(gp_keep *keep, gp_kv_cache *cache, int64_t tokens, gp_status *status);

/**
 * Forgets the sequence from where it first differs from the prompt on, and the prompt's last position at the
 * latest, which has to be computed for its logits. Returns how many positions remain.
 */
int64_t gp_keep_common(gp_keep *keep, const gp_prompt *prompt);

/** The prompt's positions up to `end` are in the cache. */
void gp_keep_prompt(gp_keep *keep, const gp_prompt *prompt, int64_t end);

/** One more position, of a token that was generated. */
void gp_keep_token(gp_keep *keep, int32_t id);

void gp_keep_close(gp_keep *keep, gp_backend *backend);

/** Empties an arena of backend memory, which then holds at least `bytes`. */
bool gp_arena_renew(gp_arena *arena, gp_backend *backend, size_t bytes, gp_status *status);
