#include <immintrin.h>

#include "vision/resize.h"

/* Four pixels of three bytes to pairs of 16 bits, ready for a product of pairs: r0 r1, g0 g1, b0 b1, nothing; the upper half
 * the same of pixels 2 and 3. */
static inline __m256i pixel_pairs(const uint8_t *p)
{
    const __m256i order = _mm256_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1,
                                           6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1);
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)p)), order);
}

/* w0 w1 four times, then w2 w3 four times. */
static inline __m256i weight_pairs(const int16_t *w)
{
    const __m256i order = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
    return _mm256_permutevar8x32_epi32(_mm256_castsi128_si256(_mm_loadl_epi64((const __m128i *)(const void *)w)), order);
}

/* The two halves of each sum together, for two rows: row a below, row b above. */
static inline __m256i join(__m256i a, __m256i b)
{
    return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31));
}

/* Four rows' sums to their pixels. A fourth byte is written too while a next pixel will come to lie over it. */
static inline void put_pixels(uint8_t *out, size_t stride, const __m256i sum[4], __m256i half, __m128i shift, size_t bytes)
{
    const __m256i a = _mm256_sra_epi32(_mm256_add_epi32(join(sum[0], sum[1]), half), shift);
    const __m256i b = _mm256_sra_epi32(_mm256_add_epi32(join(sum[2], sum[3]), half), shift);
    const __m256i words = _mm256_packs_epi32(a, b), v = _mm256_packus_epi16(words, words);
    const __m128i even = _mm256_castsi256_si128(v), odd = _mm256_extracti128_si256(v, 1);
    const int32_t rgb[4] = {_mm_cvtsi128_si32(even), _mm_cvtsi128_si32(odd), _mm_extract_epi32(even, 1), _mm_extract_epi32(odd, 1)};
    for (int r = 0; r < 4; r++) memcpy(out + r * stride, &rgb[r], bytes);
}

static inline void sum_pixels(__m256i sum[4], const uint8_t *p, size_t stride, const int16_t *w, uint32_t count)
{
    for (int r = 0; r < 4; r++) sum[r] = _mm256_setzero_si256();
    for (uint32_t k = 0; k < count; k += 4, p += 12) {
        const __m256i pair = weight_pairs(w + k);
        for (int r = 0; r < 4; r++) sum[r] = _mm256_add_epi32(sum[r], _mm256_madd_epi16(pixel_pairs(p + r * stride), pair));
    }
}

/* Four rows at once share the weights. */
static void across_4(uint8_t *out, size_t out_stride, const uint8_t *in, size_t in_stride, const pn_axis *x)
{
    const __m256i half = _mm256_set1_epi32(1 << (x->shift - 1));
    const __m128i shift = _mm_cvtsi32_si128((int)x->shift);
    const uint32_t last = x->n - 1;
    __m256i sum[4];
    for (uint32_t i = 0; i < last; i++) {
        sum_pixels(sum, in + (size_t)x->first[i] * 3, in_stride, x->w + (size_t)i * x->taps, x->count[i]);
        put_pixels(out + (size_t)i * 3, out_stride, sum, half, shift, 4);
    }
    sum_pixels(sum, in + (size_t)x->first[last] * 3, in_stride, x->w + (size_t)last * x->taps, x->count[last]);
    put_pixels(out + (size_t)last * 3, out_stride, sum, half, shift, 3);
}

void pn_resize_across_avx2(uint8_t *out, size_t out_stride, const uint8_t *in, size_t in_stride, uint32_t n_rows, const pn_axis *x)
{
    uint32_t row = 0;
    for (; row + 4 <= n_rows; row += 4) across_4(out + row * out_stride, out_stride, in + row * in_stride, in_stride, x);
    pn_resize_across_c(out + row * out_stride, out_stride, in + row * in_stride, in_stride, n_rows - row, x);
}

typedef struct sums { __m256i v[4]; } sums;

/* 32 bytes of two rows, woven: pairs of 16 bits times the pair of weights. The order inside is undone by the packing. */
static inline void add_pair(sums *s, const uint8_t *p, const uint8_t *q, __m256i pair)
{
    const __m256i zero = _mm256_setzero_si256();
    const __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)p), b = _mm256_loadu_si256((const __m256i *)(const void *)q);
    const __m256i low = _mm256_unpacklo_epi8(a, b), high = _mm256_unpackhi_epi8(a, b);
    s->v[0] = _mm256_add_epi32(s->v[0], _mm256_madd_epi16(_mm256_unpacklo_epi8(low, zero), pair));
    s->v[1] = _mm256_add_epi32(s->v[1], _mm256_madd_epi16(_mm256_unpackhi_epi8(low, zero), pair));
    s->v[2] = _mm256_add_epi32(s->v[2], _mm256_madd_epi16(_mm256_unpacklo_epi8(high, zero), pair));
    s->v[3] = _mm256_add_epi32(s->v[3], _mm256_madd_epi16(_mm256_unpackhi_epi8(high, zero), pair));
}

static inline __m256i finish(const sums *s, __m256i half, __m128i shift)
{
    __m256i v[4];
    for (int i = 0; i < 4; i++) v[i] = _mm256_sra_epi32(_mm256_add_epi32(s->v[i], half), shift);
    return _mm256_packus_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3]));
}

static __m256i down_32(const uint8_t *in, size_t stride, const int16_t *w, uint32_t count, __m256i half, __m128i shift)
{
    sums s;
    for (int i = 0; i < 4; i++) s.v[i] = _mm256_setzero_si256();
    uint32_t k = 0;
    for (; k + 2 <= count; k += 2) {
        const __m256i pair = _mm256_set1_epi32((int32_t)((uint32_t)(uint16_t)w[k] | (uint32_t)(uint16_t)w[k + 1] << 16));
        add_pair(&s, in + k * stride, in + (k + 1) * stride, pair);
    }
    if (k < count) add_pair(&s, in + k * stride, in + k * stride, _mm256_set1_epi32((uint16_t)w[k]));
    return finish(&s, half, shift);
}

void pn_resize_down_avx2(uint8_t *out, const uint8_t *in, size_t stride, size_t n, const int16_t *w, uint32_t count, uint32_t shift_by)
{
    if (n < 32) {
        pn_resize_down_c(out, in, stride, n, w, count, shift_by);
        return;
    }
    const __m256i half = _mm256_set1_epi32(1 << (shift_by - 1));
    const __m128i shift = _mm_cvtsi32_si128((int)shift_by);
    for (size_t i = 0; i < n; i += 32) {
        if (i + 32 > n) i = n - 32; /* the last ones again, together with their neighbours */
        _mm256_storeu_si256((__m256i *)(void *)(out + i), down_32(in + i, stride, w, count, half, shift));
    }
}
