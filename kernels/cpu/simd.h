/**
 * Vectors for the CPU operations. gp_f16 is sixteen floats on every instruction set (one AVX-512 register,
 * two AVX2, four NEON), so element-wise work and sums over a row have the same order, and the same bits, on
 * all of them. gp_native is one register, for the matrix kernel. Compiled with -ffp-contract=off: a product
 * and a sum are fused where gp_fma says so and nowhere else.
 */
#pragma once

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

typedef float gp_f16 __attribute__((vector_size(64)));
typedef int32_t gp_i16 __attribute__((vector_size(64)));
typedef uint16_t gp_h16 __attribute__((vector_size(32)));

#define GP_INLINE static inline __attribute__((always_inline))

GP_INLINE gp_f16 gp_splat(float value) {
    return (gp_f16){value, value, value, value, value, value, value, value,
                    value, value, value, value, value, value, value, value};
}

GP_INLINE gp_f16 gp_load(const float *source) {
    gp_f16 vector;
    memcpy(&vector, source, sizeof vector);
    return vector;
}

GP_INLINE void gp_store(float *target, gp_f16 vector) {
    memcpy(target, &vector, sizeof vector);
}

/** The first `count` floats, at most 16, zeros after them. */
GP_INLINE gp_f16 gp_load_part(const float *source, int64_t count) {
    if (count >= 16) return gp_load(source);
    gp_f16 vector = {0};
    memcpy(&vector, source, (size_t)count * sizeof *source);
    return vector;
}

GP_INLINE void gp_store_part(float *target, gp_f16 vector, int64_t count) {
    if (count >= 16) {
        gp_store(target, vector);
        return;
    }
    memcpy(target, &vector, (size_t)count * sizeof *target);
}

/** a where the mask is set (all bits of a lane), else b. */
GP_INLINE gp_f16 gp_select(gp_i16 mask, gp_f16 a, gp_f16 b) {
    return (gp_f16)((mask & (gp_i16)a) | (~mask & (gp_i16)b));
}

/* ---- one register: GP_NATIVE floats ------------------------------------------------------------------- */

#if defined(__AVX512F__)
#define GP_NATIVE 16
typedef __m512 gp_native;
GP_INLINE gp_native gp_native_zero(void) {
    return _mm512_setzero_ps();
}
GP_INLINE gp_native gp_native_load(const float *source) {
    return _mm512_loadu_ps(source);
}
GP_INLINE void gp_native_store(float *target, gp_native vector) {
    _mm512_storeu_ps(target, vector);
}
GP_INLINE gp_native gp_native_splat(float value) {
    return _mm512_set1_ps(value);
}
GP_INLINE gp_native gp_native_add(gp_native a, gp_native b) {
    return _mm512_add_ps(a, b);
}
GP_INLINE gp_native gp_native_fma(gp_native a, gp_native b, gp_native c) {
    return _mm512_fmadd_ps(a, b, c);
}
GP_INLINE gp_native gp_native_max(gp_native a, gp_native b) {
    return _mm512_max_ps(a, b);
}
GP_INLINE gp_native gp_native_whole(gp_native x) {
    return _mm512_castsi512_ps(_mm512_cvttps_epi32(x));
}
GP_INLINE gp_native gp_native_greater(gp_native a, gp_native b) {
    return _mm512_castsi512_ps(_mm512_movm_epi32(_mm512_cmp_ps_mask(a, b, _CMP_GT_OQ)));
}
#elif defined(__AVX2__)
#define GP_NATIVE 8
typedef __m256 gp_native;
GP_INLINE gp_native gp_native_zero(void) {
    return _mm256_setzero_ps();
}
GP_INLINE gp_native gp_native_load(const float *source) {
    return _mm256_loadu_ps(source);
}
GP_INLINE void gp_native_store(float *target, gp_native vector) {
    _mm256_storeu_ps(target, vector);
}
GP_INLINE gp_native gp_native_splat(float value) {
    return _mm256_set1_ps(value);
}
GP_INLINE gp_native gp_native_add(gp_native a, gp_native b) {
    return _mm256_add_ps(a, b);
}
GP_INLINE gp_native gp_native_fma(gp_native a, gp_native b, gp_native c) {
    return _mm256_fmadd_ps(a, b, c);
}
GP_INLINE gp_native gp_native_max(gp_native a, gp_native b) {
    return _mm256_max_ps(a, b);
}
GP_INLINE gp_native gp_native_whole(gp_native x) {
    return _mm256_castsi256_ps(_mm256_cvttps_epi32(x));
}
GP_INLINE gp_native gp_native_greater(gp_native a, gp_native b) {
    return _mm256_cmp_ps(a, b, _CMP_GT_OQ);
}
#elif defined(__aarch64__)
#define GP_NATIVE 4
typedef float32x4_t gp_native;
GP_INLINE gp_native gp_native_zero(void) {
    return vdupq_n_f32(0);
}
GP_INLINE gp_native gp_native_load(const float *source) {
    return vld1q_f32(source);
}
GP_INLINE void gp_native_store(float *target, gp_native vector) {
    vst1q_f32(target, vector);
}
GP_INLINE gp_native gp_native_splat(float value) {
    return vdupq_n_f32(value);
}
GP_INLINE gp_native gp_native_add(gp_native a, gp_native b) {
    return vaddq_f32(a, b);
}
GP_INLINE gp_native gp_native_fma(gp_native a, gp_native b, gp_native c) {
    return vfmaq_f32(c, a, b);
}
GP_INLINE gp_native gp_native_max(gp_native a, gp_native b) {
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}
GP_INLINE gp_native gp_native_whole(gp_native x) {
    return vreinterpretq_f32_s32(vcvtq_s32_f32(x));
}
GP_INLINE gp_native gp_native_greater(gp_native a, gp_native b) {
    return vreinterpretq_f32_u32(vcgtq_f32(a, b));
}
#endif

/*
 * What compilers do badly on vectors wider than a register is done a register at a time.
 */
#define GP_EACH_PART(result, expression)                                                                     \
    for (int part = 0; part < 16 / GP_NATIVE; part++) {                                                      \
        gp_native value = expression;                                                                        \
        memcpy((char *)&result + part * sizeof value, &value, sizeof value);                                 \
    }

GP_INLINE gp_native gp_part(const gp_f16 *vector, int part) {
    gp_native value;
    memcpy(&value, (const char *)vector + part * sizeof value, sizeof value);
    return value;
}

/** a·b + c with one rounding. */
GP_INLINE gp_f16 gp_fma(gp_f16 a, gp_f16 b, gp_f16 c) {
    gp_f16 result;
    GP_EACH_PART(result, gp_native_fma(gp_part(&a, part), gp_part(&b, part), gp_part(&c, part)))
    return result;
}

/** The larger of each lane; b where one is NaN. */
GP_INLINE gp_f16 gp_max(gp_f16 a, gp_f16 b) {
    gp_f16 result;
    GP_EACH_PART(result, gp_native_max(gp_part(&a, part), gp_part(&b, part)))
    return result;
}

/** All bits of a lane where a > b, none elsewhere. */
GP_INLINE gp_i16 gp_greater(gp_f16 a, gp_f16 b) {
    gp_i16 result;
    GP_EACH_PART(result, gp_native_greater(gp_part(&a, part), gp_part(&b, part)))
    return result;
}

/** Whole numbers as integers. */
GP_INLINE gp_i16 gp_whole(gp_f16 x) {
    gp_i16 result;
    GP_EACH_PART(result, gp_native_whole(gp_part(&x, part)))
    return result;
}

/** Sixteen bf16 or f16 as floats. */
GP_INLINE gp_f16 gp_load_bf16(const void *source) {
    gp_h16 half;
    memcpy(&half, source, sizeof half);
    return (gp_f16)(__builtin_convertvector(half, gp_i16) << 16);
}

GP_INLINE gp_f16 gp_load_f16(const void *source) {
    gp_f16 wide;
#if defined(__x86_64__)
    __m256 low = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)source));
    __m256 high = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)source + 1));
    memcpy(&wide, &low, sizeof low);
    memcpy((char *)&wide + sizeof low, &high, sizeof high);
#else
    for (int i = 0; i < 4; i++) {
        float16x4_t half = vreinterpret_f16_u16(vld1_u16((const uint16_t *)source + 4 * i));
        vst1q_f32((float *)&wide + 4 * i, vcvt_f32_f16(half));
    }
#endif
    return wide;
}

/* ---- sums of sixteen, in one fixed order --------------------------------------------------------------- */

#define GP_HALVES(v, n)                                                                                      \
    __builtin_shufflevector(v, v, (n), (n) + 1, (n) + 2, (n) + 3, (n) + 4, (n) + 5, (n) + 6, (n) + 7)

typedef float gp_f8 __attribute__((vector_size(32)));
typedef float gp_f4 __attribute__((vector_size(16)));

GP_INLINE float gp_sum(gp_f16 v) {
    gp_f8 eight = GP_HALVES(v, 0) + GP_HALVES(v, 8);
    gp_f4 four =
        __builtin_shufflevector(eight, eight, 0, 1, 2, 3) + __builtin_shufflevector(eight, eight, 4, 5, 6, 7);
    return (four[0] + four[2]) + (four[1] + four[3]);
}

GP_INLINE float gp_largest(gp_f16 v) {
    gp_native most = gp_part(&v, 0);
    for (int part = 1; part < 16 / GP_NATIVE; part++) most = gp_native_max(most, gp_part(&v, part));
    float lanes[GP_NATIVE], largest;
    gp_native_store(lanes, most);
    largest = lanes[0];
    for (int i = 1; i < GP_NATIVE; i++) largest = lanes[i] > largest ? lanes[i] : largest;
    return largest;
}

/* ---- functions: each within 2 units in the last place of f32, minimax polynomials of our own fit --------
 */

/** 2^n as a float for whole n in −126 … 127, given as a float. */
GP_INLINE gp_f16 gp_power_of_two(gp_f16 n) {
    return (gp_f16)((gp_whole(n) + 127) << 23);
}

/** The nearest whole number, for |x| < 2^22: adding 1.5·2^23 leaves no room for a fraction. */
GP_INLINE gp_f16 gp_round(gp_f16 x) {
    const gp_f16 big = gp_splat(12582912.0f);
    return (x + big) - big;
}

/** 2^x for x ≤ 126; exactly 0 below −126, so that −infinity masks. */
GP_INLINE gp_f16 gp_exp2(gp_f16 x) {
    gp_i16 tiny = gp_greater(gp_splat(-126.0f), x);
    x = gp_max(x, gp_splat(-126.0f));
    gp_f16 n = gp_round(x), f = x - n; /* f in −0.5 … 0.5 */
    gp_f16 p = gp_splat(0.0001535336182842591f);
    p = gp_fma(p, f, gp_splat(0.0013398874445911765f));
    p = gp_fma(p, f, gp_splat(0.009618437358262179f));
    p = gp_fma(p, f, gp_splat(0.055503324710255535f));
    p = gp_fma(p, f, gp_splat(0.24022647913619788f));
    p = gp_fma(p, f, gp_splat(0.6931472028551293f));
    p = gp_fma(p, f, gp_splat(1.0f));
    return gp_select(tiny, gp_splat(0.0f), p * gp_power_of_two(n));
}

/** e^x, held between e^−87 and e^88. */
GP_INLINE gp_f16 gp_exp(gp_f16 x) {
    x = -gp_max(-gp_max(x, gp_splat(-87.0f)), gp_splat(-88.0f));
    gp_f16 n = gp_round(x * gp_splat(1.44269504f));
    gp_f16 r = gp_fma(n, gp_splat(-0.693359375f), x); /* ln 2 = 0.693359375 − 0.000212194…, the first exact */
    r = gp_fma(n, gp_splat(2.12194440e-4f), r);
    gp_f16 p = gp_splat(0.001381461242665092f);
    p = gp_fma(p, r, gp_splat(0.00836870989715299f));
    p = gp_fma(p, r, gp_splat(0.04166838737868797f));
    p = gp_fma(p, r, gp_splat(0.1666652068904813f));
    p = gp_fma(p, r, gp_splat(0.4999999345162151f));
    p = gp_fma(p * r, r, r) + gp_splat(1.0f);
    return p * gp_power_of_two(n);
}

/** The error function: x·P(x²) up to 1, then 1 − e^Q(|x|); 1 from 4 on (erfc(4) = 1.5e-8). */
GP_INLINE gp_f16 gp_erf(gp_f16 x) {
    gp_i16 sign = (gp_i16)x & (int32_t)0x80000000u;
    gp_f16 a = (gp_f16)((gp_i16)x & 0x7FFFFFFF), s = x * x;
    gp_f16 near = gp_splat(7.889168609240666e-05f);
    near = gp_fma(near, s, gp_splat(-0.0008020857100925561f));
    near = gp_fma(near, s, gp_splat(0.005189537297595088f));
    near = gp_fma(near, s, gp_splat(-0.02685444575259388f));
    near = gp_fma(near, s, gp_splat(0.1128360020958759f));
    near = gp_fma(near, s, gp_splat(-0.37612627140047067f));
    near = gp_fma(near, s, gp_splat(1.1283791659151667f)) * x;
    gp_f16 b = -gp_max(-a, gp_splat(-4.0f));
    gp_f16 q = gp_splat(-2.1686763196367888e-05f);
    q = gp_fma(q, b, gp_splat(0.00044133530031790927f));
    q = gp_fma(q, b, gp_splat(-0.0042045562606094124f));
    q = gp_fma(q, b, gp_splat(0.025208240799601142f));
    q = gp_fma(q, b, gp_splat(-0.1084185507011007f));
    q = gp_fma(q, b, gp_splat(-0.6332199192914328f));
    q = gp_fma(q, b, gp_splat(-1.1295784101995268f));
    q = gp_fma(q, b, gp_splat(0.00018803704938166347f));
    gp_f16 far = (gp_f16)((gp_i16)(gp_splat(1.0f) - gp_exp(q)) | sign);
    return gp_select(gp_greater(gp_splat(1.0f), a), near, far);
}

/** σ(x) = 1/(1 + e^−x). */
GP_INLINE gp_f16 gp_sigmoid(gp_f16 x) {
    return gp_splat(1.0f) / (gp_splat(1.0f) + gp_exp(-x));
}
