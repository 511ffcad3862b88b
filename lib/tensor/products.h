/* products: weights as operations reach them, columns of activations, and how an operation is cut into tiles. */
#ifndef PN_PRODUCTS_H
#define PN_PRODUCTS_H

#include <stdatomic.h>

#include "tensor/tensor.h"

/* A matrix whose panels are packed by the products that use them. Whoever uses a panel first packs it into scratch, which stays in the
 * cache, and only the next use into memory of its own: fresh memory is the dear part of a load, and a first token can do without. */
typedef struct pn_late {
    _Atomic uint32_t left;    /* panels that are not in their place yet */
    _Atomic uint8_t *state;   /* of each panel, zero at first */
    /* Rows of panels [from, to) need not stay in memory, though others may still read them. Called by any thread, as soon as a tile has
     * put some of its panels in their place, and once for all of them at the end. */
    void (*drop)(struct pn_late *l, uint32_t from, uint32_t to);
} pn_late;

/* A matrix, or one for each expert. Reached through pin and unpin alone, so that where the bytes are (mapped,
 * repacked, read on demand) is nobody's business who computes. batch 0: not there. */
typedef struct pn_weight {
    pn_matrix first;          /* of expert 0 */
    uint32_t batch;
    size_t packed_stride, raw_stride;
    const uint32_t *slot_of;  /* NULL: experts lie in order; else in which place, for those that are here now */
    pn_late *late;            /* NULL: first.packed, if there is one, is filled; else batch is 1, and first has both forms */
} pn_weight;

static inline pn_matrix pn_weight_pin(const pn_weight *w, uint32_t expert)
{
    pn_matrix m = w->first;
    if (w->late && atomic_load_explicit(&w->late->left, memory_order_acquire)) m.packed = NULL;
    if (m.packed) m.packed = (const uint8_t *)m.packed + (w->slot_of ? w->slot_of[expert] : expert) * w->packed_stride;
    if (m.raw) m.raw = (const uint8_t *)m.raw + expert * w->raw_stride;
    return m;
}

static inline void pn_weight_unpin(const pn_weight *w, uint32_t expert)
{
    (void)w;
    (void)expert;
}

/* Columns of activations: as floats, and quantised when some matrix that reads them is. */
typedef struct pn_slot {
    float *x;
    size_t width;
    pn_acts f, q;             /* q.q NULL: not needed */
} pn_slot;

/* So many columns follow, at most those that the slot was made for: their blocks lie side by side. (A single column would else
 * have each block in a page of its own.) */
void pn_slot_columns(pn_slot *s, uint32_t columns);
/* Column `col` of s was written: quantise it where needed. */
void pn_slot_put(const pn_kernels *k, pn_slot *s, uint32_t col);

/* ---- working memory: one walk with base NULL counts, the next hands out ------------------- */

typedef struct pn_arena {
    uint8_t *base;
    size_t at;
} pn_arena;

void *pn_arena_give(pn_arena *a, size_t n, size_t size); /* 64-aligned */
float *pn_arena_floats(pn_arena *a, size_t n);
void pn_arena_slot(pn_arena *a, pn_slot *s, size_t width, uint32_t cap, bool quantised);

/* ---- cutting ---------------------------------------------------------------------------- */

typedef struct pn_product {
    const pn_weight *w;       /* batch 0: left out */
    float *y;                 /* [columns][rows] */
} pn_product;

enum { PN_MAX_PRODUCTS = 4 };

/* How the operation that was entered is cut. */
typedef struct pn_cut {
    uint32_t columns;         /* a tile */
    uint32_t total_columns;
    /* matrix products: */
    const pn_slot *in;
    uint32_t n_products, panels, chunk_tiles;
    pn_product product[PN_MAX_PRODUCTS];
    uint32_t product_tiles[PN_MAX_PRODUCTS];
} pn_cut;

/* An operation by column that touches `values` floats a column. Returns the tiles: one for each thread where they are worth it. */
uint32_t pn_cut_columns(pn_cut *c, uint32_t n, size_t values, uint32_t threads);
/* Products of the same columns of `in`, of the first slot column on; *c was zeroed. Returns the tiles. */
uint32_t pn_cut_products(pn_cut *c, const pn_slot *in, uint32_t columns, const pn_product *products, uint32_t n, uint32_t threads);
/* A use, for panels that are packed late, is all tiles of some panels. */
void pn_tile_products(const pn_cut *c, const pn_kernels *k, uint32_t tile, void *scratch);

#endif
