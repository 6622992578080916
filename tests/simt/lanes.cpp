/** What the twins of the warp's instructions do: shuffles, votes, ldmatrix, mma; wide accesses and atomics.
 */
#include "tests/simt/twin/ptx/matrix.cuh"
#include "tests/simt/twin/ptx/memory.cuh"

namespace simt {

dim3 thread_index() {
    return dim3(self->index.x, self->index.y, self->index.z);
}
dim3 block_number() {
    Index index = block_index();
    return dim3(index.x, index.y, index.z);
}
dim3 block_size() {
    return dim3(running().block.x, running().block.y, running().block.z);
}
dim3 grid_size() {
    return dim3(running().grid.x, running().grid.y, running().grid.z);
}
unsigned lane() {
    return self->id % kWarp;
}

struct Exchange {
    uint32_t value, result;
    unsigned from;
    Place place;
};

uint32_t exchange(const char *kind, uint32_t mask, uint32_t value, unsigned from, Place here) {
    Exchange own{value, 0, from, here};
    meet(kind, here, mask, &own, [](void *const arguments[kWarp], uint32_t lanes) {
        for (unsigned i = 0; i < kWarp; i++) {
            if ((lanes >> i & 1) == 0) continue;
            auto *each = (Exchange *)arguments[i];
            if ((lanes >> each->from & 1) == 0)
                fail("shuffle at %s:%d: lane %u reads lane %u, which is not in the mask %08x",
                     each->place.file, each->place.line, i, each->from, lanes);
            each->result = ((const Exchange *)arguments[each->from])->value;
        }
    });
    return own.result;
}

struct Vote {
    bool predicate;
    uint32_t result;
};

uint32_t ballot(uint32_t mask, bool predicate, Place here) {
    Vote own{predicate, 0};
    meet("vote", here, mask, &own, [](void *const arguments[kWarp], uint32_t lanes) {
        uint32_t all = 0;
        for (unsigned i = 0; i < kWarp; i++)
            if ((lanes >> i & 1) != 0 && ((const Vote *)arguments[i])->predicate) all |= 1u << i;
        for (unsigned i = 0; i < kWarp; i++)
            if ((lanes >> i & 1) != 0) ((Vote *)arguments[i])->result = all;
    });
    return own.result;
}

struct Tiles {
    uint32_t *tiles;
    uint16_t row[8];
};

void load_tiles(uint32_t *tiles, const void *row, bool transposed, Place here) {
    Tiles own{tiles, {}};
    unsigned char *bytes = shared_pointer(shared_address(row, 16, here), 16, 16, "ldmatrix", here);
    check_access(bytes, 16, 16, Access::Read, here);
    memcpy(own.row, bytes, 16);
    if (transposed)
        meet("ldmatrix.trans", here, 0xFFFFFFFFu, &own, [](void *const arguments[kWarp], uint32_t) {
            for (unsigned i = 0; i < kWarp; i++)
                for (unsigned tile = 0; tile < 4; tile++) {
                    uint16_t low = ((const Tiles *)arguments[8 * tile + i % 4 * 2])->row[i / 4];
                    uint16_t high = ((const Tiles *)arguments[8 * tile + i % 4 * 2 + 1])->row[i / 4];
                    ((Tiles *)arguments[i])->tiles[tile] = (uint32_t)low | (uint32_t)high << 16;
                }
        });
    else
        meet("ldmatrix", here, 0xFFFFFFFFu, &own, [](void *const arguments[kWarp], uint32_t) {
            for (unsigned i = 0; i < kWarp; i++)
                for (unsigned tile = 0; tile < 4; tile++) {
                    const uint16_t *pair = ((const Tiles *)arguments[8 * tile + i / 4])->row + i % 4 * 2;
                    ((Tiles *)arguments[i])->tiles[tile] = (uint32_t)pair[0] | (uint32_t)pair[1] << 16;
                }
        });
}

struct Product {
    float *d;
    const uint32_t *a;
    uint32_t b[2];
};

void multiply(float *d, const uint32_t *a, uint32_t b0, uint32_t b1, Place here) {
    Product own{d, a, {b0, b1}};
    meet("mma", here, 0xFFFFFFFFu, &own, [](void *const arguments[kWarp], uint32_t lanes) {
        if (lanes != 0xFFFFFFFFu) fail("mma: a warp of fewer than 32 threads");
        uint32_t registers[kWarp][4];
        float left[16][16], right[16][8];
        double sum[16][8] = {};
        for (unsigned i = 0; i < kWarp; i++) {
            auto *each = (const Product *)arguments[i];
            memcpy(registers[i], each->a, sizeof registers[i]);
            for (unsigned part = 0; part < 2; part++)
                for (unsigned half = 0; half < 2; half++)
                    right[part * 8 + i % 4 * 2 + half][i / 4] =
                        from_bf16((uint16_t)(each->b[part] >> 16 * half));
        }
        unpack_a(registers, left);
        for (unsigned row = 0; row < 16; row++)
            for (unsigned k = 0; k < 16; k++)
                for (unsigned column = 0; column < 8; column++)
                    sum[row][column] += (double)left[row][k] * (double)right[k][column];
        for (unsigned i = 0; i < kWarp; i++) {
            auto *each = (Product *)arguments[i];
            for (unsigned j = 0; j < 4; j++) each->d[j] += (float)sum[i / 4 + j / 2 * 8][i % 4 * 2 + j % 2];
        }
    });
}

void load_wide(void *value, const void *source, Place here) {
    check_access(source, 16, 16, Access::Read, here);
    memcpy(value, source, 16);
}

void store_wide(void *target, const void *value, Place here) {
    check_access(target, 16, 16, Access::Write, here);
    memcpy(target, value, 16);
}

} // namespace simt
