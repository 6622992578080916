/**
 * Every case of bench/kernels at a small size on the emulated GPU: that the bench's own checks hold for right
 * results, that they see wrong ones, and that what it says of costs is a cost.
 */
#include "bench/kernels/reference.h"
#include "bench/kernels/trial.h"
#include "tests/check.h"

static void test_cost(const gp_case *chosen, gp_cost *cost) {
    *cost = (gp_cost){0};
    chosen->family->cost(chosen, cost);
    CHECK(cost->name[0] != '\0' && strchr(cost->name, '/') != NULL && cost->size[0] != '\0', "\"%s\", \"%s\"",
          cost->name, cost->size);
    CHECK(cost->operations > 0 && cost->bytes > 0 && isfinite(cost->operations) && isfinite(cost->bytes),
          "%s: %g operations, %g bytes", cost->name, cost->operations, cost->bytes);
}

/** Bytes by arithmetic are those of the buffers, each once, unless a case says why not: then they are fewer.
 */
static void test_bytes(const gp_trial *trial, const gp_cost *cost) {
    double buffers = 0;
    for (int i = 0; i < trial->work.count; i++) {
        const gp_buffer *buffer = &trial->work.buffers[i];
        if (buffer->role == GP_BUFFER_INPUT || buffer->role == GP_BUFFER_OUTPUT)
            buffers += (double)buffer->bytes;
        if (buffer->role == GP_BUFFER_SUM) buffers += 2 * (double)buffer->bytes;
    }
    CHECK(cost->bytes <= 1.01 * buffers + 64, "%s: %g bytes by arithmetic, %g in its buffers", cost->name,
          cost->bytes, buffers);
}

/** A result in which something is wrong, a value of each output, has to be seen. */
static void test_sees(const gp_trial *trial, const gp_cost *cost, uint64_t *seed) {
    for (int i = 0; i < trial->work.count; i++) {
        const gp_buffer *buffer = &trial->work.buffers[i];
        if (buffer->role != GP_BUFFER_OUTPUT && buffer->role != GP_BUFFER_SUM) continue;
        gp_status status = {0};
        gp_findings findings;
        unsigned char *bytes = malloc(buffer->bytes);
        REQUIRE(bytes != NULL, "no memory");
        trial->backend->ops->download(trial->backend, bytes, trial->at[0][i], buffer->bytes);
        for (size_t k = 0; k < buffer->bytes; k++)
            bytes[k] ^= k % 2 == 1 ? 0x45 : 0x11; /* the size of every value */
        trial->backend->ops->upload(trial->backend, trial->at[0][i], bytes, buffer->bytes);
        REQUIRE(gp_trial_check(trial, 0, false, seed, &findings, &status), "%s", status.message);
        CHECK(!gp_findings_right(&findings), "%s: the check does not see a wrong buffer %d", cost->name, i);
        free(bytes);
    }
}

static void test_case(gp_backend *backend, const gp_case *chosen, uint64_t *seed) {
    static gp_trial trial;
    gp_status status = {0};
    gp_findings findings;
    gp_cost cost;
    bool same;
    test_cost(chosen, &cost);
    REQUIRE(gp_trial_open(&trial, chosen, backend, 0, seed, &status), "%s: %s", cost.name, status.message);
    test_bytes(&trial, &cost);
    REQUIRE(gp_trial_reset(&trial, 0, &status), "%s: %s", cost.name, status.message);
    gp_trial_launch(&trial, 0);
    REQUIRE(gp_trial_check(&trial, 0, false, seed, &findings, &status), "%s: %s", cost.name, status.message);
    CHECK(gp_findings_right(&findings), "%s, %s: %s", cost.name, cost.size, findings.first);
    REQUIRE(gp_trial_same_bits(&trial, &same, &status), "%s: %s", cost.name, status.message);
    CHECK(same, "%s: two launches differ", cost.name);
    printf("%-36s %-44s %8lld values, relative L2 %.1e\n", cost.name, cost.size, (long long)findings.compared,
           gp_findings_l2(&findings));
    test_sees(&trial, &cost, seed);
    gp_trial_close(&trial);
}

int main(void) {
    uint64_t seed = fresh_seed();
    gp_status status = {0};
    gp_backend *backend;
    REQUIRE(gp_backend_open_cuda(&backend, &status), "%s", status.message);
    for (int i = 0; i < gp_family_count; i++)
        for (int index = 0; index < gp_families[i]->count; index++) {
            gp_cost cost;
            test_cost(&(gp_case){gp_families[i], index, false}, &cost);
            test_case(backend, &(gp_case){gp_families[i], index, true}, &seed);
        }
    gp_backend_close(backend);
    return check_done();
}
