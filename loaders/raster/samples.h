/** A sample's value, whatever its type. */
#pragma once

#include "loaders/raster/raster.h"

#include <stddef.h>

static inline double gp_sample_value(gp_sample_type type, const void *samples, size_t index) {
    switch (type) {
    case GP_SAMPLE_U8:
        return ((const uint8_t *)samples)[index];
    case GP_SAMPLE_I8:
        return ((const int8_t *)samples)[index];
    case GP_SAMPLE_U16:
        return ((const uint16_t *)samples)[index];
    case GP_SAMPLE_I16:
        return ((const int16_t *)samples)[index];
    case GP_SAMPLE_U32:
        return ((const uint32_t *)samples)[index];
    case GP_SAMPLE_I32:
        return ((const int32_t *)samples)[index];
    case GP_SAMPLE_F32:
        return ((const float *)samples)[index];
    case GP_SAMPLE_F64:
        return ((const double *)samples)[index];
    }
    return 0;
}
