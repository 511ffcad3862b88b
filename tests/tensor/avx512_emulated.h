/* AVX-512 by way of AVX2, to test the kernels where the processor has no such registers (meson option `emulate`): SIMDe, and of what the
 * kernels use that which SIMDe 0.7.4 lacks or rounds otherwise than the processor. Slow; the bits are the instructions'. */
#ifndef PN_AVX512_EMULATED_H
#define PN_AVX512_EMULATED_H

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <math.h>
#include <simde/x86/avx512.h>

#define PN_EMULATED static inline __attribute__((always_inline, unused))
typedef union pn_v512 {
    __m512 ps;
    __m512i si;
    __m256 ps2[2];
    __m256i si2[2];
    float f[16];
    int32_t i[16];
} pn_v512;

/* Both halves, each of which comes from `lo` and `hi`. */
#define PN_HALVES(member, lo, hi, as) \
    pn_v512 r; \
    r.member[0] = lo; \
    r.member[1] = hi; \
    return r.as
#define PN_HIGH128(a) _mm256_extracti128_si256(a, 1)

PN_EMULATED __m512i pn_cvtepi8_epi32(__m128i a) { PN_HALVES(si2, _mm256_cvtepi8_epi32(a), _mm256_cvtepi8_epi32(_mm_srli_si128(a, 8)), si); }
PN_EMULATED __m512i pn_cvtepu8_epi32(__m128i a) { PN_HALVES(si2, _mm256_cvtepu8_epi32(a), _mm256_cvtepu8_epi32(_mm_srli_si128(a, 8)), si); }
PN_EMULATED __m512i pn_cvtepu16_epi32(__m256i a)
{
    PN_HALVES(si2, _mm256_cvtepu16_epi32(_mm256_castsi256_si128(a)), _mm256_cvtepu16_epi32(PN_HIGH128(a)), si);
}
PN_EMULATED __m512 pn_cvtph_ps(__m256i a) { PN_HALVES(ps2, _mm256_cvtph_ps(_mm256_castsi256_si128(a)), _mm256_cvtph_ps(PN_HIGH128(a)), ps); }
PN_EMULATED __m512 pn_cvtepi32_ps(__m512i a)
{
    pn_v512 v = {.si = a};
    PN_HALVES(ps2, _mm256_cvtepi32_ps(v.si2[0]), _mm256_cvtepi32_ps(v.si2[1]), ps);
}
PN_EMULATED __m512i pn_cvtps_epi32(__m512 a)
{
    pn_v512 v = {.ps = a};
    PN_HALVES(si2, _mm256_cvtps_epi32(v.ps2[0]), _mm256_cvtps_epi32(v.ps2[1]), si);
}
PN_EMULATED __m256i pn_cvtps_ph(__m512 a)
{
    pn_v512 v = {.ps = a};
    return _mm256_set_m128i(_mm256_cvtps_ph(v.ps2[1], _MM_FROUND_TO_NEAREST_INT), _mm256_cvtps_ph(v.ps2[0], _MM_FROUND_TO_NEAREST_INT));
}
PN_EMULATED __m128i pn_cvtepi32_epi8(__m512i a) /* the low bytes */
{
    pn_v512 v = {.si = a};
    int8_t b[16];
    for (int i = 0; i < 16; i++) b[i] = (int8_t)v.i[i];
    return _mm_loadu_si128((const void *)b);
}
PN_EMULATED __m512 pn_movehdup_ps(__m512 a)
{
    pn_v512 v = {.ps = a};
    PN_HALVES(ps2, _mm256_movehdup_ps(v.ps2[0]), _mm256_movehdup_ps(v.ps2[1]), ps);
}
PN_EMULATED __m256 pn_extractf32x8_ps(__m512 a, int half) { return ((pn_v512){.ps = a}).ps2[half]; }
PN_EMULATED __m512 pn_maskz_loadu_ps(unsigned mask, const float *p)
{
    pn_v512 v = {.f = {0}};
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1) v.f[i] = p[i];
    return v.ps;
}
PN_EMULATED void pn_mask_storeu_ps(float *p, unsigned mask, __m512 a)
{
    pn_v512 v = {.ps = a};
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1) p[i] = v.f[i];
}
PN_EMULATED __m512 pn_scalef_ps(__m512 a, __m512 b) /* rounds once */
{
    pn_v512 v = {.ps = a}, n = {.ps = b};
    for (int i = 0; i < 16; i++) v.f[i] = scalbnf(v.f[i], (int)floorf(n.f[i]));
    return v.ps;
}

#undef _mm512_shuffle_f32x4 /* SIMDe has it, but no alias */
#define _mm512_shuffle_f32x4(a, b, order) simde_mm512_shuffle_f32x4(a, b, order)
#define _mm512_cvtepi8_epi32(a) pn_cvtepi8_epi32(a)
#define _mm512_cvtepu8_epi32(a) pn_cvtepu8_epi32(a)
#define _mm512_cvtepu16_epi32(a) pn_cvtepu16_epi32(a)
#define _mm512_cvtph_ps(a) pn_cvtph_ps(a)
#define _mm512_cvtepi32_ps(a) pn_cvtepi32_ps(a)
#define _mm512_cvtps_epi32(a) pn_cvtps_epi32(a)
#undef _mm512_cvtps_ph
#define _mm512_cvtps_ph(a, rounding) pn_cvtps_ph(a)
#define _mm512_cvtepi32_epi8(a) pn_cvtepi32_epi8(a)
#define _mm512_movehdup_ps(a) pn_movehdup_ps(a)
#undef _mm512_permute_ps
#define _mm512_permute_ps(a, order) _mm512_permutexvar_ps(pn_permutation(order), a)
#undef _mm512_extractf32x8_ps
#define _mm512_extractf32x8_ps(a, half) pn_extractf32x8_ps(a, half)
#define _mm512_maskz_loadu_ps(mask, p) pn_maskz_loadu_ps(mask, p)
#define _mm512_mask_storeu_ps(p, mask, a) pn_mask_storeu_ps(p, mask, a)
#undef _mm512_scalef_ps
#define _mm512_scalef_ps(a, b) pn_scalef_ps(a, b)

PN_EMULATED __m512i pn_permutation(int order)
{
    pn_v512 v;
    for (int i = 0; i < 16; i++) v.i[i] = i / 4 * 4 + (order >> 2 * (i % 4) & 3);
    return v.si;
}
#endif
