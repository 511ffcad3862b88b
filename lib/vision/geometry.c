#include "vision/encode.h"

static uint32_t blocks_of(uint64_t keys) { return (uint32_t)((keys + PN_KEYS - 1) / PN_KEYS); }

/* Window (a, b), counted in windows down and across; e->n columns in all. */
static pn_window window(const pn_encode *e, uint32_t a, uint32_t b)
{
    const uint32_t s = e->d->side, high = PN_MIN(s, e->height - a * s), wide = PN_MIN(s, e->width - b * s);
    const uint32_t whole = e->width / s, rest = e->width % s;
    /* Bands above are of full height; windows to the left of full width. */
    const uint32_t above = a * (whole * blocks_of((uint64_t)s * s) + blocks_of((uint64_t)s * rest));
    return (pn_window){
        .first = a * s * e->width + b * s * high, .n = high * wide,
        .block = above + b * blocks_of((uint64_t)s * high), .blocks = blocks_of((uint64_t)high * wide),
    };
}

void pn_encode_measure(pn_encode *e, pn_grid grid)
{
    const uint32_t s = e->d->side;
    e->height = grid.rows * e->d->merge;
    e->width = grid.cols * e->d->merge;
    e->n = e->height * e->width;
    e->cells = grid.rows * grid.cols;
    e->chunk = PN_MIN(e->n, (uint32_t)PN_E_CHUNK);
    e->merged_chunk = PN_MIN(e->cells, (uint32_t)PN_E_MERGED_CHUNK);
    const pn_window last = window(e, (e->height - 1) / s, (e->width - 1) / s);
    e->blocks = last.block + last.blocks;
    e->key_bytes = pn_kv_key_bytes(PN_KV_F32, e->d->head_dim);
    e->head_bytes = e->key_bytes + pn_kv_value_bytes(PN_KV_F32, e->d->head_dim);
}

uint32_t pn_encode_column(const pn_encode *e, uint32_t row, uint32_t col)
{
    const uint32_t s = e->d->side, a = row / s, b = col / s, wide = PN_MIN(s, e->width - b * s);
    return window(e, a, b).first + (row - a * s) * wide + (col - b * s);
}

pn_window pn_encode_window(const pn_encode *e, uint32_t column, uint32_t *row, uint32_t *col)
{
    const uint32_t s = e->d->side, a = column / (s * e->width), high = PN_MIN(s, e->height - a * s);
    const uint32_t b = (column - a * s * e->width) / (s * high), wide = PN_MIN(s, e->width - b * s);
    const pn_window w = window(e, a, b);
    *row = a * s + (column - w.first) / wide;
    *col = b * s + (column - w.first) % wide;
    return w;
}
