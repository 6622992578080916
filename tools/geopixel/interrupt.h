/** Ctrl-C: the first asks for a clean end, the second ends at once. SIGTERM is the same. */
#pragma once

#include "runtime/geopixel.h"

/** Handles SIGINT and SIGTERM from now on, in the thread that calls this, and ignores SIGPIPE: a closed pipe
 * shows as a failed write. */
void gp_interrupt_watch(void);

/** The request that a signal cancels from now on; NULL: none. A signal that came before cancels it at once.
 */
void gp_interrupt_cancels(gp_request *request);

bool gp_interrupted(void);

/** Ctrl-C was obeyed, and the next one is the first again. False, and nothing is forgotten, after SIGTERM. */
bool gp_interrupt_forget(void);
