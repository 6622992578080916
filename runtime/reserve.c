#include "runtime/reserve.h"

static bool measure(const gp_model *model, const gp_backend *backend, int64_t pages, gp_reserve *reserve,
                    gp_status *status);

static const int64_t PAGES_MAX = INT32_MAX / 2;

bool gp_reserve_measure(const gp_model *model, const gp_backend *backend, const gp_engine_options *options,
                        gp_reserve *reserve, gp_status *status) {
    gp_limits limits = options->limits;
    *reserve = (gp_reserve){.requests = options->requests > 0 ? options->requests : 1};
    int64_t pages = options->cache_tokens > 0 ? gp_pages_for(options->cache_tokens) : 0;
    reserve->pages = (int32_t)pages;
    if (limits.width == 0) return true;
    if (limits.crops == 0) limits.crops = GP_CROPS_DEFAULT;
    if (limits.text_tokens == 0) limits.text_tokens = GP_TEXT_TOKENS_DEFAULT;
    if (limits.max_new_tokens == 0) limits.max_new_tokens = GP_NEW_TOKENS_DEFAULT;
    reserve->limits = limits;
    return measure(model, backend, pages, reserve, status);
}

bool gp_reserve_check(const gp_engine_options *options, gp_status *status) {
    const gp_limits *limits = &options->limits;
    const struct {
        const char *name;
        int value, most;
    } numbers[] = {{"width", limits->width, GP_DIVIDER_SIDE_MAX},
                   {"height", limits->height, GP_DIVIDER_SIDE_MAX},
                   {"crops", limits->crops, INT32_MAX},
                   {"max_crops", limits->max_crops, INT32_MAX},
                   {"text_tokens", limits->text_tokens, INT32_MAX},
                   {"max_new_tokens", limits->max_new_tokens, INT32_MAX},
                   {"context", limits->context, INT32_MAX},
                   {"sessions", limits->sessions, 1 << 20}};
    if (options->replicas < 0 || options->replicas > GP_RANKS_MOST)
        return gp_fail(status, "%d replicas: 0 to %d are possible", options->replicas, GP_RANKS_MOST);
    if (options->ranks < 0 || options->ranks > GP_RANKS_MOST)
        return gp_fail(status, "%d ranks: 0 to %d are possible", options->ranks, GP_RANKS_MOST);
    if (options->requests < 0 || options->requests > GP_REQUESTS_MOST || options->cache_tokens < 0 ||
        options->cache_tokens > PAGES_MAX * GP_PAGE_TOKENS)
        return gp_fail(
            status,
            "%d requests at the same time, %lld tokens of keys and values: 0 to %d, and 0 to %lld are "
            "possible",
            options->requests, (long long)options->cache_tokens, GP_REQUESTS_MOST,
            (long long)(PAGES_MAX * GP_PAGE_TOKENS));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (numbers[i].value < 0 || numbers[i].value > numbers[i].most)
            return gp_fail(status, "limits: %s %d: 0 to %d are possible", numbers[i].name, numbers[i].value,
                           numbers[i].most);
        if (numbers[i].value > 0 && (limits->width == 0 || limits->height == 0))
            return gp_fail(status, "limits: %s %d without a picture's width and height: %d x %d",
                           numbers[i].name, numbers[i].value, limits->width, limits->height);
    }
    return true;
}

/**
 * The largest grids of crops that pictures within the limits may be divided into with at most `tokens` image
 * tokens: each scale along the longer side with the most that may stand beside it. The divider takes a scale
 * with scale × rows ≤ crops, or one that the picture is long enough for, when it is also high enough for the
 * rows; and never more rows than scale. Calls `use` for each as a division, with the picture at its full
 * size.
 */
static void for_grids(const gp_model *model, const gp_limits *limits, int64_t tokens,
                      void (*use)(void *user, const gp_division *division), void *user) {
    const int64_t side = model->config.vision.image_size;
    for (int transposed = 0; transposed < 2; transposed++) {
        int64_t longer = transposed ? limits->height : limits->width;
        int64_t shorter = transposed ? limits->width : limits->height;
        for (int64_t scale = 1;; scale++) {
            int64_t beside = limits->crops / scale, high = (shorter + side - 1) / side;
            if (scale <= longer / side && beside < high) beside = high;
            if (scale == 1 && beside < 1) beside = 1;
            if (beside > scale) beside = scale;
            if (limits->max_crops > 0 && beside > limits->max_crops / scale)
                beside = limits->max_crops / scale;
            int columns = 0, rows = 0;
            int64_t needed = 0;
            for (; beside > 0; beside--) {
                columns = (int)(transposed ? beside : scale);
                rows = (int)(transposed ? scale : beside);
                needed = gp_vision_tokens(&model->vision, rows, columns);
                if (needed <= tokens) break;
            }
            if (beside == 0) break;
            use(user, &(gp_division){.transposed = transposed,
                                     .scale = (int)scale,
                                     .width = (int)(columns * side),
                                     .height = (int)(rows * side),
                                     .columns = columns,
                                     .rows = rows,
                                     .canvas_width = (int)(columns * side),
                                     .canvas_height = (int)(rows * side),
                                     .image_tokens = needed});
        }
    }
}

typedef struct sizing {
    const gp_model *model;
    const gp_backend *backend;
    gp_reserve *reserve;
    int64_t rows;
} sizing;

static void count_crops(void *user, const gp_division *division) {
    gp_reserve *reserve = ((sizing *)user)->reserve;
    if (division->image_tokens > reserve->image_tokens) reserve->image_tokens = division->image_tokens;
    if (division->columns * division->rows > reserve->crops)
        reserve->crops = division->columns * division->rows;
    gp_arena canvas = {0};
    gp_plan_canvas(division, &canvas);
    if (canvas.peak > reserve->canvas) reserve->canvas = canvas.peak;
}

static void measure_stage(void *user, const gp_division *division) {
    const sizing *s = user;
    const gp_limits *limits = &s->reserve->limits;
    size_t bytes =
        gp_plan_stage(s->model, s->backend, limits->width, limits->height, division, s->rows,
                      s->reserve->requests, (int64_t)s->reserve->requests * limits->max_new_tokens);
    if (bytes > s->reserve->stage) s->reserve->stage = bytes;
}

static bool measure(const gp_model *model, const gp_backend *backend, int64_t pages, gp_reserve *reserve,
                    gp_status *status) {
    gp_limits *limits = &reserve->limits;
    gp_arena seen = {0}, kept = {0};
    sizing s = {model, backend, reserve, 0};
    int64_t most = gp_plan_context(&model->config), context = limits->context > 0 ? limits->context : most;
    if (context > most)
        return gp_fail(status, "limits: a context of %lld tokens; the model's has %lld", (long long)context,
                       (long long)most);
    for_grids(model, limits, context - 2, count_crops,
              &s); /* a text and an answer of a token each, at least */
    if (reserve->crops == 0)
        return gp_fail(status, "limits: a context of %lld tokens and max_crops %d leave room for no picture",
                       (long long)context, limits->max_crops);
    int64_t wanted = reserve->image_tokens + limits->text_tokens + (int64_t)limits->max_new_tokens;
    if (limits->context == 0 && wanted < context) context = wanted;
    limits->context = (int)context;
    s.rows = reserve->requests * (context - 1);
    if (s.rows > GP_PREFILL_ROWS) s.rows = GP_PREFILL_ROWS;
    for_grids(model, limits, context - 2, measure_stage, &s);
    reserve->table_pages = gp_pages_for(context);
    if (pages == 0) pages = (int64_t)(reserve->requests + limits->sessions) * reserve->table_pages;
    if (pages > PAGES_MAX || pages < reserve->table_pages)
        return gp_fail(
            status, "%lld tokens of keys and values: the largest request has %lld, and %lld are possible",
            (long long)(pages * GP_PAGE_TOKENS), (long long)context, (long long)(PAGES_MAX * GP_PAGE_TOKENS));
    reserve->pages = (int32_t)pages;
    gp_plan_seen(model, limits->width, limits->height, reserve->crops, reserve->image_tokens, &seen,
                 &(gp_seen_buffers){0});
    gp_plan_kept(model, backend, limits->width, limits->height, limits->max_new_tokens, &kept,
                 &(gp_kept_buffers){0});
    reserve->ground_stage = gp_plan_ground_stage(model, backend, limits->width, limits->height);
    reserve->seen = seen.peak;
    reserve->kept = kept.peak;
    return true;
}

int gp_reserve_canvases(const gp_reserve *reserve) {
    return reserve->requests < GP_VISION_PICTURES ? reserve->requests : GP_VISION_PICTURES;
}

uint64_t gp_reserve_table_bytes(const gp_reserve *reserve) {
    return (uint64_t)reserve->table_pages * sizeof(int32_t);
}

uint64_t gp_reserve_request_bytes(const gp_reserve *reserve) {
    return reserve->kept + reserve->seen + 2 * gp_reserve_table_bytes(reserve); /* its own and its keep's */
}

uint64_t gp_reserve_session_bytes(const gp_reserve *reserve) {
    return reserve->seen + gp_reserve_table_bytes(reserve);
}

bool gp_reserve_admits(const gp_reserve *reserve, const gp_request_options *request, int max_new_tokens,
                       const gp_prompt *prompt, gp_status *status) {
    const gp_limits *limits = &reserve->limits;
    size_t text = prompt->before.count + prompt->after.count;
    int crops = request->crops > 0 ? request->crops : GP_CROPS_DEFAULT;
    if (limits->width == 0) return true;
    if (request->image.width > limits->width || request->image.height > limits->height)
        return gp_fail(status, "a picture of %d x %d; the engine's memory is planned for %d x %d",
                       request->image.width, request->image.height, limits->width, limits->height);
    if (crops > limits->crops)
        return gp_fail(status, "crops %d; the engine's memory is planned for %d", crops, limits->crops);
    if (text > (size_t)limits->text_tokens)
        return gp_fail(status, "%zu tokens of text; the engine's memory is planned for %d", text,
                       limits->text_tokens);
    if (max_new_tokens > limits->max_new_tokens)
        return gp_fail(status, "an answer of %d tokens; the engine's memory is planned for %d",
                       max_new_tokens, limits->max_new_tokens);
    return true;
}

bool gp_reserve_holds(const gp_reserve *reserve, const gp_division *division, int64_t tokens,
                      gp_status *status) {
    const gp_limits *limits = &reserve->limits;
    int crops = division->columns * division->rows;
    if (limits->width == 0) return true;
    if (limits->max_crops > 0 && crops > limits->max_crops)
        return gp_fail(status, "a picture of %d crops; the engine's memory is planned for %d", crops,
                       limits->max_crops);
    if (tokens > limits->context)
        return gp_fail(status, "%lld tokens of image, text and answer; the engine's memory is planned for %d",
                       (long long)tokens, limits->context);
    return true;
}
