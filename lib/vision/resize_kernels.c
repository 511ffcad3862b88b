#include "vision/resize.h"

#include "tensor/tensor.h"

/* The meaning; the other levels give the same bytes. */
void pn_resize_across_c(uint8_t *out, size_t out_stride, const uint8_t *in, size_t in_stride, uint32_t n_rows, const pn_axis *x)
{
    const int32_t half = 1 << (x->shift - 1);
    for (uint32_t row = 0; row < n_rows; row++) {
        for (uint32_t i = 0; i < x->n; i++) {
            const uint8_t *p = in + row * in_stride + (size_t)x->first[i] * 3;
            const int16_t *w = x->w + (size_t)i * x->taps;
            int32_t r = half, g = half, b = half;
            for (uint32_t k = 0; k < x->count[i]; k++, p += 3) {
                r += w[k] * p[0];
                g += w[k] * p[1];
                b += w[k] * p[2];
            }
            uint8_t *o = out + row * out_stride + (size_t)i * 3;
            o[0] = pn_resize_clip(r, x->shift);
            o[1] = pn_resize_clip(g, x->shift);
            o[2] = pn_resize_clip(b, x->shift);
        }
    }
}

void pn_resize_down_c(uint8_t *out, const uint8_t *in, size_t stride, size_t n, const int16_t *w, uint32_t count, uint32_t shift)
{
    enum { CHUNK = 512 };
    int32_t sum[CHUNK];
    for (size_t at = 0; at < n; at += CHUNK) {
        const size_t m = PN_MIN(n - at, (size_t)CHUNK);
        for (size_t i = 0; i < m; i++) sum[i] = 1 << (shift - 1);
        for (uint32_t k = 0; k < count; k++) {
            const uint8_t *p = in + at + k * stride;
            for (size_t i = 0; i < m; i++) sum[i] += w[k] * p[i];
        }
        for (size_t i = 0; i < m; i++) out[at + i] = pn_resize_clip(sum[i], shift);
    }
}

void pn_resize_kernels_init(pn_resize_kernels *k, uint32_t cpu)
{
    *k = (pn_resize_kernels){pn_resize_across_c, pn_resize_down_c};
#if defined(__x86_64__)
    if (cpu & PN_CPU_AVX2) *k = (pn_resize_kernels){pn_resize_across_avx2, pn_resize_down_avx2};
#endif
}
