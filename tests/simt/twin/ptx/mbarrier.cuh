/** mbarriers for the emulator. */
#pragma once

#include <ptx/language.cuh>

typedef uint64_t mbarrier;

inline void mbarrier_init(mbarrier *barrier, unsigned count, SIMT_HERE) {
    ::simt::mbarrier_init(barrier, count, here);
}
inline void fence_mbarrier_init() {
    ::simt::fence_proxy_async();
}
inline void mbarrier_arrive(mbarrier *barrier, SIMT_HERE) {
    ::simt::mbarrier_arrive(barrier, 0, here);
}
inline void mbarrier_arrive_expect(mbarrier *barrier, unsigned bytes, SIMT_HERE) {
    ::simt::mbarrier_arrive(barrier, bytes, here);
}
inline void mbarrier_wait(mbarrier *barrier, unsigned parity, SIMT_HERE) {
    ::simt::mbarrier_wait(barrier, parity, here);
}
inline void fence_proxy_async() {
    ::simt::fence_proxy_async();
}
