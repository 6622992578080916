/** cp.async for the emulator: the bytes land at the wait, and not before. */
#pragma once

#include <ptx/language.cuh>

inline void copy_async(void *target, const void *source, unsigned filled = 16, SIMT_HERE) {
    ::simt::cp_async(target, source, 16, filled, here);
}
inline void copy_commit() {
    ::simt::cp_async_commit();
}
template <int left> inline void copy_wait(SIMT_HERE) {
    ::simt::cp_async_wait(left, here);
}
