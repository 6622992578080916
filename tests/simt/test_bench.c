/**
 * Every case of bench/kernels at a small size on the emulated GPU: that the bench's own checks hold for right
 * results, that they see wrong ones, and that what it says of costs is a cost.
 */
#include "bench/kernels/reference.h"
#include "bench/kernels/report.h"
#include "bench/kernels/trial.h"
#include "tests/check.h"

#include <jansson.h>

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

/** A ceiling, and times that are half of what it allows: shares, ratios and texts as the JSON has them. */
static void test_report(void) {
    char path[4096];
    snprintf(path, sizeof path, "%s/kernels.json", scratch_folder());
    gp_report report = {.path = path, .device = "a \"device\"", .ceiling = {100e12, 2e12}};
    snprintf(report.libraries[0], sizeof report.libraries[0], "a library");
    snprintf(report.libraries[1], sizeof report.libraries[1], "none: \\ \"x\"\n");
    gp_outcome outcomes[2] = {
        {.cost = {"linear/a", "1 x 1", 3e9, true, 4e6}, .right = true, .timed = true, .library = "a library"},
        {.cost = {"norm/b", "1 x 1", 3e9, false, 4e6}, .problem = "\"wrong\"\n"}};
    outcomes[0].timing = (gp_timing){60e-6, 59e-6, 61e-6, 10, 9};
    outcomes[0].library_timing = (gp_timing){30e-6, 29e-6, 31e-6, 10, 9};
    CHECK(fabs(gp_floor_seconds(&outcomes[0].cost, &report.ceiling) - 30e-6) < 1e-12 &&
              fabs(gp_floor_seconds(&outcomes[1].cost, &report.ceiling) - 2e-6) < 1e-12,
          "3 GFLOP at 100 TFLOP/s; 4 MB at 2 TB/s, whatever is computed beside");
    gp_status status = {0};
    gp_report_begin(&report);
    for (int i = 0; i < 2; i++) {
        REQUIRE(gp_report_add(&report, &outcomes[i], &status), "%s", status.message);
        json_error_t error;
        json_t *root = json_load_file(path, 0, &error);
        REQUIRE(root != NULL, "after %d cases: %s", i + 1, error.text);
        json_t *cases = json_object_get(root, "cases"), *first = json_array_get(cases, 0),
               *last = json_array_get(cases, (size_t)i);
        CHECK(json_array_size(cases) == (size_t)i + 1 &&
                  json_array_size(json_object_get(root, "yardsticks")) == 2,
              "the lists");
        CHECK(strcmp(json_string_value(json_object_get(root, "device")), report.device) == 0, "the device");
        CHECK(fabs(json_real_value(json_object_get(json_object_get(first, "time"), "median_us")) - 60) <
                      1e-9 &&
                  fabs(json_real_value(json_object_get(json_object_get(first, "library_time"), "median_us")) -
                       30) < 1e-9 &&
                  fabs(json_real_value(json_object_get(first, "floor_us")) - 30) < 1e-9,
              "the times");
        CHECK(json_is_true(json_object_get(last, "right")) == (i == 0) &&
                  (json_object_get(last, "time") != NULL) == (i == 0),
              "case %d", i);
        json_decref(root);
    }
    CHECK(gp_report_failures(&report) == 1, "one of two failed: %d", gp_report_failures(&report));
    gp_report_free(&report);
    report = (gp_report){.path = "/nowhere/kernels.json"};
    CHECK(!gp_report_add(&report, &outcomes[0], &status) && strstr(status.message, "/nowhere") != NULL,
          "a folder that is not there");
    gp_status_clear(&status);
    gp_report_free(&report);
}

int main(void) {
    uint64_t seed = fresh_seed();
    gp_status status = {0};
    gp_backend *backend;
    REQUIRE(gp_backend_open_cuda(0, &backend, &status), "%s", status.message);
    for (int i = 0; i < gp_family_count; i++)
        for (int index = 0; index < gp_families[i]->count; index++) {
            gp_cost cost;
            test_cost(&(gp_case){gp_families[i], index, false}, &cost);
            test_case(backend, &(gp_case){gp_families[i], index, true}, &seed);
        }
    gp_backend_close(backend);
    test_report();
    return check_done();
}
