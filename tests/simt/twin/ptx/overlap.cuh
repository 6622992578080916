/** Kernels that begin early, for the emulator: what they must not do before they have waited is reported. */
#pragma once

#include <ptx/language.cuh>

inline void await_earlier() {
    ::simt::await_earlier();
}
inline void let_next_begin() {}
inline void follow_earlier() {
    let_next_begin();
    await_earlier();
}

/** On a GPU this is harmless anywhere; but no kernel of ours means an address that it could not read. */
inline void prefetch_l2(const void *source, SIMT_HERE) {
    ::simt::check_access(source, 1, 1, ::simt::Access::Read, here);
}
