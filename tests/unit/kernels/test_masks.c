/** choose_masks against the goldens and a plain count, draw_mask against f64 and a plain count, sample
 * against the exact distribution. */
#include "loaders/weights/checkpoint.h"
#include "tests/unit/kernels/backends.h"

/** Chosen masks and stabilities, in host memory. */
typedef struct choices {
    const int32_t *chosen;
    const float *stability;
} choices;

static choices choose(gp_backend *backend, const float *logits, const float *iou, int masks, int64_t area) {
    gp_choose_masks choice = {.logits = floats_on(backend, logits, 4 * masks * area),
                              .iou = floats_on(backend, iou, 4ll * masks),
                              .masks = masks,
                              .area = area,
                              .delta = 0.05f,
                              .threshold = 0.98f,
                              .stability = floats_on(backend, NULL, masks),
                              .chosen = on_backend(backend, NULL, (size_t)masks * sizeof(int32_t))};
    backend->ops->choose_masks(backend, &choice);
    return (choices){from_backend(backend, choice.chosen, (size_t)masks * sizeof(int32_t)),
                     floats_from(backend, choice.stability, masks)};
}

static void test_choice_goldens(gp_backend *backend, const char *path) {
    gp_status status = {0};
    gp_checkpoint *file;
    REQUIRE(gp_checkpoint_open_file(path, &file, &status), "%s", status.message);
    const gp_tensor *logits = gp_checkpoint_find(file, "logits"), *iou = gp_checkpoint_find(file, "iou");
    const gp_tensor *stability = gp_checkpoint_find(file, "stability"),
                    *chosen = gp_checkpoint_find(file, "chosen");
    REQUIRE(logits != NULL && iou != NULL && stability != NULL && chosen != NULL, "%s lacks tensors", path);
    int masks = (int)logits->shape[0];
    int64_t area = logits->shape[2] * logits->shape[3];
    REQUIRE(masks > 0 && masks <= 256, "%d masks", masks);
    choices have = choose(backend, gp_checkpoint_read(file, logits, &status),
                          gp_checkpoint_read(file, iou, &status), masks, area);
    const float *want_stability = gp_checkpoint_read(file, stability, &status);
    const unsigned char *want = gp_checkpoint_read(file, chosen, &status);
    size_t size = gp_dtype_size(chosen->dtype);
    for (int i = 0; i < masks; i++) {
        CHECK(have.chosen[i] == want[(size_t)i * size], "mask %d: %d is chosen, not %d", i, have.chosen[i],
              want[(size_t)i * size]); /* small, little-endian */
        CHECK(fabs((double)have.stability[i] - (double)want_stability[i]) < 1e-6,
              "mask %d: stability %g, not %g", i, (double)have.stability[i], (double)want_stability[i]);
    }
    gp_checkpoint_close(file);
    release_memory();
}

static void test_choice_edges(gp_backend *backend) {
    float logits[3][4][9], iou[3][4] = {{0.1f, 0.5f, 0.9f, 0.9f}, {0.9f, 0.3f, 0.2f, 0.1f}, {0, 0, 0, 0}};
    for (int i = 0; i < 9; i++) {
        for (int k = 0; k < 4; k++)
            logits[0][k][i] = logits[1][k][i] = -1, logits[2][k][i] = 0; /* between the thresholds */
        logits[1][0][i] = 1;
    }
    choices have = choose(backend, logits[0][0], iou[0], 3, 9);
    CHECK(have.stability[0] == 1 && have.chosen[0] == 0, "nothing above −0.05 is stable: %g, %d",
          (double)have.stability[0], have.chosen[0]);
    CHECK(have.stability[1] == 1 && have.chosen[1] == 0, "all above 0.05 is stable");
    CHECK(have.stability[2] == 0 && have.chosen[2] == 1,
          "all in between is not, and the first of equals is taken: %d", have.chosen[2]);
    logits[0][0][0] = 0.01f;
    have = choose(backend, logits[0][0], iou[0], 1, 9);
    CHECK(have.chosen[0] == 2, "the first of the two highest: %d", have.chosen[0]);
    release_memory();
}

/** What draw_mask gives, in host memory. */
typedef struct drawing {
    const uint32_t *words, *ends;
    uint32_t runs;
} drawing;

static drawing draw(gp_backend *backend, const float *logits, int grid, int height, int width) {
    size_t words = (size_t)(height * gp_mask_words(width)) * sizeof(uint32_t),
           ends = gp_mask_runs_max(grid, height, width) * sizeof(uint32_t);
    gp_draw_mask mask = {floats_on(backend, logits, (int64_t)grid * grid),
                         grid,
                         height,
                         width,
                         on_backend(backend, NULL, backend->ops->draw_mask_scratch(height, width)),
                         on_backend(backend, NULL, words),
                         on_backend(backend, NULL, ends),
                         on_backend(backend, NULL, sizeof(uint32_t))};
    backend->ops->draw_mask(backend, &mask);
    const uint32_t *runs = from_backend(backend, mask.runs, sizeof *runs);
    return (drawing){from_backend(backend, mask.words, words), from_backend(backend, mask.ends, ends), *runs};
}

static int pixel_of(const drawing *mask, int width, int x, int y) {
    return mask->words[y * gp_mask_words(width) + x / 32] >> x % 32 & 1;
}

/** The ends of runs, counted pixel by pixel; bits beyond the width are 0. */
static void check_runs(const drawing *mask, int grid, int height, int width) {
    uint32_t at = 0, most = (uint32_t)gp_mask_runs_max(grid, height, width), run = 0;
    int value = 0;
    REQUIRE(mask->runs >= 1 && mask->runs <= most, "grid %d to %d x %d: %u runs of at most %u", grid, width,
            height, mask->runs, most);
    for (int x = 0; x < width; x++)
        for (int y = 0; y < height; y++, at++) {
            if (pixel_of(mask, width, x, y) == value) continue;
            REQUIRE(run < mask->runs, "grid %d to %d x %d: more than %u runs", grid, width, height,
                    mask->runs);
            CHECK(mask->ends[run] == at, "grid %d to %d x %d: run %u ends at %u, not %u", grid, width, height,
                  run, mask->ends[run], at);
            run++;
            value = !value;
        }
    CHECK(run + 1 == mask->runs && mask->ends[run] == at, "grid %d to %d x %d: %u runs to %u, not %u to %u",
          grid, width, height, mask->runs, mask->ends[mask->runs - 1], run + 1, at);
    for (uint32_t i = mask->runs; i < most; i++)
        CHECK(mask->ends[i] == 0xFFFFFFFFu, "an end is written after the last");
    for (int y = 0; y < height && width % 32 != 0; y++)
        CHECK(mask->words[(y + 1) * gp_mask_words(width) - 1] >> width % 32 == 0, "row %d: bits beyond %d", y,
              width);
}

/** In f64; pixels whose value is within f32's rounding of 0 may fall either way: |value| < 16·2^-24·(largest
 * logit). */
static void test_draw(gp_backend *backend, uint64_t *seed, int grid, int height, int width) {
    const float *logits = random_floats(seed, (int64_t)grid * grid, 3);
    drawing mask = draw(backend, logits, grid, height, width);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            double sy = (double)grid / height * (y + 0.5) - 0.5, sx = (double)grid / width * (x + 0.5) - 0.5;
            if (sy < 0) sy = 0;
            if (sx < 0) sx = 0;
            int y0 = (int)sy, x0 = (int)sx, y1 = y0 + (y0 < grid - 1), x1 = x0 + (x0 < grid - 1);
            double fy = sy - y0, fx = sx - x0;
            double value = (1 - fy) * ((1 - fx) * logits[y0 * grid + x0] + fx * logits[y0 * grid + x1]) +
                           fy * ((1 - fx) * logits[y1 * grid + x0] + fx * logits[y1 * grid + x1]);
            /* A source position is off by up to 2^-24·grid, which moves the value by that times the slope, at
             * most 6. */
            double doubt = (16 * 3 + 6.0 * grid) * 0x1p-24;
            int have = pixel_of(&mask, width, x, y);
            CHECK(have == (value > 0) || fabs(value) < doubt, "grid %d to %d x %d at %d, %d: %d, but %g",
                  grid, width, height, x, y, have, value);
        }
    check_runs(&mask, grid, height, width);
    release_memory();
}

/** All 0, all 1, and logits that make as many runs as there can be: signs that change with every row,
 * numbers so small that products vanish, and such as a broken checkpoint gives. */
static void test_draw_edges(gp_backend *backend, uint64_t *seed, int grid, int height, int width) {
    static const float extremes[] = {1, -1, 1.4e-45f, -1.4e-45f, 0, 3e38f, -3e38f, INFINITY, -INFINITY, NAN};
    float *logits = host_memory((size_t)(grid * grid) * sizeof *logits);
    uint32_t area = (uint32_t)(height * width);
    for (int kind = 0; kind < 7; kind++) {
        int cells = grid * grid, kinds = kind == 5 ? 5 : sizeof extremes / sizeof *extremes;
        for (int i = 0; i < cells; i++) {
            if (kind < 2)
                logits[i] = kind == 0 ? -1.0f : 1.0f;
            else if (kind == 2)
                logits[i] = i / grid % 2 == 0 ? -1.0f : 1.0f;
            else if (kind == 3)
                logits[i] = 1.4e-45f; /* halved it is nothing */
            else if (kind == 4)
                logits[i] = INFINITY; /* 0 times it is none: no pixel where a row of logits lies */
            else
                logits[i] = extremes[random_bits(seed) % (uint64_t)kinds];
        }
        int mark = handed_out_count;
        drawing mask = draw(backend, logits, grid, height, width);
        check_runs(&mask, grid, height, width);
        if (kind == 0) CHECK(mask.runs == 1 && mask.ends[0] == area, "nothing: %u runs", mask.runs);
        if (kind == 1)
            CHECK(mask.runs == 2 && mask.ends[0] == 0 && mask.ends[1] == area, "all: %u runs", mask.runs);
        release_memory_from(mark);
    }
    release_memory();
}

/** Backends of one kind: the same bits. */
static void test_draw_alike(gp_backend **backends, int count, uint64_t *seed) {
    enum { GRID = 16, HEIGHT = 131, WIDTH = 203 };
    const float *logits = random_floats(seed, GRID * GRID, 3);
    drawing first = draw(backends[0], logits, GRID, HEIGHT, WIDTH);
    for (int i = 1; i < count; i++) {
        drawing other = draw(backends[i], logits, GRID, HEIGHT, WIDTH);
        CHECK(other.runs == first.runs &&
                  memcmp(other.ends, first.ends, first.runs * sizeof *first.ends) == 0 &&
                  memcmp(other.words, first.words,
                         (size_t)(HEIGHT * gp_mask_words(WIDTH)) * sizeof *first.words) == 0,
              "%s and %s draw differently", backends[0]->name, backends[i]->name);
    }
    release_memory();
}

/** Tokens of rows of logits [rows, count], each by its own choice. */
static void draw_tokens(gp_backend *backend, const float *logits, int rows, int count,
                        const gp_token_choice *how, int32_t *tokens) {
    int mark = handed_out_count;
    size_t bytes = (size_t)rows * sizeof *tokens;
    gp_sample sample = {.logits = floats_on(backend, logits, (int64_t)rows * count),
                        .rows = rows,
                        .count = count,
                        .choices = on_backend(backend, how, (size_t)rows * sizeof *how),
                        .order = on_backend(backend, NULL, (size_t)count * bytes),
                        .tokens = on_backend(backend, NULL, bytes)};
    backend->ops->sample(backend, &sample);
    backend->ops->download(backend, tokens, sample.tokens, bytes);
    release_memory_from(mark);
}

static int32_t draw_token(gp_backend *backend, const float *logits, int count, float temperature, float top_p,
                          double uniform) {
    int32_t token = -1;
    draw_tokens(backend, logits, 1, count, &(gp_token_choice){uniform, temperature, top_p}, &token);
    return token;
}

/** Rows at once, greedy ones beside drawn ones: each has the token that it has alone. */
static void test_sample_rows(gp_backend *backend, uint64_t *seed) {
    enum { ROWS = 9, COUNT = 777 };
    const float *logits = random_floats(seed, ROWS * COUNT, 6);
    gp_token_choice how[ROWS];
    int32_t tokens[ROWS];
    for (int i = 0; i < ROWS; i++) {
        how[i].uniform = ((double)random_float(seed) + 1) / 2;
        how[i].temperature = i % 3 == 0 ? 0 : 0.5f + (float)i;
        how[i].top_p = i % 2 == 0 ? 1 : 0.7f;
    }
    draw_tokens(backend, logits, ROWS, COUNT, how, tokens);
    for (int i = 0; i < ROWS; i++) {
        int32_t alone = draw_token(backend, logits + (size_t)i * COUNT, COUNT, how[i].temperature,
                                   how[i].top_p, how[i].uniform);
        CHECK(tokens[i] == alone, "%s: row %d of %d has token %d, alone %d", backend->name, i, ROWS,
              tokens[i], alone);
    }
    release_memory();
}

static void test_sample(gp_backend *backend, int draws) {
    enum { COUNT = 6 };
    const float logits[COUNT] = {0.5f, 2, -1, 2, -INFINITY, 1};
    CHECK(draw_token(backend, logits, COUNT, 0, 0.5f, 0.99) == 1, "greedy takes the first of the largest");
    CHECK(draw_token(backend, logits, COUNT, 1, 0.01f, 0.99) == 1, "a tiny top_p leaves one");
    for (int kind = 0; kind < 2; kind++) {
        float temperature = kind == 0 ? 1 : 0.7f, top_p = kind == 0 ? 1 : 0.8f;
        double share[COUNT], total = 0, kept = 0;
        int order[COUNT] = {1, 3, 5, 0, 2, 4}, drawn[COUNT] = {0};
        for (int i = 0; i < COUNT; i++) total += share[i] = exp(logits[i] / (double)temperature);
        for (int i = 0; i < COUNT; i++) {
            bool in = i == 0 || kept < (double)top_p * total;
            if (in)
                kept += share[order[i]];
            else
                share[order[i]] = 0;
        }
        for (int i = 0; i < draws; i++)
            drawn[draw_token(backend, logits, COUNT, temperature, top_p, (i + 0.5) / draws)]++;
        for (int i = 0; i < COUNT; i++) /* an even grid of uniforms misses each share by one draw at most */
            CHECK(fabs(drawn[i] - draws * share[i] / kept) <= 1.01, "token %d: %d of %d draws, share %g", i,
                  drawn[i], draws, share[i] / kept);
    }
    float huge[3] = {1e30f, -1e30f, 1e30f};
    CHECK(draw_token(backend, huge, 3, 1, 1, 0.2) == 0 && draw_token(backend, huge, 3, 1, 1, 0.8) == 2,
          "huge logits");
}

static void test_all(uint64_t *seed, gp_backend **backends, int count) {
    for (int i = 0; i < count; i++) {
        test_choice_edges(backends[i]);
        test_draw(backends[i], seed, 8, 37, 61);
        test_draw(backends[i], seed, 16, 7, 5);    /* smaller than the grid */
        test_draw(backends[i], seed, 4, 70, 4100); /* more than one band each way */
        test_draw(backends[i], seed, 5, 1, 1);
        test_draw(backends[i], seed, 6, 150, 1); /* one column, one row, whole words, one pixel more */
        test_draw(backends[i], seed, 6, 1, 300);
        test_draw(backends[i], seed, 24, 128, 256);
        test_draw(backends[i], seed, 24, 129, 257);
        test_draw_edges(backends[i], seed, 7, 1, 1);
        test_draw_edges(backends[i], seed, 7, 66, 33);
        test_draw_edges(backends[i], seed, 7, 21, 35);  /* every third row is one of logits */
        test_draw_edges(backends[i], seed, 3, 200, 64); /* more rows than there can be changes */
        test_sample(backends[i], EMULATED ? 12 : 20000);
        test_sample_rows(backends[i], seed);
    }
    test_draw_alike(backends, count, seed);
    const char *folder = getenv("GEOPIXEL_SHARED");
    char path[4096];
    snprintf(path, sizeof path, "%s/goldens/mask_choice.safetensors", folder != NULL ? folder : "../shared");
    if (access(path, R_OK) == 0)
        test_choice_goldens(backends[0], path);
    else
        printf("not compared with the goldens: %s is not there\n", path);
}

int main(void) {
    return run_on_backends(test_all);
}
