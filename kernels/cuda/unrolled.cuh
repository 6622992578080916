/** Choices that are known when compiled, for what lives in registers, and the loop over a ring of stages. */
#pragma once

#include <ptx/async_copy.cuh>

namespace gp_cuda {

/** A number that a lambda takes as a type. */
template <int number> struct Constant { static constexpr int value = number; };

/** use(Constant<which>), one of first … first + among − 1, so that an index by it is known when compiled. One
 * of so many pieces of code is chosen by halving. */
template <int first, int among, class Use>
__device__ __forceinline__ void with_constant(int which, const Use &use) {
    if constexpr (among > 1) {
        if (which < first + among / 2)
            with_constant<first, among / 2>(which, use);
        else
            with_constant<first + among / 2, among - among / 2>(which, use);
    } else {
        use(Constant<first>());
    }
}

/** load(stage), by cp.async of all threads, and use(stage), in order for all of `stages`; stage s lies in
 * place s mod kStages of a ring, and kStages − 1 of them are on their way while one is used. */
template <int kStages, class Load, class Use>
__device__ __forceinline__ void through_ring(int stages, const Load &load, const Use &use) {
    for (int stage = 0; stage < kStages - 1; stage++) {
        if (stage < stages) load(stage);
        copy_commit();
    }
    for (int stage = 0; stage < stages; stage++) {
        copy_wait<kStages - 2>();
        __syncthreads(); // the stage is there for all, and nobody reads the one that is loaded next
        if (stage + kStages - 1 < stages) load(stage + kStages - 1);
        copy_commit();
        use(stage);
    }
    copy_wait<0>();
}

} // namespace gp_cuda
