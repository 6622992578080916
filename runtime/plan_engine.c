/** gp_plan_engine: what an engine with limits takes, line by line, and how many requests at the same time
 * fit. */
#include "kernels/cuda/sizes.h"
#include "runtime/replica.h"

#include <stdio.h>

/* The context and kernels of a CUDA process take some 500 MiB; that allocations are rounded to 2 MiB costs
 * 268 MiB over GeoPixel-7B's tensors; its recorded decoding steps, some 45 of 260 launches or more each, are
 * taken for 100 MiB. */
static const uint64_t CUDA_OTHERS = (uint64_t)1 << 30;

/* NCCL's buffers and kernels: it grows with its channels, and is taken for 512 MiB a GPU. */
static const uint64_t NCCL_OTHERS = (uint64_t)1 << 29;

static bool add_up(const gp_model *model, const gp_backend *backend, const gp_engine_options *options,
                   gp_engine_plan *plan, gp_status *status);

bool gp_plan_engine(const gp_engine_options *options, uint64_t bytes, gp_engine_plan *plan,
                    gp_status *status) {
    gp_model model = {0};
    gp_backend *backend = NULL, sizes = gp_cuda_sizes();
    const bool cuda = options->device == GP_DEVICE_CUDA;
    const gp_split split = {0, options->ranks > 1 ? options->ranks : 1}; /* no other rank has more */
    const int replicas = options->replicas > 1 ? options->replicas : 1;
    *plan = (gp_engine_plan){0};
    bool done = gp_reserve_check(options, status);
    if (done && options->limits.width == 0)
        done = gp_fail(status, "limits: a picture's width and height are missing");
    done = done && (cuda || gp_replica_open_backend(options->device, options->threads, 0,
                                                    replicas * split.size, &backend, status));
    const gp_backend *planned = cuda ? &sizes : backend;
    done = done &&
           gp_plan_open_model(options->model, options->dummy_weights, cuda ? &sizes : backend, split, &model,
                              status) &&
           gp_model_check_widths(&model, status) && add_up(&model, planned, options, plan, status);
    gp_engine_options larger = *options;
    int most = 0;
    for (larger.requests = 1; done && bytes > 0 && larger.requests <= GP_REQUESTS_MOST; larger.requests++) {
        gp_engine_plan other;
        if (!add_up(&model, planned, &larger, &other, NULL) || other.total > bytes) break;
        most = larger.requests;
    }
    plan->requests_most = most;
    gp_model_close(&model);
    gp_backend_close(backend);
    return done;
}

static bool add_up(const gp_model *model, const gp_backend *backend, const gp_engine_options *options,
                   gp_engine_plan *plan, gp_status *status) {
    const gp_language *language = &model->language;
    const int ranks = language->split.size;
    const bool cuda = options->device == GP_DEVICE_CUDA;
    gp_reserve reserve;
    if (!gp_reserve_measure(model, backend, options, &reserve, status)) return false;
    *plan = (gp_engine_plan){
        .limits = reserve.limits,
        .ranks = ranks,
        .requests = reserve.requests,
        .crops = reserve.crops,
        .image_tokens = (int)reserve.image_tokens,
        .cache_tokens = (int64_t)reserve.pages * GP_PAGE_TOKENS,
        .weights = model->placed_bytes,
        .converted = model->converted_bytes,
        .kv_cache = gp_kv_cache_bytes(backend, language->config.num_hidden_layers, language->kv_heads,
                                      language->head_dim, reserve.pages),
        .requests_bytes = (uint64_t)reserve.requests * gp_reserve_request_bytes(&reserve),
        .sessions_bytes = (uint64_t)reserve.limits.sessions * gp_reserve_session_bytes(&reserve),
        .stage =
            reserve.stage + reserve.ground_stage + (uint64_t)gp_reserve_canvases(&reserve) * reserve.canvas,
        .workspace = backend->workspace_bytes,
        .communicator =
            ranks > 1 ? backend->ops->communicator_bytes(ranks, gp_ranks_largest_sum(language)) : 0,
        .others = !cuda       ? 0
                  : ranks > 1 ? CUDA_OTHERS + NCCL_OTHERS
                              : CUDA_OTHERS};
    plan->total = plan->weights + plan->converted + plan->kv_cache + plan->requests_bytes +
                  plan->sessions_bytes + plan->stage + plan->workspace + plan->communicator + plan->others;
    snprintf(plan->device, sizeof plan->device, "%s", backend->name);
    return true;
}
