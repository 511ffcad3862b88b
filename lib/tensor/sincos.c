#include "tensor/tensor.h"

#include <math.h>

/* Series about 0 on [-pi/4, pi/4]: the first term left out is below 1e-19. */
static double sin_series(double x)
{
    double z = x * x;
    double p = 1.0 / 355687428096000.0; /* 1/17! */
    p = fma(p, z, -1.0 / 1307674368000.0);
    p = fma(p, z, 1.0 / 6227020800.0);
    p = fma(p, z, -1.0 / 39916800.0);
    p = fma(p, z, 1.0 / 362880.0);
    p = fma(p, z, -1.0 / 5040.0);
    p = fma(p, z, 1.0 / 120.0);
    p = fma(p, z, -1.0 / 6.0);
    return fma(p * z, x, x);
}

static double cos_series(double x)
{
    double z = x * x;
    double p = 1.0 / 20922789888000.0; /* 1/16! */
    p = fma(p, z, -1.0 / 87178291200.0);
    p = fma(p, z, 1.0 / 479001600.0);
    p = fma(p, z, -1.0 / 3628800.0);
    p = fma(p, z, 1.0 / 40320.0);
    p = fma(p, z, -1.0 / 720.0);
    p = fma(p, z, 1.0 / 24.0);
    p = fma(p, z, -0.5);
    return fma(p, z, 1.0);
}

void pn_sincos(double x, double *s, double *c)
{
    /* pi/2 in three parts, the first two short enough that k * part is exact for |k| < 2^20 and fma covers the rest. */
    const double part1 = 1.57079632673412561417e+00, part2 = 6.07710050630396597660e-11, part3 = 2.02226624879595063154e-21;
    double k = rint(x * 0.63661977236758134308);
    double r = fma(-k, part1, x);
    r = fma(-k, part2, r);
    r = fma(-k, part3, r);
    double sr = sin_series(r), cr = cos_series(r);
    switch ((int64_t)k & 3) {
    case 0: *s = sr; *c = cr; break;
    case 1: *s = cr; *c = -sr; break;
    case 2: *s = -sr; *c = -cr; break;
    default: *s = -cr; *c = sr; break;
    }
}

void pn_rope_frequencies(float *to, uint32_t n_rot, float theta)
{
    for (uint32_t i = 0; i < n_rot / 2; i++) {
        float exponent = (float)(2 * i) / (float)n_rot;
        to[i] = 1.0f / (float)pow((double)theta, (double)exponent);
    }
}
