/**
 * What a leader (rank 0) tells its workers over their channels, and what they answer. Payloads are arrays of
 * int32_t unless said otherwise, in the machine's byte order: all ranks run the same program. Bulk data never
 * goes this way; the communicator carries it.
 */
#pragma once

#include <stdint.h>

/** Kinds of messages. */
enum {
    GP_ORDER_OPEN =
        1,         /* gp_open_order, to processes: open your part of an engine with these options; answered */
    GP_ORDER_JOIN, /* gp_communicator_id and int64_t most: join that group; answered */
    GP_ORDER_STAGE,     /* uint64_t: the stages' arena holds so many bytes; answered */
    GP_ORDER_CACHE,     /* pages: so many pages of keys and values are there; answered */
    GP_ORDER_COPY_PAGE, /* from, to */
    GP_ORDER_PASS,      /* GP_PASS_HEAD …: rows of prompts through the language model */
    GP_ORDER_STEP,      /* the same: a decoding step of each sequence */
    GP_ORDER_RECORD,    /* generation: gp_decode_record_all */
    GP_ORDER_LOOK,      /* views: gp_vision_share them */
    GP_ORDER_GROUND,    /* pictures, their largest width and height: gp_grounding_share them */
    GP_ORDER_WAIT,      /* wait for the device; answered, with what failed since the last time */
    GP_ORDER_END,       /* answered; then leave the group, as the leader does at the same time, and close */
    GP_ANSWER_DONE,     /* nothing */
    GP_ANSWER_FAILED,   /* text */
};

/**
 * A pass: rows, sequences, finals, and of a step the positions below which all sequences are, and the
 * generation of recorded steps that it belongs to (gp_recorded_steps); `finals`
 * numbers of rows whose logits are wanted; then for each sequence its first_row, rows, first_position, the
 * number of its pages, and the pages. A step has one row a sequence and no finals.
 */
enum { GP_PASS_ROWS, GP_PASS_SEQUENCES, GP_PASS_FINALS, GP_PASS_POSITIONS, GP_PASS_GENERATION, GP_PASS_HEAD };

/** Words before each sequence's pages. */
enum { GP_PASS_FIRST_ROW, GP_PASS_SEQUENCE_ROWS, GP_PASS_FIRST_POSITION, GP_PASS_PAGES, GP_PASS_SEQUENCE };

/** No order or answer is longer. */
enum { GP_ORDER_BYTES_MAX = 64 << 20 };
