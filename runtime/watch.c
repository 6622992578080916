#include "runtime/watch.h"
#include "kernels/base/memory.h"
#include <poll.h>
#include <pthread.h>
#include <unistd.h>
struct gp_watch {
    pthread_t thread;
    int pipe[2];
    int count;
    struct pollfd *polls;
    void (*gone)(void *, int);
    void *user;
};
static void *look(void *argument) {
    gp_watch *w = argument;
    for (;;) {
        if (poll(w->polls, (nfds_t)w->count + 1, -1) < 0) continue;
        if (w->polls[w->count].revents) return NULL;
        for (int i = 0; i < w->count; i++)
            if (w->polls[i].revents) {
                w->polls[i].fd = -1;
                w->gone(w->user, i);
            }
    }
}
bool gp_watch_start(const gp_channel *channels, int count, void (*gone)(void *user, int which), void *user,
                    gp_watch **watch, gp_status *status) {
    gp_watch *w = gp_allocate_zeroed(1, sizeof *w);
    w->polls = gp_allocate_zeroed((size_t)count + 1, sizeof *w->polls);
    w->count = count;
    w->gone = gone;
    w->user = user;
    if (pipe(w->pipe) != 0) return gp_fail(status, "pipe");
    for (int i = 0; i < count; i++) w->polls[i] = (struct pollfd){channels[i].fd, POLLRDHUP, 0};
    w->polls[count] = (struct pollfd){w->pipe[0], POLLIN, 0};
    pthread_create(&w->thread, NULL, look, w);
    *watch = w;
    return true;
}
void gp_watch_stop(gp_watch *w) {
    if (w == NULL) return;
    if (write(w->pipe[1], "x", 1) != 1) return;
    pthread_join(w->thread, NULL);
    close(w->pipe[0]);
    close(w->pipe[1]);
    gp_free(w->polls);
    gp_free(w);
}
