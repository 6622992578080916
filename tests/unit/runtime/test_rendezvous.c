/**
 * Meetings of 1 to 8 processes forked in any order, with strangers among them: all meet or none, messages go
 * to whom they shall, and whoever is turned away or missing is named.
 */
#include "kernels/base/memory.h"
#include "runtime/rendezvous.h"
#include "tests/unit/runtime/sockets.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { RANKS_MAX = 8, PATIENCE = 600 /* for meetings that do not fail by time */ };

/* What a process tells the test. */
typedef struct outcome {
    bool ended, met, talked;
    int begun_then; /* how many had begun when it had met */
    char message[2048];
} outcome;

typedef struct board {
    _Atomic int begun;
    outcome outcomes[64];
} board;

static board *shared;
static pid_t children[64];
static int child_count;

/* A port that nobody has, below those of outgoing connections. */
static int free_port(uint64_t *seed) {
    for (;;) {
        struct sockaddr_in address = {.sin_family = AF_INET};
        int port = 20000 + (int)(random_bits(seed) % 12000), fd = socket(AF_INET, SOCK_STREAM, 0);
        address.sin_port = htons((uint16_t)port);
        REQUIRE(fd >= 0, "a socket: %s", strerror(errno));
        bool is_free = bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
        close(fd);
        if (is_free) return port;
    }
}

static gp_launch launch_of(int rank, int size, int port) {
    gp_launch launch = {.rank = rank, .size = size, .host = "127.0.0.1", .port = port, .token = "job 1"};
    return launch;
}

/* Every rank hears its number from the leader and answers with what the leader can tell it by. */
static bool talk(const gp_group *group, gp_status *status) {
    gp_message message = {0};
    char name[GP_HOST_BYTES] = {0};
    bool going = true;
    gethostname(name, sizeof name - 1);
    if (group->rank > 0) {
        going = gp_channel_receive(&group->channels[0], &message, 64, status) &&
                message.kind == 100 + (uint32_t)group->rank && message.bytes == 0 && group->hosts == NULL &&
                gp_channel_send(&group->channels[0], 7, &group->rank, sizeof group->rank, NULL, 0, status);
    } else {
        for (int rank = 1; rank < group->size && going; rank++)
            going = gp_channel_send(&group->channels[rank], 100 + (uint32_t)rank, NULL, 0, NULL, 0, status);
        for (int rank = 1; rank < group->size && going; rank++)
            going = gp_channel_receive(&group->channels[rank], &message, 64, status) && message.kind == 7 &&
                    message.bytes == sizeof rank && memcmp(message.data, &rank, sizeof rank) == 0;
        for (int rank = 0; rank < group->size && going; rank++) going = strcmp(group->hosts[rank], name) == 0;
        going = going && group->channels[0].fd == -1;
    }
    gp_free(message.data);
    return going;
}

/* A process of that rank; its outcome is at the place that is returned. */
static int start(gp_launch launch, double seconds) {
    int place = child_count++;
    REQUIRE(place < 64, "too many processes");
    children[place] = fork();
    REQUIRE(children[place] >= 0, "fork: %s", strerror(errno));
    if (children[place] > 0) return place;
    outcome *mine = &shared->outcomes[place];
    gp_group group;
    gp_status status = {0};
    shared->begun++;
    mine->met = gp_rendezvous(&launch, seconds, &group, &status);
    mine->begun_then = shared->begun;
    if (mine->met) {
        mine->talked = group.rank == launch.rank && group.size == launch.size && talk(&group, &status);
        gp_group_close(&group);
    }
    if (gp_failed(&status)) snprintf(mine->message, sizeof mine->message, "%s", status.message);
    gp_status_clear(&status);
    mine->ended = gp_memory_observe().live_bytes == 0;
    _exit(check_failures > 0);
}

static const outcome *wait_for(int place) {
    int how = -1;
    REQUIRE(waitpid(children[place], &how, 0) == children[place], "waitpid: %s", strerror(errno));
    CHECK(how == 0 && shared->outcomes[place].ended, "a process ended with %#x, or kept memory", how);
    return &shared->outcomes[place];
}

static void begin(void) {
    memset(shared, 0, sizeof *shared);
    child_count = 0;
}

static void expect_met(int place, int size, int others) {
    const outcome *o = wait_for(place);
    CHECK(o->met && o->talked, "%s", o->message);
    CHECK(o->begun_then >= size + others, "a rank met when %d of %d had begun", o->begun_then, size + others);
}

static void expect_refused(int place, const char *text) {
    const outcome *o = wait_for(place);
    CHECK(!o->met && strstr(o->message, text) != NULL, "'%s', not '%s'", o->message, text);
}

/* The bytes of a hello, by hand. */
static size_t write_hello(uint8_t out[1024], uint32_t version, uint32_t rank, uint32_t size,
                          const char *token, const char *host) {
    uint32_t numbers[3] = {version, rank, size};
    memset(out, 0, 1024);
    memcpy(out, "GPXHELLO", 8);
    memcpy(out + 8, numbers, 12);
    memcpy(out + 20, token, strlen(token));
    memcpy(out + 20 + 128, host, strlen(host));
    return 20 + 128 + 256;
}

/* Connects, as soon as somebody listens. */
static int connect_patiently(int port) {
    for (;;) {
        int fd = connect_to(port);
        if (fd >= 0) return fd;
        usleep(1000); /* nothing tells when the leader listens */
    }
}

/* Reads until the end; gives what came as text. */
static const char *read_to_end(int fd) {
    static char text[4096];
    size_t have = 0;
    ssize_t got;
    while ((got = read(fd, text + have, sizeof text - 1 - have)) > 0) have += (size_t)got;
    close(fd);
    for (size_t i = 0; i < have; i++)
        if (text[i] == '\0') text[i] = ' ';
    text[have] = '\0';
    return text;
}

/* A process that connects, says so many bytes, and stays until it is killed. */
static pid_t start_stranger(int port, const uint8_t *bytes, size_t count, bool stays) {
    pid_t child = fork();
    REQUIRE(child >= 0, "fork: %s", strerror(errno));
    if (child > 0) return child;
    signal(SIGPIPE, SIG_IGN);
    for (;;) {
        int fd = connect_patiently(port);
        if (count > 0 && write(fd, bytes, count) < 0) _exit(0); /* it was turned away before */
        if (stays) read_to_end(fd);
        close(fd);
        usleep(2000);
    }
}

/* All ranks begin in a random order, among strangers that come again and again. */
static void test_meeting(int size, bool strangers, uint64_t *seed) {
    begin();
    int port = free_port(seed), order[RANKS_MAX] = {0}, intruder_count = 0;
    pid_t intruders[4];
    uint8_t bytes[4][1024];
    for (int i = 0; i < size; i++) {
        int place = (int)(random_bits(seed) % (uint64_t)(i + 1));
        order[i] = order[place];
        order[place] = i;
    }
    for (int i = 0; i < size; i++) {
        if (strangers && intruder_count < 4) {
            int kind = intruder_count++;
            size_t whole = write_hello(bytes[kind], 1, 1, (uint32_t)size, "job 2", "elsewhere");
            if (kind == 1)
                for (size_t k = 0; k < sizeof bytes[kind]; k++) bytes[kind][k] = (uint8_t)random_bits(seed);
            size_t count = (size_t[]){whole, sizeof bytes[kind], random_bits(seed) % whole, 0}[kind];
            intruders[kind] = start_stranger(port, bytes[kind], count, kind != 1);
        }
        start(launch_of(order[i], size, port), PATIENCE);
    }
    for (int i = 0; i < size; i++) expect_met(i, size, 0);
    for (int i = 0; i < intruder_count; i++) {
        kill(intruders[i], SIGKILL);
        waitpid(intruders[i], NULL, 0);
    }
}

/* While two ranks are awaited, others come that are told why they are not welcome, and the meeting goes on.
 */
static void test_refusals(uint64_t *seed) {
    begin();
    int port = free_port(seed);
    uint8_t bytes[1024];
    int ranks[3] = {start(launch_of(0, 5, port), PATIENCE), start(launch_of(2, 5, port), PATIENCE),
                    start(launch_of(3, 5, port), PATIENCE)};
    gp_launch other = launch_of(1, 5, port);
    snprintf(other.token, sizeof other.token, "job 11");
    expect_refused(start(other, PATIENCE), "the leader says: it belongs to another job than the leader");
    expect_refused(start(launch_of(1, 6, port), PATIENCE), "its group has 6 ranks, the leader's 5");
    int intruders = 2;

    /* Rank 0, one beyond the last, another version; a name of a host that would write to a terminal. */
    for (int i = 0; i < 4; i++) {
        uint32_t rank = (uint32_t[]){0, 5, 1, UINT32_MAX}[i];
        size_t count = write_hello(bytes, i == 2 ? 2 : 1, rank, 5, "job 1", "a\033b");
        int fd = connect_patiently(port);
        CHECK(write(fd, bytes, count) == (ssize_t)count, "%s", strerror(errno));
        const char *said = read_to_end(fd);
        CHECK(strstr(said, i == 2 ? "its version of the protocol is 2, the leader's 1"
                                  : "it says that it is rank") != NULL,
              "'%s'", said);
    }

    /* Rank 1 comes by hand, then again, which shows that it is there; it ends, and another one may come. */
    size_t count = write_hello(bytes, 1, 1, 5, "job 1", "a\033b");
    int first = connect_patiently(port), second = connect_patiently(port);
    CHECK(write(first, bytes, count) == (ssize_t)count, "%s", strerror(errno));
    CHECK(write(second, bytes, count) == (ssize_t)count, "%s", strerror(errno));
    const char *said = read_to_end(second);
    CHECK(strstr(said, "rank 1 is there already, of a?b") != NULL, "'%s'", said);
    close(first);
    int last[2] = {start(launch_of(1, 5, port), PATIENCE), start(launch_of(4, 5, port), PATIENCE)};
    for (int i = 0; i < 3; i++) expect_met(ranks[i], 5, intruders);
    for (int i = 0; i < 2; i++) expect_met(last[i], 5, intruders);
}

/* More silent strangers than are listened to at the same time: they are sent away, and the rank behind them
 * comes to its turn. */
static void test_silence(uint64_t *seed) {
    enum { SILENT = 70 };
    begin();
    int port = free_port(seed), silent[SILENT];
    int leader = start(launch_of(0, 2, port), PATIENCE);
    for (int i = 0; i < SILENT; i++) {
        silent[i] = connect_patiently(port);
        CHECK(write(silent[i], "GPXHELLO", (size_t)(i % 9)) == i % 9, "%s", strerror(errno));
    }
    int worker = start(launch_of(1, 2, port), PATIENCE);
    expect_met(leader, 2, 0);
    expect_met(worker, 2, 0);
    for (int i = 0; i < SILENT; i++) CHECK(strcmp(read_to_end(silent[i]), "") == 0, "stranger %d", i);
}

/* Ranks 1 and 3 of 4 never come: all are told so. */
static void test_missing(uint64_t *seed) {
    begin();
    int port = free_port(seed);
    int worker = start(launch_of(2, 4, port), PATIENCE), other, leader;
    gp_launch stranger = launch_of(1, 4, port);
    snprintf(stranger.token, sizeof stranger.token, "job 2");
    leader = start(launch_of(0, 4, port), 3);
    other = start(stranger, PATIENCE);
    char text[200];
    snprintf(
        text, sizeof text,
        "127.0.0.1:%d: of 4 ranks 2 did not come within 3 s: ranks 1, 3; turned away: 1, at last: ", port);
    expect_refused(other, "it belongs to another job");
    expect_refused(leader, text);
    expect_refused(worker, text);
    CHECK(strstr(shared->outcomes[leader].message, ": it belongs to another job than the leader") != NULL,
          "%s", shared->outcomes[leader].message);
    CHECK(strstr(shared->outcomes[worker].message, "rank 2 of 4, which the leader awaits at 127.0.0.1:") !=
              NULL,
          "%s", shared->outcomes[worker].message);
}

/* Nobody listens, or somebody who is no leader. */
static void test_no_leader(uint64_t *seed) {
    begin();
    int port = free_port(seed);
    expect_refused(start(launch_of(1, 2, port), 0.2),
                   "nobody listened there until time was up: Connection refused");
    gp_launch nowhere = launch_of(1, 2, port);
    snprintf(nowhere.host, sizeof nowhere.host, "no such host");
    expect_refused(start(nowhere, PATIENCE), "no such host:");

    int listener = listen_somewhere(&port), fds[3];
    static const char *const texts[3] = {"no message: nothing came in time",
                                         "is no message: it begins with 58585858", "the other end has ended"};
    int waiting[3];
    for (int i = 0; i < 3; i++) {
        waiting[i] = start(launch_of(1, 2, port), 0);
        fds[i] = accept(listener, NULL, NULL);
        uint8_t hello[404];
        CHECK(recv(fds[i], hello, sizeof hello, MSG_WAITALL) == sizeof hello, "%s", strerror(errno));
        if (i == 1) CHECK(write(fds[i], "XXXXXXXXXXXXXXXXXXXXXXXX", 24) == 24, "%s", strerror(errno));
        if (i == 2) close(fds[i]);
    }
    for (int i = 0; i < 3; i++) expect_refused(waiting[i], texts[i]);
    close(fds[0]);
    close(fds[1]);

    /* The place is taken: the leader says where. */
    char text[80];
    snprintf(text, sizeof text, "cannot listen at 127.0.0.1:%d", port);
    expect_refused(start(launch_of(0, 2, port), PATIENCE), text);
    close(listener);
}

/* Where nobody listens at a port of outgoing connections, a socket may find itself. */
static void test_self_connection(void) {
    begin();
    FILE *file = fopen("/proc/sys/net/ipv4/ip_local_port_range", "r");
    int low = 0, high = 0, port;
    if (file == NULL || fscanf(file, "%d %d", &low, &high) != 2) low = 32768;
    if (file != NULL) fclose(file);
    close(listen_somewhere(&port)); /* such a port */
    CHECK(port >= low, "port %d", port);
    int worker = start(launch_of(1, 2, port), PATIENCE);
    usleep(200000); /* some attempts, of which one may succeed so */
    int leader = start(launch_of(0, 2, port), PATIENCE);
    expect_met(leader, 2, 0);
    expect_met(worker, 2, 0);
}

/* The meeting place by a name, and by an address of IPv6 where the machine has it. */
static void test_places(uint64_t *seed) {
    struct sockaddr_in6 loopback = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    bool six = fd >= 0 && bind(fd, (struct sockaddr *)&loopback, sizeof loopback) == 0;
    if (fd >= 0) close(fd);
    if (!six) printf("this machine has no IPv6: [::1] is not tried\n");
    for (int i = 0; i < 2 + six; i++) {
        begin();
        int port = free_port(seed);
        for (int rank = 2; rank >= 0; rank--) {
            gp_launch launch = launch_of(rank, 3, port);
            snprintf(launch.host, sizeof launch.host, "%s",
                     (const char *[]){"localhost", "127.0.0.1", "::1"}[i]);
            start(launch, PATIENCE);
        }
        for (int place = 0; place < 3; place++) expect_met(place, 3, 0);
    }
}

int main(void) {
    uint64_t seed = fresh_seed();
    fflush(stdout); /* what is left in it every child would print again */
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(shared != MAP_FAILED, "mmap: %s", strerror(errno));
    for (int round = 0; round < 3; round++)
        for (int size = 1; size <= RANKS_MAX; size++) test_meeting(size, round > 0, &seed);
    test_refusals(&seed);
    test_silence(&seed);
    test_missing(&seed);
    test_no_leader(&seed);
    test_self_connection();
    test_places(&seed);
    return check_done();
}
