/* Mixture of experts: route each column, lay the chosen rows out in expert order, compute them expert by expert, and add
 * each column's results in expert order. */
#include "decoder/program.h"

/* ---- routing ------------------------------------------------------------------------ */

/* The `used` largest of score + bias, ties by lowest id; then in ascending order of expert. */
static void choose(const pn_description *d, const float *score, const float *bias, uint32_t *chosen)
{
    for (uint32_t n = 0; n < d->experts_used; n++) {
        uint32_t best = UINT32_MAX;
        float best_score = 0;
        for (uint32_t e = 0; e < d->experts; e++) {
            float s = score[e] + (bias ? bias[e] : 0);
            bool taken = false;
            for (uint32_t i = 0; i < n; i++) taken |= chosen[i] == e;
            if (!taken && (best == UINT32_MAX || s > best_score)) {
                best = e;
                best_score = s;
            }
        }
        chosen[n] = best;
    }
    for (uint32_t i = 1; i < d->experts_used; i++)
        for (uint32_t j = i; j > 0 && chosen[j] < chosen[j - 1]; j--) {
            uint32_t t = chosen[j];
            chosen[j] = chosen[j - 1];
            chosen[j - 1] = t;
        }
}

void pn_tile_route(pn_program *p, const pn_layer *l, uint32_t col)
{
    const pn_description *d = p->d;
    float *z = p->router + (size_t)col * d->experts, *weight = p->chosen_weight + (size_t)col * d->experts_used;
    uint32_t *chosen = p->chosen + (size_t)col * d->experts_used;
    if (d->router_scale != 1) p->k.scale(z, d->router_scale, d->experts);
    p->k.sigmoid(z, z, d->experts);
    choose(d, z, l->router_bias, chosen);
    float sum = 0;
    for (uint32_t i = 0; i < d->experts_used; i++) sum += weight[i] = z[chosen[i]]; /* without the bias */
    for (uint32_t i = 0; i < d->experts_used; i++) {
        if (d->experts_norm) weight[i] /= sum + 1e-15f;
        weight[i] *= d->routed_scale;
    }
    float *u = p->latent + (size_t)col * d->expert_width;
    p->k.norm(PN_NORM_PLAIN, u, u, l->pre_expert_norm, d->expert_width, d->eps);
}

/* Counting sort of (column, choice) by expert: columns stay in order within one. */
void pn_tile_sort(pn_program *p)
{
    const pn_description *d = p->d;
    uint32_t n = p->columns * d->experts_used, *from = p->expert_from;
    memset(from, 0, (d->experts + 1) * sizeof *from);
    for (uint32_t i = 0; i < n; i++) from[p->chosen[i] + 1]++;
    p->n_active = 0;
    for (uint32_t e = 0; e < d->experts; e++) {
        if (from[e + 1]) p->active[p->n_active++] = e;
        from[e + 1] += from[e];
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t row = from[p->chosen[i]]++;
        p->row_of[i] = row;
        p->row_col[row] = i / d->experts_used;
    }
    for (uint32_t e = d->experts; e > 0; e--) from[e] = from[e - 1]; /* the placing moved each start to its end */
    from[0] = 0;
    p->round_to = 0;
}

void pn_tile_gather(pn_program *p, uint32_t row)
{
    size_t w = p->d->expert_width;
    memcpy(p->rows.x + row * w, p->latent + p->row_col[row] * w, w * sizeof(float));
    pn_slot_put(&p->k, &p->rows, row);
}

/* ---- experts that are read on demand ------------------------------------------------------ */

/* What is read is computed some experts at a time, so that the disk reads the next ones meanwhile; what is there already is computed
 * while it begins. An expert's rows have no part in another's, so the order is free. */
enum { EXPERTS_A_ROUND = 2, ANNOUNCED = 8 };

static void ready_first(pn_program *p, uint32_t layer)
{
    uint32_t *later = p->round_row, n_later = 0; /* not in use yet; there are no more experts than rows */
    p->n_ready = 0;
    for (uint32_t i = 0; i < p->n_active; i++) {
        const uint32_t e = p->active[i];
        if (pn_experts_has(p->n->experts, layer, e)) p->active[p->n_ready++] = e;
        else later[n_later++] = e;
    }
    memcpy(p->active + p->n_ready, later, n_later * sizeof *later);
    p->n_announced = p->n_ready;
}

/* Claims the experts of the next round, and returns how many there are to be read or announced. */
static uint32_t claim_round(pn_program *p, uint32_t layer)
{
    pn_experts *e = p->n->experts;
    bool read;
    pn_experts_begin(e);
    if (p->round_from == 0) ready_first(p, layer);
    const uint32_t most = p->round_from < p->n_ready ? p->n_ready : PN_MIN(p->round_from + EXPERTS_A_ROUND, p->n_active);
    while (p->round_to < most && pn_experts_claim(e, layer, p->active[p->round_to], &read)) p->round_to++;
    if (p->round_from >= p->n_ready) return p->round_to - p->round_from;
    p->n_announced = PN_MIN(p->n_ready + ANNOUNCED, p->n_active);
    return p->n_announced - p->n_ready;
}

uint32_t pn_enter_fetch(pn_program *p, uint32_t op)
{
    const uint32_t layer = p->ops[op].layer;
    p->round_from = p->round_to;
    p->round_rows = p->fetched = 0;
    if (p->n->experts) p->fetched = claim_round(p, layer);
    else p->round_to = p->n_active;
    for (uint32_t i = p->round_from; i < p->round_to; i++)
        for (uint32_t row = p->expert_from[p->active[i]]; row < p->expert_from[p->active[i] + 1]; row++) p->round_row[p->round_rows++] = row;
    return p->fetched ? p->fetched * pn_experts_tiles(p->n->experts, layer) : 0;
}

/* Reads, and announces the same tile of an expert that the disk was not told of yet. */
void pn_tile_fetch(pn_program *p, uint32_t op, uint32_t tile, uint32_t thread)
{
    pn_experts *e = p->n->experts;
    const uint32_t layer = p->ops[op].layer, tiles = pn_experts_tiles(e, layer), at = tile / tiles;
    tile %= tiles;
    if (p->round_from < p->n_ready) {
        pn_experts_soon(e, layer, p->active[p->n_ready + at], tile);
        return;
    }
    const uint32_t next = p->round_from + at + EXPERTS_A_ROUND;
    if (next >= p->n_announced && next < p->n_active) pn_experts_soon(e, layer, p->active[next], tile);
    pn_experts_read(e, layer, p->active[p->round_from + at], tile, thread);
}

/* Columns that needed an expert which could not be read are lost, and with them their runs; the others' go on. */
static void settle_round(pn_program *p, uint32_t layer)
{
    pn_experts *e = p->n->experts;
    pn_experts_settle(e);
    for (uint32_t i = p->round_from; i < p->round_to; i++) {
        const uint32_t expert = p->active[i];
        if (!pn_experts_failed(e, layer, expert)) continue;
        for (uint32_t row = p->expert_from[expert]; row < p->expert_from[expert + 1]; row++) {
            pn_run *r = &p->runs[p->run_of[p->row_col[row]]];
            pn_program_drop(r);
            r->failed = true;
        }
    }
}

bool pn_experts_again(const pn_program *p) { return p->round_to < p->n_active; }

/* ---- products, expert by expert -------------------------------------------------------- */

enum { TILE_MACS = 4 << 20, TILE_BYTES = 1 << 20 }; /* as in products.c */

uint32_t pn_enter_experts(pn_program *p, uint32_t op)
{
    const pn_layer *l = pn_op_layer(p, op);
    bool in = p->ops[op].kind == PN_OP_EXPERTS_IN;
    if (in && p->n->experts) settle_round(p, p->ops[op].layer);
    pn_cut *c = &p->cut;
    c->in = in ? &p->rows : &p->hidden;
    c->n_products = in ? 2 : 1;
    c->product[0] = in ? (pn_product){&l->experts_gate, p->hidden.x} : (pn_product){&l->experts_down, p->row_out};
    c->product[1] = (pn_product){&l->experts_up, p->row_up};
    const pn_matrix *m = &c->product[0].w->first;
    uint32_t panels = (m->rows + PN_PANEL - 1) / PN_PANEL, most = 1;
    for (uint32_t i = p->round_from; i < p->round_to; i++) {
        uint32_t e = p->active[i];
        most = PN_MAX(most, p->expert_from[e + 1] - p->expert_from[e]);
    }
    size_t a_tile = PN_MIN(TILE_MACS / (PN_PANEL * m->k * most), TILE_BYTES / pn_panel_bytes(m->type, m->k));
    c->panels = (uint32_t)(a_tile > 1 ? a_tile / 2 * 2 : 1); /* kernels take panels in pairs */
    c->product_tiles[0] = (panels + c->panels - 1) / c->panels;
    c->chunk_tiles = c->product_tiles[0] * c->n_products;
    return c->chunk_tiles * (p->round_to - p->round_from);
}

void pn_tile_experts(pn_program *p, uint32_t tile, uint32_t thread)
{
    const pn_cut *c = &p->cut;
    uint32_t expert = p->active[p->round_from + tile / c->chunk_tiles], at = tile % c->chunk_tiles;
    const pn_product *job = &c->product[at / c->product_tiles[0]];
    at %= c->product_tiles[0];
    pn_matrix m = pn_weight_pin(job->w, expert);
    uint32_t panels = (m.rows + PN_PANEL - 1) / PN_PANEL;
    const pn_acts *acts = pn_type_is_float(m.type) ? &c->in->f : &c->in->q;
    p->k.matmul(&m, at * c->panels, PN_MIN((at + 1) * c->panels, panels), acts, p->expert_from[expert],
                p->expert_from[expert + 1], job->y, m.rows, p->scratch + thread * p->scratch_bytes);
    pn_weight_unpin(job->w, expert);
}

void pn_tile_experts_activate(pn_program *p, uint32_t row)
{
    size_t n = p->d->expert_ff;
    float *g = p->hidden.x + row * n;
    p->k.silu_mul(g, g, p->row_up + row * n, n);
    pn_slot_put(&p->k, &p->hidden, row);
}

/* Each expert's output alone goes through the norm, then its weight; the sum runs in expert order. */
void pn_tile_combine(pn_program *p, const pn_layer *l, uint32_t col)
{
    const pn_description *d = p->d;
    const size_t w = d->expert_width, first = (size_t)col * d->experts_used;
    float *sum = p->joined.x + col * w;
    memset(sum, 0, w * sizeof(float));
    for (uint32_t i = 0; i < d->experts_used; i++) {
        float *y = p->row_out + p->row_of[first + i] * w;
        p->k.norm(PN_NORM_INPUT, y, y, l->post_expert_norm, w, d->post_eps);
        p->k.axpy(sum, p->chosen_weight[first + i], y, w);
    }
    pn_slot_put(&p->k, &p->joined, col);
}
