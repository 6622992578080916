/** Every load and store of a kernel: is it inside what the kernel has, aligned, written before, and ordered?
 */
#include "tests/simt/emulator.h"
#include "tests/simt/runtime.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <unistd.h>

namespace simt {

/* Shared memory is watched in granules of two bytes: two threads that write neighbouring single bytes are
 * taken for a race. */
constexpr unsigned kGranule = 2, kGranules = kSharedMax / kGranule, kWarpsMax = kThreadsMax / kWarp;

struct Granule {
    uint32_t write_time;
    uint16_t writer; // thread, or proxy_entry()
    bool written, by_proxy;
    uint8_t copies;   // of which it is the target, not landed
    uint8_t operands; // wgmma that read it and are not waited for
};

static unsigned char *shared; // kSharedMax bytes at a 1024-byte boundary, unreadable memory around
static size_t shared_bytes;
static Granule granules[kGranules];
/* The last read of each warp's threads: its time · 32 + lane; and of its wgmma: its products' time. */
static uint32_t *reads; // [granules][2 · warps of the block]
static unsigned warps;
uint32_t proxy_time, products_time[kThreadsMax / kWarp];

bool on_stack(const void *pointer);

struct Region {
    const unsigned char *begin, *end;
    bool writable;
    int device;
    struct Writer {
        uint32_t chain, launch;
    };
    std::vector<Writer> written; // who last wrote, each kSettled bytes
};
static std::vector<Region> regions; // sorted
static Region *recent;              // one of them, or null
constexpr size_t kSettled = 64;

unsigned proxy_entry() {
    return thread_count();
}

unsigned products_entry(unsigned warp) {
    return thread_count() + 1 + warp;
}

static void map_shared() {
    size_t page = 65536;
    auto *space =
        (unsigned char *)mmap(nullptr, kSharedMax + 3 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (space == MAP_FAILED) {
        perror("simt: mmap of shared memory");
        exit(1);
    }
    shared = (unsigned char *)(((uintptr_t)space + 2 * page - 1) / page * page);
    if (mprotect(shared, (kSharedMax + 4095) / 4096 * 4096, PROT_READ | PROT_WRITE) != 0) {
        perror("simt: mprotect of shared memory");
        exit(1);
    }
    reads = (uint32_t *)malloc((size_t)kGranules * 2 * kWarpsMax * sizeof *reads);
    if (reads == nullptr) exit(1);
}

void *shared_memory() {
    return shared;
}

void reset_shared(size_t bytes) {
    if (shared == nullptr) map_shared();
    shared_bytes = bytes;
    warps = (thread_count() + kWarp - 1) / kWarp;
    size_t count = (bytes + kGranule - 1) / kGranule;
    memset(granules, 0, count * sizeof *granules);
    memset(reads, 0, count * 2 * warps * sizeof *reads);
    memset(shared, 0xFF, bytes); // NaN in every format
    proxy_time = 1;
    for (uint32_t &time : products_time) time = 1;
}

/* ---- places ---- */

/** "file:line" of a code address, by addr2line; the address itself where that is not there. */
static std::string line_of(const void *address) {
    char command[256], text[512] = "";
    extern char executable_start __asm__("__executable_start");
    auto start = (uintptr_t)&executable_start;
    uintptr_t base = start > 0x10000000u ? start : 0; // one that is not position-independent starts low
    snprintf(command, sizeof command, "addr2line -e /proc/%d/exe 0x%lx 2>/dev/null", (int)getpid(),
             (unsigned long)((uintptr_t)address - 1 - base));
    if (FILE *pipe = popen(command, "r")) {
        if (fgets(text, sizeof text, pipe) == nullptr) text[0] = '\0';
        pclose(pipe);
    }
    text[strcspn(text, "\n")] = '\0';
    const char *space = strchr(text, ' '); // "(discriminator 3)"
    std::string line(text, space != nullptr ? (size_t)(space - text) : strlen(text));
    if (line.empty() || line[0] == '?') {
        snprintf(command, sizeof command, "code address %p", address);
        return command;
    }
    return line;
}

/** A wrapper's place, or with no file the code address that stands in its stead. */
static std::string text_of(Place place, const void *code) {
    if (place.file != nullptr) return std::string(place.file) + ":" + std::to_string(place.line);
    return line_of(code);
}

/* ---- shared memory ---- */

uint32_t shared_address(const void *pointer, size_t bytes, Place place) {
    auto offset = (size_t)((const unsigned char *)pointer - shared);
    if (offset > shared_bytes || bytes > shared_bytes - offset)
        fail("%s:%d: %zu bytes at offset %zd of shared memory, which has %zu", place.file, place.line, bytes,
             (ssize_t)offset, shared_bytes);
    return (uint32_t)offset + kSharedBase;
}

unsigned char *shared_pointer(uint32_t address, size_t bytes, size_t alignment, const char *what,
                              Place place) {
    size_t offset = (size_t)address - kSharedBase;
    if (address < kSharedBase || offset > shared_bytes || bytes > shared_bytes - offset)
        fail("%s at %s:%d: %zu bytes at offset %zd of shared memory, which has %zu", what, place.file,
             place.line, bytes, (ssize_t)address - (ssize_t)kSharedBase, shared_bytes);
    if (address % alignment != 0)
        fail("%s at %s:%d: offset %zu is misaligned: a multiple of %zu is needed", what, place.file,
             place.line, offset, alignment);
    return shared + offset;
}

static bool known(unsigned thread, uint32_t time) {
    return thread == self->id || self->clock[thread] >= time;
}

static void check_shared(size_t offset, size_t bytes, Access access, Place place, const void *code) {
    size_t first = offset / kGranule, end = (offset + bytes + kGranule - 1) / kGranule;
    bool write = access == Access::Write || access == Access::AsyncWrite;
    unsigned warp = self->id / kWarp;
    uint32_t now = self->clock[self->id];
    for (size_t i = first; i < end; i++) {
        Granule &granule = granules[i];
        uint32_t *readers = reads + i * 2 * warps;
        if (granule.copies > 0)
            fail("%s: offset %zu of shared memory is the target of an asynchronous copy that has not been "
                 "waited for",
                 text_of(place, code).c_str(), i * kGranule);
        if (granule.written && !known(granule.writer, granule.write_time))
            fail("%s: race at offset %zu of shared memory: %s, while thread %u's write is not ordered before",
                 text_of(place, code).c_str(), i * kGranule, write ? "written" : "read", granule.writer);
        if (!write) {
            if (!granule.written)
                fail("%s: offset %zu of shared memory is read, but nobody wrote it",
                     text_of(place, code).c_str(), i * kGranule);
            if (access == Access::Operand && !granule.by_proxy) {
                const Thread &writer = thread_of(granule.writer);
                if (granule.write_time > writer.proxy_fence)
                    fail("%s: offset %zu of shared memory is read by the asynchronous proxy; thread %u wrote "
                         "it without a "
                         "fence.proxy.async since",
                         text_of(place, code).c_str(), i * kGranule, granule.writer);
            }
            if (access == Access::Operand)
                readers[warps + warp] = products_time[warp];
            else
                readers[warp] = now * kWarp + self->id % kWarp;
            continue;
        }
        if (granule.operands > 0)
            fail("%s: offset %zu of shared memory is written while a wgmma that reads it has not been waited "
                 "for",
                 text_of(place, code).c_str(), i * kGranule);
        for (unsigned w = 0; w < warps; w++) {
            unsigned reader = w * kWarp + readers[w] % kWarp;
            if (readers[w] != 0 && !known(reader, readers[w] / kWarp))
                fail("%s: race at offset %zu of shared memory: written, while thread %u's read is not "
                     "ordered before",
                     text_of(place, code).c_str(), i * kGranule, reader);
            if (readers[warps + w] != 0 && self->clock[products_entry(w)] < readers[warps + w])
                fail("%s: race at offset %zu of shared memory: written, while a wgmma of warp %u that reads "
                     "it is not known "
                     "to have ended",
                     text_of(place, code).c_str(), i * kGranule, w);
            readers[w] = readers[warps + w] = 0;
        }
        granule.written = true;
        granule.by_proxy = false;
        granule.writer = (uint16_t)self->id;
        granule.write_time = now;
    }
}

void begin_copy(unsigned offset, size_t bytes, Place place) {
    check_shared(offset, bytes, Access::AsyncWrite, place, nullptr);
    for (size_t i = offset / kGranule; i < (offset + bytes + kGranule - 1) / kGranule; i++)
        granules[i].copies++;
}

void land_copy(unsigned offset, size_t bytes, bool by_proxy) {
    for (size_t i = offset / kGranule; i < (offset + bytes + kGranule - 1) / kGranule; i++) {
        Granule &granule = granules[i];
        granule.copies--;
        granule.written = true;
        granule.by_proxy = by_proxy;
        granule.writer = (uint16_t)(by_proxy ? proxy_entry() : self->id);
        granule.write_time = by_proxy ? proxy_time : self->clock[self->id];
    }
}

void use_operand(unsigned offset, size_t bytes, int change) {
    for (size_t i = offset / kGranule; i < (offset + bytes + kGranule - 1) / kGranule; i++)
        granules[i].operands = (uint8_t)(granules[i].operands + change);
}

/* ---- global memory ---- */

static bool before(const Region &region, const unsigned char *begin) {
    return region.begin < begin;
}

void allow(const void *begin, size_t bytes, bool writable, int device) {
    auto *first = (const unsigned char *)begin;
    regions.insert(std::lower_bound(regions.begin(), regions.end(), first, before),
                   Region{first, first + bytes, writable, device,
                          std::vector<Region::Writer>(writable ? bytes / kSettled + 1 : 0)});
    recent = nullptr;
}

void disallow(const void *begin) {
    auto *first = (const unsigned char *)begin;
    auto at = std::lower_bound(regions.begin(), regions.end(), first, before);
    if (at != regions.end() && at->begin == first) regions.erase(at);
    recent = nullptr;
}

/** Constants of the kernels' own sources. */
static bool in_image(const unsigned char *byte) {
    extern const unsigned char image_start[] __asm__("__executable_start"), image_end[] __asm__("_end");
    return byte >= image_start && byte < image_end;
}

/** What kernels before it wrote is theirs until a kernel that was launched early has waited for them; and it
 * writes nothing. Marks what is written. */
static void check_order(Region &region, const unsigned char *byte, size_t bytes, bool write, Place place,
                        const void *code) {
    if (!region.writable || (self->awaited && !write)) return;
    const size_t first = (size_t)(byte - region.begin) / kSettled,
                 last = ((size_t)(byte - region.begin) + bytes - 1) / kSettled;
    for (size_t i = first; i <= last; i++) {
        if (!self->awaited && write)
            fail("%s: a write before await_earlier, by a kernel launched early",
                 text_of(place, code).c_str());
        if (!self->awaited && region.written[i].chain == running().chain &&
            region.written[i].launch != running().number)
            fail("%s: a read, before await_earlier, of what a kernel before this one wrote",
                 text_of(place, code).c_str());
        if (write) region.written[i] = {running().chain, running().number};
    }
}

static void check_global(const unsigned char *byte, size_t bytes, bool write, Place place, const void *code) {
    if (recent != nullptr && byte >= recent->begin && byte + bytes <= recent->end &&
        (recent->writable || !write) && recent->device == current_device())
        return check_order(*recent, byte, bytes, write, place, code);
    auto at = std::upper_bound(regions.begin(), regions.end(), byte,
                               [](const unsigned char *p, const Region &region) { return p < region.begin; });
    if (at != regions.begin() && byte < (at - 1)->end) {
        Region &region = *(at - 1);
        if (byte + bytes > region.end)
            fail("%s: %zu bytes at %zu, beyond the end of a buffer of %zu bytes",
                 text_of(place, code).c_str(), bytes, (size_t)(byte - region.begin),
                 (size_t)(region.end - region.begin));
        if (region.device != current_device())
            fail("%s: a kernel on device %d touches a buffer of device %d", text_of(place, code).c_str(),
                 current_device(), region.device);
        if (write && !region.writable)
            fail("%s: a write to a buffer that is only to be read", text_of(place, code).c_str());
        recent = &region;
        return check_order(region, byte, bytes, write, place, code);
    }
    if (!write && in_image(byte)) return;
    std::string near;
    if (at != regions.begin()) {
        const Region &region = *(at - 1);
        near = ", " + std::to_string(byte - region.begin) + " bytes from the start of a buffer of " +
               std::to_string(region.end - region.begin);
    }
    fail("%s: %s of %zu bytes at %p: in no buffer of the kernel's%s", text_of(place, code).c_str(),
         write ? "write" : "read", bytes, (const void *)byte, near.c_str());
}

static void check(const void *pointer, size_t bytes, size_t alignment, Access access, Place place,
                  const void *code) {
    if (self == nullptr) return; // host code between launches
    auto *byte = (const unsigned char *)pointer;
    bool write = access == Access::Write || access == Access::AsyncWrite;
    if ((uintptr_t)byte % alignment != 0 && !on_stack(byte))
        fail("%s: misaligned %s of %zu bytes at %p: a multiple of %zu is needed",
             text_of(place, code).c_str(), write ? "write" : "read", bytes, pointer, alignment);
    if (byte >= shared && byte < shared + kSharedMax + 4096) {
        size_t offset = (size_t)(byte - shared);
        if (offset + bytes > shared_bytes)
            fail("%s: %s of %zu bytes at offset %zu of shared memory, which has %zu",
                 text_of(place, code).c_str(), write ? "write" : "read", bytes, offset, shared_bytes);
        check_shared(offset, bytes, access, place, code);
    } else if (!on_stack(byte)) {
        check_global(byte, bytes, write, place, code);
    }
}

void check_atomic(const void *pointer, size_t bytes, Place place) {
    auto *byte = (const unsigned char *)pointer;
    if (byte >= shared && byte < shared + kSharedMax + 4096)
        fail("%s:%d: atomics in shared memory are not emulated", place.file, place.line);
    check(pointer, bytes, bytes, Access::Write, place, nullptr);
}

void check_access(const void *pointer, size_t bytes, size_t alignment, Access access, Place place) {
    check(pointer, bytes, alignment, access, place, nullptr);
}

} // namespace simt

/* ---- what -fsanitize=thread calls ---- */

using simt::Access;
#define CALLBACKS(size)                                                                                      \
    extern "C" void __tsan_read##size(void *p) {                                                             \
        simt::check(p, size, size, Access::Read, {}, __builtin_return_address(0));                           \
    }                                                                                                        \
    extern "C" void __tsan_write##size(void *p) {                                                            \
        simt::check(p, size, size, Access::Write, {}, __builtin_return_address(0));                          \
    }                                                                                                        \
    extern "C" void __tsan_unaligned_read##size(void *p) {                                                   \
        simt::check(p, size, 1, Access::Read, {}, __builtin_return_address(0));                              \
    }                                                                                                        \
    extern "C" void __tsan_unaligned_write##size(void *p) {                                                  \
        simt::check(p, size, 1, Access::Write, {}, __builtin_return_address(0));                             \
    }
CALLBACKS(1)
CALLBACKS(2)
CALLBACKS(4)
CALLBACKS(8)
CALLBACKS(16)
extern "C" void __tsan_read_range(void *p, unsigned long bytes) {
    simt::check(p, bytes, 1, Access::Read, {}, __builtin_return_address(0));
}
extern "C" void __tsan_write_range(void *p, unsigned long bytes) {
    simt::check(p, bytes, 1, Access::Write, {}, __builtin_return_address(0));
}
/* An atomic store of the launchers', which is to be one. */
extern "C" void __tsan_atomic64_store(volatile uint64_t *p, uint64_t value, int) {
    simt::check((void *)p, 8, 8, Access::Write, {}, __builtin_return_address(0));
    __atomic_store_n(p, value, __ATOMIC_SEQ_CST);
}
extern "C" void __tsan_init(void) {}
extern "C" void __tsan_func_entry(void *) {}
extern "C" void __tsan_func_exit(void) {}
extern "C" void __tsan_vptr_update(void **, void *) {}
extern "C" void __tsan_vptr_read(void **) {}
