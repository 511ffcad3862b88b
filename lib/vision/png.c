#include "vision/image_internal.h"

#if PN_HAVE_PNG
#include "vision/png_host.h"

/* libpng gets our memory (png_host.h) and only the chunks that matter to pixels. Everything that changes lives in the job,
 * so that a jump back loses nothing. */
typedef struct job {
    pn_png_host host;
    const pn_image_options *o;
    png_structp png;
    png_infop info;
    const uint8_t *p;       /* the file */
    size_t n, at;
    pn_rows rows;
    uint8_t *buffer;        /* one row, or all rows of an interlaced picture */
    size_t buffer_bytes;
} job;

static void read_bytes(png_structp png, png_bytep to, size_t n)
{
    job *j = png_get_io_ptr(png);
    if (n > j->n - j->at) png_error(png, "cut short");
    memcpy(to, j->p + j->at, n);
    j->at += n;
}

/* Text, profiles and the like: their data are of no use here and may be large when unpacked. */
static void pass_over_chunks(png_structp png)
{
    static const png_byte names[] = "bKGD\0cHRM\0eXIf\0gAMA\0hIST\0iCCP\0iTXt\0oFFs\0pCAL\0pHYs\0sBIT\0sCAL\0sPLT\0sRGB\0tEXt\0tIME\0zTXt";
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, 0);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, names, sizeof names / 5);
}

/* To RGB of 8 bits, or to RGBA when the alpha is wanted (image.h says what becomes of 16 bits). */
static void set_transformations(png_structp png, png_infop info, pn_alpha alpha)
{
    if (alpha == PN_ALPHA_WHITE) {
        png_set_strip_16(png);
        if (png_get_valid(png, info, PNG_INFO_tRNS)) png_set_tRNS_to_alpha(png);
    } else {
        png_set_scale_16(png);
        png_set_strip_alpha(png);
    }
    png_set_palette_to_rgb(png);
    png_set_expand_gray_1_2_4_to_8(png);
    png_set_gray_to_rgb(png);
}

static ponder_status prepare(job *j, bool interlaced)
{
    const uint32_t w = png_get_image_width(j->png, j->info), h = png_get_image_height(j->png, j->info);
    const uint32_t channels = png_get_channels(j->png, j->info);
    const size_t row = png_get_rowbytes(j->png, j->info);
    if ((channels != 3 && channels != 4) || row != (size_t)w * channels)
        return pn_fail(j->host.err, PONDER_E_INTERNAL, "PNG: rows of %zu bytes", row);
    const uint32_t orientation = pn_orientation_of_png(j->p, j->n);
    ponder_status st = pn_rows_begin(&j->rows, w, h, orientation, j->host.a, j->host.err);
    if (st || (channels == 3 && (!interlaced || orientation == 1))) return st;
    if (!pn_mul(row, interlaced ? h : 1, &j->buffer_bytes)) return pn_nomem(j->host.err, SIZE_MAX);
    j->buffer = pn_alloc(j->host.a, j->buffer_bytes);
    return j->buffer ? PONDER_OK : pn_nomem(j->host.err, j->buffer_bytes);
}

/* A row that lies in a buffer becomes the next row of the picture. */
static void hand_over(job *j, const uint8_t *row)
{
    uint8_t *to = pn_rows_next(&j->rows);
    if (png_get_channels(j->png, j->info) == 4) pn_alpha_row(to, row, j->rows.width, PN_ALPHA_WHITE);
    else memcpy(to, row, (size_t)j->rows.width * 3);
    pn_rows_done(&j->rows);
}

static void read_rows(job *j)
{
    for (uint32_t y = 0; y < j->rows.height; y++) {
        png_read_row(j->png, j->buffer ? j->buffer : pn_rows_next(&j->rows), NULL);
        if (j->buffer) hand_over(j, j->buffer);
        else pn_rows_done(&j->rows);
    }
}

/* Each pass adds pixels to rows that are there already. */
static void read_passes(job *j, int passes)
{
    const size_t row = png_get_rowbytes(j->png, j->info);
    uint8_t *to = j->buffer ? j->buffer : pn_image_write(j->rows.im);
    for (int pass = 0; pass < passes; pass++)
        for (uint32_t y = 0; y < j->rows.height; y++) png_read_row(j->png, to + y * row, NULL);
    for (uint32_t y = 0; y < j->rows.height && j->buffer; y++) hand_over(j, to + y * row);
}

/* Called again by a jump when libpng gives up; j->host.status says why. */
static void decode(job *j)
{
    if (setjmp(png_jmpbuf(j->png))) return;
    png_set_read_fn(j->png, j, read_bytes);
    png_set_user_limits(j->png, PN_IMAGE_MAX_SIDE, PN_IMAGE_MAX_SIDE);
    png_set_crc_action(j->png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
    pass_over_chunks(j->png);
    png_read_info(j->png, j->info);
    set_transformations(j->png, j->info, j->o ? j->o->alpha : PN_ALPHA_WHITE);
    const int passes = png_set_interlace_handling(j->png);
    png_read_update_info(j->png, j->info);
    j->host.status = prepare(j, passes > 1);
    if (j->host.status) return;
    if (passes > 1) read_passes(j, passes);
    else read_rows(j);
    png_read_end(j->png, NULL);
}

/* The sides stand at a fixed place: they are looked at before libpng is. */
static ponder_status check_header(const job *j)
{
    if (j->n < 33 || memcmp(j->p + 8, "\0\0\0\x0dIHDR", 8) != 0) return pn_fail(j->host.err, PONDER_E_FORMAT, "PNG: no header");
    const uint8_t *p = j->p + 16;
    const uint64_t w = (uint64_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3], h = (uint64_t)p[4] << 24 | p[5] << 16 | p[6] << 8 | p[7];
    if (w == 0 || h == 0) return pn_fail(j->host.err, PONDER_E_FORMAT, "PNG: a side of 0 pixels");
    return pn_image_check_size(w, h, j->o, j->host.err);
}

ponder_status pn_image_from_png(pn_image **out, const uint8_t *p, size_t n, const pn_image_options *o, const ponder_alloc *a,
                                ponder_error *err)
{
    job j = {.host = {a, err, PONDER_OK}, .o = o, .p = p, .n = n};
    *out = NULL;
    ponder_status st = check_header(&j);
    if (st) return st;
    j.png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &j.host, pn_png_failed, pn_png_warned, &j.host, pn_png_take, pn_png_give);
    j.info = j.png ? png_create_info_struct(j.png) : NULL;
    if (j.info) decode(&j);
    else pn_png_unfit(&j.host);
    png_destroy_read_struct(&j.png, &j.info, NULL);
    pn_free(a, j.buffer, j.buffer_bytes);
    *out = pn_rows_end(&j.rows, j.host.status == PONDER_OK);
    return j.host.status;
}

#else

ponder_status pn_image_from_png(pn_image **out, const uint8_t *p, size_t n, const pn_image_options *o, const ponder_alloc *a,
                                ponder_error *err)
{
    *out = NULL;
    return pn_fail(err, PONDER_E_UNSUPPORTED, "PNG pictures need libpng, which this build is without");
}

#endif
