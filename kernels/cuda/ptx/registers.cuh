/** Registers moved between the warpgroups of a block: one that copies gives up what one that multiplies
 * takes. sm_90a. */
#pragma once

#include <ptx/language.cuh>

/** Down to `count` registers a thread, a multiple of 8. PTX: setmaxnreg.dec. */
template <int count> __device__ __forceinline__ void give_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
}

/** Up to `count`. PTX: setmaxnreg.inc. */
template <int count> __device__ __forceinline__ void take_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
}
