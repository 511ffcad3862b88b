/* Block formats: read as the reference package reads them, written within the formats' own error, packed and unpacked
 * without change. */
#include "quants.h"

static uint8_t *read_file(const char *dir, const char *name, const char *ext, size_t *n)
{
    char path[512];
    snprintf(path, sizeof path, "%s/quants/%s%s", dir, name, ext);
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("%s is missing", path);
    uint8_t *p = malloc(1 << 20);
    *n = fread(p, 1, 1 << 20, f);
    fclose(f);
    return p;
}

static void check_vectors(const char *dir, pn_type t)
{
    size_t nb, nf;
    uint8_t *raw = read_file(dir, pn_type_name(t), ".bin", &nb), *npy = read_file(dir, pn_type_name(t), ".npy", &nf);
    size_t head = 10u + npy[8] + 256u * npy[9], n = (nf - head) / 4;
    assert_int_equal(n, nb / pn_type_block_bytes(t) * pn_type_block(t));
    assert_true(n >= 90);
    float *y = malloc(n * sizeof *y);
    pn_dequantize_row(t, raw, y, n);
    for (size_t i = 0; i < n; i++)
        if (memcmp(y + i, npy + head + 4 * i, 4)) {
            float want;
            memcpy(&want, npy + head + 4 * i, 4);
            fail_msg("%s value %zu is %.9g, not %.9g", pn_type_name(t), i, (double)y[i], (double)want);
        }
    free(y);
    free(npy);
    free(raw);
}

static void test_vectors(void **state)
{
    const char *dir = getenv("PONDER_TEST_DATA");
    assert_non_null(dir);
    check_vectors(dir, PN_F16);
    check_vectors(dir, PN_BF16);
    for (size_t i = 0; i < PN_COUNT(block_types); i++)
        check_vectors(dir, block_types[i]);
}

static void test_types(void **state)
{
    size_t n;
    assert_string_equal(pn_type_name(PN_Q4_K), "Q4_K");
    assert_string_equal(pn_type_name(4), "?");
    assert_string_equal(pn_type_name(UINT32_MAX), "?");
    assert_false(pn_type_known(9));
    assert_false(pn_type_known(31));
    assert_true(pn_type_is_float(PN_BF16));
    assert_false(pn_type_is_float(PN_Q8_0));
    assert_true(pn_row_bytes(PN_Q6_K, 512, &n) && n == 420);
    assert_true(pn_row_bytes(PN_F32, 3, &n) && n == 12);
    assert_false(pn_row_bytes(PN_Q6_K, 128, &n));
    assert_false(pn_row_bytes(PN_Q4_0, 33, &n));
    assert_false(pn_row_bytes(PN_F32, UINT64_MAX / 2, &n));
    assert_false(pn_row_bytes((pn_type)77, 32, &n));
    assert_int_equal(pn_acts_bytes(SIZE_MAX / 2, 4000000000u, true), SIZE_MAX);
}

/* Largest and root-mean-square error relative to the block's amax and rms. */
static void error_of(pn_type t, uint64_t seed, double *worst, double *rms)
{
    float x[1024], y[1024];
    uint8_t q[1024 * 4];
    double e2 = 0, x2 = 0;
    *worst = 0;
    for (int i = 0; i < 1024; i++)
        x[i] = rnd_float(&seed) + rnd_float(&seed) + rnd_float(&seed); /* near normal */
    pn_quantize_row(t, x, q, 1024);
    pn_dequantize_row(t, q, y, 1024);
    for (int b = 0; b < 1024; b += 32) {
        double amax = 0;
        for (int i = b; i < b + 32; i++)
            amax = fmax(amax, fabs((double)x[i]));
        for (int i = b; i < b + 32; i++) {
            double e = fabs((double)y[i] - (double)x[i]);
            *worst = fmax(*worst, e / amax);
            e2 += e * e;
            x2 += (double)x[i] * (double)x[i];
        }
    }
    *rms = sqrt(e2 / x2);
}

/* Bounds by arithmetic. Half a step plus the half-precision scale's 2^-11 of the value. Q8_0: 1/254. Q4_0: a step is amax / 8,
 * and the far end loses a whole one. Q4_K: the range is at most 2 amax in 15 steps, with scales to 1/126 of the largest;
 * twice a step leaves room for the fit, and the rms must beat half the uniform bound step / sqrt(12) of Q4_0. */
static void test_quantize(void **state)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        double worst, rms, rms4;
        error_of(PN_F16, seed, &worst, &rms);
        assert_true(worst <= 0x1p-11);
        error_of(PN_BF16, seed, &worst, &rms);
        assert_true(worst <= 0x1p-8);
        error_of(PN_Q8_0, seed, &worst, &rms);
        assert_true(worst <= 0.5 / 127 + 0x1p-11);
        error_of(PN_Q4_0, seed, &worst, &rms4);
        assert_true(worst <= 1.0 / 8 + 0x1p-10);
        error_of(PN_Q4_K, seed, &worst, &rms);
        assert_true(worst <= 4.0 / 15);
        if (!(rms < 0.08 && rms < rms4))
            fail_msg("seed %d: Q4_K rms error %g, Q4_0 %g", (int)seed, rms, rms4);
    }
}

/* Values the format can hold come back exactly, codes included. */
static void test_quantize_exact(void **state)
{
    uint64_t seed = 5;
    uint8_t a[144 * 4], b[144 * 4];
    float x[1024], y[1024];
    for (int i = 0; i < 32; i++)
        x[i] = (float)(i * 8 - 127) * 0.5f;
    x[31] = 63.5f;
    pn_quantize_row(PN_Q8_0, x, a, 32);
    pn_dequantize_row(PN_Q8_0, a, y, 32);
    assert_memory_equal(x, y, 32 * 4);
    for (int i = 0; i < 32; i++)
        x[i] = (float)(i % 16 - 8) * 0.25f;
    pn_quantize_row(PN_Q4_0, x, a, 32);
    pn_dequantize_row(PN_Q4_0, a, y, 32);
    assert_memory_equal(x, y, 32 * 4);
    memset(x, 0, sizeof x);
    for (size_t i = 0; i < PN_COUNT(block_types); i++)
        if (pn_can_quantize(block_types[i])) {
            pn_quantize_row(block_types[i], x, a, 1024 / 4);
            pn_dequantize_row(block_types[i], a, y, 1024 / 4);
            for (int j = 0; j < 256; j++)
                assert_true(y[j] == 0);
        }
    /* Q4_K blocks read back from random ones lose little: most fits find the line again. */
    rnd_blocks(PN_Q4_K, a, 4, &seed);
    for (int i = 0; i < 4; i++) { /* positive scale and minimum, as an encoder writes them */
        a[144 * i + 1] &= 0x7f;
        a[144 * i + 3] &= 0x7f;
    }
    pn_dequantize_row(PN_Q4_K, a, x, 1024);
    pn_quantize_row(PN_Q4_K, x, b, 1024);
    pn_dequantize_row(PN_Q4_K, b, y, 1024);
    double e2 = 0, x2 = 0;
    for (int i = 0; i < 1024; i++) {
        e2 += pow((double)x[i] - (double)y[i], 2);
        x2 += pow((double)x[i], 2);
    }
    assert_true(e2 < x2 * 1e-3);
}

static void check_pack(pn_type t, size_t k, uint32_t n_rows, uint64_t seed)
{
    size_t row, panel = pn_panel_bytes(t, k);
    uint64_t s = seed;
    assert_true(pn_row_bytes(t, k, &row));
    assert_int_equal(panel % 64, 0);
    size_t stride = row + 6;
    uint8_t *raw = malloc(stride * 16), *packed = aligned_alloc(64, panel + 64);
    float *x = malloc(k * 4), *y = malloc(k * 4);
    for (uint32_t r = 0; r < n_rows; r++) {
        if (!pn_type_is_float(t))
            rnd_blocks(t, raw + r * stride, k / pn_type_block(t), &s);
        else
            for (size_t i = 0; i < row; i++)
                raw[r * stride + i] = (uint8_t)(rnd(&s) % 120); /* finite in every float type */
    }
    memset(packed, 0xa5, panel + 64);
    pn_pack_panel(t, raw, stride, n_rows, k, packed);
    for (size_t i = 0; i < 64; i++)
        assert_int_equal(packed[panel + i], 0xa5);
    for (uint32_t r = 0; r < 16; r++) {
        if (r < n_rows)
            pn_dequantize_row(t, raw + r * stride, x, k);
        pn_unpack_row(t, packed, r, k, y);
        for (size_t i = 0; i < k; i++)
            if (r < n_rows ? memcmp(x + i, y + i, 4) != 0 : y[i] != 0)
                fail_msg("%s k %zu rows %u seed %d: row %u value %zu is %g", pn_type_name(t), k, n_rows, (int)seed, r, i,
                         (double)y[i]);
    }
    free(raw);
    free(packed);
    free(x);
    free(y);
}

static void test_pack(void **state)
{
    static const pn_type floats[] = {PN_F32, PN_F16, PN_BF16};
    for (uint64_t seed = 1; seed <= 4; seed++) {
        for (size_t i = 0; i < PN_COUNT(block_types); i++) {
            uint32_t block = pn_type_block(block_types[i]);
            check_pack(block_types[i], block, 16, seed);
            check_pack(block_types[i], block * 3, (uint32_t)seed * 3, seed);
        }
        for (size_t i = 0; i < PN_COUNT(floats); i++)
            check_pack(floats[i], 7 * (size_t)seed, 17 - (uint32_t)seed * 4, seed);
    }
}

/* Rows at odd places that end where the memory does, so that a sanitizer sees what is read behind them. */
static void check_level(pn_pack_fn *pack, pn_type t, size_t k, uint32_t n_rows, uint64_t *seed)
{
    size_t row, bytes = pn_panel_bytes(t, k);
    assert_true(pn_row_bytes(t, k, &row));
    const size_t stride = row + rnd(seed) % 3, before = rnd(seed) % 4, n = before + stride * (n_rows - 1) + row;
    uint8_t *raw = malloc(n), *want = aligned_alloc(64, bytes), *got = aligned_alloc(64, bytes + 128);
    for (size_t i = 0; i < n; i++) raw[i] = (uint8_t)rnd(seed);
    memset(want, 0x3c, bytes);
    memset(got, 0xa5, bytes + 128);
    pn_pack_panel(t, raw + before, stride, n_rows, k, want);
    pack(t, raw + before, stride, n_rows, k, got + 64);
    for (size_t i = 0; i < bytes; i++)
        if (got[64 + i] != want[i]) fail_msg("%s k %zu rows %u: byte %zu is %u, not %u", pn_type_name(t), k, n_rows, i, got[64 + i], want[i]);
    for (size_t i = 0; i < 64; i++) assert_true(got[i] == 0xa5 && got[64 + bytes + i] == 0xa5);
    free(raw);
    free(want);
    free(got);
}

/* Every level packs as the reference does. */
static void test_levels(void **state)
{
    static const pn_type floats[] = {PN_F32, PN_F16, PN_BF16};
    static const uint32_t levels[] = {PN_CPU_AVX2, UINT32_MAX};
    uint64_t seed = 11;
    for (size_t l = 0; l < PN_COUNT(levels); l++) {
        pn_kernels kernels;
        pn_kernels_init(&kernels, pn_cpu_flags() & levels[l]);
        for (uint32_t rows = 1; rows <= PN_PANEL; rows++) {
            for (size_t i = 0; i < PN_COUNT(block_types); i++)
                for (size_t blocks = 1; blocks <= 4; blocks++)
                    check_level(kernels.pack, block_types[i], blocks * pn_type_block(block_types[i]), rows, &seed);
            for (size_t i = 0; i < PN_COUNT(floats); i++)
                for (size_t k = 1; k <= 35; k++) check_level(kernels.pack, floats[i], k, rows, &seed);
        }
    }
}

/* Embedding lookup: the same row from either form. */
static void test_matrix_row(void **state)
{
    for (size_t i = 0; i < PN_COUNT(block_types); i++) {
        pn_type t = block_types[i];
        size_t k = 512, row;
        uint64_t s = 99 + i;
        assert_true(pn_row_bytes(t, k, &row));
        uint8_t *raw = malloc(row * 37), *packed = aligned_alloc(64, pn_panel_bytes(t, k) * 3);
        float a[512], b[512];
        rnd_blocks(t, raw, 37 * k / pn_type_block(t), &s);
        for (uint32_t p = 0; p < 3; p++)
            pn_pack_panel(t, raw + p * 16 * row, row, p == 2 ? 5 : 16, k, packed + p * pn_panel_bytes(t, k));
        pn_matrix m = {.type = t, .rows = 37, .k = k, .raw = raw, .row_stride = row}, q = m;
        q.packed = packed;
        for (uint32_t r = 0; r < 37; r += 4) {
            pn_matrix_row(&m, r, a);
            pn_matrix_row(&q, r, b);
            assert_memory_equal(a, b, sizeof a);
        }
        free(raw);
        free(packed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types), cmocka_unit_test(test_vectors), cmocka_unit_test(test_quantize),
        cmocka_unit_test(test_quantize_exact), cmocka_unit_test(test_pack), cmocka_unit_test(test_levels), cmocka_unit_test(test_matrix_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
