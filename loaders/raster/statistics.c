#include "loaders/raster/statistics.h"

#include "kernels/base/memory.h"
#include "loaders/raster/samples.h"

#include <math.h>
#include <stdlib.h>

/** The blocks of a level that are looked at: every step-th of columns × rows, of which every stride-th row
 * and column. */
typedef struct block_grid {
    int level;
    int block_width, block_height;
    int columns, rows, step_x, step_y, stride;
} block_grid;

/** Values that count, a list a band. */
typedef struct value_lists {
    double *values[3]; /* [capacity] */
    size_t counts[3], capacity;
} value_lists;

static block_grid choose_grid(const gp_raster_info *info);
static bool collect(gp_raster *raster, const block_grid *grid, const int *bands, int count,
                    value_lists *lists, gp_status *status);
static double percentile(const double *sorted, size_t count, double percent);

static int compare_values(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

bool gp_raster_percentiles(gp_raster *raster, const int *bands, int count, double low_percent,
                           double high_percent, double *low, double *high, gp_status *status) {
    block_grid grid = choose_grid(gp_raster_about(raster));
    value_lists lists = {0};
    bool done = collect(raster, &grid, bands, count, &lists, status);
    for (int i = 0; i < count && done; i++) {
        low[i] = high[i] = 0;
        if (lists.counts[i] == 0) continue;
        qsort(lists.values[i], lists.counts[i], sizeof(double), compare_values);
        low[i] = percentile(lists.values[i], lists.counts[i], low_percent);
        high[i] = percentile(lists.values[i], lists.counts[i], high_percent);
    }
    for (int i = 0; i < count; i++) gp_free(lists.values[i]);
    return done;
}

/** numpy's "linear": between the two values whose ranks enclose percent · (count − 1). */
static double percentile(const double *sorted, size_t count, double percent) {
    double rank = percent / 100 * (double)(count - 1);
    size_t below = (size_t)rank;
    if (below + 1 >= count) return sorted[count - 1];
    return sorted[below] + (rank - (double)below) * ((double)sorted[below + 1] - sorted[below]);
}

static int divide_up(int a, int b) {
    return a / b + (a % b != 0);
}

static block_grid choose_grid(const gp_raster_info *info) {
    block_grid grid = {.step_x = 1, .step_y = 1, .stride = 1};
    for (int i = info->level_count - 1; i > 0 && grid.level == 0; i--)
        if ((int64_t)info->levels[i].width * info->levels[i].height >= GP_STATISTICS_LEVEL_PIXELS)
            grid.level = i;
    const gp_raster_level *level = &info->levels[grid.level];
    grid.block_width = level->block_width;
    grid.block_height = level->block_height;
    /* A strip may be the whole scene: it is read in slices. */
    if (!info->tiled && grid.block_height > 1024) grid.block_height = 1024;
    grid.columns = divide_up(level->width, grid.block_width);
    grid.rows = divide_up(level->height, grid.block_height);
    if ((int64_t)level->width * level->height <= GP_STATISTICS_PIXELS) return grid;
    for (;;) {
        int across = divide_up(grid.columns, grid.step_x), down = divide_up(grid.rows, grid.step_y);
        if ((int64_t)across * down <= GP_STATISTICS_BLOCKS) break;
        if (across > down)
            grid.step_x++;
        else
            grid.step_y++;
    }
    int64_t blocks = (int64_t)divide_up(grid.columns, grid.step_x) * divide_up(grid.rows, grid.step_y);
    while (blocks * divide_up(grid.block_width, grid.stride) * divide_up(grid.block_height, grid.stride) >
           GP_STATISTICS_PIXELS)
        grid.stride++;
    return grid;
}

/** Grows the lists for `more` values each. */
static bool reserve(value_lists *lists, int count, size_t more) {
    size_t need = more;
    for (int i = 0; i < count; i++)
        if (lists->counts[i] + more > need) need = lists->counts[i] + more;
    if (need <= lists->capacity) return true;
    size_t capacity = need > 2 * lists->capacity ? need : 2 * lists->capacity;
    for (int i = 0; i < count; i++) {
        double *grown = gp_grow(lists->values[i], lists->counts[i] * sizeof *grown, capacity * sizeof *grown);
        if (grown == NULL) return false;
        lists->values[i] = grown;
    }
    lists->capacity = capacity;
    return true;
}

static bool collect(gp_raster *raster, const block_grid *grid, const int *bands, int count,
                    value_lists *lists, gp_status *status) {
    const gp_raster_info *info = gp_raster_about(raster);
    const gp_raster_level *level = &info->levels[grid->level];
    int block_width = grid->block_width < level->width ? grid->block_width : level->width,
        block_height = grid->block_height < level->height ? grid->block_height : level->height;
    size_t most = (size_t)block_width * (size_t)block_height;
    void *samples = gp_allocate(most * (size_t)count * (size_t)gp_sample_type_bytes(info->type));
    uint8_t *valid = gp_allocate(most * (size_t)count);
    bool done =
        (samples != NULL && valid != NULL) ||
        gp_fail(status, "%s: no memory for blocks of %d x %d pixels", info->path, block_width, block_height);
    for (int row = grid->step_y / 2 % grid->rows; row < grid->rows && done; row += grid->step_y) {
        for (int column = grid->step_x / 2 % grid->columns; column < grid->columns && done;
             column += grid->step_x) {
            gp_window window = {column * grid->block_width, row * grid->block_height, block_width,
                                block_height};
            if (window.width > level->width - window.x) window.width = level->width - window.x;
            if (window.height > level->height - window.y) window.height = level->height - window.y;
            done = gp_raster_read(raster, grid->level, window, bands, count, samples, valid, status) &&
                   (reserve(lists, count, (size_t)window.width * (size_t)window.height) ||
                    gp_fail(status, "%s: no memory for its statistics", info->path));
            for (int y = 0; y < window.height && done; y += grid->stride) {
                for (int x = 0; x < window.width; x += grid->stride) {
                    size_t at = ((size_t)y * (size_t)window.width + (size_t)x) * (size_t)count;
                    for (int i = 0; i < count; i++) {
                        double value = gp_sample_value(info->type, samples, at + (size_t)i);
                        if (valid[at + (size_t)i] && isfinite(value))
                            lists->values[i][lists->counts[i]++] = value;
                    }
                }
            }
        }
    }
    gp_free(samples);
    gp_free(valid);
    return done;
}
