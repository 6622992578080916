/**
 * A linear that ends as gp_rope_append says, against float64, on every kind of backend: sequences that begin
 * anywhere in their pages, more of them than a launch takes, heads that tiles have and heads that they have
 * not, with partial LoRA and without. A sequence gives the bits that it gives alone and in pieces, and
 * nothing else is written.
 *
 * Tolerance: a number that is turned has the errors of both sums (products.h), times cos and sin, and three
 * roundings of its own; the sums may have been rounded to operands before, and the result is one where
 * operands are bf16.
 */
#include "tests/unit/kernels/products.h"

/* MANY sequences are more than a launch takes. */
enum { SEQUENCE_PAGES = 4, TABLE = SEQUENCE_PAGES * GP_PAGE_TOKENS, MANY = 70 };

typedef struct qkv_case {
    int kv_heads, group, dim, sequence_count;
    int64_t rows, columns, depth;
    gp_sequence sequences[MANY];         /* their pages: indices in `list` */
    int32_t list[MANY * SEQUENCE_PAGES]; /* each page once */
    const float *cosine, *sine;          /* [TABLE, dim/2] */
    const float *x;                      /* [rows, depth] */
    gp_matrix host_weight;
    lora_case lora;
    const uint8_t *image_row; /* NULL: no addition */
} qkv_case;

/** Sequences in an order of chance, which begin anywhere in their pages, with rows of none between them, and
 * some before. */
static qkv_case make_qkv(uint64_t *seed, gp_backend *kind, int kv_heads, int group, int dim,
                         int sequence_count, int longest, int rows_before) {
    qkv_case c = {.kv_heads = kv_heads,
                  .group = group,
                  .dim = dim,
                  .sequence_count = sequence_count,
                  .rows = rows_before,
                  .columns = (int64_t)kv_heads * (group + 2) * dim,
                  .depth = width_for(kind, random_between(seed, 1, 150))};
    for (int i = 0; i < sequence_count; i++) {
        int rows = random_between(seed, 1, longest), row = (int)c.rows + random_between(seed, 0, 2);
        c.sequences[i] = (gp_sequence){row, rows, random_between(seed, 0, TABLE - rows), NULL};
        c.rows = row + rows;
    }
    c.rows += random_between(seed, 0, 2);
    for (int i = sequence_count - 1; i > 0; i--) {
        int other = random_between(seed, 0, i);
        gp_sequence swapped = c.sequences[i];
        c.sequences[i] = c.sequences[other];
        c.sequences[other] = swapped;
    }
    for (int i = 0; i < sequence_count * SEQUENCE_PAGES; i++)
        c.list[i] = i * 283 % (sequence_count * SEQUENCE_PAGES); /* a prime above all of them */
    float *cosine = random_floats(seed, (int64_t)TABLE * dim / 2, 0),
          *sine = random_floats(seed, (int64_t)TABLE * dim / 2, 0);
    for (int i = 0; i < TABLE * dim / 2; i++) {
        double angle = 3 * random_float(seed);
        cosine[i] = (float)cos(angle);
        sine[i] = (float)sin(angle);
    }
    c.cosine = cosine;
    c.sine = sine;
    c.x = random_operands(seed, kind, c.rows * c.depth, 2);
    gp_dtype dtype = (gp_dtype)random_between(seed, 0, 2);
    c.host_weight = random_matrix(seed, dtype, c.columns, c.depth);
    c.lora = make_lora(seed, kind, dtype, c.depth, c.columns);
    c.image_row = flip(seed) ? random_rows(seed, c.rows) : NULL;
    if (rows_before > 0) { /* the tile in which rows begin has none of the image, all others have */
        uint8_t *image_row = host_memory((size_t)c.rows);
        for (int64_t i = 0; i < c.rows; i++) image_row[i] = i / 128 > rows_before / 128;
        c.image_row = image_row;
    }
    return c;
}

static size_t qkv_page_bytes(const gp_backend *backend, const qkv_case *c) {
    return backend->ops->kv_page_bytes(c->kv_heads, c->dim);
}

/** What a run left: q [rows, kv_heads·group, dim] and all pages, as f32 in host memory. */
typedef struct qkv_outputs {
    const float *q, *pages;
} qkv_outputs;

/** Where a page keeps a number of a position's key (part 0) or value (1): on the CPU a head's keys are [dim,
 * tokens] and its values' rows padded to 16, elsewhere both are [tokens, dim]. */
static int64_t stored_at(const gp_backend *backend, const qkv_case *c, int64_t page, int head, int part,
                         int slot, int d) {
    bool cpu = backend->operand == GP_DTYPE_F32;
    int64_t key_size = (int64_t)GP_PAGE_TOKENS * c->dim, row = cpu ? (c->dim + 15) / 16 * 16 : c->dim;
    int64_t at = (page * c->kv_heads + head) * (key_size + GP_PAGE_TOKENS * row);
    if (part == 0) return at + (cpu ? d * GP_PAGE_TOKENS + slot : slot * c->dim + d);
    return at + key_size + slot * row + d;
}

/** All sequences in one call, or each in a call for its own rows alone, cut in two. */
static qkv_outputs run_qkv(uint64_t *seed, gp_backend *backend, const qkv_case *c, bool together) {
    size_t cache_bytes = (size_t)(c->sequence_count * SEQUENCE_PAGES) * qkv_page_bytes(backend, c);
    int64_t q_width = (int64_t)c->kv_heads * c->group * c->dim, angles = (int64_t)TABLE * c->dim / 2;
    const int32_t *list = on_backend(backend, c->list, sizeof c->list);
    gp_operand *q = operands_on(backend, NULL, c->rows * q_width),
               *x = operands_on(backend, c->x, c->rows * c->depth);
    void *pages = on_backend(backend, NULL, cache_bytes);
    gp_sequence sequences[MANY];
    gp_partial_lora lora = {0};
    if (c->image_row != NULL) lora = place_lora(&c->lora, backend, c->rows, c->image_row);
    const uint8_t *image_row = lora.image_row;
    gp_rope_append rope = {.qkv = operands_on(backend, NULL, c->rows * c->columns),
                           .sequences = sequences,
                           .sequence_count = c->sequence_count,
                           .group = c->group,
                           .cosine = floats_on(backend, c->cosine, angles),
                           .sine = floats_on(backend, c->sine, angles),
                           .cache = {pages, c->kv_heads, c->dim},
                           .q = q};
    gp_linear linear = {.x = x,
                        .rows = c->rows,
                        .weight = place_matrix(backend, c->host_weight),
                        .lora = image_row != NULL ? &lora : NULL,
                        .rope = &rope};
    for (int i = 0; i < c->sequence_count; i++) {
        sequences[i] = c->sequences[i];
        sequences[i].pages = list + i * SEQUENCE_PAGES;
    }
    if (together) backend->ops->linear(backend, &linear);
    for (int i = 0; i < c->sequence_count && !together; i++) {
        const gp_sequence whole = sequences[i];
        const int cut = random_between(seed, 0, whole.rows);
        for (int part = 0; part < 2; part++) {
            int row = whole.first_row + part * cut;
            gp_sequence own = {0, part == 0 ? cut : whole.rows - cut, whole.first_position + part * cut,
                               whole.pages};
            if (own.rows == 0) continue;
            linear.x = gp_operand_at(backend, x, row * c->depth);
            linear.rows = own.rows;
            rope.q = gp_operand_at(backend, q, row * q_width);
            if (image_row != NULL) lora.image_row = image_row + row;
            rope.sequences = &own;
            rope.sequence_count = 1;
            backend->ops->linear(backend, &linear);
        }
    }
    return (qkv_outputs){
        operands_from(backend, q, c->rows * q_width),
        operands_from(backend, pages, (int64_t)(cache_bytes / gp_dtype_size(backend->operand)))};
}

/** One number of the product in f64, and the bound of its error. */
static double qkv_sum(const gp_backend *kind, const qkv_case *c, const double *w, int64_t row, int64_t column,
                      double *bound) {
    double magnitude = 0, sum = dot(c->x + row * c->depth, w + column * c->depth, c->depth, &magnitude);
    *bound = bound_of(kind, c->depth, magnitude);
    if (c->image_row != NULL && c->image_row[row])
        sum += lora_value(kind, &c->lora, c->x + row * c->depth, c->depth, column, bound);
    *bound += 2 * UNIT * fabs(sum);
    *bound += operand_unit(kind) * (fabs(sum) + *bound);
    return sum;
}

/** Some numbers of a row of a sequence: of each head, q's, k's and v's, one pair and more. */
static void check_qkv_row(uint64_t *seed, const gp_backend *kind, const qkv_case *c, const double *w,
                          const qkv_outputs *have, int sequence, int at) {
    const gp_sequence *own = &c->sequences[sequence];
    const int half = c->dim / 2, position = own->first_position + at, slots = c->group + 2;
    const int64_t row = own->first_row + at;
    const int64_t page = c->list[sequence * SEQUENCE_PAGES + position / GP_PAGE_TOKENS];
    for (int head = 0; head < c->kv_heads; head++)
        for (int slot = 0; slot < slots; slot++)
            for (int i = random_between(seed, 0, half - 1); i < half; i += 1 + half / 3) {
                int64_t column = ((int64_t)head * slots + slot) * c->dim + i;
                double bounds[2], a = qkv_sum(kind, c, w, row, column, &bounds[0]),
                                  b = qkv_sum(kind, c, w, row, column + half, &bounds[1]);
                double cosine = (double)c->cosine[position * half + i],
                       sine = (double)c->sine[position * half + i];
                if (slot > c->group) cosine = 1, sine = 0;
                const double want[2] = {a * cosine - b * sine, b * cosine + a * sine};
                for (int part = 0; part < 2; part++) {
                    double bound = bounds[part] * fabs(cosine) + bounds[1 - part] * fabs(sine);
                    bound += 3 * UNIT * (fabs(a) + fabs(b) + bounds[0] + bounds[1]);
                    bound += operand_unit(kind) * (fabs(want[part]) + bound);
                    int d = i + part * half;
                    double is =
                        slot < c->group
                            ? (double)have->q[((row * c->kv_heads + head) * c->group + slot) * c->dim + d]
                            : (double)have->pages[stored_at(kind, c, page, head, slot - c->group,
                                                            position % GP_PAGE_TOKENS, d)];
                    CHECK(fabs(is - want[part]) <= bound,
                          "packed qkv on %s, %d kv heads, group %d, dim %d, row %lld, head %d, slot %d, dim "
                          "%d: %.9g, not %.9g +- %.2g",
                          kind->name, c->kv_heads, c->group, c->dim, (long long)row, head, slot, d, is,
                          want[part], bound);
                }
            }
}

/** What belongs to no row of a sequence is as it was. */
static void check_qkv_others(const gp_backend *kind, const qkv_case *c, const qkv_outputs *have) {
    int64_t q_width = (int64_t)c->kv_heads * c->group * c->dim;
    bool *row_used = host_memory((size_t)c->rows),
         *slot_used = host_memory(sizeof c->list / sizeof *c->list * GP_PAGE_TOKENS);
    memset(row_used, 0, (size_t)c->rows);
    memset(slot_used, 0, sizeof c->list / sizeof *c->list * GP_PAGE_TOKENS);
    for (int i = 0; i < c->sequence_count; i++)
        for (int at = 0; at < c->sequences[i].rows; at++) {
            int position = c->sequences[i].first_position + at;
            row_used[c->sequences[i].first_row + at] = true;
            slot_used[c->list[i * SEQUENCE_PAGES + position / GP_PAGE_TOKENS] * GP_PAGE_TOKENS +
                      position % GP_PAGE_TOKENS] = true;
        }
    for (int64_t i = 0; i < c->rows * q_width; i++)
        CHECK(isnan(have->q[i]) == !row_used[i / q_width], "q of row %lld on %s: %g",
              (long long)(i / q_width), kind->name, (double)have->q[i]);
    for (int64_t slot = 0; slot < (int64_t)c->sequence_count * SEQUENCE_PAGES * GP_PAGE_TOKENS; slot++)
        for (int head = 0; head < c->kv_heads; head++)
            for (int i = 0; i < 2 * c->dim; i++) {
                float is = have->pages[stored_at(kind, c, slot / GP_PAGE_TOKENS, head, i / c->dim,
                                                 (int)(slot % GP_PAGE_TOKENS), i % c->dim)];
                CHECK(isnan(is) == !slot_used[slot], "page %lld on %s: %g",
                      (long long)(slot / GP_PAGE_TOKENS), kind->name, (double)is);
            }
}

static void test_qkv(uint64_t *seed, gp_backend **backends, int backend_count, int kv_heads, int group,
                     int dim, int sequence_count, int longest, int rows_before) {
    gp_backend *kind = backends[0];
    const qkv_case c = make_qkv(seed, kind, kv_heads, group, dim, sequence_count, longest, rows_before);
    const double *w = matrix_values(c.host_weight, place_matrix(kind, c.host_weight).dtype);
    const size_t q_bytes = (size_t)(c.rows * kv_heads * group * dim) * sizeof(float);
    const size_t page_bytes = (size_t)(sequence_count * SEQUENCE_PAGES) * qkv_page_bytes(kind, &c) /
                              gp_dtype_size(kind->operand) * sizeof(float);
    const qkv_outputs first = run_qkv(seed, kind, &c, true);
    for (int i = 0; i < 2 * backend_count; i++) { /* once more on the first, too */
        int mark = handed_out_count;
        const qkv_outputs have = run_qkv(seed, backends[i / 2], &c, i % 2 == 0);
        CHECK(memcmp(first.q, have.q, q_bytes) == 0 && memcmp(first.pages, have.pages, page_bytes) == 0,
              "packed qkv of %d kv heads, group %d, dim %d on %s, %s, differs from %s", kv_heads, group, dim,
              backends[i / 2]->name, i % 2 == 0 ? "all together" : "a sequence at a time", kind->name);
        release_memory_from(mark);
    }
    check_qkv_others(kind, &c, &first);
    for (int i = 0; i < sequence_count; i += 1 + sequence_count / 4)
        for (int at = random_between(seed, 0, 2); at < c.sequences[i].rows; at += 1 + c.sequences[i].rows / 3)
            check_qkv_row(seed, kind, &c, w, &first, i, at);
    release_memory();
}

static void test_all(uint64_t *seed, gp_backend **backends, int count) {
    /* Columns of one tile and less, of tiles of 128 and of 256 that they do not fill. */
    for (int group = 1; group <= 4; group *= 2) {
        test_qkv(seed, backends, count, random_between(seed, 1, 3), group, 64, 3, 90, 0);
        test_qkv(seed, backends, count, random_between(seed, 1, 2), group, 128, 3, 90, 0);
    }
    test_qkv(seed, backends, count, 9, 1, 64, 2, 100, 0);
    test_qkv(seed, backends, count, 4, 2, 128, 1, 200, 0);
    test_qkv(seed, backends, count, 5, 1, 128, 2, 30, 0);
    test_qkv(seed, backends, count, 1, 2, 64, MANY, 3, 0);
    /* Rows of none before, which end inside a tile. */
    test_qkv(seed, backends, count, 1, 1, 64, 1, 200, 100);
    test_qkv(seed, backends, count, 1, 1, 128, 2, 100, 200);
    static const int other_dims[] = {8, 16, 32, 72, 96};
    for (size_t i = 0; i < sizeof other_dims / sizeof *other_dims; i++)
        test_qkv(seed, backends, count, random_between(seed, 1, 3), random_between(seed, 1, 5), other_dims[i],
                 random_between(seed, 1, 4), 60, 0);
}

int main(void) {
    return run_on_backends(test_all);
}
