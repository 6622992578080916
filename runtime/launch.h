/**
 * Who this process is among those that a launcher (srun of Slurm, mpirun of Open MPI) started together, and
 * where they meet: read from the environment, nothing is asked.
 */
#pragma once

#include "kernels/base/status.h"

enum {
    GP_RANKS_MAX = 1024,     /* of one group */
    GP_HOST_BYTES = 256,     /* a host's name with its zero, as DNS has it */
    GP_JOB_TOKEN_BYTES = 128 /* with its zero */
};

typedef struct gp_launch {
    int rank, size;
    int local_rank;           /* among those on this node: which GPU is this rank's */
    char host[GP_HOST_BYTES]; /* the meeting place, where rank 0 listens: a name or an address; "" where size
                                 is 1 */
    int port;
    char token[GP_JOB_TOKEN_BYTES]; /* of the job, padded with zeros: it keeps apart groups that would meet
                                       by mistake, and is no secret */
} gp_launch;

/**
 * Reads the variables of mpirun (OMPI_COMM_WORLD_…), else of srun (SLURM_STEP_…); without either, also in the
 * shell of a batch script, rank 0 of 1. Where there are more, they meet at GEOPIXEL_RENDEZVOUS (HOST:PORT, or
 * [ADDRESS]:PORT for IPv6) where that is set; else on the first node of Slurm's step, or, where all ranks of
 * mpirun are on one node, on it, at a port between 20000 and 31999 made of the job's number. Variables that
 * are missing, malformed or contradict each other are named with their values.
 */
bool gp_launch_read(gp_launch *launch, gp_status *status);
