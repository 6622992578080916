/**
 * test_layouts MODEL: no two buffers of a stage that hold something at the same time overlap, and none leaves
 * the arena, for random sizes of GeoPixel-7B and of a small model, on both kinds of backends, alone and as
 * one of several ranks. How large each buffer has to be, and when it holds something, is said here again.
 */
#include "kernels/cuda/sizes.h"
#include "runtime/batch.h"
#include "runtime/replica.h"
#include "tests/check.h"

enum { BUFFERS_MAX = 48, ROUNDS = 40 };

/* When in its stage a buffer holds something. */
enum { FIRST = 1, SECOND = 2, THIRD = 4, ALWAYS = 7 };

typedef struct buffer {
    const char *name;
    const unsigned char *start;
    size_t bytes;
    int times;
} buffer;

static buffer buffers[BUFFERS_MAX];
static int buffer_count;
static uint64_t seed;

static int between(int low, int high) {
    return low + (int)(random_bits(&seed) % (uint64_t)(high - low + 1));
}

static void note(const char *name, const void *start, size_t bytes, int times) {
    REQUIRE(buffer_count < BUFFERS_MAX, "more buffers than there is room for");
    buffers[buffer_count++] = (buffer){name, start, bytes, times};
}

/** Checks what was noted of an arena of that many bytes at the invented address. */
static unsigned char *const BLOCK = (unsigned char *)(uintptr_t)0x100000000000;

static void check_all(const char *stage, size_t capacity) {
    for (int i = 0; i < buffer_count; i++) {
        const buffer *a = &buffers[i];
        CHECK(a->start >= BLOCK && a->start + a->bytes <= BLOCK + capacity,
              "%s: %s of %zu bytes leaves the arena of %zu", stage, a->name, a->bytes, capacity);
        for (int k = 0; k < i; k++) {
            const buffer *b = &buffers[k];
            CHECK((a->times & b->times) == 0 || a->start + a->bytes <= b->start ||
                      b->start + b->bytes <= a->start,
                  "%s: %s, %zu bytes at %zu, and %s, %zu bytes at %zu", stage, a->name, a->bytes,
                  (size_t)(a->start - BLOCK), b->name, b->bytes, (size_t)(b->start - BLOCK));
        }
    }
    buffer_count = 0;
}

/** The buffer that products read of rows that are f32 too: the same memory where operands are f32. */
static void note_twin(const gp_backend *backend, const char *name, const void *start, const void *rows,
                      size_t count, int times) {
    if (backend->operand == GP_DTYPE_F32)
        CHECK(start == rows, "%s is not the f32 buffer itself", name);
    else
        note(name, start, count * 2, times);
}

static void test_language(const gp_model *model, const gp_backend *backend) {
    const gp_language *l = &model->language;
    const size_t rows = (size_t)between(1, 1024), sequences = (size_t)between(1, 64);
    const size_t operand = gp_dtype_size(backend->operand), hidden = (size_t)l->config.hidden_size;
    const size_t heads = (size_t)(l->kv_heads * l->group * l->head_dim);
    const size_t packed = (size_t)(l->kv_heads * (l->group + 2) * l->head_dim);
    const size_t vocabulary = (size_t)l->config.vocab_size;
    gp_arena measure = {0};
    gp_batch_buffers b;
    gp_plan_batch(model, backend, (int64_t)rows, (int)sequences, &measure, &b);
    gp_arena arena = {.block = BLOCK, .capacity = measure.peak};
    gp_plan_batch(model, backend, (int64_t)rows, (int)sequences, &arena, &b);
    note("x", b.language.x, rows * hidden * 4, ALWAYS);
    note("image_row", b.language.image_row, rows, ALWAYS);
    note("ids", b.language.ids, rows * 4, ALWAYS);
    note("normed", b.language.normed, rows * hidden * operand, ALWAYS);
    note("lora1", b.language.lora1, rows * (size_t)gp_operand_width(l->rank) * operand, ALWAYS);
    note("lora2", b.language.lora2, rows * (size_t)gp_operand_width(l->rank) * operand, ALWAYS);
    note("qkv", b.language.qkv, rows * packed * operand, FIRST);
    note("q", b.language.q, rows * heads * operand, FIRST);
    note("attended", b.language.attended, rows * heads * operand, FIRST);
    note("hidden", b.language.hidden, rows * (size_t)l->intermediate * operand, SECOND);
    note("final", b.language.final, rows * hidden * 4, THIRD);
    note_twin(backend, "final_operand", b.language.final_operand, b.language.final, rows * hidden, THIRD);
    note("step", b.step, sizeof(gp_step), ALWAYS);
    note("logits", b.logits, sequences * (size_t)gp_language_logit_stride(l) * 4, ALWAYS);
    note("order", b.order, sequences * vocabulary * 4, ALWAYS);
    note("tokens", b.tokens, sequences * 4, ALWAYS);
    check_all("language", measure.peak);
}

static void test_vision(const gp_model *model, const gp_backend *backend) {
    const gp_vision *v = &model->vision;
    const int ranks = model->language.split.size, views = between(1, GP_VIEW_BATCH * ranks);
    const size_t operand = gp_dtype_size(backend->operand), share = (size_t)((views + ranks - 1) / ranks);
    const size_t cells = (size_t)(v->grid * v->grid), rows = share * (cells + 1);
    const size_t hidden = (size_t)v->config.hidden_size, side = (size_t)v->config.image_size;
    const int64_t tokens = gp_vision_tokens(v, between(1, 4), between(1, 9));
    gp_arena measure = {0}, merge = {0};
    gp_vision_buffers b;
    gp_vision_merge_buffers m;
    gp_vision_layout(v, backend, views, ranks, &measure, &b);
    gp_arena arena = {.block = BLOCK, .capacity = measure.peak};
    gp_vision_layout(v, backend, views, ranks, &arena, &b);
    note("x", b.x, (size_t)ranks * rows * hidden * 4, ALWAYS);
    note("pixels", b.pixels, (size_t)views * 3 * side * side * 4, ALWAYS);
    note("patches", b.patches, cells * (size_t)gp_operand_width(v->patch.stride) * operand, ALWAYS);
    note("normed", b.normed, rows * hidden * operand, ALWAYS);
    note("qkv", b.qkv, rows * 3 * hidden * operand, ALWAYS);
    note("attended", b.attended, rows * hidden * operand, ALWAYS);
    note("hidden", b.hidden, rows * (size_t)v->config.intermediate_size * operand, ALWAYS);
    check_all("vision", measure.peak);
    gp_vision_layout_merge(v, backend, tokens, &merge, &m);
    arena = (gp_arena){.block = BLOCK, .capacity = merge.peak};
    gp_vision_layout_merge(v, backend, tokens, &arena, &m);
    note("merged", m.merged, (size_t)tokens * 4 * hidden * operand, ALWAYS);
    note("projected", m.projected, (size_t)tokens * (size_t)v->width * operand, ALWAYS);
    check_all("merge", merge.peak);
}

/** FIRST: the picture becomes the first map; SECOND: blocks, and the neck beside them; THIRD: what other
 * ranks gather, and what is taken from it. */
static void test_grounding(const gp_model *model, const gp_backend *backend) {
    const gp_grounding *g = &model->grounding;
    const int ranks = model->language.split.size, width = between(1, 4096), height = between(1, 4096);
    const size_t operand = gp_dtype_size(backend->operand), side = (size_t)g->config.image_size;
    size_t map = 0, in = 0, wide = 0, attended = 0, shortcut = 0, maps = 0;
    int across = g->side;
    for (int i = 0; i < g->block_count; i++) {
        const gp_hiera_block *block = &g->blocks[i];
        const size_t before = (size_t)across * (size_t)across;
        across /= block->pool ? 2 : 1;
        const size_t after = (size_t)across * (size_t)across, out = after * (size_t)block->width;
        const size_t qkv = before * 3 * (size_t)block->width, inner = after * (size_t)block->fc1.weight.rows;
        map = out > map ? out : map;
        in = before * (size_t)block->width_in > in ? before * (size_t)block->width_in : in;
        wide = qkv > wide ? qkv : wide;
        wide = inner > wide ? inner : wide;
        attended = out > attended ? out : attended;
        if (block->pool && before * (size_t)block->width > shortcut) shortcut = before * (size_t)block->width;
    }
    const size_t cells = (size_t)gp_grounding_grid(g) * (size_t)gp_grounding_grid(g), w = (size_t)g->width;
    maps = cells * w + 16 * cells * (w / 8) + 4 * cells * (w / 4);
    gp_arena measure = {0};
    gp_grounding_buffers b;
    gp_grounding_layout(g, backend, ranks, width, height, &measure, &b);
    gp_arena arena = {.block = BLOCK, .capacity = measure.peak};
    gp_grounding_layout(g, backend, ranks, width, height, &arena, &b);
    if (ranks > 1) note("gathered", b.gathered, (size_t)ranks * maps * 4, ALWAYS);
    note("pixels", b.pixels, (size_t)ranks * 3 * side * side * 4, FIRST);
    note("scratch", b.scratch, gp_whole_view_scratch(width, height, (int)side), FIRST);
    note("patches", b.patches,
         (size_t)(g->side * g->side) * (size_t)gp_operand_width(g->patch.weight.stride) * operand, FIRST);
    note("x", b.x, map * 4, FIRST | SECOND);
    note("next", b.next, map * 4, SECOND);
    note("normed", b.normed, (in > map ? in : map) * operand, SECOND);
    note("wide", b.wide, wide * operand, SECOND);
    if (shortcut * 4 > attended * operand) /* one after the other in the same place */
        note("shortcut", b.shortcut, shortcut * 4, SECOND);
    else
        note("attended", b.attended, attended * operand, SECOND);
    for (int level = 0; level < g->config.stage_count; level++) {
        const size_t values = (size_t)(g->side >> level) * (size_t)(g->side >> level) * w;
        if (b.sums[level] != NULL) note("a sum", b.sums[level], values * 4, SECOND);
        if (level < 2 && (b.sums[level] == NULL || backend->operand != GP_DTYPE_F32))
            note("a fine level", b.fine[level], values * operand, SECOND);
    }
    check_all("grounding", measure.peak);
}

/** FIRST: the transformer; SECOND: up-scaling. */
static void test_masks(const gp_model *model, const gp_backend *backend) {
    const gp_mask_decoder *d = &model->masks;
    const size_t operand = gp_dtype_size(backend->operand), n = (size_t)between(1, GP_MASK_BATCH);
    const size_t width = (size_t)d->width, cells = (size_t)d->grid * (size_t)d->grid;
    const size_t tokens = n * GP_DECODER_TOKENS * width, image = n * cells * width;
    const size_t language = n * (size_t)d->language_width;
    gp_arena measure = {0};
    gp_mask_buffers b;
    gp_mask_layout(d, backend, (int)n, &measure, &b);
    gp_arena arena = {.block = BLOCK, .capacity = measure.peak};
    gp_mask_layout(d, backend, (int)n, &arena, &b);
    note("point", b.point, tokens * 4, ALWAYS);
    note("tokens", b.tokens, tokens * 4, ALWAYS);
    note("token_out", b.token_out, tokens * 4, ALWAYS);
    note_twin(backend, "token_value", b.token_value, b.tokens, tokens, ALWAYS);
    note("token_query", b.token_query, tokens * operand, ALWAYS);
    note("hidden", b.hidden, language * operand, ALWAYS);
    note("text", b.text, language * operand, ALWAYS);
    note("prompts", b.prompts, n * width * 4, ALWAYS);
    note("mlp", b.mlp, n * GP_DECODER_TOKENS * (size_t)d->layers[0].fc1.weight.rows * operand, ALWAYS);
    for (int i = 0; i < 2; i++) note("hyper_rows", b.hyper_rows[i], n * width * operand, ALWAYS);
    note("hyper", b.hyper, n * GP_MASK_TOKENS * (width / 8) * 4, ALWAYS);
    note("iou", b.iou, n * GP_MASK_TOKENS * 4, ALWAYS);
    note("stability", b.stability, n * 4, ALWAYS);
    note("chosen", b.chosen, n * 4, ALWAYS);
    note("logits", b.logits, n * GP_MASK_TOKENS * 16 * cells * 4, ALWAYS);
    note("image", b.image, image * 4, ALWAYS);
    note_twin(backend, "image_value", b.image_value, b.image, image, ALWAYS);
    note("image_out", b.image_out, image * 4, FIRST);
    note("image_query", b.image_query, image * operand, FIRST);
    gp_operand *const projections[] = {b.q, b.k, b.v, b.attended};
    for (int i = 0; i < 4; i++)
        note("a projection", projections[i], (image > tokens ? image : tokens) * operand, FIRST);
    note("upscale_scratch", b.upscale_scratch, backend->ops->mask_upsample_scratch((int)n, d->grid, d->width),
         SECOND);
    check_all("masks", measure.peak);
}

/** What a request keeps, and what is kept of a picture. */
static void test_kept(const gp_model *model, const gp_backend *backend) {
    const gp_grounding *g = &model->grounding;
    const int width = between(1, 4096), height = between(1, 4096), answer = between(1, 400);
    const int crops = between(1, 36), grid = 4 * model->masks.grid;
    const size_t cells = (size_t)gp_grounding_grid(g) * (size_t)gp_grounding_grid(g), w = (size_t)g->width;
    const size_t hidden = (size_t)model->config.language.hidden_size, tokens = (size_t)between(1, 15000);
    gp_arena seen = {0}, kept = {0};
    gp_seen_buffers s;
    gp_kept_buffers k;
    gp_plan_seen(model, width, height, crops, (int64_t)tokens, &seen, &s);
    gp_arena arena = {.block = BLOCK, .capacity = seen.peak};
    gp_plan_seen(model, width, height, crops, (int64_t)tokens, &arena, &s);
    note("embed", s.maps.embed, cells * w * 4, ALWAYS);
    note("s0", s.maps.s0, 16 * cells * (w / 8) * 4, ALWAYS);
    note("s1", s.maps.s1, 4 * cells * (w / 4) * 4, ALWAYS);
    note("source", s.source, (size_t)width * (size_t)height * 3, ALWAYS);
    size_t features = (size_t)(1 + crops) * (1 + (size_t)(model->vision.grid * model->vision.grid)) *
                      (size_t)model->vision.config.hidden_size;
    note("image_tokens", s.image_tokens, (features > tokens * hidden ? features : tokens * hidden) * 4,
         ALWAYS);
    check_all("picture", seen.peak);
    gp_plan_kept(model, backend, width, height, answer, &kept, &k);
    arena = (gp_arena){.block = BLOCK, .capacity = kept.peak};
    gp_plan_kept(model, backend, width, height, answer, &arena, &k);
    note("seg_hidden", k.seg_hidden, (size_t)answer * hidden * 4, ALWAYS);
    note("scratch", k.drawing.scratch, backend->ops->draw_mask_scratch(height, width), ALWAYS);
    note("words", k.drawing.words, (size_t)height * (size_t)gp_mask_words(width) * 4, ALWAYS);
    note("ends", k.drawing.ends, gp_mask_runs_max(grid, height, width) * 4, ALWAYS);
    note("runs", k.drawing.runs, 4, ALWAYS);
    check_all("request", kept.peak);
}

static void test_model(const char *folder, gp_backend *backend, int ranks) {
    gp_model model = {0};
    gp_status status = {0};
    REQUIRE(gp_plan_open_model(folder, NULL, backend, (gp_split){0, ranks}, &model, &status), "%s",
            status.message);
    for (int i = 0; i < ROUNDS; i++) {
        test_language(&model, backend);
        test_vision(&model, backend);
        test_grounding(&model, backend);
        test_masks(&model, backend);
        test_kept(&model, backend);
    }
    gp_model_close(&model);
}

int main(int count, char **arguments) {
    REQUIRE(count == 2, "usage: test_layouts MODEL");
    seed = fresh_seed();
    gp_backend *cpu = NULL, cuda = gp_cuda_sizes();
    REQUIRE(gp_replica_open_backend(GP_DEVICE_CPU, 1, 0, 1, &cpu, NULL), "no CPU backend");
    for (int ranks = 1; ranks <= 8; ranks += ranks == 1 ? 1 : 3) {
        test_model(arguments[1], cpu, ranks);
        test_model(arguments[1], &cuda, ranks);
        test_model(NULL, cpu, ranks);
        test_model(NULL, &cuda, ranks);
    }
    gp_backend_close(cpu);
    return check_done();
}
