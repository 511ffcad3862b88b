/* exp, tanh and friends over lanes: our own, because the C library picks variants by CPU. Polynomials are
 * Chebyshev fits; errors given are against exact arithmetic, and tests/tensor holds them. */
#ifndef PN_TENSOR_LANES_MATH_H
#define PN_TENSOR_LANES_MATH_H

#include "tensor/lanes.h"

/* 2 ulp at most; subnormals rounded, 0 below, infinity above, NaN stays. e^x = 2^n (1 + r + r^2 q(r)), |r| <= ln 2 / 2. */
INLINE vf v_exp(vf x)
{
    /* In this operand order a NaN goes through both bounds. */
    x = v_min(v_set(89.0f), v_max(v_set(-104.0f), x));
    vf t = v_fma(x, v_set(0x1.715476p+0f), v_set(ROUND_MAGIC));
    vf n = v_sub(t, v_set(ROUND_MAGIC));
    vf r = v_nfma(n, v_set(0x1.62e4p-1f), x);                /* ln 2 in two parts: the first product is exact */
    r = v_nfma(n, v_set(1.42860677e-6f), r);
    vf q = v_fma(r, v_set(0.0013926926614f), v_set(0.00836377387441f));
    q = v_fma(q, r, v_set(0.0416665501103f));
    q = v_fma(q, r, v_set(0.166665733819f));
    q = v_fma(q, r, v_set(0.5f));
    q = v_fma(q, v_mul(r, r), r);
    return v_pow2(v_add(q, v_set(1.0f)), t);
}

/* 3e-7 relative: an odd polynomial near 0, 1 - 2 / (e^2x + 1) beyond. */
INLINE vf v_tanh(vf x)
{
    vf a = v_abs(x), s = v_mul(x, x);
    vf p = v_fma(s, v_set(-0.00609671416591f), v_set(0.0209971789991f));
    p = v_fma(p, s, v_set(-0.0538509095785f));
    p = v_fma(p, s, v_set(0.13332769737f));
    p = v_fma(p, s, v_set(-0.333333289441f));
    vf near = v_fma(v_mul(p, s), a, a);
    vf far = v_sub(v_set(1.0f), v_div(v_set(2.0f), v_add(v_exp(v_add(a, a)), v_set(1.0f))));
    return v_copysign(v_less(a, v_set(0.625f), near, far), x);
}

/* 1 + e^-x: the divisor of sigmoid and of silu. */
INLINE vf v_logistic_divisor(vf x) { return v_add(v_exp(v_sub(v_zero(), x)), v_set(1.0f)); }

/* x * sigmoid(2u) = x / 2 * (1 + tanh(u)) without its cancellation, u = sqrt(2/pi) (x + 0.044715 x^3). */
INLINE vf v_gelu_tanh(vf x)
{
    vf cube = v_mul(v_mul(x, x), x);
    vf u2 = v_mul(v_fma(cube, v_set(0.044715f), x), v_set(1.595769121606f));
    return v_div(x, v_logistic_divisor(u2));
}

/* x * Phi(x), Phi through erfc(z) = e^(-z^2) t p(t), t = 1 / (1 + 0.4 z), z = |x| / sqrt(2) (2.5e-8 relative for the fit).
 * Beyond z = 10.2 erfc is below the least float. */
INLINE vf v_gelu(vf x)
{
    vf z = v_min(v_mul(v_abs(x), v_set(0.707106781187f)), v_set(10.2f));
    vf t = v_div(v_set(1.0f), v_fma(z, v_set(0.4f), v_set(1.0f)));
    vf p = v_fma(t, v_set(-0.033179843086f), v_set(0.216974195797f));
    p = v_fma(p, t, v_set(-0.542073904645f));
    p = v_fma(p, t, v_set(0.603190266548f));
    p = v_fma(p, t, v_set(-0.328974364841f));
    p = v_fma(p, t, v_set(0.294981040996f));
    p = v_fma(p, t, v_set(0.122141018481f));
    p = v_fma(p, t, v_set(0.216447269612f));
    p = v_fma(p, t, v_set(0.224779097675f));
    p = v_fma(p, t, v_set(0.225715224924f));
    vf half_erfc = v_mul(v_mul(v_mul(p, t), v_exp(v_sub(v_zero(), v_mul(z, z)))), v_set(0.5f));
    vf phi = v_less(x, v_zero(), half_erfc, v_sub(v_set(1.0f), half_erfc));
    return v_mul(x, phi);
}

#endif
