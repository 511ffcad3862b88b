#include "vision/image_internal.h"

#if PN_HAVE_PNG
#include "vision/png_host.h"

typedef struct writer {
    pn_png_host host;
    png_structp png;
    png_infop info;
    pn_buf *to;
} writer;

static void put_bytes(png_structp png, png_bytep p, size_t n)
{
    writer *w = png_get_io_ptr(png);
    if (pn_buf_put(w->to, p, n)) return;
    w->host.status = pn_nomem(w->host.err, n);
    png_error(png, "no memory");
}

static void put_nothing(png_structp png)
{
    (void)png;
}

static void encode(writer *w, const pn_image *im)
{
    if (setjmp(png_jmpbuf(w->png))) return;
    png_set_write_fn(w->png, w, put_bytes, put_nothing);
    png_set_user_limits(w->png, PN_IMAGE_MAX_SIDE, PN_IMAGE_MAX_SIDE);
    png_set_compression_level(w->png, 3);
    png_set_IHDR(w->png, w->info, pn_image_width(im), pn_image_height(im), 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(w->png, w->info);
    const size_t row = (size_t)pn_image_width(im) * 3;
    for (uint32_t y = 0; y < pn_image_height(im); y++) png_write_row(w->png, pn_image_pixels(im) + y * row);
    png_write_end(w->png, NULL);
}

ponder_status pn_image_to_png(const pn_image *im, pn_buf *to, ponder_error *err)
{
    writer w = {.host = {to->a, err, PONDER_OK}, .to = to};
    w.png = png_create_write_struct_2(PNG_LIBPNG_VER_STRING, &w.host, pn_png_failed, pn_png_warned, &w.host, pn_png_take, pn_png_give);
    w.info = w.png ? png_create_info_struct(w.png) : NULL;
    if (w.info) encode(&w, im);
    else pn_png_unfit(&w.host);
    png_destroy_write_struct(&w.png, &w.info);
    return w.host.status;
}

#else

ponder_status pn_image_to_png(const pn_image *im, pn_buf *to, ponder_error *err)
{
    return pn_fail(err, PONDER_E_UNSUPPORTED, "PNG pictures need libpng, which this build is without");
}

#endif
