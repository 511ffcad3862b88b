/* What the picture files share. */
#ifndef PN_VISION_IMAGE_INTERNAL_H
#define PN_VISION_IMAGE_INTERNAL_H

#include "vision/image.h"

/* A picture without pixels yet: the decoder writes them, then seals it. */
ponder_status pn_image_new(pn_image **out, uint32_t width, uint32_t height, const ponder_alloc *a, ponder_error *err);
uint8_t *pn_image_write(pn_image *im);
void pn_image_seal(pn_image *im); /* computes the hash: no pixel changes any more */

/* PONDER_E_RANGE when the sides or their product pass the limits. */
ponder_status pn_image_check_size(uint64_t width, uint64_t height, const pn_image_options *o, ponder_error *err);

/* Decoders: `p` begins with the format's own mark. */
ponder_status pn_image_from_png(pn_image **out, const uint8_t *p, size_t n, const pn_image_options *o, const ponder_alloc *a,
                                ponder_error *err);
ponder_status pn_image_from_jpeg(pn_image **out, const uint8_t *p, size_t n, const pn_image_options *o, const ponder_alloc *a,
                                 ponder_error *err);

/* EXIF orientation, 1 (upright) to 8; 1 where there is none or it makes no sense. */
uint32_t pn_orientation_of_jpeg(const uint8_t *p, size_t n);
uint32_t pn_orientation_of_png(const uint8_t *p, size_t n);

/* Where decoded rows go: straight into the picture when it is upright, else through a band of rows, which keeps the writes
 * of a turned picture together. Rows come from the top. */
enum { PN_BAND = 16 };
typedef struct pn_rows {
    pn_image *im;
    const ponder_alloc *a;
    uint32_t width, height;     /* as stored in the file */
    uint32_t orientation;
    uint32_t y, held;           /* rows that are done; rows in the band */
    uint8_t *band;              /* NULL: upright */
} pn_rows;

ponder_status pn_rows_begin(pn_rows *r, uint32_t width, uint32_t height, uint32_t orientation, const ponder_alloc *a, ponder_error *err);
uint8_t *pn_rows_next(pn_rows *r);                   /* where to write the next row, width * 3 bytes */
void pn_rows_done(pn_rows *r);                       /* it is written */
pn_image *pn_rows_end(pn_rows *r, bool complete);    /* the picture, sealed, when it is complete, else NULL; frees the band */

/* n RGBA pixels to RGB. */
void pn_alpha_row(uint8_t *rgb, const uint8_t *rgba, size_t n, pn_alpha alpha);

#endif
