/** Number formats of tensors, and the conversions of the three that weights come in. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef enum gp_dtype {
    GP_DTYPE_BF16,
    GP_DTYPE_F16,
    GP_DTYPE_F32,
    /* read from files and described, never computed with */
    GP_DTYPE_F64,
    GP_DTYPE_I8,
    GP_DTYPE_U8,
    GP_DTYPE_I16,
    GP_DTYPE_U16,
    GP_DTYPE_I32,
    GP_DTYPE_U32,
    GP_DTYPE_I64,
    GP_DTYPE_U64,
    GP_DTYPE_BOOL,
} gp_dtype;

/** Bytes of one element. */
size_t gp_dtype_size(gp_dtype dtype);

/** "bf16", "f16", "f32", … for messages. */
const char *gp_dtype_name(gp_dtype dtype);

/** f32 of a bf16: the same bits above sixteen zeros. */
static inline float gp_bf16_to_f32(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

/** bf16 of an f32, rounded to nearest even; NaN stays NaN. */
uint16_t gp_f32_to_bf16(float value);

/** f32 of an IEEE half, subnormals, infinities and NaN included. Exact. */
float gp_f16_to_f32(uint16_t bits);

/** Converts `count` elements of bf16, f16 or f32 at `source` (aligned to the element) to f32. */
void gp_convert_to_f32(const void *source, gp_dtype dtype, size_t count, float *target);
