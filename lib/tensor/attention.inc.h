/* Key and value blocks, and attention over one block.
 *
 * Layouts of a block of 32 positions j by hd values d:
 *   F32, F16: keys [hd][32], values [32][hd].
 *   Q8_0: int8 in the same two layouts, then float scales: keys [groups][32], values [32][groups],
 *   group g of a position = its values 32g .. 32g+31; scale = amax / 127, q = round half to even of x * (1 / scale).
 *
 * The order (the definition): s_j = chain over d of fmaf(q_d, k_dj, s) from 0, times scale; m_b = the greatest visible;
 * p_j = exp(s_j - m_b), 0 where not visible; l_b = tree of v_sum over p_i + p_(i+16); o_b[d] = chain over visible j, rising, of
 * fmaf(p_j, v_jd, o) from 0; then `join`. Queries of one range go together; keys outside it are never multiplied. */

enum { QUERIES = 8, KEYS = PN_KEYS };

/* (queries, vectors of values) of the tiles, widest first: as many chains as the registers hold. AS_IT_LIES: for
 * up to so many queries, what they convert again and again costs less than to convert once and store. */
#if PN_LANES == 512
#define SHAPES(X) X(8, 2) X(4, 4) X(3, 4) X(2, 4) X(1, 4)
enum { AS_IT_LIES = 8 };
#elif PN_LANES == 2
#define SHAPES(X) X(3, 2) X(2, 2) X(1, 4)
enum { AS_IT_LIES = 2 };
#else
#define SHAPES(X) X(1, 1)
enum { AS_IT_LIES = 1 };
#endif

INLINE uint32_t groups_of(uint32_t hd) { return (hd + 31) / 32; }
INLINE size_t scales_at(uint32_t hd) { return (size_t)hd * KEYS; }

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

INLINE float inverse(float d) { return d < 0x1p-126f ? 0.0f : 1.0f / d; }

static void kv_put(pn_kv_type t, void *key_block, void *value_block, uint32_t j, uint32_t hd, const float *k, const float *v)
{
    char *key = key_block, *value = value_block;
    float *key_scales = (float *)(void *)(key + scales_at(hd)), *value_scales = (float *)(void *)(value + scales_at(hd));
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

/* A block to read: as it lies, or widened to F32. Values are `stride` apart. */
typedef struct block {
    pn_kv_type type;
    uint32_t groups;             /* Q8_0: of a position */
    const char *keys, *values;
    const float *key_scales, *value_scales;
    size_t stride;
} block;

INLINE vf load_stored(pn_kv_type t, const char *p, size_t i)
{
    if (t == PN_KV_F32) return v_load((const float *)(const void *)p + i);
    if (t == PN_KV_F16) return v_load_f16((const uint16_t *)(const void *)p + i);
    return v_load_i8((const int8_t *)p + i);
}

/* Keys j .. j+15 at d; values d .. d+15 of j. */
INLINE vf load_keys(pn_kv_type t, const block *b, size_t d, size_t j)
{
    vf k = load_stored(t, b->keys, d * KEYS + j);
    return t == PN_KV_Q8_0 ? v_mul(k, v_load(b->key_scales + d / 32 * KEYS + j)) : k;
}

INLINE vf load_values(pn_kv_type t, const block *b, size_t j, size_t d)
{
    vf v = load_stored(t, b->values, j * b->stride + d);
    return t == PN_KV_Q8_0 ? v_mul(v, v_set(b->value_scales[j * b->groups + d / 32])) : v;
}

/* The last values of a position, fewer than 16: through a copy, so that nothing is read past the block. */
static vf load_tail(const block *b, size_t j, size_t d, size_t n)
{
    const size_t bytes = b->type == PN_KV_F32 ? 4 : b->type == PN_KV_F16 ? 2 : 1;
    char tail[64] = {0};
    block one = *b;
    memcpy(tail, b->values + (j * b->stride + d) * bytes, n * bytes);
    one.values = tail;
    one.stride = 0;
    one.value_scales = b->value_scales ? b->value_scales + j * b->groups + d / 32 : NULL;
    return b->type == PN_KV_F32 ? load_values(PN_KV_F32, &one, 0, 0) : b->type == PN_KV_F16 ? load_values(PN_KV_F16, &one, 0, 0)
                                                                                          : load_values(PN_KV_Q8_0, &one, 0, 0);
}

INLINE void widen(pn_kv_type t, block *b, uint32_t hd, float *dst)
{
    const size_t padded = (hd + 15) / 16 * 16;
    float *values = dst + (size_t)hd * KEYS;
    for (size_t d = 0; d < hd; d++) {
        v_store(dst + d * KEYS, load_keys(t, b, d, 0));
        v_store(dst + d * KEYS + 16, load_keys(t, b, d, 16));
    }
    for (size_t j = 0; j < KEYS; j++) {
        size_t d = 0;
        for (; d + 16 <= hd; d += 16) v_store(values + j * padded + d, load_values(t, b, j, d));
        if (d < hd) v_store(values + j * padded + d, load_tail(b, j, d, hd - d));
    }
    *b = (block){.type = PN_KV_F32, .keys = (const char *)dst, .values = (const char *)values, .stride = padded};
}

/* Few queries read the block as it lies; for more the conversion is done once. */
static block open_block(pn_kv_type t, const void *key, const void *value, uint32_t hd, uint32_t n_q, float *scratch)
{
    block b = {.type = t, .groups = groups_of(hd), .keys = key, .values = value, .stride = hd};
    if (t == PN_KV_Q8_0) {
        b.key_scales = (const float *)(const void *)(b.keys + scales_at(hd));
        b.value_scales = (const float *)(const void *)(b.values + scales_at(hd));
    }
    if (hd % 16 == 0 && (n_q <= AS_IT_LIES || t == PN_KV_F32)) return b;
    if (t == PN_KV_F32) widen(PN_KV_F32, &b, hd, scratch);
    else if (t == PN_KV_F16) widen(PN_KV_F16, &b, hd, scratch);
    else widen(PN_KV_Q8_0, &b, hd, scratch);
    return b;
}

/* Products of Q queries with 32 keys. */
INLINE void scores(const pn_kv_type t, const int Q, const block *b, uint32_t hd, const pn_attn_query *q, float *s)
{
    vf acc[QUERIES][2];
    const float *qp[QUERIES];
    UNROLL for (int i = 0; i < Q; i++) {
        acc[i][0] = acc[i][1] = v_zero();
        qp[i] = q[i].q;
    }
    for (size_t d = 0; d < hd; d++) {
        vf k0 = load_keys(t, b, d, 0), k1 = load_keys(t, b, d, 16);
        UNROLL for (int i = 0; i < Q; i++) {
            vf x = v_set(qp[i][d]);
            acc[i][0] = v_fma(x, k0, acc[i][0]);
            acc[i][1] = v_fma(x, k1, acc[i][1]);
        }
    }
    UNROLL for (int i = 0; i < Q; i++) {
        v_store(s + i * KEYS, acc[i][0]);
        v_store(s + i * KEYS + 16, acc[i][1]);
    }
}

/* The one expression that joins a later span (b) to what went before (a). */
INLINE vf join(vf o, vf a, vf ob, vf b) { return v_fma(o, a, v_mul(ob, b)); }

/* D vectors of 16 result values from d for Q queries, joined to their rows. w: each query's weights a, b. */
INLINE void rows(const pn_kv_type t, const int Q, const int D, const block *b, uint32_t hd, uint32_t d, const pn_attn_query *q,
                 const float *p, const float *w)
{
    vf acc[16];
    UNROLL for (int i = 0; i < Q * D; i++) acc[i] = v_zero();
    for (size_t j = q->lo; j < q->hi; j++) {
        vf v[4];
        UNROLL for (int e = 0; e < D; e++) v[e] = load_values(t, b, j, d + 16 * (size_t)e);
        UNROLL for (int i = 0; i < Q; i++) {
            vf pj = v_set(p[(size_t)i * KEYS + j]);
            UNROLL for (int e = 0; e < D; e++) acc[i * D + e] = v_fma(pj, v[e], acc[i * D + e]);
        }
    }
    UNROLL for (int i = 0; i < Q; i++)
        UNROLL for (int e = 0; e < D; e++) {
            const int n = (int)hd - (int)d - 16 * e;
            float *o = q[i].o + d + 16 * e;
            v_store_n(o, join(v_load_n(o, n), v_set(w[i]), acc[i * D + e], v_set(w[QUERIES + i])), n);
        }
}

/* Scores become weights p; the running maximum and sum take the block in. w: a of each query, then b. */
static void soften(const pn_attn_query *q, uint32_t n, float scale_by, float *p, float *w)
{
    const int lo = (int)q->lo, hi = (int)q->hi;
    const vf factor = v_set(scale_by), none = v_set(-INFINITY);
    float l[QUERIES];
    v_store(w, v_zero());
    for (uint32_t i = 0; i < n; i++) {
        float *pi = p + i * KEYS;
        vf s0 = v_keep(v_mul(v_load(pi), factor), lo, hi, none);
        vf s1 = v_keep(v_mul(v_load(pi + 16), factor), lo - 16, hi - 16, none);
        const float top = v_top(v_max(s0, s1)), m = *q[i].m > top ? *q[i].m : top;
        vf e0 = v_keep(v_exp(v_sub(s0, v_set(top))), lo, hi, v_zero());
        vf e1 = v_keep(v_exp(v_sub(s1, v_set(top))), lo - 16, hi - 16, v_zero());
        v_store(pi, e0);
        v_store(pi + 16, e1);
        l[i] = v_sum(v_add(e0, e1));
        w[i] = *q[i].m - m;
        w[QUERIES + i] = top - m;
        *q[i].m = m;
    }
    v_store(w, v_exp(v_load(w)));
    for (uint32_t i = 0; i < n; i++) *q[i].l = fmaf(*q[i].l, w[i], l[i] * w[QUERIES + i]);
}

#define SCORES(t, Q) \
    static void scores_##t##_##Q(const block *b, uint32_t hd, const pn_attn_query *q, float *s) { scores(PN_KV_##t, Q, b, hd, q, s); }
#define ROWS(t, Q, D) \
    static void rows_##t##_##Q(const block *b, uint32_t hd, const pn_attn_query *q, const float *p, const float *w) \
    { \
        uint32_t d = 0; \
        for (; d + 16 * (D - 1) < hd; d += 16 * D) rows(PN_KV_##t, Q, D, b, hd, d, q, p, w); \
        for (; d < hd; d += 16) rows(PN_KV_##t, Q, 1, b, hd, d, q, p, w); \
    }
#define SHAPE_OF(t, Q, D) SCORES(t, Q) ROWS(t, Q, D)
#define SHAPE(Q, D) SHAPE_OF(F32, Q, D) SHAPE_OF(F16, Q, D) SHAPE_OF(Q8_0, Q, D)
#define SHAPE_ROW(Q, D) {Q, {scores_F32_##Q, scores_F16_##Q, scores_Q8_0_##Q}, {rows_F32_##Q, rows_F16_##Q, rows_Q8_0_##Q}},
SHAPES(SHAPE)

static const struct shape {
    uint32_t queries;
    void (*scores[3])(const block *b, uint32_t hd, const pn_attn_query *q, float *s);
    void (*rows[3])(const block *b, uint32_t hd, const pn_attn_query *q, const float *p, const float *w);
} shapes[] = {SHAPES(SHAPE_ROW)};

/* Up to QUERIES queries of one range. */
static void attend(const block *b, uint32_t hd, float scale_by, const pn_attn_query *q, uint32_t n, float *p, float *w)
{
    const struct shape *s = shapes;
    for (uint32_t i = 0; i < n; i += s->queries) {
        while (s->queries > n - i) s++;
        s->scores[b->type](b, hd, q + i, p + i * KEYS);
    }
    soften(q, n, scale_by, p, w);
    s = shapes;
    for (uint32_t i = 0; i < n; i += s->queries) {
        while (s->queries > n - i) s++;
        s->rows[b->type](b, hd, q + i, p + i * KEYS, w + i);
    }
}

static void attn_block(pn_kv_type t, const void *key_block, const void *value_block, uint32_t hd, float scale_by,
                       const pn_attn_query *q, uint32_t n_q, void *scratch)
{
    float *p = scratch, *w = p + QUERIES * KEYS;
    block b = {0};
    for (uint32_t i = 0, n; i < n_q; i += n) {
        n = 1;
        if (q[i].lo >= q[i].hi) continue;
        if (!b.keys) b = open_block(t, key_block, value_block, hd, n_q, w + 2 * QUERIES);
        while (n < QUERIES && i + n < n_q && q[i + n].lo == q[i].lo && q[i + n].hi == q[i].hi) n++;
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
