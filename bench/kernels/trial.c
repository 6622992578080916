#include "bench/kernels/trial.h"

#include "kernels/base/memory.h"

#include <string.h>

static bool is_result(const gp_buffer *buffer, bool of_yardstick) {
    return buffer->role == GP_BUFFER_OUTPUT || buffer->role == GP_BUFFER_SUM ||
           (of_yardstick && buffer->role == GP_BUFFER_LIBRARY_OUTPUT);
}

size_t gp_trial_set_bytes(const gp_trial *trial) {
    size_t bytes = 0;
    for (int i = 0; i < trial->work.count; i++) bytes += trial->work.buffers[i].bytes;
    return bytes;
}

bool gp_trial_open(gp_trial *trial, const gp_case *chosen, gp_backend *backend, size_t cold_bytes,
                   uint64_t *seed, gp_status *status) {
    *trial = (gp_trial){.chosen = *chosen, .backend = backend};
    chosen->family->fill(chosen, backend, seed, &trial->work);
    size_t bytes = gp_trial_set_bytes(trial);
    if (trial->work.failed) return gp_fail(status, "no host memory for %zu bytes of inputs", bytes);
    size_t wanted = cold_bytes / bytes + 1;
    int sets = wanted < 2 ? 2 : wanted > GP_SETS_MAX ? GP_SETS_MAX : (int)wanted;
    for (int set = 0; set < sets; set++) {
        trial->sets = set + 1;
        for (int i = 0; i < trial->work.count; i++) {
            const gp_buffer *buffer = &trial->work.buffers[i];
            if (buffer->bytes == 0) continue;
            trial->at[set][i] = backend->ops->allocate(backend, buffer->bytes);
            if (trial->at[set][i] == NULL)
                return gp_fail(status, "no room for %d sets of %zu bytes on %s", sets, bytes, backend->name);
            if (buffer->host == NULL) continue;
            if (set == 0)
                backend->ops->upload(backend, trial->at[0][i], buffer->host, buffer->bytes);
            else
                backend->ops->copy(backend, trial->at[set][i], trial->at[0][i], buffer->bytes);
        }
        if (trial->work.settle != NULL) trial->work.settle(chosen, backend, trial->at[set]);
    }
    return backend->ops->finish(backend, status);
}

void gp_trial_close(gp_trial *trial) {
    for (int set = 0; set < trial->sets; set++)
        for (int i = 0; i < GP_BUFFERS_MAX; i++)
            if (trial->at[set][i] != NULL) trial->backend->ops->release(trial->backend, trial->at[set][i]);
    gp_work_free(&trial->work);
    trial->sets = 0;
}

void gp_trial_launch(const gp_trial *trial, int set) {
    trial->chosen.family->launch(&trial->chosen, trial->backend, trial->at[set]);
}

bool gp_trial_reset(const gp_trial *trial, int set, gp_status *status) {
    const gp_ops *ops = trial->backend->ops;
    for (int i = 0; i < trial->work.count; i++) {
        const gp_buffer *buffer = &trial->work.buffers[i];
        if (!is_result(buffer, true)) continue;
        void *poison = buffer->host == NULL ? gp_allocate(buffer->bytes) : NULL;
        if (buffer->host == NULL && poison == NULL)
            return gp_fail(status, "no host memory for %zu bytes", buffer->bytes);
        if (poison != NULL) memset(poison, 0xFF, buffer->bytes);
        ops->upload(trial->backend, trial->at[set][i], poison != NULL ? poison : buffer->host, buffer->bytes);
        gp_free(poison);
    }
    return ops->finish(trial->backend, status);
}

/** Host copies of a set's results. False where memory is out. */
static bool read_results(const gp_trial *trial, int set, bool of_yardstick, void *results[GP_BUFFERS_MAX],
                         gp_status *status) {
    memset(results, 0, GP_BUFFERS_MAX * sizeof *results);
    for (int i = 0; i < trial->work.count; i++) {
        const gp_buffer *buffer = &trial->work.buffers[i];
        if (!is_result(buffer, of_yardstick)) continue;
        results[i] = gp_allocate(buffer->bytes);
        if (results[i] == NULL)
            return gp_fail(status, "no host memory for %zu bytes of results", buffer->bytes);
        trial->backend->ops->download(trial->backend, results[i], trial->at[set][i], buffer->bytes);
    }
    return trial->backend->ops->finish(trial->backend, status);
}

static void free_results(void *results[GP_BUFFERS_MAX]) {
    for (int i = 0; i < GP_BUFFERS_MAX; i++) gp_free(results[i]);
}

bool gp_trial_check(const gp_trial *trial, int set, bool of_yardstick, uint64_t *seed, gp_findings *findings,
                    gp_status *status) {
    void *results[GP_BUFFERS_MAX];
    *findings = (gp_findings){0};
    bool read = read_results(trial, set, of_yardstick, results, status);
    if (read)
        trial->chosen.family->check(&trial->chosen, &trial->work, (void *const *)results, of_yardstick, seed,
                                    findings);
    free_results(results);
    return read;
}

bool gp_trial_same_bits(const gp_trial *trial, bool *same, gp_status *status) {
    void *results[2][GP_BUFFERS_MAX] = {{0}};
    const int sets[2] = {0, trial->sets - 1};
    bool read = true;
    *same = true;
    for (int i = 0; i < 2 && read; i++) {
        read = gp_trial_reset(trial, sets[i], status);
        if (read) gp_trial_launch(trial, sets[i]);
        read = read && read_results(trial, sets[i], false, results[i], status);
    }
    for (int i = 0; read && i < trial->work.count; i++)
        if (results[0][i] != NULL && memcmp(results[0][i], results[1][i], trial->work.buffers[i].bytes) != 0)
            *same = false;
    for (int i = 0; i < 2; i++) free_results(results[i]);
    return read;
}
