#include "runtime/launch.h"

#include <ctype.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIGITS "0123456789"

/* Below the ports that Linux gives to outgoing connections (from 32768), above those that services have. */
enum { FIRST_PORT = 20000, PORT_COUNT = 12000 };

static bool read_open_mpi(gp_launch *launch, gp_status *status);
static bool read_slurm(gp_launch *launch, gp_status *status);
static bool read_rendezvous(const char *text, gp_launch *launch, gp_status *status);
static bool read_number(const char *name, long least, long most, long *out, gp_status *status);
static bool check_rank(const char *rank_name, long rank, const char *size_name, long size, gp_status *status);
static bool first_host(const char *name, const char *list, char out[GP_HOST_BYTES], gp_status *status);
static const char *behind_bracket(const char *at);
static bool set_token(const char *launcher, const char *job, gp_launch *launch, gp_status *status);
static int port_of(const char *token);

bool gp_launch_read(gp_launch *launch, gp_status *status) {
    *launch = (gp_launch){.size = 1};
    /* mpirun within a Slurm job starts its daemons by srun, and its ranks inherit the daemons' variables. */
    if (getenv("OMPI_COMM_WORLD_SIZE") != NULL || getenv("OMPI_COMM_WORLD_RANK") != NULL)
        return read_open_mpi(launch, status);
    /*
     * srun sets SLURM_STEP_ID and SLURM_STEP_NUM_TASKS for the tasks it starts; the shell of a batch script
     * has SLURM_PROCID=0 and SLURM_NTASKS of the job, but no step.
     */
    if (getenv("SLURM_STEP_ID") != NULL && getenv("SLURM_STEP_NUM_TASKS") != NULL)
        return read_slurm(launch, status);
    return true;
}

static bool read_open_mpi(gp_launch *launch, gp_status *status) {
    long rank, size, local_rank, local_size;
    if (!read_number("OMPI_COMM_WORLD_SIZE", 1, GP_RANKS_MAX, &size, status) ||
        !read_number("OMPI_COMM_WORLD_RANK", 0, INT_MAX, &rank, status) ||
        !read_number("OMPI_COMM_WORLD_LOCAL_SIZE", 1, INT_MAX, &local_size, status) ||
        !read_number("OMPI_COMM_WORLD_LOCAL_RANK", 0, INT_MAX, &local_rank, status) ||
        !check_rank("OMPI_COMM_WORLD_RANK", rank, "OMPI_COMM_WORLD_SIZE", size, status) ||
        !check_rank("OMPI_COMM_WORLD_LOCAL_RANK", local_rank, "OMPI_COMM_WORLD_LOCAL_SIZE", local_size,
                    status))
        return false;
    if (local_size > size)
        return gp_fail(status, "OMPI_COMM_WORLD_LOCAL_SIZE=%ld is more than OMPI_COMM_WORLD_SIZE=%ld",
                       local_size, size);
    launch->rank = (int)rank;
    launch->size = (int)size;
    launch->local_rank = (int)local_rank;
    if (size == 1) return true;

    /* PMIx, by which Open MPI starts its ranks since version 4, names the job on all of its nodes. */
    const char *job = getenv("PMIX_NAMESPACE"), *place = getenv("GEOPIXEL_RENDEZVOUS");
    if (job != NULL && !set_token("Open MPI", job, launch, status)) return false;
    if (place != NULL) return read_rendezvous(place, launch, status);
    if (local_size != size)
        return gp_fail(status,
                       "%ld ranks of Open MPI on several nodes (OMPI_COMM_WORLD_LOCAL_SIZE=%ld): set "
                       "GEOPIXEL_RENDEZVOUS=HOST:PORT, where HOST is the node of rank 0",
                       size, local_size);
    if (job == NULL)
        return gp_fail(status,
                       "%ld ranks of Open MPI without PMIX_NAMESPACE: set "
                       "GEOPIXEL_RENDEZVOUS=127.0.0.1:PORT",
                       size);
    snprintf(launch->host, sizeof launch->host, "127.0.0.1");
    launch->port = port_of(launch->token);
    return true;
}

static bool read_slurm(gp_launch *launch, gp_status *status) {
    long job, step, rank, size, job_size, local_rank;
    if (!read_number("SLURM_STEP_ID", 0, UINT32_MAX, &step, status) ||
        !read_number("SLURM_STEP_NUM_TASKS", 1, GP_RANKS_MAX, &size, status))
        return false;
    /* One task is alone, whatever its job has: it may be an interactive shell, or a job submitted from one,
     * which inherits the step's variables. */
    if (size == 1) return true;
    if (!read_number("SLURM_PROCID", 0, INT_MAX, &rank, status) ||
        !read_number("SLURM_LOCALID", 0, INT_MAX, &local_rank, status) ||
        !read_number("SLURM_JOB_ID", 0, UINT32_MAX, &job, status) ||
        !check_rank("SLURM_PROCID", rank, "SLURM_STEP_NUM_TASKS", size, status) ||
        !check_rank("SLURM_LOCALID", local_rank, "SLURM_STEP_NUM_TASKS", size, status))
        return false;
    /* srun sets both alike. They differ in a batch script that was submitted from within another step. */
    if (getenv("SLURM_NTASKS") != NULL) {
        if (!read_number("SLURM_NTASKS", 1, INT_MAX, &job_size, status)) return false;
        if (job_size != size)
            return gp_fail(status,
                           "SLURM_NTASKS=%ld contradicts SLURM_STEP_NUM_TASKS=%ld: start the ranks by srun",
                           job_size, size);
    }
    launch->rank = (int)rank;
    launch->size = (int)size;
    launch->local_rank = (int)local_rank;

    char name[48];
    snprintf(name, sizeof name, "%ld.%ld", job, step);
    if (!set_token("Slurm", name, launch, status)) return false;
    const char *place = getenv("GEOPIXEL_RENDEZVOUS"), *nodes = getenv("SLURM_STEP_NODELIST");
    if (place != NULL) return read_rendezvous(place, launch, status);
    if (nodes == NULL) return gp_fail(status, "SLURM_STEP_NODELIST is not set");
    launch->port = port_of(launch->token);
    return first_host("SLURM_STEP_NODELIST", nodes, launch->host, status);
}

/* HOST:PORT or [ADDRESS]:PORT. */
static bool read_rendezvous(const char *text, gp_launch *launch, gp_status *status) {
    const char *host = text, *end = strrchr(text, ':'), *port = end != NULL ? end + 1 : "";
    long number = 0;
    bool digits = *port != '\0' && strlen(port) <= 5 && strspn(port, DIGITS) == strlen(port);
    if (digits) number = strtol(port, NULL, 10);
    if (end != NULL && *host == '[' && end > host + 1 && end[-1] == ']') {
        host++;
        end--;
    } else if (end != NULL && memchr(host, ':', (size_t)(end - host)) != NULL) {
        return gp_fail(status, "GEOPIXEL_RENDEZVOUS=%s: an IPv6 address stands in brackets: [ADDRESS]:PORT",
                       text);
    }
    size_t length = end != NULL ? (size_t)(end - host) : 0;
    bool named = length > 0 && length < GP_HOST_BYTES;
    for (size_t i = 0; i < length; i++)
        if (!isgraph((unsigned char)host[i]) || strchr("[]/", host[i]) != NULL) named = false;
    if (!named || number < 1 || number > 65535)
        return gp_fail(status, "GEOPIXEL_RENDEZVOUS=%s: not HOST:PORT or [ADDRESS]:PORT", text);
    memcpy(launch->host, host, length);
    launch->host[length] = '\0';
    launch->port = (int)number;
    return true;
}

static bool read_number(const char *name, long least, long most, long *out, gp_status *status) {
    const char *text = getenv(name);
    if (text == NULL) return gp_fail(status, "%s is not set, though others of its launcher are", name);
    size_t length = strlen(text);
    bool number = length > 0 && length <= 10 && strspn(text, DIGITS) == length;
    *out = number ? strtol(text, NULL, 10) : -1;
    if (!number || *out < least || *out > most)
        return gp_fail(status, "%s=%s: not a number from %ld to %ld", name, text, least, most);
    return true;
}

static bool check_rank(const char *rank_name, long rank, const char *size_name, long size,
                       gp_status *status) {
    return rank < size || gp_fail(status, "%s=%ld is not below %s=%ld", rank_name, rank, size_name, size);
}

/*
 * The first host of Slurm's compressed list: gpu[07-09,12],login1 is gpu07, gpu08, gpu09, gpu12, login1. Of
 * each bracket the first host has the first number, as it is written, for zeros before it are part of it.
 */
static bool first_host(const char *name, const char *list, char out[GP_HOST_BYTES], gp_status *status) {
    size_t length = 0;
    const char *at = list;
    while (*at != '\0' && *at != ',') {
        const char *from = at, *behind = at + 1;
        size_t bytes = 1;
        if (*at == '[') {
            from = at + 1;
            bytes = strspn(from, DIGITS);
            behind = behind_bracket(from);
        } else if (!isalnum((unsigned char)*at) && strchr("-_.", *at) == NULL) {
            behind = NULL;
        }
        if (behind == NULL || length + bytes >= GP_HOST_BYTES) break;
        memcpy(out + length, from, bytes);
        length += bytes;
        at = behind;
    }
    out[length] = '\0';
    if (length == 0 || (*at != '\0' && *at != ','))
        return gp_fail(status, "%s=%s: no list of hosts (at character %zu)", name, list,
                       (size_t)(at - list) + 1);
    return true;
}

/* What stands behind the bracket whose inside (numbers and ranges) begins here; NULL where it is none. */
static const char *behind_bracket(const char *at) {
    for (;;) {
        for (int part = 0; part < 2; part++) {
            size_t digits = strspn(at, DIGITS);
            if (digits == 0) return NULL;
            at += digits;
            if (*at != '-' || part == 1) break;
            at++;
        }
        if (*at == ']') return at + 1;
        if (*at++ != ',') return NULL;
    }
}

static bool set_token(const char *launcher, const char *job, gp_launch *launch, gp_status *status) {
    int length = snprintf(launch->token, sizeof launch->token, "%s %s", launcher, job);
    return length < GP_JOB_TOKEN_BYTES ||
           gp_fail(status, "the job's name has %zu characters, more than are kept: %s", strlen(job), job);
}

/* Jobs that run at the same time shall have different ports: FNV-1a of the token. */
static int port_of(const char *token) {
    uint32_t hash = 2166136261u;
    for (; *token != '\0'; token++) hash = (hash ^ (unsigned char)*token) * 16777619u;
    return FIRST_PORT + (int)(hash % PORT_COUNT);
}
