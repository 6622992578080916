/** mbarriers in shared memory: 8 bytes each, with phases and byte counts; and the fences between proxies.
 * sm_90. */
#pragma once

#include <ptx/language.cuh>

typedef uint64_t mbarrier;

/** A barrier that completes a phase after `count` arrivals and all expected bytes. One thread does it, then
 * fence_mbarrier_init and a block barrier make it known. PTX: mbarrier.init. */
__device__ __forceinline__ void mbarrier_init(mbarrier *barrier, unsigned count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(count)
                 : "memory");
}

/** Makes initialised barriers known to the asynchronous proxy. PTX: fence.mbarrier_init. */
__device__ __forceinline__ void fence_mbarrier_init() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/** Arrives. PTX: mbarrier.arrive. */
__device__ __forceinline__ void mbarrier_arrive(mbarrier *barrier) {
    asm volatile(
        "{\n.reg .b64 state;\nmbarrier.arrive.shared::cta.b64 state, [%0];\n}" ::"r"(shared_address(barrier))
        : "memory");
}

/** Arrives, and lets the phase wait for `bytes` more of asynchronous copies. PTX: mbarrier.arrive.expect_tx.
 */
__device__ __forceinline__ void mbarrier_arrive_expect(mbarrier *barrier, unsigned bytes) {
    asm volatile("{\n.reg .b64 state;\nmbarrier.arrive.expect_tx.shared::cta.b64 state, [%0], %1;\n}" ::"r"(
                     shared_address(barrier)),
                 "r"(bytes)
                 : "memory");
}

/** Waits until the phase of that parity is complete; phases count from 0, so a wait for parity 1 passes at
 * first. PTX: mbarrier.try_wait.parity. */
__device__ __forceinline__ void mbarrier_wait(mbarrier *barrier, unsigned parity) {
    asm volatile("{\n.reg .pred done;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@done bra finished;\nbra again;\nfinished:\n}" ::"r"(shared_address(barrier)),
                 "r"(parity)
                 : "memory");
}

/** Ordinary stores to shared memory before it are seen by copies and products of the asynchronous proxy after
 * it (and a barrier between threads). PTX: fence.proxy.async. */
__device__ __forceinline__ void fence_proxy_async() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
