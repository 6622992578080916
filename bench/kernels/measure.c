#include "bench/kernels/measure.h"

#include <stdlib.h>

/* A replay takes this long at least, warming up this long, all replays of a contender about this long:
 * seconds. */
static const double replay_seconds = 2e-3, warm_seconds = 50e-3, total_seconds = 200e-3;

enum { REPLAYS_MIN = 9, REPLAYS_MAX = 101, CALLS_MAX = 4096 };

static const size_t copy_bytes = (size_t)1 << 30;

#define TRY(call)                                                                                            \
    do {                                                                                                     \
        cudaError_t error = (call);                                                                          \
        if (error != cudaSuccess) {                                                                          \
            gp_fail(status, "%s: %s", #call, cudaGetErrorString(error));                                     \
            goto done;                                                                                       \
        }                                                                                                    \
    } while (0)

typedef struct replay {
    cudaGraph_t graph;
    cudaGraphExec_t ready;
    int calls;
    double seconds[REPLAYS_MAX]; /* of each replay */
} replay;

/** `calls` calls, set after set, straight into the stream. */
static bool launch_all(const gp_contender *contender, int sets, int calls) {
    for (int i = 0; i < calls; i++)
        if (!contender->launch(contender->user, i % sets)) return false;
    return true;
}

/** Seconds between two events around what `ready` (or, without it, `calls` launches) does. */
static bool time_once(cudaStream_t stream, const cudaEvent_t events[2], const gp_contender *contender,
                      int sets, int calls, cudaGraphExec_t ready, double *seconds, gp_status *status) {
    float milliseconds = 0;
    bool timed = false;
    TRY(cudaEventRecord(events[0], stream));
    if (ready != NULL) {
        TRY(cudaGraphLaunch(ready, stream));
    } else if (!launch_all(contender, sets, calls)) {
        gp_fail(status, "a launch was refused");
        goto done;
    }
    TRY(cudaEventRecord(events[1], stream));
    TRY(cudaEventSynchronize(events[1]));
    TRY(cudaGetLastError());
    TRY(cudaEventElapsedTime(&milliseconds, events[0], events[1]));
    *seconds = (double)milliseconds * 1e-3;
    timed = true;
done:
    return timed;
}

/** Captures as many calls as a replay takes, a multiple of the sets. */
static bool capture(cudaStream_t stream, const cudaEvent_t events[2], const gp_contender *contender, int sets,
                    replay *out, gp_status *status) {
    double seconds = 0;
    bool captured = false, launched;
    cudaError_t ended;
    for (int warm = 0; warm < 2; warm++) /* the second estimates: the first loads code */
        if (!time_once(stream, events, contender, sets, sets, NULL, &seconds, status)) return false;
    double wanted = replay_seconds / (seconds / sets);
    int rounds = wanted > CALLS_MAX ? CALLS_MAX / sets : (int)(wanted / sets) + 1;
    out->calls = sets * (rounds > 1 ? rounds : 1);
    TRY(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
    launched = launch_all(contender, sets, out->calls);
    ended = cudaStreamEndCapture(stream, &out->graph); /* in any case: else the stream stays captured */
    if (!launched) gp_fail(status, "a launch was refused while it was captured");
    if (!launched) goto done;
    TRY(ended);
    TRY(cudaGraphInstantiate(&out->ready, out->graph, 0));
    TRY(cudaGraphUpload(out->ready, stream));
    captured = true;
done:
    return captured;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

bool gp_measure(cudaStream_t stream, int sets, const gp_contender *contenders, int count, gp_timing *timings,
                gp_status *status) {
    static replay replays[GP_CONTENDERS_MAX];
    cudaEvent_t events[2] = {NULL, NULL};
    bool measured = false;
    int turns = REPLAYS_MIN;
    for (int i = 0; i < count; i++) replays[i] = (replay){0};
    TRY(cudaEventCreate(&events[0]));
    TRY(cudaEventCreate(&events[1]));
    for (int i = 0; i < count; i++) {
        double spent = 0, seconds = 0;
        if (!capture(stream, events, &contenders[i], sets, &replays[i], status)) goto done;
        while (spent < warm_seconds) {
            if (!time_once(stream, events, NULL, sets, 0, replays[i].ready, &seconds, status)) goto done;
            spent += seconds;
        }
        if (i == 0) turns = (int)(total_seconds / seconds);
    }
    turns = turns < REPLAYS_MIN ? REPLAYS_MIN : turns > REPLAYS_MAX ? REPLAYS_MAX : turns;
    for (int turn = 0; turn < turns; turn++)
        for (int i = 0; i < count; i++)
            if (!time_once(stream, events, NULL, sets, 0, replays[i].ready, &replays[i].seconds[turn],
                           status))
                goto done;
    for (int i = 0; i < count; i++) {
        qsort(replays[i].seconds, (size_t)turns, sizeof *replays[i].seconds, by_value);
        timings[i] = (gp_timing){replays[i].seconds[turns / 2] / replays[i].calls,
                                 replays[i].seconds[turns / 4] / replays[i].calls,
                                 replays[i].seconds[turns - 1 - turns / 4] / replays[i].calls,
                                 replays[i].calls, turns};
    }
    measured = true;
done:
    for (int i = 0; i < count; i++) {
        if (replays[i].ready != NULL) cudaGraphExecDestroy(replays[i].ready);
        if (replays[i].graph != NULL) cudaGraphDestroy(replays[i].graph);
    }
    for (int i = 0; i < 2; i++)
        if (events[i] != NULL) cudaEventDestroy(events[i]);
    if (!measured) cudaGetLastError(); /* what was told is no fault of a later call */
    return measured;
}

/* ---- the copy ---- */

typedef struct copies {
    cudaStream_t stream;
    void *from[2], *to[2];
} copies;

static bool launch_copy(void *user, int set) {
    const copies *c = user;
    return cudaMemcpyAsync(c->to[set], c->from[set], copy_bytes, cudaMemcpyDeviceToDevice, c->stream) ==
           cudaSuccess;
}

bool gp_measure_copy(cudaStream_t stream, double *rate, gp_status *status) {
    copies c = {.stream = stream};
    gp_contender contender = {launch_copy, &c};
    gp_timing timing;
    bool measured = false;
    for (int i = 0; i < 2; i++) {
        TRY(cudaMalloc(&c.from[i], copy_bytes));
        TRY(cudaMalloc(&c.to[i], copy_bytes));
        TRY(cudaMemsetAsync(c.from[i], 0x5A + i, copy_bytes, stream));
    }
    measured = gp_measure(stream, 2, &contender, 1, &timing, status);
    if (measured) *rate = 2 * (double)copy_bytes / timing.median;
done:
    for (int i = 0; i < 2; i++) {
        cudaFree(c.from[i]);
        cudaFree(c.to[i]);
    }
    return measured;
}
