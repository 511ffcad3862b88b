#include "vision/image_internal.h"

#include <inttypes.h>
#include <stdatomic.h>

struct pn_image {
    ponder_alloc own;       /* a copy: the picture may outlive the config that gave it */
    const ponder_alloc *a;  /* it, or NULL */
    atomic_uint users;
    uint32_t width, height;
    uint64_t hash;
    size_t bytes;           /* of this block */
    uint8_t pixels[];
};

ponder_status pn_image_check_size(uint64_t width, uint64_t height, const pn_image_options *o, ponder_error *err)
{
    const uint64_t limit = o && o->max_pixels ? o->max_pixels : PN_IMAGE_MAX_PIXELS;
    if (width == 0 || height == 0)
        return pn_fail(err, PONDER_E_RANGE, "a picture of %" PRIu64 " x %" PRIu64 " pixels", width, height);
    if (width > PN_IMAGE_MAX_SIDE || height > PN_IMAGE_MAX_SIDE)
        return pn_fail(err, PONDER_E_RANGE, "a picture of %" PRIu64 " x %" PRIu64 " pixels: a side is longer than %d", width, height,
                       PN_IMAGE_MAX_SIDE);
    if (width * height > limit)
        return pn_fail(err, PONDER_E_RANGE, "a picture of %" PRIu64 " x %" PRIu64 " pixels: more than the limit of %" PRIu64, width,
                       height, limit);
    return PONDER_OK;
}

/* Pixels uninitialised. */
ponder_status pn_image_new(pn_image **out, uint32_t width, uint32_t height, const ponder_alloc *a, ponder_error *err)
{
    size_t bytes;
    *out = NULL;
    if (!pn_mul(width, height, &bytes) || !pn_mul(bytes, 3, &bytes) || !pn_add(bytes, sizeof(pn_image) + PN_IMAGE_SLACK, &bytes))
        return pn_nomem(err, SIZE_MAX);
    pn_image *im = pn_alloc(a, bytes);
    if (!im) return pn_nomem(err, bytes);
    *im = (pn_image){.own = a ? *a : (ponder_alloc){0}, .width = width, .height = height, .bytes = bytes};
    im->a = a ? &im->own : NULL;
    atomic_init(&im->users, 1);
    memset((uint8_t *)im + bytes - PN_IMAGE_SLACK, 0, PN_IMAGE_SLACK);
    *out = im;
    return PONDER_OK;
}

uint8_t *pn_image_write(pn_image *im) { return im->pixels; }

/* Four chains side by side, each over every fourth word, since one would wait for its own multiplication: a large picture is
 * hashed on its way in. The chains, then the rest, go through pn_hash64. */
static uint64_t hash_bytes(const uint8_t *p, size_t n, uint64_t seed)
{
    uint64_t chain[4] = {seed, seed + 1, seed + 2, seed + 3}, word[4];
    size_t i = 0;
    for (; i + sizeof word <= n; i += sizeof word) {
        memcpy(word, p + i, sizeof word);
        for (int k = 0; k < 4; k++) {
            const uint64_t v = chain[k] ^ word[k] * 0x9e3779b97f4a7c15u;
            chain[k] = (v << 29 | v >> 35) * 0xbf58476d1ce4e5b9u + 0x94d049bb133111ebu;
        }
    }
    return pn_hash64(p + i, n - i, pn_hash64(chain, sizeof chain, seed));
}

void pn_image_seal(pn_image *im)
{
    const uint64_t size = (uint64_t)im->width << 32 | im->height;
    im->hash = hash_bytes(im->pixels, (size_t)im->width * im->height * 3, size);
}

pn_image *pn_image_keep(pn_image *im)
{
    atomic_fetch_add_explicit(&im->users, 1, memory_order_relaxed);
    return im;
}

void pn_image_free(pn_image *im)
{
    if (!im || atomic_fetch_sub_explicit(&im->users, 1, memory_order_acq_rel) != 1) return;
    const ponder_alloc own = im->own;
    pn_free(im->a ? &own : NULL, im, im->bytes);
}

uint32_t pn_image_width(const pn_image *im) { return im->width; }
uint32_t pn_image_height(const pn_image *im) { return im->height; }
const uint8_t *pn_image_pixels(const pn_image *im) { return im->pixels; }
uint64_t pn_image_hash(const pn_image *im) { return im->hash; }
size_t pn_image_bytes(const pn_image *im) { return im->bytes; }

/* Pillow's alpha_composite over opaque white: seven more bits than the result, then a division by 255 as shifts. */
static inline uint8_t over_white(uint32_t v, uint32_t coef)
{
    const uint32_t t = v * coef + 255 * (255 * 128 - coef) + (0x80 << 7);
    return (uint8_t)(((t >> 8) + t) >> 8 >> 7);
}

static void white_row(uint8_t *rgb, const uint8_t *rgba, size_t n)
{
    for (size_t i = 0; i < n; i++, rgb += 3, rgba += 4) {
        const uint32_t coef = (uint32_t)rgba[3] * 128;
        for (int c = 0; c < 3; c++) rgb[c] = over_white(rgba[c], coef);
    }
}

void pn_alpha_row(uint8_t *rgb, const uint8_t *rgba, size_t n, pn_alpha alpha)
{
    if (alpha == PN_ALPHA_WHITE) {
        white_row(rgb, rgba, n);
        return;
    }
    for (size_t i = 0; i < n; i++, rgb += 3, rgba += 4) memcpy(rgb, rgba, 3);
}

static ponder_status check_view(const pn_image_view *v, const pn_image_options *o, size_t *stride, ponder_error *err)
{
    if (!v->pixels) return pn_fail(err, PONDER_E_ARGUMENT, "a picture without pixels");
    if (v->format != PN_PIXELS_RGB && v->format != PN_PIXELS_RGBA)
        return pn_fail(err, PONDER_E_ARGUMENT, "pixel format %d is neither RGB nor RGBA", (int)v->format);
    ponder_status st = pn_image_check_size(v->width, v->height, o, err);
    if (st) return st;
    const size_t row = (size_t)v->width * (size_t)v->format;
    *stride = v->stride ? v->stride : row;
    if (*stride < row) return pn_fail(err, PONDER_E_ARGUMENT, "a stride of %zu bytes for rows of %zu", *stride, row);
    return PONDER_OK;
}

ponder_status pn_image_from_view(pn_image **out, const pn_image_view *v, const pn_image_options *o, const ponder_alloc *a,
                                 ponder_error *err)
{
    size_t stride = 0;
    *out = NULL;
    ponder_status st = check_view(v, o, &stride, err);
    if (!st) st = pn_image_new(out, v->width, v->height, a, err);
    if (st) return st;
    const size_t row = (size_t)v->width * 3;
    for (uint32_t y = 0; y < v->height; y++) {
        const uint8_t *from = v->pixels + y * stride;
        if (v->format == PN_PIXELS_RGB) memcpy((*out)->pixels + y * row, from, row);
        else pn_alpha_row((*out)->pixels + y * row, from, v->width, o ? o->alpha : PN_ALPHA_WHITE);
    }
    pn_image_seal(*out);
    return PONDER_OK;
}

ponder_status pn_image_crop(pn_image **out, const pn_image *im, uint32_t x, uint32_t y, uint32_t w, uint32_t h, ponder_error *err)
{
    *out = NULL;
    if (w == 0 || h == 0 || x >= im->width || y >= im->height || w > im->width - x || h > im->height - y)
        return pn_fail(err, PONDER_E_RANGE, "a region of %u x %u pixels at (%u, %u) in a picture of %u x %u", w, h, x, y, im->width,
                       im->height);
    const pn_image_view v = {.pixels = im->pixels + ((size_t)y * im->width + x) * 3, .width = w, .height = h,
                             .stride = (size_t)im->width * 3, .format = PN_PIXELS_RGB};
    const pn_image_options as_large = {.max_pixels = UINT64_MAX};
    return pn_image_from_view(out, &v, &as_large, im->a, err);
}
