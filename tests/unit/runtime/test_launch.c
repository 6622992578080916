/** What launchers say: environments as srun, sbatch and mpirun make them, wrong ones, and random lists of
 * nodes against an expansion of the whole list. */
#include "runtime/launch.h"
#include "tests/check.h"

#define SRUN                                                                                                 \
    "SLURM_JOB_ID=77", "SLURM_STEP_ID=2", "SLURM_STEP_NUM_TASKS=4", "SLURM_NTASKS=4", "SLURM_PROCID=3",      \
        "SLURM_LOCALID=1", "SLURM_STEP_NODELIST=gpu[07-09,12],login1"
#define MPIRUN                                                                                               \
    "OMPI_COMM_WORLD_SIZE=4", "OMPI_COMM_WORLD_RANK=1", "OMPI_COMM_WORLD_LOCAL_SIZE=4",                      \
        "OMPI_COMM_WORLD_LOCAL_RANK=2", "PMIX_NAMESPACE=prterun-vm-27427@1"

typedef struct environment {
    const char *what;
    const char *variables[16]; /* a later one replaces an earlier one; a name alone removes it */
    int rank, size, local_rank;
    const char *host; /* NULL: refused */
    int port;         /* 0: one that is derived */
    const char *text; /* the token, or a part of the refusal */
} environment;

/* The first ones are what Slurm 22.05 and Open MPI 5.0 and 4.1 were seen to set. */
static const environment environments[] = {
    {"no launcher", {NULL}, 0, 1, 0, "", 0, ""},
    {"srun", {SRUN}, 3, 4, 1, "gpu07", 0, "Slurm 77.2"},
    {"srun at a given place", {SRUN, "GEOPIXEL_RENDEZVOUS=a.b-c:81"}, 3, 4, 1, "a.b-c", 81, "Slurm 77.2"},
    {"the shell of a batch script",
     {"SLURM_JOB_ID=77", "SLURM_PROCID=0", "SLURM_NTASKS=8", "SLURM_LOCALID=0", "SLURM_NPROCS=8"},
     0,
     1,
     0,
     "",
     0,
     ""},
    {"salloc's shell", {"SLURM_JOB_ID=77", "SLURM_NTASKS=8", "SLURM_NODELIST=n1"}, 0, 1, 0, "", 0, ""},
    {"a batch script that an interactive step submitted",
     {SRUN, "SLURM_STEP_NUM_TASKS=1", "SLURM_PROCID=0", "SLURM_NTASKS=8"},
     0,
     1,
     0,
     "",
     0,
     ""},
    {"mpirun", {MPIRUN}, 1, 4, 2, "127.0.0.1", 0, "Open MPI prterun-vm-27427@1"},
    {"mpirun 4", {MPIRUN, "PMIX_NAMESPACE=1911685121"}, 1, 4, 2, "127.0.0.1", 0, "Open MPI 1911685121"},
    {"mpirun within a Slurm job", {SRUN, MPIRUN}, 1, 4, 2, "127.0.0.1", 0, "Open MPI prterun-vm-27427@1"},
    {"mpirun on several nodes",
     {MPIRUN, "OMPI_COMM_WORLD_LOCAL_SIZE=3", "GEOPIXEL_RENDEZVOUS=[fe80::1%eth0]:65535"},
     1,
     4,
     2,
     "fe80::1%eth0",
     65535,
     "Open MPI prterun-vm-27427@1"},
    {"mpirun whose job has no name",
     {MPIRUN, "PMIX_NAMESPACE", "GEOPIXEL_RENDEZVOUS=10.0.0.1:1"},
     1,
     4,
     2,
     "10.0.0.1",
     1,
     ""},
    {"one rank of mpirun",
     {MPIRUN, "OMPI_COMM_WORLD_SIZE=1", "OMPI_COMM_WORLD_RANK=0", "OMPI_COMM_WORLD_LOCAL_SIZE=1",
      "OMPI_COMM_WORLD_LOCAL_RANK=0"},
     0,
     1,
     0,
     "",
     0,
     ""},

    {"several nodes", {MPIRUN, "OMPI_COMM_WORLD_LOCAL_SIZE=3"}, 0, 0, 0, NULL, 0, "set GEOPIXEL_RENDEZVOUS"},
    {"no job",
     {MPIRUN, "PMIX_NAMESPACE"},
     0,
     0,
     0,
     NULL,
     0,
     "without PMIX_NAMESPACE: set GEOPIXEL_RENDEZVOUS"},
    {"no rank", {MPIRUN, "OMPI_COMM_WORLD_RANK"}, 0, 0, 0, NULL, 0, "OMPI_COMM_WORLD_RANK is not set"},
    {"no size", {MPIRUN, "OMPI_COMM_WORLD_SIZE"}, 0, 0, 0, NULL, 0, "OMPI_COMM_WORLD_SIZE is not set"},
    {"rank", {MPIRUN, "OMPI_COMM_WORLD_RANK=4"}, 0, 0, 0, NULL, 0, "OMPI_COMM_WORLD_RANK=4 is not below"},
    {"local rank", {MPIRUN, "OMPI_COMM_WORLD_LOCAL_RANK=4"}, 0, 0, 0, NULL, 0, "LOCAL_RANK=4 is not below"},
    {"local size", {MPIRUN, "OMPI_COMM_WORLD_LOCAL_SIZE=5"}, 0, 0, 0, NULL, 0, "LOCAL_SIZE=5 is more than"},
    {"size", {MPIRUN, "OMPI_COMM_WORLD_SIZE=4x"}, 0, 0, 0, NULL, 0, "SIZE=4x: not a number from 1 to 1024"},
    {"size", {MPIRUN, "OMPI_COMM_WORLD_SIZE=0"}, 0, 0, 0, NULL, 0, "SIZE=0: not a number from 1 to 1024"},
    {"size", {MPIRUN, "OMPI_COMM_WORLD_SIZE=1025"}, 0, 0, 0, NULL, 0, "SIZE=1025: not a number"},
    {"size", {MPIRUN, "OMPI_COMM_WORLD_SIZE= 4"}, 0, 0, 0, NULL, 0, "SIZE= 4: not a number"},
    {"rank", {MPIRUN, "OMPI_COMM_WORLD_RANK=-1"}, 0, 0, 0, NULL, 0, "RANK=-1: not a number"},
    {"rank", {MPIRUN, "OMPI_COMM_WORLD_RANK="}, 0, 0, 0, NULL, 0, "RANK=: not a number"},
    {"rank",
     {MPIRUN, "OMPI_COMM_WORLD_RANK=18446744073709551617"},
     0,
     0,
     0,
     NULL,
     0,
     "709551617: not a number"},
    {"step", {SRUN, "SLURM_STEP_ID=batch"}, 0, 0, 0, NULL, 0, "SLURM_STEP_ID=batch: not a number"},
    {"task",
     {SRUN, "SLURM_PROCID=4"},
     0,
     0,
     0,
     NULL,
     0,
     "SLURM_PROCID=4 is not below SLURM_STEP_NUM_TASKS=4"},
    {"local", {SRUN, "SLURM_LOCALID=9"}, 0, 0, 0, NULL, 0, "SLURM_LOCALID=9 is not below"},
    {"no task", {SRUN, "SLURM_PROCID"}, 0, 0, 0, NULL, 0, "SLURM_PROCID is not set"},
    {"no job", {SRUN, "SLURM_JOB_ID"}, 0, 0, 0, NULL, 0, "SLURM_JOB_ID is not set"},
    {"a batch script that a step submitted",
     {SRUN, "SLURM_NTASKS=8", "SLURM_PROCID=0"},
     0,
     0,
     0,
     NULL,
     0,
     "SLURM_NTASKS=8 contradicts SLURM_STEP_NUM_TASKS=4"},
    {"no nodes", {SRUN, "SLURM_STEP_NODELIST"}, 0, 0, 0, NULL, 0, "SLURM_STEP_NODELIST is not set"},
};

/* NAME=VALUE sets, NAME removes; the text stays where it is. */
static void set(const char *variable) {
    REQUIRE(putenv((char *)variable) == 0, "%s", variable);
}

static void set_srun(void) {
    static const char *const variables[] = {SRUN};
    clearenv();
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) set(variables[i]);
}

static void test_environments(void) {
    for (size_t i = 0; i < sizeof environments / sizeof *environments; i++) {
        const environment *e = &environments[i];
        gp_launch launch;
        gp_status status = {0};
        memset(&launch, 0xa5, sizeof launch);
        clearenv();
        for (int k = 0; e->variables[k] != NULL; k++) set(e->variables[k]);
        bool read = gp_launch_read(&launch, &status);
        CHECK(read == (e->host != NULL) && read != gp_failed(&status), "%s: %s", e->what,
              gp_failed(&status) ? status.message : "taken");
        if (!read) CHECK(strstr(status.message, e->text) != NULL, "%s: %s", e->what, status.message);
        gp_status_clear(&status);
        if (!read || e->host == NULL) continue;
        CHECK(launch.rank == e->rank && launch.size == e->size && launch.local_rank == e->local_rank,
              "%s: rank %d of %d, %d on its node", e->what, launch.rank, launch.size, launch.local_rank);
        CHECK(strcmp(launch.host, e->host) == 0 && strcmp(launch.token, e->text) == 0, "%s: %s, %s", e->what,
              launch.host, launch.token);
        bool derived = e->port == 0 && e->size > 1;
        CHECK(derived ? launch.port >= 20000 && launch.port < 32000 : launch.port == e->port, "%s: port %d",
              e->what, launch.port);
    }
}

/* Ranks of a job come to one port; jobs that follow each other hardly ever do. */
static void test_ports(void) {
    static bool used[65536];
    int together = 0;
    gp_launch launch;
    gp_status status = {0};
    for (int job = 1000; job < 1100; job++) {
        int first = 0;
        for (int rank = 0; rank < 4; rank++) {
            char number[16];
            set_srun();
            snprintf(number, sizeof number, "%d", job);
            setenv("SLURM_JOB_ID", number, 1);
            snprintf(number, sizeof number, "%d", rank);
            setenv("SLURM_PROCID", number, 1);
            REQUIRE(gp_launch_read(&launch, &status), "%s", status.message);
            if (rank == 0) first = launch.port;
            CHECK(launch.port == first, "rank %d at %d, not %d", rank, launch.port, first);
        }
        together += used[first];
        used[first] = true;
    }
    CHECK(together < 10, "%d of 100 jobs have another one's port", together);
}

static void test_places(void) {
    static const char *const wrong[] = {"",           "host",    ":80",         "host:",    "host:0",
                                        "host:65536", "host:-1", "host:8 0",    "::1:80",   "[::1]",
                                        "[::1]80",    "[]:80",   "ho st:80",    "host:1e3", "[a]b:80",
                                        "a/b:80",     "x:80:80", "host:000080", "[::1:80",  "h\n:80"};
    for (size_t i = 0; i <= sizeof wrong / sizeof *wrong; i++) {
        gp_launch launch;
        gp_status status = {0};
        char text[600];
        snprintf(text, sizeof text, "%0300d:80", 1); /* a name that is too long */
        if (i < sizeof wrong / sizeof *wrong) snprintf(text, sizeof text, "%s", wrong[i]);
        set_srun();
        setenv("GEOPIXEL_RENDEZVOUS", text, 1);
        bool read = gp_launch_read(&launch, &status);
        CHECK(!read && strstr(status.message, "GEOPIXEL_RENDEZVOUS=") != NULL &&
                  strstr(status.message, text) != NULL,
              "'%s': %s", text, read ? launch.host : status.message);
        gp_status_clear(&status);
    }
}

/* All hosts of an entry, one by one, the other way round: the last bracket is expanded first. */
static int expand(const char *entry, char out[][1024], int most) {
    const char *open = strrchr(entry, '['), *close = open != NULL ? strchr(open, ']') : NULL;
    if (open == NULL) {
        REQUIRE(most > 0, "more hosts than were thought of");
        snprintf(out[0], 1024, "%s", entry);
        return 1;
    }
    int count = 0, options = 0;
    static char option[4][4096][64]; /* of the brackets inside each other: three are drawn at most */
    static int depth;
    char(*mine)[64] = option[depth];
    for (const char *at = open + 1; at < close; at++) {
        char *end;
        int digits = (int)strspn(at, "0123456789");
        long from = strtol(at, &end, 10), to = from;
        if (*end == '-') to = strtol(end + 1, &end, 10);
        for (long n = from; n <= to; n++) snprintf(mine[options++], 64, "%0*ld", digits, n);
        at = end;
    }
    for (int i = 0; i < options; i++) {
        char shorter[1024];
        snprintf(shorter, sizeof shorter, "%.*s%s%s", (int)(open - entry), entry, mine[i], close + 1);
        depth++;
        count += expand(shorter, out + count, most - count);
        depth--;
    }
    return count;
}

static int compare_first(const char (*hosts)[1024], int count, const char *host) {
    for (int i = 0; i < count; i++)
        if (strcmp(hosts[i], host) == 0) return i;
    return -1;
}

static void random_entry(uint64_t *seed, char *out, size_t size) {
    int brackets = (int)(random_bits(seed) % 4);
    size_t length = (size_t)snprintf(out, size, "%c%s", (char)('a' + random_bits(seed) % 26),
                                     (const char *[]){"", "pu", "-x_1", ".y"}[random_bits(seed) % 4]);
    for (int b = 0; b < brackets; b++) {
        int items = 1 + (int)(random_bits(seed) % 3), width = 1 + (int)(random_bits(seed) % 3);
        length += (size_t)snprintf(out + length, size - length, "[");
        for (int i = 0; i < items; i++) {
            int from = (int)(random_bits(seed) % 60), to = from + (int)(random_bits(seed) % 4);
            length += (size_t)snprintf(out + length, size - length, "%s%0*d", i > 0 ? "," : "", width, from);
            if (to > from) length += (size_t)snprintf(out + length, size - length, "-%0*d", width, to);
        }
        length += (size_t)snprintf(out + length, size - length, "]%s", random_bits(seed) % 2 ? "" : "n");
    }
}

static void test_node_lists(uint64_t *seed) {
    static char hosts[4096][1024];
    for (int round = 0; round < 2000; round++) {
        char list[2048], entry[512], other[512];
        gp_launch launch;
        gp_status status = {0};
        random_entry(seed, entry, sizeof entry);
        random_entry(seed, other, sizeof other);
        snprintf(list, sizeof list, "%s%s%s", entry, round % 2 ? "," : "", round % 2 ? other : "");
        set_srun();
        setenv("SLURM_STEP_NODELIST", list, 1);
        REQUIRE(gp_launch_read(&launch, &status), "%s", status.message);
        int count = expand(entry, hosts, 4096);
        int place = compare_first((const char(*)[1024])hosts, count, launch.host);
        CHECK(place == 0, "%s: %s is host %d of %d", list, launch.host, place, count);
    }
    static const char *const wrong[] = {"",         ",a",    "a[",   "a[]",    "a[1",     "a[1-]",
                                        "a[-1]",    "a[1,]", "a]",   "a[[1]]", "a[1--2]", "a b",
                                        "a[1-2-3]", "a[x]",  "[1,2", "a;b"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        gp_launch launch;
        gp_status status = {0};
        setenv("SLURM_STEP_NODELIST", wrong[i], 1);
        bool read = gp_launch_read(&launch, &status);
        CHECK(!read && strstr(status.message, "no list of hosts") != NULL, "'%s': %s", wrong[i],
              read ? launch.host : status.message);
        gp_status_clear(&status);
    }
    char name[400];
    gp_launch launch;
    gp_status status = {0};
    for (int length = 254; length < 258; length++) {
        snprintf(name, sizeof name, "%0*d", length, 7);
        setenv("SLURM_STEP_NODELIST", name, 1);
        CHECK(gp_launch_read(&launch, &status) == (length < GP_HOST_BYTES), "a host of %d characters",
              length);
        gp_status_clear(&status);
    }
}

int main(void) {
    uint64_t seed = fresh_seed();
    test_environments();
    test_ports();
    test_places();
    test_node_lists(&seed);
    return check_done();
}
