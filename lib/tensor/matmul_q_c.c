/* The quantised product's definition (expressions: matmul_q.h). */
#include <math.h>

#include "tensor/matmul_q.h"

/* One panel's 32-block, widened: values w[i][row], scales by row. */
typedef struct wide {
    int16_t w[32][PN_PANEL];
    float d[PN_PANEL], m[PN_PANEL];
    pn_q_scales s[PN_PANEL];
} wide;

static void widen_codes(const pn_q_layout *l, const uint8_t *packed, wide *o)
{
    uint8_t codes[512];
    pn_q_codes(l, packed, codes);
    for (int i = 0; i < 32; i++)
        for (int r = 0; r < PN_PANEL; r++) {
            uint8_t c = codes[64 * (i / 4) + 4 * r + i % 4];
            o->w[i][r] = (int16_t)(l->table ? l->table[c] : c - l->offset);
        }
}

static void widen_scales(pn_type t, const pn_q_layout *l, const uint8_t *scales, size_t j, wide *o)
{
    const uint8_t *sub = scales + 32 + 32 * l->has_m + j * l->sub_rows * 16;
    for (int r = 0; r < PN_PANEL; r++) {
        uint16_t d, m = 0;
        uint8_t s[2] = {l->sub_rows > 0 ? sub[r] : 0, l->sub_rows > 1 ? sub[16 + r] : 0};
        memcpy(&d, scales + 2 * r, 2);
        if (l->has_m)
            memcpy(&m, scales + 32 + 2 * r, 2);
        o->d[r] = pn_f16_to_f32(d);
        o->m[r] = pn_f16_to_f32(m);
        pn_q_scales_of(t, s, &o->s[r]);
    }
}

static void sums(const wide *o, const int8_t *x, int32_t sum[2][PN_PANEL])
{
    memset(sum, 0, 2 * sizeof sum[0]);
    for (int i = 0; i < 32; i++)
        for (int r = 0; r < PN_PANEL; r++)
            sum[i / 16][r] += o->w[i][r] * x[i];
}

static float mix(int32_t a, int32_t b, const float dx[2])
{
    return fmaf((float)b, dx[1], (float)a * dx[0]);
}

/* One output after this 32-block; i: sums of the halves, dx and xs: what the activations bring. */
static float step(const pn_q_layout *l, const wide *o, int r, float acc, int32_t i0, int32_t i1, const float dx[2],
                  const int32_t xs[2])
{
    const pn_q_scales *s = &o->s[r];
    float d = o->d[r], m = o->m[r], dw0 = d * (float)s->sc[0], f0 = (float)xs[0] * dx[0], f1 = (float)xs[1] * dx[1];
    switch ((pn_q_class)l->cls) {
    case PN_Q_PLAIN: return fmaf(mix(i0, i1, dx), dw0, acc);
    case PN_Q_MIN: return fmaf(l->sub_rows ? -(m * (float)s->mn[0]) : m, f0 + f1, fmaf(mix(i0, i1, dx), dw0, acc));
    case PN_Q_HALF: return fmaf((float)i1 * dx[1], d * (float)s->sc[1], fmaf((float)i0 * dx[0], dw0, acc));
    case PN_Q_2K: case PN_Q_3K: break;
    }
    acc = fmaf(mix(s->sc[0] * i0, s->sc[1] * i1, dx), d, acc);
    if (l->cls == PN_Q_3K)
        return acc;
    return fmaf(-(m * (float)s->mn[1]), f1, fmaf(-(m * (float)s->mn[0]), f0, acc));
}

static void block_columns(const pn_q_tile *t, const pn_q_layout *l, const wide *o, size_t b, float *acc)
{
    for (uint32_t c = 0; c < t->n_cols; c++) {
        size_t at = (t->b0 + b) * t->x->cap + t->col0 + c;
        int32_t sum[2][PN_PANEL];
        sums(o, t->x->q + 32 * at, sum);
        for (int r = 0; r < PN_PANEL; r++)
            acc[32 * c + r] = step(l, o, r, acc[32 * c + r], sum[0][r], sum[1][r], t->x->d + 2 * at, t->x->s + 2 * at);
    }
}

static void tile_c(const pn_q_tile *t)
{
    const pn_q_layout *l = pn_q_layout_of(t->type);
    size_t per = l->block / 32u;
    for (uint32_t p = 0; p < t->n_panels; p++)
        for (size_t b = 0; b < t->n_blocks; b++) {
            wide o;
            widen_codes(l, t->codes[p] + b * l->code_bytes, &o);
            widen_scales(t->type, l, t->scales[p] + b / per * l->scale_bytes, b % per, &o);
            block_columns(t, l, &o, b, t->acc + 16 * p);
        }
}

void pn_matmul_q_c(const pn_matrix *m, uint32_t panel0, uint32_t panel1, const pn_acts *x, uint32_t col0, uint32_t col1,
                   float *y, size_t y_stride, void *scratch)
{
    pn_matmul_q_walk(m, panel0, panel1, x, col0, col1, y, y_stride, scratch, tile_c, PN_Q_MOST_COLS);
}
