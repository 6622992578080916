/** Wide loads and stores for the emulator. */
#pragma once

#include <ptx/language.cuh>

namespace simt {
void load_wide(void *value, const void *source, Place here);
void store_wide(void *target, const void *value, Place here);
} // namespace simt

inline uint4 load_16(const void *source, SIMT_HERE) {
    uint4 value;
    ::simt::load_wide(&value, source, here);
    return value;
}
inline uint4 load_once(const void *source, SIMT_HERE) {
    return load_16(source, here);
}
inline void store_16(void *target, uint4 value, SIMT_HERE) {
    ::simt::store_wide(target, &value, here);
}
