/** The CPU backend: which instruction set, which threads, and memory that is the host's own. */
#include "kernels/base/memory.h"
#include "kernels/base/threads.h"
#include "kernels/cpu/cpu.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/** Each instruction set's table, made by operations.c. */
extern const gp_ops gp_avx512_ops, gp_avx2_ops, gp_neon_ops;

typedef struct cpu_backend {
    gp_backend base;
    struct gp_threads *threads;
    void *scratch; /* GP_CPU_SCRATCH_BYTES a thread */
} cpu_backend;

static const gp_ops *choose_operations(const char **name, gp_status *status);
static void destroy(gp_backend *backend);

bool gp_backend_open_cpu(int threads, gp_backend **backend, gp_status *status) {
    const char *name = NULL;
    const gp_ops *ops = choose_operations(&name, status);
    if (ops == NULL) return false;
    if (threads < 0 || threads > 1024)
        return gp_fail(status, "%d threads: 0 (all) to 1024 are possible", threads);
    if (threads == 0) threads = gp_cpu_processors();
    cpu_backend *cpu = gp_allocate_zeroed(1, sizeof *cpu);
    if (cpu == NULL) return gp_fail(status, "no memory for the CPU backend");
    cpu->base = (gp_backend){.ops = ops, .operand = GP_DTYPE_F32, .destroy = destroy};
    cpu->base.workspace_bytes = (size_t)threads * GP_CPU_SCRATCH_BYTES;
    cpu->base.decodes_as_prompts = true;
    cpu->base.lanes = 1;
    snprintf(cpu->base.name, sizeof cpu->base.name, "cpu %s, %d thread%s", name, threads,
             threads == 1 ? "" : "s");
    cpu->scratch = gp_allocate(cpu->base.workspace_bytes);
    if (cpu->scratch == NULL) {
        destroy(&cpu->base);
        return gp_fail(status, "no memory for the scratch of %d threads", threads);
    }
    if (!gp_threads_start(threads, &cpu->threads, status)) {
        destroy(&cpu->base);
        return false;
    }
    *backend = &cpu->base;
    return true;
}

static void destroy(gp_backend *backend) {
    cpu_backend *cpu = (cpu_backend *)backend;
    gp_threads_stop(cpu->threads);
    gp_free(cpu->scratch);
    gp_free(cpu);
}

void gp_parallel_for(gp_backend *backend, int64_t tasks, gp_task task, void *argument) {
    gp_threads_run(((cpu_backend *)backend)->threads, tasks, task, argument);
}

void *gp_cpu_scratch(gp_backend *backend, int thread) {
    return (char *)((cpu_backend *)backend)->scratch + (size_t)thread * GP_CPU_SCRATCH_BYTES;
}

int gp_cpu_threads(const gp_backend *backend) {
    return gp_threads_count(((const cpu_backend *)backend)->threads);
}

static const gp_ops *choose_operations(const char **name, gp_status *status) {
#if defined(__x86_64__)
    const char *forced = getenv("GEOPIXEL_ISA");
    bool narrow = forced != NULL && strcmp(forced, "avx2") == 0;
    if (forced != NULL && !narrow && strcmp(forced, "avx512") != 0) {
        gp_fail(status, "GEOPIXEL_ISA=%s: avx2 and avx512 are the choices", forced);
        return NULL;
    }
    __builtin_cpu_init();
    if (!narrow && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
        *name = "avx512";
        return &gp_avx512_ops;
    }
    if (forced != NULL && !narrow) {
        gp_fail(status, "GEOPIXEL_ISA=avx512: this processor lacks it");
        return NULL;
    }
    /* F16C, used too, came before AVX2 in every line of processors; clang 14 cannot ask for it. */
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        *name = "avx2";
        return &gp_avx2_ops;
    }
    gp_fail(status, "this processor lacks AVX2 or FMA, which the CPU backend needs");
    return NULL;
#else
    (void)status;
    *name = "neon";
    return &gp_neon_ops;
#endif
}

/* By taskset, cgroup cpusets. */
int gp_cpu_processors(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int count = CPU_COUNT(&set);
    return count < 1 ? 1 : count > 1024 ? 1024 : count;
}
