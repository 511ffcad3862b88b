/* The quantised product on AVX-512 with VNNI: one vector is 4 k of 16 rows, one vpdpbusd multiplies it by 4 broadcast
 * activations. Unsigned codes keep their offset; a half's sum starts at -offset * sum(x) instead of 0, which is exact. */
#include <float.h>

#include "tensor/matmul_q_x86.h"

/* One panel's 32-block in registers. a, b, c by class: PLAIN dw; MIN dw, mw; HALF dw0, dw1; 2K d, mw0, mw1; 3K d. */
typedef struct block {
    __m512i w[8];
    __m512 a, b, c;
    __m512i sc[2]; /* 2K, 3K, one column: integer scales of the halves */
} block;

/* Scaling codes (2K, 3K) pays when many columns share it; one column scales the sums. */
INLINE bool scales_codes(const int t, const bool one) { return !one && (t == PN_Q2_K || t == PN_Q3_K); }

INLINE __m512i load(const uint8_t *p) { return _mm512_load_si512((const void *)p); }
INLINE __m512i load_u8(const uint8_t *p) { return _mm512_cvtepu8_epi32(_mm_load_si128((const void *)p)); }
INLINE __m512i load_s8(const uint8_t *p) { return _mm512_cvtepi8_epi32(_mm_load_si128((const void *)p)); }
INLINE __m512 load_f16(const uint8_t *p) { return _mm512_cvtph_ps(_mm256_load_si256((const void *)p)); }
INLINE __m512 times(__m512 d, __m512i n) { return _mm512_mul_ps(d, _mm512_cvtepi32_ps(n)); }

/* Bits [from, from + n) of each byte moved to `to`; neighbours' bits are masked off by the caller. */
INLINE __m512i move_bits(__m512i v, int from, int to)
{
    return from > to ? _mm512_srli_epi16(v, (unsigned)(from - to)) : from < to ? _mm512_slli_epi16(v, (unsigned)(to - from)) : v;
}

/* w | (v & mask) */
INLINE __m512i join(__m512i w, __m512i v, int mask)
{
    return _mm512_ternarylogic_epi32(w, v, _mm512_set1_epi8((char)mask), 0xf8);
}

INLINE void load_codes(const int t, const uint8_t *p, __m512i w[8])
{
    const uint8_t *extra = p + 64 * base_of(t);
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
        if (base_of(t) == 8)
            w[g] = load(p + 64 * g);
        else if (base_of(t) == 4)
            w[g] = _mm512_and_si512(move_bits(load(p + 64 * (g % 4)), 4 * (g / 4), 0), _mm512_set1_epi8(15));
        else
            w[g] = _mm512_and_si512(move_bits(load(p + 64 * (g / 4)), 2 * (g % 4), 0), _mm512_set1_epi8(3));
        if (extra_of(t) == 1)
            w[g] = join(w[g], move_bits(load(extra), g, base_of(t)), 1 << base_of(t));
        else if (extra_of(t) == 2)
            w[g] = join(w[g], move_bits(load(extra + 64 * (g / 4)), 2 * (g % 4), 4), 0x30);
        if (is_iq4(t)) /* the table's values + 128 */
            w[g] = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_setr_epi8(1, 24, 45, 63, 79, 93, 106, 118, (char)129,
                                       (char)141, (char)153, (char)166, (char)181, (char)197, (char)217, (char)241)), w[g]);
    }
}

INLINE __m512i sub_scale(const int t, const uint8_t *sub)
{
    return t == PN_Q2_K ? _mm512_and_si512(load_u8(sub), _mm512_set1_epi32(15)) : load_s8(sub);
}

INLINE __m512 minimum(__m512 dmin, __m512i mn) /* -(dmin * mn) */
{
    return _mm512_xor_ps(times(dmin, mn), _mm512_set1_ps(-0.0f));
}

/* The sums come out scaled after this. Q2_K: code * sc stays below 46. Q3_K: (code - 4) * sc lies in -124..128, so plus 127
 * it is a byte. Two bytes go through one 16-bit product: what the low byte borrows from the high one the bias gives
 * back, as both end in 0..255. */
INLINE void scale_codes(const int t, const uint8_t *sub, block *o)
{
    __m512i s[2], bias[2];
    for (int h = 0; h < 2; h++) {
        __m512i v = sub_scale(t, sub + 16 * h);
        s[h] = _mm512_or_si512(_mm512_and_si512(v, _mm512_set1_epi32(0xffff)), _mm512_slli_epi32(v, 16));
        bias[h] = _mm512_sub_epi16(_mm512_set1_epi16(127), _mm512_slli_epi16(s[h], 2));
        bias[h] = _mm512_add_epi16(bias[h], _mm512_slli_epi16(bias[h], 8));
    }
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
        o->w[g] = _mm512_mullo_epi16(o->w[g], s[g / 4]);
        if (t == PN_Q3_K)
            o->w[g] = _mm512_add_epi16(o->w[g], bias[g / 4]);
    }
}

INLINE void load_block(const int t, const bool one, const uint8_t *codes, const uint8_t *scales, int j, block *o)
{
    const uint8_t *sub = scales + (has_m(t) ? 64 : 32) + j * sub_rows_of(t) * 16;
    __m512 d = load_f16(scales), m = has_m(t) ? load_f16(scales + 32) : d;
    load_codes(t, codes, o->w);
    o->a = d;
    o->b = o->c = m;
    if (t == PN_Q4_K || t == PN_Q5_K) {
        o->a = times(d, load_u8(sub));
        o->b = minimum(m, load_u8(sub + 16));
    } else if (t == PN_Q6_K) {
        o->a = times(d, load_s8(sub));
        o->b = times(d, load_s8(sub + 16));
    } else if (t == PN_IQ4_XS) {
        o->a = times(d, load_s8(sub));
    } else if (t == PN_Q2_K) {
        o->b = minimum(m, _mm512_srli_epi32(load_u8(sub), 4));
        o->c = minimum(m, _mm512_srli_epi32(load_u8(sub + 16), 4));
    }
    if (scales_codes(t, one)) {
        scale_codes(t, sub, o);
    } else if (t == PN_Q2_K || t == PN_Q3_K) {
        o->sc[0] = sub_scale(t, sub);
        o->sc[1] = sub_scale(t, sub + 16);
    }
}

/* What a column of activations brings, by half: its scale, the start of the integer sum, or for the minima the float sum
 * (MIN: f[0] of both). */
typedef struct extra {
    const float *d;
    const int32_t *start;
    const float *f;
} extra;

/* The same for n columns; flat arrays, so that this too runs in vectors. */
INLINE void prepare(const int t, const bool one, uint32_t n, const float *d, const int32_t *s, int32_t *start, float *f)
{
    const int offset = t == PN_Q4_0 ? 8 : t == PN_Q5_0 ? 16 : t == PN_Q6_K ? 32 : t == PN_Q3_K ? (one ? 4 : 127) : 128;
    for (uint32_t i = 0; i < 2 * n; i++) {
        if (has_m(t))
            f[i] = (float)s[i] * d[i];
        else
            start[i] = -offset * s[i];
    }
    if (class_of(t) == PN_Q_MIN)
        for (uint32_t c = 0; c < n; c++)
            f[2 * c] += f[2 * c + 1];
}

INLINE __m512i spread4(const int8_t *x)
{
    int32_t v;
    memcpy(&v, x, 4);
    return _mm512_set1_epi32(v);
}

/* One panel's outputs after this 32-block, from its integer sums (matmul_q.h). */
INLINE __m512 step(const int t, const bool one, const block *o, __m512i i0, __m512i i1, const extra *e, __m512 acc)
{
    const __m512 d0 = _mm512_set1_ps(e->d[0]), d1 = _mm512_set1_ps(e->d[1]);
    if (one && (t == PN_Q2_K || t == PN_Q3_K)) {
        i0 = _mm512_mullo_epi32(i0, o->sc[0]);
        i1 = _mm512_mullo_epi32(i1, o->sc[1]);
    }
    __m512 u = times(d0, i0);
    if (t == PN_Q6_K)
        return _mm512_fmadd_ps(times(d1, i1), o->b, _mm512_fmadd_ps(u, o->a, acc));
    u = _mm512_fmadd_ps(_mm512_cvtepi32_ps(i1), d1, u);
    acc = _mm512_fmadd_ps(u, o->a, acc);
    if (has_m(t))
        acc = _mm512_fmadd_ps(o->b, _mm512_set1_ps(e->f[0]), acc);
    if (t == PN_Q2_K)
        acc = _mm512_fmadd_ps(o->c, _mm512_set1_ps(e->f[1]), acc);
    return acc;
}

/* np panels and one column; each broadcast of x serves all panels. */
INLINE void column(const int t, const bool one, const int np, const block *o, const int8_t *q, const extra *e, __m512 acc[2])
{
    const __m512i start0 = has_m(t) ? _mm512_setzero_si512() : _mm512_set1_epi32(e->start[0]);
    const __m512i start1 = has_m(t) ? _mm512_setzero_si512() : _mm512_set1_epi32(e->start[1]);
    __m512i sum[2][2] = {{start0, start0}, {start1, start1}};
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
        __m512i x = spread4(q + 4 * g);
#pragma GCC unroll 2
        for (int p = 0; p < np; p++)
            sum[g / 4][p] = _mm512_dpbusd_epi32(sum[g / 4][p], o[p].w[g], x);
    }
#pragma GCC unroll 2
    for (int p = 0; p < np; p++)
        acc[p] = step(t, one, &o[p], sum[0][p], sum[1][p], e, acc[p]);
}

/* A loaded 32-block against all columns of the tile; accumulators in L1. */
INLINE void block_columns(const int t, const int np, const block *o, const pn_q_tile *k, size_t at)
{
    const int8_t *q = k->x->q + 32 * at;
    const float *d = k->x->d + 2 * at;
    const int32_t *s = k->x->s + 2 * at;
    float *acc = k->acc;
    const uint32_t n = k->n_cols;
    int32_t start[2 * PN_Q_COLS];
    float f[2 * PN_Q_COLS];
    prepare(t, false, n, d, s, start, f);
    for (uint32_t c = 0; c < n; c++, acc += 32, q += 32) {
        __m512 a[2] = {_mm512_load_ps(acc), np > 1 ? _mm512_load_ps(acc + 16) : _mm512_setzero_ps()};
        column(t, false, np, o, q, &(extra){d + 2 * c, start + 2 * c, f + 2 * c}, a);
        _mm512_store_ps(acc, a[0]);
        if (np > 1)
            _mm512_store_ps(acc + 16, a[1]);
    }
}

INLINE void one_column(const int t, const int np, const pn_q_tile *k)
{
    const uint8_t *codes[2] = {k->codes[0], k->codes[1]}, *scales[2] = {k->scales[0], k->scales[1]};
    __m512 acc[2] = {_mm512_load_ps(k->acc), _mm512_load_ps(k->acc + 16)};
    for (size_t b = 0; b < k->n_blocks; b += (size_t)per_of(t)) {
        const distance far = ahead_of(t, k, b);
        for (int j = 0; j < per_of(t); j++) {
            size_t at = (k->b0 + b + (size_t)j) * k->x->cap + k->col0;
            int32_t start[2];
            float f[2];
            prepare(t, true, 1, k->x->d + 2 * at, k->x->s + 2 * at, start, f);
            block o[2];
#pragma GCC unroll 2
            for (int p = 0; p < np; p++) {
                fetch(codes[p] + far.codes, code_bytes_of(t));
                load_block(t, true, codes[p], scales[p], j, &o[p]);
                codes[p] += code_bytes_of(t);
            }
            column(t, true, np, o, k->x->q + 32 * at, &(extra){k->x->d + 2 * at, start, f}, acc);
        }
        for (int p = 0; p < np; p++) {
            fetch(scales[p] + far.scales, scale_bytes_of(t));
            scales[p] += scale_bytes_of(t);
        }
    }
    for (int p = 0; p < np; p++)
        _mm512_store_ps(k->acc + 16 * p, acc[p]);
}

INLINE void columns(const int t, const int np, const pn_q_tile *k)
{
    const uint8_t *codes[2] = {k->codes[0], k->codes[1]}, *scales[2] = {k->scales[0], k->scales[1]}, *ahead = k->ahead;
    for (size_t b = 0; b < k->n_blocks; b += (size_t)per_of(t)) {
        for (int j = 0; j < per_of(t); j++) {
            block o[2];
            ahead = fetch_lines(ahead, k->ahead_lines);
            for (int p = 0; p < np; p++) {
                if (k->stream) fetch_ahead(t, codes[p]);
                load_block(t, false, codes[p], scales[p], j, &o[p]);
                codes[p] += code_bytes_of(t);
            }
            block_columns(t, np, o, k, (k->b0 + b + (size_t)j) * k->x->cap + k->col0);
        }
        for (int p = 0; p < np; p++)
            scales[p] += scale_bytes_of(t);
    }
}

/* One function a type keeps each body's registers to itself. */
#define DEFINE(T) \
    static __attribute__((noinline)) void one_##T(const pn_q_tile *k) \
    { \
        if (k->n_panels == 2) one_column(T, 2, k); else one_column(T, 1, k); \
    } \
    static __attribute__((noinline)) void many_##T(const pn_q_tile *k) \
    { \
        if (k->n_panels == 2) columns(T, 2, k); else columns(T, 1, k); \
    }
FOR_Q_TYPES(DEFINE)

static void tile_avx512(const pn_q_tile *k)
{
    switch (k->type) {
#define CASE(T) case T: if (k->n_cols == 1) one_##T(k); else many_##T(k); break;
    FOR_Q_TYPES(CASE)
    default: break;
    }
}

void pn_matmul_q_avx512vnni(const pn_matrix *m, uint32_t panel0, uint32_t panel1, const pn_acts *x, uint32_t col0,
                            uint32_t col1, float *y, size_t y_stride, void *scratch)
{
    pn_matmul_q_walk(m, panel0, panel1, x, col0, col1, y, y_stride, scratch, tile_avx512, PN_Q_MOST_COLS);
}

INLINE __m512 clamp127(__m512 v) /* NaN becomes -127, as in the reference */
{
    return _mm512_min_ps(_mm512_max_ps(v, _mm512_set1_ps(-127)), _mm512_set1_ps(127));
}

/* [a0 a1 a2 a3] in each 128 bits: of the four values there, the greatest (or the sum) of each vector. */
#define ACROSS(name, type, op, lo, hi, lo2, hi2) \
    INLINE type name(type a, type b, type c, type d) \
    { \
        type ab = op(lo(a, b), hi(a, b)), cd = op(lo(c, d), hi(c, d)); \
        return op(lo2(ab, cd), hi2(ab, cd)); \
    }
INLINE __m512 low_pairs(__m512 a, __m512 b) { return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b))); }
INLINE __m512 high_pairs(__m512 a, __m512 b) { return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b))); }
ACROSS(greatest, __m512, _mm512_max_ps, _mm512_unpacklo_ps, _mm512_unpackhi_ps, low_pairs, high_pairs)
ACROSS(sums, __m512i, _mm512_add_epi32, _mm512_unpacklo_epi32, _mm512_unpackhi_epi32, _mm512_unpacklo_epi64, _mm512_unpackhi_epi64)

INLINE __m128 greatest_of(__m512 v)
{
    __m256 h = _mm256_max_ps(_mm512_castps512_ps256(v), _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(v), 1)));
    return _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
}

INLINE __m128i sum_of(__m512i v)
{
    __m256i h = _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
}

INLINE void store_halves(pn_acts *a, size_t at, __m512i q0, __m512i q1, __m128 d, __m128i s)
{
    _mm_storeu_si128((void *)(a->q + 16 * at), _mm512_cvtepi32_epi8(q0));
    _mm_storeu_si128((void *)(a->q + 16 * at + 16), _mm512_cvtepi32_epi8(q1));
    _mm_storel_pi((void *)(a->d + at), d);
    _mm_storel_epi64((void *)(a->s + at), s);
}

/* Four halves at once, so that each scale costs a quarter of a division; two when nothing is left for the others. */
INLINE void put_halves(pn_acts *a, uint32_t col, const float *x, size_t b, const bool four)
{
    __m512 v[4], top[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        v[i] = i < 2 || four ? _mm512_loadu_ps(x + 16 * i) : _mm512_setzero_ps();
        top[i] = _mm512_max_ps(_mm512_abs_ps(v[i]), _mm512_setzero_ps()); /* NaN on the left: skipped */
    }
    const __m128 amax = greatest_of(greatest(top[0], top[1], top[2], top[3])), most = _mm_set1_ps(127);
    __m128 id = _mm_div_ps(most, amax);
    const __m128 ok = _mm_cmp_ps(id, _mm_set1_ps(FLT_MAX), _CMP_LE_OQ), d = _mm_and_ps(_mm_div_ps(amax, most), ok);
    const __m512 by = _mm512_broadcast_f32x4(_mm_and_ps(id, ok));
    __m512i q[4];
    q[0] = _mm512_cvtps_epi32(clamp127(_mm512_mul_ps(v[0], _mm512_permute_ps(by, 0x00))));
    q[1] = _mm512_cvtps_epi32(clamp127(_mm512_mul_ps(v[1], _mm512_permute_ps(by, 0x55))));
    q[2] = _mm512_cvtps_epi32(clamp127(_mm512_mul_ps(v[2], _mm512_permute_ps(by, 0xaa))));
    q[3] = _mm512_cvtps_epi32(clamp127(_mm512_mul_ps(v[3], _mm512_permute_ps(by, 0xff))));
    const __m128i s = sum_of(sums(q[0], q[1], q[2], q[3]));
    size_t at = 2 * (b * a->cap + col);
    store_halves(a, at, q[0], q[1], d, s);
    if (four) store_halves(a, at + 2 * a->cap, q[2], q[3], _mm_movehl_ps(d, d), _mm_unpackhi_epi64(s, s));
}

void pn_acts_put_q_avx512(pn_acts *a, uint32_t col, const float *x)
{
    size_t b = 0;
    for (; b + 2 <= a->k / 32; b += 2) put_halves(a, col, x + 32 * b, b, true);
    if (b < a->k / 32) put_halves(a, col, x + 32 * b, b, false);
}
