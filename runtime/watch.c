#include "runtime/watch.h"

#include "kernels/base/memory.h"
#include "kernels/base/threads.h"

#include <poll.h>
#include <string.h>

struct gp_watch {
    pthread_t thread;
    gp_channel stop[2];    /* [0] is watched too: its end is the word to stop */
    struct pollfd *polled; /* [count + 1]: the channels, then stop[0] */
    int count;
    void (*gone)(void *user, int which);
    void *user;
};

static void *watch_channels(void *user);

bool gp_watch_start(gp_watch **out, const gp_channel *channels, int count,
                    void (*gone)(void *user, int which), void *user, gp_status *status) {
    *out = NULL;
    gp_watch *watch = gp_allocate_zeroed(1, sizeof *watch);
    struct pollfd *polled = gp_allocate(((size_t)count + 1) * sizeof *polled);
    bool started =
        (watch != NULL && polled != NULL) || gp_fail(status, "no memory to watch %d channels", count);
    started = started && gp_channel_pair(watch->stop, status);
    if (started) {
        for (int i = 0; i < count; i++)
            polled[i] = (struct pollfd){.fd = channels[i].fd, .events = POLLRDHUP};
        polled[count] = (struct pollfd){.fd = watch->stop[0].fd, .events = POLLRDHUP};
        watch->polled = polled;
        watch->count = count;
        watch->gone = gone;
        watch->user = user;
        int error = gp_thread_create(&watch->thread, watch_channels, watch);
        started = error == 0 || gp_fail(status, "no thread to watch channels: %s", strerror(error));
        for (int i = 0; i < 2 && !started; i++) gp_channel_close(&watch->stop[i]);
    }
    if (started) {
        *out = watch;
        return true;
    }
    gp_free(polled);
    gp_free(watch);
    return false;
}

void gp_watch_stop(gp_watch *watch) {
    if (watch == NULL) return;
    gp_channel_shutdown(&watch->stop[1]);
    pthread_join(watch->thread, NULL);
    for (int i = 0; i < 2; i++) gp_channel_close(&watch->stop[i]);
    gp_free(watch->polled);
    gp_free(watch);
}

static void *watch_channels(void *user) {
    gp_watch *watch = user;
    for (;;) {
        if (poll(watch->polled, (nfds_t)watch->count + 1, -1) < 0) continue; /* a signal: nothing is lost */
        for (int i = 0; i < watch->count; i++) {
            if (watch->polled[watch->count].revents != 0) return NULL;
            if (watch->polled[i].revents == 0) continue;
            watch->polled[i].fd = -1;
            watch->gone(watch->user, i);
        }
        if (watch->polled[watch->count].revents != 0) return NULL;
    }
}
