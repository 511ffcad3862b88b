#include "vision/image_internal.h"

ponder_status pn_rows_begin(pn_rows *r, uint32_t width, uint32_t height, uint32_t orientation, const ponder_alloc *a, ponder_error *err)
{
    *r = (pn_rows){.a = a, .width = width, .height = height, .orientation = orientation};
    const bool turned = orientation >= 5;
    ponder_status st = pn_image_new(&r->im, turned ? height : width, turned ? width : height, a, err);
    if (st || orientation == 1) return st;
    const size_t bytes = (size_t)width * 3 * PN_BAND;
    r->band = pn_alloc(a, bytes);
    if (r->band) return PONDER_OK;
    pn_image_free(r->im);
    r->im = NULL;
    return pn_nomem(err, bytes);
}

uint8_t *pn_rows_next(pn_rows *r)
{
    const size_t row = (size_t)r->width * 3;
    return r->band ? r->band + r->held * row : pn_image_write(r->im) + r->y * row;
}

/* A pixel (x, y) of the file belongs at start + x * dx + y * dy, in pixels of the picture. */
typedef struct turn { ptrdiff_t start, dx, dy; } turn;

static turn turn_of(const pn_rows *r)
{
    const ptrdiff_t w = r->width, h = r->height;
    switch (r->orientation) {
    case 2: return (turn){w - 1, -1, w};
    case 3: return (turn){w * h - 1, -1, -w};
    case 4: return (turn){w * (h - 1), 1, -w};
    case 5: return (turn){0, h, 1};
    case 6: return (turn){h - 1, h, -1};
    case 7: return (turn){w * h - 1, -h, -1};
    case 8: return (turn){h * (w - 1), -h, 1};
    default: return (turn){0, 1, w};
    }
}

/* Writes the band; neighbours in the picture follow each other whichever way it is turned. */
static void flush(pn_rows *r)
{
    const turn t = turn_of(r);
    const size_t row = (size_t)r->width * 3;
    const ptrdiff_t first = r->y - r->held;
    uint8_t *to = pn_image_write(r->im);
    if (r->orientation < 5) {
        for (uint32_t i = 0; i < r->held; i++)
            for (uint32_t x = 0; x < r->width; x++)
                memcpy(to + 3 * (t.start + x * t.dx + (first + i) * t.dy), r->band + i * row + 3 * (size_t)x, 3);
    } else {
        for (uint32_t x = 0; x < r->width; x++)
            for (uint32_t i = 0; i < r->held; i++)
                memcpy(to + 3 * (t.start + x * t.dx + (first + i) * t.dy), r->band + i * row + 3 * (size_t)x, 3);
    }
    r->held = 0;
}

void pn_rows_done(pn_rows *r)
{
    r->y++;
    if (!r->band) return;
    r->held++;
    if (r->held == PN_BAND || r->y == r->height) flush(r);
}

pn_image *pn_rows_end(pn_rows *r, bool complete)
{
    pn_image *im = r->im;
    pn_free(r->a, r->band, (size_t)r->width * 3 * PN_BAND);
    *r = (pn_rows){0};
    if (!im) return NULL;
    if (complete) {
        pn_image_seal(im);
        return im;
    }
    pn_image_free(im);
    return NULL;
}
