/** Channels: messages of all sizes arrive whole, under signals too; bytes that are no message, or not a whole
 * one, are told apart; a shutdown wakes whoever waits. */
#include "kernels/base/memory.h"
#include "runtime/channel.h"
#include "tests/unit/runtime/sockets.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

enum { MESSAGES = 300, MOST = 3 << 20 };

static void open_pair(bool tcp, gp_channel ends[2]) {
    gp_status status = {0};
    int fds[2];
    if (!tcp) {
        REQUIRE(gp_channel_pair(ends, &status), "%s", status.message);
        return;
    }
    connect_pair(fds);
    for (int i = 0; i < 2; i++) REQUIRE(gp_channel_open(&ends[i], fds[i], &status), "%s", status.message);
}

static void close_pair(gp_channel ends[2]) {
    for (int i = 0; i < 2; i++) gp_channel_close(&ends[i]);
}

/* The messages of a seed: most are small, some empty, some of megabytes. */
static size_t random_size(uint64_t *seed) {
    uint64_t dice = random_bits(seed) >> 32;
    if (dice % 8 == 0) return 0;
    if (dice % 16 == 1) return random_bits(seed) % (MOST + 1);
    return random_bits(seed) % (dice % 2 ? 64 : 5000);
}

static void fill(uint8_t *data, size_t bytes, uint64_t seed) {
    for (size_t i = 0; i < bytes; i++) {
        if (i % 8 == 0) random_bits(&seed);
        data[i] = (uint8_t)(seed >> (8 * (i % 8)));
    }
}

typedef struct speaker {
    gp_channel *channel;
    uint64_t seed;
    bool done;
} speaker;

static atomic_int ended;

static void *send_messages(void *user) {
    speaker *me = user;
    gp_status status = {0};
    uint8_t *data = malloc(MOST);
    uint64_t seed = me->seed;
    me->done = data != NULL;
    for (int i = 0; i < MESSAGES && me->done; i++) {
        size_t bytes = random_size(&seed), first = bytes > 0 ? random_bits(&seed) % (bytes + 1) : 0;
        fill(data, bytes, seed);
        me->done = gp_channel_send(me->channel, (uint32_t)seed, first > 0 ? data : NULL, first,
                                   bytes > first ? data + first : NULL, bytes - first, &status);
    }
    if (!me->done) fprintf(stderr, "sender: %s\n", status.message);
    free(data);
    gp_status_clear(&status);
    atomic_fetch_add(&ended, 1);
    return NULL;
}

static void *receive_messages(void *user) {
    speaker *me = user;
    gp_status status = {0};
    gp_message message = {0};
    uint8_t *want = malloc(MOST);
    uint64_t seed = me->seed;
    me->done = want != NULL;
    for (int i = 0; i < MESSAGES && me->done; i++) {
        size_t bytes = random_size(&seed);
        if (bytes > 0) random_bits(&seed);
        fill(want, bytes, seed);
        if (message.capacity > 0) memset(message.data, 0xa5, message.capacity);
        me->done = gp_channel_receive(me->channel, &message, MOST, &status) &&
                   message.kind == (uint32_t)seed && message.bytes == bytes && message.capacity <= MOST &&
                   (bytes == 0 || memcmp(message.data, want, bytes) == 0);
    }
    if (!me->done) fprintf(stderr, "receiver: %s\n", gp_failed(&status) ? status.message : "wrong bytes");
    gp_free(message.data);
    free(want);
    gp_status_clear(&status);
    atomic_fetch_add(&ended, 1);
    return NULL;
}

static void ignore_signal(int number) {
    (void)number;
}

/* Both directions at the same time, all threads interrupted again and again. */
static void test_messages(bool tcp, uint64_t *seed) {
    gp_channel ends[2];
    open_pair(tcp, ends);
    uint64_t forth = random_bits(seed) | 1, back = random_bits(seed) | 1;
    speaker speakers[4] = {
        {&ends[0], forth, false}, {&ends[1], back, false}, {&ends[1], forth, false}, {&ends[0], back, false}};
    pthread_t threads[4];
    struct sigaction action = {.sa_handler = ignore_signal}; /* no SA_RESTART: calls return EINTR */
    sigaction(SIGUSR1, &action, NULL);
    atomic_store(&ended, 0);
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, i < 2 ? send_messages : receive_messages, &speakers[i]);
    for (unsigned i = 0; atomic_load(&ended) < 4; i++) {
        pthread_kill(threads[i % 4], SIGUSR1);
        usleep(50); /* so that they come to work between two signals */
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        CHECK(speakers[i].done, "%s, %s %d", tcp ? "TCP" : "pair", i < 2 ? "sender" : "receiver", i % 2);
    }
    close_pair(ends);
}

/* A message by hand: as the header says, or not. */
static size_t write_frame(uint8_t *out, uint32_t magic, uint32_t kind, uint64_t bytes) {
    memcpy(out, &magic, 4);
    memcpy(out + 4, &kind, 4);
    memcpy(out + 8, &bytes, 8);
    return 16;
}

/* Sends the bytes, ends, and looks what the receiver says of them. */
static void expect_refusal(const uint8_t *data, size_t bytes, size_t most, const char *text) {
    int fds[2];
    gp_channel channel;
    gp_message message = {0};
    gp_status status = {0};
    connect_pair(fds);
    REQUIRE(gp_channel_open(&channel, fds[1], &status), "%s", status.message);
    CHECK(write(fds[0], data, bytes) == (ssize_t)bytes, "%s", strerror(errno));
    close(fds[0]);
    bool received = gp_channel_receive(&channel, &message, most, &status);
    CHECK(!received && gp_failed(&status) && strstr(status.message, text) != NULL, "'%s', not '%s'",
          gp_failed(&status) ? status.message : "", text);
    CHECK(message.capacity <= most, "%zu bytes allocated of %zu", message.capacity, most);
    gp_status_clear(&status);
    gp_free(message.data);
    gp_channel_close(&channel);
}

static void test_refusals(uint64_t *seed) {
    enum { MAGIC = 0x43585047 };
    uint8_t bytes[64];
    expect_refusal(bytes, 0, 64, "the other end has ended");
    size_t header = write_frame(bytes, MAGIC, 7, 20);
    memset(bytes + header, 1, sizeof bytes - header);
    for (size_t cut = 1; cut < header + 20; cut++) {
        char text[80];
        snprintf(text, sizeof text, "within a message: %zu bytes of %d of its %s",
                 cut < header ? cut : cut - header, cut < header ? 16 : 20,
                 cut < header ? "header" : "payload");
        expect_refusal(bytes, cut, 64, text);
    }
    expect_refusal(bytes, header + 20, 19, "message 7 has 20 bytes, more than 19");
    write_frame(bytes, MAGIC, 7, UINT64_MAX);
    expect_refusal(bytes, header, (size_t)1 << 20, "has 18446744073709551615 bytes, more than 1048576");
    write_frame(bytes, 0x47505843, 7, 20); /* the other byte order */
    expect_refusal(bytes, header + 20, 64, "is no message: it begins with 47505843");
    for (int i = 0; i < 20; i++) {
        for (size_t k = 0; k < sizeof bytes; k++) bytes[k] = (uint8_t)random_bits(seed);
        bytes[0] = 'X';
        expect_refusal(bytes, sizeof bytes, 64, "is no message");
    }

    /* What is whole before the end is taken, also of a longest message; then the end is seen. */
    int fds[2];
    gp_channel channel;
    gp_message message = {0};
    gp_status status = {0};
    connect_pair(fds);
    REQUIRE(gp_channel_open(&channel, fds[1], &status), "%s", status.message);
    write_frame(bytes, MAGIC, 9, 20);
    CHECK(write(fds[0], bytes, header + 20) == (ssize_t)header + 20, "%s", strerror(errno));
    close(fds[0]);
    CHECK(gp_channel_receive(&channel, &message, 20, &status) && message.kind == 9 && message.bytes == 20 &&
              memcmp(message.data, bytes + header, 20) == 0,
          "a longest message");
    CHECK(!gp_channel_receive(&channel, &message, 20, &status) &&
              strcmp(status.message, "the other end has ended") == 0,
          "%s", gp_failed(&status) ? status.message : "received");
    gp_status_clear(&status);
    CHECK(!gp_channel_send(&channel, 1, bytes, 1, NULL, 0, &status) ||
              !gp_channel_send(&channel, 1, bytes, 1, NULL, 0, &status),
          "the other end is closed, and no signal ends this process");
    gp_status_clear(&status);
    gp_free(message.data);
    gp_channel_close(&channel);
}

typedef struct waiter {
    gp_channel *channel;
    bool sends, failed;
    atomic_bool begun;
} waiter;

static void *wait_for_end(void *user) {
    waiter *me = user;
    gp_status status = {0};
    gp_message message = {0};
    uint8_t *data = calloc(MOST, 1);
    atomic_store(&me->begun, true);
    if (me->sends)
        while (gp_channel_send(me->channel, 1, data, MOST, NULL, 0, &status)) continue;
    else
        (void)gp_channel_receive(me->channel, &message, MOST, &status);
    me->failed = gp_failed(&status);
    gp_status_clear(&status);
    gp_free(message.data);
    free(data);
    return NULL;
}

/* Both ends wait for a message when one of them is shut down, or one waits to send. */
static void test_shutdown(bool tcp, bool sends, uint64_t *seed) {
    gp_channel ends[2];
    pthread_t threads[2];
    open_pair(tcp, ends);
    waiter waiters[2] = {{.channel = &ends[0], .sends = sends}, {.channel = &ends[1]}};
    int count = sends ? 1 : 2; /* nobody reads what is sent */
    for (int i = 0; i < count; i++) pthread_create(&threads[i], NULL, wait_for_end, &waiters[i]);
    for (int i = 0; i < count; i++)
        while (!atomic_load(&waiters[i].begun)) sched_yield();
    usleep((useconds_t)(random_bits(seed) % 2000)); /* before they wait, or while: both must do */
    gp_channel *shut = &ends[sends ? 0 : random_bits(seed) % 2];
    gp_channel_shutdown(shut);
    gp_channel_shutdown(shut);
    for (int i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
        CHECK(waiters[i].failed, "end %d did not notice", i);
    }
    close_pair(ends);
    gp_channel_shutdown(&ends[0]);
    gp_channel_close(&ends[0]);
}

/* A socket of records shows what one call of the system sends. */
static void test_one_call(void) {
    int fds[2];
    gp_channel channel;
    gp_status status = {0};
    uint8_t have[64];
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds) == 0, "%s", strerror(errno));
    REQUIRE(gp_channel_open(&channel, fds[0], &status), "%s", status.message);
    CHECK(gp_channel_send(&channel, 3, "abc", 3, "de", 2, &status), "%s", status.message);
    CHECK(recv(fds[1], have, sizeof have, 0) == 16 + 5 && memcmp(have + 16, "abcde", 5) == 0, "one record");
    close(fds[1]);
    gp_channel_close(&channel);
}

static int option(int fd, int level, int name) {
    int value = -1;
    socklen_t size = sizeof value;
    getsockopt(fd, level, name, &value, &size);
    return value;
}

static void test_options(void) {
    gp_channel ends[2], none;
    gp_status status = {0};
    open_pair(true, ends);
    int fd = ends[0].fd, idle = option(fd, IPPROTO_TCP, TCP_KEEPIDLE);
    CHECK(option(fd, IPPROTO_TCP, TCP_NODELAY) != 0 && option(fd, SOL_SOCKET, SO_KEEPALIVE) != 0, "set");
    CHECK(option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT) == 1000 * GP_CHANNEL_SILENCE_SECONDS, "user timeout");
    CHECK(idle + option(fd, IPPROTO_TCP, TCP_KEEPINTVL) * option(fd, IPPROTO_TCP, TCP_KEEPCNT) <=
              GP_CHANNEL_SILENCE_SECONDS,
          "keepalive");
    close_pair(ends);
    CHECK(!gp_channel_open(&none, open("/dev/null", O_RDWR | O_CLOEXEC), &status) && none.fd == -1,
          "a file is no channel");
    gp_status_clear(&status);
}

int main(void) {
    uint64_t seed = fresh_seed();
    for (int tcp = 0; tcp < 2; tcp++) {
        test_messages(tcp, &seed);
        for (int round = 0; round < 60; round++) test_shutdown(tcp, round % 2, &seed);
    }
    test_refusals(&seed);
    test_one_call();
    test_options();
    return check_done();
}
