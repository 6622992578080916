/**
 * The public interface: each replica has a thread that owns it and takes requests from one queue, in their
 * order, as many at a time as its scheduler has room for. Callers meet it at the queue's mutex alone; a
 * request's cancel flag is an atomic of its own, so that a signal handler may set it.
 */
#include "runtime/engine.h"

#include "kernels/base/memory.h"
#include "kernels/base/threads.h"
#include "runtime/replica.h"

#include <string.h>

struct gp_request {
    gp_question question;
    gp_request *next;                 /* in the queue; guarded by the engine's mutex, as is */
    gp_request *all_next, **all_link; /* among all that have no final event yet, and what points here */

    /* A request outlives its engine where the caller wants so. */
    pthread_mutex_t mutex;
    pthread_cond_t ended;
    bool finished; /* guarded by its own mutex */
    gp_event_type final;
};

struct gp_session {
    gp_engine *engine;
    struct server *server; /* whose requests they are */
    gp_image image;
    gp_keep keep; /* touched by its server's thread alone */

    /* Guarded by the engine's mutex. */
    int requests; /* queued or running */
    bool closed;
    gp_session *next; /* of those that are to be closed */
};

/** A replica and its thread, which alone touches it. */
typedef struct server {
    gp_engine *engine;
    int index;
    gp_backend *backend; /* the caller's, or NULL */
    gp_replica replica;
    pthread_t thread;
    bool started;

    /* Guarded by the engine's mutex. */
    enum { SERVER_OPENS, SERVER_FAILED, SERVER_SERVES, SERVER_ENDS } state;
    gp_status status; /* why it failed */
    int sessions;     /* open */
} server;

struct gp_engine {
    gp_engine_options options; /* the strings are the caller's, while the engine opens */
    server *servers;           /* [server_count] */
    int server_count;
    const gp_observer *observer;

    pthread_mutex_t mutex;
    pthread_cond_t changed;   /* the queue, a session, a server's state, or `closing` */
    gp_request *first, *last; /* not running yet */
    gp_request *all;          /* queued or running */
    gp_session *closing_sessions;
    bool closing;
};

static void *serve(void *argument);
static bool close_session(server *own);
static bool check_image(const gp_image *image, gp_status *status);
static bool copy_options(const gp_request_options *options, gp_request_options *copy);
static void free_options(gp_request_options *copy);
static void free_request(gp_request *request);
static bool check_options(const gp_request_options *options, gp_status *status);

const char *gp_version(void) {
    return GEOPIXEL_VERSION;
}

gp_status *gp_status_create(void) {
    return gp_allocate_zeroed(1, sizeof(gp_status));
}

const char *gp_status_message(const gp_status *status) {
    return status != NULL && status->message != NULL ? status->message : "";
}

void gp_status_destroy(gp_status *status) {
    if (status == NULL) return;
    gp_status_clear(status);
    gp_free(status);
}

const char *gp_stage_name(gp_stage stage) {
    static const char *const names[GP_STAGE_COUNT] = {"prepare", "vision",    "prefill",
                                                      "decode",  "grounding", "masks"};
    return (int)stage >= 0 && stage < GP_STAGE_COUNT ? names[stage] : "";
}

/* ---- engine ---- */

gp_engine *gp_engine_open(const gp_engine_options *options, gp_status *status) {
    if (options == NULL || options->model == NULL || options->model[0] == '\0') {
        gp_fail(status, "no model folder was given");
        return NULL;
    }
    return gp_engine_open_on(options, NULL, status);
}

/** Waits until all servers have opened their replicas; false where one could not. */
static bool wait_for_servers(gp_engine *engine, gp_status *status) {
    bool done = true;
    pthread_mutex_lock(&engine->mutex);
    for (int i = 0; i < engine->server_count; i++) {
        const server *own = &engine->servers[i];
        while (own->state == SERVER_OPENS) pthread_cond_wait(&engine->changed, &engine->mutex);
        if (own->state == SERVER_FAILED && done) done = gp_fail(status, "%s", own->status.message);
    }
    pthread_mutex_unlock(&engine->mutex);
    return done;
}

gp_engine *gp_engine_open_on(const gp_engine_options *options, gp_backend *backend, gp_status *status) {
    const int count = options->replicas > 0 ? options->replicas : 1;
    if (!gp_reserve_check(options, status)) return NULL;
    gp_engine *engine = gp_allocate_zeroed(1, sizeof *engine);
    server *servers = gp_allocate_zeroed((size_t)count, sizeof *servers);
    if (engine == NULL || servers == NULL) {
        gp_free(engine);
        gp_free(servers);
        gp_fail(status, "no memory for an engine");
        return NULL;
    }
    engine->options = *options;
    engine->servers = servers;
    pthread_mutex_init(&engine->mutex, NULL);
    pthread_cond_init(&engine->changed, NULL);
    bool done = true;
    for (; engine->server_count < count && done; engine->server_count++) {
        server *own = &servers[engine->server_count];
        *own = (server){.engine = engine, .index = engine->server_count, .backend = backend};
        int error = gp_thread_create(&own->thread, serve, own);
        own->started = done = error == 0;
        if (error != 0) {
            own->state = SERVER_FAILED;
            gp_fail(&own->status, "cannot start the engine's thread: %s", strerror(error));
        }
    }
    if (wait_for_servers(engine, status)) return engine;
    gp_engine_close(engine);
    return NULL;
}

void gp_engine_close(gp_engine *engine) {
    if (engine == NULL) return;
    pthread_mutex_lock(&engine->mutex);
    engine->closing = true;
    for (gp_request *request = engine->all; request != NULL; request = request->all_next)
        gp_request_cancel(request);
    pthread_cond_broadcast(&engine->changed);
    pthread_mutex_unlock(&engine->mutex);
    for (int i = 0; i < engine->server_count; i++) {
        if (engine->servers[i].started) pthread_join(engine->servers[i].thread, NULL);
        gp_status_clear(&engine->servers[i].status);
    }
    pthread_cond_destroy(&engine->changed);
    pthread_mutex_destroy(&engine->mutex);
    gp_free(engine->servers);
    gp_free(engine);
}

const char *gp_engine_device(const gp_engine *engine) {
    return engine->servers[0].replica.backend->name;
}

uint64_t gp_engine_weight_bytes(const gp_engine *engine) {
    return engine->servers[0].replica.model.weight_bytes;
}

void gp_engine_observe(gp_engine *engine, const gp_observer *observer) {
    engine->observer = observer;
}

const gp_model *gp_engine_model(const gp_engine *engine) {
    return &engine->servers[0].replica.model;
}

/** Takes a request out of the list of all. The mutex is held. */
static void forget_request(gp_request *request) {
    *request->all_link = request->all_next;
    if (request->all_next != NULL) request->all_next->all_link = request->all_link;
}

/** The last that the engine does to a request. */
static void finish_request(gp_request *request, gp_event_type final) {
    pthread_mutex_lock(&request->mutex);
    request->final = final;
    request->finished = true;
    pthread_cond_broadcast(&request->ended);
    pthread_mutex_unlock(&request->mutex);
}

/** A request had its final event; on an engine's thread, without the mutex. */
static void request_ended(void *user, void *owner, gp_event_type final) {
    gp_engine *engine = user;
    gp_request *request = owner;
    gp_session *session = request->question.options.session;
    pthread_mutex_lock(&engine->mutex);
    if (session != NULL) session->requests--;
    forget_request(request);
    pthread_cond_broadcast(&engine->changed); /* another's session may wait for that to be closed */
    pthread_mutex_unlock(&engine->mutex);
    finish_request(request, final);
}

/** Ends queued requests that were cancelled; they never run. The mutex is held, but not while a final event
 * is sent. */
static void drop_cancelled(gp_engine *engine) {
    gp_request *dropped = NULL, **link = &engine->first;
    engine->last = NULL;
    while (*link != NULL) {
        gp_request *request = *link;
        if (atomic_load(&request->question.cancelled)) {
            *link = request->next;
            request->next = dropped;
            dropped = request;
        } else {
            engine->last = request;
            link = &request->next;
        }
    }
    if (dropped == NULL) return;
    pthread_mutex_unlock(&engine->mutex);
    while (dropped != NULL) {
        gp_request *request = dropped;
        const gp_request_options *options = &request->question.options;
        dropped = request->next;
        options->on_event(options->user, &(gp_event){.type = GP_EVENT_CANCELLED});
        request_ended(engine, request, GP_EVENT_CANCELLED);
    }
    pthread_mutex_lock(&engine->mutex);
}

/** Whether the server's replica has all its ranks; whatever it runs fails else. The mutex is held. */
static bool is_whole(const server *own) {
    return own->state == SERVER_SERVES &&
           (own->replica.ranks == NULL || gp_ranks_check(own->replica.ranks, NULL));
}

static bool one_is_whole(const gp_engine *engine) {
    for (int i = 0; i < engine->server_count; i++)
        if (is_whole(&engine->servers[i])) return true;
    return false;
}

/** The first queued request that the server may run, taken out of the queue; NULL: none. One that has lost a
 * rank would fail all faster than others answer: it leaves them what is not its sessions'. The mutex is held.
 */
static gp_request *next_request(server *own) {
    gp_engine *engine = own->engine;
    const bool leaves = engine->first != NULL && !is_whole(own) && one_is_whole(engine);
    gp_request **link = &engine->first, *before = NULL;
    for (; *link != NULL; before = *link, link = &(*link)->next) {
        gp_request *request = *link;
        const gp_session *session = request->question.options.session;
        if (session != NULL ? session->server != own : leaves) continue;
        *link = request->next;
        if (engine->last == request) engine->last = before;
        return request;
    }
    return NULL;
}

/** Lets queued requests run while there is room. The mutex is held, but not while a final event is sent. */
static void admit(server *own) {
    gp_engine *engine = own->engine;
    gp_scheduler *scheduler = &own->replica.scheduler;
    while (scheduler->count < scheduler->limit) {
        gp_request *request = next_request(own);
        if (request == NULL) return;
        gp_session *session = request->question.options.session;
        if (gp_scheduler_add(scheduler, &request->question, session != NULL ? &session->keep : NULL, request))
            continue;
        const gp_request_options *options = &request->question.options;
        pthread_mutex_unlock(&engine->mutex);
        options->on_event(options->user,
                          &(gp_event){.type = GP_EVENT_ERROR, .error = "no memory for a request"});
        request_ended(engine, request, GP_EVENT_ERROR);
        pthread_mutex_lock(&engine->mutex);
    }
}

/** Rounds while requests run, and sessions that close, until closing finds neither. The mutex is held, but
 * not in a round. */
static void run_requests(server *own) {
    gp_engine *engine = own->engine;
    gp_scheduler *scheduler = &own->replica.scheduler;
    for (;;) {
        while (close_session(own)) continue;
        drop_cancelled(engine);
        admit(own);
        if (scheduler->count == 0) {
            if (engine->closing && engine->first == NULL) return;
            pthread_cond_wait(&engine->changed, &engine->mutex);
            continue;
        }
        pthread_mutex_unlock(&engine->mutex);
        scheduler->run.observer = engine->observer;
        scheduler->run.on_warning = engine->options.on_warning;
        scheduler->run.warning_user = engine->options.user;
        gp_scheduler_round(scheduler, request_ended, engine);
        pthread_mutex_lock(&engine->mutex);
    }
}

/** A server's thread: opens its replica, serves, closes it. */
static void *serve(void *argument) {
    server *own = argument;
    gp_engine *engine = own->engine;
    gp_status status = {0};
    bool open = gp_replica_open(&own->replica, &engine->options, own->index, own->backend, &status);
    pthread_mutex_lock(&engine->mutex);
    own->state = open ? SERVER_SERVES : SERVER_FAILED;
    own->status = status;
    pthread_cond_broadcast(&engine->changed);
    if (open) run_requests(own);
    if (open) own->state = SERVER_ENDS; /* others look at its ranks no more */
    pthread_mutex_unlock(&engine->mutex);
    if (open) gp_replica_close(&own->replica);
    return NULL;
}

/* ---- sessions ---- */

gp_session *gp_session_open(gp_engine *engine, const gp_image *image, gp_status *status) {
    if (!check_image(image, status)) return NULL;
    gp_session *session = gp_allocate_zeroed(1, sizeof *session);
    if (session == NULL) {
        gp_fail(status, "no memory for a session");
        return NULL;
    }
    session->engine = engine;
    session->image = *image;
    pthread_mutex_lock(&engine->mutex);
    session->server = &engine->servers[0];
    for (int i = 1; i < engine->server_count; i++) { /* where the fewest are, of those that can answer */
        server *other = &engine->servers[i], *best = session->server;
        const bool whole = is_whole(other);
        if (whole != is_whole(best) ? whole : other->sessions < best->sessions) session->server = other;
    }
    bool lent = gp_scheduler_lend(&session->server->replica.scheduler, &session->keep, status);
    if (lent) session->server->sessions++;
    pthread_mutex_unlock(&engine->mutex);
    if (lent) return session;
    gp_free(session);
    return NULL;
}

void gp_session_close(gp_session *session) {
    if (session == NULL) return;
    gp_engine *engine = session->engine;
    pthread_mutex_lock(&engine->mutex);
    session->next = engine->closing_sessions;
    engine->closing_sessions = session;
    pthread_cond_broadcast(&engine->changed);
    while (!session->closed) pthread_cond_wait(&engine->changed, &engine->mutex);
    pthread_mutex_unlock(&engine->mutex);
    gp_free(session);
}

/** Closes a session that waits for it and has no requests any more; false when there is none. The mutex is
 * held. */
static bool close_session(server *own) {
    gp_engine *engine = own->engine;
    gp_session **link = &engine->closing_sessions;
    while (*link != NULL && ((*link)->server != own || (*link)->requests > 0)) link = &(*link)->next;
    gp_session *session = *link;
    if (session == NULL) return false;
    *link = session->next;
    gp_scheduler_take_back(&own->replica.scheduler, &session->keep); /* on this thread, the device's */
    own->sessions--;
    session->closed = true;
    pthread_cond_broadcast(&engine->changed);
    return true;
}

/* ---- requests ---- */

gp_request *gp_submit(gp_engine *engine, const gp_request_options *options, gp_status *status) {
    gp_session *session = options->session;
    if (!check_options(options, status)) return NULL;
    if (session != NULL && session->engine != engine) {
        gp_fail(status, "the session is another engine's");
        return NULL;
    }
    gp_request *request = gp_allocate_zeroed(1, sizeof *request);
    if (request == NULL || !copy_options(options, &request->question.options)) {
        gp_free(request);
        gp_fail(status, "no memory for a request");
        return NULL;
    }
    if (session != NULL) request->question.options.image = session->image;
    pthread_mutex_init(&request->mutex, NULL);
    pthread_cond_init(&request->ended, NULL);
    pthread_mutex_lock(&engine->mutex);
    bool closing = engine->closing;
    if (!closing) {
        if (engine->last != NULL)
            engine->last->next = request;
        else
            engine->first = request;
        engine->last = request;
        request->all_next = engine->all;
        request->all_link = &engine->all;
        if (engine->all != NULL) engine->all->all_link = &request->all_next;
        engine->all = request;
        if (session != NULL) session->requests++;
        pthread_cond_broadcast(&engine->changed);
    }
    pthread_mutex_unlock(&engine->mutex);
    if (!closing) return request;
    free_request(request);
    gp_fail(status, "the engine is closing");
    return NULL;
}

void gp_request_cancel(gp_request *request) {
    atomic_store(&request->question.cancelled, true);
}

gp_event_type gp_request_wait(gp_request *request) {
    pthread_mutex_lock(&request->mutex);
    while (!request->finished) pthread_cond_wait(&request->ended, &request->mutex);
    pthread_mutex_unlock(&request->mutex);
    return request->final;
}

void gp_request_release(gp_request *request) {
    if (request == NULL) return;
    gp_request_wait(request);
    free_request(request);
}

static void free_request(gp_request *request) {
    pthread_cond_destroy(&request->ended);
    pthread_mutex_destroy(&request->mutex);
    free_options(&request->question.options);
    gp_free(request);
}

static bool check_image(const gp_image *image, gp_status *status) {
    if (image->pixels == NULL || image->width <= 0 || image->height <= 0)
        return gp_fail(status, "the picture has no pixels: %d x %d", image->width, image->height);
    if (image->stride != 0 && image->stride < 3 * (size_t)image->width)
        return gp_fail(status, "the picture's stride is %zu bytes; a row of %d pixels has %zu", image->stride,
                       image->width, 3 * (size_t)image->width);
    return true;
}

static bool check_options(const gp_request_options *options, gp_status *status) {
    if (options->session == NULL && !check_image(&options->image, status)) return false;
    if (options->prompt == NULL || options->prompt[0] == '\0') return gp_fail(status, "the prompt is empty");
    if (options->on_event == NULL) return gp_fail(status, "a request needs on_event");
    if (options->crops < 0 || options->max_crops < 0 || options->max_new_tokens < 0)
        return gp_fail(status, "crops %d, max_crops %d, max_new_tokens %d: none may be negative",
                       options->crops, options->max_crops, options->max_new_tokens);
    const gp_sampling *sampling = &options->sampling;
    if (!(sampling->temperature >= 0 && sampling->temperature <= 1e6f))
        return gp_fail(status, "temperature %g: 0 (greedy) and more are possible",
                       (double)sampling->temperature);
    if (!(sampling->top_p >= 0 && sampling->top_p <= 1))
        return gp_fail(status, "top_p %g: 0 to 1 are possible", (double)sampling->top_p);
    for (size_t i = 0; i < options->history_count; i++)
        if (options->history[i].question == NULL || options->history[i].answer == NULL)
            return gp_fail(status, "turn %zu of the history lacks its question or its answer", i);
    return true;
}

static bool copy_options(const gp_request_options *options, gp_request_options *copy) {
    *copy = *options;
    copy->history_count = 0;
    copy->prompt = gp_copy_text(options->prompt);
    gp_turn *history = gp_allocate_zeroed(options->history_count + 1, sizeof *history);
    copy->history = history;
    bool done = copy->prompt != NULL && history != NULL;
    for (size_t i = 0; done && i < options->history_count; i++) {
        history[i] =
            (gp_turn){gp_copy_text(options->history[i].question), gp_copy_text(options->history[i].answer)};
        copy->history_count = i + 1;
        done = history[i].question != NULL && history[i].answer != NULL;
    }
    if (!done) free_options(copy);
    return done;
}

static void free_options(gp_request_options *copy) {
    for (size_t i = 0; i < copy->history_count; i++) {
        gp_free((char *)copy->history[i].question);
        gp_free((char *)copy->history[i].answer);
    }
    gp_free((gp_turn *)copy->history);
    gp_free((char *)copy->prompt);
}
