/* Rows of the file's layout into panels of 16 rows (layout: matmul_q.h), and single rows back. */
#include "tensor/matmul_q.h"

static size_t round64(size_t n)
{
    return (n + 63) & ~(size_t)63;
}

size_t pn_panel_bytes(pn_type t, size_t k)
{
    const pn_q_layout *l = pn_q_layout_of(t);
    if (!l)
        return round64(k * PN_PANEL * pn_type_block_bytes(t));
    return round64(k / 32 * l->code_bytes + k / l->block * l->scale_bytes);
}

/* tile: [8][16][4] codes of 16 rows. */
static void put_planes(const pn_q_layout *l, const uint8_t *tile, uint8_t *out)
{
    if (l->base == 8) {
        memcpy(out, tile, 512);
    } else if (l->base == 4) {
        for (int i = 0; i < 256; i++)
            out[i] = (uint8_t)((tile[i] & 15) | tile[i + 256] << 4);
        out += 256;
    } else {
        for (int i = 0; i < 2; i++)
            for (int p = 0; p < 64; p++) {
                const uint8_t *c = tile + 256 * i + p;
                out[64 * i + p] = (uint8_t)((c[0] & 3) | (c[64] & 3) << 2 | (c[128] & 3) << 4 | (c[192] & 3) << 6);
            }
        out += 128;
    }
    if (l->extra == 1) {
        const int base = l->base;
        memset(out, 0, 64);
        for (int g = 0; g < 8; g++)
            for (int p = 0; p < 64; p++)
                out[p] |= (uint8_t)((tile[64 * g + p] >> base & 1) << g);
    } else if (l->extra == 2) {
        for (int i = 0; i < 2; i++)
            for (int p = 0; p < 64; p++) {
                const uint8_t *c = tile + 256 * i + p;
                out[64 * i + p] = (uint8_t)(c[0] >> 4 | c[64] >> 4 << 2 | c[128] >> 4 << 4 | c[192] >> 4 << 6);
            }
    }
}

void pn_q_codes(const pn_q_layout *l, const uint8_t *in, uint8_t out[512])
{
    const uint8_t *extra = in + 64 * l->base;
    for (int g = 0; g < 8; g++) {
        const uint8_t *v = l->base == 8 ? in + 64 * g : in + 64 * (g % 4), *v2 = in + 64 * (g / 4);
        for (int p = 0; p < 64; p++)
            out[64 * g + p] = l->base == 8 ? v[p] : l->base == 4 ? v[p] >> 4 * (g / 4) & 15 : v2[p] >> 2 * (g % 4) & 3;
        if (l->extra == 1)
            for (int p = 0; p < 64; p++)
                out[64 * g + p] |= (uint8_t)((extra[p] >> g & 1) << l->base);
        else if (l->extra == 2)
            for (int p = 0; p < 64; p++)
                out[64 * g + p] |= (uint8_t)((extra[64 * (g / 4) + p] >> 2 * (g % 4) & 3) << 4);
    }
}

static void put16(uint8_t *p, uint16_t v)
{
    memcpy(p, &v, 2);
}

/* One block of the file of all rows: codes by 32, then the scales. */
static void pack_block(pn_type t, const uint8_t *rows, size_t row_stride, uint32_t n_rows, uint8_t *codes, uint8_t *scales)
{
    const pn_q_layout *l = pn_q_layout_of(t);
    uint8_t *sub = scales + 32 + 32 * l->has_m;
    uint8_t tile[512] __attribute__((aligned(64)));
    memset(scales, 0, l->scale_bytes);
    memset(tile, 0, sizeof tile);
    for (uint32_t j = 0; j < l->block / 32u; j++) {
        for (uint32_t r = 0; r < n_rows; r++) {
            pn_q_part p;
            pn_q_decode(t, rows + r * row_stride, j, &p);
            for (int g = 0; g < 8; g++)
                memcpy(tile + 64 * g + 4 * r, p.code + 4 * g, 4);
            put16(scales + 2 * r, p.d);
            if (l->has_m)
                put16(scales + 32 + 2 * r, p.m);
            for (int s = 0; s < l->sub_rows; s++)
                sub[(l->sub_rows * j + (uint32_t)s) * 16 + r] = p.sub[s];
        }
        put_planes(l, tile, codes + (size_t)j * l->code_bytes);
    }
}

static void pack_float(const uint8_t *rows, size_t row_stride, uint32_t n_rows, size_t k, size_t size, uint8_t *panel)
{
    memset(panel, 0, round64(k * PN_PANEL * size));
    for (uint32_t r = 0; r < n_rows; r++) {
        const uint8_t *p = rows + r * row_stride;
        if (size == 4)
            for (size_t i = 0; i < k; i++)
                memcpy(panel + (i * PN_PANEL + r) * 4, p + 4 * i, 4);
        else
            for (size_t i = 0; i < k; i++)
                memcpy(panel + (i * PN_PANEL + r) * 2, p + 2 * i, 2);
    }
}

void pn_pack_panel(pn_type t, const void *rows, size_t row_stride, uint32_t n_rows, size_t k, void *panel)
{
    const pn_q_layout *l = pn_q_layout_of(t);
    if (!l) {
        pack_float(rows, row_stride, n_rows, k, pn_type_block_bytes(t), panel);
        return;
    }
    uint8_t *codes = panel, *scales = codes + k / 32 * l->code_bytes;
    for (size_t i = 0; i < k / l->block; i++)
        pack_block(t, (const uint8_t *)rows + i * l->file_bytes, row_stride, n_rows,
                   codes + i * (l->block / 32u) * l->code_bytes, scales + i * l->scale_bytes);
    size_t used = k / 32 * l->code_bytes + k / l->block * l->scale_bytes;
    memset((uint8_t *)panel + used, 0, round64(used) - used);
}

static uint8_t code_at(const pn_q_layout *l, const uint8_t *in, unsigned g, unsigned p)
{
    const uint8_t *extra = in + 64 * l->base;
    unsigned v = l->base == 8 ? in[64 * g + p] : l->base == 4 ? in[64 * (g % 4) + p] >> 4 * (g / 4) & 15u
                                                              : in[64 * (g / 4) + p] >> 2 * (g % 4) & 3u;
    if (l->extra == 1)
        v |= (extra[p] >> g & 1u) << l->base;
    else if (l->extra == 2)
        v |= (extra[64 * (g / 4) + p] >> 2 * (g % 4) & 3u) << 4;
    return (uint8_t)v;
}

void pn_q_panel_part(pn_type t, const uint8_t *panel, size_t k, size_t b, uint32_t row, pn_q_part *o)
{
    const pn_q_layout *l = pn_q_layout_of(t);
    size_t per = l->block / 32u, j = b % per;
    const uint8_t *codes = panel + b * l->code_bytes;
    const uint8_t *scales = panel + k / 32 * l->code_bytes + b / per * l->scale_bytes;
    const uint8_t *sub = scales + 32 + 32 * l->has_m + j * l->sub_rows * 16;
    for (unsigned i = 0; i < 32; i++)
        o->code[i] = code_at(l, codes, i / 4, 4 * row + i % 4);
    o->m = 0;
    memcpy(&o->d, scales + 2 * row, 2);
    if (l->has_m)
        memcpy(&o->m, scales + 32 + 2 * row, 2);
    o->sub[0] = l->sub_rows > 0 ? sub[row] : 0;
    o->sub[1] = l->sub_rows > 1 ? sub[16 + row] : 0;
}

void pn_unpack_row(pn_type t, const void *panel, uint32_t row, size_t k, float *dst)
{
    const uint8_t *p = panel;
    size_t size = pn_type_block_bytes(t);
    if (pn_type_is_float(t)) {
        for (size_t i = 0; i < k; i++)
            pn_dequantize_row(t, p + (i * PN_PANEL + row) * size, dst + i, 1);
        return;
    }
    for (size_t b = 0; b < k / 32; b++) {
        pn_q_part part;
        pn_q_panel_part(t, p, k, b, row, &part);
        pn_q_part_floats(t, &part, dst + 32 * b);
    }
}

void pn_matrix_row(const pn_matrix *m, uint32_t row, float *dst)
{
    if (!m->packed) {
        pn_dequantize_row(m->type, (const uint8_t *)m->raw + row * m->row_stride, dst, m->k);
        return;
    }
    size_t panel = pn_panel_bytes(m->type, m->k) * (row / PN_PANEL);
    pn_unpack_row(m->type, (const uint8_t *)m->packed + panel, row % PN_PANEL, m->k, dst);
}
