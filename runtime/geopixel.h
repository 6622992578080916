/**
 * geopixel: runs GeoPixel, a model that answers questions about remote-sensing images in text and draws a
 * pixel mask for each phrase it names (arXiv 2501.13925).
 *
 * Open an engine on a checkpoint, submit requests, receive events, close. All functions may be called from
 * any thread unless they say otherwise. Strings are UTF-8 and terminated. Nothing here prints or exits.
 *
 *     gp_status *status = gp_status_create();
 *     gp_engine *engine = gp_engine_open(&(gp_engine_options){.model = "checkpoint"}, status);
 *     gp_request *request = gp_submit(engine, &(gp_request_options){.image = image, .prompt = "…",
 *                                     .on_event = print_event}, status);
 *     gp_request_wait(request);
 *     gp_request_release(request);
 *     gp_engine_close(engine);
 */
#ifndef GEOPIXEL_H
#define GEOPIXEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define GP_API __attribute__((visibility("default")))
#else
#define GP_API
#endif

/** "0.1.0": major.minor.patch; the soname carries the major number. */
GP_API const char *gp_version(void);

/* ---- errors ------------------------------------------------------------------------------------------- */

/** Why a call failed: one text naming file, field and numbers. */
typedef struct gp_status gp_status;

/** A status without an error; free with gp_status_destroy. NULL when memory is out. */
GP_API gp_status *gp_status_create(void);

/** The text of the last failure, "" when there was none. Valid until the status is used again. */
GP_API const char *gp_status_message(const gp_status *status);

GP_API void gp_status_destroy(gp_status *status);

/* ---- engine ------------------------------------------------------------------------------------------- */

typedef struct gp_engine gp_engine;

enum { GP_REQUESTS_MOST = 64, GP_RANKS_MOST = 64 };

typedef enum gp_device {
    GP_DEVICE_AUTO, /* the CPU, until a GPU has shown the CUDA backend right */
    GP_DEVICE_CPU,
    GP_DEVICE_CUDA,
} gp_device;

/** The most that requests may be where memory is planned. Zero means the default for every number. */
typedef struct gp_limits {
    int width, height;  /* of a picture, pixels; default: nothing is planned */
    int crops;          /* as in gp_request_options; default 9 */
    int max_crops;      /* that a picture is divided into; default: what `crops` and its size give */
    int text_tokens;    /* of the prompt beside the image; default 64 */
    int max_new_tokens; /* default 300 */
    int context;  /* tokens of image, text and answer; default: the sum of the others, if the model's context
                   * holds it */
    int sessions; /* open at the same time; default none */
} gp_limits;

typedef struct gp_engine_options {
    const char *model; /* a checkpoint folder in the Hugging Face layout */
    /* For measurements without a checkpoint: a model of random numbers, whose answers mean nothing, as large
     * as GeoPixel-7B ("7b") or as the config.json in this folder says. Of `model` the tokenizer alone is read
     * then. NULL: the model's own weights. */
    const char *dummy_weights;
    gp_device device;
    int threads;  /* CPU threads to compute with; 0: as many as this process may run on */
    int replicas; /* copies of the model, each on a GPU of its own or with a share of the threads, which take
                   * requests from one queue; 0: one. What is said of memory and of requests is each one's.
                   * One that has lost a rank fails its sessions' requests and leaves others to the rest */
    int ranks; /* devices that each replica is spread over (tensor parallelism): every one has a part of the
                * language model and of its keys and values; 0: one */
    int requests; /* that a replica runs at the same time, at most GP_REQUESTS_MOST; 0: one after the other */
    /* Tokens, of prompts and answers, whose keys and values are held for all that run and for what open
     * sessions keep: allocated when the engine opens; requests wait for each other while there is no room.
     * Where nobody is left to wait for, sessions lose what they keep, the one longest without a question
     * first; its next question computes it again. 0: as many as come, allocated as they come; with limits, as
     * many as all requests and sessions may have. */
    int64_t cache_tokens;
    /* With a width and a height, everything in the backend's memory is allocated when the engine opens, the
     * bytes that gp_plan_engine gives, and nothing later. A request beyond a limit fails, alone, with both
     * numbers. A session takes its memory from the plan's while it is open. Without, memory grows with what
     * is asked. */
    gp_limits limits;
    /* What is worth a word but no failure (an unknown tensor, fewer crops than the official rule gives): one
     * line without a newline, from one of the engine's threads. May be NULL. */
    void (*on_warning)(void *user, const char *line);
    /* While weights are loaded: bytes so far, and of all that will be, of the first replica (of its first
     * rank, where it has several); from one of the engine's threads, `done` rising to `total`. May be NULL.
     */
    void (*on_loading)(void *user, uint64_t done, uint64_t total);
    void *user;
} gp_engine_options;

/**
 * Maps the checkpoint, checks every tensor and field, and starts the engine's threads. NULL with `status` set
 * on failure; all missing and misshapen tensors are listed at once. Options are copied.
 */
GP_API gp_engine *gp_engine_open(const gp_engine_options *options, gp_status *status);

/**
 * For programs that a launcher (srun of Slurm, mpirun of Open MPI) may have started as many times as
 * options->ranks says, on one node or several: called first of all, with the same options in every process.
 * It returns with `*served` false in the process of rank 0, when all are there, which then opens engines, and
 * at once in any program that was not so started, whose ranks are threads of its own. In the others it serves
 * as a rank of what that process opens, one engine after the other, and returns with `*served` true when that
 * has ended; false with `status` set where something failed or a rank was lost. Processes meet at
 * GEOPIXEL_RENDEZVOUS (HOST:PORT of rank 0), or where the launcher's variables say.
 */
GP_API bool gp_serve_rank(const gp_engine_options *options, bool *served, gp_status *status);

/**
 * Cancels what is queued or running, waits for its final events, and frees. Requests are the caller's still,
 * to release. NULL is allowed.
 */
GP_API void gp_engine_close(gp_engine *engine);

/** "cpu avx512, 2 threads": what computes. Valid until the engine closes. */
GP_API const char *gp_engine_device(const gp_engine *engine);

/** Bytes of weights that the engine uses, in the checkpoint's precision. */
GP_API uint64_t gp_engine_weight_bytes(const gp_engine *engine);

/* ---- requests ----------------------------------------------------------------------------------------- */

/**
 * An RGB picture of 8 bits a channel: pixel (x, y) is at pixels[y * stride + 3 * x]. The engine reads it
 * until the request's final event and never writes or frees it.
 */
typedef struct gp_image {
    int width, height;
    size_t stride; /* bytes from row to row; 0: 3 * width */
    const uint8_t *pixels;
} gp_image;

/** One finished turn of the conversation. */
typedef struct gp_turn {
    const char *question, *answer;
} gp_turn;

/** How the next token is chosen. */
typedef struct gp_sampling {
    float temperature; /* 0: the most likely token, always (greedy) */
    float top_p;       /* smallest set of tokens of at least this probability; 0 or 1: all */
    uint64_t seed;     /* the same seed gives the same answer */
} gp_sampling;

typedef enum gp_stage {
    GP_STAGE_PREPARE,   /* the picture: division into crops, resizes */
    GP_STAGE_VISION,    /* crops through the vision encoder; steps are crops */
    GP_STAGE_PREFILL,   /* the prompt through the language model; steps are its tokens */
    GP_STAGE_DECODE,    /* the answer; steps are its tokens, of max_new_tokens */
    GP_STAGE_GROUNDING, /* the picture through the grounding encoder; steps are blocks */
    GP_STAGE_MASKS,     /* [SEG] to masks; steps are masks */
    GP_STAGE_COUNT,
} gp_stage;

/** "prepare", "vision", …: a stage's name. */
GP_API const char *gp_stage_name(gp_stage stage);

typedef enum gp_event_type {
    GP_EVENT_PROGRESS, /* a step of a stage is done */
    GP_EVENT_TEXT,     /* the next piece of the answer */
    GP_EVENT_MASK,     /* one mask; all come after all text, in the order of their [SEG] */
    GP_EVENT_DONE,     /* final: the whole result */
    GP_EVENT_ERROR,    /* final: what went wrong */
    GP_EVENT_CANCELLED /* final: gp_request_cancel or gp_engine_close */
} gp_event_type;

/** `[phrase]` and the mask that is drawn for it. */
typedef struct gp_phrase {
    const char *text;  /* without tags and outer white space */
    size_t begin, end; /* where it stands in gp_result.text, in characters (code points), end excluded */
    size_t byte_begin, byte_end; /* the same in bytes */
    int mask;                    /* index of its mask */
} gp_phrase;

/** One mask. Everything it points to is valid during its event only. */
typedef struct gp_mask {
    int index;             /* 0 for the answer's first [SEG] */
    int width, height;     /* the picture's */
    const uint8_t *pixels; /* [height, width], 1 where the phrase is, else 0 */
    const uint32_t *runs;  /* the same as COCO's run lengths: column by column, of 0, 1, 0, …; the first may
                            * be 0 */
    size_t run_count;
    uint64_t area;           /* pixels that are 1 */
    float score;             /* predicted IoU of the logits chosen, 0 … 1 */
    float stability;         /* |logit > 0.05| / |logit > -0.05| of the first of the four */
    int chosen;              /* which of the decoder's four: 0, or 1 … 3 where the first was unstable */
    const gp_phrase *phrase; /* NULL where no phrase stands before the [SEG] */
} gp_mask;

/** The engine's memory, by plan, as a request sees it. */
typedef struct gp_memory_plan {
    uint64_t weights;     /* mapped from the checkpoint and used */
    uint64_t converted;   /* small tensors kept in another form */
    uint64_t kv_cache;    /* pages of keys and values; of all requests of an engine */
    uint64_t activations; /* what lives from stage to stage, the arenas that stages share and that grounding
                             has, divided pictures in vision, a mask for the caller */
    uint64_t workspace;   /* of the compute threads */
} gp_memory_plan;

/** The whole answer. Everything it points to is valid during its event only. */
typedef struct gp_result {
    const char *text;         /* the official decoding, tags included */
    const int32_t *token_ids; /* as generated, a final end-of-sequence included */
    size_t token_count;
    const gp_phrase *phrases; /* in the order of the text */
    size_t phrase_count;
    size_t mask_count; /* [SEG] tokens of the answer */
    int prompt_tokens; /* image and text together */
    int image_tokens;
    int crop_columns, crop_rows;
    /* Wall time a stage, with what was done for others in its rounds. Where grounding runs beside the answer,
     * on a GPU, it has the time of giving it that work, and the wait for it is the masks'. */
    double seconds[GP_STAGE_COUNT];
    gp_memory_plan memory;
} gp_result;

typedef struct gp_event {
    gp_event_type type;
    union {
        struct {
            gp_stage stage;
            int done, total;
        } progress;
        struct {
            const char *text; /* whole characters, valid during the event; one or more tokens' */
            size_t length;
            int tokens; /* generated so far */
        } text;
        gp_mask mask;
        gp_result result;
        const char *error; /* valid during the event */
    };
} gp_event;

typedef struct gp_session gp_session;

/**
 * Opens a session: several questions about one picture, asked by gp_request_options.session. What one
 * question computes is kept for the next: the picture's tokens and maps, and keys and values of the prompt's
 * beginning as far as it is the same, so that an earlier turn is not computed again. Answers are the same to
 * the bit as without a session. Memory is held from the first question on; where it is planned, a session has
 * its share of it while it is open (keys and values may be taken from it: gp_engine_options.cache_tokens).
 * The pixels are borrowed and must not change until gp_session_close. NULL with `status` set when the picture
 * is unusable, or when memory is planned for no more sessions.
 */
GP_API gp_session *gp_session_open(gp_engine *engine, const gp_image *image, gp_status *status);

/**
 * Waits for the final events of the session's requests and frees what was kept. Not from on_event; before
 * gp_engine_close. NULL is allowed.
 */
GP_API void gp_session_close(gp_session *session);

typedef struct gp_request gp_request;

/**
 * What is asked. Zero means the default for every number. All but the picture's pixels is copied.
 */
typedef struct gp_request_options {
    gp_session *session; /* of the same engine: the picture is the session's, and `image` is not looked at */
    gp_image image;
    const char *prompt;     /* the question; `<ImageHere>` in it places the image, else it comes first */
    const gp_turn *history; /* earlier turns, oldest first */
    size_t history_count;
    int crops;          /* P: the most crops the divider plans for; default 9. A larger image may exceed it */
    int max_crops;      /* the most crops there may be; default: what fits the context */
    int max_new_tokens; /* default 300 */
    gp_sampling sampling;
    /* Called from one of the engine's threads, one event of a request at a time; the last is final. Must not
     * call gp_request_wait, gp_request_release or gp_engine_close. */
    void (*on_event)(void *user, const gp_event *event);
    void *user;
} gp_request_options;

/**
 * Queues a request; its events follow on one of the engine's threads. NULL with `status` set, and no event,
 * when the options are unusable (no pixels, negative numbers, no prompt). Release with gp_request_release.
 */
GP_API gp_request *gp_submit(gp_engine *engine, const gp_request_options *options, gp_status *status);

/** Asks for an early end: the final event is GP_EVENT_CANCELLED unless another was on its way.
 * Async-signal-safe. */
GP_API void gp_request_cancel(gp_request *request);

/** Returns the type of the final event after that event has been handled. */
GP_API gp_event_type gp_request_wait(gp_request *request);

/** Waits as above, then frees. NULL is allowed. */
GP_API void gp_request_release(gp_request *request);

/* ---- looking without running -------------------------------------------------------------------------- */

/** The parts of the model that parameters belong to. */
typedef enum gp_block {
    GP_BLOCK_VISION,         /* the CLIP tower */
    GP_BLOCK_PROJECTOR,      /* image features to image tokens, separators included */
    GP_BLOCK_LANGUAGE,       /* InternLM2 without its LoRAs */
    GP_BLOCK_PARTIAL_LORA,   /* the LoRAs that image rows add */
    GP_BLOCK_TEXT_PROJECTOR, /* hidden state of [SEG] to mask prompt */
    GP_BLOCK_GROUNDING,      /* the SAM2 Hiera trunk and its neck */
    GP_BLOCK_MASK_DECODER,   /* prompt encoder and mask decoder */
    GP_BLOCK_COUNT,
} gp_block;

/** "vision tower", "projector", …: a block's name. */
GP_API const char *gp_block_name(gp_block block);

typedef enum gp_tensor_state {
    GP_TENSOR_USED,         /* the model computes with it */
    GP_TENSOR_MISSING,      /* the model needs it; it is in no file */
    GP_TENSOR_UNFIT,        /* the model needs it; its shape or its numbers do not serve */
    GP_TENSOR_NEVER_LOADED, /* known to serve other tasks, training or video */
    GP_TENSOR_UNKNOWN,      /* nobody asks for it */
    GP_TENSOR_STATE_COUNT,
} gp_tensor_state;

enum { GP_INSPECTED_RANK_MAX = 8 };

/** One tensor of a checkpoint, or one that it lacks. */
typedef struct gp_inspected_tensor {
    const char *name;
    gp_tensor_state state;
    gp_block block;    /* of tensors that the model needs; GP_BLOCK_COUNT of others */
    const char *file;  /* path of the file that holds it; NULL: missing */
    const char *dtype; /* "bf16", …; NULL: missing */
    int rank;
    int64_t shape[GP_INSPECTED_RANK_MAX];    /* in the file; of one that is missing: expected */
    int64_t expected[GP_INSPECTED_RANK_MAX]; /* [expected_rank] sizes that the model needs, -1: any */
    int expected_rank;                       /* 0 where the model does not need it */
    uint64_t count, bytes;                   /* elements and bytes in the file; 0: missing */
    const char *problem;                     /* "missing; [256, 4] is expected", …; NULL: none */
} gp_inspected_tensor;

/** One weight file of a checkpoint. */
typedef struct gp_inspected_file {
    const char *path;
    const char *format; /* "safetensors" or "torch" */
    uint64_t bytes;     /* of the whole file */
    size_t tensors;
} gp_inspected_file;

/** What a checkpoint folder holds. Everything is owned by the inspection. */
typedef struct gp_inspection {
    bool runs; /* gp_engine_open would find all it needs, so far as can be told without reading weights */
    const char *reason; /* why it does not run, a line or more; NULL: it does */
    const char *config_error, *tokenizer_error, *weights_error; /* NULL: that part is in order */
    /* In the files' order; then those missing, in the order of the graph. None where the weights cannot be
     * read; all unknown or never loaded where config.json cannot, which says what is needed. */
    const gp_inspected_tensor *tensors;
    size_t tensor_count;
    const gp_inspected_file *files; /* in the order of opening */
    size_t file_count;
    size_t states[GP_TENSOR_STATE_COUNT]; /* tensors in each state */
    uint64_t needed[GP_BLOCK_COUNT];      /* parameters that config.json's model has in each block */
    uint64_t needed_tensors;              /* that it has in all */
} gp_inspection;

/**
 * Looks at a checkpoint folder: the same questions that gp_engine_open asks, all answered, by names, shapes
 * and sizes alone; weights are neither read nor converted. What is broken or missing is part of the answer;
 * NULL with `status` set only where `model` is no folder or memory is out. Free with gp_inspection_free.
 */
GP_API gp_inspection *gp_inspect(const char *model, gp_status *status);

/** NULL is allowed. */
GP_API void gp_inspection_free(gp_inspection *inspection);

/** A request that is planned. Zero means the default for every number. */
typedef struct gp_plan_options {
    const char *model;  /* a checkpoint folder; its weights may be missing. NULL: GeoPixel-7B in bf16 */
    gp_device device;   /* as for gp_engine_open: the memory of its compute threads */
    int threads;        /* likewise */
    int width, height;  /* of the picture */
    int crops;          /* as in gp_request_options */
    int max_crops;      /* likewise */
    int max_new_tokens; /* likewise */
    int text_tokens;    /* of the prompt beside the image; default 64 */
    int masks;          /* that the answer will have; default: as many as are decoded together */
} gp_plan_options;

typedef struct gp_plan {
    int crop_side, patch_side;         /* pixels */
    int context;                       /* tokens that image, text and answer may have together */
    int resized_width, resized_height; /* of the picture, before it is padded to whole crops */
    int crop_columns, crop_rows;
    bool reduced; /* fewer crops than the official rule gives, by max_crops or the context */
    int image_tokens, prompt_tokens, max_new_tokens;
    char device[96];       /* that was planned for: "cpu avx512, 2 threads" */
    gp_memory_plan memory; /* what gp_result would report of an engine's first such request */
} gp_plan;

/**
 * Plans a request without running it, by the code that lays out its memory when it runs. Fails as the request
 * would: a picture that cannot be divided, a prompt that does not fit the context, a configuration that
 * cannot be read. Tensors that are missing are taken for there.
 */
GP_API bool gp_plan_request(const gp_plan_options *options, gp_plan *plan, gp_status *status);

/** The memory of one device of an engine whose limits are set, a line a field, in bytes. Of the ranks it is
 * the first, and no other has more; all replicas are alike. */
typedef struct gp_engine_plan {
    char device[96];         /* that was planned for: "cuda" */
    gp_limits limits;        /* defaults filled in */
    int ranks;               /* devices that the model is spread over */
    int requests;            /* at the same time */
    int crops;               /* the most that a picture may be divided into */
    int image_tokens;        /* the most */
    int64_t cache_tokens;    /* whose keys and values have room */
    uint64_t weights;        /* matrices in the form that the device computes with */
    uint64_t converted;      /* small tensors kept in another form */
    uint64_t kv_cache;       /* pages of keys and values */
    uint64_t requests_bytes; /* what lives from stage to stage, of all requests */
    uint64_t sessions_bytes; /* what is kept between questions beside keys and values, of all sessions */
    uint64_t stage;          /* the arenas of stages and of grounding, divided pictures in vision */
    uint64_t workspace;      /* the backend's own */
    uint64_t communicator;   /* what sums over ranks are made in */
    /* Estimated, all else is exact: what the driver and libraries take, the CUDA context, kernels, graphs,
     * NCCL, rounding of allocations. 0 on the CPU, where what the program has beside is not counted. */
    uint64_t others;
    uint64_t total;    /* of the lines above */
    int requests_most; /* the largest `requests` whose total is at most the bytes given; 0: not even one */
} gp_engine_plan;

/**
 * Plans an engine without opening it: `options` as for gp_engine_open, but `model` may lack its weights or be
 * NULL (GeoPixel-7B in bf16), and GP_DEVICE_CUDA needs neither a GPU nor a build with CUDA. The engine lays
 * out its memory by the same code. `bytes`: of the device, for requests_most; 0: not asked. Fails without
 * limits, and where they, or what config.json says, are impossible.
 */
GP_API bool gp_plan_engine(const gp_engine_options *options, uint64_t bytes, gp_engine_plan *plan,
                           gp_status *status);

#ifdef __cplusplus
}
#endif

#endif
