/* Products with float weights: 16-row panels [k][16], lanes are rows, one chain an output over k.
 * A tile holds P panels by C columns of outputs in registers over a span of k; between spans the chain waits in y. */

enum { MOST = 24, SPAN = 256, GROUP = 4 }; /* vectors in registers; k values and panels widened or packed at once: 64 KB of scratch */

typedef struct piece {
    const char *w;       /* panels w_stride bytes apart, at the span's first k */
    size_t w_stride, k;
    const float *x;      /* columns x_stride floats apart */
    size_t x_stride;
    float *y;
    size_t y_stride;
    uint32_t rows;       /* of these panels */
    bool first;          /* chains start from 0, not from y */
} piece;

typedef void tile_fn(const piece *a);

INLINE size_t value_bytes(pn_type t) { return t == PN_F32 ? 4 : 2; }

INLINE vf load_weights(pn_type t, const char *p)
{
    if (t == PN_F32) return v_load((const float *)(const void *)p);
    if (t == PN_F16) return v_load_f16((const uint16_t *)(const void *)p);
    return v_load_bf16((const uint16_t *)(const void *)p);
}

INLINE void tile(const pn_type t, const int P, const int C, const piece *a)
{
    vf acc[MOST];
    const char *w = a->w;
    const size_t k_end = a->k, ws = a->w_stride, xs = a->x_stride, row_bytes = 16 * value_bytes(t);
    const float *x = a->x;
    UNROLL for (int c = 0; c < C; c++)
        UNROLL for (int p = 0; p < P; p++)
            acc[c * P + p] = a->first ? v_zero() : v_load_n(a->y + (size_t)c * a->y_stride + 16 * p, (int)a->rows - 16 * p);
    for (size_t k = 0; k < k_end; k++, w += row_bytes) {
        vf wp[GROUP];
        if (C >= 4 && P <= 2) /* few streams: what the hardware fetches ahead does not suffice */
            UNROLL for (int p = 0; p < P; p++) __builtin_prefetch(w + (size_t)p * ws + 4096);
        UNROLL for (int p = 0; p < P; p++) wp[p] = load_weights(t, w + (size_t)p * ws);
        UNROLL for (int c = 0; c < C; c++) {
            vf b = v_set(x[(size_t)c * xs + k]);
            UNROLL for (int p = 0; p < P; p++) acc[c * P + p] = v_fma(wp[p], b, acc[c * P + p]);
        }
    }
    UNROLL for (int c = 0; c < C; c++)
        UNROLL for (int p = 0; p < P; p++)
            v_store_n(a->y + (size_t)c * a->y_stride + 16 * p, acc[c * P + p], (int)a->rows - 16 * p);
}

/* (columns, panels) of the tiles, widest first: as many chains as the registers hold; SINGLES: one panel left over. */
#if PN_LANES == 512
#define WIDTHS(X) X(8, 2) X(6, 4) X(5, 4) X(4, 4) X(3, 4) X(2, 4) X(1, 4)
#define SINGLES(X) X(8, 1) X(6, 1) X(5, 1) X(4, 1) X(3, 1) X(2, 1) X(1, 1)
#elif PN_LANES == 2
#define WIDTHS(X) X(6, 1) X(4, 1) X(2, 2) X(1, 4)
#define SINGLES(X) X(2, 1) X(1, 1)
#else
#define WIDTHS(X) X(4, 1) X(1, 1)
#define SINGLES(X)
#endif

#define TILE(t, C, P) static void tile_##t##_##C##x##P(const piece *a) { tile(PN_##t, P, C, a); }
#define TILES(C, P) TILE(F32, C, P) TILE(F16, C, P) TILE(BF16, C, P)
#define KIND(C, P) {tile_F32_##C##x##P, tile_F16_##C##x##P, tile_BF16_##C##x##P}
#define WIDTH(C, P) {C, P, KIND(C, P), KIND(C, 1)},
WIDTHS(TILES)
SINGLES(TILES)

static const struct width {
    uint32_t columns, panels;
    tile_fn *many[3], *one[3];
} widths[] = {WIDTHS(WIDTH)};

/* n tiles side by side over the panels of `a`; the panels' span stays in the nearest cache while columns pass. */
static void sweep(const struct width *w, uint32_t kind, piece a, uint32_t panels, uint32_t n)
{
    for (uint32_t p = 0, step; p < panels; p += step) {
        piece t = a;
        step = panels - p >= w->panels ? w->panels : 1;
        t.w += p * a.w_stride;
        t.y += 16 * p;
        t.rows = PN_MIN(a.rows - 16 * p, 16 * step);
        tile_fn *fn = step > 1 ? w->many[kind] : w->one[kind];
        for (uint32_t i = 0; i < n; i++) {
            fn(&t);
            t.x += w->columns * a.x_stride;
            t.y += w->columns * a.y_stride;
        }
    }
}

static void columns_of(pn_type type, piece a, uint32_t panels, uint32_t columns)
{
    const uint32_t kind = type == PN_F32 ? 0 : type == PN_F16 ? 1 : 2;
    for (const struct width *w = widths; columns; w++) {
        uint32_t n = columns / w->columns;
        if (!n) continue;
        sweep(w, kind, a, panels, n);
        a.x += (size_t)n * w->columns * a.x_stride;
        a.y += (size_t)n * w->columns * a.y_stride;
        columns -= n * w->columns;
    }
}

/* A span of packed panels as floats. */
static void widen_panels(pn_type t, float *dst, const piece *a, uint32_t panels)
{
    const size_t n = 16 * a->k;
    for (uint32_t p = 0; p < panels; p++) {
        const char *src = a->w + p * a->w_stride;
        for (size_t i = 0; i < n; i += 16) v_store(dst + p * n + i, load_weights(t, src + i * value_bytes(t)));
    }
}

INLINE float raw_value(pn_type t, const char *p)
{
    float f;
    uint16_t h;
    if (t == PN_F32) { memcpy(&f, p, 4); return f; }
    memcpy(&h, p, 2);
    return t == PN_F16 ? half_to_float(h) : bf16_to_float(h);
}

/* A span of the file's rows as float panels; rows past the end are zeros. */
static void pack_raw(const pn_matrix *m, float *dst, uint32_t row0, uint32_t rows, size_t k0, size_t n)
{
    const size_t bytes = value_bytes(m->type);
    for (uint32_t r = 0; r < (rows + 15) / 16 * 16; r++) {
        const char *src = (const char *)m->raw + (size_t)(row0 + r) * m->row_stride + k0 * bytes;
        float *to = dst + (size_t)(r / 16) * 16 * n + r % 16;
        for (size_t k = 0; k < n; k++) to[16 * k] = r < rows ? raw_value(m->type, src + k * bytes) : 0.0f;
    }
}

/* Up to GROUP panels: all of K at once when each weight is used once and needs no conversion ahead. */
static void group(const pn_matrix *m, uint32_t panel, uint32_t panels, piece a, uint32_t columns, float *scratch)
{
    const size_t K = m->k, bytes = value_bytes(m->type), panel_bytes = (K * 16 * bytes + 63) / 64 * 64;
    const float *x = a.x;
    /* 16-bit weights are widened ahead when more than 8 tiles would each do it. */
    const bool convert = !m->packed || (m->type != PN_F32 && columns > 8 * widths[0].columns);
    const size_t span = columns <= widths[0].columns && !convert ? K : SPAN;
    a.rows = PN_MIN(m->rows - 16 * panel, 16 * panels);
    a.first = true;
    for (size_t k = 0; k < K || a.first; k += span, a.first = false) {
        a.k = PN_MIN(span, K - k);
        a.x = x + k;
        a.w = (const char *)m->packed + panel * panel_bytes + k * 16 * bytes;
        a.w_stride = panel_bytes;
        if (convert) {
            if (m->packed) widen_panels(m->type, scratch, &a, panels);
            else pack_raw(m, scratch, 16 * panel, a.rows, k, a.k);
            a.w = (const char *)scratch;
            a.w_stride = a.k * 64;
        }
        columns_of(convert ? PN_F32 : m->type, a, panels, columns);
    }
}

void LEVEL(pn_matmul_float)(const pn_matrix *m, uint32_t panel0, uint32_t panel1, const pn_acts *x, uint32_t col0,
                            uint32_t col1, float *y, size_t y_stride, void *scratch)
{
    piece a = {.x = x->x + col0 * x->k_stride, .x_stride = x->k_stride, .y_stride = y_stride};
    for (uint32_t p = panel0; p < panel1 && col0 < col1; p += GROUP) {
        a.y = y + col0 * y_stride + 16 * (size_t)p;
        group(m, p, PN_MIN(panel1 - p, GROUP), a, col1 - col0, scratch);
    }
}
