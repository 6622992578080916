/** setmaxnreg for the emulator: the count alone can be judged. */
#pragma once

#include <ptx/language.cuh>

template <int count> inline void give_registers() {
    static_assert(count % 8 == 0 && count >= 24 && count <= 256, "setmaxnreg");
}
template <int count> inline void take_registers() {
    static_assert(count % 8 == 0 && count >= 24 && count <= 256, "setmaxnreg");
}
