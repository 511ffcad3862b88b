#include "vision/image_internal.h"

#if PN_HAVE_JPEG
#include <setjmp.h>
#include <stdio.h>

#include <jpeglib.h>
#include <jerror.h>

/* libjpeg-turbo takes memory from the C library only. Its defaults (slow integer transform, smooth upsampling) are those of
 * the reference. Everything that changes lives in the job, so that a jump back loses nothing. */
typedef struct job {
    struct jpeg_decompress_struct jpeg;     /* first: libjpeg hands back a pointer to it */
    struct jpeg_error_mgr errors;
    struct jpeg_source_mgr source;
    struct jpeg_progress_mgr progress;
    jmp_buf back;
    const pn_image_options *o;
    const ponder_alloc *a;
    ponder_error *err;
    const uint8_t *p;
    size_t n;
    pn_rows rows;
    uint8_t *ink;                           /* a row of CMYK */
    size_t ink_bytes;
    ponder_status status;
} job;

/* A picture sent in many passes costs the whole picture for each: a small file could keep a machine busy for hours.
 * Real ones have about ten. */
enum { MAX_SCANS = 100 };

static _Noreturn void leave(job *j, ponder_status status, const char *text)
{
    if (!j->status) j->status = pn_fail(j->err, status, "JPEG: %s", text);
    longjmp(j->back, 1);
}

static ponder_status status_of(int code)
{
    switch (code) {
    case JERR_OUT_OF_MEMORY: return PONDER_E_NOMEM;
    case JERR_IMAGE_TOO_BIG: return PONDER_E_RANGE;
    case JERR_SOF_UNSUPPORTED: case JERR_BAD_PRECISION: case JERR_ARITH_NOTIMPL: return PONDER_E_UNSUPPORTED;
    default: return PONDER_E_FORMAT;
    }
}

static _Noreturn void failed(j_common_ptr c)
{
    char text[JMSG_LENGTH_MAX];
    c->err->format_message(c, text);
    leave((job *)(void *)c, status_of(c->err->msg_code), text);
}

static void warned(j_common_ptr c, int level)
{
    (void)c;
    (void)level;
}

static void print_nothing(j_common_ptr c)
{
    (void)c;
}

static void pass_begins(j_common_ptr c)
{
    job *j = (job *)(void *)c;
    if (j->jpeg.input_scan_number > MAX_SCANS) leave(j, PONDER_E_RANGE, "more than 100 passes");
}

/* ---- the file as libjpeg reads it: what is missing is an error, never made up ---------------------------------------- */

static void nothing(j_decompress_ptr c)
{
    (void)c;
}

static boolean no_more(j_decompress_ptr c)
{
    leave((job *)(void *)c, PONDER_E_FORMAT, "cut short");
}

static void skip(j_decompress_ptr c, long n)
{
    if (n <= 0) return;
    if ((size_t)n > c->src->bytes_in_buffer) no_more(c);
    c->src->next_input_byte += n;
    c->src->bytes_in_buffer -= (size_t)n;
}

/* ---- rows ----------------------------------------------------------------------------------------------------------- */

/* a * b / 255, rounded, as Pillow does it. */
static inline uint32_t part(uint32_t a, uint32_t b)
{
    const uint32_t t = a * b + 128;
    return ((t >> 8) + t) >> 8;
}

/* Inks are stored upside down, with Adobe's mark or without it, so what is stored is what paper is left. */
static void from_inks(uint8_t *rgb, const uint8_t *ink, size_t n)
{
    for (size_t i = 0; i < n; i++, rgb += 3, ink += 4)
        for (int c = 0; c < 3; c++) rgb[c] = (uint8_t)(ink[3] - part(255u - ink[c], ink[3]));
}

static void choose_colours(job *j)
{
    const J_COLOR_SPACE from = j->jpeg.jpeg_color_space;
    if (from == JCS_CMYK || from == JCS_YCCK) {
        j->jpeg.out_color_space = JCS_CMYK;
        j->ink_bytes = (size_t)j->jpeg.image_width * 4;
        j->ink = pn_alloc(j->a, j->ink_bytes);
        if (!j->ink) leave(j, PONDER_E_NOMEM, "no memory");
    } else if (from == JCS_GRAYSCALE || from == JCS_RGB || from == JCS_YCbCr) {
        j->jpeg.out_color_space = JCS_RGB;
    } else {
        leave(j, PONDER_E_UNSUPPORTED, "neither grey, RGB, YCbCr, CMYK nor YCCK");
    }
}

static void read_rows(job *j)
{
    for (uint32_t y = 0; y < j->rows.height; y++) {
        uint8_t *to = pn_rows_next(&j->rows);
        JSAMPROW row = j->ink ? j->ink : to;
        jpeg_read_scanlines(&j->jpeg, &row, 1);
        if (j->ink) from_inks(to, j->ink, j->rows.width);
        pn_rows_done(&j->rows);
    }
}

static void set_up(job *j)
{
    j->jpeg.err = jpeg_std_error(&j->errors);
    j->errors.error_exit = failed;
    j->errors.emit_message = warned;
    j->errors.output_message = print_nothing;
    j->progress.progress_monitor = pass_begins;
    j->source = (struct jpeg_source_mgr){.next_input_byte = j->p, .bytes_in_buffer = j->n, .init_source = nothing,
        .fill_input_buffer = no_more, .skip_input_data = skip, .resync_to_restart = jpeg_resync_to_restart, .term_source = nothing};
}

/* Called again by a jump when libjpeg gives up; j->status says why. */
static void decode(job *j)
{
    if (setjmp(j->back)) return;
    jpeg_create_decompress(&j->jpeg);
    j->jpeg.mem->max_memory_to_use = 0; /* it may come from the environment */
    j->jpeg.src = &j->source;
    j->jpeg.progress = &j->progress;
    jpeg_read_header(&j->jpeg, TRUE);
    j->status = pn_image_check_size(j->jpeg.image_width, j->jpeg.image_height, j->o, j->err);
    if (j->status) return;
    choose_colours(j);
    j->status = pn_rows_begin(&j->rows, j->jpeg.image_width, j->jpeg.image_height, pn_orientation_of_jpeg(j->p, j->n), j->a, j->err);
    if (j->status) return;
    jpeg_start_decompress(&j->jpeg);
    read_rows(j);
    jpeg_finish_decompress(&j->jpeg);
}

ponder_status pn_image_from_jpeg(pn_image **out, const uint8_t *p, size_t n, const pn_image_options *o, const ponder_alloc *a,
                                 ponder_error *err)
{
    job j = {.o = o, .a = a, .err = err, .p = p, .n = n};
    *out = NULL;
    set_up(&j);
    decode(&j);
    jpeg_destroy_decompress(&j.jpeg);
    pn_free(a, j.ink, j.ink_bytes);
    *out = pn_rows_end(&j.rows, j.status == PONDER_OK);
    return j.status;
}

#else

ponder_status pn_image_from_jpeg(pn_image **out, const uint8_t *p, size_t n, const pn_image_options *o, const ponder_alloc *a,
                                 ponder_error *err)
{
    *out = NULL;
    return pn_fail(err, PONDER_E_UNSUPPORTED, "JPEG pictures need libjpeg-turbo, which this build is without");
}

#endif
