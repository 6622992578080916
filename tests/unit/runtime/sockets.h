/** Connected TCP sockets of this machine, for tests of what talks by them. */
#pragma once

#include "tests/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

/** Listens on a free port of 127.0.0.1 and gives the port. */
static inline int listen_somewhere(int *port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(fd >= 0 && bind(fd, (struct sockaddr *)&address, size) == 0 && listen(fd, 16) == 0 &&
                getsockname(fd, (struct sockaddr *)&address, &size) == 0,
            "a listening socket: %s", strerror(errno));
    *port = ntohs(address.sin_port);
    return fd;
}

/** A socket connected to that port of 127.0.0.1, or -1. */
static inline int connect_to(int port) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(fd >= 0, "a socket: %s", strerror(errno));
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
    close(fd);
    return -1;
}

/** Two ends of a TCP connection. */
static inline void connect_pair(int fds[2]) {
    int port, listener = listen_somewhere(&port);
    fds[0] = connect_to(port);
    fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    REQUIRE(fds[0] >= 0 && fds[1] >= 0, "a connection: %s", strerror(errno));
    close(listener);
}
