/**
 * linear and linear_swiglu: which product serves. Decoding steps go to gemm_decode, those of more rows to
 * gemm_batch; the rest to gemm_hopper where the GPU and the shape allow it, else to gemm. A low-rank addition
 * first has its s = x Aᵀ made, by the same product, on the tiles that have image rows. Packed QKV goes to the
 * products that end as gp_rope_append says, once for as many sequences as a launch takes, or to a product and
 * rope_append.
 */
#include "kernels/cuda/gemm.h"

namespace gp_cuda {

/** Whether `count` neighbouring columns, at multiples of that, can be accessed at once. */
static bool groups_fit(const void *base, int64_t stride, size_t element, int count) {
    return base == nullptr ||
           (reinterpret_cast<uintptr_t>(base) % (static_cast<size_t>(count) * element) == 0 &&
            stride % count == 0);
}

static bool groups_fit(const Gemm &product, int count) {
    return groups_fit(product.y, product.y_stride, 4, count) &&
           groups_fit(product.y_operand, product.y_stride, 2, count) &&
           groups_fit(product.residual, product.residual_stride, 4, count);
}

static void multiply(gp_backend *backend, Gemm &product, bool swiglu, bool decode) {
    if (product.rows <= 0) return;
    product.pairs = groups_fit(product, 2);
    product.quads = product.columns % 4 == 0 && groups_fit(product, 4) && groups_fit(product.bias, 0, 4, 4);
    product.octets = product.quads && product.columns % 8 == 0 && product.y == nullptr &&
                     product.residual == nullptr && !product.image_rows_alone &&
                     groups_fit(product.y_operand, product.y_stride, 2, 8);
    if (decode && product.rows > kFewRows && product.image_row == nullptr)
        gemm_batch(backend, product, swiglu);
    else if (decode)
        gemm_decode(backend, product, swiglu);
    else if (!of(backend).hopper || !gemm_hopper(backend, product, swiglu))
        gemm(backend, product, swiglu);
}

/** Rows of the largest tiles: s is made of those alone that have image rows. */
constexpr int64_t kTileRows = 128;

/** The packed product of the rows of kSequences sequences at a time, with its end; false where none serves.
 * Its rows begin where a tile of s begins, so that no tile reads rows of s that nobody wrote. */
static bool multiply_qkv(gp_backend *backend, const Gemm &product, const gp_rope_append &rope) {
    bool served = true;
    for_sequences(rope.sequences, rope.sequence_count, [&](const SequenceList &list, int count) {
        QkvEnd end = {bits_of(rope.q), rope.cosine, rope.sine, rope.cache, rope.group, count, list};
        int64_t first = product.rows, last = 0;
        for (int i = 0; i < count; i++) {
            if (list.at[i].rows <= 0) continue;
            const int64_t begin = list.at[i].first_row, behind = begin + list.at[i].rows;
            first = begin < first ? begin : first;
            last = behind > last ? behind : last;
        }
        if (!served || first >= last) return;
        first -= first % kTileRows;
        for (int i = 0; i < count; i++) end.sequences.at[i].first_row -= static_cast<int32_t>(first);
        end.q += first * rope.cache.kv_heads * rope.group * rope.cache.head_dim;
        Gemm part = product;
        part.rows = last - first;
        part.x += first * part.x_stride;
        if (part.weight[0].s != nullptr) part.weight[0].s += first * part.weight[0].s_stride;
        if (part.image_row != nullptr) part.image_row += first;
        served = of(backend).hopper ? gemm_hopper_qkv(backend, part, end) : gemm_qkv(backend, part, end);
    });
    return served;
}

/** The weight with its addition, whose s is computed here. */
static Weight prepare(gp_backend *backend, const Gemm &product, const gp_matrix &weight,
                      const gp_partial_lora *lora, bool decode) {
    Weight ready = {static_cast<const uint16_t *>(weight.data), weight.stride, nullptr, 0, nullptr, 0, 0};
    if (lora == nullptr) return ready;
    Gemm s = {};
    s.x = product.x;
    s.rows = product.rows;
    s.x_stride = product.x_stride;
    s.depth = product.depth;
    s.columns = static_cast<int>(lora->a.rows);
    s.weight[0].w = static_cast<const uint16_t *>(lora->a.data);
    s.weight[0].w_stride = lora->a.stride;
    s.image_row = lora->image_row;
    s.image_rows_alone = true;
    s.y_operand = bits_of(lora->scratch);
    s.y_stride = gp_operand_width(lora->a.rows);
    multiply(backend, s, false, decode);
    ready.s = s.y_operand;
    ready.s_stride = s.y_stride;
    ready.b = static_cast<const uint16_t *>(lora->b.data);
    ready.b_stride = lora->b.stride;
    ready.rank = s.columns;
    return ready;
}

void linear(gp_backend *backend, const gp_linear *linear) {
    Gemm product = {};
    product.x = bits_of(linear->x);
    product.rows = linear->rows;
    product.x_stride = linear->x_stride != 0 ? linear->x_stride : linear->weight.columns;
    product.depth = static_cast<int>(linear->weight.columns);
    product.columns = static_cast<int>(linear->weight.rows);
    product.weight[0] = prepare(backend, product, linear->weight, linear->lora, linear->decode);
    product.image_row = linear->lora != nullptr ? linear->lora->image_row : nullptr;
    product.bias = linear->bias;
    product.activation = linear->activation;
    product.residual = linear->residual;
    product.residual_stride = linear->residual_stride != 0 ? linear->residual_stride : linear->weight.rows;
    product.y = linear->y;
    product.y_operand = bits_of(linear->y_operand);
    product.y_stride = linear->y_stride != 0 ? linear->y_stride : linear->weight.rows;
    if (linear->rope == nullptr) return multiply(backend, product, false, linear->decode);
    if (multiply_qkv(backend, product, *linear->rope)) return;
    product.y_operand = bits_of(linear->rope->qkv);
    multiply(backend, product, false, false);
    rope_append(backend, linear->rope);
}

void linear_swiglu(gp_backend *backend, const gp_linear_swiglu *linear) {
    Gemm product = {};
    product.x = bits_of(linear->x);
    product.rows = linear->rows;
    product.x_stride = linear->w1.columns;
    product.depth = static_cast<int>(linear->w1.columns);
    product.columns = static_cast<int>(linear->w1.rows);
    product.weight[0] = prepare(backend, product, linear->w1, linear->lora1, linear->decode);
    product.weight[1] = prepare(backend, product, linear->w3, linear->lora3, linear->decode);
    product.image_row = linear->lora1 != nullptr ? linear->lora1->image_row : nullptr;
    product.y_operand = bits_of(linear->y);
    product.y_stride = linear->w1.rows;
    multiply(backend, product, true, linear->decode);
}

} // namespace gp_cuda
