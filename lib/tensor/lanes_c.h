/* The meaning of each operation. */
typedef struct vf { float f[16]; } vf;

#define LANES(expr) do { vf r_; ROLLED for (int i = 0; i < 16; i++) r_.f[i] = (expr); return r_; } while (0)

INLINE vf v_set(float s) { LANES(s); }
INLINE vf v_zero(void) { return v_set(0.0f); }
INLINE vf v_load(const float *p) { LANES(p[i]); }
INLINE vf v_load_n(const float *p, int n) { LANES(i < n ? p[i] : 0.0f); }
INLINE void v_store(float *p, vf v) { for (int i = 0; i < 16; i++) p[i] = v.f[i]; }
INLINE void v_store_n(float *p, vf v, int n) { for (int i = 0; i < n && i < 16; i++) p[i] = v.f[i]; }
INLINE vf v_load_f16(const uint16_t *p) { LANES(half_to_float(p[i])); }
INLINE vf v_load_bf16(const uint16_t *p) { LANES(bf16_to_float(p[i])); }
INLINE vf v_load_i8(const int8_t *p) { LANES((float)p[i]); }
INLINE void v_store_f16(uint16_t *p, vf v) { for (int i = 0; i < 16; i++) p[i] = float_to_half(v.f[i]); }
/* Each lane rounded to an integer, its low byte. */
INLINE void v_store_i8(int8_t *p, vf v)
{
    for (int i = 0; i < 16; i++) {
        uint8_t b = (uint8_t)float_bits(v.f[i] + ROUND_MAGIC);
        memcpy(p + i, &b, 1);
    }
}
INLINE vf v_add(vf a, vf b) { LANES(a.f[i] + b.f[i]); }
INLINE vf v_sub(vf a, vf b) { LANES(a.f[i] - b.f[i]); }
INLINE vf v_mul(vf a, vf b) { LANES(a.f[i] * b.f[i]); }
INLINE vf v_div(vf a, vf b) { LANES(a.f[i] / b.f[i]); }
INLINE vf v_fma(vf a, vf b, vf c) { LANES(fmaf(a.f[i], b.f[i], c.f[i])); }   /* a * b + c */
INLINE vf v_nfma(vf a, vf b, vf c) { LANES(fmaf(-a.f[i], b.f[i], c.f[i])); } /* c - a * b */
/* The second operand when either is a NaN. */
INLINE vf v_max(vf a, vf b) { LANES(a.f[i] > b.f[i] ? a.f[i] : b.f[i]); }
INLINE vf v_min(vf a, vf b) { LANES(a.f[i] < b.f[i] ? a.f[i] : b.f[i]); }
INLINE vf v_abs(vf a) { LANES(fabsf(a.f[i])); }
INLINE vf v_copysign(vf a, vf sign) { LANES(copysignf(a.f[i], sign.f[i])); }
INLINE vf v_less(vf a, vf b, vf yes, vf no) { LANES(a.f[i] < b.f[i] ? yes.f[i] : no.f[i]); }
/* Lanes lo <= i < hi of v, the others from `other`. */
INLINE vf v_keep(vf v, int lo, int hi, vf other) { LANES(i >= lo && i < hi ? v.f[i] : other.f[i]); }
/* p * 2^n, rounded once, for p near 1 and -150 <= n <= 128; t = ROUND_MAGIC + n. */
INLINE vf v_pow2(vf p, vf t)
{
    vf r;
    for (int i = 0; i < 16; i++) {
        uint32_t n = float_bits(t.f[i]) - 0x4b400000u, half = (uint32_t)((int32_t)n >> 1);
        r.f[i] = p.f[i] * bits_float((half + 127) << 23) * bits_float((n - half + 127) << 23);
    }
    return r;
}
/* The written tree: lane i meets lane i + 8, then + 4, + 2, + 1. */
INLINE float v_sum(vf v)
{
    for (int w = 8; w; w >>= 1)
        for (int i = 0; i < w; i++) v.f[i] = v.f[i] + v.f[i + w];
    return v.f[0];
}
INLINE float v_top(vf v)
{
    for (int w = 8; w; w >>= 1)
        for (int i = 0; i < w; i++) v.f[i] = v.f[i] > v.f[i + w] ? v.f[i] : v.f[i + w];
    return v.f[0];
}
/* Lanes 0 .. 7: of eight vectors each its sum, its greatest; the other lanes are anything. */
INLINE vf v_sum_each(const vf *x) { LANES(v_sum(x[i % 8])); }
INLINE vf v_top_each(const vf *x) { LANES(v_top(x[i % 8])); }
/* Lane i: its partner i ^ w, w = 1, 2, 4 or 8. */
INLINE vf v_partner(vf v, int w) { LANES(v.f[i ^ w]); }
/* The sign turned where a bit is set. */
INLINE vf v_flip(vf v, uint32_t bits) { LANES(bits >> i & 1 ? -v.f[i] : v.f[i]); }
/* Eight floats, each twice. */
INLINE vf v_load_twice(const float *p) { LANES(p[i / 2]); }
/* Of each of 16 bytes the four bits above `shift`: that entry of the table. */
INLINE vf v_lookup(const uint8_t *p, int shift, vf table) { LANES(table.f[p[i] >> shift & 15]); }
#undef LANES
