/**
 * Hiera's attention on Hopper: head dim 72, the whole map or windows of 16² and more that fill it, queries as
 * they are. Everything else is window_attention.cu's: pooled queries are 64 a window of 16² at most, and
 * windows of 8² and 4² have 4 and 16 times as many bytes an operation, which are what limits them
 * (window_attention.cu).
 *
 * A unit is 128 queries of one head and window; a block, one a processor, takes units in turn, while its
 * copying thread is ahead by what the ring holds (attention_boxes.cuh). Keys are blocks of 128 positions:
 * rows of a window, each a box of its own, or a run of the whole map. To the tensor copies a map is 3·heads
 * planes [positions, 72], so that what lies beyond a head's 72 columns, or beyond the map, becomes 0.
 *
 * Layout of a block of keys: columns 0–63 as a box of 128 bytes a row, 64–79 as a narrow one of 32, of which
 * the upper half is zeros: a product's five steps of 16 columns. Values: two boxes of 128 bytes a row, of the
 * second only columns 64–71 are read, as one product of 72 columns goes over both. 52 KB a stage, four: 208.
 *
 * Costs of a unit and block of keys, by arithmetic: scores 5 products of m64n128 and values 8 of m64n72 a
 * warpgroup, 608 cycles (576 without zeros); exponentials 512. Shared memory: both warpgroups' products read
 * 77 KB, the copies write 52: 1,010 of 1,216 cycles at 128 bytes. The 64² map (4096 keys, 8 heads): 256 units
 * of 32 blocks, 264 places on 132 processors: 64 · 1,216 cycles are 44 µs at 1.755 GHz. In windows of 16²:
 * 256 units of 2 blocks, 2.4 Gflop, 3 µs; 19 MB of map, 4.4 µs; the rest is latency, one unit's in front and
 * one unit's end.
 */
#include "kernels/cuda/attention_boxes.cuh"

#include <ptx/overlap.cuh>

namespace gp_cuda {

namespace {

constexpr int kHeadDim = 72;
[[maybe_unused]] constexpr int kTailColumn = 64;
constexpr int kWindowMin = 16; // of a side

struct BoxedWindows {
    const uint16_t *qkv;       // [positions, 3, heads, kHeadDim]
    int width, side_x, side_y; // of the map; of a window
    int across, heads, units;  // windows in a row of windows
    int chunks, queries, keys; // chunks of queries a window and head
    int run, pitch;            // positions of a box, from one box to the next
    float factor;              // scale · log2 e
    uint16_t *y;
};

struct WindowMaps {
    tensor_map wide, narrow; // [3·heads, positions, kHeadDim]
};

/** What a block works on: a chunk of the queries of a head and window. */
struct Unit {
    int chunk, head, origin; // origin: the window's first position

    __device__ __forceinline__ Unit(const BoxedWindows &a, int unit) {
        const int window = unit / a.chunks / a.heads;
        chunk = unit % a.chunks;
        head = unit / a.chunks % a.heads;
        origin = window / a.across * a.side_y * a.width + window % a.across * a.side_x;
    }
};

__global__ __launch_bounds__(kBoxThreads,
                             1) void attend_window_boxes(const __grid_constant__ BoxedWindows a,
                                                         const __grid_constant__ WindowMaps maps) {
#if GP_HOPPER
    using Ring = KeyRing<kHeadDim>;
    const Ring ring = {shared_memory<unsigned char>()};
    const int thread = static_cast<int>(threadIdx.x), step = static_cast<int>(gridDim.x);
    const int blocks = (a.keys + Ring::kKeys - 1) / Ring::kKeys;
    ring.start();
    follow_earlier();
    if (thread < 128) {
        give_registers<kCopyingRegisters>();
        if (thread > 0) return;
        const int runs = Ring::kKeys / a.run;
        RingPlace place = {0, 1};
        for (int index = static_cast<int>(blockIdx.x); index < a.units; index += step) {
            const Unit unit(a, index);
            const int k = a.heads + unit.head, v = k + a.heads;
            fill_ring(ring, place, blocks,
                      [&](int at, unsigned char *keys, unsigned char *values, mbarrier *full) {
                          for (int i = 0; i < runs; i++) {
                              const int position = unit.origin + (at * runs + i) * a.pitch, row = i * a.run;
                              tensor_load(&maps.wide, keys + row * 128, 0, position, k, full);
                              tensor_load(&maps.narrow, keys + Ring::kBoxBytes + row * 32, kTailColumn,
                                          position, k, full);
                              tensor_load(&maps.wide, values + row * 128, 0, position, v, full);
                              tensor_load(&maps.wide, values + Ring::kBoxBytes + row * 128, kTailColumn,
                                          position, v, full);
                          }
                      });
        }
    } else {
        take_registers<kAttendingRegisters>();
        RingPlace place = {0, 0};
        for (int index = static_cast<int>(blockIdx.x); index < a.units; index += step) {
            const Unit unit(a, index);
            const int64_t row_width = static_cast<int64_t>(a.heads) * kHeadDim;
            int64_t positions[2]; // of the lane's rows; −1 where there is none
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int query = unit.chunk * kBoxRows + attending_row() + row_of(0, half);
                positions[half] =
                    query < a.queries ? unit.origin + query / a.side_x * a.width + query % a.side_x : -1;
            }
            RingQueries<kHeadDim> queries;
            load_queries(queries, [&](int, int half, int column) {
                if (positions[half] < 0 || column >= kHeadDim) return 0u;
                return load_pair(a.qkv + positions[half] * 3 * row_width + unit.head * kHeadDim + column);
            });
            Rows<kHeadDim, 1> rows;
            rows.start();
            attend_ring(
                ring, place, blocks, queries, a.factor, [](int, unsigned char *) {},
                [&](int at) { return a.keys - at * Ring::kKeys < Ring::kKeys; },
                [&](int at, int) { return a.keys - at * Ring::kKeys; }, rows);
            store_rows(rows, kHeadDim, [&](int, int half) -> uint16_t * {
                return positions[half] < 0 ? nullptr
                                           : a.y + positions[half] * row_width + unit.head * kHeadDim;
            });
        }
    }
#endif
}

} // namespace

bool window_attention_hopper(gp_backend *backend, const gp_window_attention *attention) {
    const int height = attention->height, width = attention->width, window = attention->window;
    const bool whole = window == 0;
    constexpr int kKeys = KeyRing<kHeadDim>::kKeys;
    if (attention->head_dim != kHeadDim || attention->pool) return false;
    if (whole ? height * width <= kFewRows
              : window < kWindowMin || kKeys % window != 0 || height % window != 0 || width % window != 0)
        return false;
    BoxedWindows a = {};
    a.qkv = bits_of(attention->qkv);
    a.width = width;
    a.side_x = whole ? width : window;
    a.side_y = whole ? height : window;
    a.across = width / a.side_x;
    a.heads = attention->heads;
    a.queries = a.keys = a.side_x * a.side_y;
    a.chunks = static_cast<int>(blocks_for(a.queries, kBoxRows));
    a.units = a.across * (height / a.side_y) * a.heads * a.chunks;
    a.run = whole ? kKeys : window;
    a.pitch = whole ? kKeys : width;
    a.factor = attention->scale * kLog2e;
    a.y = bits_of(attention->y);
    const uint64_t planes = 3 * static_cast<uint64_t>(a.heads);
    /* Planes lie inside rows: NVIDIA's manual shows strides that rise and does not say that they must. Where
     * a driver refuses, window_attention.cu serves. */
    WindowMaps maps = {};
    auto encode = [&](tensor_map *map, bool narrow) {
        return encode_planes(map, a.qkv, planes, static_cast<uint64_t>(height) * static_cast<uint64_t>(width),
                             kHeadDim, kHeadDim, planes * kHeadDim, static_cast<uint32_t>(a.run), narrow);
    };
    if (!encode(&maps.wide, false) || !encode(&maps.narrow, true)) return false;
    const int processors = of(backend).processors;
    GP_RUN_EARLY(backend, attend_window_boxes,
                 static_cast<unsigned>(a.units < processors ? a.units : processors), kBoxThreads,
                 KeyRing<kHeadDim>::kBytes, a, maps);
    return true;
}

} // namespace gp_cuda
