#include "vision/image.h"

void pn_pixel_scale_init(pn_pixel_scale *s, const float mean[3], const float std[3])
{
    for (int c = 0; c < 3; c++) {
        const float m = mean[c] * 255.0f, d = std[c] * 255.0f;
        for (int v = 0; v < 256; v++) s->of[c][v] = ((float)v - m) / d;
    }
}

/* One channel of one patch; `p` is its first byte. */
static void put_channel(float *out, const uint8_t *p, size_t stride, uint32_t patch, const float *of)
{
    for (uint32_t y = 0; y < patch; y++, p += stride)
        for (uint32_t x = 0; x < patch; x++) *out++ = of[p[3 * x]];
}

void pn_patches(float *out, const uint8_t *const *frames, uint32_t n_frames, uint32_t patch, uint32_t grid_width,
                const pn_pixel_scale *scale, uint32_t from, uint32_t to)
{
    const size_t area = (size_t)patch * patch, stride = (size_t)grid_width * patch * 3;
    for (uint32_t i = from; i < to; i++) {
        const size_t first = (i / grid_width) * patch * stride + (size_t)(i % grid_width) * patch * 3;
        for (uint32_t f = 0; f < n_frames; f++, out += 3 * area) {
            if (f && frames[f] == frames[f - 1]) memcpy(out, out - 3 * area, 3 * area * sizeof *out);
            else
                for (int c = 0; c < 3; c++) put_channel(out + c * area, frames[f] + first + c, stride, patch, scale->of[c]);
        }
    }
}
