/**
 * Attention over packed sequences on Hopper, head dims 64 and 128, more than 64 queries: the vision
 * encoder's. Everything else is attention.cu's.
 *
 * A block has 128 queries of one head and sequence (attention_boxes.cuh); blocks of one head follow one
 * another, so that its keys and values come from the second-level cache. Keys and values are planes of
 * sequences to the tensor copies, so that what lies beyond a sequence's last key becomes 0, whatever the next
 * sequence holds.
 *
 * Costs as in attention.cu. Vision encoder (1601², width 64, 16 heads): 10.5 Gflop a view, of which 13 blocks
 * of queries for 12.5 waste 4 %: 13.8 µs at 790 Tflop/s; 41 M of 2^x at 16 a cycle and processor are 11 µs of
 * 132 processors at 1.8 GHz, beside the products where they overlap.
 */
#include "kernels/cuda/attention_boxes.cuh"

#include <ptx/overlap.cuh>

namespace gp_cuda {

namespace {

struct BoxedSequences {
    const uint16_t *q;
    int64_t q_stride, y_stride;
    int queries, keys, heads, chunks; // chunks of queries a head
    float factor;                     // scale · log2 e
    uint16_t *y;
};

struct KeyMaps {
    tensor_map k, v; // [sequences, keys, heads·kWidth]
};

template <int kWidth>
__global__ __launch_bounds__(kBoxThreads, 1) void attend_boxes(const __grid_constant__ BoxedSequences a,
                                                               const __grid_constant__ KeyMaps maps) {
#if GP_HOPPER
    using Ring = KeyRing<kWidth>;
    const Ring ring = {shared_memory<unsigned char>()};
    const int thread = static_cast<int>(threadIdx.x), block = static_cast<int>(blockIdx.x);
    const int chunk = block % a.chunks, head = block / a.chunks % a.heads,
              sequence = block / a.chunks / a.heads;
    const int blocks = (a.keys + Ring::kKeys - 1) / Ring::kKeys;
    ring.start();
    follow_earlier();
    if (thread < 128) {
        give_registers<kCopyingRegisters>();
        if (thread > 0) return;
        RingPlace place = {0, 1};
        fill_ring(ring, place, blocks,
                  [&](int at, unsigned char *keys, unsigned char *values, mbarrier *full) {
                      for (int box = 0; box < Ring::kBoxes; box++) {
                          int column = head * kWidth + 64 * box, row = at * Ring::kKeys;
                          tensor_load(&maps.k, keys + box * Ring::kBoxBytes, column, row, sequence, full);
                          tensor_load(&maps.v, values + box * Ring::kBoxBytes, column, row, sequence, full);
                      }
                  });
    } else {
        take_registers<kAttendingRegisters>();
        const int first = chunk * kBoxRows + attending_row(); // of the warp's queries
        const uint16_t *q = a.q + static_cast<int64_t>(sequence) * a.queries * a.q_stride + head * kWidth;
        uint16_t *y = a.y + static_cast<int64_t>(sequence) * a.queries * a.y_stride + head * kWidth;
        Queries<kWidth, 1> queries;
        load_queries(queries, [&](int tile, int half, int column) {
            int row = first + row_of(tile, half);
            return row < a.queries ? load_pair(q + row * a.q_stride + column) : 0u;
        });
        Rows<kWidth, 1> rows;
        rows.start();
        RingPlace place = {0, 0};
        attend_ring(
            ring, place, blocks, queries, a.factor, [](int, unsigned char *) {},
            [&](int at) { return a.keys - at * Ring::kKeys < Ring::kKeys; },
            [&](int at, int) { return a.keys - at * Ring::kKeys; }, rows);
        store_rows(rows, kWidth, [&](int tile, int half) -> uint16_t * {
            int row = first + row_of(tile, half);
            return row < a.queries ? y + row * a.y_stride : nullptr;
        });
    }
#endif
}

template <int kWidth> bool run(gp_backend *backend, const gp_attention *attention) {
    uint64_t planes = static_cast<uint64_t>(attention->sequences),
             keys = static_cast<uint64_t>(attention->keys);
    uint64_t stride = static_cast<uint64_t>(attention->kv_stride);
    uint64_t columns = static_cast<uint64_t>(attention->heads) * kWidth;
    KeyMaps maps = {};
    if (!encode_planes(&maps.k, attention->k, planes, keys, columns, keys * stride, stride,
                       KeyRing<kWidth>::kKeys) ||
        !encode_planes(&maps.v, attention->v, planes, keys, columns, keys * stride, stride,
                       KeyRing<kWidth>::kKeys))
        return false;
    BoxedSequences a = {bits_of(attention->q),
                        attention->q_stride,
                        attention->y_stride,
                        static_cast<int>(attention->queries),
                        static_cast<int>(attention->keys),
                        attention->heads,
                        static_cast<int>(blocks_for(attention->queries, kBoxRows)),
                        attention->scale * kLog2e,
                        bits_of(attention->y)};
    unsigned grid = static_cast<unsigned>(attention->sequences * a.heads * a.chunks);
    GP_RUN_EARLY(backend, (attend_boxes<kWidth>), grid, kBoxThreads, KeyRing<kWidth>::kBytes, a, maps);
    return true;
}

} // namespace

bool attention_hopper(gp_backend *backend, const gp_attention *attention) {
    if (attention->queries <= kFewRows) return false;
    if (attention->head_dim == 64) return run<64>(backend, attention);
    return attention->head_dim == 128 && run<128>(backend, attention);
}

} // namespace gp_cuda
