/* Working memory, and how products and operations by column are cut into tiles. */
#include "tensor/products.h"

#include "tensor/matmul_q.h"

void *pn_arena_give(pn_arena *a, size_t n, size_t size)
{
    void *p = a->base ? a->base + a->at : NULL;
    a->at += (n * size + 63) / 64 * 64;
    return p;
}

float *pn_arena_floats(pn_arena *a, size_t n) { return pn_arena_give(a, n, sizeof(float)); }

void pn_arena_slot(pn_arena *a, pn_slot *s, size_t width, uint32_t cap, bool quantised)
{
    float *x = pn_arena_floats(a, width * cap);
    uint8_t *q = quantised ? pn_arena_give(a, pn_acts_bytes(width, cap, true), 1) : NULL;
    if (!a->base) return;
    s->x = x;
    s->width = width;
    s->f = (pn_acts){.k = width, .cap = cap, .x = x, .k_stride = width};
    if (quantised) pn_acts_bind(&s->q, width, cap, true, q);
}

void pn_slot_columns(pn_slot *s, uint32_t columns)
{
    if (s->q.q) pn_acts_bind(&s->q, s->width, PN_MAX(columns, 1u), true, s->q.q);
}

void pn_slot_put(const pn_kernels *k, pn_slot *s, uint32_t col)
{
    if (s->q.q) k->acts_put(&s->q, col, s->x + col * s->width);
}

/* About 50 microseconds of elementwise work a tile at most, and 2 at least. */
uint32_t pn_cut_columns(pn_cut *c, uint32_t n, size_t values, uint32_t threads)
{
    enum { MOST_VALUES = 32768, LEAST_VALUES = 1536 };
    values = PN_MAX(values, (size_t)1);
    const size_t most = PN_MAX(MOST_VALUES / values, (size_t)1), even = (n + threads - 1) / threads;
    c->columns = (uint32_t)PN_MIN(most, PN_MAX(even, (LEAST_VALUES + values - 1) / values));
    c->total_columns = n;
    return (n + c->columns - 1) / c->columns;
}

/* A tile is bounded by its work (multiply-adds at about a third of a core's peak) and by the weight bytes it reads: 0.1 ms at 10 GB/s; at
 * its start nothing was fetched yet, so shorter ones cost (256 KB: 5 % of the bandwidth). */
enum { TILE_BYTES = 1 << 20, TILE_MACS_Q = 8 << 20, TILE_MACS_F = 7 << 20, TILES_A_THREAD = 4, COLUMN_STEP = 16 };

static uint32_t panels_of(const pn_weight *w) { return (w->first.rows + PN_PANEL - 1) / PN_PANEL; }

/* Columns a tile: all of them while the fewest panels that a kernel takes well, `panels`, stay within the bound. */
static uint32_t columns_a_tile(uint32_t columns, uint32_t panels, size_t k, size_t macs)
{
    size_t most = macs / (panels * PN_PANEL * k) / COLUMN_STEP * COLUMN_STEP;
    if (most < COLUMN_STEP) most = COLUMN_STEP;
    if (columns <= most) return columns;
    uint32_t chunks = (uint32_t)((columns + most - 1) / most);
    uint32_t even = (columns + chunks - 1) / chunks;
    return (even + COLUMN_STEP - 1) / COLUMN_STEP * COLUMN_STEP;
}

uint32_t pn_cut_products(pn_cut *c, const pn_slot *in, uint32_t columns, const pn_product *products, uint32_t n, uint32_t threads)
{
    if (columns == 0) return 0;
    uint32_t panels = 0, least = 2; /* kernels take panels in pairs */
    size_t panel_bytes = 1, macs = TILE_MACS_Q;
    for (uint32_t i = 0; i < n; i++) {
        const pn_weight *w = products[i].w;
        if (!w->batch) continue;
        c->product[c->n_products++] = products[i];
        panels += panels_of(w);
        panel_bytes = PN_MAX(panel_bytes, pn_panel_bytes(w->first.type, w->first.k));
        if (!pn_type_is_float(w->first.type)) continue;
        macs = TILE_MACS_F;
        if (panel_bytes > TILE_BYTES / 2) least = 1;
    }
    c->in = in;
    c->total_columns = columns;
    c->columns = columns_a_tile(columns, least, in->width, macs);
    size_t most = PN_MIN(TILE_BYTES / panel_bytes, macs / (PN_PANEL * in->width * c->columns));
    most = PN_MIN(most, (size_t)panels / (TILES_A_THREAD * threads));
    c->panels = (uint32_t)PN_MAX(most / least * least, (size_t)least);
    for (uint32_t i = 0; i < c->n_products; i++) {
        c->product_tiles[i] = (panels_of(c->product[i].w) + c->panels - 1) / c->panels;
        c->chunk_tiles += c->product_tiles[i];
    }
    return c->chunk_tiles * ((columns + c->columns - 1) / c->columns);
}

/* ---- panels that are packed late ------------------------------------------------------- */

enum { FRESH, USED, CLAIMED, READY };

typedef struct late_tile {
    const pn_weight *w;
    const pn_kernels *k;
    size_t panel_bytes, room; /* of one panel; in scratch */
    uint8_t *scratch;
    bool counts;              /* of the tiles that use these panels at once only one does */
    bool packed, last;        /* some panel into its place; then none was left */
} late_tile;

static void pack_one(const late_tile *t, uint32_t panel, uint8_t *to)
{
    const pn_matrix *m = &t->w->first;
    const uint32_t row = panel * PN_PANEL, n = PN_MIN(m->rows - row, (uint32_t)PN_PANEL);
    t->k->pack(m->type, (const uint8_t *)m->raw + row * m->row_stride, m->row_stride, n, m->k, to);
}

/* True: the panel is in its place, perhaps since now. */
static bool settle(late_tile *t, uint32_t panel)
{
    pn_late *l = t->w->late;
    uint8_t is = atomic_load_explicit(&l->state[panel], memory_order_acquire);
    if (is == READY || is == CLAIMED || !t->counts) return is == READY;
    const uint8_t next = is == FRESH && t->panel_bytes <= t->room ? USED : CLAIMED;
    if (!atomic_compare_exchange_strong_explicit(&l->state[panel], &is, next, memory_order_relaxed, memory_order_relaxed)) return false;
    if (next == USED) return false;
    pack_one(t, panel, (uint8_t *)t->w->first.packed + panel * t->panel_bytes);
    atomic_store_explicit(&l->state[panel], READY, memory_order_release);
    t->packed = true;
    t->last = atomic_fetch_sub_explicit(&l->left, 1, memory_order_acq_rel) == 1;
    return true;
}

/* Panels [from, to) as a matrix of its own: where they belong, packed into scratch, or rows of the file if they have no room there. */
static pn_matrix panels_now(const late_tile *t, uint32_t from, uint32_t to, bool ready)
{
    pn_matrix m = t->w->first;
    m.rows = PN_MIN(m.rows, to * PN_PANEL) - from * PN_PANEL;
    m.raw = (const uint8_t *)m.raw + (size_t)from * PN_PANEL * m.row_stride;
    m.packed = (const uint8_t *)m.packed + from * t->panel_bytes;
    if (ready) return m;
    m.packed = NULL;
    if (t->panel_bytes > t->room) return m;
    for (uint32_t p = from; p < to; p++) pack_one(t, p, t->scratch + (p - from) * t->panel_bytes);
    m.packed = t->scratch;
    return m;
}

static void late_products(const pn_product *job, const pn_kernels *k, uint32_t panel0, uint32_t panel1, const pn_acts *x, uint32_t col0,
                          uint32_t col1, void *scratch)
{
    const pn_matrix *m = &job->w->first;
    late_tile t = {.w = job->w, .k = k, .panel_bytes = pn_panel_bytes(m->type, m->k), .room = PN_SCRATCH_PACK - PN_SCRATCH_SUMS,
                   .scratch = (uint8_t *)scratch + PN_SCRATCH_SUMS, .counts = col0 == 0};
    const uint32_t most = (uint32_t)PN_MAX(t.room / t.panel_bytes, (size_t)1);
    bool ready = settle(&t, panel0), next = ready;
    for (uint32_t from = panel0, to = from + 1; from < panel1; from = to++, ready = next) {
        while (to < panel1 && (next = settle(&t, to)) == ready && to - from < most) to++;
        const pn_matrix now = panels_now(&t, from, to, ready);
        k->matmul(&now, 0, (now.rows + PN_PANEL - 1) / PN_PANEL, x, col0, col1, job->y + (size_t)from * PN_PANEL, m->rows, scratch);
    }
    if (t.last) job->w->late->drop(job->w->late, 0, panels_of(job->w));
    else if (t.packed) job->w->late->drop(job->w->late, panel0, panel1);
}

void pn_tile_products(const pn_cut *c, const pn_kernels *k, uint32_t tile, void *scratch)
{
    uint32_t chunk = tile / c->chunk_tiles, at = tile % c->chunk_tiles, i = 0;
    while (at >= c->product_tiles[i]) at -= c->product_tiles[i++];
    const pn_product *job = &c->product[i];
    uint32_t panel0 = at * c->panels, panel1 = PN_MIN(panel0 + c->panels, panels_of(job->w));
    uint32_t col0 = chunk * c->columns, col1 = PN_MIN(col0 + c->columns, c->total_columns);
    const pn_acts *acts = pn_type_is_float(job->w->first.type) ? &c->in->f : &c->in->q;
    pn_matrix m = pn_weight_pin(job->w, 0);
    if (job->w->late && !m.packed) late_products(job, k, panel0, panel1, acts, col0, col1, scratch);
    else k->matmul(&m, panel0, panel1, acts, col0, col1, job->y, m.rows, scratch);
    pn_weight_unpin(job->w, 0);
}
