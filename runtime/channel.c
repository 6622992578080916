#include "runtime/channel.h"

#include "kernels/base/memory.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { MAGIC = 0x43585047 /* "GPXC" */ };

/* Numbers are in the machine's own order: one of the other order has another magic. */
typedef struct frame_header {
    uint32_t magic;
    uint32_t kind;
    uint64_t bytes;
} frame_header;

static bool set_tcp_options(int fd, gp_status *status);
static bool receive_all(int fd, void *data, size_t bytes, const char *what, size_t before, gp_status *status);
static bool make_room(gp_message *message, size_t bytes, size_t most, gp_status *status);

bool gp_channel_pair(gp_channel ends[2], gp_status *status) {
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
        return gp_fail(status, "no pair of sockets: %s", strerror(errno));
    ends[0].fd = fds[0];
    ends[1].fd = fds[1];
    return true;
}

bool gp_channel_open(gp_channel *channel, int fd, gp_status *status) {
    int domain = 0;
    socklen_t size = sizeof domain;
    bool known = getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 ||
                 gp_fail(status, "no socket: %s", strerror(errno));
    channel->fd = fd;
    if (known && (domain == AF_UNIX || set_tcp_options(fd, status))) return true;
    gp_channel_close(channel);
    return false;
}

/* Keepalive watches an idle connection, the user timeout one on which sent bytes are not acknowledged. */
static bool set_tcp_options(int fd, gp_status *status) {
    const struct {
        const char *name;
        int level, option, value;
    } options[] = {
        {"TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY, 1},
        {"SO_KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE, 1},
        {"TCP_KEEPIDLE", IPPROTO_TCP, TCP_KEEPIDLE, GP_CHANNEL_SILENCE_SECONDS / 2},
        {"TCP_KEEPINTVL", IPPROTO_TCP, TCP_KEEPINTVL, 1},
        {"TCP_KEEPCNT", IPPROTO_TCP, TCP_KEEPCNT, GP_CHANNEL_SILENCE_SECONDS / 2},
        {"TCP_USER_TIMEOUT", IPPROTO_TCP, TCP_USER_TIMEOUT, 1000 * GP_CHANNEL_SILENCE_SECONDS},
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (setsockopt(fd, options[i].level, options[i].option, &options[i].value, sizeof(int)) != 0)
            return gp_fail(status, "%s cannot be set: %s", options[i].name, strerror(errno));
    return true;
}

bool gp_channel_send(const gp_channel *channel, uint32_t kind, const void *first, size_t first_bytes,
                     const void *second, size_t second_bytes, gp_status *status) {
    frame_header header = {.magic = MAGIC, .kind = kind, .bytes = (uint64_t)first_bytes + second_bytes};
    struct iovec parts[3] = {
        {&header, sizeof header}, {(void *)first, first_bytes}, {(void *)second, second_bytes}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 3};
    while (message.msg_iovlen > 0) {
        ssize_t sent = sendmsg(channel->fd, &message, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0)
            return gp_fail(status, "message %u of %llu bytes cannot be sent: %s", kind,
                           (unsigned long long)header.bytes, strerror(errno));
        size_t left = (size_t)sent;
        while (message.msg_iovlen > 0 && left >= message.msg_iov->iov_len) {
            left -= message.msg_iov->iov_len;
            message.msg_iov++;
            message.msg_iovlen--;
        }
        if (message.msg_iovlen > 0) {
            message.msg_iov->iov_base = (char *)message.msg_iov->iov_base + left;
            message.msg_iov->iov_len -= left;
        }
    }
    return true;
}

bool gp_channel_receive(const gp_channel *channel, gp_message *message, size_t most, gp_status *status) {
    frame_header header;
    if (!receive_all(channel->fd, &header, sizeof header, "header", 0, status)) return false;
    if (header.magic != MAGIC)
        return gp_fail(status, "what came is no message: it begins with %08x, not %08x", header.magic, MAGIC);
    if (header.bytes > most)
        return gp_fail(status, "message %u has %llu bytes, more than %zu", header.kind,
                       (unsigned long long)header.bytes, most);
    if (!make_room(message, (size_t)header.bytes, most, status)) return false;
    message->kind = header.kind;
    message->bytes = (size_t)header.bytes;
    return receive_all(channel->fd, message->data, message->bytes, "payload", sizeof header, status);
}

/* `before` bytes of the message have come already. */
static bool receive_all(int fd, void *data, size_t bytes, const char *what, size_t before,
                        gp_status *status) {
    for (size_t have = 0; have < bytes;) {
        ssize_t got = recv(fd, (char *)data + have, bytes - have, MSG_WAITALL);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            bool late = errno == EAGAIN || errno == EWOULDBLOCK; /* a socket with SO_RCVTIMEO */
            return gp_fail(status, "no message: %s", late ? "nothing came in time" : strerror(errno));
        }
        if (got == 0 && before + have == 0) return gp_fail(status, "the other end has ended");
        if (got == 0)
            return gp_fail(status,
                           "the other end has ended within a message: %zu bytes of %zu of its %s came", have,
                           bytes, what);
        have += (size_t)got;
    }
    return true;
}

static bool make_room(gp_message *message, size_t bytes, size_t most, gp_status *status) {
    if (bytes <= message->capacity) return true;
    size_t twice = message->capacity < most / 2 ? 2 * message->capacity : most;
    size_t capacity = bytes > twice ? bytes : twice;
    gp_free(message->data);
    *message = (gp_message){.data = gp_allocate(capacity)};
    if (message->data == NULL) return gp_fail(status, "no memory for a message of %zu bytes", bytes);
    message->capacity = capacity;
    return true;
}

bool gp_channel_ended(const gp_channel *channel) {
    char byte;
    ssize_t found;
    do found = recv(channel->fd, &byte, 1, MSG_PEEK);
    while (found < 0 && errno == EINTR);
    return found <= 0;
}

void gp_channel_shutdown(const gp_channel *channel) {
    if (channel->fd >= 0) shutdown(channel->fd, SHUT_RDWR);
}

void gp_channel_close(gp_channel *channel) {
    if (channel->fd >= 0) close(channel->fd);
    channel->fd = -1;
}
