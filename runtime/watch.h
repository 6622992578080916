#pragma once
#include "runtime/channel.h"
typedef struct gp_watch gp_watch;
bool gp_watch_start(const gp_channel *channels, int count, void (*gone)(void *user, int which), void *user,
                    gp_watch **watch, gp_status *status);
void gp_watch_stop(gp_watch *watch);
