/** The engine behind geopixel.h, as the library's own tests see it. */
#pragma once

#include "runtime/request.h"

/** The backend that an engine with these options computes on; gp_backend_close frees it. */
bool gp_engine_open_backend(gp_device device, int threads, gp_backend **backend, gp_status *status);

/** Sets the observer of all later requests (NULL: none). Only while no request is queued or running. */
void gp_engine_observe(gp_engine *engine, const gp_observer *observer);

/** The engine's model, for tests that drive its stages themselves while no request runs. */
const gp_model *gp_engine_model(const gp_engine *engine);
