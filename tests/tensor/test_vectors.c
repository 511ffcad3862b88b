/* Conversions, norms and element by element kernels: plain C against double precision, the other levels against plain C. */
#include "floats.h"

static const uint64_t seed = 2024;

/* ---- 16-bit floats ----------------------------------------------------------------- */
static double half_value(uint16_t h)
{
    int e = (h >> 10) & 31, m = h & 1023;
    double v = e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
    return h & 0x8000 ? -v : v;
}

static void halves_widen_exactly(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = pn_f16_to_f32((uint16_t)h);
        if ((h & 0x7c00) != 0x7c00) assert_true((double)f == half_value((uint16_t)h));
        else if (h & 0x3ff) assert_true(isnan(f));
        else assert_true(f == (h & 0x8000 ? -INFINITY : INFINITY));
        if (!isnan(f)) assert_int_equal(pn_f32_to_f16(f), h);
    }
}

static void halves_round_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7bff; h++) {
        double mid = (half_value((uint16_t)h) + half_value((uint16_t)(h + 1))) / 2;
        assert_int_equal(pn_f32_to_f16((float)mid), h + (h & 1));
        assert_int_equal(pn_f32_to_f16(nextafterf((float)mid, 0)), h);
        assert_int_equal(pn_f32_to_f16(-nextafterf((float)mid, INFINITY)), 0x8000 | (h + 1));
    }
    assert_int_equal(pn_f32_to_f16(65519.996f), 0x7bff);
    assert_int_equal(pn_f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(pn_f32_to_f16(1e30f), 0x7c00);
    assert_int_equal(pn_f32_to_f16(1e-30f), 0);
    assert_true((pn_f32_to_f16(NAN) & 0x7fff) > 0x7c00);
}

static void bfloats_round_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7f7f; h++) {
        float lo = pn_bf16_to_f32((uint16_t)h), hi = pn_bf16_to_f32((uint16_t)(h + 1));
        float mid = (float)(((double)lo + (double)hi) / 2);
        assert_int_equal(pn_f32_to_bf16(lo), h);
        assert_int_equal(pn_f32_to_bf16(mid), h + (h & 1));
        assert_int_equal(pn_f32_to_bf16(nextafterf(mid, 0)), h);
    }
    assert_true(pn_bf16_to_f32(0x3fc0) == 1.5f && pn_bf16_to_f32(0xc000) == -2.0f);
    assert_int_equal(pn_f32_to_bf16(INFINITY), 0x7f80);
    assert_true(isnan(pn_bf16_to_f32(pn_f32_to_bf16(NAN))));
}

/* ---- every kernel by one signature ---------------------------------------------------- */
typedef struct inputs { const float *a, *b, *c; size_t n; } inputs;
typedef void run_fn(const pn_kernels *k, float *y, const inputs *in); /* y holds a copy of a */

static void run_norm(const pn_kernels *k, float *y, const inputs *in) { k->norm(PN_NORM_PLAIN, y, in->a, in->b, in->n, 1e-5f); }
static void run_rms(const pn_kernels *k, float *y, const inputs *in) { k->norm(PN_NORM_PLAIN, y, y, NULL, in->n, 1e-5f); }
static void run_input(const pn_kernels *k, float *y, const inputs *in) { k->norm(PN_NORM_INPUT, y, in->a, in->b, in->n, 1e-8f); }
static void run_layer(const pn_kernels *k, float *y, const inputs *in) { k->layer_norm(y, in->a, in->b, in->c, in->n, 1e-5f); }
static void run_add(const pn_kernels *k, float *y, const inputs *in) { k->add(y, in->b, in->n); }
static void run_gate(const pn_kernels *k, float *y, const inputs *in) { k->gate_add(y, in->b, in->c, in->b, in->n); }
static void run_scale(const pn_kernels *k, float *y, const inputs *in) { k->scale(y, 0.3f, in->n); }
static void run_axpy(const pn_kernels *k, float *y, const inputs *in) { k->axpy(y, 0.3f, in->b, in->n); }
static void run_silu(const pn_kernels *k, float *y, const inputs *in) { k->silu_mul(y, in->a, in->b, in->n); }
static void run_gelu_tanh(const pn_kernels *k, float *y, const inputs *in) { k->gelu_tanh_mul(y, in->a, in->b, in->n); }
static void run_gelu_up(const pn_kernels *k, float *y, const inputs *in) { k->gelu_mul(y, in->a, in->b, in->n); }
static void run_gelu(const pn_kernels *k, float *y, const inputs *in) { k->gelu_mul(y, in->a, NULL, in->n); }
static void run_sigmoid_mul(const pn_kernels *k, float *y, const inputs *in) { k->sigmoid_mul(y, in->b, in->a, in->n); }
static void run_sigmoid(const pn_kernels *k, float *y, const inputs *in) { k->sigmoid(y, in->a, in->n); }
static void run_softcap(const pn_kernels *k, float *y, const inputs *in) { k->softcap(y, 0.7f, 3.0f, in->n); }
static void run_tanh(const pn_kernels *k, float *y, const inputs *in) { k->softcap(y, 1.0f, 1.0f, in->n); }
static void run_mult(const pn_kernels *k, float *y, const inputs *in) { k->softcap(y, 0.7f, 0.0f, in->n); }
static void run_exp(const pn_kernels *k, float *y, const inputs *in)
{
    float sum;
    k->exp_sum(y, in->a, 2.0f, in->n, &sum);
    if (in->n > 2) y[1] = sum; /* looked at in one place */
}
static void run_dot(const pn_kernels *k, float *y, const inputs *in)
{
    if (in->n) y[0] = k->dot(in->a, in->b, in->n);
}

/* ---- the same in double -------------------------------------------------------------------- */
static double mean_square(const inputs *in, bool weighted)
{
    double s = 0;
    for (size_t i = 0; i < in->n; i++) s += pow(weighted ? (double)(in->a[i] * in->b[i]) : (double)in->a[i], 2);
    return s / (double)in->n;
}

static double logistic(double x) { return 1 / (1 + exp(-x)); }
static double ref_norm(const inputs *in, size_t i) { return in->a[i] / sqrt(mean_square(in, false) + 1e-5) * in->b[i]; }
static double ref_rms(const inputs *in, size_t i) { return in->a[i] / sqrt(mean_square(in, false) + 1e-5); }
static double ref_input(const inputs *in, size_t i) { return (double)in->a[i] * in->b[i] / sqrt(mean_square(in, true) + 1e-8); }
static double ref_layer(const inputs *in, size_t i)
{
    double mean = 0, var = 0;
    for (size_t j = 0; j < in->n; j++) mean += in->a[j] / (double)in->n;
    for (size_t j = 0; j < in->n; j++) var += pow(in->a[j] - mean, 2) / (double)in->n;
    return (in->a[i] - mean) / sqrt(var + 1e-5) * in->b[i] + in->c[i];
}
static double ref_add(const inputs *in, size_t i) { return (double)in->a[i] + in->b[i]; }
static double ref_gate(const inputs *in, size_t i) { return (double)in->b[i] * in->a[i] + (double)in->c[i] * in->b[i]; }
static double ref_scale(const inputs *in, size_t i) { return (double)in->a[i] * 0.3f; }
static double ref_axpy(const inputs *in, size_t i) { return (double)in->b[i] * 0.3f + in->a[i]; }
static double ref_silu(const inputs *in, size_t i) { return in->a[i] * logistic(in->a[i]) * in->b[i]; }
static double ref_gelu_tanh(const inputs *in, size_t i)
{
    double x = in->a[i];
    return x * logistic(2 * sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)) * in->b[i];
}
static double ref_gelu(const inputs *in, size_t i) { return 0.5 * in->a[i] * erfc(-in->a[i] / M_SQRT2); }
static double ref_gelu_up(const inputs *in, size_t i) { return ref_gelu(in, i) * in->b[i]; }
static double ref_sigmoid_mul(const inputs *in, size_t i) { return in->b[i] * logistic(in->a[i]); }
static double ref_sigmoid(const inputs *in, size_t i) { return logistic(in->a[i]); }
static double ref_softcap(const inputs *in, size_t i) { return 3 * tanh((double)in->a[i] * 0.7f / 3); }
static double ref_tanh(const inputs *in, size_t i) { return tanh(in->a[i]); }
static double ref_mult(const inputs *in, size_t i) { return (double)in->a[i] * 0.7f; }
static double ref_exp(const inputs *in, size_t i)
{
    double sum = 0;
    if (i != 1 || in->n <= 2) return exp((double)(in->a[i] - 2.0f));
    for (size_t j = 0; j < in->n; j++) sum += exp((double)(in->a[j] - 2.0f));
    return sum;
}
static double ref_dot(const inputs *in, size_t i)
{
    double s = 0;
    if (i) return in->a[i];
    for (size_t j = 0; j < in->n; j++) s += (double)in->a[j] * in->b[j];
    return s;
}

/* Bound: relative + tail * |a| * relative step (the argument's own rounding seen through e^x) + absolute. In units of 2^-23:
 * a correctly rounded operation is half a unit, exp at most 2, so a chain of a few operations stays below 4 to 6;
 * sums over n up to 1000 add at most (n / 16 + 4) / 2 halves, far less in the mean: 16 covers them. Where terms cancel (add,
 * gate, axpy, layer, dot) the absolute part is units of the terms' size. gelu's e^(-z^2) sees the rounding of z^2 <= 100. */
static const struct {
    const char *name;
    run_fn *run;
    double (*ref)(const inputs *in, size_t i);
    double units, tail, absolute;
} cases[] = {
    {"norm", run_norm, ref_norm, 16, 0, 0},
    {"rms in place", run_rms, ref_rms, 16, 0, 0},
    {"input norm", run_input, ref_input, 16, 0, 0},
    {"layer_norm", run_layer, ref_layer, 16, 0, 2e-5},
    {"add", run_add, ref_add, 0.5, 0, 0},
    {"gate_add", run_gate, ref_gate, 1, 0, 1e-5},
    {"scale", run_scale, ref_scale, 0.5, 0, 0},
    {"axpy", run_axpy, ref_axpy, 0.5, 0, 0},
    {"silu_mul", run_silu, ref_silu, 5, 0, 0},
    {"gelu_tanh_mul", run_gelu_tanh, ref_gelu_tanh, 6, 30, 1e-30},
    {"gelu_mul", run_gelu_up, ref_gelu_up, 6, 8, 1e-30},
    {"gelu", run_gelu, ref_gelu, 6, 8, 1e-30},
    {"sigmoid_mul", run_sigmoid_mul, ref_sigmoid_mul, 4, 0, 0},
    {"sigmoid", run_sigmoid, ref_sigmoid, 4, 0, 0},
    {"softcap", run_softcap, ref_softcap, 5, 0, 0},
    {"tanh", run_tanh, ref_tanh, 3, 0, 0},
    {"softcap 0", run_mult, ref_mult, 0.5, 0, 0},
    {"exp_sum", run_exp, ref_exp, 2, 0, 0},
    {"dot", run_dot, ref_dot, 16, 0, 1e-2},
};

static void check_case(size_t c, size_t n, const float *a, const float *b, const float *w)
{
    inputs in = {a, b, w, n};
    guarded want = guarded_new(n), got = guarded_new(n);
    for (size_t l = 0; l < PN_COUNT(levels); l++) {
        if (!level_here(l)) continue;
        pn_kernels k;
        pn_kernels_init(&k, levels[l].flags);
        float *y = l ? got.p : want.p;
        memcpy(y, a, n * sizeof *a);
        cases[c].run(&k, y, &in);
        size_t at = l ? differs(want.p, got.p, n) : n;
        if (at < n || !guarded_whole(&got) || !guarded_whole(&want))
            fail_msg("%s at %s, n %zu, seed %llu: element %zu is %a, not %a", cases[c].name, levels[l].name, n,
                     (unsigned long long)seed, at, (double)got.p[at < n ? at : 0], (double)want.p[at < n ? at : 0]);
    }
    for (size_t i = 0; i < n; i++) {
        double r = cases[c].ref(&in, i), e = fabs(want.p[i] - r);
        double bound = (cases[c].units + cases[c].tail * fabs(a[i])) * 0x1p-23 * fabs(r) + cases[c].absolute + 0x1p-148;
        if (!(e <= bound))
            fail_msg("%s, n %zu, seed %llu: element %zu (a %a) is %a, exactly %a: error %g, bound %g", cases[c].name, n,
                     (unsigned long long)seed, i, (double)a[i], (double)want.p[i], r, e, bound);
    }
    free(want.base);
    free(got.base);
}

static void kernels_match_double_and_each_other(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 2, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 63, 100, 576, 1000};
    uint64_t s = seed;
    for (size_t c = 0; c < PN_COUNT(cases); c++)
        for (size_t i = 0; i < PN_COUNT(sizes); i++) {
            size_t n = sizes[i];
            guarded a = guarded_new(n), b = guarded_new(n), w = guarded_new(n);
            fill(a.p, n, &s, i % 2 ? -9.0f : -1.0f, i % 2 ? 9.0f : 1.0f);
            fill(b.p, n, &s, -3.0f, 3.0f);
            fill(w.p, n, &s, -2.0f, 2.0f);
            check_case(c, n, a.p, b.p, w.p);
            free(a.base);
            free(b.base);
            free(w.base);
        }
}

/* The whole line: steps of about 1/512 and all of the ends. */
static void functions_hold_over_their_range(void **state)
{
    (void)state;
    enum { N = 4096 };
    static float a[N], b[N];
    for (int i = 0; i < N; i++) b[i] = 1.0f;
    for (int part = 0; part < 12; part++) {
        uint64_t s = seed + (uint64_t)part;
        for (int i = 0; i < N; i++) a[i] = uniform(&s, -1.0f, 1.0f) * (part < 4 ? 86.0f : part < 8 ? 8.0f : part < 11 ? 0.7f : 1e-4f);
        for (size_t c = 0; c < PN_COUNT(cases); c++) {
            bool smooth = cases[c].run == run_silu || cases[c].run == run_gelu || cases[c].run == run_gelu_tanh ||
                          cases[c].run == run_sigmoid || cases[c].run == run_tanh || cases[c].run == run_softcap;
            if (smooth) check_case(c, N, a, b, b);
        }
    }
}

static void exp_holds_over_its_range(void **state)
{
    (void)state;
    enum { N = 1 << 16 };
    static float x[N], y[N], other[N];
    pn_kernels c, k;
    float sum, other_sum;
    uint64_t s = seed;
    pn_kernels_init(&c, 0);
    for (int round = 0; round < 8; round++) {
        fill(x, N, &s, -105.0f, 89.0f);
        c.exp_sum(y, x, 0.0f, N, &sum);
        for (int i = 0; i < N; i++) {
            double r = exp((double)x[i]);
            if (r > 0x1.ffffffp127) assert_true(y[i] == INFINITY);
            else if (!(fabs(y[i] - r) <= 0x1p-22 * r + 0x1p-149))
                fail_msg("exp(%a) is %a, exactly %a", (double)x[i], (double)y[i], r);
        }
        for (size_t l = 1; l < PN_COUNT(levels); l++) {
            if (!level_here(l)) continue;
            pn_kernels_init(&k, levels[l].flags);
            k.exp_sum(other, x, 0.0f, N, &other_sum);
            assert_int_equal(differs(y, other, N), N);
            assert_int_equal(differs(&sum, &other_sum, 1), 1);
        }
    }
}

static void ends_are_exact(void **state)
{
    (void)state;
    static const float x[] = {-INFINITY, -1e30f, -200.0f, 0.0f, -0.0f, 89.0f, 1e30f, INFINITY, NAN};
    static const float e[] = {0, 0, 0, 1, 1, INFINITY, INFINITY, INFINITY, NAN};
    static const float t[] = {-1, -1, -1, 0, -0.0f, 1, 1, 1, NAN}, g[] = {0, 0, 0, 0.5f, 0.5f, 1, 1, 1, NAN};
    for (size_t l = 0; l < PN_COUNT(levels); l++) {
        if (!level_here(l)) continue;
        pn_kernels k;
        float y[9], sum;
        pn_kernels_init(&k, levels[l].flags);
        k.exp_sum(y, x, 0.0f, 9, &sum);
        assert_int_equal(differs(y, e, 9), 9);
        memcpy(y, x, sizeof y);
        k.softcap(y, 1.0f, 1.0f, 9);
        assert_int_equal(differs(y, t, 9), 9);
        k.sigmoid(y, x, 9);
        assert_int_equal(differs(y, g, 9), 9);
        k.exp_sum(y, x, 0.0f, 3, &sum);
        assert_true(sum == 0.0f); /* lanes past the end count for nothing */
    }
}

/* Exactly the greatest of each 64, the short last ones too; what is no number is passed over. */
static void tops_are_the_greatest(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 15, 16, 17, 63, 64, 65, 80, 127, 128, 129, 1000};
    uint64_t s = seed;
    for (size_t t = 0; t < PN_COUNT(sizes); t++)
        for (size_t l = 0; l < PN_COUNT(levels); l++) {
            const size_t n = sizes[t], blocks = (n + 63) / 64;
            if (!level_here(l)) continue;
            guarded x = guarded_new(n), y = guarded_new(blocks);
            pn_kernels k;
            pn_kernels_init(&k, levels[l].flags);
            fill(x.p, n, &s, -9.0f, t % 2 ? -1.0f : 9.0f); /* all below 0: lanes past the end must not count */
            if (n > 20) x.p[3] = NAN, x.p[19] = -INFINITY, x.p[n - 1] = NAN;
            k.tops(y.p, x.p, n);
            for (size_t b = 0; b < blocks; b++) {
                float most = -INFINITY;
                for (size_t i = b * 64; i < n && i < b * 64 + 64; i++)
                    if (x.p[i] > most) most = x.p[i];
                if (y.p[b] != most) fail_msg("%s, n %zu, block %zu: %a, not %a", levels[l].name, n, b, (double)y.p[b], (double)most);
            }
            assert_true(guarded_whole(&y));
            free(x.base);
            free(y.base);
        }
}

/* x * e^(i angle): in double, halves and pairs, the rest of the head untouched. */
static void rope_rotates(void **state)
{
    (void)state;
    static const uint32_t rots[] = {2, 8, 24, 64, 96, 128};
    for (size_t t = 0; t < 2 * PN_COUNT(rots); t++) {
        const uint32_t n = rots[t / 2], half = n / 2;
        const bool pairs = t % 2;
        uint64_t s = seed + t;
        float x[136], cs[128], want[136];
        fill(x, n + 8, &s, -2, 2);
        for (uint32_t i = 0; i < half; i++) {
            float angle = uniform(&s, -3, 3);
            cs[i] = cosf(angle);
            cs[half + i] = sinf(angle);
        }
        for (size_t l = 0; l < PN_COUNT(levels); l++) {
            if (!level_here(l)) continue;
            guarded y = guarded_new(n + 8);
            pn_kernels k;
            pn_kernels_init(&k, levels[l].flags);
            memcpy(y.p, x, (n + 8) * sizeof *x);
            k.rope(y.p, cs, n, pairs);
            for (uint32_t i = 0; i < half && !l; i++) {
                uint32_t a = pairs ? 2 * i : i, b = pairs ? a + 1 : i + half;
                double c = cs[i], d = cs[half + i];
                assert_true(fabs(y.p[a] - (x[a] * c - x[b] * d)) < 4e-7);
                assert_true(fabs(y.p[b] - (x[b] * c + x[a] * d)) < 4e-7);
            }
            if (!l) memcpy(want, y.p, (n + 8) * sizeof *x);
            if (differs(want, y.p, n + 8) < n + 8) fail_msg("rope at %s, n_rot %u, pairs %d", levels[l].name, n, pairs);
            assert_memory_equal(y.p + n, x + n, 8 * sizeof *x);
            assert_true(guarded_whole(&y));
            free(y.base);
        }
    }
}

/* ---- --bench ------------------------------------------------------------------------- */
typedef struct timed { const pn_kernels *k; run_fn *run; float *y; inputs in; } timed;

static void one_run(void *ctx)
{
    timed *t = ctx;
    t->run(t->k, t->y, &t->in);
}

static int bench(void)
{
    enum { N = 4096 };
    static float a[N], b[N], c[N], y[N];
    uint64_t s = 1;
    fill(a, N, &s, -4, 4);
    fill(b, N, &s, -1, 1);
    fill(c, N, &s, -1, 1);
    for (size_t i = 0; i < PN_COUNT(cases); i++)
        for (size_t l = 0; l < PN_COUNT(levels); l++) {
            if (!level_here(l)) continue;
            pn_kernels k;
            pn_kernels_init(&k, levels[l].flags);
            timed t = {&k, cases[i].run, y, {a, b, c, N}};
            memcpy(y, a, sizeof y);
            printf("%-14s %-6s %7.3f ns a value\n", cases[i].name, levels[l].name, bench_seconds(one_run, &t) * 1e9 / N);
        }
    return 0;
}

/* The chain that tensor.h writes down, at every level, with nothing written behind the end. */
static void convolutions_are_chains(void **state)
{
    (void)state;
    enum { MOST = 41, TAPS = 7 };
    static const size_t sizes[] = {1, 5, 16, 17, 32, MOST};
    float x[TAPS * MOST], w[TAPS * MOST], b[MOST], y[MOST + 1];
    uint64_t random = 77;
    for (size_t c = 0; c < PN_COUNT(sizes) * 3; c++) {
        const size_t n = sizes[c / 3], taps = (size_t[]){1, 2, TAPS}[c % 3];
        fill(x, TAPS * MOST, &random, -2, 2);
        fill(w, TAPS * MOST, &random, -1, 1);
        fill(b, MOST, &random, -1, 1);
        for (size_t l = 0; l < PN_COUNT(levels); l++) {
            if (!level_here(l)) continue;
            pn_kernels k;
            pn_kernels_init(&k, levels[l].flags);
            y[n] = 12345;
            k.conv_row(y, x, w, b, n, (uint32_t)taps);
            assert_true(y[n] == 12345);
            for (size_t i = 0; i < n; i++) {
                float want = b[i];
                for (size_t j = 0; j < taps; j++) want = fmaf(w[j * n + i], x[j * n + i], want);
                if (memcmp(&y[i], &want, sizeof want)) fail_msg("%s, %zu values, %zu taps: value %zu", levels[l].name, n, taps, i);
            }
        }
    }
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "--bench")) return bench();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(halves_widen_exactly),
        cmocka_unit_test(halves_round_to_nearest_even),
        cmocka_unit_test(bfloats_round_to_nearest_even),
        cmocka_unit_test(kernels_match_double_and_each_other),
        cmocka_unit_test(functions_hold_over_their_range),
        cmocka_unit_test(exp_holds_over_its_range),
        cmocka_unit_test(ends_are_exact), cmocka_unit_test(tops_are_the_greatest),
        cmocka_unit_test(convolutions_are_chains),
        cmocka_unit_test(rope_rotates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
