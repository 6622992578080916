/** The engine behind geopixel.h, as the library's own tests see it. */
#pragma once

#include "runtime/request.h"

/** gp_engine_open on a backend of the caller's, who closes it after the engine: one replica, and `device` and
 * `threads` are not looked at. NULL: the engine's own. */
gp_engine *gp_engine_open_on(const gp_engine_options *options, gp_backend *backend, gp_status *status);

/** Sets the observer of all later requests (NULL: none). Only while no request is queued or running. */
void gp_engine_observe(gp_engine *engine, const gp_observer *observer);

/** The engine's model, for tests that drive its stages themselves while no request runs. */
const gp_model *gp_engine_model(const gp_engine *engine);
