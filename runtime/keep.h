/**
 * What is computed of a picture and of conversations about it, and kept for the next question: the buffers of
 * the picture, and the keys and values of the last conversation with the tokens that they were computed of. A
 * session has one; requests without a session have each their place's, which they forget first. Every running
 * request has a sequence of its own, which shares the pages of what was computed before it.
 */
#pragma once

#include "runtime/kv_cache.h"
#include "runtime/plan.h"
#include "runtime/prompt.h"

/** Keys and values of the first id_count positions. Zeros are an empty one. */
typedef struct gp_kept_sequence {
    gp_kv_cache *cache; /* everybody's; NULL before the first position */
    gp_page_table table;
    int32_t *ids; /* [id_capacity], host; owned */
    int64_t id_count, id_capacity;
} gp_kept_sequence;

/** Used on the engine's thread alone. Zeros are an empty one. */
typedef struct gp_keep gp_keep;
struct gp_keep {
    gp_arena arena;
    gp_seen_buffers seen; /* in the arena */
    bool source_known, tokens_known, maps_known;
    bool maps_under_way;   /* GP_LANE_GROUND was given them, and reads `source` for them; the main lane has
                              not waited for it since */
    gp_division division;  /* that the image tokens are of */
    gp_kept_sequence last; /* of the conversation that was computed last; running ones may share its pages */
    int running;           /* requests whose sequence has begun and not ended */
    uint64_t forgotten;    /* how often: what began before is not kept */
    gp_keep *next;         /* of sessions that were asked something; the scheduler's, as is */
    uint64_t used;         /* when a question last came or ended: counted, not timed */
};

/** Nothing is known any more; pages are given back, other memory stays. */
void gp_keep_forget(gp_keep *keep);

/** Whether a request with that division may be prepared now: not while others read image tokens of another
 * one. */
bool gp_keep_admits(const gp_keep *keep, const gp_division *division);

/** Whether the image tokens of that division are known. */
bool gp_keep_knows_tokens(const gp_keep *keep, const gp_division *division);

/** Gives back the pages of the last conversation of that keep in the list, but `own`, which was used longest
 * ago of those that have any; false where none has. No request of those in the list may run. */
bool gp_keep_take_pages(gp_keep *first, const gp_keep *own);

/**
 * Makes room for a picture of width × height, so divided. What is known stays, but for what another division
 * or moved buffers make worthless.
 */
bool gp_keep_prepare_picture(gp_keep *keep, const gp_model *model, int width, int height,
                             const gp_division *division, gp_status *status);

/** Allocates for an empty one what it will need: its arena, and a table of so many pages. Tables wander
 * between sequences (gp_kept_begin, gp_kept_end): those of a cache that is planned are all as long. */
bool gp_keep_reserve(gp_keep *keep, gp_kv_cache *cache, size_t bytes, int32_t pages, gp_status *status);

void gp_keep_close(gp_keep *keep, gp_backend *backend);

/**
 * Positions at the prompt's beginning whose keys and values `sequence` has; not the prompt's last position,
 * which has to be computed for its logits.
 */
int64_t gp_kept_common(const gp_kept_sequence *sequence, const gp_prompt *prompt,
                       const gp_division *division);

/** Allocates an empty one's table. */
bool gp_kept_reserve(gp_kept_sequence *sequence, gp_kv_cache *cache, int32_t pages, gp_status *status);

/** Pages that must be free for gp_kept_begin. */
int32_t gp_kept_missing_pages(const gp_keep *keep, int64_t common, int64_t tokens);

/**
 * Begins a sequence (empty) of at most `tokens` positions with the first `common` ones of keep->last: takes
 * that over where no other request runs, else shares its pages.
 */
bool gp_kept_begin(gp_kept_sequence *sequence, gp_keep *keep, gp_kv_cache *cache, int64_t common,
                   int64_t tokens, gp_status *status);

/** The prompt's positions up to `end` are in the cache. */
void gp_kept_prompt(gp_kept_sequence *sequence, const gp_prompt *prompt, const gp_division *division,
                    int64_t end);

/** One more position, of a token that was generated. */
void gp_kept_token(gp_kept_sequence *sequence, int32_t id);

/** While `sequence` goes on, others may begin with what it has; where there is no room for that, they may
 * not. */
void gp_kept_share(const gp_kept_sequence *sequence, gp_keep *keep);

/** The sequence ends and its first `positions` become keep->last; pages that hold none of them are given
 * back. It is empty then. */
void gp_kept_end(gp_kept_sequence *sequence, gp_keep *keep, int64_t positions);

/** Gives the pages back; the memory stays. */
void gp_kept_release(gp_kept_sequence *sequence);

void gp_kept_close(gp_kept_sequence *sequence);

/** Empties an arena of backend memory, which then holds at least `bytes`. */
bool gp_arena_renew(gp_arena *arena, gp_backend *backend, size_t bytes, gp_status *status);
