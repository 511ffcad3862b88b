#include <immintrin.h>

typedef __m512 vf;

INLINE vf v_set(float s) { return _mm512_set1_ps(s); }
INLINE vf v_zero(void) { return _mm512_setzero_ps(); }
INLINE __mmask16 first_lanes(int n)
{
    return n >= 16 ? 0xffff : n <= 0 ? 0 : (__mmask16)((1u << n) - 1);
}
INLINE vf v_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE vf v_load_n(const float *p, int n) { return _mm512_maskz_loadu_ps(first_lanes(n), p); }
INLINE void v_store(float *p, vf v) { _mm512_storeu_ps(p, v); }
INLINE void v_store_n(float *p, vf v, int n) { _mm512_mask_storeu_ps(p, first_lanes(n), v); }
INLINE __m256i load256(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
INLINE vf v_load_f16(const uint16_t *p) { return _mm512_cvtph_ps(load256(p)); }
INLINE vf v_load_bf16(const uint16_t *p)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load256(p)), 16));
}
INLINE vf v_load_i8(const int8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
INLINE void v_store_f16(uint16_t *p, vf v)
{
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
INLINE void v_store_i8(int8_t *p, vf v)
{
    __m512i t = _mm512_castps_si512(_mm512_add_ps(v, _mm512_set1_ps(ROUND_MAGIC)));
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(t));
}
INLINE vf v_add(vf x, vf y) { return _mm512_add_ps(x, y); }
INLINE vf v_sub(vf x, vf y) { return _mm512_sub_ps(x, y); }
INLINE vf v_mul(vf x, vf y) { return _mm512_mul_ps(x, y); }
INLINE vf v_div(vf x, vf y) { return _mm512_div_ps(x, y); }
INLINE vf v_fma(vf x, vf y, vf z) { return _mm512_fmadd_ps(x, y, z); }
INLINE vf v_nfma(vf x, vf y, vf z) { return _mm512_fnmadd_ps(x, y, z); }
INLINE vf v_max(vf x, vf y) { return _mm512_max_ps(x, y); }
INLINE vf v_min(vf x, vf y) { return _mm512_min_ps(x, y); }
INLINE vf v_abs(vf x) { return _mm512_andnot_ps(_mm512_set1_ps(-0.0f), x); }
INLINE vf v_copysign(vf x, vf y)
{
    __m512 s = _mm512_set1_ps(-0.0f);
    return _mm512_or_ps(_mm512_andnot_ps(s, x), _mm512_and_ps(s, y));
}
INLINE vf v_less(vf x, vf y, vf yes, vf no)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, y, _CMP_LT_OQ), no, yes);
}
INLINE vf v_keep(vf v, int lo, int hi, vf other)
{
    return _mm512_mask_blend_ps((__mmask16)(first_lanes(hi) & ~first_lanes(lo)), other, v);
}
/* scalef rounds once, as the two factors of the C form do. */
INLINE vf v_pow2(vf p, vf t) { return _mm512_scalef_ps(p, _mm512_sub_ps(t, _mm512_set1_ps(ROUND_MAGIC))); }
INLINE __m256 upper(vf v) { return _mm512_extractf32x8_ps(v, 1); }
INLINE float v_sum(vf v)
{
    __m256 e = _mm256_add_ps(_mm512_castps512_ps256(v), upper(v));
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(e), _mm256_extractf128_ps(e, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}
INLINE float v_top(vf v)
{
    __m256 e = _mm256_max_ps(_mm512_castps512_ps256(v), upper(v));
    __m128 q = _mm_max_ps(_mm256_castps256_ps128(e), _mm256_extractf128_ps(e, 1));
    q = _mm_max_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
}
/* Lane i: its partner i ^ w, w = 1, 2, 4 or 8. */
INLINE vf v_partner(vf v, int w)
{
    if (w == 1) return _mm512_permute_ps(v, 0xb1);
    if (w == 2) return _mm512_permute_ps(v, 0x4e);
    return w == 4 ? _mm512_shuffle_f32x4(v, v, 0xb1) : _mm512_shuffle_f32x4(v, v, 0x4e);
}
INLINE vf v_flip(vf v, uint32_t bits) { return _mm512_mask_xor_ps(v, (__mmask16)bits, v, _mm512_set1_ps(-0.0f)); }
INLINE vf v_load_twice(const float *p)
{
    const __m512i at = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    return _mm512_permutexvar_ps(at, _mm512_castps256_ps512(_mm256_loadu_ps(p)));
}
INLINE vf v_lookup(const uint8_t *p, int shift, vf table)
{
    __m512i c = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm512_permutexvar_ps(_mm512_srl_epi32(c, _mm_cvtsi32_si128(shift)), table); /* it looks at 4 bits alone */
}
/* Eight vectors at once, by the tree of one: each step halves what is left of each. */
#define EACH_OF_8(name, op) \
    INLINE vf half_##name(vf a, vf b) { return op(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee)); } \
    INLINE vf quarter_##name(vf a, vf b) { return op(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd)); } \
    INLINE vf name(const vf *x) \
    { \
        vf a = quarter_##name(half_##name(x[0], x[1]), half_##name(x[2], x[3])); \
        vf b = quarter_##name(half_##name(x[4], x[5]), half_##name(x[6], x[7])); \
        vf c = op(_mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b))), \
                  _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)))); \
        const __m512i at = _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14, 0, 4, 8, 12, 2, 6, 10, 14); \
        return _mm512_permutexvar_ps(at, op(c, _mm512_movehdup_ps(c))); \
    }
EACH_OF_8(v_sum_each, _mm512_add_ps)
EACH_OF_8(v_top_each, _mm512_max_ps)
#undef EACH_OF_8
