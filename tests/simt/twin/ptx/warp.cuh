/** Named barriers for the emulator. */
#pragma once

#include <ptx/language.cuh>

inline void sync_named(unsigned id, unsigned threads, SIMT_HERE) {
    ::simt::barrier(id, threads, true, here);
}
inline void arrive_named(unsigned id, unsigned threads, SIMT_HERE) {
    ::simt::barrier(id, threads, false, here);
}
