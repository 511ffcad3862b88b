/* What libpng gets from us, for reading and for writing: memory and the place for errors. */
#ifndef PN_VISION_PNG_HOST_H
#define PN_VISION_PNG_HOST_H

#include <png.h>

#include "base/base.h"

typedef struct pn_png_host {
    const ponder_alloc *a;
    ponder_error *err;
    ponder_status status;
} pn_png_host;

static inline png_voidp pn_png_take(png_structp png, png_alloc_size_t n)
{
    pn_png_host *h = png_get_mem_ptr(png);
    size_t bytes;
    uint8_t *p = pn_add(n, 16, &bytes) ? pn_alloc(h->a, bytes) : NULL;
    if (!p) {
        h->status = pn_nomem(h->err, n);
        return NULL;
    }
    memcpy(p, &bytes, sizeof bytes); /* our allocator wants the size back */
    return p + 16;
}

static inline void pn_png_give(png_structp png, png_voidp p)
{
    pn_png_host *h = png_get_mem_ptr(png);
    size_t bytes;
    if (!p) return;
    memcpy(&bytes, (uint8_t *)p - 16, sizeof bytes);
    pn_free(h->a, (uint8_t *)p - 16, bytes);
}

static inline PNG_NORETURN void pn_png_failed(png_structp png, png_const_charp text)
{
    pn_png_host *h = png_get_error_ptr(png);
    if (!h->status) h->status = pn_fail(h->err, PONDER_E_FORMAT, "PNG: %s", text);
    png_longjmp(png, 1);
}

static inline void pn_png_warned(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

/* libpng gave no struct: no memory, or a library other than the headers. */
static inline void pn_png_unfit(pn_png_host *h)
{
    if (!h->status) h->status = pn_fail(h->err, PONDER_E_UNSUPPORTED, "libpng is another version than this build's");
}

#endif
