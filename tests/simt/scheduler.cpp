/** Launches, fibres and the order in which they run. */
#include "tests/simt/emulator.h"
#include "tests/simt/runtime.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <pthread.h>
#include <sys/mman.h>

namespace simt {

constexpr size_t kStackBytes = 256 * 1024; // a thread's registers and local arrays

/*
 * A fibre switch saves what the calling convention lets a function keep: the rest is dead across the call.
 */
struct Context {
    void *stack_pointer;
    unsigned char *stack;
};

extern "C" void simt_switch(void **save, void *load);
#if defined(__x86_64__)
asm(R"(
.text
.globl simt_switch
.type simt_switch, @function
simt_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size simt_switch, .-simt_switch
)");
constexpr size_t kSavedWords = 6;
#elif defined(__aarch64__)
asm(R"(
.text
.globl simt_switch
.type simt_switch, %function
simt_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
.size simt_switch, .-simt_switch
)");
#else
#error "the emulator's fibres are written for x86-64 and arm64"
#endif

__thread Thread *self;

static pthread_mutex_t one_lock = PTHREAD_MUTEX_INITIALIZER;
static std::vector<Thread> threads;
static std::vector<Context> contexts;
static std::vector<unsigned> ready;
static size_t ready_head;
static void (*body)(void *);
static void *body_argument;
static Launch current;
static Index block;
static void *scheduler_stack;
static bool in_launch, errors_expected, failed;
static bool block_awaited; // one of the block's threads has called await_earlier
static std::string error;
static uint64_t random_state = 0x9E3779B97F4A7C15ull;

static size_t shared_limit = kSharedMax;

void set_shared_limit(size_t bytes) {
    shared_limit = bytes;
}

static void run_block();
static void start_fibre(Thread &thread);
static void switch_away();

void lock() {
    pthread_mutex_lock(&one_lock);
}

void unlock() {
    pthread_mutex_unlock(&one_lock);
}

void seed(uint64_t value) {
    random_state = value | 1;
}

uint32_t random_number() {
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (uint32_t)((random_state * 2685821657736338717ull) >> 32);
}

void launch(const Launch &what, void (*thread)(void *), void *argument) {
    finish_copies();
    current = what;
    static uint32_t launches;
    current.number = ++launches;
    body = thread;
    body_argument = argument;
    failed = false;
    in_launch = true;
    unsigned count = what.block.x * what.block.y * what.block.z;
    if (count == 0 || count > kThreadsMax) {
        block = {};
        self = nullptr;
        failed = true;
        error = std::string(what.kernel) + ": a block of " + std::to_string(count) + " threads";
    } else if (what.shared_bytes > shared_limit) {
        failed = true;
        error = std::string(what.kernel) + ": " + std::to_string(what.shared_bytes) +
                " bytes of shared memory, where a block may have " + std::to_string(shared_limit);
    } else if (what.device != current_device()) {
        failed = true;
        error = std::string(what.kernel) + ": a launch on device " + std::to_string(current_device()) +
                " into a stream of device " + std::to_string(what.device);
    }
    if (!failed) {
        // blocks in an order of chance: none may count on another
        std::vector<uint64_t> order((size_t)what.grid.x * what.grid.y * what.grid.z);
        for (size_t i = 0; i < order.size(); i++) order[i] = i;
        for (size_t i = order.size(); i > 1; i--) std::swap(order[i - 1], order[random_number() % i]);
        threads.resize(count);
        for (size_t i = 0; i < order.size() && !failed; i++) {
            block.x = (unsigned)(order[i] % what.grid.x);
            block.y = (unsigned)(order[i] / what.grid.x % what.grid.y);
            block.z = (unsigned)(order[i] / what.grid.x / what.grid.y);
            run_block();
        }
    }
    in_launch = false;
    self = nullptr;
    if (failed && !errors_expected) {
        fprintf(stderr, "simt: %s\n", error.c_str());
        exit(1);
    }
}

const Launch &running() {
    return current;
}

Index block_index() {
    return block;
}

unsigned thread_count() {
    return (unsigned)threads.size();
}

Thread &thread_of(unsigned id) {
    return threads[id];
}

void expect_errors(bool expected) {
    errors_expected = expected;
}

std::string take_error() {
    std::string text = error;
    error.clear();
    return text;
}

void fail(const char *format, ...) {
    char text[1024], whole[1536];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (self != nullptr)
        snprintf(whole, sizeof whole, "%s, block (%u, %u, %u), thread (%u, %u, %u): %s", current.kernel,
                 block.x, block.y, block.z, self->index.x, self->index.y, self->index.z, text);
    else
        snprintf(whole, sizeof whole, "%s, block (%u, %u, %u): %s", current.kernel, block.x, block.y, block.z,
                 text);
    if (!failed) error = whole;
    failed = true;
    if (self == nullptr) { // between fibres, or outside any launch
        if (in_launch) {
            fprintf(stderr, "simt: %s\n", whole);
            abort();
        }
        fprintf(stderr, "simt: %s\n", whole);
        exit(1);
    }
    switch_away(); // the scheduler sees `failed` and never comes back
    abort();
}

void await_earlier() {
    self->awaited = true;
    block_awaited = true;
}

void make_ready(Thread &thread) {
    thread.state = State::Ready;
    ready.push_back(thread.id);
}

void wait_here(const char *what, Place place) {
    self->state = State::Waiting;
    self->waits_for = what;
    self->place = place;
    switch_away();
}

static void switch_away() {
    simt_switch(&self->context->stack_pointer, scheduler_stack);
}

/** What to say when nobody can go on: who waits where. */
static void report_deadlock() {
    std::string text = std::string(current.kernel) + ", block (" + std::to_string(block.x) + ", " +
                       std::to_string(block.y) + ", " + std::to_string(block.z) + "): deadlock";
    const char *separator = ": ";
    for (size_t i = 0; i < threads.size();) {
        size_t end = i + 1;
        const Thread &thread = threads[i];
        while (end < threads.size() && threads[end].state == thread.state &&
               (thread.state == State::Done ||
                (threads[end].place.line == thread.place.line && threads[end].waits_for == thread.waits_for)))
            end++;
        text += separator;
        text += "threads " + std::to_string(i) + " to " + std::to_string(end - 1);
        if (thread.state == State::Done)
            text += " have ended";
        else
            text += std::string(" wait for ") + thread.waits_for + " at " + thread.place.file + ":" +
                    std::to_string(thread.place.line);
        separator = "; ";
        i = end;
        if (text.size() > 1200) break;
    }
    if (!failed) error = text;
    failed = true;
}

/** A kernel after this one waits for this one alone. */
static void report_unawaited() {
    error = std::string(current.kernel) + ", block (" + std::to_string(block.x) + ", " +
            std::to_string(block.y) + ", " + std::to_string(block.z) +
            "): launched early, but no thread has called await_earlier";
    failed = true;
}

static void run_block() {
    unsigned count = (unsigned)threads.size();
    reset_shared(current.shared_bytes);
    reset_async();
    ready.clear();
    ready_head = 0;
    block_awaited = !current.early;
    if (contexts.size() < count) {
        size_t old = contexts.size();
        contexts.resize(kThreadsMax); // stays: threads point into it
        for (size_t i = old; i < contexts.size(); i++) {
            void *stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (stack == MAP_FAILED) {
                perror("simt: mmap of a fibre's stack");
                exit(1);
            }
            contexts[i].stack = (unsigned char *)stack;
        }
    }
    std::vector<unsigned> warps((count + kWarp - 1) / kWarp);
    for (size_t i = 0; i < warps.size(); i++) warps[i] = (unsigned)i;
    for (size_t i = warps.size(); i > 1; i--) std::swap(warps[i - 1], warps[random_number() % i]);
    for (unsigned warp : warps) {
        for (unsigned id = warp * kWarp; id < count && id < (warp + 1) * kWarp; id++) {
            Thread &thread = threads[id];
            thread.context = &contexts[id];
            thread.id = id;
            thread.index = {id % current.block.x, id / current.block.x % current.block.y,
                            id / current.block.x / current.block.y};
            thread.clock.assign(count + 1 + warps.size(), 0);
            thread.clock[id] = 1;
            thread.proxy_fence = 0;
            thread.awaited = !current.early;
            thread.open_copies.clear();
            thread.copy_groups.clear();
            start_fibre(thread);
            make_ready(thread);
        }
    }
    while (!failed) {
        if (ready_head == ready.size()) {
            ready.clear();
            ready_head = 0;
            if (has_pending()) {
                land_pending(false);
                if (!ready.empty() || has_pending()) continue;
            }
            bool all_done = true;
            for (const Thread &thread : threads) all_done = all_done && thread.state == State::Done;
            if (!all_done) report_deadlock();
            if (all_done && !block_awaited) report_unawaited();
            return;
        }
        unsigned id = ready[ready_head++];
        if (ready_head > 65536) {
            ready.erase(ready.begin(), ready.begin() + (long)ready_head);
            ready_head = 0;
        }
        self = &threads[id];
        simt_switch(&scheduler_stack, self->context->stack_pointer);
        self = nullptr;
    }
}

static void fibre_main() {
    body(body_argument);
    thread_ends();
    self->state = State::Done;
    switch_away();
    abort();
}

/** A stack on which simt_switch finds zeros for the saved registers, and fibre_main to return to. */
static void start_fibre(Thread &thread) {
    auto *top = reinterpret_cast<uintptr_t *>(thread.context->stack + kStackBytes);
#if defined(__x86_64__)
    *--top = 0; // a return address for fibre_main: the stack is then as after a call
    *--top = reinterpret_cast<uintptr_t>(fibre_main);
    top -= kSavedWords;
    memset(top, 0, kSavedWords * sizeof *top);
#else
    top -= 20;
    memset(top, 0, 20 * sizeof *top);
    top[11] = reinterpret_cast<uintptr_t>(fibre_main); // x30
#endif
    thread.context->stack_pointer = top;
}

/** The running fibre's stack, for memory.cpp: its own arrays are its own business. */
bool on_stack(const void *pointer);
bool on_stack(const void *pointer) {
    auto *byte = static_cast<const unsigned char *>(pointer);
    return byte >= self->context->stack && byte < self->context->stack + kStackBytes;
}

} // namespace simt
