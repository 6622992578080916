/** bf16 and the fragments of matrix instructions, as the PTX manual lays them out. */
#pragma once

#include <cstdint>
#include <cstring>

namespace simt {

inline float from_bf16(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, 4);
    return value;
}

/** Rounded to nearest even; NaN stays NaN. */
inline uint16_t to_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return 0x7FFF; // what cvt gives for every NaN
    return (uint16_t)((bits + 0x7FFFu + (bits >> 16 & 1)) >> 16);
}

/** A 16×16 of bf16 from a warp's registers: a[0] rows 0–7 columns 0–7, a[1] rows 8–15, a[2] columns 8–15,
 * a[3] both. */
inline void unpack_a(const uint32_t registers[32][4], float a[16][16]) {
    for (unsigned lane = 0; lane < 32; lane++)
        for (unsigned i = 0; i < 4; i++)
            for (unsigned half = 0; half < 2; half++)
                a[lane / 4 + i % 2 * 8][lane % 4 * 2 + half + i / 2 * 8] =
                    from_bf16((uint16_t)(registers[lane][i] >> 16 * half));
}

/**
 * Sixteen products, exact, added without rounding between, then rounded once: tensor cores keep more bits
 * inside a step than f32 has, and drop those below the largest. The last bit is theirs; tests allow for it.
 */
inline float dot16(const float *a, const float *b) {
    double sum = 0;
    for (unsigned k = 0; k < 16; k++) sum += (double)a[k] * (double)b[k];
    return (float)sum;
}

} // namespace simt
