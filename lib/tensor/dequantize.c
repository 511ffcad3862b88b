/* The file's block formats, read. Every block is seen as one or eight parts of 32 values with their scales; the packed
 * layout stores the same parts, so that both give the same floats. */
#include "tensor/matmul_q.h"

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

/* Value l of 16 bytes of nibbles is a low nibble, value l + 16 the high one of the same byte. */
static void nibbles16(const uint8_t *q, uint8_t *code)
{
    for (int l = 0; l < 16; l++) {
        code[l] = q[l] & 15;
        code[l + 16] = q[l] >> 4;
    }
}

static void fifth_bits(const uint8_t *p, uint8_t *code)
{
    uint32_t bits = get16(p) | (uint32_t)get16(p + 2) << 16;
    for (int l = 0; l < 32; l++)
        code[l] |= (uint8_t)((bits >> l & 1) << 4);
}

/* Eight 6-bit scales and eight 6-bit minima in 12 bytes. */
static void scale_min(const uint8_t *s, uint32_t j, uint8_t sub[2])
{
    if (j < 4) {
        sub[0] = s[j] & 63;
        sub[1] = s[j + 4] & 63;
    } else {
        sub[0] = (uint8_t)((s[j + 4] & 15) | (s[j - 4] >> 6) << 4);
        sub[1] = (uint8_t)((s[j + 4] >> 4) | (s[j] >> 6) << 4);
    }
}

static uint8_t q3_scale(const uint8_t *s, uint32_t i)
{
    uint32_t low = s[i % 8] >> 4 * (i / 8) & 15, high = s[8 + i % 4] >> 2 * (i / 4) & 3;
    return (uint8_t)((int)(low | high << 4) - 32);
}

static void decode_q2_k(const uint8_t *p, uint32_t j, pn_q_part *o)
{
    for (int l = 0; l < 32; l++)
        o->code[l] = p[16 + 32 * (j / 4) + l] >> 2 * (j % 4) & 3;
    o->sub[0] = p[2 * j];
    o->sub[1] = p[2 * j + 1];
    o->d = get16(p + 80);
    o->m = get16(p + 82);
}

static void decode_q3_k(const uint8_t *p, uint32_t j, pn_q_part *o)
{
    for (int l = 0; l < 32; l++)
        o->code[l] = (uint8_t)((p[32 + 32 * (j / 4) + l] >> 2 * (j % 4) & 3) | (p[l] >> j & 1) << 2);
    o->sub[0] = q3_scale(p + 96, 2 * j);
    o->sub[1] = q3_scale(p + 96, 2 * j + 1);
    o->d = get16(p + 108);
}

static void decode_q45_k(bool five, const uint8_t *p, uint32_t j, pn_q_part *o)
{
    const uint8_t *q = p + (five ? 48 : 16) + 32 * (j / 2);
    for (int l = 0; l < 32; l++)
        o->code[l] = q[l] >> 4 * (j % 2) & 15;
    if (five)
        for (int l = 0; l < 32; l++)
            o->code[l] |= (uint8_t)((p[16 + l] >> j & 1) << 4);
    scale_min(p + 4, j, o->sub);
    o->d = get16(p);
    o->m = get16(p + 2);
}

static void decode_q6_k(const uint8_t *p, uint32_t j, pn_q_part *o)
{
    const uint8_t *ql = p + 64 * (j / 4) + 32 * (j & 1), *qh = p + 128 + 32 * (j / 4);
    uint32_t lo = 4 * (j / 2 & 1), hi = 2 * (j % 4);
    for (int l = 0; l < 32; l++)
        o->code[l] = (uint8_t)((ql[l] >> lo & 15) | (qh[l] >> hi & 3) << 4);
    o->sub[0] = p[192 + 2 * j];
    o->sub[1] = p[192 + 2 * j + 1];
    o->d = get16(p + 208);
}

static void decode_iq4_xs(const uint8_t *p, uint32_t j, pn_q_part *o)
{
    uint32_t low = p[4 + j / 2] >> 4 * (j % 2) & 15, high = get16(p + 2) >> 2 * j & 3;
    nibbles16(p + 8 + 16 * j, o->code);
    o->sub[0] = (uint8_t)((int)(low | high << 4) - 32);
    o->d = get16(p);
}

void pn_q_decode(pn_type t, const uint8_t *p, uint32_t j, pn_q_part *o)
{
    o->m = 0;
    o->sub[0] = o->sub[1] = 0;
    switch (t) {
    case PN_Q2_K: decode_q2_k(p, j, o); return;
    case PN_Q3_K: decode_q3_k(p, j, o); return;
    case PN_Q4_K: decode_q45_k(false, p, j, o); return;
    case PN_Q5_K: decode_q45_k(true, p, j, o); return;
    case PN_Q6_K: decode_q6_k(p, j, o); return;
    case PN_IQ4_XS: decode_iq4_xs(p, j, o); return;
    default: break;
    }
    o->d = get16(p);
    if (t == PN_Q4_1 || t == PN_Q5_1)
        o->m = get16(p + 2);
    if (t == PN_Q8_0) {
        for (int l = 0; l < 32; l++)
            o->code[l] = p[2 + l] ^ 128;
        return;
    }
    nibbles16(p + pn_type_block_bytes(t) - 16, o->code);
    if (t == PN_Q5_0 || t == PN_Q5_1)
        fifth_bits(p + pn_type_block_bytes(t) - 20, o->code);
}

void pn_q_scales_of(pn_type t, const uint8_t sub[2], pn_q_scales *o)
{
    *o = (pn_q_scales){{1, 1}, {1, 1}};
    if (t == PN_Q2_K) {
        for (int h = 0; h < 2; h++) {
            o->sc[h] = sub[h] & 15;
            o->mn[h] = sub[h] >> 4;
        }
    } else if (t == PN_Q4_K || t == PN_Q5_K) {
        o->sc[0] = o->sc[1] = sub[0];
        o->mn[0] = o->mn[1] = sub[1];
    } else if (t == PN_Q3_K || t == PN_Q6_K || t == PN_IQ4_XS) {
        o->sc[0] = (int8_t)sub[0];
        o->sc[1] = t == PN_IQ4_XS ? o->sc[0] : (int8_t)sub[1];
    }
}

void pn_q_part_floats(pn_type t, const pn_q_part *p, float dst[32])
{
    const pn_q_layout *l = pn_q_layout_of(t);
    float d = pn_f16_to_f32(p->d), m = pn_f16_to_f32(p->m);
    pn_q_scales s;
    pn_q_scales_of(t, p->sub, &s);
    for (int h = 0; h < 2; h++) {
        float dw = d * (float)s.sc[h], mw = l->sub_rows ? -(m * (float)s.mn[h]) : m;
        for (int i = 16 * h; i < 16 * h + 16; i++) {
            int w = l->table ? l->table[p->code[i]] : p->code[i] - l->offset;
            dst[i] = dw * (float)w;
            if (l->has_m) /* not always: adding 0 would turn -0 into +0 */
                dst[i] += mw;
        }
    }
}

static void dequantize_blocks(pn_type t, const uint8_t *src, float *dst, size_t n)
{
    const pn_q_layout *l = pn_q_layout_of(t);
    for (size_t i = 0; i < n; i += l->block, src += l->file_bytes) {
        for (uint32_t j = 0; j < l->block / 32; j++) {
            pn_q_part p;
            pn_q_decode(t, src, j, &p);
            pn_q_part_floats(t, &p, dst + i + 32 * j);
        }
    }
}

void pn_dequantize_row(pn_type t, const void *src, float *dst, size_t n)
{
    const uint8_t *p = src;
    if (t == PN_F32) {
        memcpy(dst, src, n * sizeof(float));
    } else if (t == PN_F16) {
        for (size_t i = 0; i < n; i++)
            dst[i] = pn_f16_to_f32(get16(p + 2 * i));
    } else if (t == PN_BF16) {
        for (size_t i = 0; i < n; i++)
            dst[i] = pn_bf16_to_f32(get16(p + 2 * i));
    } else {
        dequantize_blocks(t, src, dst, n);
    }
}
