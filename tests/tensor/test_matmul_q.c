/* The quantised product: the C reference against double precision within a bound counted from its roundings (not their
 * strict worst case: they do not all point one way, see check_reference), every CPU level against the C reference bit for
 * bit. `--bench [type]` times the same calls. */
#include "quants.h"

#include <time.h>

typedef void put_fn(pn_acts *a, uint32_t col, const float *x);
typedef struct level { const char *name; pn_matmul_fn *matmul; put_fn *put; } level;

/* Level 0 is the reference. */
static size_t levels_here(level out[3])
{
    size_t n = 0;
    out[n++] = (level){"c", pn_matmul_q_c, pn_acts_put_q_c};
#if defined(__x86_64__)
    const uint32_t cpu = pn_cpu_flags();
    if (cpu & PN_CPU_AVX2) out[n++] = (level){"avx2", pn_matmul_q_avx2, pn_acts_put_q_avx2};
    if (cpu & PN_CPU_AVX512VNNI) out[n++] = (level){"avx512vnni", pn_matmul_q_avx512vnni, pn_acts_put_q_avx512};
#endif
    return n;
}

/* One random problem. */
typedef struct problem {
    pn_matrix raw, packed;
    pn_acts x;
    uint8_t *rows, *panels, *act_memory, *scratch;
} problem;

static void *aligned(size_t n)
{
    void *p = aligned_alloc(64, (n + 63) / 64 * 64 + 64);
    assert_non_null(p);
    return p;
}

static void problem_new(problem *p, pn_type t, uint32_t rows, size_t k, uint32_t cols, uint64_t seed)
{
    size_t row, panel = pn_panel_bytes(t, k);
    uint32_t n_panels = (rows + 15) / 16;
    assert_true(pn_row_bytes(t, k, &row));
    p->rows = aligned(row * rows);
    p->panels = aligned(panel * n_panels);
    p->scratch = aligned(PN_SCRATCH_PACK);
    memset(p->scratch + PN_SCRATCH_PACK, 0x5a, 64);
    rnd_blocks(t, p->rows, rows * k / pn_type_block(t), &seed);
    for (uint32_t i = 0; i < n_panels; i++)
        pn_pack_panel(t, p->rows + i * 16 * row, row, PN_MIN(16u, rows - 16 * i), k, p->panels + i * panel);
    p->raw = p->packed = (pn_matrix){.type = t, .rows = rows, .k = k, .raw = p->rows, .row_stride = row};
    p->packed.packed = p->panels;
    p->act_memory = malloc(pn_acts_bytes(k, cols, true));
    pn_acts_bind(&p->x, k, cols, true, p->act_memory);
    float *x = malloc(k * 4);
    for (uint32_t c = 0; c < cols; c++) {
        float scale = c % 5 == 4 ? 0 : c % 3 == 2 ? 1e4f : 1;
        for (size_t i = 0; i < k; i++)
            x[i] = rnd_float(&seed) * scale;
        pn_acts_put_q_c(&p->x, c, x);
    }
    free(x);
}

static void problem_free(problem *p)
{
    for (int i = 0; i < 64; i++)
        assert_int_equal(p->scratch[PN_SCRATCH_PACK + i], 0x5a);
    free(p->rows);
    free(p->panels);
    free(p->act_memory);
    free(p->scratch);
}

/* Exact sum of dequantised weight times dequantised activation, and the sum of magnitudes the error scales with. */
static double exact(const problem *p, uint32_t row, uint32_t col, double *magnitude)
{
    const pn_matrix *m = &p->raw;
    const pn_q_layout *l = pn_q_layout_of(m->type);
    double sum = 0;
    *magnitude = 0;
    for (size_t b = 0; b < m->k / 32; b++) {
        size_t per = l->block / 32u, at = b * p->x.cap + col;
        pn_q_part part;
        pn_q_scales s;
        float w[32];
        pn_q_decode(m->type, (const uint8_t *)m->raw + row * m->row_stride + b / per * l->file_bytes, (uint32_t)(b % per),
                    &part);
        pn_q_scales_of(m->type, part.sub, &s);
        pn_q_part_floats(m->type, &part, w);
        for (int i = 0; i < 32; i++) {
            double x = (double)p->x.q[32 * at + (size_t)i] * (double)p->x.d[2 * at + (size_t)i / 16];
            double min = fabs((double)pn_f16_to_f32(part.m) * s.mn[i / 16]);
            sum += (double)w[i] * x;
            *magnitude += (fabs((double)w[i]) + 2 * min) * fabs(x);
        }
    }
    return sum;
}

/* A block's products take at most three roundings, a dequantised weight three, the chain one a block and one more for each
 * minimum or second scale; each is at most 2^-24 of something no larger than `magnitude`. They do not all point one way:
 * one a block and eight is enough for all of them. */
static void check_reference(pn_type t, uint32_t rows, size_t k, uint32_t cols, uint64_t seed)
{
    problem p;
    problem_new(&p, t, rows, k, cols, seed);
    float *y = calloc((size_t)rows * cols, 4);
    pn_matmul_q_c(&p.packed, 0, (rows + 15) / 16, &p.x, 0, cols, y, rows, p.scratch);
    for (uint32_t c = 0; c < cols; c++)
        for (uint32_t r = 0; r < rows; r++) {
            double size, want = exact(&p, r, c, &size), got = (double)y[(size_t)c * rows + r];
            if (!(fabs(got - want) <= ((double)k / 32 + 8) * 0x1p-24 * size))
                fail_msg("%s rows %u k %zu cols %u seed %d: [%u][%u] is %.9g, not %.9g", pn_type_name(t), rows, k, cols,
                         (int)seed, c, r, got, want);
        }
    free(y);
    problem_free(&p);
}

static void test_reference(void **state)
{
    for (size_t i = 0; i < PN_COUNT(block_types); i++) {
        check_reference(block_types[i], 33, 512, 5, 100 + i);
        check_reference(block_types[i], 7, pn_type_block(block_types[i]), 3, 200 + i);
    }
}

typedef struct shape { uint32_t rows, panel0, panel1, cap, col0, col1; size_t k; uint32_t y_off, y_pad; } shape;

/* Runs one level into a guarded, oddly aligned y and compares every float of it, untouched ones included. */
static void check_level(const level *v, const problem *p, const pn_matrix *m, const shape *s, const float *want, float *y,
                        size_t n, const char *form, uint64_t seed)
{
    memset(y, 0x7b, n * 4);
    size_t stride = s->rows + s->y_pad;
    v->matmul(m, s->panel0, s->panel1, &p->x, s->col0, s->col1, y + s->y_off, stride, p->scratch);
    for (size_t i = 0; i < n; i++)
        if (memcmp(y + i, want + i, 4))
            fail_msg("%s %s %s seed %d: rows %u panels %u..%u k %zu cap %u columns %u..%u y offset %u pad %u: y[%zu] (column "
                     "%zu row %zu) is %.9g, not %.9g", v->name, form, pn_type_name(m->type), (int)seed, s->rows, s->panel0,
                     s->panel1, s->k, s->cap, s->col0, s->col1, s->y_off, s->y_pad, i, (i - s->y_off) / stride,
                     (i - s->y_off) % stride, (double)y[i], (double)want[i]);
}

/* The reference computes one row and column at a time here, so that a fault in the walk shows too. */
static void check_shape(pn_type t, const shape *s, uint64_t seed)
{
    problem p;
    level v[3];
    size_t n_levels = levels_here(v), stride = s->rows + s->y_pad, n = stride * s->cap + s->y_off + 40;
    problem_new(&p, t, s->rows, s->k, s->cap, seed);
    float *want = malloc(n * 4), *y = malloc(n * 4);
    memset(want, 0x7b, n * 4);
    for (uint32_t c = s->col0; c < s->col1; c++)
        for (uint32_t b = s->panel0; b < s->panel1; b++)
            pn_matmul_q_c(&p.packed, b, b + 1, &p.x, c, c + 1, want + s->y_off, stride, p.scratch);
    for (size_t i = 0; i < n_levels; i++) {
        check_level(&v[i], &p, &p.packed, s, want, y, n, "packed", seed);
        check_level(&v[i], &p, &p.raw, s, want, y, n, "raw", seed);
    }
    free(want);
    free(y);
    problem_free(&p);
}

static void test_levels(void **state)
{
    for (size_t i = 0; i < PN_COUNT(block_types); i++) {
        pn_type t = block_types[i];
        uint32_t block = pn_type_block(t);
        for (uint32_t cols = 1; cols <= 33; cols++) {
            shape s = {1 + cols * 5 % 67, 0, 0, cols, 0, cols, block * (1 + cols % 3), cols % 4, cols % 7};
            s.panel1 = (s.rows + 15) / 16;
            check_shape(t, &s, 1000 * i + cols);
        }
        check_shape(t, &(shape){50, 0, 4, 100, 0, 100, block, 1, 3}, 7000 + i);
        check_shape(t, &(shape){100, 2, 5, 20, 7, 19, 2 * block, 3, 1}, 7100 + i);
        check_shape(t, &(shape){100, 1, 7, 20, 19, 20, 2 * block, 0, 0}, 7200 + i);
        check_shape(t, &(shape){17, 0, 2, 3, 0, 3, 14848, 0, 0}, 7300 + i); /* more than one raw piece of K */
        check_shape(t, &(shape){16, 0, 1, 515, 0, 515, block, 0, 0}, 7400 + i);
        check_shape(t, &(shape){16, 0, 1, 4, 2, 2, block, 0, 0}, 7500 + i); /* no columns */
        check_shape(t, &(shape){33, 0, 3, 66, 0, 66, 4096, 0, 2}, 7600 + i); /* long columns, more than meet the panels at once */
    }
}

static void fill_column(float *x, size_t k, uint32_t kind, uint64_t *s)
{
    for (size_t i = 0; i < k; i++) {
        float v = rnd_float(s);
        x[i] = kind == 0 ? v : kind == 1 ? 0 : kind == 2 ? v * 1e-38f : kind == 3 ? v * 3e38f :
               kind == 4 ? (float)((int)(v * 255) / 2) * 0.5f : v * 1e-41f;
    }
    if (kind == 4)
        for (size_t i = 0; i < k; i += 16)
            x[i] = 63.5f; /* id is 2: halves appear exactly */
    if (kind == 6) {
        x[k / 2] = NAN;
        x[k / 3] = INFINITY;
    }
}

static void check_put(size_t k, uint32_t cap, uint64_t seed)
{
    level v[3];
    size_t n_levels = levels_here(v), bytes = pn_acts_bytes(k, cap, true);
    uint8_t *want = aligned(bytes), *got = aligned(bytes);
    float *x = malloc(k * 4 + 4);
    for (size_t i = 0; i < n_levels; i++) {
        uint64_t s = seed;
        pn_acts a;
        memset(got, 0x11, bytes + 64);
        pn_acts_bind(&a, k, cap, true, got);
        for (uint32_t c = 0; c < cap; c += 1 + c % 2) {
            fill_column(x + 1, k, c % 7, &s);
            v[i].put(&a, c, x + 1);
        }
        if (i == 0)
            memcpy(want, got, bytes + 64);
        else if (memcmp(want, got, bytes + 64))
            fail_msg("%s: activations differ, k %zu cap %u seed %d", v[i].name, k, cap, (int)seed);
    }
    free(want);
    free(got);
    free(x);
}

static void test_put(void **state)
{
    for (uint64_t seed = 1; seed <= 10; seed++) {
        check_put(32, 9, seed);
        check_put(32 * seed, 20, seed + 50);
    }
    /* The definition on numbers that need no rounding, and a tie. */
    float x[32] = {[3] = 63.5f, [4] = -63.5f, [5] = 0.25f, [6] = 0.75f, [20] = 31.75f, [21] = -10.125f};
    uint8_t memory[256];
    pn_acts a;
    pn_acts_bind(&a, 32, 1, true, memory);
    pn_acts_put_q_c(&a, 0, x);
    assert_true(a.d[0] == 0.5f);
    assert_true(a.d[1] == 0.25f);
    assert_int_equal(a.q[3], 127);
    assert_int_equal(a.q[4], -127);
    assert_int_equal(a.q[5], 0);
    assert_int_equal(a.q[6], 2);
    assert_int_equal(a.q[20], 127);
    assert_int_equal(a.q[21], -40);
    assert_int_equal(a.s[0], 2);
    assert_int_equal(a.s[1], 87);
}

/* ---- bench ---------------------------------------------------------------------- */
/* Processor time: the machine may be shared. */
static double cpu_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double seconds(const level *v, const problem *p, uint32_t panels, uint32_t cols, float *y)
{
    double best = 1e30;
    double end = cpu_now() + 0.3;
    for (int run = 0; run < 4 || cpu_now() < end; run++) {
        double t0 = cpu_now();
        v->matmul(&p->packed, 0, panels, &p->x, 0, cols, y, p->packed.rows, p->scratch);
        best = fmin(best, cpu_now() - t0);
    }
    return best;
}

static void bench_type(pn_type t, size_t mb)
{
    static const uint32_t columns[] = {1, 2, 4, 8, 16, 32, 64, 512};
    level v[3];
    size_t n_levels = levels_here(v), k = 4096, panel = pn_panel_bytes(t, k), row;
    uint32_t panels = (uint32_t)((mb << 20) / panel);
    problem p;
    pn_row_bytes(t, k, &row);
    problem_new(&p, t, panels * 16, k, 512, 1);
    float *y = malloc((size_t)panels * 16 * 512 * 4);
    memset(y, 0, (size_t)panels * 16 * 512 * 4);
    printf("%s: %u x %zu, packed / file %.4f\n", pn_type_name(t), panels * 16, k, (double)panel / (double)(row * 16));
    for (size_t i = n_levels; i-- > 0;) {
        uint32_t use = i ? panels : PN_MIN(panels, 4u);
        printf("  %-10s", v[i].name);
        for (size_t c = 0; c < PN_COUNT(columns); c++) {
            uint32_t some = PN_MAX(PN_MIN(use, 4u), use / columns[c]);
            double s = seconds(&v[i], &p, some, columns[c], y);
            printf("  %u: %.0f GOP/s %.1f GB/s", columns[c], 2e-9 * some * 16 * (double)k * columns[c] / s,
                   1e-9 * some * (double)panel / s);
        }
        printf("\n");
    }
    const uint32_t cpu[] = {0, pn_cpu_flags()};
    for (size_t i = 0; i < PN_COUNT(cpu); i++) {
        pn_kernels kernels;
        pn_kernels_init(&kernels, cpu[i]);
        double t0 = cpu_now();
        for (uint32_t j = 0; j < 32; j++)
            kernels.pack(t, p.rows + j * 16 * row, row, 16, k, p.panels);
        double s = cpu_now() - t0;
        printf("  pack %.2f GB/s of file%s\n", 32e-9 * 16 * (double)row / s, i ? "" : " (c)");
    }
    free(y);
    problem_free(&p);
}

static int bench(int argc, char **argv)
{
    for (size_t i = 0; i < PN_COUNT(block_types); i++)
        if (argc < 3 || !strcmp(argv[2], pn_type_name(block_types[i])))
            bench_type(block_types[i], argc > 3 ? (size_t)atoi(argv[3]) : 96);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference), cmocka_unit_test(test_levels), cmocka_unit_test(test_put),
    };
    if (argc > 1 && !strcmp(argv[1], "--bench"))
        return bench(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
