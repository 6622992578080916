#include "runtime/processes.h"

#include "kernels/base/memory.h"
#include "kernels/ops.h"
#include "runtime/orders.h"
#include "runtime/worker.h"

#include <pthread.h>
#include <string.h>

static bool serve(const gp_engine_options *options, gp_group *group, gp_status *status);

/* What this process is to its launcher it is as a whole. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static gp_group met;
static enum { NOT_MET, MET, LENT, LOST } state;

/** Whether processes that were started so can serve such an engine. */
static bool check_options(const gp_launch *launch, const gp_engine_options *options, gp_status *status) {
    if (launch->size != options->ranks)
        return gp_fail(status,
                       "the launcher started %d processes, and the model is to be spread over %d devices: it "
                       "is one process a device",
                       launch->size, options->ranks);
    if (options->replicas > 1)
        return gp_fail(status, "%d replicas: processes that a launcher started together have one",
                       options->replicas);
    return options->device == GP_DEVICE_CUDA ||
           gp_fail(status, "processes that a launcher started together compute on GPUs; on a CPU, ranks are "
                           "threads of one process");
}

static bool borrow(const gp_engine_options *options, gp_group **group, gp_status *status) {
    gp_launch launch;
    *group = NULL;
    if (!gp_launch_read(&launch, status)) return false;
    if (launch.size == 1) return true;
    if (!check_options(&launch, options, status)) return false;
    if (launch.rank != 0)
        return gp_fail(status, "this process is rank %d of %d: rank 0's opens engines, the others serve",
                       launch.rank, launch.size);
    if (state == LENT)
        return gp_fail(status, "an engine on the launcher's %d processes is open already", launch.size);
    if (state == LOST) return gp_fail(status, "a rank of the launcher's %d processes has ended", launch.size);
    if (state == NOT_MET && !gp_rendezvous(&launch, GP_RENDEZVOUS_SECONDS, &met, status)) return false;
    state = LENT;
    *group = &met;
    return true;
}

bool gp_processes_borrow(const gp_engine_options *options, gp_group **group, gp_status *status) {
    pthread_mutex_lock(&mutex);
    bool done = borrow(options, group, status);
    pthread_mutex_unlock(&mutex);
    return done;
}

void gp_processes_give_back(bool whole) {
    pthread_mutex_lock(&mutex);
    state = whole ? MET : LOST;
    if (!whole) gp_group_close(&met);
    pthread_mutex_unlock(&mutex);
}

int gp_processes_device(void) {
    gp_launch launch;
    int devices = gp_cuda_devices();
    if (devices == 0 || !gp_launch_read(&launch, NULL)) return 0;
    return launch.local_rank % devices;
}

/** The leader meets the others before it does anything else, so that they end when it does. */
static bool meet(const gp_engine_options *options, gp_status *status) {
    gp_group *group = NULL;
    if (!gp_processes_borrow(options, &group, status)) return false;
    gp_processes_give_back(true);
    return true;
}

/* ---- workers ---- */

bool gp_serve_rank(const gp_engine_options *options, bool *served, gp_status *status) {
    gp_launch launch;
    gp_group group;
    *served = false;
    if (options->ranks <= 1) return true;
    if (!gp_launch_read(&launch, status)) return false;
    if (launch.size == 1) return true;
    if (launch.rank == 0) return meet(options, status);
    *served = true;
    if (!check_options(&launch, options, status) ||
        !gp_rendezvous(&launch, GP_RENDEZVOUS_SECONDS, &group, status))
        return false;
    bool done = serve(options, &group, status);
    gp_group_close(&group);
    return done;
}

/** One engine of the leader's after the other, until its process ends. */
static bool serve(const gp_engine_options *options, gp_group *group, gp_status *status) {
    gp_engine_options own = *options;
    gp_message order = {0};
    gp_open_order opened;
    bool done = true;
    own.on_warning = NULL; /* the leader tells */
    own.on_loading = NULL;
    while (done && !gp_channel_ended(&group->channels[0])) {
        done = gp_channel_receive(&group->channels[0], &order, sizeof opened, status);
        if (done && (order.kind != GP_ORDER_OPEN || order.bytes != sizeof opened))
            done = gp_fail(status,
                           "rank 0 sends an order of kind %u and %zu bytes; an engine to open was "
                           "expected",
                           order.kind, order.bytes);
        if (!done) break;
        memcpy(&opened, order.data, sizeof opened);
        own.requests = opened.requests;
        own.cache_tokens = opened.cache_tokens;
        own.limits = opened.limits;
        done = gp_worker_serve(&(gp_worker_options){.engine = &own,
                                                    .rank = group->rank,
                                                    .size = group->size,
                                                    .device = gp_processes_device(),
                                                    .device_count = 1,
                                                    .channel = group->channels[0]},
                               status);
    }
    gp_free(order.data);
    return done;
}
