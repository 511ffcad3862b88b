/* The walk over panels, columns and pieces of K that all levels of the quantised product share. */
#include "tensor/matmul_q.h"

enum {
    ACC_BYTES = PN_Q_MOST_COLS * 2 * PN_PANEL * 4,
    PIECE_BYTES = (PN_SCRATCH_PACK - ACC_BYTES) / 2,
    AHEAD_BYTES = 96 << 10                       /* of panels that are fetched while those before them are used: they wait in L2 */
};

_Static_assert((int)ACC_BYTES <= (int)PN_SCRATCH_SUMS, "pn_late packs behind them");

static void store(const pn_matrix *m, uint32_t panel, uint32_t n_panels, const float *acc, uint32_t n_cols, float *y,
                  size_t y_stride)
{
    uint32_t row0 = panel * PN_PANEL, n = PN_MIN(n_panels * PN_PANEL, m->rows - row0);
    for (uint32_t c = 0; c < n_cols; c++)
        memcpy(y + c * y_stride + row0, acc + 32 * c, n * sizeof(float));
}

static void run_columns(pn_q_tile *t, uint32_t col0, uint32_t n_cols, float *acc, pn_q_tile_fn fn)
{
    for (uint32_t c = 0; c < n_cols; c += PN_Q_COLS) {
        t->col0 = col0 + c;
        t->n_cols = PN_MIN(n_cols - c, (uint32_t)PN_Q_COLS);
        t->acc = acc + (size_t)c * 32;
        fn(t);
        t->stream = false; /* once will do */
        t->ahead_lines = 0;
    }
}

static void set_panel(pn_q_tile *t, uint32_t p, const uint8_t *panel, size_t k)
{
    const pn_q_layout *l = pn_q_layout_of(t->type);
    t->codes[p] = panel;
    t->scales[p] = panel + k / 32 * l->code_bytes;
    t->n_blocks = k / 32;
}

/* Short panels end before a distance in bytes gets anywhere, and two at once are two streams: so the next ones are fetched
 * as a whole while these are used. Nobody did that for the first. */
static void plan_ahead(const pn_matrix *m, uint32_t panel, pn_q_tile *t, size_t bytes, bool first)
{
    t->stream = first || bytes > AHEAD_BYTES;
    t->ahead_lines = 0;
    if (bytes > AHEAD_BYTES || (panel + t->n_panels) * PN_PANEL >= m->rows) return;
    t->ahead = t->codes[0] + bytes;
    t->ahead_lines = (uint32_t)((bytes / 64 + t->n_blocks - 1) / t->n_blocks);
}

static void run_packed(const pn_matrix *m, uint32_t panel, pn_q_tile *t, uint32_t col0, uint32_t n_cols, float *acc,
                       bool first, pn_q_tile_fn fn)
{
    size_t bytes = pn_panel_bytes(m->type, m->k);
    for (uint32_t p = 0; p < t->n_panels; p++)
        set_panel(t, p, (const uint8_t *)m->packed + (panel + p) * bytes, m->k);
    plan_ahead(m, panel, t, bytes * t->n_panels, first);
    run_columns(t, col0, n_cols, acc, fn);
}

static void run_raw(const pn_matrix *m, uint32_t panel, pn_q_tile *t, uint32_t col0, uint32_t n_cols, float *acc,
                    uint8_t *pieces, pn_q_tile_fn fn)
{
    const pn_q_layout *l = pn_q_layout_of(m->type);
    size_t step = PIECE_BYTES / pn_panel_bytes(m->type, 256) * 256;
    for (size_t k0 = 0; k0 < m->k; k0 += step) {
        size_t k = PN_MIN(step, m->k - k0);
        for (uint32_t p = 0; p < t->n_panels; p++) {
            uint32_t row = (panel + p) * PN_PANEL, n = PN_MIN((uint32_t)PN_PANEL, m->rows - row);
            const uint8_t *src = (const uint8_t *)m->raw + row * m->row_stride + k0 / l->block * l->file_bytes;
            pn_pack_panel(m->type, src, m->row_stride, n, k, pieces + p * PIECE_BYTES);
            set_panel(t, p, pieces + p * PIECE_BYTES, k);
        }
        t->b0 = k0 / 32;
        run_columns(t, col0, n_cols, acc, fn);
    }
}

void pn_matmul_q_walk(const pn_matrix *m, uint32_t panel0, uint32_t panel1, const pn_acts *x, uint32_t col0,
                      uint32_t col1, float *y, size_t y_stride, void *scratch, pn_q_tile_fn fn, uint32_t most)
{
    float *acc = scratch;
    uint8_t *pieces = (uint8_t *)scratch + ACC_BYTES;
    if (!m->packed) most = PN_Q_MOST_COLS; /* panels are packed anew for each */
    for (uint32_t c = col0; c < col1; c += most) {
        const uint32_t n = PN_MIN(col1 - c, most);
        for (uint32_t p = panel0; p < panel1; p += 2) {
            pn_q_tile t = {.type = m->type, .n_panels = PN_MIN(panel1 - p, 2u), .x = x, .stream = true};
            memset(acc, 0, (size_t)n * 32 * sizeof(float));
            if (m->packed)
                run_packed(m, p, &t, c, n, acc, p == panel0 && c == col0, fn);
            else
                run_raw(m, p, &t, c, n, acc, pieces, fn);
            store(m, p, t.n_panels, acc, n, y + c * y_stride, y_stride);
        }
    }
}
