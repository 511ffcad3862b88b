/* Inside the tensor room: the packed layout of block formats, and their products.
 *
 * A packed panel of nb = k / 32 groups ("32-blocks"):
 *   codes   nb times code_bytes (a multiple of 64), then
 *   scales  k / block times: d[16] F16, then m[16] F16 if has_m, then (block / 32) times sub[sub_rows][16] bytes.
 * Codes are unsigned bytes seen as [8 groups of 4 k][16 rows][4 k], the operand of a byte dot product, cut into planes:
 *   base 8  all of it
 *   base 4  vector i of 4: group i in the low, group i + 4 in the high nibbles
 *   base 2  vector i of 2: group 4i + j at bit 2j
 *   extra 1 after the base: one vector, bit g belongs to group g
 *   extra 2 after the base: vector i of 2: group 4i + j at bit 2j
 *
 * Written order (matmul_q_c.c is the definition). A half is k 0..15 or 16..31 of a 32-block (groups 0..3, 4..7): dx its
 * activations' scale, xs their sum, f = (float)xs * dx, i = sum(w x), with w the code less its offset (or its table value).
 *   mix(a, b) = fmaf((float)b, dx1, (float)a * dx0)
 * Per output acc = 0, then for each 32-block in K order, by class:
 *   PN_Q_PLAIN  acc = fmaf(mix(i0, i1), dw, acc)                     dw = d, or d * (float)sc for IQ4_XS
 *   PN_Q_MIN    the same, then acc = fmaf(mw, f0 + f1, acc)          legacy: dw = d, mw = m; K: d * sc, -(dmin * mn)
 *   PN_Q_HALF   acc = fmaf((float)i0 * dx0, dw0, acc), then half 1   dw = d * (float)sc
 *   PN_Q_3K     acc = fmaf(mix(sc0 i0, sc1 i1), d, acc)
 *   PN_Q_2K     the same, then acc = fmaf(mw0, f0, acc), then half 1 mw = -(dmin * (float)mn)
 * Every integer stays below 2^24, so the conversions are exact. */
#ifndef PN_MATMUL_Q_H
#define PN_MATMUL_Q_H

#include "tensor/tensor.h"

/* Bytes of scratch that products want; of these the first are all that products of packed panels touch. */
enum { PN_SCRATCH_PACK = 262144, PN_SCRATCH_SUMS = 65536 };

typedef enum pn_q_class { PN_Q_PLAIN, PN_Q_MIN, PN_Q_HALF, PN_Q_2K, PN_Q_3K } pn_q_class;

typedef struct pn_q_layout {
    uint16_t block, file_bytes;      /* values and bytes of a block of the file */
    uint16_t code_bytes;             /* of a packed 32-block */
    uint16_t scale_bytes;            /* of a packed block of `block` values */
    uint8_t base, extra;             /* bits */
    uint8_t sub_rows, has_m;
    uint8_t offset;                  /* value = code - offset, when there is no table */
    uint8_t cls;
    const int8_t *table;             /* 16 values by code */
} pn_q_layout;

const pn_q_layout *pn_q_layout_of(pn_type t);   /* NULL: no block format */

/* 32 values of one row, in the parts that both layouts store. */
typedef struct pn_q_part {
    uint8_t code[32];
    uint16_t d, m;                   /* F16 bits */
    uint8_t sub[2];                  /* as packed: see scales_of in dequantize.c */
} pn_q_part;

/* Integer scales and minima of the two halves. */
typedef struct pn_q_scales { int32_t sc[2], mn[2]; } pn_q_scales;

void pn_q_decode(pn_type t, const uint8_t *block, uint32_t j, pn_q_part *out);   /* j: which 32 of the file's block */
void pn_q_panel_part(pn_type t, const uint8_t *panel, size_t k, size_t b, uint32_t row, pn_q_part *out);
void pn_q_part_floats(pn_type t, const pn_q_part *p, float dst[32]);
void pn_q_scales_of(pn_type t, const uint8_t sub[2], pn_q_scales *out);
/* The codes of a packed 32-block as [8][16][4] bytes. */
void pn_q_codes(const pn_q_layout *l, const uint8_t *packed, uint8_t out[512]);

pn_pack_fn pn_pack_panel_avx2;

/* ---- products ------------------------------------------------------------------ */
/* One or two panels over n_blocks 32-blocks, starting at block b0 of the activations, n_cols (1..64) columns.
 * acc[c * 32 + panel * 16 + row] continues. */
typedef struct pn_q_tile {
    pn_type type;
    uint32_t n_panels;
    const uint8_t *codes[2], *scales[2];
    size_t n_blocks, b0;
    const pn_acts *x;
    uint32_t col0, n_cols;
    float *acc;
    bool stream;                     /* nobody fetched these panels: at a distance while they are used */
    const uint8_t *ahead;            /* what comes after these panels, to be fetched meanwhile, */
    uint32_t ahead_lines;            /* so many lines of 64 bytes with each 32-block */
} pn_q_tile;
typedef void (*pn_q_tile_fn)(const pn_q_tile *t);

enum { PN_Q_COLS = 64, PN_Q_MOST_COLS = 512 }; /* of a tile; whose accumulators are kept at once */
/* Walks panels, columns and (raw matrices) pieces of K; the same for every CPU level. All panels meet up to `most` columns before the
 * next ones. */
void pn_matmul_q_walk(const pn_matrix *m, uint32_t panel0, uint32_t panel1, const pn_acts *x, uint32_t col0,
                      uint32_t col1, float *y, size_t y_stride, void *scratch, pn_q_tile_fn fn, uint32_t most);

typedef void pn_matmul_fn(const pn_matrix *m, uint32_t panel0, uint32_t panel1, const pn_acts *x, uint32_t col0,
                          uint32_t col1, float *y, size_t y_stride, void *scratch);
pn_matmul_fn pn_matmul_q_c, pn_matmul_q_avx2, pn_matmul_q_avx512vnni;

/* Of each half block: d = amax / 127, q = round half to even of x * (127 / amax), clamped to +-127; all zero when
 * 127 / amax overflows. */
void pn_acts_put_q_c(pn_acts *a, uint32_t col, const float *x);
void pn_acts_put_q_avx2(pn_acts *a, uint32_t col, const float *x);
void pn_acts_put_q_avx512(pn_acts *a, uint32_t col, const float *x);

#endif
