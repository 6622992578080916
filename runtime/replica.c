#include "runtime/replica.h"

static void warn_of_unexpected(const gp_engine_options *options, const gp_status *unexpected);

bool gp_replica_open(gp_replica *replica, const gp_engine_options *options, int index, gp_backend *backend,
                     gp_status *status) {
    const int replicas = options->replicas > 0 ? options->replicas : 1;
    const int ranks = options->ranks > 1 ? options->ranks : 1;
    gp_engine_options own = *options;
    gp_status unexpected = {0};
    gp_reserve reserve;
    if (index > 0) own.on_loading = NULL; /* the first one's progress is shown */
    *replica = (gp_replica){.backend = backend, .owns_backend = backend == NULL};
    if (backend != NULL) backend->ops->enter(backend);
    bool done =
        (ranks == 1 || gp_ranks_start(options, index, &replica->ranks, status)) &&
        (backend != NULL ||
         gp_replica_open_backend(options->device, options->threads,
                                 replica->ranks != NULL ? gp_ranks_device(replica->ranks, index) : index,
                                 replicas * ranks, &replica->backend, status)) &&
        gp_model_open(&replica->model, &own, replica->backend, (gp_split){0, ranks}, &unexpected, status);
    if (done && index == 0) warn_of_unexpected(options, &unexpected);
    gp_status_clear(&unexpected);
    done = done && gp_reserve_measure(&replica->model, replica->backend, options, &reserve, status) &&
           (ranks == 1 || gp_ranks_join(replica->ranks, &replica->model, reserve.requests, status)) &&
           gp_scheduler_open(&replica->scheduler, &replica->model, replica->ranks, &reserve, status);
    if (!done) gp_replica_close(replica);
    return done;
}

static void warn_of_unexpected(const gp_engine_options *options, const gp_status *unexpected) {
    gp_status line = {0};
    if (!gp_failed(unexpected) || options->on_warning == NULL) return;
    gp_fail(&line, "%s: tensors that nothing uses: %s", options->model, unexpected->message);
    options->on_warning(options->user, line.message);
    gp_status_clear(&line);
}

void gp_replica_close(gp_replica *replica) {
    gp_scheduler_close(&replica->scheduler);
    gp_ranks_close(replica->ranks);
    if (replica->model.backend != NULL) gp_model_close(&replica->model);
    if (replica->owns_backend) gp_backend_close(replica->backend);
    *replica = (gp_replica){0};
}

bool gp_replica_open_backend(gp_device device, int threads, int index, int count, gp_backend **backend,
                             gp_status *status) {
    if (device == GP_DEVICE_CUDA) return gp_backend_open_cuda(index, backend, status);
    if (count > 1) {
        int all = threads > 0 ? threads : gp_cpu_processors();
        threads = all > count ? all / count : 1;
    }
    return gp_backend_open_cpu(threads, backend, status);
}
