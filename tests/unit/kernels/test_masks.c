/** choose_masks against the goldens and a plain count, draw_mask against f64, sample against the exact
 * distribution. */
#include "loaders/weights/checkpoint.h"
#include "tests/unit/kernels/backends.h"

static void test_choice_goldens(gp_backend *backend, const char *path) {
    gp_status status = {0};
    gp_checkpoint *file;
    REQUIRE(gp_checkpoint_open_file(path, &file, &status), "%s", status.message);
    const gp_tensor *logits = gp_checkpoint_find(file, "logits"), *iou = gp_checkpoint_find(file, "iou");
    const gp_tensor *stability = gp_checkpoint_find(file, "stability"),
                    *chosen = gp_checkpoint_find(file, "chosen");
    REQUIRE(logits != NULL && iou != NULL && stability != NULL && chosen != NULL, "%s lacks tensors", path);
    int masks = (int)logits->shape[0];
    float have_stability[256];
    int32_t have[256];
    REQUIRE(masks > 0 && masks <= 256, "%d masks", masks);
    backend->ops->choose_masks(backend,
                               &(gp_choose_masks){.logits = gp_checkpoint_read(file, logits, &status),
                                                  .iou = gp_checkpoint_read(file, iou, &status),
                                                  .masks = masks,
                                                  .area = logits->shape[2] * logits->shape[3],
                                                  .delta = 0.05f,
                                                  .threshold = 0.98f,
                                                  .stability = have_stability,
                                                  .chosen = have});
    const float *want_stability = gp_checkpoint_read(file, stability, &status);
    const unsigned char *want = gp_checkpoint_read(file, chosen, &status);
    size_t size = gp_dtype_size(chosen->dtype);
    for (int i = 0; i < masks; i++) {
        CHECK(have[i] == want[(size_t)i * size], "mask %d: %d is chosen, not %d", i, have[i],
              want[(size_t)i * size]); /* small, little-endian */
        CHECK(fabs((double)have_stability[i] - (double)want_stability[i]) < 1e-6,
              "mask %d: stability %g, not %g", i, (double)have_stability[i], (double)want_stability[i]);
    }
    gp_checkpoint_close(file);
}

static void test_choice_edges(gp_backend *backend) {
    float logits[3][4][9], iou[3][4] = {{0.1f, 0.5f, 0.9f, 0.9f}, {0.9f, 0.3f, 0.2f, 0.1f}, {0, 0, 0, 0}},
                           stability[3];
    int32_t chosen[3];
    for (int i = 0; i < 9; i++) {
        for (int k = 0; k < 4; k++)
            logits[0][k][i] = logits[1][k][i] = -1, logits[2][k][i] = 0; /* between the thresholds */
        logits[1][0][i] = 1;
    }
    backend->ops->choose_masks(
        backend, &(gp_choose_masks){logits[0][0], iou[0], 3, 9, 0.05f, 0.98f, stability, chosen});
    CHECK(stability[0] == 1 && chosen[0] == 0, "nothing above −0.05 is stable: %g, %d", (double)stability[0],
          chosen[0]);
    CHECK(stability[1] == 1 && chosen[1] == 0, "all above 0.05 is stable");
    CHECK(stability[2] == 0 && chosen[2] == 1, "all in between is not, and the first of equals is taken: %d",
          chosen[2]);
    logits[0][0][0] = 0.01f;
    backend->ops->choose_masks(
        backend, &(gp_choose_masks){logits[0][0], iou[0], 1, 9, 0.05f, 0.98f, stability, chosen});
    CHECK(chosen[0] == 2, "the first of the two highest: %d", chosen[0]);
}

/** In f64; pixels whose value is within f32's rounding of 0 may fall either way: |value| < 16·2^-24·(largest
 * logit). */
static void test_draw(gp_backend *backend, uint64_t *seed, int grid, int height, int width) {
    float *logits = random_floats(seed, (int64_t)grid * grid, 3);
    uint8_t *pixels = gp_allocate((size_t)height * (size_t)width);
    memset(pixels, 0xAA, (size_t)height * (size_t)width);
    backend->ops->draw_mask(backend, &(gp_draw_mask){logits, grid, height, width, pixels});
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
            uint8_t have = pixels[y * width + x];
            CHECK(have == (value > 0) || (fabs(value) < doubt && have <= 1),
                  "grid %d to %d x %d at %d, %d: %d, but %g", grid, width, height, x, y, have, value);
        }
    gp_free(logits);
    gp_free(pixels);
}

static int32_t draw_token(gp_backend *backend, const float *logits, int count, float temperature, float top_p,
                          double uniform) {
    int32_t order[64], token = -1;
    backend->ops->sample(backend, &(gp_sample){logits, count, temperature, top_p, uniform, order, &token});
    return token;
}

static void test_sample(gp_backend *backend) {
    enum { COUNT = 6, DRAWS = 20000 };
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
        for (int i = 0; i < DRAWS; i++)
            drawn[draw_token(backend, logits, COUNT, temperature, top_p, (i + 0.5) / DRAWS)]++;
        for (int i = 0; i < COUNT; i++) /* an even grid of uniforms misses each share by one draw at most */
            CHECK(fabs(drawn[i] - DRAWS * share[i] / kept) <= 1.01, "token %d: %d of %d draws, share %g", i,
                  drawn[i], DRAWS, share[i] / kept);
    }
    float huge[3] = {1e30f, -1e30f, 1e30f};
    CHECK(draw_token(backend, huge, 3, 1, 1, 0.2) == 0 && draw_token(backend, huge, 3, 1, 1, 0.8) == 2,
          "huge logits");
}

int main(void) {
    uint64_t seed = fresh_seed();
    gp_backend *backends[BACKENDS_MAX];
    int count = open_backends(backends);
    for (int i = 0; i < count; i++) {
        test_choice_edges(backends[i]);
        test_draw(backends[i], &seed, 8, 37, 61);
        test_draw(backends[i], &seed, 16, 7, 5);    /* smaller than the grid */
        test_draw(backends[i], &seed, 4, 70, 4100); /* more than one band each way */
        test_draw(backends[i], &seed, 5, 1, 1);
        test_sample(backends[i]);
    }
    const char *folder = getenv("GEOPIXEL_SHARED");
    char path[4096];
    snprintf(path, sizeof path, "%s/goldens/mask_choice.safetensors", folder != NULL ? folder : "../shared");
    if (access(path, R_OK) == 0)
        test_choice_goldens(backends[0], path);
    else
        printf("not compared with the goldens: %s is not there\n", path);
    close_backends(backends, count);
    return check_done();
}
