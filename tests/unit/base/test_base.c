/** Status, allocator, arena and number formats. */
#include "kernels/base/dtype.h"
#include "kernels/base/memory.h"
#include "tests/check.h"

static void test_status(void) {
    gp_status status = {0};
    CHECK(!gp_failed(&status), "fresh");
    CHECK(!gp_fail(&status, "%s: %d", "file", 7), "gp_fail returns true");
    CHECK(strcmp(status.message, "file: 7") == 0, "%s", status.message);
    gp_fail(&status, "again: %s", status.message); /* the old text may be among the arguments */
    CHECK(strcmp(status.message, "again: file: 7") == 0, "%s", status.message);
    for (int i = 0; i < 5000; i++) gp_fail_more(&status, "%4d", i % 10000);
    CHECK(strlen(status.message) == 14 + 20000, "%zu characters", strlen(status.message));
    gp_status_clear(&status);
    CHECK(!gp_failed(&status), "cleared");
    CHECK(!gp_fail(NULL, "nobody listens"), "NULL");
}

static void test_memory(void) {
    gp_memory_usage before = gp_memory_observe();
    void *a = gp_allocate(100), *b = gp_allocate_zeroed(10, 7);
    REQUIRE(a != NULL && b != NULL, "no memory");
    CHECK((uintptr_t)a % GP_ALIGNMENT == 0 && (uintptr_t)b % GP_ALIGNMENT == 0, "alignment");
    for (int i = 0; i < 70; i++) CHECK(((char *)b)[i] == 0, "byte %d", i);
    memset(a, 5, 100);
    a = gp_grow(a, 100, 1000);
    for (int i = 0; i < 100; i++) CHECK(((char *)a)[i] == 5, "byte %d", i);
    gp_memory_usage during = gp_memory_observe();
    CHECK(during.live_bytes >= before.live_bytes + 1070, "%zu live", during.live_bytes);
    CHECK(during.allocations == before.allocations + 3, "%d allocations",
          (int)(during.allocations - before.allocations));
    gp_free(a);
    gp_free(b);
    gp_free(NULL);
    CHECK(gp_memory_observe().live_bytes == before.live_bytes, "what was freed still counts");
    CHECK(gp_allocate_zeroed(SIZE_MAX / 2, 3) == NULL, "an overflowing product");
    CHECK(gp_allocate(SIZE_MAX - 5) == NULL, "an overflowing size");
}

/** What a stage would do: measured first, then carved from a block of that size. */
static void lay_out(gp_arena *arena, unsigned char *out[3]) {
    out[0] = gp_arena_take(arena, 10, 3);
    size_t mark = gp_arena_mark(arena);
    out[1] = gp_arena_take(arena, 1000, 4);
    gp_arena_rewind(arena, mark);
    out[2] = gp_arena_take(arena, 7, 8);
}

static void test_arena(void) {
    gp_arena measure = {0}, real = {0};
    unsigned char *buffers[3];
    lay_out(&measure, buffers);
    CHECK(buffers[0] == NULL && buffers[1] == NULL, "measuring gives buffers");
    CHECK(measure.peak == 64 + 4032, "peak %zu", measure.peak); /* 30 → 64, 4000 → 4032 */
    CHECK(measure.used == 64 + 64, "used %zu", measure.used);
    real.block = gp_allocate(measure.peak);
    real.capacity = measure.peak;
    lay_out(&real, buffers);
    CHECK(buffers[0] == real.block && buffers[1] == real.block + 64 && buffers[2] == buffers[1], "places");
    CHECK(real.peak == measure.peak, "peaks differ");
    CHECK(gp_arena_take(&real, 5000, 1) == NULL && real.used > real.capacity, "more than there is");
    gp_free(real.block);
    gp_arena huge = {0};
    gp_arena_take(&huge, SIZE_MAX / 3, 8);
    gp_arena_take(&huge, SIZE_MAX / 3, 8);
    CHECK(huge.peak >= SIZE_MAX - GP_ALIGNMENT, "an overflow looks small: %zu", huge.peak);
}

static void test_numbers(void) {
    for (uint32_t bits = 0; bits < 65536; bits++) {
        float wide = gp_bf16_to_f32((uint16_t)bits);
        if (isnan(wide))
            CHECK(isnan(gp_bf16_to_f32(gp_f32_to_bf16(wide))), "NaN %x", bits);
        else
            CHECK(gp_f32_to_bf16(wide) == bits, "bf16 %x", bits);
        uint32_t exponent = bits >> 10 & 31, fraction = bits & 1023;
        double want = exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, (int)exponent - 25);
        if (exponent == 31) want = fraction == 0 ? INFINITY : NAN;
        if (bits & 0x8000) want = -want;
        float half = gp_f16_to_f32((uint16_t)bits);
        CHECK(isnan(want) ? isnan(half) : half == want && !signbit(half) == !signbit(want),
              "f16 %x: %g, not %g", bits, half, want);
    }
    CHECK(gp_f32_to_bf16(1.00390625f) == 0x3F80, "half way goes to even");
    CHECK(gp_f32_to_bf16(1.01171875f) == 0x3F82, "half way goes to even");
    CHECK(gp_f32_to_bf16(3.4e38f) == 0x7F80, "beyond the largest is infinity");
}

int main(void) {
    test_status();
    test_memory();
    test_arena();
    test_numbers();
    return check_done();
}
