/* Inside the vision room: the state of one encoding.
 *
 * Patches are kept in the order of the windows (row by row inside a window, windows row by row), so that a window's keys are
 * neighbours. Keys and values of all patches lie in blocks of 32, a window beginning a block of its own; what has a column for
 * each patch otherwise goes through in chunks, so that working memory is the stream, the keys and values, and one chunk. */
#ifndef PN_VISION_ENCODE_H
#define PN_VISION_ENCODE_H

#include "vision/tower.h"

typedef enum pn_encode_op {
    PN_E_RESIZE_ACROSS, PN_E_RESIZE_DOWN, PN_E_ANGLES,
    PN_E_PATCHES, PN_E_EMBED, PN_E_PLACE,
    PN_E_KV_IN, PN_E_KV, PN_E_KV_PUT,
    PN_E_Q_IN, PN_E_Q, PN_E_Q_TURN, PN_E_ATTEND, PN_E_ATTENDED, PN_E_O, PN_E_MIDDLE, PN_E_UP, PN_E_GELU, PN_E_DOWN, PN_E_END,
    PN_E_MERGE, PN_E_FC1, PN_E_FC1_GELU, PN_E_FC2, PN_E_FC2_GELU, PN_E_PROJECT
} pn_encode_op;

/* Before the blocks, in each block, after them. */
enum { PN_E_HEAD_OPS = PN_E_KV_IN, PN_E_BLOCK_OPS = PN_E_MERGE - PN_E_KV_IN, PN_E_TAIL_OPS = PN_E_PROJECT - PN_E_MERGE + 1 };
enum { PN_E_CHUNK = 512, PN_E_MERGED_CHUNK = 256, PN_E_SPAN_BLOCKS = 16, PN_E_QUERIES = 64, PN_E_PUT = 16 };

typedef struct pn_window {
    uint32_t first, n;        /* columns */
    uint32_t block, blocks;   /* of keys */
} pn_window;

struct pn_encode {
    const pn_tower *t;
    const pn_tower_info *d;
    pn_kernels k;
    pn_encode_input in;
    pn_pixel_scale scale;
    pn_work work;
    const ponder_alloc *a;
    uint32_t threads;
    float *out;               /* [cells][d->out] */
    uint8_t *memory;
    size_t bytes;

    uint32_t height, width;   /* patches */
    uint32_t n, cells, blocks;
    uint32_t chunk, merged_chunk; /* columns */
    size_t head_bytes, key_bytes;

    float *x;                 /* the stream [n][d->width] */
    uint8_t *kv;              /* [blocks][heads]: keys, then values */
    float *angles;            /* [height + width][head_dim / 2]: cosines, then sines */
    pn_slot patches, norm, attn, hidden, merged, fc1, fc2;
    float *q, *key, *value;   /* [chunk][d->width]; value: also what is added to the stream */
    float *state_m, *state_l; /* [chunk][heads] */
    uint8_t *scratch;
    size_t scratch_bytes;     /* a thread */

    uint32_t at;              /* the chunk's first column */
    uint32_t round;           /* spans of keys that are done */
    pn_cut cut;
};

static inline uint32_t pn_encode_kind(uint32_t op, uint32_t layers)
{
    if (op < PN_E_HEAD_OPS) return op;
    op -= PN_E_HEAD_OPS;
    return op < layers * PN_E_BLOCK_OPS ? PN_E_KV_IN + op % PN_E_BLOCK_OPS : PN_E_MERGE + op - layers * PN_E_BLOCK_OPS;
}

static inline uint32_t pn_encode_layer(uint32_t op) { return (op - PN_E_HEAD_OPS) / PN_E_BLOCK_OPS; }

/* Floats at the end of a thread's scratch: a normed patch, or one patch's angles. */
static inline size_t pn_encode_extra(const pn_tower_info *d) { return ((size_t)d->width + d->head_dim + 15) / 16 * 16; }

/* geometry.c: where patches and windows are. */
void pn_encode_measure(pn_encode *e, pn_grid grid);
uint32_t pn_encode_column(const pn_encode *e, uint32_t row, uint32_t col);
/* The window of a column, and the patch there. */
pn_window pn_encode_window(const pn_encode *e, uint32_t column, uint32_t *row, uint32_t *col);

/* encode_ops.c */
uint32_t pn_encode_columns(const pn_encode *e);       /* of this chunk */
uint32_t pn_encode_cells(const pn_encode *e);
uint32_t pn_enter_attention(pn_encode *e, bool full);
bool pn_attention_again(const pn_encode *e, bool full);
void pn_tile_attention(pn_encode *e, bool full, uint32_t tile, uint32_t thread);
void pn_tile_keys(pn_encode *e, const pn_block *b, uint32_t from, uint32_t to, uint32_t thread);
/* One column of the chunk (or cell, or position). */
void pn_encode_step(pn_encode *e, uint32_t kind, const pn_block *b, uint32_t i, uint32_t thread);

#endif
