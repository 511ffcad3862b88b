/* The resampling's own parts: weights of one axis, and its kernels by CPU. */
#ifndef PN_VISION_RESIZE_H
#define PN_VISION_RESIZE_H

#include "base/base.h"

/* Output i of an axis is (half + sum of w[i][k] * input[first[i] + k]) >> shift, cut to 0..255, over k < count[i].
 * `taps` is a multiple of 4 and the weights from count[i] on are 0, so that a kernel may take four at a time. */
typedef struct pn_axis {
    uint32_t n, taps, shift;
    uint32_t *first, *count;
    int16_t *w;             /* [n][taps] */
} pn_axis;

typedef struct pn_resize_kernels {
    /* n_rows rows of pixels along the axis; strides in bytes. Reads up to 13 bytes behind the last pixel of a row. */
    void (*across)(uint8_t *out, size_t out_stride, const uint8_t *in, size_t in_stride, uint32_t n_rows, const pn_axis *x);
    /* One row of n bytes from `count` rows; reads and writes nothing else. */
    void (*down)(uint8_t *out, const uint8_t *in, size_t stride, size_t n, const int16_t *w, uint32_t count, uint32_t shift);
} pn_resize_kernels;

void pn_resize_kernels_init(pn_resize_kernels *k, uint32_t cpu);

void pn_resize_across_c(uint8_t *out, size_t out_stride, const uint8_t *in, size_t in_stride, uint32_t n_rows, const pn_axis *x);
void pn_resize_down_c(uint8_t *out, const uint8_t *in, size_t stride, size_t n, const int16_t *w, uint32_t count, uint32_t shift);
void pn_resize_across_avx2(uint8_t *out, size_t out_stride, const uint8_t *in, size_t in_stride, uint32_t n_rows, const pn_axis *x);
void pn_resize_down_avx2(uint8_t *out, const uint8_t *in, size_t stride, size_t n, const int16_t *w, uint32_t count, uint32_t shift);

static inline uint8_t pn_resize_clip(int32_t sum, uint32_t shift)
{
    const int32_t v = sum >> shift;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

#endif
