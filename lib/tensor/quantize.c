/* Floats into the file's block formats. */
#include <math.h>

#include "tensor/matmul_q.h"

static void put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static int clamp_int(float v, int lo, int hi)
{
    return v <= (float)lo ? lo : v >= (float)hi ? hi : (int)v; /* NaN: whatever, but inside */
}

static void quantize_q8_0(const float *x, uint8_t *dst)
{
    float amax = 0;
    for (int i = 0; i < 32; i++)
        amax = fmaxf(amax, fabsf(x[i]));
    float d = amax / 127.0f, id = d > 0 ? 1.0f / d : 0;
    put16(dst, pn_f32_to_f16(d));
    for (int i = 0; i < 32; i++)
        dst[2 + i] = (uint8_t)(int8_t)clamp_int(roundf(x[i] * id), -128, 127);
}

/* The value of the largest magnitude becomes code 0 (that is, -8), the end that reaches further. */
static void quantize_q4_0(const float *x, uint8_t *dst)
{
    float top = 0;
    for (int i = 0; i < 32; i++)
        top = fabsf(x[i]) > fabsf(top) ? x[i] : top;
    float d = top / -8.0f, id = d != 0 ? 1.0f / d : 0;
    put16(dst, pn_f32_to_f16(d));
    for (int i = 0; i < 16; i++) {
        int lo = clamp_int(x[i] * id + 8.5f, 0, 15), hi = clamp_int(x[i + 16] * id + 8.5f, 0, 15);
        dst[2 + i] = (uint8_t)(lo | hi << 4);
    }
}

/* A sub-block's fit x = scale * code - min, both not negative. */
typedef struct fit { float scale, min; double err; } fit;

/* Codes for one trial step, then the least squares line through them, weighted by w. */
static fit fit_codes(const float *x, const float *w, float lo, float inv)
{
    double sw = 0, sq = 0, sqq = 0, sx = 0, sxq = 0;
    int q[32];
    for (int i = 0; i < 32; i++) {
        q[i] = clamp_int(rintf((x[i] - lo) * inv), 0, 15);
        sw += w[i];
        sq += (double)w[i] * q[i];
        sqq += (double)w[i] * q[i] * q[i];
        sx += (double)w[i] * x[i];
        sxq += (double)w[i] * x[i] * q[i];
    }
    double det = sw * sqq - sq * sq, scale = 0, base = 0;
    if (det > 0) {
        scale = (sw * sxq - sq * sx) / det;
        base = (sqq * sx - sq * sxq) / det;
    }
    if (base > 0 || !(det > 0)) { /* no positive base in the format */
        base = 0;
        scale = sqq > 0 ? sxq / sqq : 0;
    }
    fit f = {(float)fmax(scale, 0), (float)-base, 0};
    for (int i = 0; i < 32; i++) {
        double e = (double)f.scale * q[i] - f.min - x[i];
        f.err += w[i] * e * e;
    }
    return f;
}

static fit fit_sub_block(const float *x)
{
    float lo = 0, hi = x[0], square = 0, w[32];
    for (int i = 0; i < 32; i++) {
        lo = fminf(lo, x[i]);
        hi = fmaxf(hi, x[i]);
        square += x[i] * x[i];
    }
    if (!(hi > lo))
        return (fit){0, -lo, 0};
    /* Large weights matter more: they meet large products. */
    float rms = sqrtf(square / 32);
    for (int i = 0; i < 32; i++)
        w[i] = rms + fabsf(x[i]);
    fit best = fit_codes(x, w, lo, 15 / (hi - lo));
    for (int step = -10; step <= 10; step++) {
        fit f = fit_codes(x, w, lo, (15 + 0.1f * (float)step) / (hi - lo));
        if (f.err < best.err)
            best = f;
    }
    return best;
}

static void put_scale_min(uint8_t *s, int j, int sc, int mn)
{
    if (j < 4) {
        s[j] = (uint8_t)sc;
        s[j + 4] = (uint8_t)mn;
    } else {
        s[j + 4] = (uint8_t)((sc & 15) | (mn & 15) << 4);
        s[j - 4] |= (uint8_t)(sc >> 4 << 6);
        s[j] |= (uint8_t)(mn >> 4 << 6);
    }
}

static void q4_k_codes(const float *x, int j, float scale, float min, uint8_t *qs)
{
    float inv = scale > 0 ? 1 / scale : 0;
    for (int i = 0; i < 32; i++) {
        int q = clamp_int(rintf((x[i] + min) * inv), 0, 15);
        qs[32 * (j / 2) + i] |= (uint8_t)(q << 4 * (j % 2));
    }
}

static void quantize_q4_k(const float *x, uint8_t *dst)
{
    fit f[8];
    float top_scale = 0, top_min = 0;
    memset(dst, 0, 144);
    for (int j = 0; j < 8; j++) {
        f[j] = fit_sub_block(x + 32 * j);
        top_scale = fmaxf(top_scale, f[j].scale);
        top_min = fmaxf(top_min, f[j].min);
    }
    uint16_t d16 = pn_f32_to_f16(top_scale / 63), m16 = pn_f32_to_f16(top_min / 63);
    float d = pn_f16_to_f32(d16), m = pn_f16_to_f32(m16);
    put16(dst, d16);
    put16(dst + 2, m16);
    for (int j = 0; j < 8; j++) {
        int sc = d > 0 ? clamp_int(rintf(f[j].scale / d), 0, 63) : 0;
        int mn = m > 0 ? clamp_int(rintf(f[j].min / m), 0, 63) : 0;
        put_scale_min(dst + 4, j, sc, mn);
        q4_k_codes(x + 32 * j, j, d * (float)sc, m * (float)mn, dst + 16);
    }
}

bool pn_can_quantize(pn_type t)
{
    return pn_type_is_float(t) || t == PN_Q8_0 || t == PN_Q4_0 || t == PN_Q4_K;
}

static void quantize_halves(pn_type t, const float *src, uint8_t *dst, size_t n)
{
    for (size_t i = 0; i < n; i++)
        put16(dst + 2 * i, t == PN_F16 ? pn_f32_to_f16(src[i]) : pn_f32_to_bf16(src[i]));
}

void pn_quantize_row(pn_type t, const float *src, void *dst, size_t n)
{
    uint8_t *p = dst;
    if (t == PN_F32)
        memcpy(dst, src, n * sizeof(float));
    else if (t == PN_F16 || t == PN_BF16)
        quantize_halves(t, src, p, n);
    else if (t == PN_Q4_K)
        for (size_t i = 0; i < n; i += 256, p += 144)
            quantize_q4_k(src + i, p);
    else
        for (size_t i = 0; i < n; i += 32, p += pn_type_block_bytes(t))
            (t == PN_Q8_0 ? quantize_q8_0 : quantize_q4_0)(src + i, p);
}
