#include "kernels/base/status.h"

#include "kernels/base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* What stands in the message when even the message could not be allocated; never freed. */
static char out_of_memory[] = "out of memory";

static void status_append(gp_status *status, const char *format, va_list arguments) {
    va_list again;
    va_copy(again, arguments);
    int extra = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (extra < 0 || status->message == out_of_memory) return;
    size_t length = status->message != NULL ? strlen(status->message) : 0;
    char *grown = gp_allocate(length + (size_t)extra + 1);
    if (grown == NULL) {
        gp_status_clear(status);
        status->message = out_of_memory;
        return;
    }
    if (length > 0) memcpy(grown, status->message, length);
    vsnprintf(grown + length, (size_t)extra + 1, format, arguments);
    gp_status_clear(status);
    status->message = grown;
}

bool gp_fail(gp_status *status, const char *format, ...) {
    if (status == NULL) return false;
    gp_status fresh = {0};
    va_list arguments;
    va_start(arguments, format);
    status_append(&fresh, format, arguments); /* before the old text goes: it may be among the arguments */
    va_end(arguments);
    gp_status_clear(status);
    *status = fresh;
    return false;
}

bool gp_fail_more(gp_status *status, const char *format, ...) {
    if (status == NULL) return false;
    va_list arguments;
    va_start(arguments, format);
    status_append(status, format, arguments);
    va_end(arguments);
    return false;
}

void gp_status_clear(gp_status *status) {
    if (status->message != out_of_memory) gp_free(status->message);
    status->message = NULL;
}
