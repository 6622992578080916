/** Any bytes as what comes over a channel before the other end closes: messages are taken as a second reading
 * of the bytes has them, until one is refused or they end, and the status says so. */
#include "kernels/base/memory.h"
#include "runtime/channel.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST = 1024, INPUT_MAX = 1 << 15 /* fits a socket's buffer */, HEADER = 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    gp_channel ends[2];
    gp_message message = {0};
    gp_status status = {0};
    if (size > INPUT_MAX) return 0;
    if (!gp_channel_pair(ends, &status)) abort();
    if (size > 0 && send(ends[0].fd, data, size, MSG_DONTWAIT) != (ssize_t)size) abort();
    gp_channel_close(&ends[0]);

    size_t at = 0;
    while (gp_channel_receive(&ends[1], &message, MOST, &status)) {
        uint64_t bytes;
        if (size - at < HEADER || memcmp(data + at, "GPXC", 4) != 0 ||
            memcmp(data + at + 4, &message.kind, 4) != 0)
            abort();
        memcpy(&bytes, data + at + 8, 8);
        at += HEADER;
        if (bytes > MOST || bytes > size - at || message.bytes != bytes || message.capacity > MOST ||
            (bytes > 0 && memcmp(message.data, data + at, bytes) != 0))
            abort();
        at += bytes;
    }
    if (!gp_failed(&status) || (strcmp(status.message, "the other end has ended") == 0) != (at == size))
        abort();
    gp_status_clear(&status);
    gp_free(message.data);
    gp_channel_close(&ends[1]);
    return 0;
}
