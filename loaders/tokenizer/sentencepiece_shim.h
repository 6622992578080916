/** sentencepiece as C sees it: no exception leaves, nothing is kept but the processor. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gp_sentencepiece gp_sentencepiece;

typedef enum gp_piece_kind { GP_PIECE_TEXT, GP_PIECE_BYTE, GP_PIECE_CONTROL, GP_PIECE_UNKNOWN } gp_piece_kind;

/** A processor for the model of `size` bytes at `data`. NULL with why in `message` (`capacity` bytes) on
 * failure. */
gp_sentencepiece *gp_sentencepiece_open(const void *data, size_t size, char *message, size_t capacity);
void gp_sentencepiece_close(gp_sentencepiece *processor);

int gp_sentencepiece_count(const gp_sentencepiece *processor);
int gp_sentencepiece_bos(const gp_sentencepiece *processor);

/** Piece `id`'s text in the model's form (a lower one eighth block for a space), as long as the processor. */
const char *gp_sentencepiece_piece(const gp_sentencepiece *processor, int id, size_t *length,
                                   gp_piece_kind *kind);

/** The id of a piece, -1 when there is none of that name. */
int gp_sentencepiece_id(const gp_sentencepiece *processor, const char *piece);

/** Calls `sink` with each id of the text. False with why in `message` on failure, memory included. */
bool gp_sentencepiece_encode(const gp_sentencepiece *processor, const char *text, size_t length,
                             bool (*sink)(void *user, int32_t id), void *user, char *message,
                             size_t capacity);

/** sentencepiece's own decoding into `text` (`capacity` bytes, terminated); false when it does not fit. For
 * open's check and tests. */
bool gp_sentencepiece_decode(const gp_sentencepiece *processor, const int32_t *ids, size_t count, char *text,
                             size_t capacity);

#ifdef __cplusplus
}
#endif
