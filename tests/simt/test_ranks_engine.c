/**
 * test_ranks_engine MODEL: an engine over several emulated GPUs, by a stand-in for NCCL. Ranks that are
 * threads give one rank's tokens; ranks that are processes, as a launcher starts them, give the threads'
 * bits; where one of them is killed in the middle of an answer, the others end with a message.
 *
 * Processes are this program again, with a launcher's variables and a part to play as second argument.
 */
#include "tests/simt/nccl_standin.h"
#include "tests/unit/runtime/asking.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { TOKENS = 6 };

/** What the processes tell this one. */
typedef struct shared {
    heard answer;
    _Atomic bool has_begun; /* the first text has come */
    bool failed;            /* of a worker: gp_serve_rank */
    char message[1024];
} shared;

static gp_request_options question(const gp_image *image) {
    return (gp_request_options){
        .image = *image, .prompt = "Where is the road?", .crops = 1, .max_new_tokens = TOKENS};
}

static gp_engine_options options_for(const char *model, int ranks, bool planned) {
    gp_engine_options options = {.model = model, .device = GP_DEVICE_CUDA, .ranks = ranks};
    if (planned)
        options.limits =
            (gp_limits){.width = 60, .height = 45, .crops = 1, .text_tokens = 64, .max_new_tokens = TOKENS};
    return options;
}

static void answer_by(const gp_engine_options *options, const gp_image *image, heard *answer) {
    gp_status status = {0};
    gp_engine *engine = gp_engine_open(options, &status);
    REQUIRE(engine != NULL, "%d ranks: %s", options->ranks, status.message);
    ask(engine, question(image), answer);
    gp_engine_close(engine);
    const char *misuse = take_misuse();
    CHECK(misuse[0] == '\0', "%d ranks: %s", options->ranks, misuse);
}

/* ---- processes ---- */

static shared *open_shared(const char *path) {
    FILE *file = fopen(path, "r+b");
    REQUIRE(file != NULL, "%s cannot be opened", path);
    shared *all = mmap(NULL, sizeof *all, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file), 0);
    fclose(file);
    REQUIRE(all != MAP_FAILED, "%s cannot be mapped", path);
    return all;
}

static void hear_shared(void *user, const gp_event *event) {
    shared *all = user;
    if (event->type == GP_EVENT_TEXT) {
        all->has_begun = true;
        if (getenv("TEST_PAUSE") != NULL) usleep(200000); /* time to be killed in */
    }
    hear(&all->answer, event);
}

/** The part of one process; returns its exit code. */
static int play(const char *model, const char *part, const char *path) {
    shared *all = open_shared(path);
    gp_image image = test_picture(60, 45);
    gp_engine_options options = options_for(model, 2, false);
    gp_status status = {0};
    bool served = false, done = gp_serve_rank(&options, &served, &status);
    CHECK(served == (strcmp(part, "worker") == 0), "a %s served: %d", part, served);
    gp_engine *engine = done && !served ? gp_engine_open(&options, &status) : NULL;
    if (!served) {
        REQUIRE(engine != NULL, "%s", status.message);
        gp_request_options asked = question(&image);
        asked.on_event = hear_shared;
        asked.user = all;
        gp_request *request = gp_submit(engine, &asked, &status);
        REQUIRE(request != NULL, "%s", status.message);
        gp_request_release(request);
        gp_engine_close(engine);
    } else {
        all->failed = !done;
        if (!done) snprintf(all->message, sizeof all->message, "%s", status.message);
    }
    gp_status_clear(&status);
    gp_free((void *)image.pixels);
    return check_done();
}

static void pose_as(bool worker, int port) {
    char place[64];
    snprintf(place, sizeof place, "127.0.0.1:%d", port);
    setenv("OMPI_COMM_WORLD_RANK", worker ? "1" : "0", 1);
    setenv("OMPI_COMM_WORLD_SIZE", "2", 1);
    setenv("OMPI_COMM_WORLD_LOCAL_RANK", worker ? "1" : "0", 1);
    setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "2", 1);
    setenv("GEOPIXEL_RENDEZVOUS", place, 1);
}

/** Engines that processes cannot serve are refused before anybody is waited for, in each of them. */
static void test_refused(const char *model, int port) {
    static const char *const words[] = {"2 replicas", "on a CPU, ranks are threads"};
    for (int i = 0; i < 4; i++) {
        gp_engine_options options = options_for(model, 2, false);
        gp_status status = {0};
        bool served;
        if (i % 2 == 0) options.replicas = 2;
        if (i % 2 == 1) options.device = GP_DEVICE_CPU;
        pose_as(i >= 2, port);
        CHECK(!gp_serve_rank(&options, &served, &status) && strstr(status.message, words[i % 2]) != NULL,
              "said: %s", gp_status_message(&status));
        gp_status_clear(&status);
        if (i >= 2) continue;
        CHECK(gp_engine_open(&options, &status) == NULL && strstr(status.message, words[i]) != NULL,
              "said: %s", gp_status_message(&status));
        gp_status_clear(&status);
    }
    static const char *const names[] = {"RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE"};
    for (int i = 0; i < 4; i++) {
        char name[64];
        snprintf(name, sizeof name, "OMPI_COMM_WORLD_%s", names[i]);
        unsetenv(name);
    }
    unsetenv("GEOPIXEL_RENDEZVOUS");
}

static pid_t start(const char *model, const char *part, const char *path, int port, bool pauses) {
    fflush(stdout);
    pid_t child = fork();
    REQUIRE(child >= 0, "no process");
    if (child > 0) return child;
    pose_as(strcmp(part, "worker") == 0, port);
    if (pauses) setenv("TEST_PAUSE", "1", 1);
    execl("/proc/self/exe", "test_ranks_engine", model, part, path, (char *)NULL);
    _exit(99);
}

static int wait_for(pid_t child) {
    int state = 0;
    REQUIRE(waitpid(child, &state, 0) == child, "the process is lost");
    return WIFEXITED(state) ? WEXITSTATUS(state) : -WTERMSIG(state);
}

/** `killed`: NULL, "leader" or "worker". */
static void test_processes(const char *model, const char *folder, int port, const char *killed,
                           const heard *expected) {
    char path[4096];
    snprintf(path, sizeof path, "%s/shared-%d", folder, port);
    FILE *file = fopen(path, "wb");
    REQUIRE(file != NULL && ftruncate(fileno(file), sizeof(shared)) == 0 && fclose(file) == 0, "%s", path);
    shared *all = open_shared(path);
    pid_t leader = start(model, "leader", path, port, killed != NULL);
    pid_t worker = start(model, "worker", path, port, false);
    if (killed != NULL) {
        while (!all->has_begun) usleep(1000);
        kill(strcmp(killed, "leader") == 0 ? leader : worker, SIGKILL);
    }
    int leader_end = wait_for(leader), worker_end = wait_for(worker);
    if (killed == NULL) {
        CHECK(leader_end == 0 && worker_end == 0 && !all->failed, "processes end with %d and %d: %s",
              leader_end, worker_end, all->message);
        CHECK(same_answer(&all->answer, expected), "processes say \"%s\", threads \"%s\"", all->answer.text,
              expected->text);
    } else if (strcmp(killed, "worker") == 0) {
        CHECK(leader_end == 0 && all->answer.finals == 1 && all->answer.final == GP_EVENT_ERROR &&
                  strstr(all->answer.error, "rank 1 of 2 has ended") != NULL,
              "without its worker the leader ends with %d, %d final events, %s", leader_end,
              all->answer.finals, all->answer.error);
    } else {
        CHECK(worker_end == 0 && all->failed &&
                  strstr(all->message, "rank 0, which leads, has ended") != NULL,
              "without its leader the worker ends with %d: %s", worker_end, all->message);
    }
    munmap(all, sizeof *all);
}

int main(int count, char **arguments) {
    REQUIRE(count == 2 || count == 4, "usage: test_ranks_engine MODEL [PART FILE]");
    setenv("GEOPIXEL_SIMT_DEVICES", "4", 1);
    find_nccl_in(GP_NCCL_FOLDERS "/nccl-standin", arguments);
    if (count == 4) return play(arguments[1], arguments[2], arguments[3]);
    static heard one, two, planned;
    gp_image image = test_picture(60, 45);
    const char *folder = scratch_folder();
    const int port = 20000 + (int)(fresh_seed() % 10000);
    gp_engine_options options = options_for(arguments[1], 2, false);
    test_refused(arguments[1], port);
    answer_by(&options, &image, &two);
    for (int i = 0; i < 3; i++)
        test_processes(arguments[1], folder, port + i, i == 1 ? "worker" : i == 2 ? "leader" : NULL, &two);
    options = options_for(arguments[1], 1, false);
    answer_by(&options, &image, &one);
    CHECK(one.final == GP_EVENT_DONE && one.id_count == two.id_count &&
              memcmp(one.ids, two.ids, one.id_count * sizeof *one.ids) == 0 && one.masks == two.masks,
          "one rank says \"%s\" %s, two \"%s\" %s", one.text, one.error, two.text, two.error);
    options = options_for(arguments[1], 2, true); /* steps are recorded when it opens */
    answer_by(&options, &image, &planned);
    CHECK(same_answer(&planned, &two), "with planned memory two ranks say \"%s\" %s, else \"%s\"",
          planned.text, planned.error, two.text);
    printf("%zu tokens, %zu masks: %s\n", two.id_count, two.masks, two.text);
    gp_free((void *)image.pixels);
    return check_done();
}
