/** Every planted bug is reported, with kernel and line, and no kernel without one is; and products are what
 * they are. */
#include "tests/simt/bugs.h"
#include "tests/simt/emulator.h"
#include "tests/simt/numbers.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

static int failures;

static void expect(bool condition, const char *what, const std::string &text) {
    if (condition) return;
    printf("FAILED %s: \"%s\"\n", what, text.c_str());
    failures++;
}

/** What a report must say. */
static const struct {
    const char *words, *source;
} bugs[] = {
    {"race at offset", "bugs.cu:"},
    {"race at offset", "bugs.cu:"},
    {"nobody wrote it", "bugs.cu:"},
    {"in no buffer of the kernel's", "bugs.cu:"},
    {"of shared memory, which has 256", "bugs.cu:"},
    {"misaligned", "bugs.cu:"},
    {"divergent collective", "bugs.cu:"},
    {"divergent collective", "bugs.cu:"},
    {"deadlock", "bugs.cu:"},
    {"deadlock", "bugs.cu:"},
    {"has not been waited for", "bugs.cu:"},
    {"race at offset", "bugs.cu:"},
    {"never waited for", ""},
    {"has not been waited for", "bugs.cu:"},
    {"deadlock", "bugs.cu:"},
    {"no wgmma.fence", "bugs.cu:"},
    {"without a fence.proxy.async", "bugs.cu:"},
    {"while a wgmma that reads it", "bugs.cu:"},
    {"never waited for", ""},
    {"read of 128 bytes", "bugs.cu:"},
    {"column 17 is misaligned", "bugs.cu:"},
    {"a kernel on device 1 touches a buffer of device 0", "bugs.cu:"},
    {"a launch on device 1 into a stream of device 0", ""},
    {"a read, before await_earlier, of what a kernel before", "bugs.cu:"},
    {"a write before await_earlier", "bugs.cu:"},
    {"no thread has called await_earlier", ""},
};

/** d of product 26 against a plain sum: A [64, 64] along K, B [64 along K, 64]. */
static void check_product(const float *data, const uint16_t *a, const uint16_t *b) {
    for (unsigned row = 0; row < 64; row++)
        for (unsigned column = 0; column < 64; column++) {
            double want = 0;
            for (unsigned k = 0; k < 64; k++)
                want +=
                    (double)simt::from_bf16(a[row * 64 + k]) * (double)simt::from_bf16(b[k * 64 + column]);
            unsigned lane = row % 8 * 4 + column % 8 / 2, warp = row / 16;
            unsigned i = column / 8 * 4 + row % 16 / 8 * 2 + column % 2;
            float have = data[(warp * 32 + lane) * 32 + i];
            expect(fabs(have - want) < 1e-4, "a product by descriptors", std::to_string(have));
        }
}

int main() {
    setenv("GEOPIXEL_SIMT_DEVICES", "2", 1);
    float *data = static_cast<float *>(aligned_alloc(128, 4096 * sizeof(float)));
    uint16_t *matrices = static_cast<uint16_t *>(aligned_alloc(128, 2 * 4096 * sizeof(uint16_t)));
    for (unsigned i = 0; i < 4096; i++) data[i] = (float)i;
    for (unsigned i = 0; i < 2 * 4096; i++)
        matrices[i] = simt::to_bf16((float)(int)(simt::random_number() % 1000) / 500 - 1);
    simt::allow(data, 4096 * sizeof(float), true, 0);
    simt::allow(matrices, 2 * 4096 * sizeof(uint16_t), false, 0);
    auto *halves = reinterpret_cast<const unsigned char *>(matrices);
    const simt::TensorMap maps[4] = {{halves, 1, 64, 64, 0, 128, 8, 64, 0x7E4504A9},
                                     {halves, 1, 64, 64, 0, 128, 64, 64, 0x7E4504A9},
                                     {halves + 8192, 1, 64, 64, 0, 128, 64, 64, 0x7E4504A9},
                                     {halves, 1, 4096, 64, 0, 128, 8, 64, 0x7E4504A9}};
    int count = sizeof bugs / sizeof *bugs;
    for (int bug = 0; bug < count; bug++) {
        run_bug(bug, data, maps, 0); // ends the program where it finds something
        if (bug == 13) expect(memcmp(data, matrices, 1024) == 0, "a box", "not what the matrix holds");
        for (int run = 0; run < 3; run++) {
            simt::expect_errors(true);
            run_bug(bug, data, maps, 1);
            simt::expect_errors(false);
            std::string error = simt::take_error();
            expect(error.find(bugs[bug].words) != std::string::npos, bugs[bug].words, error);
            expect(error.find(bugs[bug].source) != std::string::npos, "a source line", error);
            if (run == 0) printf("%s\n", error.c_str());
        }
    }
    run_bug(26, data, maps, 0);
    check_product(data, matrices, matrices + 4096);
    for (int i = 0; i < 4096 && failures == 0; i++) data[i] = 0;
    printf("%d bugs planted, %d failures\n", count, failures);
    free(data);
    free(matrices);
    return failures > 0;
}
