/**
 * Every wrapper of kernels/cuda/ptx in a kernel of its own. wrappers.cu is compiled twice: by the emulator as
 * wrappers_twin, by nvcc as wrappers_native; test_wrappers holds one against the other.
 */
#pragma once

#include <cstddef>
#include <cstdint>

enum Wrapper {
    kTiles,
    kTilesTransposed,
    kMultiply,
    kPack,
    kLarger,
    kExp2,
    kReciprocal,
    kCopyAsync,
    kNamedBarriers,
    kLoadOnce,
    kShuffles,
    kOverlap, // Hopper's alone, from here
    kBoxes,
    kPlanes,
    kNarrowPlanes,
    kN64,
    kN64AlongN,
    kN128,
    kN128AlongN,
    kN144,
    kN144AlongN,
    kN256,
    kN256AlongN,
    kN64Registers,
    kN64RegistersAlongN,
    kN72Registers,
    kN72RegistersAlongN,
    kN128Registers,
    kN128RegistersAlongN,
    kN128Narrow, // B in 32-byte swizzle
    kWrappers
};

/** Elementwise wrappers: values, which 256 threads share. */
constexpr unsigned kValues = 8192;

/** Kernels that begin early: each takes the one's before it from another block's place, and is slow. */
constexpr unsigned kOverlapped = 9, kOverlapSlowness = 3000;
constexpr unsigned overlap_source(unsigned i) {
    return (i * 5 + 1234) % kValues;
}
constexpr uint32_t overlap_step(uint32_t x) {
    return x * 1664525 + 1013904223;
}

/** Tensor copies: a matrix that is no multiple of a box, and the boxes [16, 64], or narrow ones [16, 16],
 * that are read: at its start, partly before it, partly and wholly behind it. */
constexpr int kBoxRows = 16, kMatrixRows = 40, kMatrixColumns = 100, kMatrixStride = 104;
constexpr int kBoxCount = 9;
constexpr int kBoxBytes = kBoxRows * 128, kNarrowBoxBytes = kBoxRows * 32;
constexpr int kBoxAt[kBoxCount][2] = {{0, 0},   {16, 5},   {-8, -5}, {-56, 30}, {64, 16},
                                      {88, 33}, {-64, -1}, {8, 40},  {96, -15}}; // column, row

/** The same numbers as planes, of which the boxes come in turn, from the one before the first to the one
 * after the last. */
constexpr int kPlaneRows = 13, kPlaneCount = 3, kPlaneStride = kPlaneRows * kMatrixStride;
constexpr int plane_of(int box) {
    return box % (kPlaneCount + 2) - 1;
}

/** Products: [64, 64] by [64, n]. */
constexpr unsigned kDepth = 64;

namespace wrappers_twin {
/** Device's capability as 10·major + minor; 0 where there is no device. */
int capability();
/** Runs one wrapper's kernel from input to output, both the host's; what went wrong, or nullptr. */
const char *run(Wrapper which, const void *input, size_t input_bytes, void *output, size_t output_bytes);
} // namespace wrappers_twin

namespace wrappers_native {
int capability();
const char *run(Wrapper which, const void *input, size_t input_bytes, void *output, size_t output_bytes);
} // namespace wrappers_native
