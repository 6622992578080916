/**
 * What is done as late as it may be, so that a missing wait shows: copies from pinned memory, which are done
 * when somebody waits for them or what comes after them on the stream is done; and everything that a stream
 * of a device is given while an older one of it lives. Such a stream runs when somebody waits for it, or for
 * an event of it, for its device or by a copy to the host. What a thread gives, that thread has to wait for:
 * it drives the device.
 */
#pragma once

#include "tests/simt/runtime.h"

#include <cstdint>

namespace simt {
/** Keeps the work where the stream captures or runs late; false: it is to be done now. */
bool keep(cudaStream_t stream, std::function<void()> work);
/** The same for what a capture does not take. */
bool keep_late(cudaStream_t stream, std::function<void()> work);
/**
 * The chain of the stream's launch that runs next. One that is not early begins a chain, and so does what
 * comes after a copy, a graph or a wait of the host: kernels of a chain may run beside each other. A null
 * stream is one of the thread's own.
 */
uint32_t chain_of(cudaStream_t stream, bool early);
void end_chain(cudaStream_t stream);
/** A copy from pinned memory. */
void copy_late(void *target, const void *source, size_t bytes, cudaStream_t stream);
/** Does what the stream was given. */
void finish_stream(cudaStream_t stream);
/** Does what all streams of the current device were given. */
void finish_device();
} // namespace simt
