#include "runtime/rendezvous.h"

#include "kernels/base/clock.h"
#include "kernels/base/memory.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    VERSION = 1,
    STRANGERS_MAX = 64, /* that have not said who they are; more wait until these have, or are sent away */
    SECONDS_TO_SAY_HELLO = 3,
    SECONDS_TO_CONNECT = 5, /* one attempt, to a machine that may not be up */
    RETRY_MILLISECONDS = 50,
    GRACE_SECONDS = 5, /* a worker waits so much longer than the leader, whose word says more */
    WELCOME = 1,       /* kinds of the leader's answer */
    REFUSAL = 2,       /* its payload is the reason */
    REASON_MAX = 4096
};

/* What a worker says first, in the machine's own order of bytes. */
typedef struct hello {
    char magic[8];
    uint32_t version, rank, size;
    char token[GP_JOB_TOKEN_BYTES];
    char host[GP_HOST_BYTES]; /* both padded with zeros, of which one is there at least */
} hello;

static const char hello_magic[8] = {'G', 'P', 'X', 'H', 'E', 'L', 'L', 'O'};

/* A connection that has not said who it is. */
typedef struct stranger {
    int fd;
    double since;
    size_t have; /* bytes of said */
    union {
        hello said;
        unsigned char bytes[sizeof(hello)];
    };
} stranger;

typedef struct meeting {
    const gp_launch *launch;
    gp_group *group;
    int listener;
    int here; /* workers that have come */
    stranger strangers[STRANGERS_MAX];
    int stranger_count;
    struct pollfd *polled; /* the listener, workers at their rank's place, strangers behind them */
    int refused;
    gp_status refusal; /* the last one */
} meeting;

static bool lead(const gp_launch *launch, double seconds, gp_group *group, gp_status *status);
static bool join_leader(const gp_launch *launch, double seconds, gp_group *group, gp_status *status);

bool gp_rendezvous(const gp_launch *launch, double seconds, gp_group *group, gp_status *status) {
    bool leads = launch->rank == 0;
    int channels = leads ? launch->size : 1;
    *group = (gp_group){.rank = launch->rank, .size = launch->size};
    group->channels = gp_allocate((size_t)channels * sizeof *group->channels);
    if (group->channels == NULL) return gp_fail(status, "no memory for %d channels", channels);
    for (int i = 0; i < channels; i++) group->channels[i].fd = -1;
    bool met = leads ? lead(launch, seconds, group, status) : join_leader(launch, seconds, group, status);
    if (!met) gp_group_close(group);
    return met;
}

void gp_group_close(gp_group *group) {
    for (int i = 0; group->channels != NULL && i < (group->rank == 0 ? group->size : 1); i++)
        gp_channel_close(&group->channels[i]);
    gp_free(group->channels);
    gp_free(group->hosts);
    *group = (gp_group){0};
}

/* HOST:PORT for messages. */
typedef struct place_text {
    char text[GP_HOST_BYTES + 16];
} place_text;

static place_text place_of(const gp_launch *launch) {
    place_text place;
    const char *format = strchr(launch->host, ':') != NULL ? "[%s]:%d" : "%s:%d";
    snprintf(place.text, sizeof place.text, format, launch->host, launch->port);
    return place;
}

/* Milliseconds until a moment for poll, rounded up; at most an hour, which callers that loop do not notice.
 */
static int milliseconds_until(double moment) {
    double left = moment - gp_clock_seconds();
    if (left <= 0) return 0;
    return left > 3600 ? 3600 * 1000 : (int)(left * 1000) + 1;
}

static bool listen_at(const gp_launch *launch, int *listener, gp_status *status);
static bool wait_for_event(meeting *m, double deadline, gp_status *status);
static bool accept_strangers(meeting *m, gp_status *status);
static void drop_workers(meeting *m);
static void hear_strangers(meeting *m);
static bool tell_missing(meeting *m, double seconds, gp_status *status);
static bool welcome_all(meeting *m, gp_status *status);

static bool lead(const gp_launch *launch, double seconds, gp_group *group, gp_status *status) {
    double deadline = gp_clock_seconds() + seconds;
    meeting m = {.launch = launch, .group = group, .listener = -1};
    group->hosts = gp_allocate_zeroed((size_t)launch->size, sizeof *group->hosts);
    m.polled = gp_allocate(((size_t)STRANGERS_MAX + (size_t)launch->size) * sizeof *m.polled);
    bool going = (group->hosts != NULL && m.polled != NULL) ||
                 gp_fail(status, "no memory for a meeting of %d ranks", launch->size);
    if (going) gethostname(group->hosts[0], GP_HOST_BYTES - 1);
    going = going && (launch->size == 1 || listen_at(launch, &m.listener, status));
    while (going && m.here < launch->size - 1) {
        going = wait_for_event(&m, deadline, status);
        if (!going) break;
        drop_workers(&m);
        hear_strangers(&m);
        going = accept_strangers(&m, status);
        if (going && m.here < launch->size - 1 && gp_clock_seconds() >= deadline)
            going = tell_missing(&m, seconds, status);
    }
    going = going && welcome_all(&m, status);
    for (int i = 0; i < m.stranger_count; i++) close(m.strangers[i].fd);
    if (m.listener >= 0) close(m.listener);
    gp_status_clear(&m.refusal);
    gp_free(m.polled);
    return going;
}

static bool listen_at(const gp_launch *launch, int *listener, gp_status *status) {
    struct sockaddr_in6 any6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)launch->port)};
    struct sockaddr_in any4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)launch->port)};
    struct addrinfo everywhere4 = {
        .ai_family = AF_INET, .ai_addr = (struct sockaddr *)&any4, .ai_addrlen = sizeof any4};
    struct addrinfo everywhere = {.ai_family = AF_INET6,
                                  .ai_addr = (struct sockaddr *)&any6,
                                  .ai_addrlen = sizeof any6,
                                  .ai_next = &everywhere4}; /* where the machine has no IPv6 */
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    struct addrinfo *given = NULL;
    char port[16];
    snprintf(port, sizeof port, "%d", launch->port);
    if (getaddrinfo(launch->host, port, &hints, &given) != 0) given = NULL;

    int fd = -1, error = 0;
    for (struct addrinfo *a = given != NULL ? given : &everywhere; a != NULL && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd >= 0) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
        if (fd >= 0 && a->ai_family == AF_INET6)
            setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){given != NULL}, sizeof(int));
        if (fd >= 0 && bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0) break;
        error = errno;
        if (fd >= 0) close(fd);
        fd = -1;
        if (error == EADDRINUSE) break;
    }
    if (given != NULL) freeaddrinfo(given);
    *listener = fd;
    return fd >= 0 ||
           gp_fail(status,
                   "cannot listen at %s, where the ranks meet (GEOPIXEL_RENDEZVOUS sets another place): %s",
                   place_of(launch).text, strerror(error));
}

/* Until something happens, somebody has been silent for too long, or the deadline. */
static bool wait_for_event(meeting *m, double deadline, gp_status *status) {
    double until = deadline;
    nfds_t count = 0;
    m->polled[count++] =
        (struct pollfd){.fd = m->stranger_count < STRANGERS_MAX ? m->listener : -1, .events = POLLIN};
    for (int rank = 1; rank < m->launch->size; rank++)
        m->polled[count++] = (struct pollfd){.fd = m->group->channels[rank].fd, .events = POLLRDHUP};
    for (int i = 0; i < m->stranger_count; i++) {
        double end = m->strangers[i].since + SECONDS_TO_SAY_HELLO;
        m->polled[count++] = (struct pollfd){.fd = m->strangers[i].fd, .events = POLLIN};
        if (end < until) until = end;
    }
    if (poll(m->polled, count, milliseconds_until(until)) < 0 && errno != EINTR)
        return gp_fail(status, "cannot wait for ranks: %s", strerror(errno));
    return true;
}

static bool accept_strangers(meeting *m, gp_status *status) {
    while (m->stranger_count < STRANGERS_MAX) {
        int fd = accept4(m->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM))
            return gp_fail(status, "cannot take a connection of a rank: %s", strerror(errno));
        if (fd < 0) return true; /* nobody is there, or has gone again */
        m->strangers[m->stranger_count++] = (stranger){.fd = fd, .since = gp_clock_seconds()};
    }
    return true;
}

/* A worker that ended while it waited has not come. */
static void drop_workers(meeting *m) {
    for (int rank = 1; rank < m->launch->size; rank++) {
        if (m->group->channels[rank].fd < 0 || m->polled[rank].revents == 0) continue;
        gp_channel_close(&m->group->channels[rank]);
        m->refused++;
        gp_fail(&m->refusal, "rank %d of %s came, and ended while it waited", rank, m->group->hosts[rank]);
        m->here--;
    }
}

static bool hear(meeting *m, stranger *s, bool *stays);
static bool judge(const meeting *m, hello *said, gp_status *reason);

static void hear_strangers(meeting *m) {
    int kept = 0;
    for (int i = 0; i < m->stranger_count; i++) {
        stranger *s = &m->strangers[i];
        bool stays = true;
        if (m->polled[m->launch->size + i].revents != 0 && !hear(m, s, &stays)) m->refused++;
        if (stays && gp_clock_seconds() >= s->since + SECONDS_TO_SAY_HELLO) {
            m->refused++;
            gp_fail(&m->refusal, "it said nothing, or not enough, for %d s", SECONDS_TO_SAY_HELLO);
            close(s->fd);
            stays = false;
        }
        if (stays) m->strangers[kept++] = *s;
    }
    m->stranger_count = kept;
}

/* Takes what has come of a hello. False where the stranger is turned away; one that is a worker does not stay
 * a stranger either. */
static bool hear(meeting *m, stranger *s, bool *stays) {
    ssize_t got = recv(s->fd, s->bytes + s->have, sizeof s->bytes - s->have, MSG_DONTWAIT);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) return true;
    s->have += got > 0 ? (size_t)got : 0;
    if (got > 0 && s->have < sizeof s->bytes) return true;

    *stays = false;
    gp_channel channel = {.fd = s->fd};
    if (got <= 0) {
        gp_channel_close(&channel);
        return gp_fail(&m->refusal, "it ended without saying which rank it is");
    }
    if (memcmp(s->said.magic, hello_magic, sizeof hello_magic) != 0) {
        gp_channel_close(&channel);
        return gp_fail(&m->refusal, "what it said is no rank's hello");
    }
    gp_status reason = {0};
    if (!judge(m, &s->said, &reason)) {
        const char *text = reason.message;
        gp_fail(&m->refusal, "%s: %s", s->said.host, text);
        (void)gp_channel_send(&channel, REFUSAL, text, strlen(text), NULL, 0, NULL);
        gp_channel_close(&channel);
        gp_status_clear(&reason);
        return false;
    }
    int rank = (int)s->said.rank;
    if (!gp_channel_open(&m->group->channels[rank], s->fd, &m->refusal)) return false;
    memcpy(m->group->hosts[rank], s->said.host, GP_HOST_BYTES);
    m->here++;
    return true;
}

/* Whether a rank is awaited that says this; its host's name is made fit for messages. */
static bool judge(const meeting *m, hello *said, gp_status *reason) {
    const gp_launch *launch = m->launch;
    said->host[GP_HOST_BYTES - 1] = '\0';
    for (char *c = said->host; *c != '\0'; c++)
        if (!isgraph((unsigned char)*c)) *c = '?';
    if (said->version != VERSION)
        return gp_fail(reason, "its version of the protocol is %u, the leader's %d", said->version, VERSION);
    if (memcmp(said->token, launch->token, sizeof said->token) != 0)
        return gp_fail(reason, "it belongs to another job than the leader");
    if (said->size != (uint32_t)launch->size)
        return gp_fail(reason, "its group has %u ranks, the leader's %d", said->size, launch->size);
    if (said->rank == 0 || said->rank >= said->size)
        return gp_fail(reason, "it says that it is rank %u of %u, where rank 0 leads", said->rank,
                       said->size);
    if (m->group->channels[said->rank].fd >= 0)
        return gp_fail(reason, "rank %u is there already, of %s", said->rank, m->group->hosts[said->rank]);
    return true;
}

/* Fails, and says why to those who wait. */
static bool tell_missing(meeting *m, double seconds, gp_status *status) {
    int missing = m->launch->size - 1 - m->here;
    gp_fail(status, "%s: of %d ranks %d did not come within %g s:", place_of(m->launch).text, m->launch->size,
            missing, seconds);
    for (int rank = 1, named = 0; rank < m->launch->size; rank++)
        if (m->group->channels[rank].fd < 0)
            gp_fail_more(status, "%s %d", named++ > 0 ? "," : missing > 1 ? " ranks" : " rank", rank);
    if (m->refused > 0)
        gp_fail_more(status, "; turned away: %d, at last: %s", m->refused, m->refusal.message);
    const char *text = status->message;
    size_t length = strlen(text) < REASON_MAX ? strlen(text) : REASON_MAX;
    for (int rank = 1; rank < m->launch->size; rank++)
        if (m->group->channels[rank].fd >= 0)
            (void)gp_channel_send(&m->group->channels[rank], REFUSAL, text, length, NULL, 0, NULL);
    return false;
}

static bool welcome_all(meeting *m, gp_status *status) {
    for (int rank = 1; rank < m->launch->size; rank++) {
        gp_status reason = {0};
        if (gp_channel_send(&m->group->channels[rank], WELCOME, NULL, 0, NULL, 0, &reason)) continue;
        gp_fail(status, "rank %d of %s ended when all had come: %s", rank, m->group->hosts[rank],
                reason.message);
        gp_status_clear(&reason);
        return false;
    }
    return true;
}

static bool connect_to_leader(const gp_launch *launch, double deadline, int *out, gp_status *status);
static bool say_hello(const gp_launch *launch, const gp_channel *channel, gp_status *status);
static bool wait_for_welcome(const gp_channel *channel, double seconds, gp_status *status);

static bool join_leader(const gp_launch *launch, double seconds, gp_group *group, gp_status *status) {
    gp_status reason = {0};
    gp_channel *channel = &group->channels[0];
    int fd;
    bool joined = connect_to_leader(launch, gp_clock_seconds() + seconds, &fd, &reason) &&
                  gp_channel_open(channel, fd, &reason) && say_hello(launch, channel, &reason) &&
                  wait_for_welcome(channel, seconds + GRACE_SECONDS, &reason);
    if (!joined)
        gp_fail(status, "rank %d of %d, which the leader awaits at %s: %s", launch->rank, launch->size,
                place_of(launch).text, reason.message);
    gp_status_clear(&reason);
    return joined;
}

static int connect_once(const struct addrinfo *address, double deadline, int *error);

/* Tries all addresses of the leader again and again: it may begin later. */
static bool connect_to_leader(const gp_launch *launch, double deadline, int *out, gp_status *status) {
    struct addrinfo hints = {.ai_flags = AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    char port[16];
    snprintf(port, sizeof port, "%d", launch->port);
    for (;;) {
        struct addrinfo *addresses = NULL;
        const char *reason = NULL;
        int fd = -1, error = 0, unknown = getaddrinfo(launch->host, port, &hints, &addresses);
        if (unknown != 0) {
            reason = gai_strerror(unknown);
            if (unknown != EAI_AGAIN)
                return gp_fail(status, "%s (GEOPIXEL_RENDEZVOUS sets another place)", reason);
        } else {
            for (struct addrinfo *a = addresses; a != NULL && fd < 0; a = a->ai_next)
                fd = connect_once(a, deadline, &error);
            freeaddrinfo(addresses);
            if (fd < 0) reason = strerror(error);
        }
        *out = fd;
        if (fd >= 0) return true;
        if (gp_clock_seconds() >= deadline)
            return gp_fail(status, "nobody listened there until time was up: %s", reason);
        poll(NULL, 0, RETRY_MILLISECONDS);
    }
}

/* A connected socket, or -1. */
static int connect_once(const struct addrinfo *address, double deadline, int *error) {
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    socklen_t size = sizeof *error;
    *error = fd < 0 || connect(fd, address->ai_addr, address->ai_addrlen) != 0 ? errno : 0;
    if (fd >= 0 && *error == EINPROGRESS) {
        double patience = gp_clock_seconds() + SECONDS_TO_CONNECT;
        if (patience > deadline) patience = deadline;
        struct pollfd polled = {.fd = fd, .events = POLLOUT};
        int ready;
        do ready = poll(&polled, 1, milliseconds_until(patience));
        while (ready < 0 && errno == EINTR);
        *error = ready == 0 ? ETIMEDOUT : 0;
        if (ready != 0) getsockopt(fd, SOL_SOCKET, SO_ERROR, error, &size);
    }
    if (*error == 0) {
        /* Where nobody listens at a port of outgoing connections, TCP may connect a socket to itself. */
        struct sockaddr_storage here = {0}, there = {0};
        socklen_t here_size = sizeof here, there_size = sizeof there;
        if (getsockname(fd, (struct sockaddr *)&here, &here_size) != 0 ||
            getpeername(fd, (struct sockaddr *)&there, &there_size) != 0)
            *error = errno;
        else if (here_size == there_size && memcmp(&here, &there, here_size) == 0)
            *error = ECONNREFUSED;
        else if (fcntl(fd, F_SETFL, 0) != 0)
            *error = errno;
    }
    if (*error == 0) return fd;
    if (fd >= 0) close(fd);
    return -1;
}

static bool say_hello(const gp_launch *launch, const gp_channel *channel, gp_status *status) {
    hello said = {.version = VERSION, .rank = (uint32_t)launch->rank, .size = (uint32_t)launch->size};
    memcpy(said.magic, hello_magic, sizeof hello_magic);
    memcpy(said.token, launch->token, sizeof said.token);
    gethostname(said.host, sizeof said.host - 1);
    for (size_t sent = 0; sent < sizeof said;) {
        ssize_t more = send(channel->fd, (const char *)&said + sent, sizeof said - sent, MSG_NOSIGNAL);
        if (more < 0 && errno != EINTR) return gp_fail(status, "hello cannot be said: %s", strerror(errno));
        sent += more > 0 ? (size_t)more : 0;
    }
    return true;
}

static bool wait_for_welcome(const gp_channel *channel, double seconds, gp_status *status) {
    gp_message answer = {0};
    struct timeval patience = {.tv_sec = (time_t)seconds + 1}, forever = {0};
    setsockopt(channel->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    bool welcome = gp_channel_receive(channel, &answer, REASON_MAX, status);
    setsockopt(channel->fd, SOL_SOCKET, SO_RCVTIMEO, &forever, sizeof forever);
    if (welcome && answer.kind == REFUSAL && answer.bytes > 0)
        welcome = gp_fail(status, "the leader says: %.*s", (int)answer.bytes, (const char *)answer.data);
    else if (welcome && (answer.kind != WELCOME || answer.bytes > 0))
        welcome = gp_fail(status, "an answer of kind %u and %zu bytes is none of a leader", answer.kind,
                          answer.bytes);
    gp_free(answer.data);
    return welcome;
}
