/* Norms and element by element kernels. Reductions: lane i takes elements i, i + 16, ..., then the tree of v_sum. */

static float dot(const float *a, const float *b, size_t n)
{
    vf s = v_zero();
    size_t i = 0;
    for (; i + 16 <= n; i += 16) s = v_fma(v_load(a + i), v_load(b + i), s);
    if (i < n) s = v_fma(v_load_n(a + i, (int)(n - i)), v_load_n(b + i, (int)(n - i)), s);
    return v_sum(s);
}

static float sum(const float *x, size_t n)
{
    vf s = v_zero();
    size_t i = 0;
    for (; i + 16 <= n; i += 16) s = v_add(s, v_load(x + i));
    if (i < n) s = v_add(s, v_load_n(x + i, (int)(n - i)));
    return v_sum(s);
}

/* Applies `expr`, over lanes loaded at i, to the whole of an array; the last lanes through masked loads and stores. */
#define EACH(y, n, LOADS, expr) do { \
        size_t i = 0; \
        for (; i + 16 <= (n); i += 16) { LOADS(GET) v_store((y) + i, (expr)); } \
        if (i < (n)) { const int rest = (int)((n) - i); LOADS(GET_REST) v_store_n((y) + i, (expr), rest); } \
    } while (0)
#define GET(name, p) vf name = v_load((p) + i);
#define GET_REST(name, p) vf name = v_load_n((p) + i, rest);

static void norm(pn_norm_kind kind, float *y, const float *x, const float *w, size_t n, float eps)
{
    if (kind == PN_NORM_INPUT && w) {
#define LOADS(G) G(vx, x) G(vw, w)
        EACH(y, n, LOADS, v_mul(vx, vw));
#undef LOADS
        x = y;
        w = NULL;
    }
    /* As the reference: x times the root's reciprocal, rounded, then the weight. */
    vf inv = v_set(1.0f / sqrtf(dot(x, x, n) / (float)n + eps));
    if (w) {
#define LOADS(G) G(vx, x) G(vw, w)
        EACH(y, n, LOADS, v_mul(v_mul(vx, inv), vw));
#undef LOADS
    } else {
#define LOADS(G) G(vx, x)
        EACH(y, n, LOADS, v_mul(vx, inv));
#undef LOADS
    }
}

static void layer_norm(float *y, const float *x, const float *w, const float *b, size_t n, float eps)
{
    vf mean = v_set(sum(x, n) / (float)n);
#define LOADS(G) G(vx, x)
    EACH(y, n, LOADS, v_sub(vx, mean));
#undef LOADS
    vf inv = v_set(1.0f / sqrtf(dot(y, y, n) / (float)n + eps));
#define LOADS(G) G(vy, y) G(vw, w) G(vb, b)
    EACH(y, n, LOADS, v_fma(v_mul(vy, inv), vw, vb));
#undef LOADS
}

static void add(float *y, const float *x, size_t n)
{
#define LOADS(G) G(vy, y) G(vx, x)
    EACH(y, n, LOADS, v_add(vy, vx));
#undef LOADS
}

static void gate_add(float *y, const float *alpha, const float *beta, const float *x, size_t n)
{
#define LOADS(G) G(vy, y) G(va, alpha) G(vb, beta) G(vx, x)
    EACH(y, n, LOADS, v_fma(va, vy, v_mul(vb, vx)));
#undef LOADS
}

static void scale(float *y, float s, size_t n)
{
    vf vs = v_set(s);
#define LOADS(G) G(vy, y)
    EACH(y, n, LOADS, v_mul(vy, vs));
#undef LOADS
}

static void axpy(float *y, float s, const float *x, size_t n)
{
    vf vs = v_set(s);
#define LOADS(G) G(vy, y) G(vx, x)
    EACH(y, n, LOADS, v_fma(vs, vx, vy));
#undef LOADS
}

static void silu_mul(float *y, const float *gate, const float *up, size_t n)
{
#define LOADS(G) G(g, gate) G(u, up)
    EACH(y, n, LOADS, v_mul(v_div(g, v_logistic_divisor(g)), u));
#undef LOADS
}

static void gelu_tanh_mul(float *y, const float *gate, const float *up, size_t n)
{
#define LOADS(G) G(g, gate) G(u, up)
    EACH(y, n, LOADS, v_mul(v_gelu_tanh(g), u));
#undef LOADS
}

static void gelu_mul(float *y, const float *gate, const float *up, size_t n)
{
    if (up) {
#define LOADS(G) G(g, gate) G(u, up)
        EACH(y, n, LOADS, v_mul(v_gelu(g), u));
#undef LOADS
    } else {
#define LOADS(G) G(g, gate)
        EACH(y, n, LOADS, v_gelu(g));
#undef LOADS
    }
}

static void sigmoid_mul(float *y, const float *x, const float *g, size_t n)
{
#define LOADS(G) G(vx, x) G(vg, g)
    EACH(y, n, LOADS, v_div(vx, v_logistic_divisor(vg)));
#undef LOADS
}

static void sigmoid(float *y, const float *x, size_t n)
{
#define LOADS(G) G(vx, x)
    EACH(y, n, LOADS, v_div(v_set(1.0f), v_logistic_divisor(vx)));
#undef LOADS
}

static void softcap(float *y, float mult, float cap, size_t n)
{
    vf m = v_set(mult), c = v_set(cap);
    if (cap == 0.0f) { scale(y, mult, n); return; }
#define LOADS(G) G(vy, y)
    EACH(y, n, LOADS, v_mul(v_tanh(v_div(v_mul(vy, m), c)), c));
#undef LOADS
}

static void exp_sum(float *y, const float *x, float max, size_t n, float *total)
{
    vf m = v_set(max), s = v_zero();
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        vf e = v_exp(v_sub(v_load(x + i), m));
        v_store(y + i, e);
        s = v_add(s, e);
    }
    if (i < n) {
        int rest = (int)(n - i);
        vf e = v_exp(v_sub(v_load_n(x + i, rest), m));
        v_store_n(y + i, e, rest);
        s = v_add(s, v_keep(e, 0, rest, v_zero()));
    }
    *total = v_sum(s);
}

static void tops(float *top, const float *x, size_t n)
{
    const vf none = v_set(-INFINITY);
    for (size_t from = 0; from < n; from += PN_TOP) {
        const size_t end = PN_MIN(n, from + PN_TOP);
        vf m = none;
        size_t i = from;
        for (; i + 16 <= end; i += 16) m = v_max(v_load(x + i), m);
        if (i < end) m = v_max(v_keep(v_load_n(x + i, (int)(end - i)), 0, (int)(end - i), none), m);
        top[from / PN_TOP] = v_top(m);
    }
}

static void conv_row(float *y, const float *x, const float *w, const float *b, size_t n, uint32_t taps)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        vf s = v_load(b + i);
        for (uint32_t j = 0; j < taps; j++) s = v_fma(v_load(w + j * n + i), v_load(x + j * n + i), s);
        v_store(y + i, s);
    }
    if (i < n) {
        const int rest = (int)(n - i);
        vf s = v_load_n(b + i, rest);
        for (uint32_t j = 0; j < taps; j++) s = v_fma(v_load_n(w + j * n + i, rest), v_load_n(x + j * n + i, rest), s);
        v_store_n(y + i, s, rest);
    }
}

static void rope(float *x, const float *cs, uint32_t n_rot, bool pairs)
{
    const uint32_t half = n_rot / 2, step = pairs ? 2 : 1, gap = pairs ? 1 : half;
    uint32_t i = 0;
    for (; pairs && i + 8 <= half; i += 8) {
        vf v = v_load(x + 2 * i), turned = v_mul(v_partner(v, 1), v_load_twice(cs + half + i));
        v_store(x + 2 * i, v_fma(v, v_load_twice(cs + i), v_flip(turned, 0x5555)));
    }
    for (; !pairs && i + 16 <= half; i += 16) {
        vf a = v_load(x + i), b = v_load(x + half + i), c = v_load(cs + i), s = v_load(cs + half + i);
        v_store(x + i, v_fma(a, c, v_flip(v_mul(b, s), 0xffff)));
        v_store(x + half + i, v_fma(b, c, v_mul(a, s)));
    }
    for (; i < half; i++) {
        float *p = x + i * step, a = p[0], b = p[gap], c = cs[i], s = cs[half + i];
        p[0] = fmaf(a, c, -(b * s));
        p[gap] = fmaf(b, c, a * s);
    }
}
