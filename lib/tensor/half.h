/* 16-bit floats to float and back, exact and rounded to nearest even, NaNs quieted as the processors' own
 * conversions do, so that a converted block has the same bits at every CPU level. */
#ifndef PN_TENSOR_HALF_H
#define PN_TENSOR_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint32_t float_bits(float f) { uint32_t u; memcpy(&u, &f, 4); return u; }
static inline float bits_float(uint32_t u) { float f; memcpy(&f, &u, 4); return f; }

static inline float half_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, m = h & 0x7fff;
    if (m < 0x0400) return bits_float(sign | float_bits((float)m * 0x1p-24f)); /* zero and subnormals */
    uint32_t u = (m << 13) + (112u << 23);
    if (m >= 0x7c00) u += 112u << 23;
    if (m > 0x7c00) u |= 1u << 22;
    return bits_float(sign | u);
}

static inline uint16_t float_to_half(float f)
{
    uint32_t u = float_bits(f), a = u & 0x7fffffff, h;
    if (a > 0x7f800000) h = 0x7e00 | ((a >> 13) & 0x3ff);
    else if (a >= 0x47800000) h = 0x7c00;                                       /* 65536 and more */
    else if (a < 0x38800000) h = float_bits(bits_float(a) + 0.5f) - 0x3f000000; /* the ulp of 0.5 is half's least step */
    else h = (a + 0xfff + ((a >> 13) & 1) - (112u << 23)) >> 13;
    return (uint16_t)(h | ((u >> 16) & 0x8000));
}

static inline float bf16_to_float(uint16_t h) { return bits_float((uint32_t)h << 16); }

static inline uint16_t float_to_bf16(float f)
{
    uint32_t u = float_bits(f);
    if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)((u >> 16) | 0x40);
    return (uint16_t)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

#endif
