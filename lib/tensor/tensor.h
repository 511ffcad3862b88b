/* tensor: element types and block formats, the packed layout, kernels and their dispatch.
 *
 * The written reduction orders (decision 2 of the design; the C reference is the definition):
 *  - float weights (F32, F16, BF16): weights are widened exactly to float; per output, one chain
 *    acc = fmaf(w[k], x[k], acc) for k = 0..K-1 starting from 0.
 *  - block formats: activations are quantised to int8 per 16 values (scale d = amax/127, float; q = round half
 *    to even of x * (1/d)); integer sums inside a sub-block are exact; one fmaf a sub-block in K order
 *    (formats with a minimum: two). Each kernel's exact expression stands beside its C reference.
 *  - nothing depends on how many rows, columns, threads or tiles are asked for.
 */
#ifndef PN_TENSOR_H
#define PN_TENSOR_H

#include "base/base.h"

/* ggml's numbers, since files carry them. */
typedef enum pn_type {
    PN_F32 = 0, PN_F16 = 1, PN_Q4_0 = 2, PN_Q4_1 = 3, PN_Q5_0 = 6, PN_Q5_1 = 7, PN_Q8_0 = 8,
    PN_Q2_K = 10, PN_Q3_K = 11, PN_Q4_K = 12, PN_Q5_K = 13, PN_Q6_K = 14,
    PN_IQ4_NL = 20, PN_IQ4_XS = 23, PN_BF16 = 30
} pn_type;

bool pn_type_known(uint32_t type);
const char *pn_type_name(uint32_t type);     /* "Q4_K"; "?" when unknown */
uint32_t pn_type_block(pn_type t);           /* values a block: 1, 32 or 256 */
size_t pn_type_block_bytes(pn_type t);
bool pn_row_bytes(pn_type t, uint64_t k, size_t *bytes); /* false: k is no multiple of the block, or overflow */
bool pn_type_is_float(pn_type t);

float pn_f16_to_f32(uint16_t h);
uint16_t pn_f32_to_f16(float f);             /* round to nearest even */
float pn_bf16_to_f32(uint16_t h);
uint16_t pn_f32_to_bf16(float f);

/* The file's row layout (ggml's block structs) to floats and back. n: a multiple of the block. */
void pn_dequantize_row(pn_type t, const void *src, float *dst, size_t n);
bool pn_can_quantize(pn_type t);             /* F32 F16 BF16 Q8_0 Q4_0 Q4_K */
void pn_quantize_row(pn_type t, const float *src, void *dst, size_t n);

/* ---- CPU levels ----------------------------------------------------------------- */
enum { PN_CPU_AVX2 = 1, PN_CPU_AVX512 = 2, PN_CPU_AVX512VNNI = 4 }; /* AVX2 means AVX2+FMA+F16C */
uint32_t pn_cpu_flags(void); /* what this machine has */

/* ---- packed weights ---------------------------------------------------------------
 * 16 rows make a panel; lanes are rows, so a 16-lane accumulator holds 16 outputs and
 * the reduction over K is one chain a lane. Rows past the end are packed as zeros. */
enum { PN_PANEL = 16 };
size_t pn_panel_bytes(pn_type t, size_t k);  /* bytes of one packed panel over K values; a multiple of 64 */
/* rows: n_rows (1..16) rows of the file's layout, row_stride bytes apart; panel: 64-aligned. */
typedef void pn_pack_fn(pn_type t, const void *rows, size_t row_stride, uint32_t n_rows, size_t k, void *panel);
pn_pack_fn pn_pack_panel;                    /* the reference; pn_kernels has the fastest */
/* One row of a packed panel back to floats, exactly as pn_dequantize_row gives it. */
void pn_unpack_row(pn_type t, const void *panel, uint32_t row_in_panel, size_t k, float *dst);

/* A matrix of `rows` outputs by `k` inputs. Either packed (64-aligned panels, pn_panel_bytes apart) or raw rows
 * of the file's layout (row_stride bytes apart), which are packed piece by piece into scratch: same bits, slower. */
typedef struct pn_matrix {
    pn_type type;
    uint32_t rows;
    size_t k;
    const void *packed;   /* NULL: use raw */
    const void *raw;
    size_t row_stride;
} pn_matrix;

void pn_matrix_row(const pn_matrix *m, uint32_t row, float *dst); /* embedding lookup */

/* ---- activations -------------------------------------------------------------------
 * A batch of up to `cap` columns of K values, in the form the weights' type wants. Float: x[col * k_stride + i].
 * Quantised, block-major: q[(b * cap + col) * 32 + i], b = K block of 32, and for each half block (16 values) its
 * scale d[(b * cap + col) * 2 + half] and the sum of its q: s, as d. */
typedef struct pn_acts {
    size_t k;
    uint32_t cap;
    float *x;          /* float form, or NULL */
    size_t k_stride;
    int8_t *q;         /* quantised form, or NULL */
    float *d;
    int32_t *s;
} pn_acts;

size_t pn_acts_bytes(size_t k, uint32_t cap, bool quantised);             /* 64-aligned total */
void pn_acts_bind(pn_acts *a, size_t k, uint32_t cap, bool quantised, void *memory);

/* ---- kernels -------------------------------------------------------------------------
 * A table chosen once by CPU flags. All of them give the same bits at every level. `scratch` is per thread,
 * pn_scratch_bytes() long, 64-aligned: no kernel uses more than 4 KB of stack. */
typedef enum pn_norm_kind {
    PN_NORM_PLAIN,       /* rms(x) * w, or rms(x) when w is NULL */
    PN_NORM_INPUT        /* rms(x * w): the input-scaled form of muse-spark */
} pn_norm_kind;

enum { PN_KEYS = 32 };   /* keys a block: attention's fixed absolute cut, and the page size */

typedef enum pn_kv_type { PN_KV_F32 = 0, PN_KV_F16 = 1, PN_KV_Q8_0 = 2, PN_KV_Q4 = 3, PN_KV_TYPES } pn_kv_type;
/* Bytes of one key block and one value block of 32 positions by hd values. Keys lie transposed ([hd][32]), values by
 * position ([32][hd]). Q8_0 and Q4 groups: 32 values of one position (the last group of a head may be short). Multiples of 64.
 * What goes into a Q4 block, and the queries over it, are rotated by `turn` first, and the result is turned back. */
size_t pn_kv_key_bytes(pn_kv_type t, uint32_t hd);
size_t pn_kv_value_bytes(pn_kv_type t, uint32_t hd);

/* State of online softmax for one query: m, l, then o[hd]. pn_attn_init sets m = -inf, l = 0, o = 0. */
typedef struct pn_attn_query {
    const float *q;      /* [hd], already normed and rotated */
    float *m, *l, *o;    /* running maximum, sum, rows [hd] */
    uint32_t lo, hi;     /* visible keys of this block: lo <= j < hi, inside 0..32; empty when lo >= hi */
} pn_attn_query;

enum { PN_TOP = 64 };

typedef struct pn_kernels {
    uint32_t cpu;
    /* y[col * y_stride + row] for rows of panels [panel0, panel1) (never past m->rows) and columns [col0, col1). */
    void (*matmul)(const pn_matrix *m, uint32_t panel0, uint32_t panel1, const pn_acts *x, uint32_t col0, uint32_t col1,
                   float *y, size_t y_stride, void *scratch);
    pn_pack_fn *pack;
    /* One column of floats into column `col` of a: copied (float form) or quantised. */
    void (*acts_put)(pn_acts *a, uint32_t col, const float *x);
    void (*norm)(pn_norm_kind kind, float *y, const float *x, const float *w, size_t n, float eps); /* y may be x */
    void (*layer_norm)(float *y, const float *x, const float *w, const float *b, size_t n, float eps);
    void (*add)(float *y, const float *x, size_t n);                               /* y += x */
    void (*gate_add)(float *y, const float *alpha, const float *beta, const float *x, size_t n); /* y = alpha*y + beta*x */
    void (*scale)(float *y, float s, size_t n);                                    /* y *= s */
    void (*axpy)(float *y, float s, const float *x, size_t n);                     /* y = fmaf(s, x, y) */
    void (*silu_mul)(float *y, const float *gate, const float *up, size_t n);      /* silu(gate) * up */
    void (*gelu_tanh_mul)(float *y, const float *gate, const float *up, size_t n); /* tanh form of gelu */
    void (*gelu_mul)(float *y, const float *gate, const float *up, size_t n);      /* exact (erf) gelu; up NULL: 1 */
    void (*sigmoid_mul)(float *y, const float *x, const float *g, size_t n);       /* x * sigmoid(g) */
    void (*sigmoid)(float *y, const float *x, size_t n);
    void (*softcap)(float *y, float mult, float cap, size_t n);                    /* cap * tanh(y * mult / cap); cap 0: y * mult */
    void (*exp_sum)(float *y, const float *x, float max, size_t n, float *sum);    /* y = exp(x - max), fixed order sum */
    void (*tops)(float *top, const float *x, size_t n);                            /* the greatest of each PN_TOP values; NaN: none */
    /* One output of a depthwise convolution: y[i] = b[i], then fmaf(w[j * n + i], x[j * n + i], y[i]) for j = 0..taps-1. */
    void (*conv_row)(float *y, const float *x, const float *w, const float *b, size_t n, uint32_t taps);
    /* Rotate one head. cs: n_rot/2 cosines then n_rot/2 sines. pairs: neighbours (2i, 2i+1), else split halves. */
    void (*rope)(float *x, const float *cs, uint32_t n_rot, bool pairs);
    float (*dot)(const float *a, const float *b, size_t n);                        /* 16 lanes, fixed tree */
    /* Rotate one head for Q4: signs, then a Walsh-Hadamard transform over blocks as long as the greatest power of two that
     * divides hd (256 at most). Products of two turned heads are those of the heads; `back` undoes it. */
    void (*turn)(float *x, uint32_t hd, bool back);
    /* Store position j (0..31) of a key and a value block. */
    void (*kv_put)(pn_kv_type t, void *key_block, void *value_block, uint32_t j, uint32_t hd, const float *k, const float *v);
    /* n_q queries over one block, joined into each query's running state in the written order. Keys outside
     * [lo, hi) may hold anything. next: the key block that will be read after this one, its value block as far behind it as this
     * one's, so that both are fetched meanwhile; NULL: unknown. */
    void (*attn_block)(pn_kv_type t, const void *key_block, const void *value_block, uint32_t hd, float scale,
                       const pn_attn_query *queries, uint32_t n_q, const void *next, void *scratch);
    /* Join state b (a later span) into a: the same expression attn_block uses. */
    void (*attn_join)(float *am, float *al, float *ao, float bm, float bl, const float *bo, uint32_t hd);
} pn_kernels;

size_t pn_scratch_bytes(uint32_t hd);
void pn_kernels_init(pn_kernels *k, uint32_t cpu);

/* sin and cos in double precision for |x| < 2^30: the same bits whatever the machine's C library. */
void pn_sincos(double x, double *s, double *c);
/* Inverse frequencies of rotary encoding, n_rot / 2 of them, in float as the reference computes them. */
void pn_rope_frequencies(float *to, uint32_t n_rot, float theta);

#endif
