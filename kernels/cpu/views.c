/**
 * What the encoders see. Bytes become ((v/255) − mean)/deviation through a table of 256 values a channel, so
 * that a crop's numbers are the official ones to the bit and no resize divides again.
 */
#include "kernels/base/resize.h"
#include "kernels/cpu/cpu.h"

#include <string.h>

/* ---- crops and the global view ---- */

typedef struct crops_job {
    const gp_crop_views *views;
    float table[3][256]; /* normalised values */
} crops_job;

/** One row of one view, three channels. */
static void view_row(void *argument, int64_t index, int thread);
static void global_row(const crops_job *job, int row, float *y);

void GP_CPU(crop_views)(gp_backend *backend, const gp_crop_views *views) {
    crops_job job = {.views = views};
    for (int channel = 0; channel < 3; channel++)
        for (int v = 0; v < 256; v++)
            job.table[channel][v] = ((float)v / 255.0f - views->mean[channel]) / views->deviation[channel];
    gp_parallel_for(backend, (int64_t)views->views * views->side, view_row, &job);
}

static void view_row(void *argument, int64_t index, int thread) {
    (void)thread;
    const crops_job *job = argument;
    const gp_crop_views *views = job->views;
    int side = views->side, row = (int)(index % side), view = views->first_view + (int)(index / side);
    float *y = views->y + ((index / side) * 3 * side + row) * (int64_t)side;
    if (view == 0) {
        global_row(job, row, y);
        return;
    }
    int crop_row = (view - 1) / views->columns, crop_column = (view - 1) % views->columns;
    const uint8_t *source =
        views->canvas + (((int64_t)crop_row * side + row) * views->columns + crop_column) * side * 3;
    for (int channel = 0; channel < 3; channel++) {
        float *line = y + (int64_t)channel * side * side;
        for (int x = 0; x < side; x++) line[x] = job->table[channel][source[3 * x + channel]];
    }
}

/** Row `row` of the whole canvas at side × side, bicubic over normalised values: across first, then down. */
static void global_row(const crops_job *job, int row, float *y) {
    const gp_crop_views *views = job->views;
    int side = views->side, width = views->columns * side, height = views->rows * side;
    float scale_y = (float)height / (float)side, scale_x = (float)width / (float)side, weight_y[4],
          weight_x[4];
    int first_y = gp_cubic_taps(scale_y, row, weight_y);
    const uint8_t *lines[4];
    for (int i = 0; i < 4; i++) lines[i] = views->canvas + (int64_t)gp_clamp(first_y + i, height) * width * 3;
    for (int x = 0; x < side; x++) {
        int first_x = gp_cubic_taps(scale_x, x, weight_x), at[4];
        for (int k = 0; k < 4; k++) at[k] = 3 * gp_clamp(first_x + k, width);
        for (int channel = 0; channel < 3; channel++) {
            const float *table = job->table[channel];
            float sum = 0;
            for (int i = 0; i < 4; i++) {
                const uint8_t *line = lines[i] + channel;
                sum += weight_y[i] * (weight_x[0] * table[line[at[0]]] + weight_x[1] * table[line[at[1]]] +
                                      weight_x[2] * table[line[at[2]]] + weight_x[3] * table[line[at[3]]]);
            }
            y[(int64_t)channel * side * side + x] = sum;
        }
    }
}

/* ---- the grounding encoder's view ---- */

typedef struct pass {
    gp_taps *taps;  /* [side] */
    float *weights; /* [side, most] */
    int most;
} pass;

typedef struct whole_job {
    const gp_whole_view *view;
    pass across, down;
    float *between;   /* [3, source_height, side] */
    float table[256]; /* v/255 */
} whole_job;

static pass make_taps(int source, int target, void *memory);
static void across_row(void *argument, int64_t row, int thread);
static void down_row(void *argument, int64_t index, int thread);

void GP_CPU(whole_view)(gp_backend *backend, const gp_whole_view *view) {
    unsigned char *memory = (unsigned char *)view->scratch;
    whole_job job = {.view = view, .across = make_taps(view->source_width, view->side, memory)};
    memory += gp_resize_taps_bytes(view->source_width, view->side, sizeof(float));
    job.down = make_taps(view->source_height, view->side, memory);
    memory += gp_resize_taps_bytes(view->source_height, view->side, sizeof(float));
    job.between = (float *)memory;
    for (int v = 0; v < 256; v++) job.table[v] = (float)v / 255.0f;
    gp_parallel_for(backend, view->source_height, across_row, &job);
    gp_parallel_for(backend, 3 * (int64_t)view->side, down_row, &job);
}

/** torch's weights for antialias in f32: the centre is rounded to f32, the distance to it is not. */
static pass make_taps(int source, int target, void *memory) {
    pass made = {.taps = memory, .most = gp_resize_taps_max(source, target)};
    made.weights = (float *)(made.taps + target);
    float scale = (float)source / (float)target, reach = scale >= 1 ? scale : 1,
          inverse = scale >= 1 ? 1 / scale : 1;
    for (int i = 0; i < target; i++) {
        float centre = (float)(scale * (i + 0.5)), total = 0;
        float *weights = made.weights + (int64_t)i * made.most;
        int64_t first = (int64_t)(centre - reach + 0.5), end = (int64_t)(centre + reach + 0.5);
        if (first < 0) first = 0;
        if (end > source) end = source;
        if (end - first > made.most) end = first + made.most;
        for (int64_t k = first; k < end; k++) {
            float distance = (float)(((float)k - centre + 0.5) * inverse);
            if (distance < 0) distance = -distance;
            weights[k - first] = distance < 1 ? 1 - distance : 0;
            total += weights[k - first];
        }
        for (int64_t k = first; k < end && total != 0; k++) weights[k - first] /= total;
        made.taps[i] = (gp_taps){(int32_t)first, (int32_t)(end - first)};
    }
    return made;
}

/** A source row at the new width, its channels apart. */
static void across_row(void *argument, int64_t row, int thread) {
    (void)thread;
    const whole_job *job = argument;
    const gp_whole_view *view = job->view;
    const uint8_t *source = view->source + (size_t)row * view->source_stride;
    int64_t plane = (int64_t)view->source_height * view->side;
    float *y = job->between + row * view->side;
    for (int x = 0; x < view->side; x++) {
        gp_taps taps = job->across.taps[x];
        const float *weights = job->across.weights + (int64_t)x * job->across.most;
        const uint8_t *from = source + 3 * (size_t)taps.first;
        float red = 0, green = 0, blue = 0;
        for (int k = 0; k < taps.count; k++, from += 3) {
            red += weights[k] * job->table[from[0]];
            green += weights[k] * job->table[from[1]];
            blue += weights[k] * job->table[from[2]];
        }
        y[x] = red;
        y[plane + x] = green;
        y[2 * plane + x] = blue;
    }
}

/** A row of one channel of the result. */
static void down_row(void *argument, int64_t index, int thread) {
    (void)thread;
    const whole_job *job = argument;
    const gp_whole_view *view = job->view;
    int side = view->side, channel = (int)(index / side);
    int64_t row = index % side;
    gp_taps taps = job->down.taps[row];
    const float *weights = job->down.weights + row * job->down.most;
    const float *source = job->between + ((int64_t)channel * view->source_height + taps.first) * side;
    float *y = view->y + index * side;
    memset(y, 0, (size_t)side * sizeof *y);
    for (int k = 0; k < taps.count; k++)
        for (int x = 0; x < side; x++) y[x] += weights[k] * source[(int64_t)k * side + x];
    for (int x = 0; x < side; x++) y[x] = (y[x] - view->mean[channel]) / view->deviation[channel];
}
