/**
 * The mask decoder's up-scaling and hypernetwork product in one kernel: deconvolution 2×2 + bias + skip1 →
 * LayerNorm → GELU → deconvolution 2×2 + bias + skip0 → GELU → four logits a pixel. Nothing but logits is
 * written.
 *
 * A deconvolution of stride 2 is a product to four times its channels, whose parts land on the four pixels
 * below a cell. A block keeps the weights of two parts of the first product, the pixels below a cell of one
 * line (64 KB), and all of the second's (16 KB) in shared memory, and reads them once. From there on its
 * twelve warps never wait for each other. A warp's unit is one part of 32 cells of a mask: 32 pixels of 64
 * channels, then 128 of 32. Its first sums stay in registers: four lanes have a row, so norms need two
 * shuffles, and as bf16 the same registers are the second product's left side. A quarter of that product at a
 * time, a pixel's 32 channels are four lanes' eight each, and the four lanes end with a logit each.
 *
 * No fragment is turned. Products may take k in any order that both sides agree on, and columns may lie in
 * any order: lane c of four takes the 16 bytes at k = 8·c of a slice of 32, which serve two mma, and gets the
 * sums of channels 8·c … 8·c + 7 of a slice, so that x, skips and hypernetwork rows are read by 16 bytes a
 * lane, whole sectors. Weights lie in shared memory as lanes read them, 512 bytes a warp without conflicts.
 *
 * By arithmetic and the compiler's code, nothing of it measured; grid 64, 256 channels. A mask: 0.54 GFLOP of
 * the first product, 0.27 of the second; 3.1 M GELU of 14 instructions. A unit is 384 mma, 192 GELU a lane
 * and ~5800 instructions a warp, so ~1450 cycles of a processor's four schedulers, beside 768 cycles of its
 * tensor cores at 1024 multiply-adds a cycle and ~850 of its shared memory and L1. 8 masks are 4096 units, 31
 * for each of 132 processors: 45 000 cycles, 26 µs at 1.755 GHz if a scheduler never waited, 37 at 70 %. One
 * mask is 512 units, 4 a processor, a warp alone on each scheduler: 6 µs at half the rate, ~3 before that for
 * launch and weights. Registers let one block of 12 warps run on a processor, shared memory of 81 KB on any
 * GPU. Bytes from L2 of 8 masks: x twice (34 MB; the two parts of a line are neighbours and share L1),
 * weights 11, skips 13 where masks of the same cells meet in L1 (they are neighbours as well; 101 where not),
 * logits 8: 12 to 28 µs at 5.5 TB/s, beside the instructions. From memory 38 MB, 9 µs.
 *
 * Other numbers of channels up to 256 run with zeros where channels lack, read one by one: right, not fast.
 */
#include "kernels/cuda/activation.cuh"

#include <ptx/async_copy.cuh>
#include <ptx/matrix.cuh>
#include <ptx/memory.cuh>
#include <ptx/overlap.cuh>

namespace gp_cuda {

constexpr int kCells = 32, kHyperRows = 4;
constexpr int kSlice = 32; // values along k that a quad's lanes read by 16 bytes each
/** Warps of a block: together they have all registers, and channels one by one take more of them. */
template <bool kFull> constexpr int kWarps = kFull ? 12 : 8;

/* Channels of x, of the pixels between, of the last ones: at most. */
constexpr int kChannels = GP_MASK_CHANNELS_MOST, kBetween = kChannels / 4, kLast = kChannels / 8;
constexpr int kSlices1 = kChannels / kSlice, kTiles1 = kBetween / 8;
constexpr int kSlices2 = kBetween / kSlice, kTiles2 = kLast / 8;
constexpr int kFragment = 512; // bytes: 8 columns of a slice, 16 for each lane
constexpr int kPartBytes = kSlices1 * kTiles1 * kFragment, kQuarterBytes = kSlices2 * kTiles2 * kFragment;

/** What a block keeps in shared memory. */
struct Kept {
    unsigned char parts[2][kPartBytes];       // [slice, tile, lane] of 16 bytes
    unsigned char quarters[4][kQuarterBytes]; // the same
    float bias1[kBetween], norm_weight[kBetween], norm_bias[kBetween], bias2[kLast];
};
static_assert(sizeof(Kept) <= kSharedBaseline, "a block's weights");

/** The channel of column `column` of tile `tile`: of each slice of 32, a lane's sums are eight neighbours. */
template <int kTiles> __device__ __forceinline__ int channel_of(int tile, int column) {
    static_assert(kTiles % 4 == 0, "whole slices");
    return tile / 4 * 32 + column / 2 * 8 + tile % 4 * 2 + column % 2;
}

/** Weights of kSlices × kTiles fragments; channel `channel` of them is row `first + channel` of the matrix,
 * and there are `channels` of them. What is beyond is 0. */
template <int kSlices, int kTiles>
__device__ __forceinline__ void keep(unsigned char *target, const gp_matrix &weight, int first,
                                     int channels) {
    const auto *from = static_cast<const uint16_t *>(weight.data);
    for (int i = threadIdx.x; i < kSlices * kTiles * 32; i += blockDim.x) {
        const int lane = i % 32, tile = i / 32 % kTiles, slice = i / 32 / kTiles;
        const int channel = channel_of<kTiles>(tile, lane / 4), k = slice * kSlice + lane % 4 * 8;
        const int left = static_cast<int>(weight.columns) - k;
        const bool inside = channel < channels && left > 0;
        copy_async(target + 16 * i, inside ? from + (first + channel) * weight.stride + k : from,
                   inside ? min(2 * left, 16) : 0);
    }
}

/** `values` for `most` channels, 0 from `channels` on. */
__device__ __forceinline__ void keep_floats(float *target, const float *values, int channels, int most) {
    for (int i = threadIdx.x; i < most; i += blockDim.x) target[i] = i < channels ? values[i] : 0.0f;
}

/** Channels `first` to first + 7 of a row; a multiple of 8. What the row does not have is 0. */
template <bool kFull>
__device__ __forceinline__ void load_eight(float (&values)[8], const float *row, int first, int channels) {
    if constexpr (kFull) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const uint4 four = load_16(row + first + 4 * half);
            values[4 * half] = __uint_as_float(four.x);
            values[4 * half + 1] = __uint_as_float(four.y);
            values[4 * half + 2] = __uint_as_float(four.z);
            values[4 * half + 3] = __uint_as_float(four.w);
        }
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++) values[i] = first + i < channels ? row[first + i] : 0.0f;
    }
}

__device__ __forceinline__ float sum_of_quad(float value) {
    value += __shfl_xor_sync(0xFFFFFFFFu, value, 1);
    return value + __shfl_xor_sync(0xFFFFFFFFu, value, 2);
}

/** Of four values of each of four lanes, lane c has the four's sum of value c. */
__device__ __forceinline__ float scatter_sums(const float (&values)[4], int lane) {
    const bool odd = lane % 2 != 0, upper = lane / 2 % 2 != 0;
    const float low = (odd ? values[1] : values[0]) +
                      __shfl_xor_sync(0xFFFFFFFFu, odd ? values[0] : values[1], 1),
                high = (odd ? values[3] : values[2]) +
                       __shfl_xor_sync(0xFFFFFFFFu, odd ? values[2] : values[3], 1);
    return (upper ? high : low) + __shfl_xor_sync(0xFFFFFFFFu, upper ? low : high, 2);
}

/** Two steps of 16 along k, of 16 rows, as multiply takes them. */
struct Steps {
    uint32_t first[4], second[4];
};

/** A lane's 16 bytes of rows g and g + 8. */
__device__ __forceinline__ Steps steps_of(uint4 upper, uint4 lower) {
    return {{own_copy(upper.x), own_copy(lower.x), own_copy(upper.y), own_copy(lower.y)},
            {own_copy(upper.z), own_copy(lower.z), own_copy(upper.w), own_copy(lower.w)}};
}

/** A slice, of 16 rows and 8 columns. */
__device__ __forceinline__ void multiply_slice(float (&sums)[4], const Steps &rows, uint4 weight) {
    multiply(sums, rows.first, weight.x, weight.y);
    multiply(sums, rows.second, weight.z, weight.w);
}

/** Bias, skip, LayerNorm and GELU of 16 pixels' first sums; `pixels` are the second's rows. */
template <bool kFull>
__device__ __forceinline__ void normalise(const gp_mask_upsample &up, const Kept &kept,
                                          float (&sums)[kTiles1][4], const float *const (&skip)[2], int lane,
                                          Steps (&pixels)[kSlices2]) {
    const int channels = kFull ? kBetween : up.channels / 4;
    float mean[2] = {0, 0}, scale[2] = {0, 0};
#pragma unroll
    for (int slice = 0; slice < kSlices2; slice++) {
        const int first = slice * kSlice + lane % 4 * 8;
        float bias[8], skips[2][8];
        load_eight<true>(bias, kept.bias1, first, kBetween);
#pragma unroll
        for (int half = 0; half < 2; half++) {
            load_eight<kFull>(skips[half], skip[half], first, channels);
#pragma unroll
            for (int i = 0; i < 8; i++) {
                float &value = sums[4 * slice + i / 2][2 * half + i % 2];
                value += bias[i] + skips[half][i];
                mean[half] += value;
            }
        }
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        mean[half] = sum_of_quad(mean[half]) / static_cast<float>(channels);
#pragma unroll
        for (int slice = 0; slice < kSlices2; slice++)
#pragma unroll
            for (int i = 0; i < 8; i++) {
                float &value = sums[4 * slice + i / 2][2 * half + i % 2];
                value -= mean[half];
                if (kFull || slice * kSlice + lane % 4 * 8 + i < channels)
                    scale[half] = fmaf(value, value, scale[half]);
            }
        scale[half] = 1.0f / sqrtf(sum_of_quad(scale[half]) / static_cast<float>(channels) + up.epsilon);
    }
#pragma unroll
    for (int slice = 0; slice < kSlices2; slice++) {
        float weight[8], bias[8];
        load_eight<true>(weight, kept.norm_weight, slice * kSlice + lane % 4 * 8, kBetween);
        load_eight<true>(bias, kept.norm_bias, slice * kSlice + lane % 4 * 8, kBetween);
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float y[8];
#pragma unroll
            for (int i = 0; i < 8; i++)
                y[i] =
                    gelu(fmaf(sums[4 * slice + i / 2][2 * half + i % 2] * scale[half], weight[i], bias[i]));
            pixels[slice].first[half] = pack_bf16(y[0], y[1]);
            pixels[slice].first[2 + half] = pack_bf16(y[2], y[3]);
            pixels[slice].second[half] = pack_bf16(y[4], y[5]);
            pixels[slice].second[2 + half] = pack_bf16(y[6], y[7]);
        }
    }
}

/** Units [parts of a line, masks, groups of cells], the first fastest. kFull: there are kChannels channels.
 */
template <bool kFull>
static __global__ void __launch_bounds__(32 * kWarps<kFull>, 1)
    upsample_masks(const __grid_constant__ gp_mask_upsample up, int units) {
    Kept &kept = *shared_memory<Kept>();
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int line = blockIdx.x % 2, cells = up.grid * up.grid, side = 4 * up.grid; // the line below a cell
    const int channels = kFull ? kChannels : up.channels, between = channels / 4, last = channels / 8;
    const int slices = kFull ? kSlices1 : (channels + kSlice - 1) / kSlice;
    let_next_begin();
    for (int part = 0; part < 2; part++)
        keep<kSlices1, kTiles1>(kept.parts[part], up.weight1, (2 * line + part) * between, between);
    for (int quarter = 0; quarter < 4; quarter++)
        keep<kSlices2, kTiles2>(kept.quarters[quarter], up.weight2, quarter * last, last);
    copy_commit();
    keep_floats(kept.bias1, up.bias1, between, kBetween);
    keep_floats(kept.norm_weight, up.norm_weight, between, kBetween);
    keep_floats(kept.norm_bias, up.norm_bias, between, kBetween);
    keep_floats(kept.bias2, up.bias2, last, kLast);
    copy_wait<0>();
    await_earlier();
    __syncthreads();

    const unsigned block = blockIdx.x / 2, blocks = gridDim.x / 2;
    const int end = static_cast<int>(static_cast<int64_t>(units) * (block + 1) / blocks);
#pragma unroll 1
    for (int unit = static_cast<int>(static_cast<int64_t>(units) * block / blocks) + warp; unit < end;
         unit += kWarps<kFull>) {
        const int part = unit % 2, mask = unit / 2 % up.masks;
        const int first_cell = unit / 2 / up.masks * kCells + lane / 4;
        /* Row 16·i + 8·half + lane/4 of the unit's 32. */
        const uint16_t *x[2][2];
        int corner[2][2], below[2][2]; // a cell's first pixel in this part, in the full map; its one between
#pragma unroll
        for (int i = 0; i < 2; i++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int cell = min(first_cell + 16 * i + 8 * half, cells - 1);
                const int64_t row = static_cast<int64_t>(mask) * cells + cell;
                x[i][half] = reinterpret_cast<const uint16_t *>(up.x) + row * channels + lane % 4 * 8;
                const int y = 2 * (cell / up.grid) + line, at = 2 * (cell % up.grid) + part;
                corner[i][half] = 2 * (y * side + at);
                below[i][half] = y * (side / 2) + at;
            }

        float sums[2][kTiles1][4] = {};
        uint4 next[2][2];
        auto load = [&](int slice) {
#pragma unroll
            for (int i = 0; i < 2; i++)
#pragma unroll
                for (int half = 0; half < 2; half++)
                    next[i][half] = kFull || slice * kSlice + lane % 4 * 8 < channels
                                        ? load_16(x[i][half] + slice * kSlice)
                                        : make_uint4(0, 0, 0, 0);
        };
        const unsigned char *weights = kept.parts[part] + 16 * lane;
        load(0);
#pragma unroll 1
        for (int slice = 0; slice < slices; slice++) {
            Steps rows[2];
#pragma unroll
            for (int i = 0; i < 2; i++) rows[i] = steps_of(next[i][0], next[i][1]);
            load(min(slice + 1, slices - 1)); // on its way while this one is multiplied
#pragma unroll
            for (int tile = 0; tile < kTiles1; tile++) {
                const uint4 weight = load_16(weights + (slice * kTiles1 + tile) * kFragment);
#pragma unroll
                for (int i = 0; i < 2; i++) multiply_slice(sums[i][tile], rows[i], weight);
            }
        }

        Steps pixels[2][kSlices2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const float *skip[2];
#pragma unroll
            for (int half = 0; half < 2; half++)
                skip[half] = up.skip1 + static_cast<int64_t>(below[i][half]) * between;
            normalise<kFull>(up, kept, sums[i], skip, lane, pixels[i]);
        }

        float hyper[kHyperRows][8], bias[8], before[2][2];
#pragma unroll
        for (int k = 0; k < kHyperRows; k++)
            load_eight<kFull>(hyper[k], up.hyper + (static_cast<int64_t>(mask) * kHyperRows + k) * last,
                              lane % 4 * 8, last);
        load_eight<true>(bias, kept.bias2, lane % 4 * 8, kLast);
        float *logits = up.logits + (static_cast<int64_t>(mask) * kHyperRows + lane % 4) * side * side;
#pragma unroll 1
        for (int quarter = 0; quarter < 4; quarter++) {
            const int down = quarter / 2 * side; // to the line of this quarter
            float skips[2][2][8], values[2][kTiles2][4] = {};
#pragma unroll
            for (int i = 0; i < 2; i++)
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    const int64_t pixel = corner[i][half] + down + quarter % 2;
                    load_eight<kFull>(skips[i][half], up.skip0 + pixel * last, lane % 4 * 8, last);
                }
            const unsigned char *quarters = kept.quarters[quarter] + 16 * lane;
#pragma unroll
            for (int slice = 0; slice < kSlices2; slice++)
#pragma unroll
                for (int tile = 0; tile < kTiles2; tile++) {
                    const uint4 weight = load_16(quarters + (slice * kTiles2 + tile) * kFragment);
#pragma unroll
                    for (int i = 0; i < 2; i++) multiply_slice(values[i][tile], pixels[i][slice], weight);
                }
#pragma unroll
            for (int i = 0; i < 2; i++)
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    float sum[kHyperRows] = {};
#pragma unroll
                    for (int c = 0; c < 8; c++) {
                        const float value =
                            gelu(values[i][c / 2][2 * half + c % 2] + bias[c] + skips[i][half][c]);
#pragma unroll
                        for (int k = 0; k < kHyperRows; k++) sum[k] = fmaf(value, hyper[k][c], sum[k]);
                    }
                    const float logit = scatter_sums(sum, lane);
                    if (quarter % 2 == 0)
                        before[i][half] = logit;
                    else if (first_cell + 16 * i + 8 * half < cells)
                        *reinterpret_cast<float2 *>(logits + corner[i][half] + down) =
                            make_float2(before[i][half], logit);
                }
        }
    }
}

void mask_upsample(gp_backend *backend, const gp_mask_upsample *up) {
    if (up->masks <= 0) return;
    const int groups = static_cast<int>(blocks_for(static_cast<int64_t>(up->grid) * up->grid, kCells)),
              units = 2 * up->masks * groups;
    const int most = of(backend).processors / 2, pairs = most < 1 ? 1 : most < units ? most : units;
    const unsigned blocks = 2 * static_cast<unsigned>(pairs); // a block for each line below a cell
    if (up->channels == kChannels)
        GP_RUN_EARLY(backend, upsample_masks<true>, blocks, 32 * kWarps<true>, sizeof(Kept), *up, units);
    else
        GP_RUN_EARLY(backend, upsample_masks<false>, blocks, 32 * kWarps<false>, sizeof(Kept), *up, units);
}

} // namespace gp_cuda
