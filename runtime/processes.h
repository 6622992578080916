/**
 * Ranks that are processes, started together by a launcher, on one node or several. They meet once in their
 * lives (rendezvous.h), each with its own command line, which is the same; the leader's process then opens
 * engines, one after the other, and the workers' serve them (gp_serve_rank of geopixel.h).
 */
#pragma once

#include "runtime/geopixel.h"
#include "runtime/rendezvous.h"

/**
 * The leader's group of options->ranks processes, which the first call meets; lent until
 * gp_processes_give_back. `*group` is NULL where no launcher started several. Fails where it started another
 * number, where processes cannot serve such an engine, where the group is lent already, where a rank is gone,
 * and in a worker's process.
 */
bool gp_processes_borrow(const gp_engine_options *options, gp_group **group, gp_status *status);

/** `whole`: all ranks are there and wait for the next engine. */
void gp_processes_give_back(bool whole);

/** The GPU of this process where a launcher started several: by its number on its node, among those that it
 * sees. 0 where there is none. */
int gp_processes_device(void);

/** What a worker's engine options are to have of the leader's (GP_ORDER_OPEN). */
typedef struct gp_open_order {
    int32_t requests;
    int64_t cache_tokens;
    gp_limits limits;
} gp_open_order;
