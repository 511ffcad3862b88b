/* Panels of 16 rows, packed with AVX2: the bytes of pack.c, which is the meaning. Rows are turned first, four bytes at a time,
 * into vectors of one such word of all 16; nibbles and bits then move alike in all of them. */
#include "tensor/matmul_q.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

/* A word of 16 rows: of the first eight, of the others. */
typedef struct words { __m256i a, b; } words;

INLINE __m256i two_rows(const uint8_t *p, const uint8_t *q)
{
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)p)), _mm_loadu_si128((const __m128i *)q), 1);
}

/* Four words of eight rows; row r + 4 lies in the upper lane. */
INLINE void turn8(const uint8_t *p, size_t stride, __m256i v[4])
{
    const __m256i r0 = two_rows(p, p + 4 * stride), r1 = two_rows(p + stride, p + 5 * stride);
    const __m256i r2 = two_rows(p + 2 * stride, p + 6 * stride), r3 = two_rows(p + 3 * stride, p + 7 * stride);
    const __m256i a = _mm256_unpacklo_epi32(r0, r1), b = _mm256_unpackhi_epi32(r0, r1);
    const __m256i c = _mm256_unpacklo_epi32(r2, r3), d = _mm256_unpackhi_epi32(r2, r3);
    v[0] = _mm256_unpacklo_epi64(a, c);
    v[1] = _mm256_unpackhi_epi64(a, c);
    v[2] = _mm256_unpacklo_epi64(b, d);
    v[3] = _mm256_unpackhi_epi64(b, d);
}

/* 16 bytes of 16 rows as four words. */
INLINE void turn(const uint8_t *p, size_t stride, words w[4])
{
    __m256i a[4], b[4];
    turn8(p, stride, a);
    turn8(p + 8 * stride, stride, b);
    for (int i = 0; i < 4; i++) w[i] = (words){a[i], b[i]};
}

INLINE void turn32(const uint8_t *p, size_t stride, words w[8])
{
    turn(p, stride, w);
    turn(p + 16, stride, w + 4);
}

INLINE void put(uint8_t *p, words w)
{
    _mm256_store_si256((__m256i *)p, w.a);
    _mm256_store_si256((__m256i *)(p + 32), w.b);
}

INLINE words both_and(words x, uint32_t mask)
{
    const __m256i m = _mm256_set1_epi32((int)mask);
    return (words){_mm256_and_si256(x.a, m), _mm256_and_si256(x.b, m)};
}

INLINE words both_or(words x, words y) { return (words){_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)}; }
INLINE words left(words x, int n) { return (words){_mm256_slli_epi32(x.a, n), _mm256_slli_epi32(x.b, n)}; }
INLINE words right(words x, int n) { return (words){_mm256_srli_epi32(x.a, n), _mm256_srli_epi32(x.b, n)}; }

/* The bits `mask` of each byte of x >> at, n higher. */
INLINE words field(words x, int at, uint32_t mask, int n) { return left(both_and(right(x, at), mask * 0x01010101u), n); }

/* Low halves of the words, in the order of the rows. */
INLINE void put_halves(uint8_t *p, words x)
{
    const words low = both_and(x, 0xffff);
    _mm256_storeu_si256((__m256i *)p, _mm256_permute4x64_epi64(_mm256_packus_epi32(low.a, low.b), 0xd8));
}

/* Byte i of 16 words to p + step * i. */
INLINE void put_bytes(uint8_t *p, size_t step, words x)
{
    const __m256i order = _mm256_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14,
                                           3, 7, 11, 15);
    const __m256i a = _mm256_shuffle_epi8(x.a, order), b = _mm256_shuffle_epi8(x.b, order);
    const __m128i a0 = _mm256_castsi256_si128(a), a1 = _mm256_extracti128_si256(a, 1);
    const __m128i b0 = _mm256_castsi256_si128(b), b1 = _mm256_extracti128_si256(b, 1);
    const __m128i al = _mm_unpacklo_epi32(a0, a1), ah = _mm_unpackhi_epi32(a0, a1);
    const __m128i bl = _mm_unpacklo_epi32(b0, b1), bh = _mm_unpackhi_epi32(b0, b1);
    _mm_storeu_si128((__m128i *)p, _mm_unpacklo_epi64(al, bl));
    _mm_storeu_si128((__m128i *)(p + step), _mm_unpackhi_epi64(al, bl));
    _mm_storeu_si128((__m128i *)(p + 2 * step), _mm_unpacklo_epi64(ah, bh));
    _mm_storeu_si128((__m128i *)(p + 3 * step), _mm_unpackhi_epi64(ah, bh));
}

/* ---- planes of 32 codes: the bits from `at` on of the bytes of eight words ------------------------------------------------- */

INLINE void put_nibbles(uint8_t *out, const words w[8], int at)
{
    for (int i = 0; i < 4; i++) put(out + 64 * i, both_or(field(w[i], at, 15, 0), field(w[i + 4], at, 15, 4)));
}

INLINE void put_pairs(uint8_t *out, const words w[8], int at)
{
    for (int i = 0; i < 8; i += 4) {
        const words low = both_or(field(w[i], at, 3, 0), field(w[i + 1], at, 3, 2));
        put(out + 16 * i, both_or(low, both_or(field(w[i + 2], at, 3, 4), field(w[i + 3], at, 3, 6))));
    }
}

INLINE void put_bits(uint8_t *out, const words w[8], int at)
{
    words all = field(w[0], at, 1, 0);
    for (int g = 1; g < 8; g++) all = both_or(all, field(w[g], at, 1, g));
    put(out, all);
}

/* The file has value l of 16 in a low nibble, value l + 16 in the high one of the same byte: so do the planes. */
INLINE void copy_nibbles(uint8_t *out, const uint8_t *p, size_t stride)
{
    words w[4];
    turn(p, stride, w);
    for (int i = 0; i < 4; i++) put(out + 64 * i, w[i]);
}

/* ---- blocks of 32 ------------------------------------------------------------------------------------------------------ */

/* Exchanges the bits of `mask` with those n places above them. */
INLINE __m256i exchange(__m256i x, uint32_t mask, int n)
{
    const __m256i d = _mm256_and_si256(_mm256_xor_si256(x, _mm256_srli_epi32(x, n)), _mm256_set1_epi32((int)mask));
    return _mm256_xor_si256(x, _mm256_xor_si256(d, _mm256_slli_epi32(d, n)));
}

/* Bit 4 g + i becomes bit g of byte i: the five bits of a place rotate by two, which is four exchanges of two of them. */
INLINE __m256i spread(__m256i x)
{
    x = exchange(x, 0x22222222, 1);
    x = exchange(x, 0x0a0a0a0a, 3);
    x = exchange(x, 0x00cc00cc, 6);
    return exchange(x, 0x0000f0f0, 12);
}

INLINE void pack_32(pn_type t, const uint8_t *p, size_t stride, uint8_t *codes, uint8_t *scales)
{
    words w[8];
    turn(p, stride, w); /* a block has more than 16 bytes */
    put_halves(scales, w[0]);
    if (t == PN_Q4_1 || t == PN_Q5_1) put_halves(scales + 32, right(w[0], 16));
    if (t == PN_Q5_0 || t == PN_Q5_1) {
        const words bits = t == PN_Q5_1 ? w[1] : both_or(right(w[0], 16), left(w[1], 16));
        put(codes + 256, (words){spread(bits.a), spread(bits.b)});
    }
    if (t != PN_Q8_0) {
        copy_nibbles(codes, p + pn_type_block_bytes(t) - 16, stride);
        return;
    }
    turn32(p + 2, stride, w);
    const __m256i sign = _mm256_set1_epi8((char)128);
    for (int i = 0; i < 8; i++) put(codes + 64 * i, (words){_mm256_xor_si256(w[i].a, sign), _mm256_xor_si256(w[i].b, sign)});
}

/* ---- blocks of 256 ----------------------------------------------------------------------------------------------------- */

/* Eight 6-bit scales and minima in 12 bytes, w[1] to w[3] (dequantize.c); a part's scales and minima follow each other. */
INLINE void put_scale_min(uint8_t *sub, const words w[4])
{
    put_bytes(sub, 32, field(w[1], 0, 63, 0));
    put_bytes(sub + 16, 32, field(w[2], 0, 63, 0));
    put_bytes(sub + 128, 32, both_or(field(w[3], 0, 15, 0), field(w[1], 6, 3, 4)));
    put_bytes(sub + 144, 32, both_or(field(w[3], 4, 15, 0), field(w[2], 6, 3, 4)));
}

INLINE void pack_q45_k(bool five, const uint8_t *p, size_t stride, uint8_t *codes, uint8_t *scales)
{
    words w[8], fifth[8];
    turn(p, stride, w);
    put_halves(scales, w[0]);
    put_halves(scales + 32, right(w[0], 16));
    put_scale_min(scales + 64, w);
    if (five) turn32(p + 16, stride, fifth);
    p += five ? 48 : 16;
    for (int i = 0; i < 4; i++) {
        turn32(p + 32 * i, stride, w);
        for (int j = 0; j < 2; j++, codes += five ? 320 : 256) {
            put_nibbles(codes, w, 4 * j);
            if (five) put_bits(codes + 256, fifth, 2 * i + j);
        }
    }
}

INLINE void pack_q6_k(const uint8_t *p, size_t stride, uint8_t *codes, uint8_t *scales)
{
    words low[2][8], high[8], w[4];
    turn(p + 192, stride, w);
    for (int i = 0; i < 4; i++) put_bytes(scales + 32 + 64 * i, 16, w[i]);
    turn(p + 194, stride, w);
    put_halves(scales, right(w[3], 16));
    for (int i = 0; i < 2; i++) {
        turn32(p + 64 * i, stride, low[0]);
        turn32(p + 64 * i + 32, stride, low[1]);
        turn32(p + 128 + 32 * i, stride, high);
        for (int j = 0; j < 4; j++, codes += 384) {
            put_nibbles(codes, low[j % 2], j / 2 * 4);
            put_pairs(codes + 256, high, 2 * j);
        }
    }
}

INLINE void pack_q2_k(const uint8_t *p, size_t stride, uint8_t *codes, uint8_t *scales)
{
    words w[8];
    turn(p, stride, w);
    for (int i = 0; i < 4; i++) put_bytes(scales + 64 + 64 * i, 16, w[i]);
    turn(p + 68, stride, w);
    put_halves(scales, w[3]);
    put_halves(scales + 32, right(w[3], 16));
    for (int i = 0; i < 2; i++) {
        turn32(p + 16 + 32 * i, stride, w);
        for (int j = 0; j < 4; j++, codes += 128) put_pairs(codes, w, 2 * j);
    }
}

/* Both have eight or sixteen 6-bit scales that are stored 32 too high. */
INLINE words centred(words x)
{
    const __m256i n = _mm256_set1_epi8(32);
    return (words){_mm256_sub_epi8(x.a, n), _mm256_sub_epi8(x.b, n)};
}

INLINE void pack_q3_k(const uint8_t *p, size_t stride, uint8_t *codes, uint8_t *scales)
{
    words w[8], third[8], s[3];
    turn(p + 94, stride, w);
    for (int i = 0; i < 3; i++) s[i] = both_or(right(w[i], 16), left(w[i + 1], 16));
    put_halves(scales, right(w[3], 16));
    for (int i = 0; i < 4; i++) put_bytes(scales + 32 + 64 * i, 16, centred(both_or(field(s[i % 2], i / 2 * 4, 15, 0), field(s[2], 2 * i, 3, 4))));
    turn32(p, stride, third);
    for (int i = 0; i < 2; i++) {
        turn32(p + 32 + 32 * i, stride, w);
        for (int j = 0; j < 4; j++, codes += 192) {
            put_pairs(codes, w, 2 * j);
            put_bits(codes + 128, third, 4 * i + j);
        }
    }
}

INLINE void pack_iq4_xs(const uint8_t *p, size_t stride, uint8_t *codes, uint8_t *scales)
{
    words w[4], h;
    turn(p, stride, w);
    put_halves(scales, w[0]);
    h = right(w[0], 16); /* two bits a part: one byte for two parts, as the low bits have it */
    h = both_and(both_or(h, left(h, 8)), 0x00ff00ff);
    h = both_and(both_or(h, left(h, 4)), 0x0f0f0f0f);
    for (int i = 0; i < 2; i++) put_bytes(scales + 32 + 16 * i, 32, centred(both_or(field(w[1], 4 * i, 15, 0), field(h, 2 * i, 3, 4))));
    for (int j = 0; j < 8; j++) copy_nibbles(codes + 256 * j, p + 8 + 16 * j, stride);
}

/* ---- panels ------------------------------------------------------------------------------------------------------------ */

typedef void pack_block_fn(const uint8_t *p, size_t stride, uint8_t *codes, uint8_t *scales);

INLINE void pack_blocks(pn_type t, const uint8_t *rows, size_t stride, size_t k, uint8_t *panel, pack_block_fn *fn)
{
    const pn_q_layout *l = pn_q_layout_of(t);
    uint8_t *codes = panel, *scales = panel + k / 32 * l->code_bytes;
    for (size_t i = 0; i < k / l->block; i++) {
        fn(rows, stride, codes, scales);
        rows += l->file_bytes;
        codes += l->block / 32u * l->code_bytes;
        scales += l->scale_bytes;
    }
    memset(scales, 0, (size_t)(-(uintptr_t)scales % 64)); /* panels are 64-aligned */
}

/* One function for each format. */
#define FORMAT(name, ...) \
    INLINE void block_##name(const uint8_t *p, size_t stride, uint8_t *codes, uint8_t *scales) { __VA_ARGS__; } \
    static void pack_##name(const uint8_t *rows, size_t stride, size_t k, uint8_t *panel) \
    { \
        pack_blocks(PN_##name, rows, stride, k, panel, block_##name); \
    }
FORMAT(Q4_0, pack_32(PN_Q4_0, p, stride, codes, scales))
FORMAT(Q4_1, pack_32(PN_Q4_1, p, stride, codes, scales))
FORMAT(Q5_0, pack_32(PN_Q5_0, p, stride, codes, scales))
FORMAT(Q5_1, pack_32(PN_Q5_1, p, stride, codes, scales))
FORMAT(Q8_0, pack_32(PN_Q8_0, p, stride, codes, scales))
FORMAT(Q2_K, pack_q2_k(p, stride, codes, scales))
FORMAT(Q3_K, pack_q3_k(p, stride, codes, scales))
FORMAT(Q4_K, pack_q45_k(false, p, stride, codes, scales))
FORMAT(Q5_K, pack_q45_k(true, p, stride, codes, scales))
FORMAT(Q6_K, pack_q6_k(p, stride, codes, scales))
FORMAT(IQ4_XS, pack_iq4_xs(p, stride, codes, scales))

/* Eight values of 16 rows, row r + 8 in the upper lane. */
INLINE void turn_16_bits(const uint8_t *p, size_t stride, uint8_t *out)
{
    __m256i r[8], s[8];
    for (int i = 0; i < 8; i++) r[i] = two_rows(p + (size_t)i * stride, p + (size_t)(i + 8) * stride);
    for (int i = 0; i < 4; i++) {
        s[i] = _mm256_unpacklo_epi16(r[2 * i], r[2 * i + 1]); /* values 0 to 3 of two rows */
        s[i + 4] = _mm256_unpackhi_epi16(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 8; i += 2) {
        r[i] = _mm256_unpacklo_epi32(s[i], s[i + 1]); /* two values of four rows */
        r[i + 1] = _mm256_unpackhi_epi32(s[i], s[i + 1]);
    }
    for (int i = 0; i < 8; i++) {
        const __m256i *v = &r[i / 4 * 4 + i / 2 % 2];
        _mm256_store_si256((__m256i *)(out + 32 * i), i % 2 ? _mm256_unpackhi_epi64(v[0], v[2]) : _mm256_unpacklo_epi64(v[0], v[2]));
    }
}

/* What is left of K, and the padding behind it. */
static void pack_rest(pn_type t, const uint8_t *rows, size_t stride, size_t k, size_t done, uint8_t *panel)
{
    const size_t size = pn_type_block_bytes(t);
    if (done < k) pn_pack_panel(t, rows + done * size, stride, PN_PANEL, k - done, panel + done * PN_PANEL * size);
}

static void pack_16_bits(pn_type t, const uint8_t *rows, size_t stride, size_t k, uint8_t *panel)
{
    for (size_t i = 0; i < k / 8; i++) turn_16_bits(rows + 16 * i, stride, panel + 256 * i);
    pack_rest(t, rows, stride, k, k / 8 * 8, panel);
}

static void pack_32_bits(pn_type t, const uint8_t *rows, size_t stride, size_t k, uint8_t *panel)
{
    for (size_t i = 0; i < k / 4; i++) {
        words w[4];
        turn(rows + 16 * i, stride, w);
        for (size_t j = 0; j < 4; j++) put(panel + 256 * i + 64 * j, w[j]);
    }
    pack_rest(t, rows, stride, k, k / 4 * 4, panel);
}

void pn_pack_panel_avx2(pn_type t, const void *rows, size_t row_stride, uint32_t n_rows, size_t k, void *panel)
{
    if (n_rows < PN_PANEL) {
        pn_pack_panel(t, rows, row_stride, n_rows, k, panel);
        return;
    }
    switch (t) {
    case PN_F32: pack_32_bits(t, rows, row_stride, k, panel); break;
    case PN_F16: case PN_BF16: pack_16_bits(t, rows, row_stride, k, panel); break;
    case PN_Q4_0: case PN_IQ4_NL: pack_Q4_0(rows, row_stride, k, panel); break; /* the same bytes: codes differ in what they mean */
    case PN_Q4_1: pack_Q4_1(rows, row_stride, k, panel); break;
    case PN_Q5_0: pack_Q5_0(rows, row_stride, k, panel); break;
    case PN_Q5_1: pack_Q5_1(rows, row_stride, k, panel); break;
    case PN_Q8_0: pack_Q8_0(rows, row_stride, k, panel); break;
    case PN_Q2_K: pack_Q2_K(rows, row_stride, k, panel); break;
    case PN_Q3_K: pack_Q3_K(rows, row_stride, k, panel); break;
    case PN_Q4_K: pack_Q4_K(rows, row_stride, k, panel); break;
    case PN_Q5_K: pack_Q5_K(rows, row_stride, k, panel); break;
    case PN_Q6_K: pack_Q6_K(rows, row_stride, k, panel); break;
    case PN_IQ4_XS: pack_IQ4_XS(rows, row_stride, k, panel); break;
    }
}
