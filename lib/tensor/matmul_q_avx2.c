/* The quantised product on AVX2. Half a panel (8 rows) by 4 k is a vector; vpmaddubsw gives 16-bit sums of pairs, which
 * saturate, so each format adds only as many of them as its codes allow before widening:
 *   codes to 3, 7 (2K, 3K)  4 groups: 4 * 2 * 7 * 127 = 7112; widened by multiplying with the half's scale
 *   codes to 15             4 groups (a half, as it has its own scale): 4 * 2 * 15 * 127 = 15240
 *   codes to 31             4 groups: 4 * 2 * 31 * 127 = 31496
 *   codes to 63             2 groups: 2 * 2 * 63 * 127 = 32004
 *   signed bytes            1 group: |w| times the activation with w's sign, 2 * 128 * 127 = 32512 */
#include <float.h>

#include "tensor/matmul_q_x86.h"

/* Half a panel's 32-block. a, b, c by class: PLAIN dw; MIN dw, mw; HALF dw0, dw1; 2K d, mw0, mw1; 3K d. */
typedef struct block {
    __m256i w[8];       /* codes; |values| of signed types */
    __m256i sign[8];    /* signed types: the values */
    __m256 a, b, c;
    __m256i sc[2];      /* 2K, 3K: each half's scale, twice as 16 bits */
} block;

INLINE bool is_signed(int t) { return t == PN_Q8_0 || is_iq4(t); }
INLINE __m256i load(const uint8_t *p) { return _mm256_load_si256((const void *)p); }
INLINE __m256i load_u8(const uint8_t *p) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)p)); }
INLINE __m256i load_s8(const uint8_t *p) { return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)p)); }
INLINE __m256 load_f16(const uint8_t *p) { return _mm256_cvtph_ps(_mm_load_si128((const void *)p)); }
INLINE __m256 times(__m256 d, __m256i n) { return _mm256_mul_ps(d, _mm256_cvtepi32_ps(n)); }
INLINE __m256 negative(__m256 v) { return _mm256_xor_ps(v, _mm256_set1_ps(-0.0f)); }

/* The low 16 bits of each lane twice. */
INLINE __m256i twice16(__m256i v)
{
    return _mm256_or_si256(_mm256_and_si256(v, _mm256_set1_epi32(0xffff)), _mm256_slli_epi32(v, 16));
}

/* Bits from `from` on moved to `to`; the mask cuts neighbours off. */
INLINE __m256i bits(__m256i v, int from, int to, int mask)
{
    v = from > to ? _mm256_srli_epi16(v, from - to) : from < to ? _mm256_slli_epi16(v, to - from) : v;
    return _mm256_and_si256(v, _mm256_set1_epi8((char)mask));
}

/* p: the 32-block's planes, at this half's 32 bytes of the first vector. */
INLINE void load_codes(const int t, const uint8_t *p, block *o)
{
    const uint8_t *extra = p + 64 * base_of(t);
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
        __m256i w;
        if (base_of(t) == 8)
            w = _mm256_xor_si256(load(p + 64 * g), _mm256_set1_epi8((char)128));
        else if (base_of(t) == 4)
            w = bits(load(p + 64 * (g % 4)), 4 * (g / 4), 0, 15);
        else
            w = bits(load(p + 64 * (g / 4)), 2 * (g % 4), 0, 3);
        if (extra_of(t) == 1)
            w = _mm256_or_si256(w, bits(load(extra), g, base_of(t), 1 << base_of(t)));
        else if (extra_of(t) == 2)
            w = _mm256_or_si256(w, bits(load(extra + 64 * (g / 4)), 2 * (g % 4), 4, 0x30));
        if (is_iq4(t))
            w = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_setr_epi8(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13,
                                    25, 38, 53, 69, 89, 113)), w);
        if (is_signed(t)) {
            o->sign[g] = w;
            w = _mm256_abs_epi8(w);
        }
        o->w[g] = w;
    }
}

INLINE void load_sub(const int t, const uint8_t *sub, __m256 d, __m256 m, block *o)
{
    if (t == PN_Q4_K || t == PN_Q5_K) {
        o->a = times(d, load_u8(sub));
        o->b = negative(times(m, load_u8(sub + 16)));
    } else if (t == PN_Q6_K) {
        o->a = times(d, load_s8(sub));
        o->b = times(d, load_s8(sub + 16));
    } else if (t == PN_IQ4_XS) {
        o->a = times(d, load_s8(sub));
    } else if (t == PN_Q2_K) {
        __m256i s0 = load_u8(sub), s1 = load_u8(sub + 16), low = _mm256_set1_epi32(15);
        o->b = negative(times(m, _mm256_srli_epi32(s0, 4)));
        o->c = negative(times(m, _mm256_srli_epi32(s1, 4)));
        o->sc[0] = twice16(_mm256_and_si256(s0, low));
        o->sc[1] = twice16(_mm256_and_si256(s1, low));
    } else if (t == PN_Q3_K) {
        o->sc[0] = twice16(load_s8(sub));
        o->sc[1] = twice16(load_s8(sub + 16));
    }
}

/* h: upper half of the panel's rows. */
INLINE void load_block(const int t, const uint8_t *codes, const uint8_t *scales, int j, int h, block *o)
{
    const uint8_t *sub = scales + (has_m(t) ? 64 : 32) + j * sub_rows_of(t) * 16;
    __m256 d = load_f16(scales + 16 * h), m = has_m(t) ? load_f16(scales + 32 + 16 * h) : d;
    load_codes(t, codes + 32 * h, o);
    o->a = d;
    o->b = o->c = m;
    load_sub(t, sub + 8 * h, d, m, o);
}

INLINE int offset_of(int t) { return t == PN_Q4_0 ? 8 : t == PN_Q5_0 ? 16 : t == PN_Q6_K ? 32 : t == PN_Q3_K ? 4 : 0; }
INLINE bool has_offset(int t) { return offset_of(t) && t != PN_Q3_K; }

/* What the columns bring besides their bytes and scales, two of each, as their scales lie: the start of a half's integer sum (3K: of
 * its 16-bit sums of pairs), or for the minima its float sum (MIN: of both halves in the first). */
typedef struct extra {
    int32_t start[2 * PN_Q_COLS];
    float f[2 * PN_Q_COLS];
} extra;

INLINE void prepare(const int t, const bool one, uint32_t n, const float *d, const int32_t *s, extra *e)
{
    uint32_t i = 0;
    for (; !one && i + 8 <= 2 * n; i += 8) {
        const __m256i v = _mm256_loadu_si256((const void *)(s + i));
        if (has_m(t)) {
            __m256 f = _mm256_mul_ps(_mm256_cvtepi32_ps(v), _mm256_loadu_ps(d + i));
            if (class_of(t) == PN_Q_MIN) f = _mm256_add_ps(f, _mm256_permute_ps(f, 0xb1));
            _mm256_storeu_ps(e->f + i, f);
        } else if (offset_of(t)) {
            __m256i start = _mm256_mullo_epi32(v, _mm256_set1_epi32(-offset_of(t)));
            if (t == PN_Q3_K) start = _mm256_and_si256(start, _mm256_set1_epi32(0xffff)); /* the other pair's sum starts at 0 */
            _mm256_storeu_si256((void *)(e->start + i), start);
        }
    }
    for (; i < 2 * n; i += 2) {
        for (uint32_t h = i; h < i + 2; h++) {
            if (has_m(t)) e->f[h] = (float)s[h] * d[h];
            else if (offset_of(t)) e->start[h] = t == PN_Q3_K ? (-4 * s[h]) & 0xffff : -offset_of(t) * s[h];
        }
        if (class_of(t) == PN_Q_MIN) e->f[i] += e->f[i + 1];
    }
}

/* ---- C columns by a panel's 16 rows -------------------------------------------------------------
 * Both halves of the panel share a column's bytes, and up to 4 columns (signed types 3: registers) share the codes: then a step is
 * bound by its arithmetic, not by its loads. 2C sums, column by column, rows 0..7 then 8..15. What is done to the sums is done to
 * all of them before the next thing is: the processor sees too few instructions ahead to find the others otherwise. */
enum { MOST_SUMS = 8 };
#define UNROLL _Pragma("GCC unroll 8")

/* Compilers make trees of integer sums, which want more registers than there are. */
INLINE __m256i chained(__m256i v)
{
    __asm__("" : "+x"(v));
    return v;
}

/* And they load again what several columns share. */
INLINE __m256i shared(const int C, __m256i v) { return C > 1 ? chained(v) : v; }

/* They also spread a block over registers that it does not fit, and copy it back. */
INLINE const block *in_memory(const block *o)
{
    __asm__("" : "+r"(o) : : "memory");
    return o;
}

/* 16-bit sums of pairs over groups [g, g + n). */
INLINE void pairs(const int t, const int C, const block o[2], const int8_t *q, int g, int n, __m256i sum[MOST_SUMS])
{
    UNROLL for (int i = g; i < g + n; i++) {
        const __m256i w[2] = {shared(C, o[0].w[i]), shared(C, o[1].w[i])};
        UNROLL for (int c = 0; c < C; c++) {
            int32_t v;
            memcpy(&v, q + 32 * c + 4 * i, 4);
            const __m256i x = shared(C, _mm256_set1_epi32(v));
            UNROLL for (int h = 0; h < 2; h++) {
                const __m256i y = _mm256_maddubs_epi16(w[h], is_signed(t) ? _mm256_sign_epi8(x, o[h].sign[i]) : x);
                sum[2 * c + h] = i == g ? y : chained(_mm256_add_epi16(sum[2 * c + h], y));
            }
        }
    }
}

/* A half's exact sums; 2K and 3K: scaled. 16 bits hold 3K's 7112 less 4 * 16 * 127. */
INLINE void half_sums(const int t, const int C, const block o[2], const int8_t *q, int half, const int32_t *start, __m256i sum[MOST_SUMS])
{
    const int step = is_signed(t) ? 1 : t == PN_Q6_K ? 2 : 4;
    const __m256i ones = _mm256_set1_epi16(1);
    UNROLL for (int i = 0; i < 4; i += step) {
        __m256i p[MOST_SUMS];
        pairs(t, C, o, q, 4 * half + i, step, p);
        UNROLL for (int s = 0; s < 2 * C; s++) {
            if (t == PN_Q3_K) p[s] = _mm256_add_epi16(p[s], _mm256_set1_epi32(start[s / 2 * 2 + half]));
            const __m256i y = _mm256_madd_epi16(p[s], t == PN_Q2_K || t == PN_Q3_K ? o[s % 2].sc[half] : ones);
            if (i) sum[s] = chained(_mm256_add_epi32(sum[s], y));
            else sum[s] = has_offset(t) ? _mm256_add_epi32(y, _mm256_set1_epi32(start[s / 2 * 2 + half])) : y;
        }
    }
}

/* The columns' outputs after this 32-block (matmul_q.h). */
INLINE void step_columns(const int t, const int C, const block o[2], const int8_t *q, const float *d, const int32_t *start, const float *f, float *acc)
{
    __m256i sum[MOST_SUMS];
    __m256 u[MOST_SUMS];
    half_sums(t, C, o, q, 0, start, sum);
    UNROLL for (int s = 0; s < 2 * C; s++) u[s] = times(_mm256_set1_ps(d[s / 2 * 2]), sum[s]);
    half_sums(t, C, o, q, 1, start, sum);
    UNROLL for (int s = 0; s < 2 * C; s++) {
        const __m256 d1 = _mm256_set1_ps(d[s / 2 * 2 + 1]);
        float *at = acc + 32 * (s / 2) + 8 * (s % 2);
        if (t == PN_Q6_K)
            _mm256_store_ps(at, _mm256_fmadd_ps(times(d1, sum[s]), o[s % 2].b, _mm256_fmadd_ps(u[s], o[s % 2].a, _mm256_load_ps(at))));
        else
            u[s] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[s]), d1, u[s]);
    }
    if (t == PN_Q6_K) return;
    UNROLL for (int s = 0; s < 2 * C; s++) u[s] = _mm256_fmadd_ps(u[s], o[s % 2].a, _mm256_load_ps(acc + 32 * (s / 2) + 8 * (s % 2)));
    if (has_m(t))
        UNROLL for (int s = 0; s < 2 * C; s++) u[s] = _mm256_fmadd_ps(o[s % 2].b, _mm256_set1_ps(f[s / 2 * 2]), u[s]);
    if (t == PN_Q2_K)
        UNROLL for (int s = 0; s < 2 * C; s++) u[s] = _mm256_fmadd_ps(o[s % 2].c, _mm256_set1_ps(f[s / 2 * 2 + 1]), u[s]);
    UNROLL for (int s = 0; s < 2 * C; s++) _mm256_store_ps(acc + 32 * (s / 2) + 8 * (s % 2), u[s]);
}

INLINE void block_columns(const int t, const bool one, const block o[2], const pn_q_tile *k, size_t at, const extra *e, float *acc)
{
    const int8_t *q = k->x->q + 32 * at;
    const float *d = k->x->d + 2 * at;
    const uint32_t n = k->n_cols;
    uint32_t c = 0;
    if (one) {
        step_columns(t, 1, o, q, d, e->start, e->f, acc);
        return;
    }
    o = in_memory(o);
#define STEP(C) step_columns(t, C, o, q + 32 * c, d + 2 * c, e->start + 2 * c, e->f + 2 * c, acc + 32 * c)
    for (; !is_signed(t) && (n - c == 4 || n - c > 6); c += 4) STEP(4);
    for (; n - c == 3 || n - c > 4; c += 3) STEP(3);
    for (; n - c >= 2; c += 2) STEP(2);
    if (c < n) STEP(1);
#undef STEP
}

INLINE void columns(const int t, const bool one, const pn_q_tile *k)
{
    const uint8_t *codes[2] = {k->codes[0], k->codes[1]}, *scales[2] = {k->scales[0], k->scales[1]};
    const uint8_t *ahead = k->ahead;
    extra e;
    block o[2];
    for (size_t b = 0; b < k->n_blocks; b += (size_t)per_of(t)) {
        const distance far = ahead_of(t, k, b);
        for (int j = 0; j < per_of(t); j++) {
            size_t at = (k->b0 + b + (size_t)j) * k->x->cap + k->col0;
            prepare(t, one, one ? 1 : k->n_cols, k->x->d + 2 * at, k->x->s + 2 * at, &e);
            ahead = fetch_lines(ahead, k->ahead_lines);
            for (uint32_t p = 0; p < k->n_panels; p++) {
                if (k->stream) fetch(codes[p] + far.codes, code_bytes_of(t));
                load_block(t, codes[p], scales[p], j, 0, &o[0]);
                load_block(t, codes[p], scales[p], j, 1, &o[1]);
                block_columns(t, one, o, k, at, &e, k->acc + 16 * p);
                codes[p] += code_bytes_of(t);
            }
        }
        for (uint32_t p = 0; p < k->n_panels; p++) {
            if (k->stream) fetch(scales[p] + far.scales, scale_bytes_of(t));
            scales[p] += scale_bytes_of(t);
        }
    }
}

/* One column uses a block once: its registers suffice. */
#define DEFINE(T) \
    static __attribute__((noinline)) void one_##T(const pn_q_tile *k) { columns(T, true, k); } \
    static __attribute__((noinline)) void tile_##T(const pn_q_tile *k) { columns(T, false, k); }
FOR_Q_TYPES(DEFINE)

static void tile_avx2(const pn_q_tile *k)
{
    switch (k->type) {
#define CASE(T) case T: (k->n_cols == 1 ? one_##T : tile_##T)(k); break;
    FOR_Q_TYPES(CASE)
    default: break;
    }
}

void pn_matmul_q_avx2(const pn_matrix *m, uint32_t panel0, uint32_t panel1, const pn_acts *x, uint32_t col0, uint32_t col1,
                      float *y, size_t y_stride, void *scratch)
{
    /* Long columns come from beyond L2 each time that they are needed: then it is better to read the panels again. */
    const uint32_t most = m->k < 4096 ? PN_Q_MOST_COLS : PN_Q_COLS;
    pn_matmul_q_walk(m, panel0, panel1, x, col0, col1, y, y_stride, scratch, tile_avx2, most);
}

INLINE __m256i round_clamped(__m256 v, __m256 scale) /* NaN becomes -127, as in the reference */
{
    v = _mm256_max_ps(_mm256_mul_ps(v, scale), _mm256_set1_ps(-127));
    return _mm256_cvtps_epi32(_mm256_min_ps(v, _mm256_set1_ps(127)));
}

INLINE float top_of(__m256 v)
{
    __m128 h = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    h = _mm_max_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_max_ss(h, _mm_shuffle_ps(h, h, 1)));
}

INLINE int32_t sum_of(__m256i v)
{
    __m128i h = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    h = _mm_add_epi32(h, _mm_shuffle_epi32(h, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(h, _mm_shuffle_epi32(h, 0xb1)));
}

INLINE void put_half(const float *x, int8_t *q, float *d, int32_t *s)
{
    const __m256 sign = _mm256_set1_ps(-0.0f), v0 = _mm256_loadu_ps(x), v1 = _mm256_loadu_ps(x + 8);
    __m256 top = _mm256_max_ps(_mm256_andnot_ps(sign, v0), _mm256_setzero_ps()); /* NaN on the left: skipped */
    float amax = top_of(_mm256_max_ps(_mm256_andnot_ps(sign, v1), top)), id = 127.0f / amax;
    bool ok = id <= FLT_MAX;
    __m256 scale = _mm256_set1_ps(ok ? id : 0);
    __m256i i0 = round_clamped(v0, scale), i1 = round_clamped(v1, scale);
    *d = ok ? amax / 127.0f : 0;
    *s = sum_of(_mm256_add_epi32(i0, i1));
    __m256i all = _mm256_permute4x64_epi64(_mm256_packs_epi32(i0, i1), 0xd8);
    _mm_storeu_si128((void *)q, _mm_packs_epi16(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1)));
}

/* Of each of four vectors the greatest, none of them NaN: those of 0 and 2 twice each in the lower half, those of 1 and 3 in the upper. */
INLINE __m256 tops_of(const __m256 v[4])
{
    __m256 a = _mm256_max_ps(_mm256_permute2f128_ps(v[0], v[1], 0x20), _mm256_permute2f128_ps(v[0], v[1], 0x31));
    __m256 b = _mm256_max_ps(_mm256_permute2f128_ps(v[2], v[3], 0x20), _mm256_permute2f128_ps(v[2], v[3], 0x31));
    a = _mm256_max_ps(_mm256_shuffle_ps(a, b, 0x88), _mm256_shuffle_ps(a, b, 0xdd));
    return _mm256_max_ps(a, _mm256_permute_ps(a, 0xb1));
}

/* Two halves as bytes. */
INLINE __m256i bytes_of(const __m256i i[4])
{
    return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(_mm256_packs_epi32(i[0], i[1]), _mm256_packs_epi32(i[2], i[3])),
                                       _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

/* Sums of the halves of two blocks of bytes, in order. */
INLINE __m128i sums_of(__m256i q0, __m256i q1)
{
    const __m256i one = _mm256_set1_epi8(1), ones = _mm256_set1_epi16(1);
    __m256i s = _mm256_hadd_epi32(_mm256_madd_epi16(_mm256_maddubs_epi16(one, q0), ones), _mm256_madd_epi16(_mm256_maddubs_epi16(one, q1), ones));
    s = _mm256_hadd_epi32(s, s);
    return _mm_unpacklo_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
}

/* Two 32-blocks at once: a division takes as long for their four halves as for one. */
INLINE void put_two(pn_acts *a, uint32_t col, size_t b, const float *x)
{
    const __m256 sign = _mm256_set1_ps(-0.0f), most = _mm256_set1_ps(127);
    const size_t at[2] = {(b * a->cap + col) * 2, ((b + 1) * a->cap + col) * 2};
    __m256 v[8], top[4], scale[4];
    __m256i i[8];
    UNROLL for (int h = 0; h < 4; h++) {
        v[2 * h] = _mm256_loadu_ps(x + 16 * h);
        v[2 * h + 1] = _mm256_loadu_ps(x + 16 * h + 8);
        top[h] = _mm256_max_ps(_mm256_andnot_ps(sign, v[2 * h]), _mm256_setzero_ps()); /* NaN on the left: skipped */
        top[h] = _mm256_max_ps(_mm256_andnot_ps(sign, v[2 * h + 1]), top[h]);
    }
    const __m256 amax = tops_of(top), id = _mm256_div_ps(most, amax), ok = _mm256_cmp_ps(id, _mm256_set1_ps(FLT_MAX), _CMP_LE_OQ);
    const __m256 d = _mm256_and_ps(_mm256_div_ps(amax, most), ok), by = _mm256_and_ps(id, ok);
    const __m256 even = _mm256_permute2f128_ps(by, by, 0x00), odd = _mm256_permute2f128_ps(by, by, 0x11);
    scale[0] = _mm256_permute_ps(even, 0x00);
    scale[1] = _mm256_permute_ps(odd, 0x00);
    scale[2] = _mm256_permute_ps(even, 0xaa);
    scale[3] = _mm256_permute_ps(odd, 0xaa);
    UNROLL for (int j = 0; j < 8; j++) i[j] = round_clamped(v[j], scale[j / 2]);
    const __m256i q0 = bytes_of(i), q1 = bytes_of(i + 4);
    const __m128i s = sums_of(q0, q1);
    const __m128 low = _mm256_castps256_ps128(d), high = _mm256_extractf128_ps(d, 1);
    _mm256_storeu_si256((void *)(a->q + 16 * at[0]), q0);
    _mm256_storeu_si256((void *)(a->q + 16 * at[1]), q1);
    _mm_storel_pi((void *)(a->d + at[0]), _mm_unpacklo_ps(low, high));
    _mm_storel_pi((void *)(a->d + at[1]), _mm_unpackhi_ps(low, high));
    _mm_storel_epi64((void *)(a->s + at[0]), s);
    _mm_storel_epi64((void *)(a->s + at[1]), _mm_unpackhi_epi64(s, s));
}

void pn_acts_put_q_avx2(pn_acts *a, uint32_t col, const float *x)
{
    size_t h = 0;
    for (; h + 4 <= a->k / 16; h += 4) put_two(a, col, h / 2, x + 16 * h);
    for (; h < a->k / 16; h++) {
        size_t i = (h / 2 * a->cap + col) * 2 + h % 2;
        put_half(x + 16 * h, a->q + 16 * i, a->d + i, a->s + i);
    }
}
