#include <immintrin.h>

typedef struct vf { __m256 a, b; } vf;

#define BOTH(x, y) return (vf){(x), (y)}
INLINE vf v_set(float s) { BOTH(_mm256_set1_ps(s), _mm256_set1_ps(s)); }
INLINE vf v_zero(void) { BOTH(_mm256_setzero_ps(), _mm256_setzero_ps()); }
INLINE __m256i first_lanes(int n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
INLINE vf v_load(const float *p) { BOTH(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)); }
INLINE vf v_load_n(const float *p, int n)
{
    if (n >= 16) return v_load(p);
    if (n <= 8) BOTH(_mm256_maskload_ps(p, first_lanes(n)), _mm256_setzero_ps());
    BOTH(_mm256_loadu_ps(p), _mm256_maskload_ps(p + 8, first_lanes(n - 8)));
}
INLINE void v_store(float *p, vf v)
{
    _mm256_storeu_ps(p, v.a);
    _mm256_storeu_ps(p + 8, v.b);
}
INLINE void v_store_n(float *p, vf v, int n)
{
    if (n >= 16) { v_store(p, v); return; }
    _mm256_maskstore_ps(p, first_lanes(n), v.a);
    if (n > 8) _mm256_maskstore_ps(p + 8, first_lanes(n - 8), v.b);
}
INLINE __m128i load128(const void *p) { return _mm_loadu_si128((const __m128i *)p); }
INLINE vf v_load_f16(const uint16_t *p) { BOTH(_mm256_cvtph_ps(load128(p)), _mm256_cvtph_ps(load128(p + 8))); }
INLINE __m256 widen_bf16(__m128i h)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
INLINE vf v_load_bf16(const uint16_t *p) { BOTH(widen_bf16(load128(p)), widen_bf16(load128(p + 8))); }
INLINE vf v_load_i8(const int8_t *p)
{
    __m128i q = load128(p);
    BOTH(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q)), _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(q, 8))));
}
INLINE void v_store_f16(uint16_t *p, vf v)
{
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(v.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    _mm_storeu_si128((__m128i *)(p + 8), _mm256_cvtps_ph(v.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
INLINE void v_store_i8(int8_t *p, vf v)
{
    uint32_t t[16];
    _mm256_storeu_ps((float *)t, _mm256_add_ps(v.a, _mm256_set1_ps(ROUND_MAGIC)));
    _mm256_storeu_ps((float *)(t + 8), _mm256_add_ps(v.b, _mm256_set1_ps(ROUND_MAGIC)));
    for (int i = 0; i < 16; i++) {
        uint8_t b = (uint8_t)t[i];
        memcpy(p + i, &b, 1);
    }
}
INLINE vf v_add(vf x, vf y) { BOTH(_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)); }
INLINE vf v_sub(vf x, vf y) { BOTH(_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)); }
INLINE vf v_mul(vf x, vf y) { BOTH(_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)); }
INLINE vf v_div(vf x, vf y) { BOTH(_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)); }
INLINE vf v_fma(vf x, vf y, vf z) { BOTH(_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)); }
INLINE vf v_nfma(vf x, vf y, vf z) { BOTH(_mm256_fnmadd_ps(x.a, y.a, z.a), _mm256_fnmadd_ps(x.b, y.b, z.b)); }
INLINE vf v_max(vf x, vf y) { BOTH(_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)); }
INLINE vf v_min(vf x, vf y) { BOTH(_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)); }
INLINE vf v_abs(vf x)
{
    __m256 sign = _mm256_set1_ps(-0.0f);
    BOTH(_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b));
}
INLINE vf v_copysign(vf x, vf y)
{
    __m256 s = _mm256_set1_ps(-0.0f);
    BOTH(_mm256_or_ps(_mm256_andnot_ps(s, x.a), _mm256_and_ps(s, y.a)),
         _mm256_or_ps(_mm256_andnot_ps(s, x.b), _mm256_and_ps(s, y.b)));
}
INLINE vf v_less(vf x, vf y, vf yes, vf no)
{
    BOTH(_mm256_blendv_ps(no.a, yes.a, _mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ)),
         _mm256_blendv_ps(no.b, yes.b, _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ)));
}
INLINE __m256 keep8(__m256 v, int lo, int hi, __m256 other)
{
    __m256i in = _mm256_andnot_si256(first_lanes(lo), first_lanes(hi));
    return _mm256_blendv_ps(other, v, _mm256_castsi256_ps(in));
}
INLINE vf v_keep(vf v, int lo, int hi, vf other)
{
    BOTH(keep8(v.a, lo, hi, other.a), keep8(v.b, lo - 8, hi - 8, other.b));
}
INLINE __m256 pow2_8(__m256 p, __m256 t)
{
    __m256i n = _mm256_sub_epi32(_mm256_castps_si256(t), _mm256_set1_epi32(0x4b400000)), bias = _mm256_set1_epi32(127);
    __m256i half = _mm256_srai_epi32(n, 1), rest = _mm256_sub_epi32(n, half);
    p = _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23)));
    return _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23)));
}
INLINE vf v_pow2(vf p, vf t) { BOTH(pow2_8(p.a, t.a), pow2_8(p.b, t.b)); }
INLINE float v_sum(vf v)
{
    __m256 e = _mm256_add_ps(v.a, v.b);
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(e), _mm256_extractf128_ps(e, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}
INLINE float v_top(vf v)
{
    __m256 e = _mm256_max_ps(v.a, v.b);
    __m128 q = _mm_max_ps(_mm256_castps256_ps128(e), _mm256_extractf128_ps(e, 1));
    q = _mm_max_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
}
INLINE vf v_partner(vf v, int w)
{
    if (w == 1) BOTH(_mm256_permute_ps(v.a, 0xb1), _mm256_permute_ps(v.b, 0xb1));
    if (w == 2) BOTH(_mm256_permute_ps(v.a, 0x4e), _mm256_permute_ps(v.b, 0x4e));
    if (w == 4) BOTH(_mm256_permute2f128_ps(v.a, v.a, 1), _mm256_permute2f128_ps(v.b, v.b, 1));
    BOTH(v.b, v.a);
}
INLINE __m256 flip8(__m256 v, uint32_t bits)
{
    const __m256i up = _mm256_setr_epi32(31, 30, 29, 28, 27, 26, 25, 24);
    __m256i sign = _mm256_and_si256(_mm256_sllv_epi32(_mm256_set1_epi32((int)bits), up), _mm256_set1_epi32(INT32_MIN));
    return _mm256_xor_ps(v, _mm256_castsi256_ps(sign));
}
INLINE vf v_flip(vf v, uint32_t bits) { BOTH(flip8(v.a, bits), flip8(v.b, bits >> 8)); }
INLINE vf v_load_twice(const float *p)
{
    __m256 v = _mm256_loadu_ps(p);
    BOTH(_mm256_permutevar8x32_ps(v, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3)),
         _mm256_permutevar8x32_ps(v, _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7)));
}
INLINE __m256 lookup8(__m256i c, vf table) /* a permutation looks at 3 bits; the fourth chooses the half */
{
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(table.a, c), _mm256_permutevar8x32_ps(table.b, c),
                            _mm256_castsi256_ps(_mm256_slli_epi32(c, 28)));
}
INLINE vf v_lookup(const uint8_t *p, int shift, vf table)
{
    __m128i c = load128(p), by = _mm_cvtsi32_si128(shift);
    BOTH(lookup8(_mm256_srl_epi32(_mm256_cvtepu8_epi32(c), by), table),
         lookup8(_mm256_srl_epi32(_mm256_cvtepu8_epi32(_mm_srli_si128(c, 8)), by), table));
}
/* Eight vectors at once, by the tree of one: each step halves what is left of each. */
#define EACH_OF_8(name, op) \
    INLINE __m256 half_##name(vf x, vf y) \
    { \
        __m256 s = op(x.a, x.b), t = op(y.a, y.b); \
        return op(_mm256_permute2f128_ps(s, t, 0x20), _mm256_permute2f128_ps(s, t, 0x31)); \
    } \
    INLINE __m256 quarter_##name(__m256 s, __m256 t) \
    { \
        return op(_mm256_castpd_ps(_mm256_unpacklo_pd(_mm256_castps_pd(s), _mm256_castps_pd(t))), \
                  _mm256_castpd_ps(_mm256_unpackhi_pd(_mm256_castps_pd(s), _mm256_castps_pd(t)))); \
    } \
    INLINE vf name(const vf *x) \
    { \
        __m256 s = quarter_##name(half_##name(x[0], x[4]), half_##name(x[1], x[5])); \
        __m256 t = quarter_##name(half_##name(x[2], x[6]), half_##name(x[3], x[7])); \
        __m256 r = op(_mm256_shuffle_ps(s, t, 0x88), _mm256_shuffle_ps(s, t, 0xdd)); \
        BOTH(r, r); \
    }
EACH_OF_8(v_sum_each, _mm256_add_ps)
EACH_OF_8(v_top_each, _mm256_max_ps)
#undef EACH_OF_8
#undef BOTH
