/* Key and value blocks, and attention over one block.
 *
 * Layouts of a block of 32 positions j by hd values d, group g of a position = its values 32g .. 32g+31:
 *   F32, F16: keys [hd][32], values [32][hd].
 *   Q8_0: int8 in the same two layouts, then float scales: keys [groups][32], values [32][groups];
 *   scale = amax / 127, q = round half to even of x * (1 / scale).
 *   Q4: codes of 4 bits, the low ones first: keys [hd / 2][32] bytes of values 2i, 2i+1; values [32][groups][16] bytes of values
 *   32g+i, 32g+16+i; then F16 scales as in Q8_0. Scale = the value of greatest magnitude (the positive one of two), rounded; code =
 *   how many midpoints of neighbours in q4_values are less than x * (1 / scale). What is stored was turned before, so that it is
 *   spread like a normal distribution whatever the model has; q4_values are the 16 levels of least squared error for groups of
 *   32 normal values over their greatest.
 *
 * The order (the definition): s_j = chain over d of fmaf(q_d, k_dj, s) from 0, times scale; m_b = the greatest visible;
 * p_j = exp(s_j - m_b), 0 where not visible; l_b = tree of v_sum over p_i + p_(i+16); o_b[d] = chain over visible j, rising, of
 * fmaf(p_j, v_jd, o) from 0; then `join`. A stored value counts as its code (Q4: q4_values of it) times the scale, rounded.
 * Keys that a query does not see are never multiplied with its weights. */

enum { QUERIES = 8, KEYS = PN_KEYS };

/* (queries, vectors of keys, vectors of values) of the tiles, widest first: as many chains as the registers hold. AS_IT_LIES,
 * F16_AS_IT_LIES: for up to so many queries, what they convert again and again costs less than to convert once and store. */
#if PN_LANES == 512
#define SHAPES(X) X(8, 2, 2) X(4, 2, 4) X(3, 2, 4) X(2, 2, 4) X(1, 2, 4)
enum { AS_IT_LIES = 16, F16_AS_IT_LIES = 1 << 16 };
#elif PN_LANES == 2
#define SHAPES(X) X(4, 1, 1) X(3, 2, 1) X(2, 2, 2) X(1, 2, 4)
enum { AS_IT_LIES = 4, F16_AS_IT_LIES = 1 << 16 };
#else
#define SHAPES(X) X(1, 2, 1)
enum { AS_IT_LIES = 1, F16_AS_IT_LIES = 1 };
#endif

static const float q4_values[16] = {-0.8769f, -0.6982f, -0.5537f, -0.4293f, -0.3179f, -0.2147f, -0.1168f, -0.0216f,
                                    0.0731f,  0.1695f,  0.2697f,  0.3762f,  0.4929f,  0.6250f,  0.7829f,  0.9863f};

INLINE uint32_t groups_of(uint32_t hd) { return (hd + 31) / 32; }
INLINE bool has_scales(pn_kv_type t) { return t >= PN_KV_Q8_0; }
INLINE size_t key_scales_at(pn_kv_type t, uint32_t hd) { return t == PN_KV_Q4 ? (size_t)(hd + 1) / 2 * KEYS : (size_t)hd * KEYS; }
INLINE size_t value_scales_at(pn_kv_type t, uint32_t hd) { return (t == PN_KV_Q4 ? groups_of(hd) * (size_t)16 : hd) * KEYS; }

/* ---- the rotation ---------------------------------------------------------------------- */

/* One stage of the transform inside a vector: lane i and its partner become their sum and their difference. */
#define STAGE(v, w, bits) if (n > (w)) v = v_add(v_partner(v, w), v_flip(v, bits))

static void turn(float *x, uint32_t hd, bool back)
{
    /* The signs: binary digits of pi - 3. */
    static const uint16_t signs[16] = {0x243f, 0x6a88, 0x85a3, 0x08d3, 0x1319, 0x8a2e, 0x0370, 0x7344,
                                       0xa409, 0x3822, 0x299f, 0x31d0, 0x082e, 0xfa98, 0xec4e, 0x6c89};
    const uint32_t n = PN_MIN(hd & (~hd + 1), 256u);
    const vf factor = v_set(1.0f / sqrtf((float)n));
    for (uint32_t d = 0; d < hd; d += 16) {
        vf v = v_load_n(x + d, (int)(hd - d));
        if (!back) v = v_flip(v, signs[d / 16 % 16]);
        STAGE(v, 1, 0xaaaa);
        STAGE(v, 2, 0xcccc);
        STAGE(v, 4, 0xf0f0);
        STAGE(v, 8, 0xff00);
        v_store_n(x + d, v, (int)(hd - d));
    }
    for (uint32_t w = 16; w < n; w *= 2)
        for (uint32_t at = 0; at < hd; at += 2 * w)
            for (float *p = x + at; p < x + at + w; p += 16) {
                vf a = v_load(p), b = v_load(p + w);
                v_store(p, v_add(a, b));
                v_store(p + w, v_sub(a, b));
            }
    for (uint32_t d = 0; d < hd; d += 16) {
        vf v = v_mul(v_load_n(x + d, (int)(hd - d)), factor);
        v_store_n(x + d, back ? v_flip(v, signs[d / 16 % 16]) : v, (int)(hd - d));
    }
}
#undef STAGE

/* ---- storing ----------------------------------------------------------------------------- */

INLINE float inverse(float d) { return fabsf(d) < 0x1p-126f ? 0.0f : 1.0f / d; }

/* 16 or fewer values as stored bytes. */
INLINE void put_values(pn_kv_type t, char *key, char *value, uint32_t j, uint32_t hd, uint32_t d, vf k, vf v)
{
    const uint32_t bytes = t == PN_KV_F32 ? 4 : t == PN_KV_F16 ? 2 : 1, n = PN_MIN(hd - d, 16);
    char kb[64], vb[64];
    if (t == PN_KV_F32) {
        v_store((float *)(void *)kb, k);
        v_store((float *)(void *)vb, v);
    } else if (t == PN_KV_F16) {
        v_store_f16((uint16_t *)(void *)kb, k);
        v_store_f16((uint16_t *)(void *)vb, v);
    } else {
        v_store_i8((int8_t *)kb, k);
        v_store_i8((int8_t *)vb, v);
    }
    for (uint32_t i = 0; i < n; i++) memcpy(key + ((size_t)(d + i) * KEYS + j) * bytes, kb + i * bytes, bytes);
    memcpy(value + ((size_t)j * hd + d) * bytes, vb, n * bytes);
}

/* Scale of a group of up to 32 values. */
static float group_scale(const float *x, uint32_t n)
{
    return v_top(v_max(v_abs(v_load_n(x, (int)PN_MIN(n, 16))), v_abs(v_load_n(x + (n > 16 ? 16 : 0), (int)n - 16)))) / 127.0f;
}

INLINE void put(const pn_kv_type t, char *key, char *value, uint32_t j, uint32_t hd, const float *k, const float *v)
{
    float *key_scales = (float *)(void *)(key + key_scales_at(t, hd)), *value_scales = (float *)(void *)(value + value_scales_at(t, hd));
    vf ki = v_set(1.0f), vi = ki;
    for (uint32_t d = 0; d < hd; d += 16) {
        if (t == PN_KV_Q8_0 && d % 32 == 0) {
            const uint32_t g = d / 32, n = PN_MIN(hd - d, 32);
            float ks = key_scales[g * KEYS + j] = group_scale(k + d, n);
            float vs = value_scales[j * groups_of(hd) + g] = group_scale(v + d, n);
            ki = v_set(inverse(ks));
            vi = v_set(inverse(vs));
        }
        vf kd = v_load_n(k + d, (int)(hd - d)), vd = v_load_n(v + d, (int)(hd - d));
        if (t == PN_KV_Q8_0) {
            kd = v_mul(kd, ki);
            vd = v_mul(vd, vi);
        }
        put_values(t, key, value, j, hd, d, kd, vd);
    }
}

/* 16 codes as floats. */
INLINE vf q4_codes(vf x)
{
    vf c = v_zero();
    UNROLL for (int i = 0; i < 15; i++) {
        vf middle = v_set((q4_values[i] + q4_values[i + 1]) * 0.5f);
        c = v_add(c, v_less(middle, x, v_set(1.0f), v_zero()));
    }
    return c;
}

/* Codes of up to 32 values, [32] of which those past n are 7's (that of 0), and the scale. */
static uint16_t q4_group(uint8_t *codes, const float *x, uint32_t n)
{
    uint16_t h[16];
    const vf a = v_load_n(x, (int)n), b = v_load_n(x + (n > 16 ? 16 : 0), (int)n - 16);
    const float top = v_top(v_max(a, b)), low = v_top(v_max(v_flip(a, 0xffff), v_flip(b, 0xffff)));
    v_store_f16(h, v_set(top >= low ? top : -low));
    float scale[16];
    v_store(scale, v_load_f16(h));
    const vf by = v_set(inverse(scale[0]));
    v_store_i8((int8_t *)codes, q4_codes(v_mul(a, by)));
    v_store_i8((int8_t *)codes + 16, q4_codes(v_mul(b, by)));
    return h[0];
}

static void put_q4(char *key, char *value, uint32_t j, uint32_t hd, const float *k, const float *v)
{
    const uint32_t groups = groups_of(hd);
    for (uint32_t g = 0; g < groups; g++) {
        const uint32_t n = PN_MIN(hd - 32 * g, 32u);
        uint8_t c[32], *to = (uint8_t *)key + (size_t)g * 16 * KEYS + j;
        uint16_t scale = q4_group(c, k + 32 * g, n);
        memcpy(key + key_scales_at(PN_KV_Q4, hd) + ((size_t)g * KEYS + j) * 2, &scale, 2);
        for (uint32_t i = 0; i < n; i += 2) to[i / 2 * KEYS] = (uint8_t)(c[i] | c[i + 1] << 4);
        scale = q4_group(c, v + 32 * g, n);
        memcpy(value + value_scales_at(PN_KV_Q4, hd) + ((size_t)j * groups + g) * 2, &scale, 2);
        to = (uint8_t *)value + ((size_t)j * groups + g) * 16;
        for (uint32_t i = 0; i < 16; i++) to[i] = (uint8_t)(c[i] | c[i + 16] << 4);
    }
}

static void kv_put(pn_kv_type t, void *key_block, void *value_block, uint32_t j, uint32_t hd, const float *k, const float *v)
{
    if (t == PN_KV_F32) put(PN_KV_F32, key_block, value_block, j, hd, k, v);
    else if (t == PN_KV_F16) put(PN_KV_F16, key_block, value_block, j, hd, k, v);
    else if (t == PN_KV_Q8_0) put(PN_KV_Q8_0, key_block, value_block, j, hd, k, v);
    else put_q4(key_block, value_block, j, hd, k, v);
}

/* ---- reading ------------------------------------------------------------------------------- */

/* A block to read: as it lies, or widened to F32. Values are `stride` apart (Q4: bytes of a position). */
typedef struct block {
    pn_kv_type type;
    uint32_t groups;             /* of a position */
    const char *keys, *values;
    const float *key_scales, *value_scales;
    size_t stride;
    size_t ahead;                /* from here to the block that is read next; 0: unknown */
} block;

/* What will be read next, from where it lies now: fetched while this block is computed. The next block is a page away, which no
 * hardware foresees. */
INLINE void fetch(const block *b, const char *p) { __builtin_prefetch((const void *)((uintptr_t)p + b->ahead)); }

/* Bytes of 16 stored values. */
INLINE int stored_bytes(pn_kv_type t) { return t == PN_KV_F32 ? 64 : t == PN_KV_F16 ? 32 : t == PN_KV_Q8_0 ? 16 : 8; }

/* The line of all keys at d + odd (F32: two); the line of the values from d of j. */
INLINE void fetch_keys(const pn_kv_type t, const block *b, size_t d, const int odd)
{
    const char *row = b->keys + (d + (size_t)odd) * 2 * (size_t)stored_bytes(t);
    if (t <= PN_KV_F16 || !odd) fetch(b, row);
    if (t == PN_KV_F32) fetch(b, row + 64);
}

INLINE void fetch_values(const pn_kv_type t, const block *b, size_t j, size_t d)
{
    fetch(b, b->values + (t == PN_KV_Q4 ? j * b->stride + d / 2 : (j * b->stride + d) * (size_t)(stored_bytes(t) / 16)));
}

INLINE vf load_stored(pn_kv_type t, const char *p, size_t i)
{
    if (t == PN_KV_F32) return v_load((const float *)(const void *)p + i);
    if (t == PN_KV_F16) return v_load_f16((const uint16_t *)(const void *)p + i);
    return v_load_i8((const int8_t *)p + i);
}

/* Keys j .. j+15 at d + odd, d even, before their scale; values d .. d+15 of j. */
INLINE vf load_keys(const pn_kv_type t, const block *b, size_t d, const int odd, size_t j)
{
    if (t == PN_KV_Q4) return v_lookup((const uint8_t *)b->keys + d / 2 * KEYS + j, 4 * odd, v_load(q4_values));
    return load_stored(t, b->keys, (d + (size_t)odd) * KEYS + j);
}

INLINE vf load_values(const pn_kv_type t, const block *b, size_t j, size_t d)
{
    vf v = t == PN_KV_Q4 ? v_lookup((const uint8_t *)b->values + j * b->stride + d / 32 * 16, d % 32 ? 4 : 0, v_load(q4_values))
                         : load_stored(t, b->values, j * b->stride + d);
    return has_scales(t) ? v_mul(v, v_set(b->value_scales[j * b->groups + d / 32])) : v;
}

/* The last values of a position, fewer than 16: through a copy, so that nothing is read past the block. */
INLINE vf load_tail(const pn_kv_type t, const block *b, size_t j, size_t d, size_t n)
{
    const size_t bytes = t == PN_KV_F32 ? 4 : t == PN_KV_F16 ? 2 : 1;
    if (t == PN_KV_Q4) return load_values(t, b, j, d); /* groups are whole in memory */
    char tail[64] = {0};
    block one = *b;
    memcpy(tail, b->values + (j * b->stride + d) * bytes, n * bytes);
    one.values = tail;
    one.stride = 0;
    one.value_scales = b->value_scales ? b->value_scales + j * b->groups + d / 32 : NULL;
    return load_values(t, &one, 0, 0);
}

INLINE void widen_keys(const pn_kv_type t, const block *b, size_t d, const int odd, float *dst)
{
    fetch_keys(t, b, d, odd);
    UNROLL for (size_t j = 0; j < KEYS; j += 16) {
        vf k = load_keys(t, b, d, odd, j);
        if (has_scales(t)) k = v_mul(k, v_load(b->key_scales + d / 32 * KEYS + j));
        v_store(dst + (d + (size_t)odd) * KEYS + j, k);
    }
}

INLINE void widen(const pn_kv_type t, block *b, uint32_t hd, float *dst)
{
    const size_t padded = (hd + 15) / 16 * 16;
    float *values = dst + (size_t)hd * KEYS;
    for (size_t d = 0; d < hd; d += 2) {
        widen_keys(t, b, d, 0, dst);
        if (d + 1 < hd) widen_keys(t, b, d, 1, dst);
    }
    for (size_t j = 0; j < KEYS; j++) {
        size_t d = 0;
        for (; d + 16 <= hd; d += 16) {
            fetch_values(t, b, j, d);
            v_store(values + j * padded + d, load_values(t, b, j, d));
        }
        if (d < hd) v_store(values + j * padded + d, load_tail(t, b, j, d, hd - d));
    }
    *b = (block){.type = PN_KV_F32, .keys = (const char *)dst, .values = (const char *)values, .stride = padded};
}

/* F16 scales as floats. */
static const float *widen_scales(const char *from, uint32_t n, float *to)
{
    for (uint32_t i = 0; i < n; i += 16) v_store(to + i, v_load_f16((const uint16_t *)(const void *)from + i));
    return to;
}

/* Few queries read the block as it lies; for more the conversion is done once. */
static block open_block(pn_kv_type t, const void *key, const void *value, uint32_t hd, uint32_t n_q, const void *next, float *scratch)
{
    const uint32_t groups = groups_of(hd), scales = groups * KEYS;
    block b = {.type = t, .groups = groups, .keys = key, .values = value, .stride = t == PN_KV_Q4 ? (size_t)groups * 16 : hd,
               .ahead = next ? (uintptr_t)next - (uintptr_t)key : 0};
    const char *ks = b.keys + key_scales_at(t, hd), *vs = b.values + value_scales_at(t, hd);
    for (uint32_t i = 0; has_scales(t) && i < scales * (t == PN_KV_Q4 ? 2 : 4); i += 64) {
        fetch(&b, ks + i);
        fetch(&b, vs + i);
    }
    if (t == PN_KV_Q8_0) {
        b.key_scales = (const float *)(const void *)ks;
        b.value_scales = (const float *)(const void *)vs;
    } else if (t == PN_KV_Q4) {
        b.key_scales = widen_scales(ks, scales, scratch);
        b.value_scales = widen_scales(vs, scales, scratch + scales);
        scratch += 2 * scales;
    }
    if (hd % 16 == 0 && (t == PN_KV_F32 || n_q <= (t == PN_KV_F16 ? F16_AS_IT_LIES : AS_IT_LIES))) return b;
    if (t == PN_KV_F32) widen(PN_KV_F32, &b, hd, scratch);
    else if (t == PN_KV_F16) widen(PN_KV_F16, &b, hd, scratch);
    else if (t == PN_KV_Q8_0) widen(PN_KV_Q8_0, &b, hd, scratch);
    else widen(PN_KV_Q4, &b, hd, scratch);
    return b;
}

/* ---- the kernels ------------------------------------------------------------------------------ */

/* Products of Q queries with 32 keys, E vectors of keys at a time. */
INLINE void score(const pn_kv_type t, const int Q, const int E, const block *b, size_t d, const int odd, const int first, const float *const *q,
                  const vf *scale, vf (*acc)[2])
{
    if (!first) fetch_keys(t, b, d, odd);
    UNROLL for (int e = 0; e < E; e++) {
        vf k = load_keys(t, b, d, odd, 16 * (size_t)(first + e));
        if (has_scales(t)) k = v_mul(k, scale[e]);
        UNROLL for (int i = 0; i < Q; i++) acc[i][e] = v_fma(v_set(q[i][d + (size_t)odd]), k, acc[i][e]);
    }
}

INLINE void scores(const pn_kv_type t, const int Q, const int E, const block *b, uint32_t hd, const pn_attn_query *q, float *s)
{
    const float *qp[QUERIES];
    UNROLL for (int i = 0; i < Q; i++) qp[i] = q[i].q;
    UNROLL for (int first = 0; first < 2; first += E) {
        vf acc[QUERIES][2], scale[2] = {v_zero(), v_zero()};
        UNROLL for (int i = 0; i < Q; i++) acc[i][0] = acc[i][1] = v_zero();
        for (size_t d = 0, end; d < hd; d = end) {
            end = has_scales(t) ? PN_MIN(d + 32, hd) : hd;
            if (has_scales(t))
                UNROLL for (int e = 0; e < E; e++) scale[e] = v_load(b->key_scales + d / 32 * KEYS + 16 * (first + e));
            for (; d + 2 <= end; d += 2) {
                score(t, Q, E, b, d, 0, first, qp, scale, acc);
                score(t, Q, E, b, d, 1, first, qp, scale, acc);
            }
            if (d < end) score(t, Q, E, b, d, 0, first, qp, scale, acc);
        }
        UNROLL for (int i = 0; i < Q; i++)
            UNROLL for (int e = 0; e < E; e++) v_store(s + i * KEYS + 16 * (first + e), acc[i][e]);
    }
}

/* What some queries see: lo .. hi somebody, from .. to everybody. */
typedef struct range { uint32_t lo, from, to, hi; } range;

static range range_of(const pn_attn_query *q, uint32_t n)
{
    range r = {q->lo, q->lo, q->hi, q->hi};
    for (uint32_t i = 1; i < n; i++) {
        r.lo = PN_MIN(r.lo, q[i].lo);
        r.from = PN_MAX(r.from, q[i].lo);
        r.to = PN_MIN(r.to, q[i].hi);
        r.hi = PN_MAX(r.hi, q[i].hi);
    }
    if (r.from >= r.to) r.from = r.to = r.hi;
    return r;
}

/* The one expression that joins a later span (b) to what went before (a). */
INLINE vf join(vf o, vf a, vf ob, vf b) { return v_fma(o, a, v_mul(ob, b)); }

/* Position j added to the rows of those who see it. */
INLINE void add_row(const pn_kv_type t, const int Q, const int D, const bool all, const block *b, uint32_t d, size_t j, const pn_attn_query *q,
                    const float *p, vf *acc)
{
    vf v[4];
    UNROLL for (int e = 0; e < D; e++) {
        v[e] = load_values(t, b, j, d + 16 * (size_t)e);
        if (e * stored_bytes(t) % 64 == 0) fetch_values(t, b, j, d + 16 * (size_t)e);
    }
    UNROLL for (int i = 0; i < Q; i++) {
        if (!all && (j < q[i].lo || j >= q[i].hi)) continue;
        vf pj = v_set(p[(size_t)i * KEYS + j]);
        UNROLL for (int e = 0; e < D; e++) acc[i * D + e] = v_fma(pj, v[e], acc[i * D + e]);
    }
}

/* D vectors of 16 result values from d for Q queries, joined to their rows. w: each query's weights a, b. */
INLINE void rows(const pn_kv_type t, const int Q, const int D, const block *b, uint32_t hd, uint32_t d, range r, const pn_attn_query *q,
                 const float *p, const float *w)
{
    vf acc[16];
    UNROLL for (int i = 0; i < Q * D; i++) acc[i] = v_zero();
    size_t j = r.lo;
    ROLLED for (; j < r.from; j++) add_row(t, Q, D, false, b, d, j, q, p, acc);
    for (; j < r.to; j++) add_row(t, Q, D, true, b, d, j, q, p, acc);
    ROLLED for (; j < r.hi; j++) add_row(t, Q, D, false, b, d, j, q, p, acc);
    UNROLL for (int i = 0; i < Q; i++)
        UNROLL for (int e = 0; e < D; e++) {
            const int n = (int)hd - (int)d - 16 * e;
            float *o = q[i].o + d + 16 * e;
            v_store_n(o, join(v_load_n(o, n), v_set(w[i]), acc[i * D + e], v_set(w[QUERIES + i])), n);
        }
}

/* Scores become weights p; the running maximum and sum take the block in. w: a of each query, then b. */
INLINE void soften(const pn_attn_query *q, uint32_t n, const bool all, float scale_by, float *p, float *w)
{
    const vf factor = v_set(scale_by), none = v_set(-INFINITY);
    float m[16], l[16], top[16];
    vf each[QUERIES];
    v_store(m, v_zero());
    v_store(l, v_zero());
    for (uint32_t i = n; i < QUERIES; i++) each[i] = v_zero();
    for (uint32_t i = 0; i < n; i++) {
        vf s0 = v_mul(v_load(p + i * KEYS), factor), s1 = v_mul(v_load(p + i * KEYS + 16), factor);
        if (!all) {
            s0 = v_keep(s0, (int)q[i].lo, (int)q[i].hi, none);
            s1 = v_keep(s1, (int)q[i].lo - 16, (int)q[i].hi - 16, none);
        }
        v_store(p + i * KEYS, s0);
        v_store(p + i * KEYS + 16, s1);
        each[i] = v_max(s0, s1);
        m[i] = *q[i].m;
        l[i] = *q[i].l;
    }
    const vf tops = v_top_each(each), before = v_load(m), now = v_max(before, tops);
    const vf a = v_exp(v_sub(before, now)), b = v_exp(v_sub(tops, now));
    v_store(top, tops);
    v_store_n(w, a, QUERIES);
    v_store_n(w + QUERIES, b, QUERIES);
    for (uint32_t i = 0; i < n; i++) {
        const vf t = v_set(top[i]);
        vf e0 = v_exp(v_sub(v_load(p + i * KEYS), t)), e1 = v_exp(v_sub(v_load(p + i * KEYS + 16), t));
        if (!all) {
            e0 = v_keep(e0, (int)q[i].lo, (int)q[i].hi, v_zero());
            e1 = v_keep(e1, (int)q[i].lo - 16, (int)q[i].hi - 16, v_zero());
        }
        v_store(p + i * KEYS, e0);
        v_store(p + i * KEYS + 16, e1);
        each[i] = v_add(e0, e1);
    }
    v_store(l, v_fma(v_load(l), a, v_mul(v_sum_each(each), b)));
    v_store(m, now);
    for (uint32_t i = 0; i < n; i++) {
        *q[i].m = m[i];
        *q[i].l = l[i];
    }
}

#define SCORES(t, Q, E) \
    static void scores_##t##_##Q(const block *b, uint32_t hd, const pn_attn_query *q, float *s) { scores(PN_KV_##t, Q, E, b, hd, q, s); }
#define ROWS(t, Q, D) \
    static void rows_##t##_##Q(const block *b, uint32_t hd, range r, const pn_attn_query *q, const float *p, const float *w) \
    { \
        uint32_t d = 0; \
        for (; d + 16 * (D - 1) < hd; d += 16 * D) rows(PN_KV_##t, Q, D, b, hd, d, r, q, p, w); \
        for (; d < hd; d += 16) rows(PN_KV_##t, Q, 1, b, hd, d, r, q, p, w); \
    }
#define SHAPE_OF(t, Q, E, D) SCORES(t, Q, E) ROWS(t, Q, D)
#define SHAPE(Q, E, D) SHAPE_OF(F32, Q, E, D) SHAPE_OF(F16, Q, E, D) SHAPE_OF(Q8_0, Q, E, D) SHAPE_OF(Q4, Q, E, D)
#define SHAPE_ROW(Q, E, D) \
    {Q, {scores_F32_##Q, scores_F16_##Q, scores_Q8_0_##Q, scores_Q4_##Q}, {rows_F32_##Q, rows_F16_##Q, rows_Q8_0_##Q, rows_Q4_##Q}},
SHAPES(SHAPE)

static const struct shape {
    uint32_t queries;
    void (*scores[PN_KV_TYPES])(const block *b, uint32_t hd, const pn_attn_query *q, float *s);
    void (*rows[PN_KV_TYPES])(const block *b, uint32_t hd, range r, const pn_attn_query *q, const float *p, const float *w);
} shapes[] = {SHAPES(SHAPE_ROW)};

/* Up to QUERIES queries. */
static void attend(const block *b, uint32_t hd, float scale_by, const pn_attn_query *q, uint32_t n, float *p, float *w)
{
    const range r = range_of(q, n);
    const struct shape *s = shapes;
    for (uint32_t i = 0; i < n; i += s->queries) {
        while (s->queries > n - i) s++;
        s->scores[b->type](b, hd, q + i, p + i * KEYS);
    }
    if (r.from == 0 && r.to == KEYS) soften(q, n, true, scale_by, p, w);
    else soften(q, n, false, scale_by, p, w);
    s = shapes;
    for (uint32_t i = 0; i < n; i += s->queries) {
        while (s->queries > n - i) s++;
        s->rows[b->type](b, hd, r, q + i, p + i * KEYS, w + i);
    }
}

static void attn_block(pn_kv_type t, const void *key_block, const void *value_block, uint32_t hd, float scale_by,
                       const pn_attn_query *q, uint32_t n_q, const void *next, void *scratch)
{
    float *p = scratch, *w = p + QUERIES * KEYS;
    block b = {0};
    for (uint32_t i = 0, n; i < n_q; i += n) {
        n = 1;
        if (q[i].lo >= q[i].hi) continue;
        if (b.keys) b.ahead = 0;
        else b = open_block(t, key_block, value_block, hd, n_q, next, w + 2 * QUERIES);
        while (n < QUERIES && i + n < n_q && q[i + n].lo < q[i + n].hi) n++;
        attend(&b, hd, scale_by, q + i, n, p, w);
    }
}

static void attn_join(float *am, float *al, float *ao, float bm, float bl, const float *bo, uint32_t hd)
{
    if (bm == -INFINITY) return;
    const float m = *am > bm ? *am : bm;
    float w[16] = {*am - m, bm - m};
    v_store(w, v_exp(v_load(w)));
    *al = fmaf(*al, w[0], bl * w[1]);
    *am = m;
    for (uint32_t d = 0; d < hd; d += 16) {
        const int n = (int)(hd - d);
        v_store_n(ao + d, join(v_load_n(ao + d, n), v_set(w[0]), v_load_n(bo + d, n), v_set(w[1])), n);
    }
}
