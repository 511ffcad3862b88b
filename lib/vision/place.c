#include <math.h>

#include "vision/image_internal.h"

double pn_pixel_to_model(uint32_t side, double pixel) { return pixel * 1000 / side; }
double pn_model_to_pixel(uint32_t side, double model) { return model * side / 1000; }

/* From and length, in pixels, of what lies between two places of one axis. */
static void span(uint32_t side, double a, double b, uint32_t *from, uint32_t *length)
{
    const double last = side, low = floor(pn_model_to_pixel(side, fmin(a, b)) + 0.5), high = floor(pn_model_to_pixel(side, fmax(a, b)) + 0.5);
    const uint32_t start = (uint32_t)fmin(fmax(low, 0), last - 1), end = (uint32_t)fmin(fmax(high, 0), last);
    *from = start;
    *length = end > start ? end - start : 1;
}

bool pn_box_to_region(uint32_t width, uint32_t height, const pn_box *box, pn_region *out)
{
    *out = (pn_region){0, 0, 0, 0};
    if (width == 0 || height == 0 || isnan(box->x_min + box->x_max) || isnan(box->y_min + box->y_max)) return false;
    span(width, box->x_min, box->x_max, &out->x, &out->width);
    span(height, box->y_min, box->y_max, &out->y, &out->height);
    return true;
}

pn_box pn_region_to_box(uint32_t width, uint32_t height, const pn_region *r)
{
    return (pn_box){pn_pixel_to_model(width, r->x), pn_pixel_to_model(height, r->y),
                    pn_pixel_to_model(width, (double)r->x + r->width), pn_pixel_to_model(height, (double)r->y + r->height)};
}

/* ---- outlines --------------------------------------------------------------------------------------------------------- */

static void fill(uint8_t *pixels, uint32_t width, const pn_region *r, const uint8_t colour[3])
{
    for (uint32_t y = r->y; y < r->y + r->height; y++)
        for (uint32_t x = r->x; x < r->x + r->width; x++) memcpy(pixels + ((size_t)y * width + x) * 3, colour, 3);
}

/* Four bars along the inner edges. */
static void outline(uint8_t *pixels, uint32_t width, const pn_region *r, uint32_t thick, const uint8_t colour[3])
{
    const uint32_t w = PN_MIN(thick, r->width), h = PN_MIN(thick, r->height);
    const pn_region bars[4] = {{r->x, r->y, r->width, h}, {r->x, r->y + r->height - h, r->width, h},
                               {r->x, r->y, w, r->height}, {r->x + r->width - w, r->y, w, r->height}};
    for (int i = 0; i < 4; i++) fill(pixels, width, &bars[i], colour);
}

ponder_status pn_image_outline(pn_image **out, const pn_image *im, const pn_region *regions, uint32_t n, ponder_error *err)
{
    static const uint8_t colours[][3] = {{230, 25, 75}, {0, 130, 200}, {60, 180, 75}, {245, 130, 48}, {145, 30, 180}, {70, 240, 240}};
    const uint32_t w = pn_image_width(im), h = pn_image_height(im), thick = 1 + PN_MIN(w, h) / 200;
    *out = NULL;
    for (uint32_t i = 0; i < n; i++) {
        const pn_region *r = &regions[i];
        if (r->width == 0 || r->height == 0 || r->x >= w || r->y >= h || r->width > w - r->x || r->height > h - r->y)
            return pn_fail(err, PONDER_E_RANGE, "region %u of %u x %u pixels at (%u, %u) in a picture of %u x %u", i, r->width, r->height,
                           r->x, r->y, w, h);
    }
    ponder_status st = pn_image_crop(out, im, 0, 0, w, h, err);
    if (st) return st;
    for (uint32_t i = 0; i < n; i++) outline(pn_image_write(*out), w, &regions[i], thick, colours[i % PN_COUNT(colours)]);
    pn_image_seal(*out);
    return PONDER_OK;
}
