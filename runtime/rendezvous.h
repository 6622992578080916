/**
 * How the processes of a group meet: rank 0, the leader, listens, the others, its workers, connect and say
 * who they are, and all begin when all have come. Each worker then has a channel to the leader.
 */
#pragma once

#include "runtime/channel.h"
#include "runtime/launch.h"

/** How long ranks wait for each other, where nobody knows better. */
enum { GP_RENDEZVOUS_SECONDS = 120 };

typedef struct gp_group {
    int rank, size;
    gp_channel *channels;         /* leader: [size], none at [0]; worker: [1], to the leader; owned */
    char (*hosts)[GP_HOST_BYTES]; /* leader: [size], the name of each rank's machine; else NULL; owned */
} gp_group;

/**
 * Waits until all ranks have met, `seconds` from the leader's beginning at most; a group of one is there at
 * once. Strangers (another job, another version, a rank that is there already, garbage, silence) are turned
 * away and hinder nobody. The status names the ranks that did not come, or says at the worker that nobody
 * listens, or why the leader refused.
 *
 * The leader listens at launch->host where that is an address, else, because a machine's own name often means
 * its loopback device, at all of its addresses.
 */
bool gp_rendezvous(const gp_launch *launch, double seconds, gp_group *group, gp_status *status);

/** Closes the channels; nobody uses them any more. */
void gp_group_close(gp_group *group);
