#include "tools/geopixel/interrupt.h"

#include "tools/geopixel/exit_codes.h"
#include "tools/geopixel/outputs/output_file.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

static _Atomic(gp_request *) cancelled_by_signal;
static atomic_int signals;
static atomic_bool asked_to_end;
static pthread_t main_thread;

/** A library's thread may take the signal, while the main one waits for it in ppoll or releases the request.
 */
static void on_signal(int number) {
    if (!pthread_equal(pthread_self(), main_thread)) {
        pthread_kill(main_thread, number);
        return;
    }
    if (number == SIGTERM) atomic_store(&asked_to_end, true);
    if (atomic_fetch_add(&signals, 1) > 0) {
        gp_output_remove_all();
        _exit(GP_EXIT_INTERRUPTED);
    }
    gp_request *request = atomic_load(&cancelled_by_signal);
    if (request != NULL) gp_request_cancel(request);
}

void gp_interrupt_watch(void) {
    main_thread = pthread_self();
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

void gp_interrupt_cancels(gp_request *request) {
    atomic_store(&cancelled_by_signal, request);
    if (request != NULL && gp_interrupted()) gp_request_cancel(request);
}

bool gp_interrupted(void) {
    return atomic_load(&signals) > 0;
}

bool gp_interrupt_forget(void) {
    if (atomic_load(&asked_to_end)) return false;
    atomic_store(&signals, 0);
    return true;
}
