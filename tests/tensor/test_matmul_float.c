/* Products with float weights: every output is the chain acc = fmaf(w[k], x[k], acc) from 0, bit for bit, at every level,
 * for every shape, packed or raw. The chain here is the C library's fmaf over exactly widened weights. */
#include "floats.h"

static const pn_type types[] = {PN_F32, PN_F16, PN_BF16};

typedef struct product {
    pn_type type;
    uint32_t rows, columns;
    size_t k, row_stride;
    char *raw;
    void *packed;
    float *w;        /* [rows][k] */
    pn_acts x;
    void *x_memory, *scratch;
} product;

static void put_value(pn_type t, char *p, float f, float *exact)
{
    uint16_t h = t == PN_F16 ? pn_f32_to_f16(f) : pn_f32_to_bf16(f);
    if (t == PN_F32) memcpy(p, &f, 4);
    else memcpy(p, &h, 2);
    *exact = t == PN_F32 ? f : t == PN_F16 ? pn_f16_to_f32(h) : pn_bf16_to_f32(h);
}

static product product_new(pn_type t, uint32_t rows, size_t k, uint32_t columns, uint64_t *s)
{
    product p = {.type = t, .rows = rows, .columns = columns, .k = k};
    const size_t bytes = t == PN_F32 ? 4 : 2, panels = (rows + 15) / 16;
    p.row_stride = k * bytes + 6; /* rows of a file need no alignment */
    p.raw = malloc(p.row_stride * rows);
    p.w = malloc(rows * k * sizeof *p.w);
    for (uint32_t r = 0; r < rows; r++)
        for (size_t i = 0; i < k; i++) put_value(t, p.raw + r * p.row_stride + i * bytes, uniform(s, -1, 1), p.w + r * k + i);
    p.packed = aligned_alloc(64, panels * pn_panel_bytes(t, k));
    for (uint32_t r = 0; r < rows; r += 16)
        pn_pack_panel(t, p.raw + r * p.row_stride, p.row_stride, PN_MIN(rows - r, 16), k,
                      (char *)p.packed + r / 16 * pn_panel_bytes(t, k));
    p.x_memory = aligned_alloc(64, pn_acts_bytes(k, columns, false));
    pn_acts_bind(&p.x, k, columns, false, p.x_memory);
    p.scratch = aligned_alloc(64, pn_scratch_bytes(64));
    return p;
}

static void product_free(product *p)
{
    free(p->raw);
    free(p->w);
    free(p->packed);
    free(p->x_memory);
    free(p->scratch);
}

static void fill_columns(product *p, const pn_kernels *k, uint64_t *s)
{
    float *x = malloc(p->k * sizeof *x);
    for (uint32_t c = 0; c < p->columns; c++) {
        fill(x, p->k, s, -1, 1);
        k->acts_put(&p->x, c, x);
        assert_memory_equal(p->x.x + c * p->x.k_stride, x, p->k * sizeof *x);
    }
    free(x);
}

static float chain(const product *p, uint32_t row, uint32_t column)
{
    float acc = 0;
    for (size_t i = 0; i < p->k; i++) acc = fmaf(p->w[row * p->k + i], p->x.x[column * p->x.k_stride + i], acc);
    return acc;
}

/* Rows of panels [panel0, panel1) and columns [col0, col1) hold the chains; all else is untouched. */
static void check(const product *p, const pn_kernels *k, const char *level, bool raw, const uint32_t part[4], const float *want)
{
    pn_matrix m = {p->type, p->rows, p->k, raw ? NULL : p->packed, p->raw, p->row_stride};
    const size_t stride = p->rows + 3, n = stride * p->columns;
    guarded y = guarded_new(n);
    k->matmul(&m, part[0], part[1], &p->x, part[2], part[3], y.p, stride, p->scratch);
    for (uint32_t c = 0; c < p->columns; c++)
        for (uint32_t r = 0; r < stride; r++) {
            bool in = r >= 16 * part[0] && r < PN_MIN(16 * part[1], p->rows) && c >= part[2] && c < part[3];
            float e = in ? want[c * p->rows + r] : 12345.0f;
            if (differs(&e, y.p + c * stride + r, 1) == 0)
                fail_msg("%s %s%s: %u rows, k %zu, panels %u..%u, columns %u..%u of %u: row %u column %u is %a, not %a",
                         pn_type_name(p->type), level, raw ? " raw" : "", p->rows, p->k, part[0], part[1], part[2], part[3],
                         p->columns, r, c, (double)y.p[c * stride + r], (double)e);
        }
    assert_true(guarded_whole(&y));
    free(y.base);
}

static void check_shape(pn_type t, uint32_t rows, size_t k, uint32_t columns, uint64_t *s)
{
    product p = product_new(t, rows, k, columns, s);
    const uint32_t panels = (rows + 15) / 16;
    const uint32_t parts[][4] = {{0, panels, 0, columns}, {panels / 2, panels, columns / 3, columns}, {0, panels, columns / 2, columns / 2 + 1}};
    float *want = malloc(sizeof *want * rows * columns);
    for (size_t l = 0; l < PN_COUNT(levels); l++) {
        if (!level_here(l)) continue;
        pn_kernels kernels;
        pn_kernels_init(&kernels, levels[l].flags);
        if (!l) {
            fill_columns(&p, &kernels, s);
            for (uint32_t c = 0; c < columns; c++)
                for (uint32_t r = 0; r < rows; r++) want[c * rows + r] = chain(&p, r, c);
        }
        for (size_t i = 0; i < PN_COUNT(parts); i++) {
            check(&p, &kernels, levels[l].name, false, parts[i], want);
            check(&p, &kernels, levels[l].name, true, parts[i], want);
        }
    }
    free(want);
    product_free(&p);
}

static void outputs_are_the_written_chain(void **state)
{
    (void)state;
    static const uint32_t rows[] = {1, 15, 16, 17, 33, 48, 70, 129};
    static const size_t ks[] = {1, 3, 16, 31, 255, 256, 257, 600};
    uint64_t s = 7;
    for (size_t t = 0; t < PN_COUNT(types); t++)
        for (size_t i = 0; i < 8; i++)
            for (uint32_t columns = 1; columns < 20; columns += columns < 9 ? 1 : 4)
                check_shape(types[t], rows[i], ks[(i * 5 + columns) % 8], columns, &s);
    check_shape(PN_F32, 40, 530, 67, &s);
    check_shape(PN_BF16, 40, 530, 67, &s);
}

static void nothing_of_k_gives_zeros(void **state)
{
    (void)state;
    float y[16];
    pn_acts x = {.cap = 1, .x = y, .k_stride = 0};
    _Alignas(64) static char none[64], scratch[1 << 18];
    pn_matrix m = {PN_F32, 16, 0, none, NULL, 0};
    for (size_t l = 0; l < PN_COUNT(levels); l++) {
        if (!level_here(l)) continue;
        pn_kernels k;
        pn_kernels_init(&k, levels[l].flags);
        for (int i = 0; i < 16; i++) y[i] = 1;
        k.matmul(&m, 0, 1, &x, 0, 1, y, 16, scratch);
        for (int i = 0; i < 16; i++) assert_true(y[i] == 0);
    }
}

/* ---- --bench ------------------------------------------------------------------------- */
typedef struct timed { const pn_kernels *k; const product *p; pn_matrix m; uint32_t columns, next, step; float *y; } timed;

/* As a step does it: a tile of some panels, then the next ones, so that weights come from memory when they are many. */
static void one_tile(void *ctx)
{
    timed *t = ctx;
    const uint32_t panels = (t->p->rows + 15) / 16, end = PN_MIN(t->next + t->step, panels);
    t->k->matmul(&t->m, t->next, end, &t->p->x, 0, t->columns, t->y, t->p->rows, t->p->scratch);
    t->next = end == panels ? 0 : end;
}

static void bench_type(pn_type type, uint32_t rows, size_t k_size, uint64_t *s)
{
    product p = product_new(type, rows, k_size, 512, s);
    timed t = {.p = &p, .m = {type, rows, k_size, p.packed, p.raw, p.row_stride}, .y = aligned_alloc(64, (size_t)rows * 512 * 4)};
    static const uint32_t columns[] = {1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 32, 512};
    for (size_t l = 1; l < PN_COUNT(levels); l++) {
        if (!level_here(l)) continue;
        pn_kernels k;
        pn_kernels_init(&k, levels[l].flags);
        fill_columns(&p, &k, s);
        for (size_t c = 0; c < PN_COUNT(columns); c++) {
            t.k = &k;
            t.columns = columns[c];
            t.step = columns[c] < 64 ? 16 : 2;
            t.next = 0;
            const double sec = bench_seconds(one_tile, &t), values = 16.0 * t.step * (double)k_size;
            printf("matmul %-4s %-6s k %5zu columns %3u: %6.1f GFLOP/s, weights %5.1f GB/s\n", pn_type_name(type), levels[l].name,
                   k_size, columns[c], 2 * values * columns[c] / sec * 1e-9, values * (type == PN_F32 ? 4 : 2) / sec * 1e-9);
        }
    }
    free(t.y);
    product_free(&p);
}

static int bench(void)
{
    uint64_t s = 1;
    for (size_t t = 0; t < PN_COUNT(types); t++) {
        bench_type(types[t], 16384, 1024, &s);
        bench_type(types[t], 8192, 4096, &s);
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "--bench")) return bench();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outputs_are_the_written_chain),
        cmocka_unit_test(nothing_of_k_gives_zeros),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
