/** Processes that a launcher started together with this one (gp_serve_rank). */
#pragma once

#include "runtime/geopixel.h"

/** Called before a command does anything, with the options of its engines. True where this process is not the
 * one that leads: it has served, and ends with *code; what went wrong is told. */
bool gp_served_rank(const gp_engine_options *options, int *code);
