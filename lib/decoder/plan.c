/* Which weights a model has, how each will be held, and what that takes: from metadata alone. */
#include "decoder/weights.h"

#define AT(member) offsetof(pn_layer, member)
enum { ADD_NOTHING, ADD_NORM, ADD_QK };

static const struct { pn_role role; size_t at; } matrices[] = {
    {PN_W_Q, AT(q)}, {PN_W_K, AT(k)}, {PN_W_V, AT(v)}, {PN_W_G, AT(g)}, {PN_W_O, AT(o)},
    {PN_W_GATE, AT(gate)}, {PN_W_UP, AT(up)}, {PN_W_DOWN, AT(down)}, {PN_W_ROUTER, AT(router)},
    {PN_W_LATENT_DOWN, AT(latent_down)}, {PN_W_LATENT_UP, AT(latent_up)},
    {PN_W_EXPERTS_GATE, AT(experts_gate)}, {PN_W_EXPERTS_UP, AT(experts_up)}, {PN_W_EXPERTS_DOWN, AT(experts_down)},
};

static const struct { pn_role role; size_t at; int add; } vectors[] = {
    {PN_W_ATTN_NORM, AT(attn_norm), ADD_NORM}, {PN_W_Q_BIAS, AT(q_bias), ADD_NOTHING},
    {PN_W_K_BIAS, AT(k_bias), ADD_NOTHING}, {PN_W_V_BIAS, AT(v_bias), ADD_NOTHING}, {PN_W_O_BIAS, AT(o_bias), ADD_NOTHING},
    {PN_W_Q_NORM, AT(q_norm), ADD_QK}, {PN_W_K_NORM, AT(k_norm), ADD_QK}, {PN_W_POST_ATTN, AT(post_attn), ADD_NORM},
    {PN_W_FFN_NORM, AT(ffn_norm), ADD_NORM}, {PN_W_POST_FFN, AT(post_ffn), ADD_NORM},
    {PN_W_ATTN_ALPHA, AT(attn_alpha), ADD_NOTHING}, {PN_W_ATTN_BETA, AT(attn_beta), ADD_NOTHING},
    {PN_W_FFN_ALPHA, AT(ffn_alpha), ADD_NOTHING}, {PN_W_FFN_BETA, AT(ffn_beta), ADD_NOTHING},
    {PN_W_ATTN_RGATE, AT(attn_beta), ADD_NOTHING}, {PN_W_FFN_RGATE, AT(ffn_beta), ADD_NOTHING},
    {PN_W_ROUTER_BIAS, AT(router_bias), ADD_NOTHING}, {PN_W_PRE_EXPERT_NORM, AT(pre_expert_norm), ADD_NORM},
    {PN_W_POST_EXPERT_NORM, AT(post_expert_norm), ADD_NORM},
};

static ponder_status visit(const pn_checkpoint *c, const pn_description *d, const pn_place *p, pn_place_fn fn, void *ctx,
                           ponder_error *err)
{
    pn_slice s;
    bool found = false;
    ponder_status st = pn_find_weight(c, d, p->role, p->layer, &s, &found, err);
    if (st != PONDER_OK || !found) return st;
    return fn(ctx, p, &s, err);
}

ponder_status pn_for_each_weight(const pn_checkpoint *c, const pn_description *d, pn_place_fn fn, void *ctx, ponder_error *err)
{
    const pn_place ends[] = {
        {PN_W_EMBED, 0, 0, SIZE_MAX, 0}, {PN_W_HEAD, 0, 0, SIZE_MAX, 0}, {PN_W_NORM, 0, SIZE_MAX, 0, d->final_norm_offset},
    };
    ponder_status st = PONDER_OK;
    for (size_t i = 0; i < PN_COUNT(ends) && st == PONDER_OK; i++)
        if (ends[i].role != PN_W_HEAD || !d->tied) st = visit(c, d, &ends[i], fn, ctx, err);
    for (uint32_t l = 0; l < d->layers; l++) {
        for (size_t i = 0; i < PN_COUNT(matrices) && st == PONDER_OK; i++) {
            pn_place p = {matrices[i].role, l, matrices[i].at, SIZE_MAX, 0};
            st = visit(c, d, &p, fn, ctx, err);
        }
        for (size_t i = 0; i < PN_COUNT(vectors) && st == PONDER_OK; i++) {
            float add = vectors[i].add == ADD_NORM ? d->norm_offset : vectors[i].add == ADD_QK ? d->qk_norm_offset : 0;
            pn_place p = {vectors[i].role, l, SIZE_MAX, vectors[i].at, add};
            st = visit(c, d, &p, fn, ctx, err);
        }
    }
    return st;
}

/* Q4_K needs rows of whole 256-blocks; narrower models get Q8_0 for such a matrix, quality before size. */
static pn_type target_type(pn_type from, uint64_t k, pn_role role, int32_t want)
{
    if (want < 0 || !pn_type_is_float(from) || role == PN_W_ROUTER) return from;
    if (k % pn_type_block((pn_type)want) == 0) return (pn_type)want;
    return k % pn_type_block(PN_Q8_0) == 0 ? PN_Q8_0 : from;
}

ponder_status pn_treat(pn_treatment *t, const pn_checkpoint *c, const pn_slice *s, pn_role role, const pn_load_options *o,
                       ponder_error *err)
{
    *t = (pn_treatment){0};
    t->type = target_type(s->tensor->type, s->cols, role, o->quantize);
    t->convert = t->type != s->tensor->type;
    t->packed = o->repack || t->convert || !pn_checkpoint_view(c, s->tensor);
    t->panel_bytes = pn_panel_bytes(t->type, s->cols);
    size_t panels = (size_t)((s->rows + PN_PANEL - 1) / PN_PANEL);
    bool fits = pn_mul(panels, t->panel_bytes, &t->stride) && pn_mul(t->stride, s->batch, &t->bytes);
    if (!fits || s->rows > UINT32_MAX || s->batch > UINT32_MAX)
        return pn_fail(err, PONDER_E_FORMAT, "tensor %s is too large", s->tensor->name);
    if (!t->packed) t->bytes = 0;
    return PONDER_OK;
}

typedef struct planning {
    pn_weight_plan *plan;
    const pn_checkpoint *c;
    const pn_load_options *o;
} planning;

static ponder_status plan_one(void *ctx, const pn_place *p, const pn_slice *s, ponder_error *err)
{
    planning *pl = ctx;
    if (p->weight == SIZE_MAX) {
        bool gate = p->role == PN_W_ATTN_RGATE || p->role == PN_W_FFN_RGATE; /* becomes two vectors */
        pl->plan->owned += s->rows * s->cols * sizeof(float) * (gate ? 2 : 1);
        return PONDER_OK;
    }
    pn_treatment t;
    ponder_status st = pn_treat(&t, pl->c, s, p->role, pl->o, err);
    if (st != PONDER_OK) return st;
    pl->plan->owned += t.bytes;
    if (!pn_type_is_float(t.type)) pl->plan->quantised |= UINT64_C(1) << p->role;
    if (!t.packed) pl->plan->mapped += s->rows * s->row_stride * s->batch;
    return PONDER_OK;
}

ponder_status pn_network_plan(pn_weight_plan *out, pn_checkpoint *c, const pn_description *d, const pn_load_options *o,
                              ponder_error *err)
{
    /* The source pages of the panels being packed, and row buffers; the rotary frequencies are vectors too. */
    *out = (pn_weight_plan){.transient = 2u << 20, .owned = d->rot_dim / 2 * 2 * sizeof(float)};
    planning p = {out, c, o};
    return pn_for_each_weight(c, d, plan_one, &p, err);
}
