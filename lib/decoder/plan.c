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
        {PN_W_CONTEXT, 0, 0, SIZE_MAX, 0}, {PN_W_CONTEXT_NORM, 0, SIZE_MAX, 0, 0},
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

typedef struct planning {
    pn_weight_plan *plan;
    const pn_description *d;
    pn_loader *l;
} planning;

static ponder_status plan_one(void *ctx, const pn_place *p, const pn_slice *s, ponder_error *err)
{
    planning *pl = ctx;
    pn_treatment t;
    if (p->weight == SIZE_MAX) {
        if (pn_is_gate(p->role)) pn_load_floats(pl->l, (size_t)(s->rows * s->cols)); /* becomes two vectors */
        return pn_load_vector(pl->l, NULL, s, 0, err);
    }
    ponder_status st = pn_load_matrix(pl->l, NULL, s, pn_how_to_load(pl->d, p->role), &t, err);
    if (st == PONDER_OK && !pn_type_is_float(t.type)) pl->plan->quantised |= UINT64_C(1) << p->role;
    return st;
}

static ponder_status plan_all(void *ctx, pn_loader *l, ponder_error *err)
{
    planning *p = ctx;
    p->l = l;
    pn_load_floats(l, p->d->rot_dim / 2 * 2); /* rotary frequencies */
    return pn_for_each_weight(l->c, p->d, plan_one, p, err);
}

ponder_status pn_network_plan(pn_weight_plan *out, pn_checkpoint *c, const pn_description *d, const pn_load_options *o,
                              ponder_error *err)
{
    pn_load_plan sizes;
    *out = (pn_weight_plan){0};
    planning p = {.plan = out, .d = d};
    ponder_status st = pn_load_count(&sizes, c, o, plan_all, &p, err);
    uint64_t held = 0;
    if (st == PONDER_OK) st = pn_experts_sizes(&out->experts, &held, c, d, o, err);
    out->owned = sizes.owned - out->experts + held;
    out->mapped = sizes.mapped;
    out->transient = sizes.transient;
    return st;
}
