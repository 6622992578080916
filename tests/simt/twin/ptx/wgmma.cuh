/** wgmma for the emulator: operands are decoded from their descriptors and read at the wait. */
#pragma once

#include <ptx/language.cuh>

inline uint64_t operand_descriptor(const void *start, uint32_t leading, uint32_t stride, SIMT_HERE) {
    const uint64_t swizzle_128 = 1ull << 62;
    return swizzle_128 | (uint64_t)(stride >> 4) << 32 | (uint64_t)(leading >> 4) << 16 |
           (::simt::shared_address(start, 16, here) >> 4);
}
inline uint64_t narrow_descriptor(const void *start, uint32_t stride, SIMT_HERE) {
    const uint64_t swizzle_32 = 3ull << 62;
    return swizzle_32 | (uint64_t)(stride >> 4) << 32 | (::simt::shared_address(start, 16, here) >> 4);
}
inline void products_fence(SIMT_HERE) {
    ::simt::wgmma_fence(here);
}
inline void products_commit(SIMT_HERE) {
    ::simt::wgmma_commit(here);
}
template <int left> inline void products_wait(SIMT_HERE) {
    ::simt::wgmma_wait(left, here);
}
template <int count> inline void products_hold(float (&)[count]) {}
inline void products_wait_behind(float) {}

#define SIMT_PRODUCT(n)                                                                                      \
    template <bool b_along_n>                                                                                \
    inline void product_n##n(float(&d)[n / 2], uint64_t a, uint64_t b, bool add, SIMT_HERE) {                \
        ::simt::wgmma({d, nullptr, a, b, n, add, b_along_n}, here);                                          \
    }
#define SIMT_PRODUCT_REGISTERS(n)                                                                            \
    template <bool b_along_n>                                                                                \
    inline void product_n##n(float(&d)[n / 2], const uint32_t(&a)[4], uint64_t b, bool add, SIMT_HERE) {     \
        ::simt::wgmma({d, a, 0, b, n, add, b_along_n}, here);                                                \
    }
SIMT_PRODUCT(64)
SIMT_PRODUCT(128)
SIMT_PRODUCT(144)
SIMT_PRODUCT(256)
SIMT_PRODUCT_REGISTERS(64)
SIMT_PRODUCT_REGISTERS(72)
SIMT_PRODUCT_REGISTERS(128)
#undef SIMT_PRODUCT
#undef SIMT_PRODUCT_REGISTERS
