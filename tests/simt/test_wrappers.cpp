/**
 * The twins of the PTX wrappers against plain expectations from the PTX manual's layouts; and, where there is
 * a GPU, what its instructions give against the twins: the same bits for data movement and conversions, 2^-22
 * of the sum of |products| for products, two units in the last place for exp2_fast.
 */
#include "tests/simt/emulator.h"
#include "tests/simt/numbers.h"
#include "tests/simt/wrappers.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

using Bytes = std::vector<unsigned char>;

struct Case {
    const char *name;
    Wrapper which;
    int n;                   // columns of a product; 0: none
    bool along_n;            // how B lies
    Bytes in, want;          // want: as the manual says, to be equal or nearly so
    std::vector<double> sum; // products: Σ|products| of each number
};

static int failures;

template <typename T> static T at(const Bytes &bytes, size_t index) {
    T value;
    memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
    return value;
}
template <typename T> static void put(Bytes &bytes, size_t index, T value) {
    if (bytes.size() < (index + 1) * sizeof(T)) bytes.resize((index + 1) * sizeof(T));
    memcpy(bytes.data() + index * sizeof(T), &value, sizeof(T));
}

static Bytes random_bytes(size_t count) {
    Bytes bytes(count);
    for (auto &byte : bytes) byte = (unsigned char)simt::random_number();
    return bytes;
}
static float random_unit() {
    return (float)(simt::random_number() & 0xFFFFFF) / 0x1p23f - 1;
}
/** bf16 in [-1, 1], `count` of them. */
static Bytes random_halves(size_t count) {
    Bytes bytes;
    for (size_t i = 0; i < count; i++) put(bytes, i, simt::to_bf16(random_unit()));
    return bytes;
}

/* ---- what the manual says ---- */

/** ldmatrix: register i of lane l has of tile i row l/4, columns 2·(l mod 4) and on; .trans: column l/4,
 * those rows. */
static void expect_tiles(Case &test) {
    bool transposed = test.which == kTilesTransposed;
    test.in = random_bytes(512);
    for (unsigned lane = 0; lane < 32; lane++)
        for (unsigned i = 0; i < 4; i++)
            for (unsigned half = 0; half < 2; half++) {
                unsigned row = lane / 4, column = lane % 4 * 2 + half;
                if (transposed) std::swap(row, column);
                unsigned named = (5 * (8 * i + row) + 3) % 32; // the kernel's order of rows
                put(test.want, (lane * 4 + i) * 2 + half, at<uint16_t>(test.in, named * 8 + column));
            }
}

/** mma.m16n8k16: groups of four lanes g = l/4, c = 2·(l mod 4); see the manual's figures of A, B and C. */
static void expect_multiply(Case &test) {
    float a[16][16], b[16][8], d[16][8];
    for (unsigned lane = 0; lane < 32; lane++) {
        unsigned g = lane / 4, c = lane % 4 * 2;
        for (unsigned i = 0; i < 8; i++) { // a0 … a7 of the manual
            uint16_t bits = simt::to_bf16(random_unit());
            a[i < 2 || (i >= 4 && i < 6) ? g : g + 8][c + (i & 1) + (i >= 4 ? 8 : 0)] = simt::from_bf16(bits);
            put(test.in, lane * 20 + i, bits);
        }
        for (unsigned i = 0; i < 4; i++) { // b0 … b3
            uint16_t bits = simt::to_bf16(random_unit());
            b[c + (i & 1) + (i >= 2 ? 8 : 0)][g] = simt::from_bf16(bits);
            put(test.in, lane * 20 + 8 + i, bits);
        }
        for (unsigned i = 0; i < 4; i++) { // c0 … c3
            float value = random_unit();
            d[i < 2 ? g : g + 8][c + (i & 1)] = value;
            put(test.in, lane * 10 + 6 + i, value);
        }
    }
    for (unsigned lane = 0; lane < 32; lane++)
        for (unsigned i = 0; i < 4; i++) {
            unsigned row = lane / 4 + (i < 2 ? 0 : 8), column = lane % 4 * 2 + (i & 1);
            double sum = (double)d[row][column], magnitude = fabs(sum);
            for (unsigned k = 0; k < 16; k++) {
                sum += (double)a[row][k] * (double)b[k][column];
                magnitude += fabs((double)a[row][k] * (double)b[k][column]);
            }
            put(test.want, lane * 4 + i, (float)sum);
            test.sum.push_back(magnitude);
        }
}

/** To the nearest bf16, ties to the even one, found by trying both neighbours; the manual's NaN is 0x7FFF. */
static uint16_t nearest_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    if (std::isnan(value)) return 0x7FFF;
    uint16_t low = (uint16_t)(bits >> 16); // toward zero
    if (std::isinf(value) || (bits & 0xFFFF) == 0) return low;
    uint16_t high = (uint16_t)(low + 1);
    double step = std::isinf(simt::from_bf16(high)) ? 0x1p128 : fabs((double)simt::from_bf16(high));
    double under = fabs((double)value) - fabs((double)simt::from_bf16(low)),
           over = step - fabs((double)value);
    return under < over || (under == over && (low & 1) == 0) ? low : high;
}

static void expect_pack(Case &test) {
    const uint32_t special[] = {0,          0x80000000, 0x7F800000, 0xFF800000, 0x7FC00000,
                                0xFFC00001, 0x7F800001, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F7F7FFF,
                                0x7F7F8000, 1,          0x8000,     0x8001,     0x00018000,
                                0x807FFFFF, 0x3F808000, 0x3F818000, 0x3F807FFF, 0x3F808001};
    test.in = random_bytes(kValues * 4);
    for (unsigned i = 0; i < sizeof special / sizeof *special; i++) put(test.in, i, special[i]);
    for (unsigned i = 64; i < 1024; i++)
        put(test.in, i, (at<uint32_t>(test.in, i) & 0xFFFF0000u) | 0x8000); // ties
    for (unsigned i = 0; i < kValues; i++) put(test.want, i, nearest_bf16(at<float>(test.in, i)));
}

/** max: a NaN yields to a number, two give 0x7FFF; +0 is above −0: as integers that are made to rise with the
 * values. */
static void expect_larger(Case &test) {
    const uint16_t special[] = {0, 0x8000, 0x7F80, 0xFF80, 0x7FC0, 0xFFC1, 1, 0x8001, 0x3F80, 0xBF80};
    test.in = random_bytes(kValues * 4);
    unsigned i = 0;
    for (uint16_t first : special)
        for (uint16_t second : special) {
            put(test.in, 4 * i, first), put(test.in, 4 * i + 2, second);
            put(test.in, 4 * i + 1, second), put(test.in, 4 * i + 3, first);
            i++;
        }
    auto rank = [](uint16_t bits) {
        if ((bits & 0x7FFF) > 0x7F80) return -0x10000; // NaN
        return bits & 0x8000 ? -(int)(bits & 0x7FFF) - 1 : (int)bits;
    };
    for (unsigned word = 0; word < kValues / 2; word++)
        for (unsigned half = 0; half < 2; half++) {
            uint16_t a = at<uint16_t>(test.in, 4 * word + half),
                     b = at<uint16_t>(test.in, 4 * word + 2 + half);
            uint16_t want = rank(a) > rank(b) ? a : b;
            put(test.want, 2 * word + half, rank(want) == -0x10000 ? (uint16_t)0x7FFF : want);
        }
}

static void expect_exp2(Case &test) {
    const float special[] = {0,   -0.0f, 1,    -1,   -INFINITY, INFINITY,  127,
                             128, 200,   -126, -127, -150,      0x1p-140f, -0x1p-140f};
    for (unsigned i = 0; i < kValues; i++) put(test.in, i, random_unit() * (i % 2 == 0 ? 140.0f : 2.0f));
    for (unsigned i = 0; i < sizeof special / sizeof *special; i++) put(test.in, i, special[i]);
    for (unsigned i = 0; i < kValues; i++) {
        double y = exp2((double)at<float>(test.in, i));
        put(test.want, i, y < 0x1p-126 ? 0.0f : (float)y); // .ftz
    }
}

static void expect_reciprocal(Case &test) {
    const float special[] = {0, -0.0f, 1, -1, INFINITY, -INFINITY, 0x1p127f, -0x1p127f};
    for (unsigned i = 0; i < kValues; i++) put(test.in, i, random_unit() * (i % 2 == 0 ? 1e6f : 2.0f));
    for (unsigned i = 0; i < sizeof special / sizeof *special; i++) put(test.in, i, special[i]);
    for (unsigned i = 0; i < kValues; i++) {
        double y = 1 / (double)at<float>(test.in, i);
        put(test.want, i, fabs(y) < 0x1p-126 ? copysignf(0.0f, (float)y) : (float)y); // .ftz
    }
}

static void expect_copies(Case &test) {
    test.in = random_bytes(34 * 16);
    test.want = test.in;
    for (unsigned i = 0; i < 34; i++)
        for (unsigned byte = i % 17; byte < 16; byte++) test.want[16 * i + byte] = 0;
}

static void expect_barriers(Case &test) {
    test.in = random_bytes(64 * 2 * 32 * 4);
    for (unsigned i = 0; i < 64 * 2 * 32; i++) put(test.want, i, at<uint32_t>(test.in, i ^ 31));
}

static void expect_once(Case &test) {
    test.in = test.want = random_bytes(kValues);
}

static void expect_shuffles(Case &test) {
    test.in = random_bytes(64 * 4);
    put(test.in, 9, 0u); // nothing set: __clz 32, __ffs 0
    auto x = [&](unsigned lane) { return at<uint32_t>(test.in, lane); };
    uint32_t odd = 0;
    for (unsigned lane = 0; lane < 32; lane++) odd |= (x(lane) & 1) << lane;
    for (unsigned lane = 0; lane < 32; lane++) {
        uint32_t value = x(lane), counts = 0, first = 0, zeros = 0;
        for (unsigned bit = 0; bit < 32; bit++) counts += value >> bit & 1;
        for (unsigned bit = 32; bit-- > 0;)
            if (value >> bit & 1) first = bit + 1;
        while (zeros < 32 && (value >> (31 - zeros) & 1) == 0) zeros++;
        const uint32_t want[8] = {x(x(32 + lane) % 32),
                                  x(lane ^ 11),
                                  x(lane + 5 < 32 ? lane + 5 : lane),
                                  x(lane >= 3 ? lane - 3 : lane),
                                  odd,
                                  1,
                                  0,
                                  counts + zeros + first};
        for (unsigned i = 0; i < 8; i++) put(test.want, lane * 8 + i, want[i]);
    }
}

static void expect_overlap(Case &test) {
    test.in = random_bytes(kValues * 4);
    test.want.resize(2 * kValues * 4);
    for (unsigned kernel = 0; kernel < kOverlapped; kernel++)
        for (unsigned i = 0; i < kValues; i++) {
            unsigned from = overlap_source(i);
            uint32_t x = kernel == 0 ? at<uint32_t>(test.in, from)
                                     : at<uint32_t>(test.want, (kernel + 1) % 2 * kValues + from);
            for (unsigned step = 0; step < kOverlapSlowness; step++) x = overlap_step(x);
            put(test.want, kernel % 2 * kValues + i, x);
        }
}

/** Row r of a box is 128 bytes, its 16-byte chunk c at place c ^ (r mod 8); of a narrow one 32, at c ^ (r/4
 * mod 2); outside the matrix there are zeros. What lies between its columns and its stride is outside too. */
static void expect_boxes(Case &test) {
    test.in = random_bytes(kMatrixRows * kMatrixStride * 2);
    bool narrow = test.which == kNarrowPlanes, planes = narrow || test.which == kPlanes;
    int columns = narrow ? 16 : 64;
    int rows = planes ? kPlaneRows : kMatrixRows;
    for (int box = 0; box < kBoxCount; box++)
        for (int r = 0; r < kBoxRows; r++)
            for (int c = 0; c < columns; c++) {
                int row = kBoxAt[box][1] + r, column = kBoxAt[box][0] + c;
                int plane = planes ? plane_of(box) : 0;
                bool inside = row >= 0 && row < rows && column >= 0 && column < kMatrixColumns &&
                              plane >= 0 && (plane < kPlaneCount || !planes);
                size_t index = (size_t)(plane * kPlaneStride + row * kMatrixStride + column);
                uint16_t value = inside ? at<uint16_t>(test.in, index) : (uint16_t)0;
                int chunk = c / 8 ^ (narrow ? r / 4 % 2 : r % 8);
                put(test.want, (size_t)((box * kBoxRows + r) * columns + chunk * 8 + c % 8), value);
            }
}

/** D of wgmma.m64nNk16: warp w has rows 16·w …; of lane l number i is row l/4 + 8·(i/2 mod 2), column 8·(i/4)
 * + 2·(l mod 4) + i mod 2. */
static void expect_products(Case &test) {
    unsigned n = (unsigned)test.n;
    test.in = random_halves(64 * kDepth + n * kDepth);
    auto value = [&](size_t index) { return (double)simt::from_bf16(at<uint16_t>(test.in, index)); };
    for (unsigned thread = 0; thread < 128; thread++)
        for (unsigned i = 0; i < n / 2; i++) {
            unsigned row = thread / 32 * 16 + thread % 32 / 4 + i / 2 % 2 * 8;
            unsigned column = i / 4 * 8 + thread % 4 * 2 + i % 2;
            double sum = 0, magnitude = 0;
            for (unsigned k = 0; k < kDepth; k++) {
                double b = value(64 * kDepth + (test.along_n ? k * n + column : column * kDepth + k));
                double product = value(row * kDepth + k) * b;
                sum += product;
                magnitude += fabs(product);
            }
            put(test.want, thread * (n / 2) + i, (float)sum);
            test.sum.push_back(magnitude);
        }
}

/* ---- comparing ---- */

/** Floats in their order as integers, so that differences are units in the last place. */
static int64_t ordered(float value) {
    int32_t bits;
    memcpy(&bits, &value, 4);
    return bits < 0 ? -(int64_t)(bits & 0x7FFFFFFF) : bits;
}

static bool near(const Case &test, size_t i, float have, float want) {
    if (!test.sum.empty()) return fabs((double)have - (double)want) <= 0x1p-22 * test.sum[i];
    if (fabsf(want) <= 0x1.00001p-126f && fabsf(have) <= 0x1.00001p-126f)
        return true; // flushed by one, not by the other
    return !std::isnan(have) && llabs(ordered(have) - ordered(want)) <= 2;
}

static void compare(const Case &test, const char *whose, const Bytes &have, const Bytes &want) {
    bool numbers = !test.sum.empty() || test.which == kExp2 || test.which == kReciprocal;
    unsigned wrong = 0;
    for (size_t i = 0; i < want.size() / 4; i++) {
        bool same = at<uint32_t>(have, i) == at<uint32_t>(want, i);
        if (same || (numbers && near(test, i, at<float>(have, i), at<float>(want, i)))) continue;
        if (wrong++ < 3)
            printf("FAILED %s, %s: word %zu is %08x (%g), not %08x (%g)\n", test.name, whose, i,
                   at<uint32_t>(have, i), (double)at<float>(have, i), at<uint32_t>(want, i),
                   (double)at<float>(want, i));
    }
    if (wrong > 0) printf("FAILED %s, %s: %u of %zu words\n", test.name, whose, wrong, want.size() / 4);
    failures += wrong > 0;
}

static void check(Case &test, int native) {
    Bytes twin(test.want.size()), gpu(test.want.size());
    const char *error =
        wrappers_twin::run(test.which, test.in.data(), test.in.size(), twin.data(), twin.size());
    if (error != nullptr) {
        printf("FAILED %s, the twin: %s\n", test.name, error);
        failures++;
        return;
    }
    compare(test, "the twin against the manual", twin, test.want);
    if (native == 0 || (test.which >= kOverlap && native != 90)) return;
#ifdef GP_WRAPPERS_NATIVE
    error = wrappers_native::run(test.which, test.in.data(), test.in.size(), gpu.data(), gpu.size());
    if (error == nullptr) return compare(test, "the GPU against the twin", gpu, twin);
    printf("FAILED %s, the GPU: %s\n", test.name, error);
    failures++;
#endif
}

static Case cases[] = {
    {"load_tiles", kTiles, 0, false, {}, {}, {}},
    {"load_tiles_transposed", kTilesTransposed, 0, false, {}, {}, {}},
    {"multiply", kMultiply, 0, false, {}, {}, {}},
    {"pack_bf16", kPack, 0, false, {}, {}, {}},
    {"larger_bf16", kLarger, 0, false, {}, {}, {}},
    {"exp2_fast", kExp2, 0, false, {}, {}, {}},
    {"reciprocal_fast", kReciprocal, 0, false, {}, {}, {}},
    {"copy_async", kCopyAsync, 0, false, {}, {}, {}},
    {"named barriers", kNamedBarriers, 0, false, {}, {}, {}},
    {"load_once", kLoadOnce, 0, false, {}, {}, {}},
    {"shuffles", kShuffles, 0, false, {}, {}, {}},
    {"await_earlier, let_next_begin", kOverlap, 0, false, {}, {}, {}},
    {"mbarrier, tensor_load", kBoxes, 0, false, {}, {}, {}},
    {"tensor_load from planes", kPlanes, 0, false, {}, {}, {}},
    {"tensor_load of narrow boxes", kNarrowPlanes, 0, false, {}, {}, {}},
    {"product_n64", kN64, 64, false, {}, {}, {}},
    {"product_n64 along N", kN64AlongN, 64, true, {}, {}, {}},
    {"product_n128", kN128, 128, false, {}, {}, {}},
    {"product_n128 along N", kN128AlongN, 128, true, {}, {}, {}},
    {"product_n144", kN144, 144, false, {}, {}, {}},
    {"product_n144 along N", kN144AlongN, 144, true, {}, {}, {}},
    {"product_n256", kN256, 256, false, {}, {}, {}},
    {"product_n256 along N", kN256AlongN, 256, true, {}, {}, {}},
    {"product_n64, A in registers", kN64Registers, 64, false, {}, {}, {}},
    {"product_n64 along N, A in registers", kN64RegistersAlongN, 64, true, {}, {}, {}},
    {"product_n72, A in registers", kN72Registers, 72, false, {}, {}, {}},
    {"product_n72 along N, A in registers", kN72RegistersAlongN, 72, true, {}, {}, {}},
    {"product_n128, A in registers", kN128Registers, 128, false, {}, {}, {}},
    {"product_n128 along N, A in registers", kN128RegistersAlongN, 128, true, {}, {}, {}},
    {"product_n128 of a narrow B", kN128Narrow, 128, false, {}, {}, {}},
};

static void (*const expectations[])(Case &) = {
    expect_tiles,    expect_tiles,      expect_multiply, expect_pack,     expect_larger,
    expect_exp2,     expect_reciprocal, expect_copies,   expect_barriers, expect_once,
    expect_shuffles, expect_overlap,    expect_boxes,    expect_boxes,    expect_boxes};

int main() {
    static_assert(sizeof cases / sizeof *cases == kWrappers, "a case for every wrapper");
    setenv("GEOPIXEL_SIMT_CAPABILITY", "90", 1);
    wrappers_twin::capability(); // sets the emulated limit on shared memory
    int native = 0;
#ifdef GP_WRAPPERS_NATIVE
    native = wrappers_native::capability();
#endif
    for (int round = 0; round < 3; round++)
        for (Case &test : cases) {
            test.in.clear(), test.want.clear(), test.sum.clear();
            (test.n > 0 ? expect_products : expectations[test.which])(test);
            check(test, native);
        }
    printf("%d wrappers, %d failures\n", (int)kWrappers, failures);
    if (native == 0)
        printf("not compared with a GPU: none is here\n");
    else
        printf("compared with a GPU of capability %d.%d%s\n", native / 10, native % 10,
               native == 90
                   ? ""
                   : ": all but early launches, tensor copies, mbarriers and wgmma, which are Hopper's");
    return failures > 0;
}
