/** Host functions that every backend shares: scratch sizes of the resizes, and the bicubic one for position
 * embeddings. */
#include "kernels/base/resize.h"
#include "kernels/ops.h"

#include <math.h>

size_t gp_resize_rgb_scratch(int source_width, int source_height, int width, int height) {
    size_t across = (size_t)width * (size_t)source_height, down = (size_t)height * (size_t)source_width;
    return gp_resize_taps_bytes(source_width, width, sizeof(int32_t)) +
           gp_resize_taps_bytes(source_height, height, sizeof(int32_t)) + 3 * (across > down ? across : down);
}

size_t gp_whole_view_scratch(int source_width, int source_height, int side) {
    return gp_resize_taps_bytes(source_width, side, sizeof(float)) +
           gp_resize_taps_bytes(source_height, side, sizeof(float)) +
           3 * (size_t)source_height * (size_t)side * sizeof(float);
}

void gp_resize_bicubic(const float *x, int channels, int height, int width, int new_height, int new_width,
                       float *y) {
    float scale_y = (float)height / (float)new_height, scale_x = (float)width / (float)new_width;
    for (int channel = 0; channel < channels; channel++) {
        const float *plane = x + (int64_t)channel * height * width;
        for (int row = 0; row < new_height; row++) {
            float weight_y[4], weight_x[4];
            int at_y = gp_cubic_taps(scale_y, row, weight_y);
            for (int column = 0; column < new_width; column++) {
                int at_x = gp_cubic_taps(scale_x, column, weight_x);
                float sum = 0;
                for (int i = 0; i < 4; i++) {
                    const float *line = plane + (int64_t)gp_clamp(at_y + i, height) * width;
                    float part = 0;
                    for (int k = 0; k < 4; k++) part += weight_x[k] * line[gp_clamp(at_x + k, width)];
                    sum += weight_y[i] * part;
                }
                *y++ = sum;
            }
        }
    }
}
