#include "kernels/base/dtype.h"

#include <math.h>

static const struct {
    const char *name;
    size_t size;
} dtypes[] = {
    [GP_DTYPE_BF16] = {"bf16", 2}, [GP_DTYPE_F16] = {"f16", 2}, [GP_DTYPE_F32] = {"f32", 4},
    [GP_DTYPE_F64] = {"f64", 8},   [GP_DTYPE_I8] = {"i8", 1},   [GP_DTYPE_U8] = {"u8", 1},
    [GP_DTYPE_I16] = {"i16", 2},   [GP_DTYPE_U16] = {"u16", 2}, [GP_DTYPE_I32] = {"i32", 4},
    [GP_DTYPE_U32] = {"u32", 4},   [GP_DTYPE_I64] = {"i64", 8}, [GP_DTYPE_U64] = {"u64", 8},
    [GP_DTYPE_BOOL] = {"bool", 1},
};

size_t gp_dtype_size(gp_dtype dtype) {
    return dtypes[dtype].size;
}

const char *gp_dtype_name(gp_dtype dtype) {
    return dtypes[dtype].name;
}

uint16_t gp_f32_to_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (isnan(value)) return (uint16_t)(bits >> 16 | 0x40); /* quiet, and not rounded up to infinity */
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

float gp_f16_to_f32(uint16_t bits) {
    uint32_t sign = (uint32_t)(bits & 0x8000) << 16, exponent = bits >> 10 & 31, fraction = bits & 0x3FF,
             wide;
    if (exponent == 0) { /* zero or subnormal: fraction · 2^-24, exact in f32 */
        float magnitude = (float)fraction * 0x1p-24f;
        memcpy(&wide, &magnitude, sizeof wide);
    } else if (exponent == 31) {
        wide = 0x7F800000 | fraction << 13;
    } else {
        wide = (exponent + 127 - 15) << 23 | fraction << 13;
    }
    wide |= sign;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

void gp_convert_to_f32(const void *source, gp_dtype dtype, size_t count, float *target) {
    const uint16_t *half = source;
    if (dtype == GP_DTYPE_BF16) {
        for (size_t i = 0; i < count; i++) target[i] = gp_bf16_to_f32(half[i]);
    } else if (dtype == GP_DTYPE_F16) {
        for (size_t i = 0; i < count; i++) target[i] = gp_f16_to_f32(half[i]);
    } else if (dtype == GP_DTYPE_F32) {
        memcpy(target, source, count * sizeof *target);
    }
}
