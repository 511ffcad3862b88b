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

/* n RGBA pixels to RGB. */
void pn_alpha_row(uint8_t *rgb, const uint8_t *rgba, size_t n, pn_alpha alpha);

#endif
