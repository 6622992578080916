/**
 * Stream capture as the CUDA runtime has it: between cudaStreamBeginCapture and cudaStreamEndCapture launches
 * and copies of the stream are kept with their arguments, by value, and not run; cudaGraphLaunch runs them in
 * their order. A call that waits or allocates meanwhile gives the error that CUDA gives, and makes the
 * capture worthless. Copies from or to host memory are refused here, which CUDA would take: each replay would
 * read or write the host's bytes of that moment.
 */
#pragma once

#include <cstddef>
#include <functional>

enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };

typedef struct simt_graph *cudaGraph_t;
typedef struct simt_graph_exec *cudaGraphExec_t;

namespace simt {
/** Whether the stream captures: then `work` is kept, or dropped where the capture is worthless already. */
bool capture(void *stream, std::function<void()> work);
/** A call that must not be made while the thread captures; false, and the capture is worthless, if it does.
 */
bool may_wait();
/** Ends the capture's worth where the stream captures, and says whether it does. */
bool spoil(void *stream);
} // namespace simt
