/* Rotary positions: pn_sincos against the C library in long double, and the frequencies of loaded networks against the
 * formulas in double. */
#include "rig.h"

/* Where the bound comes from: k * pi/2 is taken off in three fused steps, the first exact (both sides are multiples of
 * 2^-32 and the difference is below 1), the other two rounding a number below 1 (2^-54 each), the digits of pi/2 left out
 * being below 1e-36 k. The series leave out less than 2e-18 and round twice near the end (2^-54 each, the second twice for
 * results in 0.5..1). In all 5 * 2^-54 = 2.8e-16; the rest is the long double's own and the sum's. A hundred-fold
 * violation would still not show in a float. */
static const double bound = 3.5e-16;

static uint64_t rnd(uint64_t *s)
{
    uint64_t z = *s += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static double worst;

static void check_angle(double x)
{
    double s, c;
    pn_sincos(x, &s, &c);
    double es = fabs((double)((long double)s - sinl((long double)x))), ec = fabs((double)((long double)c - cosl((long double)x)));
    if (!(es <= bound && ec <= bound)) fail_msg("x = %a: sine off by %g, cosine by %g", x, es, ec);
    worst = fmax(worst, fmax(es, ec));
}

static void sines_and_cosines(void **state)
{
    (void)state;
    uint64_t seed = 1;
    for (int i = 0; i < 200000; i++) {
        double unit = (double)(rnd(&seed) >> 11) * 0x1p-53, sign = rnd(&seed) & 1 ? -1 : 1;
        int exponent = (int)(rnd(&seed) % 60) - 30;         /* every size up to 2^30 */
        check_angle(sign * ldexp(unit, exponent));
        check_angle(sign * unit * 0x1p30);
        check_angle((double)(float)(unit * 1048576));       /* what positions give: floats */
    }
    /* next to multiples of pi/2, where a sloppy reduction loses every digit */
    for (int64_t k = 1; k < 683565275; k += 1 + k / 64) {
        double x = (double)k * 1.57079632679489661923;
        check_angle(x);
        check_angle(nextafter(x, 0));
        check_angle(-nextafter(x, 1e300));
        check_angle((double)(float)x);
    }
    print_message("largest error %.2g\n", worst);
}

static void exact_points(void **state)
{
    (void)state;
    double s, c;
    pn_sincos(0, &s, &c);
    assert_true(s == 0 && c == 1);
    for (double x = 1e-300; x < 1e-9; x *= 10) {
        pn_sincos(x, &s, &c);
        assert_true(s == x && c == 1); /* sin x = x (1 - x^2 / 6): nothing of it is left in 53 bits */
        pn_sincos(-x, &s, &c);
        assert_true(s == -x && c == 1);
    }
}

/* theta^-e with e = 2 i / rot rounded to float (2^-25) and the result rounded twice (2^-24 each). */
static void check_frequencies(const char *model, const float *f, uint32_t rot, double theta, double (*scale)(double f))
{
    double relative = log(theta) * 0x1p-25 + 2.5 * 0x1p-24;
    if (scale) relative *= 4; /* the smooth band: three more products, one difference */
    for (uint32_t i = 0; i < rot / 2; i++) {
        double want = pow(theta, -2.0 * i / rot);
        if (scale) want = scale(want);
        if (!(fabs(f[i] / want - 1) <= relative)) fail_msg("%s: frequency %u is %.9g, not %.9g", model, i, (double)f[i], want);
    }
}

/* The numbers of llama-rope3: factor 8, low 1, high 4, original context 64. */
static double llama3(double f)
{
    double wavelength = 2 * 3.14159265358979323846 / f;
    if (wavelength < 64.0 / 4) return f;
    if (wavelength > 64.0 / 1) return f / 8;
    double smooth = (64 / wavelength - 1) / (4 - 1);
    return (1 - smooth) * f / 8 + smooth * f;
}

static void network_frequencies(void **state)
{
    (void)state;
    static const struct { const char *name, *file; double global, local; double (*scale)(double); } all[] = {
        {"llama", "", 1e4, 0, NULL}, {"llama", "model.gguf", 1e4, 0, NULL}, {"qwen2", "", 1e6, 0, NULL},
        {"gemma3", "", 1e6, 1e4, NULL}, {"gemma3", "model.gguf", 1e6, 1e4, NULL}, {"gemma3", "config.v4.json", 1e6, 1e4, NULL},
        {"muse-glimmer", "", 5e5, 0, NULL}, {"muse-glimmer", "model.gguf", 5e5, 0, NULL}, {"muse-spark-bf16", "", 5e5, 0, NULL},
        {"muse-spark-sparse", "model.gguf", 5e5, 0, NULL}, {"llama-rope3", "", 1e4, 0, llama3},
        {"llama-rope3", "config.v4.json", 1e4, 0, llama3}, {"llama-rope3", "model.gguf", 1e4, 0, llama3},
    };
    for (size_t i = 0; i < PN_COUNT(all); i++) {
        pn_network *n = load_named(all[i].name, all[i].file);
        assert_int_equal(n->d.rot_dim, n->d.head_dim);
        check_frequencies(all[i].name, n->freq[0], n->d.rot_dim, all[i].global, all[i].scale);
        if (all[i].local > 0) check_frequencies(all[i].name, n->freq[1], n->d.rot_dim, all[i].local, NULL);
        pn_network_free(n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sines_and_cosines), cmocka_unit_test(exact_points),
                                       cmocka_unit_test(network_frequencies)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
