/**
 * Lanes, on every kind of backend: operations, copies and uploads at random over two lanes, which wait for
 * each other where one touches what the other did, against the same done on the host, to the bit; and what
 * download, finish and release wait for. On the emulator, whose second stream runs as late as it may, what
 * nobody waited for is seen not to be there.
 */
#include "tests/unit/kernels/backends.h"

enum { BUFFERS = 6, COLUMNS = 40, STEPS = 300 };

/** A buffer, and the lane that touched it last, −1: none that is not waited for. */
typedef struct buffer {
    float *memory;
    float *want; /* host */
    int lane;
} buffer;

static gp_add_rows sum_of(const float *x, const float *addend, float *y) {
    return (gp_add_rows){.x = x, .addend = addend, .rows = 1, .columns = COLUMNS, .period = 1, .y = y};
}

/** The present lane is to touch it: what the other one does with it comes before. */
static void touch(gp_backend *backend, buffer *buffers, int which, int lane) {
    if (buffers[which].lane == 1 - lane) {
        backend->ops->wait_for_lane(backend, 1 - lane);
        for (int i = 0; i < BUFFERS; i++)
            if (buffers[i].lane == 1 - lane) buffers[i].lane = -1;
    }
    buffers[which].lane = lane;
}

static void check_buffer(gp_backend *backend, const buffer *b, const char *what) {
    float *values = floats_from(backend, b->memory, COLUMNS);
    CHECK(memcmp(values, b->want, COLUMNS * sizeof *values) == 0, "%s on %s: %g, not %g", what, backend->name,
          (double)values[0], (double)b->want[0]);
}

static void test_order(uint64_t *seed, gp_backend *backend) {
    const gp_ops *ops = backend->ops;
    buffer buffers[BUFFERS];
    for (int i = 0; i < BUFFERS; i++) {
        buffers[i] = (buffer){.want = random_floats(seed, COLUMNS, 1), .lane = 0};
        buffers[i].memory = floats_on(backend, buffers[i].want, COLUMNS);
    }
    for (int step = 0; step < STEPS; step++) {
        int lane = random_between(seed, 0, 1), kind = random_between(seed, 0, 9);
        int from = random_between(seed, 0, BUFFERS - 1),
            to = (from + 1 + random_between(seed, 0, 3)) % BUFFERS;
        int with = (to + 1) % BUFFERS;
        buffer *y = &buffers[to];
        const buffer *x = &buffers[from], *addend = &buffers[with];
        ops->use_lane(backend, lane);
        touch(backend, buffers, to, lane);
        if (kind == 0) {
            float values[COLUMNS];
            for (int i = 0; i < COLUMNS; i++) y->want[i] = values[i] = random_float(seed);
            ops->upload(backend, y->memory, values, sizeof values);
            memset(values, 0, sizeof values); /* the caller's again */
            continue;
        }
        touch(backend, buffers, from, lane);
        if (kind < 4) {
            ops->copy(backend, y->memory, x->memory, COLUMNS * sizeof(float));
            memcpy(y->want, x->want, COLUMNS * sizeof(float));
            continue;
        }
        touch(backend, buffers, with, lane);
        gp_add_rows sum = sum_of(x->memory, addend->memory, y->memory);
        ops->add_rows(backend, &sum);
        for (int i = 0; i < COLUMNS; i++) y->want[i] = x->want[i] + addend->want[i];
    }
    for (int i = 0; i < BUFFERS; i++) { /* as download has it: its own lane's are done */
        if (buffers[i].lane >= 0) ops->use_lane(backend, buffers[i].lane);
        check_buffer(backend, &buffers[i], "operations of two lanes");
    }
    ops->use_lane(backend, 0);
    CHECK(ops->finish(backend, NULL), "finish");
    release_memory();
}

/** y = x + x on lane 1, of what lane 0 brought. */
static buffer double_on_one(uint64_t *seed, gp_backend *backend) {
    const gp_ops *ops = backend->ops;
    float *x = random_floats(seed, COLUMNS, 1);
    buffer y = {.memory = floats_on(backend, NULL, COLUMNS), .want = random_floats(seed, COLUMNS, 1)};
    gp_add_rows sum = sum_of(floats_on(backend, x, COLUMNS), NULL, y.memory);
    sum.addend = sum.x;
    for (int i = 0; i < COLUMNS; i++) y.want[i] = x[i] + x[i];
    ops->use_lane(backend, 1);
    ops->wait_for_lane(backend, 0);
    ops->add_rows(backend, &sum);
    ops->use_lane(backend, 0);
    return y;
}

static void test_waits(uint64_t *seed, gp_backend *backend) {
    const gp_ops *ops = backend->ops;
    for (int way = 0; way < 4; way++) {
        buffer y = double_on_one(seed, backend), copied = y;
        copied.memory = floats_on(backend, NULL, COLUMNS);
#ifdef GP_TEST_SIMT
        float missed;
        ops->download(backend, &missed, y.memory, sizeof missed);
        CHECK(missed != missed, "lane 1 was not waited for, and its result is there: %g", (double)missed);
#endif
        if (way == 0) ops->wait_for_lane(backend, 1);
        if (way == 1) CHECK(ops->finish(backend, NULL), "finish");
        if (way == 2) ops->release(backend, ops->allocate(backend, 100));
        if (way == 3) {
            ops->use_lane(backend, 1);
            check_buffer(backend, &y, "a download of its own lane");
            ops->use_lane(backend, 0);
        }
        ops->copy(backend, copied.memory, y.memory, COLUMNS * sizeof(float));
        check_buffer(backend, &copied, "what was waited for");
        release_memory();
    }
}

static void test_lanes(uint64_t *seed, gp_backend **backends, int count) {
    for (int i = 0; i < count; i++)
        for (int round = 0; round < 10; round++) {
            test_order(seed, backends[i]);
            test_waits(seed, backends[i]);
        }
}

int main(void) {
    return run_on_backends(test_lanes);
}
