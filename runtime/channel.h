/**
 * Messages between two ranks of a group: whole messages over a stream socket, each a kind and a payload. What
 * leaders tell workers, one message or more for every token; bulk data goes by the communicator.
 *
 * One thread at a time sends on a channel and one receives; the two, and whoever shuts it down, may be
 * different ones. After a failure a channel is good for nothing but to be closed.
 */
#pragma once

#include "kernels/base/status.h"

#include <stddef.h>
#include <stdint.h>

/** After so many seconds without an answer a machine counts as gone (TCP). So whoever is sent to reads,
 * within them, what the sockets' buffers do not hold: the kernel does not tell a full one from a dead one. */
enum { GP_CHANNEL_SILENCE_SECONDS = 10 };

/** One end. */
typedef struct gp_channel {
    int fd; /* -1: none, which may be shut down and closed */
} gp_channel;

/** What was received last. Zeros are an empty one; its data are freed with gp_free. */
typedef struct gp_message {
    uint32_t kind; /* the sender's number */
    uint8_t *data; /* [bytes]; owned, used again for the next message */
    size_t bytes, capacity;
} gp_message;

/** Two ends in this process. */
bool gp_channel_pair(gp_channel ends[2], gp_status *status);

/**
 * Makes a channel of a connected stream socket, which it then owns, also where it fails (the socket is closed
 * then). TCP sends small messages at once, and notices within GP_CHANNEL_SILENCE_SECONDS, or a few more, that
 * the other machine is gone.
 */
bool gp_channel_open(gp_channel *channel, int fd, gp_status *status);

/**
 * Sends a message whose payload is first[first_bytes] and then second[second_bytes] (NULL where there are no
 * bytes); what fits the socket's buffer by one call of the system. Waits while the buffer is full.
 */
bool gp_channel_send(const gp_channel *channel, uint32_t kind, const void *first, size_t first_bytes,
                     const void *second, size_t second_bytes, gp_status *status);

/**
 * Waits for a message and takes it. The status says which it is: the other end has ended between two messages
 * or within one, what came is no message (magic), or it is longer than `most` bytes.
 */
bool gp_channel_receive(const gp_channel *channel, gp_message *message, size_t most, gp_status *status);

/** Waits until there is something to receive; whether that is nothing more than the other end's end. */
bool gp_channel_ended(const gp_channel *channel);

/**
 * Ends both directions: receives of both ends, that wait or will be called, and sends of this end fail; what
 * was sent before may still be received at the other end. A send that waits at the other end of a TCP
 * connection goes on waiting until that end is shut down too. From any thread, any number of times.
 */
void gp_channel_shutdown(const gp_channel *channel);

/** Nobody uses it any more. */
void gp_channel_close(gp_channel *channel);
