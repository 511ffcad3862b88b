/* The quantised product on AVX-512 with VNNI: one vector is 4 k of 16 rows, one vpdpbusd multiplies it by 4 broadcast
 * activations. Unsigned codes keep their offset; the sum starts at -offset * sum(x) instead of 0, which is exact. */
#include <float.h>

#include "tensor/matmul_q_x86.h"

/* One panel's 32-block in registers. a, b by class: PLAIN dw; MIN dw, mw; HALF dw0, dw1; 2K d, -dmin; 3K d. */
typedef struct block {
    __m512i w[8];
    __m512 a, b;
    __m512i mins;  /* 2K: pairs of 16-bit minima */
    __m512i sc[2]; /* 2K, 3K, one column: integer scales of the halves */
} block;

/* Scaling codes (2K, 3K) pays when many columns share it; one column sums the halves apart and scales the sums. */
INLINE bool scales_codes(const int t, const bool one) { return !one && (t == PN_Q2_K || t == PN_Q3_K); }
INLINE bool sums_halves(const int t, const bool one) { return t == PN_Q6_K || (one && (t == PN_Q2_K || t == PN_Q3_K)); }

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

INLINE __m512i pair_mins(const uint8_t *sub)
{
    __m512i n0 = _mm512_srli_epi32(load_u8(sub), 4), n1 = _mm512_srli_epi32(load_u8(sub + 16), 4);
    return _mm512_or_si512(n0, _mm512_slli_epi32(n1, 16));
}

/* Both halves share one sum after this. Q2_K: code * sc stays below 46. Q3_K: (code - 4) * sc lies in -124..128, so plus 127
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
    const __m512 sign = _mm512_set1_ps(-0.0f);
    load_codes(t, codes, o->w);
    o->a = d;
    o->b = m;
    if (t == PN_Q4_K || t == PN_Q5_K) {
        o->a = times(d, load_u8(sub));
        o->b = _mm512_xor_ps(times(m, load_u8(sub + 16)), sign);
    } else if (t == PN_Q6_K) {
        o->a = times(d, load_s8(sub));
        o->b = times(d, load_s8(sub + 16));
    } else if (t == PN_IQ4_XS) {
        o->a = times(d, load_s8(sub));
    } else if (t == PN_Q2_K) {
        o->mins = pair_mins(sub);
        o->b = _mm512_xor_ps(m, sign);
    }
    if (scales_codes(t, one)) {
        scale_codes(t, sub, o);
    } else if (t == PN_Q2_K || t == PN_Q3_K) {
        o->sc[0] = sub_scale(t, sub);
        o->sc[1] = sub_scale(t, sub + 16);
    }
}

/* What a column of activations brings besides its bytes, from its half sums: the start of the integer sum (of each half),
 * or in a the bits of the float sum (MIN), or the halves as a 16-bit pair (2K). */
typedef struct extra { int32_t a, b; } extra;

INLINE extra prepare(const int t, const bool one, int32_t s0, int32_t s1)
{
    const int offset = t == PN_Q4_0 ? 8 : t == PN_Q5_0 ? 16 : t == PN_Q3_K ? 127 : 128;
    extra e = {-offset * (s0 + s1), 0};
    if (class_of(t) == PN_Q_MIN) {
        float f = (float)(s0 + s1);
        memcpy(&e.a, &f, 4);
    } else if (t == PN_Q2_K) {
        e.a = (int32_t)((uint32_t)(s0 & 0xffff) | (uint32_t)s1 << 16);
    } else if (sums_halves(t, one)) {
        e.a = (t == PN_Q3_K ? -4 : -32) * s0;
        e.b = (t == PN_Q3_K ? -4 : -32) * s1;
    }
    return e;
}

INLINE __m512i spread4(const int8_t *x)
{
    int32_t v;
    memcpy(&v, x, 4);
    return _mm512_set1_epi32(v);
}

/* t of one panel, from its integer sums. */
INLINE __m512 term(const int t, const bool one, const block *o, __m512i sum, __m512i sum1, __m512i pre)
{
    if (class_of(t) == PN_Q_MIN)
        return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), o->a, _mm512_mul_ps(o->b, _mm512_castsi512_ps(pre)));
    if (one && (t == PN_Q2_K || t == PN_Q3_K))
        sum = _mm512_add_epi32(_mm512_mullo_epi32(sum, o->sc[0]), _mm512_mullo_epi32(sum1, o->sc[1]));
    __m512 v = times(o->a, sum);
    if (t == PN_Q6_K)
        return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum1), o->b, v);
    if (t == PN_Q2_K)
        return _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_madd_epi16(o->mins, pre)), o->b, v);
    return v;
}

/* acc = fmaf(t, dx, acc) for np panels and one column; each broadcast of x serves all panels. */
INLINE void column(const int t, const bool one, const int np, const block *o, const int8_t *q, float dx, extra e,
                   __m512 acc[2])
{
    const __m512i pre = _mm512_set1_epi32(e.a), zero = _mm512_setzero_si512();
    const __m512i start = class_of(t) == PN_Q_MIN || t == PN_Q2_K ? zero : pre;
    const __m512i start1 = sums_halves(t, one) && t != PN_Q2_K ? _mm512_set1_epi32(e.b) : zero;
    __m512i sum[2] = {start, start}, sum1[2] = {start1, start1};
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
        __m512i x = spread4(q + 4 * g);
#pragma GCC unroll 2
        for (int p = 0; p < np; p++) {
            if (sums_halves(t, one) && g >= 4)
                sum1[p] = _mm512_dpbusd_epi32(sum1[p], o[p].w[g], x);
            else
                sum[p] = _mm512_dpbusd_epi32(sum[p], o[p].w[g], x);
        }
    }
#pragma GCC unroll 2
    for (int p = 0; p < np; p++)
        acc[p] = _mm512_fmadd_ps(term(t, one, &o[p], sum[p], sum1[p], pre), _mm512_set1_ps(dx), acc[p]);
}

/* A loaded 32-block against all columns of the tile; accumulators in L1. */
INLINE void block_columns(const int t, const int np, const block *o, const pn_q_tile *k, size_t at)
{
    const int8_t *q = k->x->q + 32 * at;
    const float *dx = k->x->d + at;
    const int32_t *s = k->x->s + 2 * at;
    float *acc = k->acc;
    const uint32_t n = k->n_cols;
    extra e[PN_Q_COLS];
    for (uint32_t c = 0; c < n; c++)
        e[c] = prepare(t, false, s[2 * c], s[2 * c + 1]);
    for (uint32_t c = 0; c < n; c++, acc += 32, q += 32) {
        __m512 a[2] = {_mm512_load_ps(acc), np > 1 ? _mm512_load_ps(acc + 16) : _mm512_setzero_ps()};
        column(t, false, np, o, q, dx[c], e[c], a);
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
        for (int j = 0; j < per_of(t); j++) {
            size_t at = (k->b0 + b + (size_t)j) * k->x->cap + k->col0;
            extra e = prepare(t, true, k->x->s[2 * at], k->x->s[2 * at + 1]);
            block o[2];
#pragma GCC unroll 2
            for (int p = 0; p < np; p++) {
                fetch_ahead(t, codes[p]);
                load_block(t, true, codes[p], scales[p], j, &o[p]);
                codes[p] += code_bytes_of(t);
            }
            column(t, true, np, o, k->x->q + 32 * at, k->x->d[at], e, acc);
        }
        for (int p = 0; p < np; p++)
            scales[p] += scale_bytes_of(t);
    }
    for (int p = 0; p < np; p++)
        _mm512_store_ps(k->acc + 16 * p, acc[p]);
}

INLINE void columns(const int t, const int np, const pn_q_tile *k)
{
    const uint8_t *codes[2] = {k->codes[0], k->codes[1]}, *scales[2] = {k->scales[0], k->scales[1]};
    for (size_t b = 0; b < k->n_blocks; b += (size_t)per_of(t)) {
        for (int j = 0; j < per_of(t); j++) {
            block o[2];
            for (int p = 0; p < np; p++) {
                fetch_ahead(t, codes[p]);
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
    pn_matmul_q_walk(m, panel0, panel1, x, col0, col1, y, y_stride, scratch, tile_avx512);
}

INLINE __m512 clamp127(__m512 v) /* NaN becomes -127, as in the reference */
{
    return _mm512_min_ps(_mm512_max_ps(v, _mm512_set1_ps(-127)), _mm512_set1_ps(127));
}

void pn_acts_put_q_avx512(pn_acts *a, uint32_t col, const float *x)
{
    for (size_t b = 0; b < a->k / 32; b++) {
        size_t i = b * a->cap + col;
        __m512 v0 = _mm512_loadu_ps(x + 32 * b), v1 = _mm512_loadu_ps(x + 32 * b + 16);
        __m512 top = _mm512_max_ps(_mm512_abs_ps(v1), _mm512_max_ps(_mm512_abs_ps(v0), _mm512_setzero_ps()));
        float amax = _mm512_reduce_max_ps(top), id = 127.0f / amax;
        bool ok = id <= FLT_MAX;
        a->d[i] = ok ? amax / 127.0f : 0;
        __m512 scale = _mm512_set1_ps(ok ? id : 0);
        __m512i q0 = _mm512_cvtps_epi32(clamp127(_mm512_mul_ps(v0, scale)));
        __m512i q1 = _mm512_cvtps_epi32(clamp127(_mm512_mul_ps(v1, scale)));
        _mm_storeu_si128((void *)(a->q + 32 * i), _mm512_cvtepi32_epi8(q0));
        _mm_storeu_si128((void *)(a->q + 32 * i + 16), _mm512_cvtepi32_epi8(q1));
        a->s[2 * i] = _mm512_reduce_add_epi32(q0);
        a->s[2 * i + 1] = _mm512_reduce_add_epi32(q1);
    }
}
