/**
 * An emulator of one CUDA device for kernel sources compiled as C++: one fibre per thread, one block at a
 * time. Warps meet at collective operations, barriers hold until all have come, asynchronous copies land as
 * late as they may, and every load and store is seen (the kernels are compiled with -fsanitize=thread against
 * callbacks of memory.cpp).
 *
 * What it reports, with kernel, block, thread and source line: a divergent collective; a barrier that too few
 * threads reach; access outside what the kernel was given, or misaligned; a read of shared memory that nobody
 * wrote, or that races with a write (happens-before is tracked by vector clocks over barriers, mbarriers and
 * __syncwarp); an asynchronous copy consumed before its wait; an operand of wgmma changed before its wait;
 * shared memory written by ordinary stores and read by the asynchronous proxy without a fence between; a
 * kernel launched early that writes, or reads what the kernels before it wrote, before it waited for them.
 *
 * This header is the emulator's own side; kernels see tests/simt/twin/ptx.
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace simt {

constexpr unsigned kWarp = 32, kThreadsMax = 1024, kSharedMax = 227 * 1024, kSharedBase = 1024;

struct Index {
    unsigned x = 0, y = 0, z = 0;
};

/** Where in the sources a wrapper was called. */
struct Place {
    const char *file;
    int line;
};

/** Vector clocks have one entry per thread of the block, one for the asynchronous proxy, one per warp for its
 * wgmma. */
using Clocks = std::vector<uint32_t>;

struct Context; // a fibre's saved registers

enum class State { Ready, Waiting, Done };

struct Thread {
    Context *context = nullptr;
    unsigned id = 0; // linear in the block
    Index index;
    State state = State::Ready;
    Clocks clock;             // clock[id] is its own time
    uint32_t proxy_fence = 0; // its own time at its last fence.proxy.async
    bool awaited = true;      // the kernels before: a launch that is not early has no need to
    const char *waits_for = nullptr;
    Place place{};
    /* cp.async: copies of the open group, then committed groups, oldest first */
    struct Copy {
        unsigned offset;
        const unsigned char *source;
        unsigned bytes, filled; // `filled` bytes are copied, the rest of `bytes` set to 0
    };
    std::vector<Copy> open_copies;
    std::vector<std::vector<Copy>> copy_groups;
    void *result = nullptr; // where a collective leaves this thread's share
};

/** The running thread; null between launches, and always in threads of the program that launch nothing. */
extern __thread Thread *self;

/* ---- scheduler.cpp ---- */

struct Launch {
    const char *kernel;
    Index grid, block;
    size_t shared_bytes;
    int device; // of its stream
    bool early;
    uint32_t chain;      // of launches that may run beside each other
    uint32_t number = 0; // among all; given by `launch`
};

/**
 * The emulator's one lock. Threads of the program take turns: each launch is made under it, from the first
 * `allow` of its own to the last `disallow`, and so is every change of what buffers there are.
 */
void lock();
void unlock();

/** Runs thread(argument) for every thread of every block, under the lock; the first error ends the launch and
 * is kept for take_error, or ends the program if nobody asked for errors (expect_errors). */
void launch(const Launch &what, void (*thread)(void *), void *argument);
/** Does what copies from pinned memory are under way; launches come after them. */
void finish_copies();
const Launch &running();
Index block_index();
unsigned thread_count();
Thread &thread_of(unsigned id);

/** Bytes of shared memory that a block of the emulated GPU may have. */
void set_shared_limit(size_t bytes);

/** The running thread waits for what is before its launch in the stream: here it has been done long ago. */
void await_earlier();

/** Gives the processor away until somebody sets the thread Ready again. */
void wait_here(const char *what, Place place);
void make_ready(Thread &thread);

/** Reports an error of the running thread (or of none) and ends the launch. Does not return inside a fibre.
 */
[[noreturn]] void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
void expect_errors(bool expected);
/** The error of the last launch, "" when there was none; forgets it. */
std::string take_error();

/** Order of warps and asynchronous landings, fresh numbers at each launch. */
uint32_t random_number();
void seed(uint64_t value);

/* ---- collective.cpp ---- */

/**
 * Meets the other lanes of `mask` at one operation. Each brings `argument`; the last to come calls
 * run(arguments, lanes, …) once for all. `kind` must be the same text for all and `place` the same line: else
 * a divergent collective is reported. Does not order memory.
 */
void meet(const char *kind, Place place, uint32_t mask, void *argument,
          void (*run)(void *const arguments[kWarp], uint32_t mask));

/** Named barrier `id` of `threads` threads: waits (sync) or only arrives. */
void barrier(unsigned id, unsigned threads, bool wait, Place place);
void sync_warp(uint32_t mask, Place place);

/* ---- memory.cpp ---- */

void *shared_memory();
/** Address in the shared window, as PTX counts it. Reports pointers outside it. */
uint32_t shared_address(const void *pointer, size_t bytes, Place place);
unsigned char *shared_pointer(uint32_t address, size_t bytes, size_t alignment, const char *what,
                              Place place);

/** A region that kernels on a device may read and write, or only read. Under the lock, but in programs of one
 * thread. */
void allow(const void *begin, size_t bytes, bool writable, int device);
void disallow(const void *begin);

enum class Access { Read, Write, Operand, AsyncWrite }; // Operand: read by a wgmma of the warp
/** Checks an access by the running thread, as its loads and stores are checked; place is for the report. */
void check_access(const void *pointer, size_t bytes, size_t alignment, Access access, Place place);
/** Checks an atomic's target. Atomics order nothing, and race with nothing but ordinary accesses. */
void check_atomic(const void *pointer, size_t bytes, Place place);
/** Marks shared bytes as the target of a copy that has not landed, and as landed: written by the running
 * thread, or by the asynchronous proxy at its present time. */
void begin_copy(unsigned offset, size_t bytes, Place place);
void land_copy(unsigned offset, size_t bytes, bool by_proxy);
/** Marks shared bytes as in use by a wgmma that has not been waited for; +1 or −1. */
void use_operand(unsigned offset, size_t bytes, int change);
void reset_shared(size_t bytes);

/** The asynchronous proxy's time, raised at each landing. */
extern uint32_t proxy_time;
unsigned proxy_entry();
/** The time of a warp's wgmma, raised at each wait: what they read before is known to those who know of the
 * wait. */
extern uint32_t products_time[kThreadsMax / kWarp];
unsigned products_entry(unsigned warp);

/* Not instrumented, since their targets are checked by check_atomic. */
template <typename T> __attribute__((no_sanitize("thread"), noinline)) T atomic_add(T *target, T value) {
    T old = *target;
    *target = old + value;
    return old;
}
template <typename T> __attribute__((no_sanitize("thread"), noinline)) T atomic_max(T *target, T value) {
    T old = *target;
    if (value > old) *target = value;
    return old;
}

/* ---- clocks ---- */

void join(Clocks &target, const Clocks &source);
/** What the running thread did until now becomes visible to those that join the returned clocks; later doings
 * do not. */
void release(Clocks &into);
void acquire(const Clocks &from);

/* ---- async.cpp ---- */

void cp_async(void *target, const void *source, unsigned bytes, unsigned filled, Place place);
void cp_async_commit();
void cp_async_wait(unsigned left, Place place);

void mbarrier_init(void *barrier, unsigned count, Place place);
void mbarrier_arrive(void *barrier, unsigned expected_bytes, Place place);
void mbarrier_wait(void *barrier, unsigned parity, Place place);

/** A tensor map: planes of rows of 2-byte elements, read in boxes of one plane with 128-byte swizzle. */
struct TensorMap {
    const unsigned char *base;
    uint64_t planes, rows, columns, plane_bytes, stride_bytes; // from plane to plane, from row to row
    uint32_t box_rows, box_columns;
    uint64_t magic;
};
void tensor_load(const TensorMap *map, void *target, int column, int row, int plane, void *barrier,
                 Place place);
void land_pending(bool all);
bool has_pending();
void reset_async();

void fence_proxy_async();
void wgmma_fence(Place place);
/** One m64nNk16 of a warpgroup: d [N/2 registers] += A·B; A by descriptor, or by 4 registers (a != nullptr).
 */
struct Wgmma {
    float *d;
    const uint32_t *a;
    uint64_t a_descriptor, b_descriptor;
    int n;
    bool scale_d, transpose_b;
};
void wgmma(const Wgmma &operation, Place place);
void wgmma_commit(Place place);
void wgmma_wait(unsigned left, Place place);
/** Reports what a thread leaves unfinished when it ends. */
void thread_ends();

} // namespace simt
