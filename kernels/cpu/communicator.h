/** Ranks of the CPU backend: threads of one process, which meet in memory. */
#pragma once

#include "kernels/ops.h"

size_t gp_cpu_communicator_bytes(int size, size_t most);
bool gp_cpu_communicator_id(gp_communicator_id *id, gp_status *status);
bool gp_cpu_join(gp_backend *backend, const gp_communicator_id *id, int rank, int size, size_t most,
                 gp_communicator **communicator, gp_status *status);
