/** Where threads meet: warp collectives, __syncwarp, named barriers; and the vector clocks that barriers
 * join. */
#include "tests/simt/emulator.h"

#include <algorithm>
#include <cstring>

namespace simt {

/** One operation of a warp that some lanes have reached. */
struct Meeting {
    const char *kind = nullptr;
    Place place{};
    uint32_t mask = 0, arrived = 0;
    void *arguments[kWarp];
    bool open = false;
};

/* Lanes of one warp can be at two operations at once, of disjoint masks. */
static Meeting meetings[kThreadsMax / kWarp][4];

struct Barrier {
    unsigned threads = 0, arrived = 0;
    Clocks clocks;
    std::vector<unsigned> waiting;
};
static Barrier barriers[16];

static uint32_t lanes_of(unsigned warp) {
    unsigned left = thread_count() - warp * kWarp;
    return left >= kWarp ? 0xFFFFFFFFu : (1u << left) - 1;
}

void meet(const char *kind, Place place, uint32_t mask, void *argument,
          void (*run)(void *const arguments[kWarp], uint32_t mask)) {
    unsigned warp = self->id / kWarp, lane = self->id % kWarp;
    mask &= lanes_of(warp);
    if ((mask >> lane & 1) == 0)
        fail("%s at %s:%d: lane %u is not in its mask %08x", kind, place.file, place.line, lane, mask);
    Meeting *found = nullptr, *empty = nullptr;
    for (Meeting &meeting : meetings[warp]) {
        if (!meeting.open) {
            empty = &meeting;
        } else if ((meeting.mask & mask) != 0) {
            if (strcmp(meeting.kind, kind) != 0 || meeting.mask != mask || meeting.place.line != place.line ||
                strcmp(meeting.place.file, place.file) != 0)
                fail("divergent collective: %s of lanes %08x at %s:%d, while lanes %08x wait at %s of lanes "
                     "%08x at %s:%d",
                     kind, mask, place.file, place.line, meeting.arrived, meeting.kind, meeting.mask,
                     meeting.place.file, meeting.place.line);
            found = &meeting;
        }
    }
    for (unsigned other = 0; other < kWarp; other++)
        if ((mask >> other & 1) != 0 && thread_of(warp * kWarp + other).state == State::Done)
            fail("divergent collective: %s of lanes %08x at %s:%d, but lane %u has ended", kind, mask,
                 place.file, place.line, other);
    if (found == nullptr) {
        if (empty == nullptr)
            fail("%s at %s:%d: more than four groups of lanes wait at once", kind, place.file, place.line);
        found = empty;
        found->kind = kind;
        found->place = place;
        found->mask = mask;
        found->arrived = 0;
        found->open = true;
    }
    found->arrived |= 1u << lane;
    found->arguments[lane] = argument;
    if (found->arrived != mask) {
        wait_here(kind, place);
        return;
    }
    found->open = false;
    run(found->arguments, mask);
    for (unsigned other = 0; other < kWarp; other++)
        if ((mask >> other & 1) != 0 && other != lane) make_ready(thread_of(warp * kWarp + other));
}

/* ---- clocks ---- */

void join(Clocks &target, const Clocks &source) {
    if (target.size() < source.size()) target.resize(source.size(), 0);
    for (size_t i = 0; i < source.size(); i++) target[i] = std::max(target[i], source[i]);
}

void release(Clocks &into) {
    join(into, self->clock);
    self->clock[self->id]++;
}

void acquire(const Clocks &from) {
    join(self->clock, from);
}

/* ---- barriers ---- */

void sync_warp(uint32_t mask, Place place) {
    meet("__syncwarp", place, mask, nullptr, [](void *const *, uint32_t lanes) {
        Clocks all;
        unsigned first = self->id / kWarp * kWarp;
        for (unsigned lane = 0; lane < kWarp; lane++)
            if ((lanes >> lane & 1) != 0) join(all, thread_of(first + lane).clock);
        for (unsigned lane = 0; lane < kWarp; lane++) {
            if ((lanes >> lane & 1) == 0) continue;
            Thread &thread = thread_of(first + lane);
            thread.clock = all;
            thread.clock[thread.id]++;
        }
    });
}

void barrier(unsigned id, unsigned threads, bool wait, Place place) {
    if (id >= 16) fail("barrier %u at %s:%d: 0 to 15 are there", id, place.file, place.line);
    if (threads % kWarp != 0 && threads != thread_count())
        fail("barrier %u of %u threads at %s:%d: no multiple of a warp", id, threads, place.file, place.line);
    Barrier &here = barriers[id];
    if (here.arrived > 0 && here.threads != threads)
        fail("barrier %u of %u threads at %s:%d, but others wait at it for %u", id, threads, place.file,
             place.line, here.threads);
    here.threads = threads;
    release(here.clocks);
    here.arrived++;
    if (wait) here.waiting.push_back(self->id);
    if (here.arrived == threads) {
        for (unsigned other : here.waiting) {
            Thread &thread = thread_of(other);
            join(thread.clock, here.clocks);
            if (other != self->id) make_ready(thread);
        }
        here = Barrier();
        return;
    }
    if (wait) wait_here("a barrier", place);
}

void reset_collectives();
void reset_collectives() {
    for (auto &warp : meetings)
        for (Meeting &meeting : warp) meeting.open = false;
    for (Barrier &each : barriers) each = Barrier();
}

} // namespace simt
