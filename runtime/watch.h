/**
 * Notices at once that the other end of a channel is gone, also while nobody receives from it: a rank that
 * waits in a collective operation for one that was killed would wait for ever.
 */
#pragma once

#include "runtime/channel.h"

typedef struct gp_watch gp_watch;

/**
 * Begins a thread that calls gone(user, i) once for each of channels[count] whose other end has closed or
 * shut down, was killed, or no longer answers, or that is shut down at this end; those without a socket are
 * left out. It reads nothing: messages that came before the end are there to be received. The channels stay
 * open until the watch is stopped.
 *
 * `gone` runs on that thread; it may shut channels down, and must not stop the watch.
 */
bool gp_watch_start(gp_watch **watch, const gp_channel *channels, int count,
                    void (*gone)(void *user, int which), void *user, gp_status *status);

/** Ends the thread; after it returns `gone` is not called. NULL is allowed. */
void gp_watch_stop(gp_watch *watch);
