/** Copies and products that are not done when they are issued: cp.async, mbarriers, tensor copies, wgmma. */
#include "tests/simt/emulator.h"
#include "tests/simt/numbers.h"

#include <algorithm>
#include <cstring>
#include <map>

namespace simt {

void reset_collectives();
bool on_stack(const void *pointer);

/* ---- cp.async ---- */

void cp_async(void *target, const void *source, unsigned bytes, unsigned filled, Place place) {
    uint32_t address = shared_address(target, bytes, place);
    if (address % bytes != 0)
        fail("cp.async at %s:%d: offset %u is misaligned: a multiple of %u is needed", place.file, place.line,
             address - kSharedBase, bytes);
    if (filled > bytes) fail("cp.async at %s:%d: %u bytes of %u", place.file, place.line, filled, bytes);
    if ((uintptr_t)source % bytes != 0)
        fail("cp.async at %s:%d: misaligned source %p: a multiple of %u is needed", place.file, place.line,
             source, bytes);
    if (filled > 0) check_access(source, filled, 1, Access::Read, place);
    begin_copy(address - kSharedBase, bytes, place);
    self->open_copies.push_back({address - kSharedBase, (const unsigned char *)source, bytes, filled});
}

void cp_async_commit() {
    self->copy_groups.push_back(std::move(self->open_copies));
    self->open_copies.clear();
}

void cp_async_wait(unsigned left, Place) {
    auto &groups = self->copy_groups;
    size_t landing = groups.size() > left ? groups.size() - left : 0;
    for (size_t i = 0; i < landing; i++)
        for (const Thread::Copy &copy : groups[i]) {
            auto *target = (unsigned char *)shared_memory() + copy.offset;
            if (copy.filled > 0) memcpy(target, copy.source, copy.filled);
            memset(target + copy.filled, 0, copy.bytes - copy.filled);
            land_copy(copy.offset, copy.bytes, false);
        }
    groups.erase(groups.begin(), groups.begin() + (long)landing);
}

/* ---- mbarriers ---- */

struct MBarrier {
    unsigned count = 0, pending = 0;
    long bytes = 0; // expected and not yet come
    unsigned phase = 0;
    Clocks arriving, completed;
    std::vector<std::pair<unsigned, unsigned>> waiting; // thread, parity
};
static std::map<uint32_t, MBarrier> mbarriers;

static MBarrier &find(void *barrier, Place place) {
    uint32_t address = shared_address(barrier, 8, place);
    auto at = mbarriers.find(address);
    if (at == mbarriers.end()) fail("mbarrier at %s:%d: nobody initialised it", place.file, place.line);
    check_access(barrier, 8, 8, Access::Read, place); // initialised before, for all who come
    return at->second;
}

void mbarrier_init(void *barrier, unsigned count, Place place) {
    uint32_t address = shared_address(barrier, 8, place);
    check_access(barrier, 8, 8, Access::Write, place);
    if (count == 0) fail("mbarrier at %s:%d: a count of 0", place.file, place.line);
    MBarrier fresh;
    fresh.count = fresh.pending = count;
    mbarriers[address] = fresh;
}

static void settle(MBarrier &barrier) {
    if (barrier.pending > 0 || barrier.bytes != 0) return;
    barrier.phase ^= 1;
    barrier.pending = barrier.count;
    barrier.completed = std::move(barrier.arriving);
    barrier.arriving.clear();
    std::vector<std::pair<unsigned, unsigned>> still;
    for (auto [id, parity] : barrier.waiting) {
        if (parity == barrier.phase) {
            still.push_back({id, parity});
            continue;
        }
        join(thread_of(id).clock, barrier.completed);
        make_ready(thread_of(id));
    }
    barrier.waiting = std::move(still);
}

void mbarrier_arrive(void *barrier, unsigned expected_bytes, Place place) {
    MBarrier &found = find(barrier, place);
    if (found.pending == 0)
        fail("mbarrier at %s:%d: more arrivals than its count of %u", place.file, place.line, found.count);
    found.bytes += expected_bytes;
    found.pending--;
    release(found.arriving);
    settle(found);
}

void mbarrier_wait(void *barrier, unsigned parity, Place place) {
    MBarrier &found = find(barrier, place);
    if (parity > 1) fail("mbarrier at %s:%d: parity %u", place.file, place.line, parity);
    if (found.phase != parity) {
        acquire(found.completed);
        return;
    }
    found.waiting.push_back({self->id, parity});
    wait_here("an mbarrier", place);
}

/* ---- tensor copies ---- */

constexpr unsigned kWideRow = 128, kNarrowRow = 32; // bytes of a box's row; its swizzle is of as many

struct Landing {
    TensorMap map;
    unsigned offset;
    int column, row, plane;
    uint32_t barrier;
};
static std::vector<Landing> pending;

/** Bytes as a swizzle of `row` bytes lays them: address bits 4–6 ^= bits 7–9, or bit 4 ^= bit 7. */
static unsigned swizzled(unsigned address, unsigned row) {
    return address ^ ((address >> 7 & (row / 16 - 1)) << 4);
}

void tensor_load(const TensorMap *map, void *target, int column, int row, int plane, void *barrier,
                 Place place) {
    size_t bytes = (size_t)map->box_rows * map->box_columns * 2;
    if (map->magic != 0x7E4504A9) fail("tensor copy at %s:%d: no tensor map", place.file, place.line);
    uint32_t address = shared_address(target, bytes, place);
    const unsigned row_bytes = map->box_columns * 2;
    if (address % (8 * row_bytes) != 0)
        fail("tensor copy at %s:%d: offset %u is misaligned: %u-byte swizzle repeats every %u", place.file,
             place.line, address - kSharedBase, row_bytes, 8 * row_bytes);
    if (column % 8 != 0)
        fail("tensor copy at %s:%d: column %d is misaligned: a box starts at a multiple of 16 bytes",
             place.file, place.line, column);
    find(barrier, place);
    int64_t first = std::max(column, 0),
            last = std::min<int64_t>((int64_t)column + map->box_columns, (int64_t)map->columns);
    if (plane >= 0 && plane < (int64_t)map->planes && first < last)
        for (int64_t r = std::max(row, 0);
             r < std::min<int64_t>((int64_t)row + map->box_rows, (int64_t)map->rows); r++)
            check_access(map->base + (uint64_t)plane * map->plane_bytes + (uint64_t)r * map->stride_bytes +
                             (uint64_t)first * 2,
                         (size_t)(last - first) * 2, 2, Access::Read, place);
    begin_copy(address - kSharedBase, bytes, place);
    pending.push_back({*map, address - kSharedBase, column, row, plane, shared_address(barrier, 8, place)});
}

bool has_pending() {
    return !pending.empty();
}

void land_pending(bool all) {
    do {
        size_t which = random_number() % pending.size();
        Landing landing = pending[which];
        pending.erase(pending.begin() + (long)which);
        const TensorMap &map = landing.map;
        auto *shared = (unsigned char *)shared_memory();
        for (unsigned r = 0; r < map.box_rows; r++)
            for (unsigned c = 0; c < map.box_columns; c++) {
                int64_t row = (int64_t)landing.row + r, column = (int64_t)landing.column + c;
                uint16_t value = 0; // beyond the tensor: zeros
                if (row >= 0 && row < (int64_t)map.rows && column >= 0 && column < (int64_t)map.columns &&
                    landing.plane >= 0 && landing.plane < (int64_t)map.planes)
                    memcpy(&value,
                           map.base + (uint64_t)landing.plane * map.plane_bytes +
                               (uint64_t)row * map.stride_bytes + (uint64_t)column * 2,
                           2);
                unsigned address = kSharedBase + landing.offset + r * map.box_columns * 2 + c * 2;
                address = swizzled(address, map.box_columns * 2);
                memcpy(shared + (address - kSharedBase), &value, 2);
            }
        size_t bytes = (size_t)map.box_rows * map.box_columns * 2;
        proxy_time++;
        land_copy(landing.offset, bytes, true);
        MBarrier &barrier = mbarriers[landing.barrier];
        Clocks seen(proxy_entry() + 1, 0);
        seen[proxy_entry()] = proxy_time;
        join(barrier.arriving, seen);
        barrier.bytes -= (long)bytes;
        settle(barrier);
    } while (all && !pending.empty());
}

/* ---- wgmma ---- */

struct Pending {
    Wgmma operation;
    float *d[kWarp];
    uint32_t a[kWarp][4];
    bool a_registers;
};
/** A warp's part of the warpgroup's products: rows 16·(warp mod 4) and on. */
struct WarpProducts {
    std::vector<Pending> open;
    std::vector<std::vector<Pending>> groups;
    bool fenced = false;
};
static WarpProducts products[kThreadsMax / kWarp];

void reset_async() {
    reset_collectives();
    mbarriers.clear();
    pending.clear();
    for (WarpProducts &each : products) each = WarpProducts();
}

void fence_proxy_async() {
    self->proxy_fence = self->clock[self->id]++;
}

void wgmma_fence(Place place) {
    meet("wgmma.fence", place, 0xFFFFFFFFu, nullptr,
         [](void *const *, uint32_t) { products[self->id / kWarp].fenced = true; });
}

/** Offset in shared memory of element (row of M or N, k) of an operand that a descriptor describes. */
struct Operand {
    uint32_t start, leading, stride, row_bytes; // bytes
    bool transposed;                            // rows of M or N are contiguous
    uint32_t address(unsigned row, unsigned k) const {
        uint32_t linear;
        if (transposed) // ((T,8,m),(8,k)) : ((1,T,LBO),(8T,SBO))
            linear = start + row % 64 * 2 + row / 64 * leading + k % 8 * 128 + k / 8 * stride;
        else // ((8,m),(T,2)) : ((8T,SBO),(1,T))
            linear = start + row % 8 * row_bytes + row / 8 * stride + k * 2;
        return swizzled(linear, row_bytes);
    }
};

static Operand decode(uint64_t descriptor, bool transposed, const char *which, Place place) {
    Operand operand{(uint32_t)(descriptor & 0x3FFF) << 4, (uint32_t)(descriptor >> 16 & 0x3FFF) << 4,
                    (uint32_t)(descriptor >> 32 & 0x3FFF) << 4, descriptor >> 62 == 3 ? kNarrowRow : kWideRow,
                    transposed};
    if (descriptor >> 62 != 1 && (descriptor >> 62 != 3 || transposed))
        fail("wgmma at %s:%d: operand %s is not in 128-byte swizzle, nor K-major in 32-byte", place.file,
             place.line, which);
    if ((descriptor >> 49 & 7) != 0)
        fail("wgmma at %s:%d: operand %s has a base offset", place.file, place.line, which);
    if ((descriptor & 0x1FFCC000C000C000ull) != 0)
        fail("wgmma at %s:%d: operand %s: bits that must be 0 are set: %016llx", place.file, place.line,
             which, (unsigned long long)descriptor);
    return operand;
}

/** Each 16-byte chunk of an operand's `rows` × 16 values. */
template <typename Each> static void chunks(const Operand &operand, unsigned rows, Each each) {
    if (operand.transposed)
        for (unsigned k = 0; k < 16; k++)
            for (unsigned row = 0; row < rows; row += 8) each(operand.address(row, k));
    else
        for (unsigned row = 0; row < rows; row++)
            for (unsigned k = 0; k < 16; k += 8) each(operand.address(row, k));
}

static unsigned first_row(unsigned warp) {
    return warp % 4 * 16;
}

static void check_operand(Operand operand, unsigned rows, const char *which, Place place) {
    chunks(operand, rows, [&](uint32_t address) {
        unsigned char *chunk = shared_pointer(address, 16, 16, which, place);
        check_access(chunk, 16, 16, Access::Operand, place);
        use_operand(address - kSharedBase, 16, 1);
    });
}

/** A's rows of this warp alone. */
static Operand rows_of_warp(Operand a, unsigned warp) {
    a.start += a.transposed ? first_row(warp) * 2 : first_row(warp) / 8 * a.stride;
    return a;
}

static Place issued_at;

void wgmma(const Wgmma &operation, Place place) {
    Wgmma own = operation;
    issued_at = place;
    meet("wgmma", place, 0xFFFFFFFFu, &own, [](void *const arguments[kWarp], uint32_t lanes) {
        unsigned warp = self->id / kWarp;
        Place where = issued_at;
        WarpProducts &mine = products[warp];
        Pending next{};
        if (lanes != 0xFFFFFFFFu)
            fail("wgmma at %s:%d: a warp of fewer than 32 threads", where.file, where.line);
        if (!mine.fenced)
            fail("wgmma at %s:%d: no wgmma.fence since the accumulators may have been touched", where.file,
                 where.line);
        next.operation = *(const Wgmma *)arguments[0];
        for (unsigned lane = 0; lane < kWarp; lane++) {
            const Wgmma &each = *(const Wgmma *)arguments[lane];
            if (each.a_descriptor != next.operation.a_descriptor ||
                each.b_descriptor != next.operation.b_descriptor || each.scale_d != next.operation.scale_d)
                fail("wgmma at %s:%d: lanes 0 and %u differ in descriptor or scale", where.file, where.line,
                     lane);
            next.d[lane] = each.d;
            if (each.a != nullptr) memcpy(next.a[lane], each.a, sizeof next.a[lane]);
        }
        next.a_registers = next.operation.a != nullptr;
        if (!next.a_registers)
            check_operand(rows_of_warp(decode(next.operation.a_descriptor, false, "A", where), warp), 16, "A",
                          where);
        check_operand(decode(next.operation.b_descriptor, next.operation.transpose_b, "B", where),
                      (unsigned)next.operation.n, "B", where);
        mine.open.push_back(next);
    });
}

void wgmma_commit(Place place) {
    meet("wgmma.commit_group", place, 0xFFFFFFFFu, nullptr, [](void *const *, uint32_t) {
        WarpProducts &mine = products[self->id / kWarp];
        mine.groups.push_back(std::move(mine.open));
        mine.open.clear();
    });
}

static float value_at(uint32_t address) {
    uint16_t bits;
    memcpy(&bits, (unsigned char *)shared_memory() + (address - kSharedBase), 2);
    return from_bf16(bits);
}

/** d += A·B for the warp's 16 rows; fragments as mma.m16n8k16 has them. */
static void compute(const Pending &product, unsigned warp) {
    const Wgmma &what = product.operation;
    unsigned n = (unsigned)what.n;
    float a[16][16];
    static float b[256][16];
    Operand b_operand = decode(what.b_descriptor, what.transpose_b, "B", {"", 0});
    for (unsigned row = 0; row < n; row++)
        for (unsigned k = 0; k < 16; k++) b[row][k] = value_at(b_operand.address(row, k));
    if (product.a_registers) {
        unpack_a(product.a, a);
    } else {
        Operand a_operand = rows_of_warp(decode(what.a_descriptor, false, "A", {"", 0}), warp);
        for (unsigned row = 0; row < 16; row++)
            for (unsigned k = 0; k < 16; k++) a[row][k] = value_at(a_operand.address(row, k));
        chunks(a_operand, 16, [](uint32_t address) { use_operand(address - kSharedBase, 16, -1); });
    }
    chunks(b_operand, n, [](uint32_t address) { use_operand(address - kSharedBase, 16, -1); });
    for (unsigned lane = 0; lane < kWarp; lane++)
        for (unsigned i = 0; i < n / 2; i++) {
            unsigned row = lane / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + lane % 4 * 2 + i % 2;
            float sum = what.scale_d ? product.d[lane][i] : 0;
            product.d[lane][i] = sum + dot16(a[row], b[column]);
        }
}

static unsigned left_wanted;

void wgmma_wait(unsigned left, Place place) {
    left_wanted = left;
    meet("wgmma.wait_group", place, 0xFFFFFFFFu, nullptr, [](void *const *, uint32_t) {
        unsigned warp = self->id / kWarp;
        auto &groups = products[warp].groups;
        while (groups.size() > left_wanted) {
            for (const Pending &product : groups.front()) compute(product, warp);
            groups.erase(groups.begin());
        }
        products[warp].fenced = false;
        for (unsigned lane = 0; lane < kWarp; lane++)
            thread_of(warp * kWarp + lane).clock[products_entry(warp)] = products_time[warp];
        products_time[warp]++;
    });
}

void thread_ends() {
    if (!self->open_copies.empty()) fail("ends with a cp.async that was never committed");
    for (const auto &group : self->copy_groups)
        if (!group.empty()) fail("ends with a cp.async that was never waited for");
    const WarpProducts &mine = products[self->id / kWarp];
    if (!mine.open.empty() || !mine.groups.empty()) fail("ends with a wgmma that was never waited for");
}

} // namespace simt
