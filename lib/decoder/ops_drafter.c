/* A drafter (DFlash): what a step of its target leaves for it, and what comes of a pass. For each position the target's residual streams,
 * side by side, become one vector, and that each layer's key and value, without the layer's own norm of its input. */
#include "decoder/program.h"

#include <math.h>

void pn_take_tap(pn_program *p, uint32_t layer, uint32_t col)
{
    const pn_description *d = &p->n->drafter->d;
    float *to = p->taps.x + col * p->taps.width;
    bool taken = false, more = false;
    for (uint32_t i = 0; i < d->n_taps; i++, to += d->width) {
        if (d->tap[i] == layer) memcpy(to, p->x + (size_t)col * d->width, d->width * sizeof *to);
        taken |= d->tap[i] == layer;
        more |= d->tap[i] > layer;
    }
    if (taken && !more) pn_slot_put(&p->k, &p->taps, col);
}

void pn_tile_context_norm(pn_program *p, uint32_t col)
{
    const pn_network *n = p->n->drafter;
    const pn_run *r = &p->runs[p->run_of[col]];
    float *x = p->context.x + col * p->context.width;
    p->k.norm(PN_NORM_PLAIN, x, x, n->context_norm, n->d.width, n->d.eps);
    pn_slot_put(&p->k, &p->context, col);
    pn_rope_table(n, p->context_rope + (size_t)col * n->d.rot_dim, 0, r->pos + (col - r->col));
}

void pn_tile_context_keys(pn_program *p, const pn_layer *l, uint32_t col)
{
    const pn_description *d = &p->n->drafter->d;
    const pn_kv_layout *kv = &p->drafter_kv;
    const pn_run *r = &p->runs[p->run_of[col]];
    if (r->dropped) return;
    const size_t n = (size_t)d->kv_heads * d->head_dim;
    const uint32_t pos = r->pos + (col - r->col);
    float *k = p->kk + col * n, *v = p->v + col * n;
    for (uint32_t h = 0; h < d->kv_heads; h++) {
        p->k.norm(PN_NORM_PLAIN, k + h * d->head_dim, k + h * d->head_dim, l->k_norm, d->head_dim, d->eps);
        p->k.rope(k + h * d->head_dim, p->context_rope + (size_t)col * d->rot_dim, d->rot_dim, false);
    }
    pn_put_heads(p, kv, d, r->pages[PN_DRAFTER][pos / PN_KEYS] + l->index * kv->layer_bytes, pos, k, v);
}

/* ---- a pass's tokens ------------------------------------------------------------------------------------ */

/* y is not needed behind this. */
void pn_pick_piece(pn_program *p, uint32_t out, uint32_t piece, float *y, uint32_t from, uint32_t n)
{
    pn_pick *to = &p->picks[out * pn_logits_pieces(p->d) + piece];
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (y[i] > y[best]) best = i;
    *to = (pn_pick){.max = y[best], .id = (int32_t)(from + best)};
    p->k.exp_sum(y, y, to->max, n, &to->sum);
}

void pn_program_pick(const pn_program *p, uint32_t out, int32_t *id, float *probability)
{
    const uint32_t pieces = pn_logits_pieces(p->d);
    const pn_pick *pick = p->picks + (size_t)out * pieces, *best = pick;
    float sum = 0;
    for (uint32_t i = 1; i < pieces; i++)
        if (pick[i].max > best->max) best = &pick[i];
    for (uint32_t i = 0; i < pieces; i++) sum += pick[i].sum * expf(pick[i].max - best->max);
    *id = best->id;
    *probability = sum >= 1 ? 1 / sum : 0; /* NaN too */
}
