/**
 * Rotation of a head by its position. Halves are how rope.cu and decode_attention.cu do it: a thread has
 * kVector numbers of the first half of a head and those that they turn with in the second half, turns them in
 * f32 and rounds. kVector is 4, or 8, for accesses of 16 bytes, where the half is a multiple of 8.
 */
#pragma once

#include <ptx/convert.cuh>
#include <ptx/memory.cuh>

namespace gp_cuda {

/** (a, b) → (a·cos − b·sin, b·cos + a·sin), of numbers that stand half a head apart. */
__device__ __forceinline__ void turn_pair(float &a, float &b, float cosine, float sine) {
    const float turned = a * cosine - b * sine;
    b = b * cosine + a * sine;
    a = turned;
}

/** kVector bf16, two a word. */
template <int kVector> struct Vector { uint32_t words[kVector / 2]; };

__device__ __forceinline__ Vector<8> load_vector(const uint16_t *source, Vector<8>) {
    uint4 value = load_16(source);
    return {{value.x, value.y, value.z, value.w}};
}
__device__ __forceinline__ Vector<4> load_vector(const uint16_t *source, Vector<4>) {
    uint2 value = *reinterpret_cast<const uint2 *>(source);
    return {{value.x, value.y}};
}
__device__ __forceinline__ void store_vector(uint16_t *target, Vector<8> value) {
    store_16(target, make_uint4(value.words[0], value.words[1], value.words[2], value.words[3]));
}
__device__ __forceinline__ void store_vector(uint16_t *target, Vector<4> value) {
    *reinterpret_cast<uint2 *>(target) = make_uint2(value.words[0], value.words[1]);
}

/** kVector f32 of a table, at a multiple of 16 bytes. */
template <int kVector>
__device__ __forceinline__ void load_table(float (&target)[kVector], const float *source) {
#pragma unroll
    for (int i = 0; i < kVector; i += 4) {
        uint4 value = load_16(source + i);
        target[i] = __uint_as_float(value.x);
        target[i + 1] = __uint_as_float(value.y);
        target[i + 2] = __uint_as_float(value.z);
        target[i + 3] = __uint_as_float(value.w);
    }
}

/** A thread's part of a head of 2·half numbers. */
template <int kVector> struct Halves {
    Vector<kVector> low, high;

    __device__ __forceinline__ void load(const uint16_t *source, int half) {
        low = load_vector(source, Vector<kVector>{});
        high = load_vector(source + half, Vector<kVector>{});
    }
    __device__ __forceinline__ void store(uint16_t *target, int half) const {
        store_vector(target, low);
        store_vector(target + half, high);
    }

    /** turn_pair of all; the tables at the part's first number. */
    __device__ __forceinline__ void turn(const float *cosines, const float *sines) {
        float cosine[kVector], sine[kVector];
        load_table(cosine, cosines);
        load_table(sine, sines);
#pragma unroll
        for (int i = 0; i < kVector / 2; i++) {
            float a0 = __uint_as_float(low.words[i] << 16), a1 = __uint_as_float(low.words[i] & 0xFFFF0000u);
            float b0 = __uint_as_float(high.words[i] << 16),
                  b1 = __uint_as_float(high.words[i] & 0xFFFF0000u);
            turn_pair(a0, b0, cosine[2 * i], sine[2 * i]);
            turn_pair(a1, b1, cosine[2 * i + 1], sine[2 * i + 1]);
            low.words[i] = pack_bf16(a0, a1);
            high.words[i] = pack_bf16(b0, b1);
        }
    }
};

} // namespace gp_cuda
